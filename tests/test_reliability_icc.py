"""Intraclass correlations of tables against published values, R and hand-made cases."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from pandas.testing import assert_frame_equal

from sklme.reliability import intraclass_correlation

# Shrout and Fleiss (1979), table 2: 6 targets by 4 judges.
TABLE = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
)
# R: psych::ICC(TABLE, lmer = FALSE), psych 2.2.9: ICC, lower, upper, F, p.
BY_PSYCH = {
    "ICC(1,1)": (0.165741768405476, -0.132932324874751, 0.722560062328121, 1.79467849223947, 5, 18),
    "ICC(A,1)": (0.289763779527559, 0.018786513374712, 0.761084369648953, 11.0272479564033, 5, 15),
    "ICC(C,1)": (0.714840714840715, 0.342464765033925, 0.94585825995536, 11.0272479564033, 5, 15),
    "ICC(1,k)": (0.442797133679269, -0.884442155238119, 0.912415420340776, 1.79467849223947, 5, 18),
    "ICC(A,k)": (0.620050547598989, 0.0711368153025035, 0.927232040167722, 11.0272479564033, 5, 15),
    "ICC(C,k)": (0.909315542377069, 0.675674713816305, 0.985891678169062, 11.0272479564033, 5, 15),
}
ALIASES = dict(zip(BY_PSYCH, ("ICC1", "ICC2", "ICC3", "ICC1k", "ICC2k", "ICC3k"), strict=True))


def shrout_fleiss():
    frame = pd.DataFrame({"judge": np.tile(list("abcd"), 6), "target": np.repeat(range(6), 4)})
    return frame.assign(score=TABLE.ravel())


def simulated(seed=0, n=20, k=2, p=5):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({"patient": np.repeat(np.arange(n), k), "session": np.tile(np.arange(k), n)})
    Y = rng.normal(size=(n, p))[X["patient"]] + 0.6 * rng.normal(size=(n * k, p)) + 10
    return X.join(pd.DataFrame(Y, columns=[f"f{j}" for j in range(p)]))


@pytest.mark.parametrize("form", BY_PSYCH)
def test_the_six_forms_of_shrout_and_fleiss(form):
    icc, lower, upper, f, df1, df2 = BY_PSYCH[form]
    row = intraclass_correlation(shrout_fleiss(), "target", "judge", form=form).loc["score"]
    assert_allclose(row["icc"], icc, rtol=1e-9)
    assert_allclose([row["lower"], row["upper"]], [lower, upper], rtol=1e-6)
    assert_allclose(row[["f", "df1", "df2"]].astype(float), [f, df1, df2], rtol=1e-9)
    assert (row["method"], row["status"], row["k"]) == ("anova", "ok", 4)
    assert row["interval"] == ("satterthwaite" if "A" in form else "exact")


@pytest.mark.parametrize("form", BY_PSYCH)
def test_both_sets_of_names(form):
    X = shrout_fleiss()
    by_alias = intraclass_correlation(X, "target", "judge", form=ALIASES[form])
    assert_frame_equal(by_alias, intraclass_correlation(X, "target", "judge", form=form))


def test_p_values_are_those_of_psych():
    """R: psych::ICC(TABLE, lmer = FALSE)."""
    X = shrout_fleiss()
    for form, p in (("ICC1", 0.16476880834464), ("ICC3", 0.000134566516484337)):
        found = intraclass_correlation(X, "target", "judge", form=form)
        assert_allclose(found["p_value"], p, rtol=1e-9)


@pytest.mark.parametrize("missing", ["cell", "row"])
def test_a_missing_cell_gives_what_lmer_gives(missing):
    """R: TABLE[1, 2] <- NA; psych::ICC(TABLE, lmer = TRUE): ICC2 .3300, ICC3 .7500."""
    X = shrout_fleiss()
    X.loc[1, "score"] = np.nan
    X = X if missing == "cell" else X.dropna()
    for form, expected in (("ICC2", 0.3300), ("ICC3", 0.7500)):
        row = intraclass_correlation(X, "target", "judge", form=form).loc["score"]
        assert_allclose(row["icc"], expected, atol=6e-5)
        assert row["lower"] < row["icc"] < row["upper"]
        assert (row["method"], row["n_measurements"], row["k"]) == ("reml", 23, 4)


def test_unbalanced_one_way_is_wald_by_hand():
    """Burdick and Graybill's pivot: weighted sum of squares of means over the mean square within.

    R: confint needs no package: uniroot on sum(w * (m - weighted.mean(m, w))^2) / (a - 1) / msw.
    """
    sizes = [2, 3, 4, 2, 5]
    rng = np.random.default_rng(1)
    subject = np.repeat(list("abcde"), sizes)
    y = rng.normal(size=16) + np.repeat([0.0, 1.5, -1.0, 2.0, 0.5], sizes)
    row = intraclass_correlation(y[:, None], subject, form="ICC(1,1)").loc["x0"]
    groups = pd.Series(y).groupby(subject)
    mean, n = groups.mean(), groups.size()
    msw = (groups.var() * (n - 1)).sum() / (16 - 5)

    def ratio(rho):
        w = n / (1 + n * rho / (1 - rho))
        return (w * (mean - (w * mean).sum() / w.sum()) ** 2).sum() / 4 / msw

    from scipy import stats

    assert_allclose(stats.f.sf(ratio(row["lower"]), 4, 11), 0.025, rtol=1e-6)
    assert_allclose(stats.f.sf(ratio(row["upper"]), 4, 11), 0.975, rtol=1e-6)
    assert_allclose(row["f"], ratio(0.0), rtol=1e-10)
    assert_allclose(row["within_sd"], np.sqrt(msw), rtol=1e-10)
    assert_allclose(row["k"], (16 - (n**2).sum() / 16) / 4)
    assert row["interval"] == "exact"


def test_repeatability_and_coefficient_of_variation_by_hand():
    X = simulated(p=1)
    row = intraclass_correlation(X, "patient", "session").loc["f0"]
    by_patient = X.groupby("patient")["f0"]
    variance = by_patient.var().mean()
    assert_allclose(row["within_sd"], np.sqrt(variance))
    assert_allclose(row["repeatability"], 1.96 * np.sqrt(2 * variance))
    wcv = np.sqrt((by_patient.var() / by_patient.mean() ** 2).mean())
    assert_allclose(row["wcv"], wcv)
    one_way = intraclass_correlation(X, "patient", "session", form="ICC(1,1)").loc["f0"]
    from scipy import stats

    factors = np.sqrt(20 / stats.chi2.ppf([0.975, 0.025], 20))  # 20 patients, a free difference
    limits = one_way[["repeatability_lower", "repeatability_upper"]].astype(float)
    assert_allclose(limits, row["repeatability"] * factors)


def test_variance_components_add_up():
    row = intraclass_correlation(shrout_fleiss(), "target", "judge").loc["score"]
    parts = row[["variance_subject", "variance_rater", "variance_residual"]].astype(float)
    assert_allclose(parts, [2.55555556, 5.24444444, 1.01944444], rtol=1e-8)
    assert_allclose(row["icc"], parts.iloc[0] / parts.sum())
    assert_allclose(row["within_sd"] ** 2, parts.iloc[1:].sum())


def test_negative_by_anova_and_zero_by_reml():
    X = pd.DataFrame({"s": [0, 0, 1, 1, 2, 2], "y": [1.0, 5.0, 5.2, 0.9, 1.1, 5.1]})
    anova = intraclass_correlation(X, "s", form="ICC(1,1)").loc["y"]
    reml = intraclass_correlation(X, "s", form="ICC(1,1)", method="reml").loc["y"]
    assert anova["icc"] < -0.9 and not anova["at_zero"]
    assert reml["icc"] == 0.0 and reml["at_zero"] and reml["lower"] == 0.0
    assert_allclose(reml["within_sd"], anova["within_sd"])


def test_auto_decides_by_feature_and_agrees_with_each():
    X = simulated()
    X.loc[3, "f1"] = np.nan
    X.loc[[4, 5], "f2"] = np.nan  # a whole patient: what is left is complete
    table = intraclass_correlation(X, "patient", "session")
    assert table["method"].tolist() == ["anova", "reml", "anova", "anova", "anova"]
    assert table["n_subjects"].tolist() == [20, 20, 19, 20, 20]
    left = X.drop(index=[4, 5])[["patient", "session", "f2"]]
    alone = intraclass_correlation(left, "patient", "session")
    assert_frame_equal(table.loc[["f2"]], alone)
    reml = intraclass_correlation(X, "patient", "session", method="reml")
    assert_frame_equal(table.loc[["f1"]], reml.loc[["f1"]])


def test_tables_of_all_kinds_say_the_same():
    X = simulated()
    table = intraclass_correlation(X, "patient", "session")
    assert_frame_equal(intraclass_correlation(pl.from_pandas(X), "patient", "session"), table)
    array = intraclass_correlation(X.to_numpy(), 0, -6)
    assert array.index.tolist() == [f"x{j}" for j in range(2, 7)]
    assert_frame_equal(array.reset_index(drop=True), table.reset_index(drop=True))
    features = X.drop(columns=["patient", "session"])
    apart = intraclass_correlation(features, X["patient"], X["session"].map({0: "a", 1: "b"}))
    assert_frame_equal(apart, table)
    lists = intraclass_correlation(features, X["patient"].tolist(), X["session"].tolist())
    assert_frame_equal(lists, table)


def test_one_way_forms_pass_the_rater_over():
    X = simulated()
    with_rater = intraclass_correlation(X, "patient", "session", form="ICC1")
    without = intraclass_correlation(X.drop(columns="session"), "patient", form="ICC1")
    assert_frame_equal(with_rater, without)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    form=st.sampled_from(list(BY_PSYCH)),
    gaps=st.booleans(),
    shift=st.floats(-1e3, 1e3),
    scale=st.sampled_from([1e-4, -2.0, 1e5]),
)
def test_shift_scale_order_and_labels_do_not_matter(seed, form, gaps, shift, scale):
    X = simulated(seed, p=3)
    if gaps:
        X.loc[[1, 8], "f0"] = np.nan
    moved = X.sample(frac=1, random_state=seed).rename(columns={"f0": "g"})[
        ["f2", "session", "g", "patient", "f1"]
    ]
    moved["patient"] = "p" + moved["patient"].astype(str)
    moved["session"] = moved["session"].map({0: "z", 1: "a"})
    moved["g"] = (moved["g"] + shift) * scale
    here = intraclass_correlation(X, "patient", "session", form=form)
    there = intraclass_correlation(moved, "patient", "session", form=form).rename({"g": "f0"})
    for name in ("icc", "lower", "upper", "f", "p_value", "k"):
        assert_allclose(there[name].loc[here.index], here[name], rtol=1e-5, atol=1e-6)
    assert_allclose(there.loc["f0", "within_sd"], here.loc["f0", "within_sd"] * abs(scale))


def test_replicates_in_a_cell_are_taken_by_reml():
    X = simulated(p=2)
    X = pd.concat([X, X.assign(f0=X["f0"] + 0.1, f1=X["f1"] - 0.2)])
    table = intraclass_correlation(X, "patient", "session")
    assert (table["method"] == "reml").all() and (table["n_measurements"] == 80).all()
    with pytest.raises(ValueError, match=r"subject 0 is measured twice by rater 0 \(rows 0 and 40"):
        intraclass_correlation(X, "patient", "session", method="anova")


def test_bootstrap_intervals():
    X = simulated(p=2).drop(index=[3])
    args = {"n_bootstrap": 300, "random_state": 0}
    table = intraclass_correlation(X, "patient", "session", form="ICC3", **args)
    again = intraclass_correlation(X, "patient", "session", form="ICC3", **args)
    assert_frame_equal(table, again)
    exact = intraclass_correlation(X, "patient", "session", form="ICC3")
    assert (table["interval"] == "bootstrap").all() and (exact["interval"] == "exact").all()
    assert_allclose(table["upper"], exact["upper"], atol=0.1)


def test_what_cannot_be_estimated_is_a_row_with_a_reason():
    X = simulated(p=8).astype({"patient": int})
    X["f0"] = np.nan
    X["f1"] = 7.0
    X.loc[5, "f2"] = np.inf
    X.loc[2:, "f3"] = np.nan
    X.loc[X["session"] == 1, "f4"] = np.nan
    X.loc[3:, "f5"] = np.nan  # one pair and one more measurement
    X["f6"] = np.repeat(np.arange(20.0), 2) + 1  # no error at all
    table = intraclass_correlation(X, "patient", "session")
    assert table["status"].tolist() == ["not estimable"] * 6 + ["ok"] * 2
    reasons = table["reason"].tolist()
    assert reasons[0] == "no measurements"
    assert reasons[1] == "constant"
    assert reasons[2] == "an infinite value in row 5"
    assert reasons[3] == "measurements of one subject only"
    assert reasons[4] == "no subject is measured twice"
    assert "nothing is left for the error" in reasons[5]
    assert reasons[6] == "all measurements of a subject are equal"
    assert reasons[7] == ""
    assert table["icc"].isna().tolist() == [True] * 6 + [False] * 2
    assert (table.loc["f6", ["icc", "lower", "upper"]] == 1.0).all()
    assert table["n_measurements"].tolist() == [0, 40, 0, 2, 20, 3, 40, 40]


def test_perfect_measurements_with_gaps_have_the_correlation_one():
    X = simulated(p=1).assign(f0=np.repeat(np.arange(20.0), 2)).drop(index=3)
    for form in BY_PSYCH:
        row = intraclass_correlation(X, "patient", "session", form=form).loc["f0"]
        assert (row["icc"], row["lower"], row["within_sd"]) == (1.0, 1.0, 0.0)
    X["f0"] += X["session"]
    row = intraclass_correlation(X, "patient", "session").loc["f0"]
    assert row["reason"] == "subjects and raters reproduce the measurements exactly"
    row = intraclass_correlation(X, "patient", "session", form="ICC(C,1)").loc["f0"]
    assert row["icc"] == 1.0 and "but for the raters' differences" in row["reason"]


def test_no_coefficient_of_variation_about_zero():
    X = simulated(p=2).assign(f0=lambda x: x["f0"] - 10)
    for method in ("anova", "reml"):
        table = intraclass_correlation(X, "patient", "session", method=method)
        assert np.isnan(table.loc["f0", "wcv"]) and table.loc["f0", "status"] == "ok"
        assert "no wcv: the mean of subject" in table.loc["f0", "reason"]
        assert table.loc["f1", "wcv"] > 0 and table.loc["f1", "reason"] == ""


def test_anova_leaves_incomplete_features_out():
    X = simulated(p=2)
    X.loc[0, "f0"] = np.nan
    table = intraclass_correlation(X, "patient", "session", method="anova")
    assert table["status"].tolist() == ["not estimable", "ok"]
    assert 'use method="reml"' in table.loc["f0", "reason"]


X2 = simulated(p=2)
FAULTS = {
    "pass rater": (X2, ("patient",), {}),
    "form is 'ICC4'": (X2, ("patient", "session"), {"form": "ICC4"}),
    "method is 'ml'": (X2, ("patient", "session"), {"method": "ml"}),
    "confidence_level is 1.5": (X2, ("patient", "session"), {"confidence_level": 1.5}),
    "n_bootstrap is -1": (X2, ("patient", "session"), {"n_bootstrap": -1}),
    'did you mean "patient"': (X2, ("patiend", "session"), {}),
    "subject and rater are both": (X2, ("patient", "patient"), {}),
    "subject has 3 entries, but X has 40 rows": (X2, ([1, 2, 3],), {"form": "ICC1"}),
    "subject is None": (X2, (None,), {"form": "ICC1"}),
    "there is no feature": (X2[["patient", "session"]], ("patient", "session"), {}),
    'column "site" holds text': (X2.assign(site="a"), ("patient", "session"), {}),
    "measurements of one subject only": (X2.head(2), ("patient", "session"), {}),
    "no subject is measured twice": (X2[X2["session"] == 0], ("patient", "session"), {}),
    "measurements by one rater only; use": (X2.assign(session=1), ("patient", "session"), {}),
    "missing id": (X2.assign(patient=[None, *X2["patient"][1:]]), ("patient", "session"), {}),
}


@pytest.mark.parametrize("message", FAULTS)
def test_one_clear_sentence_where_nothing_can_be_done(message):
    X, args, options = FAULTS[message]
    with pytest.raises(ValueError, match=message):
        intraclass_correlation(X, *args, **options)


def test_raters_who_share_no_subject():
    X = pd.DataFrame({"s": np.repeat(range(6), 2), "r": np.repeat([0, 1], 6), "y": np.arange(12.0)})
    with pytest.raises(ValueError, match="no subject is measured by two raters; use form"):
        intraclass_correlation(X, "s", "r")
