"""The shipped tables against published figures; the simulator against its own truth."""

import gzip
import hashlib
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import PoissonRegressor

from sklme import datasets
from sklme.datasets import load_mriqc, make_grouped_regression
from sklme.datasets._load import read_table

DATA = files("sklme.datasets") / "data"

# name -> rows, target, features, levels of the columns that group
TABLES = {
    "sleepstudy": (180, "Reaction", ["Days", "Subject"], {"Subject": 18}),
    "dyestuff": (30, "Yield", ["Batch"], {"Batch": 6}),
    "dyestuff2": (30, "Yield", ["Batch"], {"Batch": 6}),
    "penicillin": (144, "diameter", ["plate", "sample"], {"plate": 24, "sample": 6}),
    "pastes": (60, "strength", ["batch", "cask", "sample"], {"batch": 10, "sample": 30}),
    "orthodont": (108, "distance", ["age", "Subject", "Sex"], {"Subject": 27, "Sex": 2}),
    "cake": (270, "angle", ["replicate", "recipe", "temperature", "temp"], {"replicate": 15}),
    "machines": (54, "score", ["Worker", "Machine"], {"Worker": 6, "Machine": 3}),
    "insteval": (
        73421,
        "y",
        ["s", "d", "studage", "lectage", "service", "dept"],
        {"s": 2972, "d": 1128, "dept": 14},
    ),
    "chem97": (
        31022,
        "score",
        ["lea", "school", "student", "gender", "age", "gcsescore", "gcsecnt"],
        {"lea": 131, "school": 2410, "student": 31022},
    ),
    "cbpp": (56, "incidence", ["herd", "size", "period"], {"herd": 15, "period": 4}),
    "verbagg": (
        7584,
        "y",
        ["Anger", "Gender", "btype", "situ", "mode", "id", "item"],
        {"id": 316, "item": 24, "Gender": 2, "btype": 3, "situ": 2, "mode": 2},
    ),
    "grouseticks": (
        403,
        "TICKS",
        ["INDEX", "BROOD", "HEIGHT", "YEAR", "LOCATION", "cHEIGHT"],
        {"INDEX": 403, "BROOD": 118, "YEAR": 3, "LOCATION": 63},
    ),
    "salamanders": (
        644,
        "count",
        ["site", "mined", "cover", "sample", "DOP", "Wtemp", "DOY", "spp"],
        {"site": 23, "mined": 2, "sample": 4, "spp": 7},
    ),
    "wine_bitterness": (
        72,
        "rating",
        ["temp", "contact", "bottle", "judge"],
        {"temp": 2, "contact": 2, "bottle": 8, "judge": 9},
    ),
    "theophylline": (132, "conc", ["Subject", "Wt", "Dose", "Time"], {"Subject": 12}),
    "orange": (35, "circumference", ["Tree", "age"], {"Tree": 5}),
    "indomethacin": (66, "conc", ["Subject", "time"], {"Subject": 6}),
    "phenobarbital": (
        155,
        "conc",
        ["Subject", "Wt", "Apgar", "ApgarInd", "time"],
        {"Subject": 59, "ApgarInd": 2},
    ),
    "mriqc": (1101, "rating", None, {"site": 17}),
}


def load(name, **options):
    return getattr(datasets, f"load_{name}")(**options)


def frame(name):
    return load(name).frame


def test_every_loader_is_listed_here():
    assert {f"load_{name}" for name in TABLES} | {"make_grouped_regression"} == set(
        datasets.__all__
    )


@pytest.mark.parametrize("name", TABLES)
def test_bunch_holds_the_table(name):
    rows, target, features, levels = TABLES[name]
    bunch = load(name)
    assert bunch.data.shape[0] == rows
    assert features is None or bunch.feature_names == features
    assert list(bunch.data.columns) == bunch.feature_names
    assert bunch.target_names == [bunch.target.name] == [target]
    assert bunch.target.dtype == np.float64
    assert bunch.data[list(levels)].nunique().to_dict() == levels
    assert not bunch.data.isna().any(axis=None) and not bunch.target.isna().any()
    pd.testing.assert_frame_equal(bunch.frame[bunch.feature_names], bunch.data)
    assert (DATA / bunch.filename).is_file()
    assert "Provenance" in bunch.DESCR and "References" in bunch.DESCR


@pytest.mark.parametrize("name", TABLES)
def test_arrays_hold_the_same_as_frames(name):
    bunch = load(name)
    X, y = load(name, return_X_y=True, as_frame=False)
    numeric = bunch.data.select_dtypes("number").shape[1] == bunch.data.shape[1]
    assert X.dtype == (np.float64 if numeric else object)
    assert type(X) is type(y) is np.ndarray
    for column, label in zip(X.T, bunch.feature_names, strict=True):
        assert_array_equal(column, bunch.data[label].to_numpy(dtype=X.dtype))
    assert_array_equal(y, bunch.target)
    assert load(name, as_frame=False).frame is None
    X, y = load(name, return_X_y=True)
    pd.testing.assert_frame_equal(X, bunch.data)
    pd.testing.assert_series_equal(y, bunch.target)


def test_loaded_tables_are_the_callers_own():
    first = load("sleepstudy")
    first.target.iloc[:] = first.data.loc[:, "Days"] = first.frame.loc[:, "Reaction"] = -1
    again = load("sleepstudy")
    assert min(again.target.min(), again.data["Days"].min(), again.frame["Reaction"].min()) >= 0


def test_numbers_are_read_to_the_last_bit():
    for name in (
        "chem97.csv.gz",
        "salamanders.csv.gz",
        "grouseticks.csv",
        "mriqc_abide.tsv.gz",
        "mriqc_ds030.tsv.gz",
        "sleepstudy.csv",
    ):
        numbers = read_table(name)
        digits = read_table(name, text=numbers.columns)
        for column in numbers.select_dtypes("float"):
            present = numbers[column].notna()
            exact = digits.loc[present, column].map(float)
            assert_array_equal(numbers.loc[present, column], exact)


def test_files_are_small_and_reproducible():
    shipped = list(DATA.iterdir())
    assert sum(len(file.read_bytes()) for file in shipped) < 1_500_000
    for file in shipped:
        content = file.read_bytes()
        if file.name.endswith(".gz"):
            assert content[4:8] == bytes(4)  # the time stamp
        else:
            assert len(content) < 20_000
            assert b"\r" not in content


# ---------------------------------------------------------------- published figures


def test_sleepstudy_least_squares():
    """lm(Reaction ~ Days), the fixed effects of Bates et al. (2015), section 1."""
    X, y = load("sleepstudy", return_X_y=True)
    assert_allclose(np.polyfit(X["Days"], y, 1), [10.46729, 251.40510], atol=5e-6)
    assert (pd.crosstab(X["Subject"], X["Days"]) == 1).all(axis=None)
    assert set(X["Days"]) == set(range(10))


def sums_of_squares(table, group, y):
    means = table.groupby(group)[y].transform("mean")
    return ((means - table[y].mean()) ** 2).sum(), ((table[y] - means) ** 2).sum()


def test_dyestuff_analysis_of_variance():
    """Davies and Goldsmith (1972), section 6.4; Box and Tiao (1973), section 5.1.2."""
    assert_allclose(sums_of_squares(frame("dyestuff"), "Batch", "Yield"), (56357.5, 58830.0))
    between, within = sums_of_squares(frame("dyestuff2"), "Batch", "Yield")
    assert_allclose((between / 5, within / 24), (8.3363, 14.9459), rtol=5e-6)


def test_penicillin_and_pastes_are_balanced():
    penicillin, pastes = frame("penicillin"), frame("pastes")
    assert (pd.crosstab(penicillin["plate"], penicillin["sample"]) == 1).all(axis=None)
    assert_allclose(penicillin["diameter"].mean(), 22.97222, atol=5e-6)  # lme4's intercept
    assert (pastes.groupby(["batch", "cask"]).size() == 2).all()
    assert (pastes["sample"] == pastes["batch"] + ":" + pastes["cask"]).all()
    assert_allclose(pastes["strength"].mean(), 60.05333, atol=5e-6)


def test_orthodont_mean_growth():
    """Potthoff and Roy (1964), table 1: the means of girls and boys at 8, 10, 12, 14 years."""
    means = frame("orthodont").pivot_table("distance", "Sex", "age")
    assert_allclose(means.loc["Female"], [21.18, 22.23, 23.09, 24.09], atol=0.005)
    assert_allclose(means.loc["Male"], [22.875, 23.8125, 25.71875, 27.46875])


def test_cake_is_a_split_plot():
    cake = frame("cake")
    assert not pd.api.types.is_numeric_dtype(cake["temperature"])
    assert_array_equal(cake["temperature"].astype(float), cake["temp"])
    assert (cake.groupby(["recipe", "replicate", "temp"]).size() == 1).all()
    assert_allclose(np.polyfit(cake["temp"], cake["angle"], 1)[0], 0.1580317, atol=5e-8)


def test_machine_means():
    """Pinheiro and Bates (2000), section 1.3: 52.356 and what B and C add to it."""
    means = frame("machines").groupby("Machine")["score"].mean()
    assert_allclose(means - [0, *[means["A"]] * 2], [52.35556, 7.966667, 13.91667], atol=5e-6)


def test_insteval_is_partly_crossed():
    ratings = frame("insteval")
    assert all(pd.api.types.is_integer_dtype(ratings[c]) for c in ratings if c != "y")
    assert not ratings.duplicated(["s", "d"]).any()
    assert set(ratings["y"]) == {1, 2, 3, 4, 5}
    assert ratings["service"].sum() == 31783
    assert set(ratings["studage"]) == {2, 4, 6, 8} and set(ratings["lectage"]) == set(range(1, 7))


def test_chem97_schools_lie_in_one_authority():
    pupils = frame("chem97")
    assert (pupils.groupby("school")["lea"].nunique() == 1).all()
    assert pupils["score"].value_counts().sort_index().tolist() == [
        *(3688, 3627, 4619, 5739, 6668, 6681)
    ]
    centred = pupils["gcsescore"] - pupils["gcsescore"].mean()
    assert_allclose(pupils["gcsecnt"], centred, atol=1e-12)


# ---------------------------------------------------------------- counts, answers, grades


def test_cbpp_logistic_regression():
    """glm(cbind(incidence, size - incidence) ~ period, binomial) of R 4.2.2."""
    cbpp = frame("cbpp")
    assert (cbpp["incidence"] <= cbpp["size"]).all() and (cbpp["size"] > 0).all()
    assert cbpp["herd"].value_counts().sort_index().tolist() == [4, 3, *[4] * 5, 1, *[4] * 7]
    sums = cbpp.groupby("period")[["incidence", "size"]].sum()
    odds = sums["incidence"] / (sums["size"] - sums["incidence"])
    assert_allclose(
        np.log(odds / odds[1]).loc[2:], [-1.17076273, -1.30140533, -1.78227864], atol=5e-9
    )


def test_verbagg_crosses_people_with_a_design_of_items():
    """Every person answers every item: two blames x two modes x three behaviours, each twice."""
    answers = frame("verbagg")
    assert (pd.crosstab(answers["id"], answers["item"]) == 1).all(axis=None)
    design = answers[["item", "btype", "situ", "mode"]].drop_duplicates()
    assert len(design) == 24
    assert (design.groupby(["btype", "situ", "mode"]).size() == 2).all()
    for _, row in design.iterrows():
        assert row["mode"] in row["item"].lower() and row["btype"] in row["item"].lower()
    people = answers[["id", "Anger", "Gender"]].drop_duplicates()
    assert people["Gender"].value_counts().to_dict() == {"F": 243, "M": 73}
    assert set(answers["y"]) == {0, 1} and answers["y"].sum() == 3611


def test_grouse_ticks_are_nested():
    ticks = frame("grouseticks")
    assert (ticks.groupby("BROOD")[["LOCATION", "YEAR", "HEIGHT"]].nunique() == 1).all(axis=None)
    assert_allclose(ticks["cHEIGHT"], ticks["HEIGHT"] - ticks["HEIGHT"].mean(), atol=1e-11)
    assert ticks["TICKS"].sum() == 2567 and ticks["TICKS"].max() == 85


def test_grouse_ticks_poisson_regression():
    """glm(TICKS ~ factor(YEAR) + cHEIGHT, poisson) of R 4.2.2."""
    X, y = load("grouseticks", return_X_y=True)
    X = pd.get_dummies(X[["YEAR", "cHEIGHT"]], columns=["YEAR"], drop_first=True, dtype=float)
    model = PoissonRegressor(alpha=0, solver="newton-cholesky", tol=1e-10).fit(X, y)
    assert_allclose(model.intercept_, 1.6159979805, atol=5e-8)
    assert_allclose(model.coef_, [-0.0214518421, 0.4096457688, -1.6851410477], atol=5e-8)


def test_salamanders_are_counted_at_every_visit():
    seen = frame("salamanders")
    assert (seen.groupby(["site", "sample", "spp"]).size() == 1).all() and len(seen) == 23 * 4 * 7
    assert ((seen["mined"] == "yes") == seen["site"].str.startswith("VF-")).all()
    visits = seen.groupby(["site", "sample"])[["cover", "DOP", "Wtemp", "DOY"]]
    assert (visits.nunique() == 1).all(axis=None)
    assert seen["count"].sum() == 852 and (seen["count"] == 0).sum() == 387


def test_wine_grades_are_the_cut_marks():
    """Randall (1989), table 6: how often each grade was given, and the balance of the design."""
    wine = frame("wine_bitterness")
    assert_array_equal(wine["rating"], wine["response"] // 20 + 1)
    assert wine["rating"].value_counts().sort_index().tolist() == [5, 22, 26, 12, 7]
    assert (pd.crosstab(wine["bottle"], wine["judge"]) == 1).all(axis=None)
    treatments = wine[["bottle", "temp", "contact"]].drop_duplicates()
    assert (treatments.groupby(["temp", "contact"]).size() == 2).all() and len(treatments) == 8


# ---------------------------------------------------------------- MRIQC


def test_mriqc_rating_is_the_mean_of_those_who_looked():
    table = frame("mriqc")
    for _, row in table.iterrows():
        seen = [r for r in (row["rater_1"], row["rater_2"]) if not np.isnan(r)]
        assert row["rating"] == sum(seen) / len(seen)


def test_mriqc_description_counts_correctly():
    table = frame("mriqc")
    seen = table[["rater_1", "rater_2"]].notna()
    assert seen.value_counts().to_dict() == {
        (True, False): 501,
        (False, True): 501,
        (True, True): 99,
    }
    both = table[seen.all(axis=1)]
    assert (both["rater_1"] == both["rater_2"]).sum() == 57
    assert (both["rater_1"] * both["rater_2"] == -1).sum() == 6
    assert table["rating"].value_counts().sort_index().to_dict() == {
        **{-1.0: 322, -0.5: 15, 0.0: 341, 0.5: 21, 1.0: 402}
    }
    assert table["site"].value_counts().agg(["max", "min"]).tolist() == [184, 27]
    assert (table["qi_1"] == 0).sum() == 970 and (table["summary_bg_mean"] == 0).sum() == 72


def test_mriqc_features_are_site_and_metrics():
    abide, other = load("mriqc"), load_mriqc(subset="ds030")
    assert abide.feature_names == other.feature_names
    assert abide.feature_names[0] == "site" and len(abide.feature_names) == 69
    assert abide.data.drop(columns="site").dtypes.map(pd.api.types.is_numeric_dtype).all()
    assert abide.data.select_dtypes("number").nunique().min() > 1
    assert {"subject_id", "rater_1", "rater_2", "rater_3"} < set(abide.frame)
    assert other.target.value_counts().to_dict() == {0: 145, -1: 75, 1: 45}
    assert_array_equal(other.target, other.frame["rater_1"])
    assert set(other.data["site"]).isdisjoint(abide.data["site"])


def test_mriqc_files_are_those_of_the_notice():
    notice = (DATA / "mriqc_NOTICE.txt").read_text()
    for name in ("mriqc_abide.tsv", "mriqc_ds030.tsv"):
        content = gzip.decompress((DATA / f"{name}.gz").read_bytes())
        assert f"{hashlib.sha256(content).hexdigest()}  {name}" in notice
    assert "Apache License" in (DATA / "mriqc_LICENSE.txt").read_text()


def test_mriqc_refuses_an_unknown_subset():
    with pytest.raises(ValueError, match=r"subset must be one of \['abide', 'ds030'\]; got 'abid'"):
        load_mriqc(subset="abid")


# ---------------------------------------------------------------- simulator


def simulate(**options):
    return make_grouped_regression(**{"return_truth": True, "random_state": 3, **options})


def expected(X, truth):
    """The mean of each row, put together term by term from the truth."""
    mean = truth["intercept"] + X.filter(like="x").to_numpy() @ truth["coef"]
    for factor, effects in truth["random_effects"].items():
        of_row = effects[X[factor]]
        mean += of_row[:, 0]
        for j in range(1, of_row.shape[1]):
            mean += of_row[:, j] * X[f"x{j - 1}"]
    return mean


DESIGNS = [
    {},
    {"n_groups": [7, 3], "random_slopes": [1, 2], "correlation": 0.3, "unbalanced": True},
    {"n_groups": (6, 4), "nested": True, "group_sd": (2.0, 0.5), "intercept": 4.0},
    {"n_groups": 5, "random_slopes": 3, "confounding": -0.6},
]


@pytest.mark.parametrize("options", DESIGNS)
def test_without_noise_the_target_is_the_truth(options):
    X, y, truth = simulate(noise=0.0, **options)
    assert_allclose(y, expected(X, truth), atol=1e-12)
    assert truth["residual_variance"] == 0


def test_residuals_have_the_stated_variance():
    X, y, truth = simulate(n_samples=40_000, n_groups=(50, 20), noise=1.5)
    residual = y - expected(X, truth)
    assert truth["residual_variance"] == 2.25
    assert_allclose(residual.mean(), 0, atol=4 * 1.5 / 200)
    assert_allclose(residual.var(), 2.25, rtol=4 * np.sqrt(2 / 40_000))


def test_effects_have_the_stated_covariance():
    n = 20_000
    _, _, truth = simulate(
        n_samples=n, n_groups=n, random_slopes=2, group_sd=2.0, slope_sd=0.5, correlation=-0.4
    )
    covariance = truth["covariance"]["group_0"]
    assert_allclose(covariance, [[4, -0.4, -0.4], [-0.4, 0.25, -0.1], [-0.4, -0.1, 0.25]])
    sd = np.sqrt(np.diag(covariance))
    sample = np.cov(truth["random_effects"]["group_0"].T)
    standard_error = np.sqrt(2 / n) * np.outer(sd, sd)
    assert (abs(sample - covariance) < 4 * standard_error).all()


@pytest.mark.parametrize(("correlation", "slopes"), [(1.0, 2), (-1.0, 1), (-0.5, 2)])
def test_covariance_may_be_singular(correlation, slopes):
    _, _, truth = simulate(random_slopes=slopes, correlation=correlation)
    covariance, effects = truth["covariance"]["group_0"], truth["random_effects"]["group_0"]
    null = np.linalg.eigh(covariance)[1][:, 0]
    assert_allclose(covariance @ null, 0, atol=1e-12)
    assert_allclose(effects @ null, 0, atol=1e-6)


def test_confounding_biases_least_squares_by_the_stated_amount():
    X, y, truth = simulate(n_samples=60_000, n_groups=6000, group_sd=2.0, confounding=0.5)
    z = truth["random_effects"]["group_0"][X["group_0"], 0] / 2.0
    assert_allclose(np.corrcoef(X["x0"], z)[0, 1], 0.5, atol=0.04)
    assert_allclose(X["x0"].var(), 1.0, rtol=0.04)
    features = X.filter(like="x")
    slope = np.linalg.lstsq(features - features.mean(), y - y.mean(), rcond=None)[0]
    assert_allclose(slope - truth["coef"], [0.5 * 2.0, 0, 0], atol=0.06)
    within = features - features.groupby(X["group_0"]).transform("mean")
    slope = np.linalg.lstsq(within, y, rcond=None)[0]
    assert_allclose(slope, truth["coef"], atol=0.03)


def test_features_are_independent_of_groups_by_default():
    X, _, truth = simulate(n_samples=60_000, n_groups=6000)
    z = truth["random_effects"]["group_0"][X["group_0"], 0]
    assert abs(np.corrcoef(X["x0"], z)[0, 1]) < 4 / np.sqrt(60_000)


def test_crossed_and_nested_levels():
    crossed, *_ = simulate(n_samples=2000, n_groups=(10, 8))
    assert (pd.crosstab(crossed["group_0"], crossed["group_1"]) > 0).all(axis=None)
    nested, _, truth = simulate(n_samples=1000, n_groups=(5, 4, 3), nested=True)
    assert nested.filter(like="group").nunique().tolist() == [5, 20, 60]
    assert_array_equal(nested["group_0"], nested["group_2"] // 12)
    assert_array_equal(nested["group_1"], nested["group_2"] // 3)
    assert [len(e) for e in truth["random_effects"].values()] == [5, 20, 60]


def test_sizes_of_groups():
    balanced, *_ = simulate(n_samples=103, n_groups=10)
    assert sorted(balanced["group_0"].value_counts()) == [10] * 7 + [11] * 3
    unbalanced, *_ = simulate(n_samples=103, n_groups=10, unbalanced=True)
    sizes = unbalanced["group_0"].value_counts()
    assert len(sizes) == 10 and sizes.max() > 2 * sizes.min()


def test_informative_features_come_first():
    *_, truth = simulate(n_features=6, n_informative=2)
    assert (abs(truth["coef"][:2]) >= 0.5).all()
    assert_array_equal(truth["coef"][2:], 0)


def test_several_targets_lead_the_truth():
    X, y, truth = simulate(n_targets=3, n_groups=(8, 5), random_slopes=(1, 0), noise=0.0)
    assert list(y.columns) == ["y0", "y1", "y2"]
    assert truth["coef"].shape == (3, 3) and truth["intercept"].shape == (3,)
    assert truth["covariance"]["group_0"].shape == (3, 2, 2)
    assert truth["random_effects"]["group_1"].shape == (3, 5, 1)
    assert truth["residual_variance"].shape == (3,)
    for k, name in enumerate(y):
        mine = {key: value[k] for key, value in truth.items() if not isinstance(value, dict)}
        mine["random_effects"] = {f: e[k] for f, e in truth["random_effects"].items()}
        assert_allclose(y[name], expected(X, mine), atol=1e-12)


def test_arrays_equal_frames_and_name_factors_by_position():
    options = {"n_groups": (4, 3), "random_slopes": 1, "n_targets": 2}
    X, y, truth = simulate(**options)
    A, b, by_position = simulate(as_frame=False, **options)
    assert_array_equal(A, X)
    assert_array_equal(b, y)
    assert list(by_position["covariance"]) == [3, 4]
    assert_array_equal(by_position["random_effects"][4], truth["random_effects"]["group_1"])
    _, one = make_grouped_regression(as_frame=False)
    assert one.shape == (200,)


def test_random_state_fixes_the_data():
    X, y = make_grouped_regression(random_state=5)
    X_again, y_again = make_grouped_regression(random_state=np.random.RandomState(5))
    pd.testing.assert_frame_equal(X, X_again)
    pd.testing.assert_series_equal(y, y_again)
    assert not np.allclose(y, make_grouped_regression(random_state=6)[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_samples": 9}, "n_samples is 9, but a factor has 10 levels"),
        ({"n_groups": (5, 0)}, r"n_groups must hold integers of at least 1; got \(5, 0\)"),
        ({"n_groups": 2.5}, "n_groups must hold integers"),
        ({"n_groups": ()}, "n_groups must hold integers"),
        ({"n_features": 0}, "start at 1"),
        ({"n_targets": 0}, "start at 1"),
        ({"n_informative": 4}, "n_informative must be between 0 and 3; got 4"),
        ({"random_slopes": 4}, "random_slopes is 4, but there are 3 features"),
        ({"random_slopes": (1, 1)}, "random_slopes must have one entry or 1"),
        ({"group_sd": (1, 1, 1), "n_groups": (3, 4)}, "group_sd must have one entry or 2"),
        ({"group_sd": -1.0}, "group_sd is a standard deviation, 0 or more; got -1.0"),
        ({"slope_sd": np.nan}, "slope_sd is a standard deviation"),
        ({"noise": -0.1}, "noise is a standard deviation"),
        ({"confounding": 1.0}, "confounding must lie between -1 and 1; got 1.0"),
        ({"confounding": 0.5, "group_sd": 0}, "confounding needs a group_sd above 0"),
        ({"correlation": -0.6, "random_slopes": 2}, "correlation must lie between -0.5 and 1"),
        ({"correlation": 1.1}, "correlation must lie between -1 and 1 with 0 random slopes"),
    ],
)
def test_impossible_requests_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_grouped_regression(**options)
