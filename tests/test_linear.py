"""LinearMixedModel as scikit-learn's users meet it: text groups, hard data, messages, warnings."""

import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    cross_val_predict,
    cross_val_score,
    learning_curve,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from sklme import LinearMixedModel
from sklme.datasets import (
    load_chem97,
    load_dyestuff2,
    load_sleepstudy,
    make_grouped_regression,
)

SLEEP = load_sleepstudy(return_X_y=True)
BY_SUBJECT = {"Subject": ["1", "Days"]}
NOT_TOLD = "the data cannot tell these variances"


def clinic(n_samples=240, seed=0):
    """Ten sites with their own level and dose response, a sex as text and a useless number."""
    rng = np.random.default_rng(seed)
    site = rng.permutation(np.arange(n_samples) % 10)
    dose, sex = rng.uniform(0, 4, n_samples), rng.integers(2, size=n_samples)
    y = 5 + 2 * dose + sex + rng.normal(0, 3, 10)[site] + rng.normal(0, 1, 10)[site] * dose
    X = pd.DataFrame(
        {
            "site": [f"site {i}" for i in site],
            "dose": dose,
            "sex": np.array(["f", "m"])[sex],
            "noise": rng.normal(size=n_samples),
        }
    )
    return X, pd.Series(y + rng.normal(size=n_samples), name="y")


def pipeline(random_effects="site", **options):
    """Dummy-code and scale the rest, pass the site through by name."""
    code = ColumnTransformer(
        [
            ("code", OneHotEncoder(drop="first", sparse_output=False), ["sex"]),
            ("scale", StandardScaler(), ["noise"]),
        ],
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    return Pipeline([("code", code), ("model", LinearMixedModel(random_effects, **options))])


def quiet(fit, *args, **kwargs):
    """Call without any warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return fit(*args, **kwargs)


def warned(fit, *args, **kwargs):
    """(result, messages): every warning, all of them ConvergenceWarnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = fit(*args, **kwargs)
    assert all(w.category is ConvergenceWarning for w in caught), [str(w.message) for w in caught]
    return result, [str(w.message) for w in caught]


# In scikit-learn's tools -----------------------------------------------------------------------


def test_pipeline_with_text_groups():
    X, y = clinic()
    model = quiet(pipeline({"site": ["1", "dose"]}).fit, X, y)[-1]
    assert model.fixed_names_ == ["sex_m", "noise", "dose"]
    assert model.levels_["site"].tolist() == sorted(X["site"].unique())
    assert_allclose(model.coef_, [1, 0, 2], atol=1)
    assert pipeline({"site": ["1", "dose"]}).fit(X, y).score(X, y) > 0.9


def test_cross_validation_of_known_and_of_new_sites():
    X, y = clinic()
    mixed = pipeline({"site": ["1", "dose"]})
    within = cross_val_predict(mixed, X, y, cv=KFold(5, shuffle=True, random_state=0))
    assert 1 - np.mean((y - within) ** 2) / y.var() > 0.85
    across = cross_val_score(mixed, X, y, groups=X["site"], cv=LeaveOneGroupOut(), scoring="r2")
    assert across.shape == (10,) and np.isfinite(across).all()
    left_out = X["site"] == "site 0"
    by_hand = mixed.fit(X[~left_out], y[~left_out]).score(X[left_out], y[left_out])
    assert_allclose(across[0], by_hand, rtol=1e-12)


def test_grid_search_over_random_effects():
    X, y = clinic()
    grid = {
        "model__random_effects": [{"site": []}, "site", {"site": ["1", "dose"]}],
        "code__scale__with_mean": [True, False],
    }
    search = GridSearchCV(pipeline(), grid, cv=KFold(4, shuffle=True, random_state=0))
    search.fit(X, y)
    assert search.best_params_["model__random_effects"] == {"site": ["1", "dose"]}
    scores = search.cv_results_["mean_test_score"].reshape(2, 3)
    assert_allclose(scores[0], scores[1], rtol=1e-6)  # a shift of a fixed column does nothing
    assert scores[0, 0] < scores[0, 1] < scores[0, 2]
    by_site = GridSearchCV(pipeline(), grid, cv=GroupKFold(4), error_score="raise")
    assert np.isfinite(by_site.fit(X, y, groups=X["site"]).best_score_)


def test_two_workers_find_the_same():
    X, y = clinic()
    grid = {"random_effects": ["site", {"site": ["1", "dose"]}], "method": ["reml", "ml"]}
    X = X.drop(columns="sex")
    one, two = (
        GridSearchCV(LinearMixedModel(), grid, cv=3, n_jobs=n, error_score="raise").fit(X, y)
        for n in (1, 2)
    )
    assert_array_equal(one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"])


def test_permutation_importance_sees_the_groups():
    X, y = clinic()
    model = pipeline().fit(X, y)
    importance = permutation_importance(model, X, y, n_repeats=3, random_state=0)
    by_name = dict(zip(X.columns, importance.importances_mean, strict=True))
    assert by_name["site"] > 0.2 and by_name["dose"] > 0.2 and abs(by_name["noise"]) < 0.02


def test_transformed_target():
    X, y = clinic()
    X, y = X.drop(columns="sex"), np.exp(y / 10)
    logged = TransformedTargetRegressor(LinearMixedModel("site"), func=np.log, inverse_func=np.exp)
    plain = LinearMixedModel("site").fit(X, np.log(y))
    assert_allclose(logged.fit(X, y).predict(X), np.exp(plain.predict(X)), rtol=1e-10)


def test_partial_dependence_of_a_slope_and_of_a_site():
    X, y = clinic()
    X = X.drop(columns="sex")
    model = LinearMixedModel("site").fit(X, y)
    dose = partial_dependence(model, X, ["dose"], kind="average", grid_resolution=5)
    slopes = np.diff(dose["average"][0]) / np.diff(dose["grid_values"][0])
    assert_allclose(slopes, model.coef_[0], rtol=1e-10)
    site = partial_dependence(model, X, ["site"], categorical_features=["site"], kind="average")
    centred = site["average"][0] - site["average"][0].mean()
    effects = model.random_effects_["site"][:, 0]
    assert_allclose(centred, effects - effects.mean(), rtol=1e-10)


def test_learning_curve():
    X, y = clinic()
    sizes, _, test = learning_curve(
        pipeline({"site": ["1", "dose"]}),
        X,
        y,
        cv=3,
        train_sizes=[0.2, 1.0],
        shuffle=True,
        random_state=0,
        error_score="raise",
    )
    assert len(sizes) == 2 and test[1].mean() > test[0].mean()


def test_without_random_effects_it_is_least_squares():
    X, y = clinic()
    X = X[["dose", "noise"]]
    weights = np.random.default_rng(0).uniform(1, 3, len(y))
    ours, theirs = LinearMixedModel().fit(X, y, weights), LinearRegression().fit(X, y, weights)
    assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-10)
    residuals = y - theirs.predict(X)
    assert_allclose(ours.residual_variance_, (weights * residuals**2).sum() / (weights.sum() - 3))


# Options ---------------------------------------------------------------------------------------


def test_offset_is_a_coefficient_of_one():
    X, y = clinic()
    X = X[["site", "dose", "noise"]]
    model = LinearMixedModel("site", offset="noise").fit(X, y)
    moved = LinearMixedModel("site").fit(X[["site", "dose"]], y - X["noise"])
    assert model.fixed_names_ == ["dose"]
    assert_allclose(model.log_likelihood_, moved.log_likelihood_, rtol=1e-12)
    for name in ("predict", "predict_population"):
        expected = getattr(moved, name)(X[["site", "dose"]]) + X["noise"]
        assert_allclose(getattr(model, name)(X), expected, rtol=1e-10)
    draws = model.sample_y(X, 3, random_state=0)
    expected = moved.sample_y(X[["site", "dose"]], 3, random_state=0) + X[["noise"]].to_numpy()
    assert_allclose(draws, expected, rtol=1e-8)
    new = X.assign(site="elsewhere", noise=X["noise"] + 7)
    adapted = model.adapt(new, y + 7)
    assert_allclose(adapted.predict(new), model.adapt(new.assign(noise=X["noise"]), y).predict(new))


def test_precision_weights():
    """A constant factor moves into the residual variance and nothing else."""
    X, y = clinic()
    X = X[["site", "dose"]]
    weights = np.random.default_rng(0).uniform(0.5, 2, len(y))
    fit = lambda w: LinearMixedModel("site", weight_type="precision").fit(X, y, sample_weight=w)
    model, scaled = fit(weights), fit(1e-3 * weights)
    assert_allclose(scaled.residual_variance_, 1e-3 * model.residual_variance_, rtol=1e-7)
    assert_allclose(scaled.covariance_["site"], model.covariance_["site"], rtol=1e-6)
    assert_allclose(scaled.log_likelihood_, model.log_likelihood_, rtol=1e-10)
    assert_allclose(scaled.predict(X), model.predict(X), rtol=1e-7)
    unweighted = LinearMixedModel("site").fit(X, y)
    assert_allclose(fit(np.ones(len(y))).log_likelihood_, unweighted.log_likelihood_, rtol=1e-12)
    frequency = LinearMixedModel("site").fit(X, y, sample_weight=weights)
    assert abs(frequency.log_likelihood_ - model.log_likelihood_) > 1


def test_several_outputs_are_fitted_as_one_by_one():
    X, y = clinic()
    X = X[["site", "dose", "noise"]]
    rng = np.random.default_rng(0)
    Y = np.column_stack([y, 1e6 * y + 1e8, rng.normal(size=len(y)), y + X["dose"], -y])
    many = quiet(LinearMixedModel({"site": ["1", "dose"]}).fit, X, Y)
    for r, column in enumerate(Y.T):
        one = LinearMixedModel({"site": ["1", "dose"]}).fit(X, column)
        assert_allclose(many.log_likelihood_[r], one.log_likelihood_, rtol=1e-10)
        assert_allclose(many.coef_[r], one.coef_, rtol=1e-5)
    assert_allclose(many.predict(X)[:, 1], 1e6 * many.predict(X)[:, 0] + 1e8, rtol=1e-8)
    assert_allclose(
        many.score(X, Y[:, :5]),
        np.mean(
            [
                1
                - np.sum((Y[:, r] - many.predict(X)[:, r]) ** 2)
                / np.sum((Y[:, r] - Y[:, r].mean()) ** 2)
                for r in range(5)
            ]
        ),
    )


@pytest.fixture(scope="module")
def simulated():
    """A model of half of the groups, and rows of known and of new groups with their truth."""
    X, y, truth = make_grouped_regression(
        6000, 2, 120, random_slopes=1, group_sd=2.0, return_truth=True, random_state=0
    )
    X = X.assign(group_0="g" + X["group_0"].astype(str))
    effects = truth["random_effects"]["group_0"]
    code = X["group_0"].str[1:].astype(int).to_numpy()
    expected = X[["x0", "x1"]].to_numpy() @ truth["coef"]
    expected = expected + effects[code, 0] + effects[code, 1] * X["x0"].to_numpy()
    train = (code < 60) & (np.arange(6000) % 5 == 0)  # ten rows for each of the known groups
    model = LinearMixedModel({"group_0": ["1", "x0"]}).fit(X[train], y[train])
    return model, X[~train], y[~train].to_numpy(), expected[~train], code[~train] < 60


@pytest.mark.parametrize("level", [0.5, 0.9])
@pytest.mark.parametrize("known", [True, False])
def test_intervals_cover_new_observations(simulated, known, level):
    model, X, y, _, is_known = simulated
    rows = is_known == known
    low, high = model.predict_interval(X[rows], confidence_level=level).T
    covered = np.mean((low < y[rows]) & (y[rows] < high))
    assert abs(covered - level) < 0.06
    assert_allclose((low + high) / 2, model.predict(X[rows]), rtol=1e-9)


@pytest.mark.parametrize("known", [True, False])
def test_standard_deviations_are_honest(simulated, known):
    model, X, _, expected, is_known = simulated
    rows = is_known == known
    mean, std = model.predict(X[rows], return_std=True)
    z = (expected[rows] - mean) / std
    assert abs(np.sqrt(np.mean(z**2)) - 1) < 0.15


@pytest.mark.parametrize("known", [True, False])
def test_draws_have_the_stated_moments(simulated, known):
    model, X, _, _, is_known = simulated
    X = X[is_known == known].head(40)
    draws = model.sample_y(X, 4000, random_state=1)
    mean, std = model.predict(X, return_std=True)
    spread = np.sqrt(std**2 + model.residual_variance_)
    assert_allclose(draws.mean(axis=1), mean, atol=5 * spread.max() / np.sqrt(4000))
    assert_allclose(draws.std(axis=1), spread, rtol=0.08)
    assert_array_equal(draws[:, :2], model.sample_y(X, 4000, random_state=1)[:, :2])
    twice = X.iloc[[0, 0]].assign(group_0=["new", "new"])
    shared = np.corrcoef(model.sample_y(twice, 4000, random_state=2))[0, 1]
    _, std = model.predict(twice, return_std=True)
    assert abs(shared - std[0] ** 2 / (std[0] ** 2 + model.residual_variance_)) < 0.05


def uneven():
    """Sleepstudy with rows left out: the search does not start at its end."""
    X, y = SLEEP
    keep = np.random.default_rng(0).random(len(y)) < 0.6
    return X[keep], y[keep]


def test_verbose_prints_each_step(capsys):
    X, y = uneven()
    LinearMixedModel(BY_SUBJECT).fit(X, y)
    assert capsys.readouterr().out == ""
    LinearMixedModel(BY_SUBJECT, verbose=1).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 2 and all(line.startswith("step ") for line in lines)
    assert lines[-1].endswith("0 of 1 outputs to go")


# Hard data -------------------------------------------------------------------------------------
# sleepstudy by lme4 1.1-31 with tight tolerances:
# logLik(lmer(Reaction ~ Days + (Days | Subject), sleepstudy)) is -871.814136


def test_a_large_shift_of_y_costs_no_digits():
    X, y = SLEEP
    model = quiet(LinearMixedModel(BY_SUBJECT).fit, X, y + 1e8)
    plain = LinearMixedModel(BY_SUBJECT).fit(X, y)
    assert_allclose(model.log_likelihood_, -871.814136, atol=1e-6)
    assert_allclose(model.covariance_["Subject"], plain.covariance_["Subject"], rtol=1e-5)
    assert_allclose(model.predict(X) - 1e8, plain.predict(X), rtol=1e-7)


def test_a_large_scale_of_x_costs_no_digits():
    """lmer(Reaction ~ x + (x | Subject)) with x = 1e6 * Days reaches -885.629647 at best."""
    X, y = SLEEP
    model = quiet(LinearMixedModel(BY_SUBJECT).fit, X.assign(Days=1e6 * X["Days"]), y)
    assert_allclose(model.log_likelihood_, -871.814136 - np.log(1e6), atol=1e-6)
    assert model.log_likelihood_ > -885.6296471
    assert_allclose(np.sqrt(model.covariance_["Subject"][1, 1]) * 1e6, 35.0717**0.5, rtol=1e-5)


def test_a_large_shift_of_a_slope_costs_no_digits():
    X, y = SLEEP
    shifted = X.assign(Days=X["Days"] + 1e6)
    model = quiet(LinearMixedModel(BY_SUBJECT).fit, shifted, y)
    plain = LinearMixedModel(BY_SUBJECT).fit(X, y)
    assert_allclose(model.log_likelihood_, -871.814136, atol=1e-6)
    assert_allclose(model.coef_, plain.coef_, rtol=1e-7)
    assert_allclose(model.predict(shifted), plain.predict(X), rtol=1e-6)
    _, std = model.predict(shifted, return_std=True)
    assert_allclose(std, plain.predict(X, return_std=True)[1], rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-100, 1e-6, 1e6, 1e100])
def test_units_of_y_do_not_matter(scale):
    X, y = SLEEP
    model = quiet(LinearMixedModel(BY_SUBJECT).fit, X, y * scale)
    assert_allclose(model.log_likelihood_, -871.814136 - 178 * np.log(scale), rtol=1e-9)
    assert_allclose(model.predict(X) / scale, LinearMixedModel(BY_SUBJECT).fit(X, y).predict(X))


def test_chem97_has_a_small_variance_of_authorities():
    """lmer(score ~ gcsecnt + (1 | lea / school), Chem97): a search may stop at zero too early."""
    data = load_chem97()
    model = LinearMixedModel({"lea": ["1"], ("lea", "school"): ["1"]})
    quiet(model.fit, data.data[["lea", "school", "gcsecnt"]], data.target)
    assert_allclose(model.log_likelihood_, -70848.494075, atol=1e-5)
    assert_allclose(model.covariance_["lea"], 0.0148, atol=5e-5)
    assert model.optimization_.at_zero == ()


def test_a_variance_at_zero_is_an_optimum():
    """lmer(Yield ~ 1 + (1 | Batch), Dyestuff2): logLik -80.914139, no warning of ours."""
    X, y = load_dyestuff2(return_X_y=True)
    model = quiet(LinearMixedModel("Batch").fit, X, y)
    assert_allclose(model.log_likelihood_, -80.914139, atol=1e-6)
    assert model.covariance_["Batch"][0, 0] == 0.0 and model.theta_["Batch"][0, 0] == 0.0
    assert not model.random_effects_["Batch"].any()
    assert model.optimization_.at_zero == (("Batch", "(Intercept)"),) and model.converged_


def grouped(n_levels=12, n_each=8, seed=0):
    """Rows of equally large groups: (table, code of each row, generator)."""
    rng = np.random.default_rng(seed)
    code = np.repeat(np.arange(n_levels), n_each)
    X = pd.DataFrame({"g": [f"g{i}" for i in code], "x": rng.normal(size=len(code))})
    return X, code, rng


@pytest.mark.parametrize("seed", [0, 5, 8])
def test_a_correlation_of_one(seed):
    X, code, rng = grouped(10, 6, seed)
    y = rng.normal(size=10)[code] * (1 + X["x"]) + 2 * rng.normal(size=60)
    model = quiet(LinearMixedModel({"g": ["1", "x"]}).fit, X, y)
    cov = model.covariance_["g"]
    assert_allclose(cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1]), 1, rtol=1e-6)
    assert model.converged_ and model.theta_["g"][1, 1] == 0
    assert np.isfinite(model.predict(X, return_std=True)[1]).all()


@pytest.mark.parametrize("seed", range(6))
def test_a_singular_covariance_is_not_a_variance_at_zero(seed):
    """at_zero lists variances that are zero: a correlation of one is none."""
    X, _, rng = grouped(seed=seed)
    model = quiet(LinearMixedModel({"g": ["1", "x"]}).fit, X, rng.normal(size=96))
    variances = np.diag(model.covariance_["g"])
    zero = [("g", name) for name, v in zip(("(Intercept)", "x"), variances, strict=True) if v == 0]
    assert model.optimization_.at_zero == tuple(zero)
    assert model.converged_


@pytest.mark.parametrize("structure", [{"g": ["1"], "h": ["1"]}, {"g": ["1", "x"], "h": []}])
@pytest.mark.parametrize("seed", range(4))
def test_pure_noise(structure, seed):
    X, _, rng = grouped(seed=seed)
    X["h"] = rng.integers(5, size=96).astype(str)
    y = rng.normal(size=96)
    model = quiet(LinearMixedModel(structure).fit, X, y)
    null = LinearMixedModel({"g": [], "h": []}).fit(X, y)
    assert model.converged_ and model.log_likelihood_ >= null.log_likelihood_ - 1e-8
    assert 0.4 < model.residual_variance_ <= null.residual_variance_ * (1 + 1e-8)


@pytest.mark.parametrize("ratio", [1e4, 1e2, 1e-2, 1e-4])
def test_extreme_variance_ratios(ratio):
    X, code, rng = grouped(20, 10)
    b, e = rng.normal(size=20), rng.normal(size=200)
    model = quiet(LinearMixedModel("g").fit, X, ratio * b[code] + e)
    assert model.converged_
    assert_allclose(model.residual_variance_, 1, rtol=0.2)
    if ratio > 1:  # balanced but for x: the variance of the means
        assert_allclose(model.covariance_["g"][0, 0], ratio**2 * b.var(ddof=1), rtol=0.05)
        within = LinearRegression().fit(
            pd.get_dummies(X, columns=["g"], dtype=float), ratio * b[code] + e
        )
        assert_allclose(model.coef_[0], within.coef_[0], atol=0.1 / ratio)


# Columns that depend on others -----------------------------------------------------------------


def test_the_first_of_two_dependent_columns_stays():
    X, y = SLEEP
    model = quiet(LinearMixedModel(BY_SUBJECT).fit, X.assign(D2=2 * X["Days"]), y)
    assert model.optimization_.columns_dropped == ("D2",)
    assert model.fixed_names_ == ["Days", "D2"] and model.coef_[1] == 0.0
    plain = LinearMixedModel(BY_SUBJECT).fit(X, y)
    assert_allclose(model.coef_[0], plain.coef_[0], rtol=1e-9)
    assert_allclose(model.log_likelihood_, -871.814136, atol=1e-6)
    assert_allclose(
        model.predict_interval(X.assign(D2=2 * X["Days"])), plain.predict_interval(X), rtol=1e-8
    )


def test_dummies_of_every_category():
    X, y = clinic()
    X = X[["site", "sex", "dose"]]
    full = pd.get_dummies(X, columns=["sex"], dtype=float)
    model = quiet(LinearMixedModel("site").fit, full, y)
    assert model.optimization_.columns_dropped == ("sex_m",)
    plain = LinearMixedModel("site").fit(full.drop(columns="sex_f"), y)
    assert_allclose(model.predict(full), plain.predict(full.drop(columns="sex_f")), rtol=1e-8)
    without = quiet(LinearMixedModel("site", fit_intercept=False).fit, full, y)
    assert without.optimization_.columns_dropped == ()
    assert_allclose(without.predict(full), model.predict(full), rtol=1e-8)


@pytest.mark.parametrize("value", [0.0, 2.0, 1e9])
def test_constant_columns_are_dropped(value):
    X, y = SLEEP
    model = quiet(LinearMixedModel("Subject").fit, X.assign(same=value), y)
    assert model.optimization_.columns_dropped == ("same",)


@pytest.mark.parametrize("drop_first", [True, False])
def test_a_factor_that_is_also_dummies(drop_first):
    X, code, rng = grouped()
    y = rng.normal(size=12)[code] + rng.normal(size=96)
    table = pd.concat([X, pd.get_dummies(X["g"], dtype=float, drop_first=drop_first)], axis=1)
    model, messages = warned(LinearMixedModel("g").fit, table, y)
    assert [NOT_TOLD in m for m in messages] == [True] and "'g'" in messages[0]
    assert model.optimization_.unidentified == (("g", "(Intercept)"),)
    assert model.optimization_.at_zero == () and model.covariance_["g"][0, 0] == 0
    ols = LinearRegression().fit(table.drop(columns="g"), y)
    assert_allclose(model.predict(table), ols.predict(table.drop(columns="g")), rtol=1e-8)


# Variances that nothing can tell ---------------------------------------------------------------


def one_level():
    X, _, rng = grouped()
    return LinearMixedModel("g"), X.assign(g="only"), X["x"] + rng.normal(size=96)


def one_level_of_two_factors():
    X, code, rng = grouped()
    X["h"] = "only"
    return LinearMixedModel(["h", "g"]), X, rng.normal(size=12)[code] + rng.normal(size=96)


def one_row_a_level():
    X, _, rng = grouped(60, 1)
    return LinearMixedModel("g"), X, rng.normal(size=60)


def as_many_effects_as_rows():
    X, _, rng = grouped(20, 2)
    return LinearMixedModel({"g": ["1", "x"]}), X, rng.normal(size=40)


def two_identical_factors():
    X, code, rng = grouped()
    X["h"] = "twin of " + X["g"]
    return LinearMixedModel(["g", "h"]), X, rng.normal(size=12)[code] + rng.normal(size=96)


def two_identical_factors_with_slopes():
    X, code, rng = grouped()
    X["h"] = "twin of " + X["g"]
    model = LinearMixedModel({"g": ["1", "x"], "h": ["1"]})
    return model, X, rng.normal(size=12)[code] + rng.normal(size=96)


def two_identical_slopes():
    X, code, rng = grouped()
    X["twice"] = 2 * X["x"]
    model = LinearMixedModel({"g": ["1", "x", "twice"]}, fixed_effects=["x"])
    return model, X, rng.normal(size=12)[code] * X["x"] + rng.normal(size=96)


def a_slope_that_is_the_intercept():
    X, code, rng = grouped()
    X["same"] = 2.0
    model = LinearMixedModel({"g": ["1", "same"]}, fixed_effects=["x"])
    return model, X, rng.normal(size=12)[code] + rng.normal(size=96)


def one_row_left_after_the_fixed_effects():
    X = pd.DataFrame({"g": ["a", "b", "b"], "x": [0.3, -1.2, 2.0]})
    return LinearMixedModel("g"), X, np.array([1.0, 3.0, 2.0])


NOT_IDENTIFIED = {
    one_level: [("g", "(Intercept)")],
    one_level_of_two_factors: [("h", "(Intercept)")],
    one_row_a_level: [("g", "(Intercept)")],
    as_many_effects_as_rows: [("g", "x")],
    two_identical_factors: [("h", "(Intercept)")],
    two_identical_factors_with_slopes: [("h", "(Intercept)")],
    two_identical_slopes: [("g", "twice")],
    a_slope_that_is_the_intercept: [("g", "same")],
    one_row_left_after_the_fixed_effects: [("g", "(Intercept)")],
}


@pytest.mark.parametrize("case", NOT_IDENTIFIED, ids=lambda case: case.__name__)
def test_a_variance_that_nothing_can_tell_is_zero_with_one_warning(case):
    model, X, y = case()
    model, messages = warned(model.fit, X, y)
    assert model.optimization_.unidentified == tuple(NOT_IDENTIFIED[case])
    assert [NOT_TOLD in m for m in messages] == [True]
    assert model.converged_
    for key, name in NOT_IDENTIFIED[case]:
        assert f"{name} by {key!r}" in messages[0]
        at = 0 if name == "(Intercept)" else len(model.covariance_[key]) - 1
        assert model.covariance_[key][at, at] == 0
    assert model.optimization_.at_zero == ()
    mean, std = model.predict(X, return_std=True)
    assert np.isfinite(mean).all() and np.isfinite(std).all()
    assert np.isfinite(model.adapt(X.assign(g="new"), y).predict(X)).all()
    assert "Not identified" in model.summary()


def test_all_unidentified_is_least_squares():
    model, X, y = one_level()
    model, _ = warned(model.fit, X, y)
    ols = LinearMixedModel({"g": []}).fit(X, y)
    assert_allclose(model.log_likelihood_, ols.log_likelihood_, rtol=1e-12)
    assert_allclose(model.predict(X), ols.predict(X), rtol=1e-10)


def test_all_but_one_row_in_one_level():
    X, _, rng = grouped()
    X["g"] = ["other"] + ["most"] * 95
    model = quiet(LinearMixedModel("g").fit, X, X["x"] + rng.normal(size=96))
    assert model.converged_ and np.isfinite(model.log_likelihood_)


def test_unused_categories_are_no_levels():
    X, y = clinic()
    X = X[["site", "dose"]]
    names = ["before", *sorted(X["site"].unique()), "zz"]
    model = LinearMixedModel("site").fit(X.assign(site=pd.Categorical(X["site"], names)), y)
    plain = LinearMixedModel("site").fit(X, y)
    assert_array_equal(model.levels_["site"], plain.levels_["site"])
    assert model.log_likelihood_ == plain.log_likelihood_


# An exact fit, too few rows --------------------------------------------------------------------


@pytest.mark.parametrize(
    "structure", [{"g": ["1"], "h": []}, {"g": ["1", "x"], "h": []}, ["g", "h"]], ids=str
)
def test_fixed_effects_that_explain_everything(structure):
    X, _, rng = grouped()
    X["h"] = rng.integers(5, size=96).astype(str)
    for y in (np.full(96, 3.0), np.zeros(96), (1 + 2 * X["x"]).to_numpy()):
        model, messages = warned(LinearMixedModel(structure).fit, X, y)
        assert len(messages) == 1 and "exactly" in messages[0]
        assert model.residual_variance_ == 0 and not model.covariance_["g"].any()
        assert_allclose(model.predict(X), y, atol=1e-12)
        assert model.optimization_.exact_fit and "inf" in model.summary()
        assert_allclose(model.predict_interval(X), np.column_stack([y, y]), atol=1e-12)


def test_random_effects_that_explain_everything():
    X, code, rng = grouped()
    b = rng.normal(size=12)
    model, messages = warned(LinearMixedModel("g").fit, X, b[code] + 2 * X["x"])
    assert len(messages) == 1 and "exactly" in messages[0]
    assert_allclose(model.coef_, 2, rtol=1e-6)
    assert_allclose(model.predict(X), b[code] + 2 * X["x"], atol=1e-5)
    assert_allclose(model.covariance_["g"][0, 0], b.var(ddof=1), rtol=0.01)
    assert model.residual_variance_ < 1e-10


@pytest.mark.parametrize("n_rows, rank", [(1, 1), (2, 2)])
def test_too_few_rows(n_rows, rank):
    """No weights are given, so the message does not speak of them."""
    X, y = SLEEP
    with pytest.raises(ValueError, match=f"{n_rows} sample.* cannot determine {rank} ") as caught:
        LinearMixedModel("Subject").fit(X[:n_rows], y[:n_rows])
    assert "weight" not in str(caught.value)


def test_weights_that_sum_to_too_little_point_to_precision():
    X, y = SLEEP
    small = np.full(180, 0.01)
    with pytest.raises(ValueError, match=r'sum of sample_weight.*weight_type="precision"'):
        LinearMixedModel("Subject").fit(X, y, sample_weight=small)
    quiet(LinearMixedModel("Subject", weight_type="precision").fit, X, y, sample_weight=small)


# Warnings --------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", [BY_SUBJECT, {"Subject": ["1"], "Half": ["1"]}])
def test_an_unfinished_search_warns_once(structure):
    X, y = uneven()
    X = X.assign(Half=[f"half {i % 7}" for i in range(len(y))])
    if structure is BY_SUBJECT:
        X = X.drop(columns="Half")
    model, messages = warned(LinearMixedModel(structure, max_iter=1).fit, X, y)
    assert len(messages) == 1 and "increase max_iter" in messages[0]
    assert not model.converged_ and "did not converge" in model.summary()
    Y = np.column_stack([y, y[::-1], y**2])
    _, messages = warned(LinearMixedModel(structure, max_iter=1).fit, X, Y)
    assert len(messages) == 1
    assert quiet(LinearMixedModel(structure).fit, X, Y).converged_


def test_warnings_point_to_the_call_of_fit():
    X, y = uneven()
    with pytest.warns(ConvergenceWarning) as caught:
        LinearMixedModel(BY_SUBJECT, max_iter=1).fit(X, y)
    assert caught[0].filename == __file__


# Messages --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        ({"method": "REML"}, "method is 'REML'.*'reml', 'ml'"),
        ({"method": None}, "method is None"),
        ({"weight_type": "sampling"}, "weight_type is 'sampling'.*'frequency', 'precision'"),
        ({"handle_unknown": "ignore"}, "handle_unknown is 'ignore'.*'population', 'error'"),
        ({"solver": "iterative"}, "solver is 'iterative'.*'auto', 'exact'"),
        ({"covariance_type": "unstructured"}, "covariance_type is 'unstructured'.*\"full\""),
        ({"covariance_type": {"Day": "full"}}, 'covariance_type names the factor "Day"'),
        ({"offset": "Day"}, 'offset names "Day".*did you mean "Days"'),
        ({"offset": "Subject"}, 'offset names "Subject", which random_effects uses as ids'),
        ({"fixed_effects": "Days"}, "fixed_effects is 'Days'.*list of columns"),
        ({"fixed_effects": ["days"]}, 'fixed_effects names "days", which is not a column'),
        ({"random_effects": "subject"}, 'random_effects names "subject".*"Subject"'),
        ({"random_effects": 1.5}, "random_effects cannot be read at 1.5"),
        ({"random_effects": {"Subject": "Days"}}, "the terms of \"Subject\" are 'Days'"),
        ({"random_effects": {"Subject": ["1", "Day"]}}, '"Day", which is not a column'),
        ({"max_iter": 2.5}, "max_iter"),
        ({"max_iter": "3"}, "max_iter"),
        ({"max_iter": -1}, "max_iter"),
        ({"tol": "small"}, "tol"),
        ({"tol": np.nan}, "tol"),
        ({"tol": -1.0}, "tol"),
    ],
    ids=str,
)
def test_wrong_parameters(options, message):
    X, y = SLEEP
    model = LinearMixedModel("Subject").set_params(**options)
    with pytest.raises(ValueError, match=message):
        model.fit(X, y)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(bad):
    X, y = SLEEP
    model = LinearMixedModel(BY_SUBJECT).fit(X, y)
    word = "NaN" if np.isnan(bad) else "infinity"
    bad_X, bad_y = X.astype({"Days": float}), y.copy()
    bad_X.loc[3, "Days"] = bad
    bad_y[3] = bad
    for call in (LinearMixedModel(BY_SUBJECT).fit, model.adapt):
        with pytest.raises(ValueError, match=f"X contains {word}"):
            call(bad_X, y)
        with pytest.raises(ValueError, match=f"y contains {word}"):
            call(X, bad_y)
        with pytest.raises(ValueError, match="sample_weight"):
            call(X, y, sample_weight=bad_y)
    for name in ("predict", "predict_population", "predict_interval", "sample_y"):
        with pytest.raises(ValueError, match=f"X contains {word}"):
            getattr(model, name)(bad_X)


def test_y_that_is_infinite_both_ways_is_refused_without_a_warning():
    X, y = SLEEP
    y = y.copy()
    y[:2] = np.inf, -np.inf
    with pytest.raises(ValueError, match="y contains infinity"):
        quiet(LinearMixedModel("Subject").fit, X, y)


SHORT = ([1.0] * 179, "inconsistent numbers of samples")


@pytest.mark.parametrize(
    "y, message",
    [
        (None, "requires y"),
        SHORT,
        (["a"] * 180, "could not convert string to float"),
        (np.ones((180, 2, 2)), "dim 3"),
        (np.ones((180, 0)), "0 feature"),
        (np.ones(180, dtype=complex), "Complex"),
    ],
    ids=["none", "short", "text", "cube", "empty", "complex"],
)
def test_responses_that_are_refused(y, message):
    X, good = SLEEP
    model = LinearMixedModel("Subject").fit(X, good)
    for call in (LinearMixedModel("Subject").fit, model.adapt):
        with pytest.raises(ValueError, match=message):
            call(X, y)


@pytest.mark.parametrize(
    "weights, message",
    [
        (np.ones(3), "sample_weight.shape"),
        (-np.ones(180), "Negative values"),
        (np.zeros(180), "at least one non-zero"),
    ],
    ids=["short", "negative", "zero"],
)
def test_weights_that_are_refused(weights, message):
    X, y = SLEEP
    for call in (LinearMixedModel("Subject").fit, LinearMixedModel("Subject").fit(X, y).adapt):
        with pytest.raises(ValueError, match=message):
            call(X, y, sample_weight=weights)


def test_adapt_wants_as_many_outputs_as_fit():
    X, y = SLEEP
    one = LinearMixedModel("Subject").fit(X, y)
    two = LinearMixedModel("Subject").fit(X, np.column_stack([y, y[::-1]]))
    for model, response in [(one, np.ones((180, 2))), (one, np.ones((180, 1))), (two, y)]:
        with pytest.raises(ValueError, match=r"y has the shape .* fitted with y of"):
            model.adapt(X, response)


@pytest.mark.parametrize("level", [0, 1, 1.5, -0.1, 95, np.nan])
def test_confidence_levels_that_are_refused(level):
    X, y = SLEEP
    with pytest.raises(ValueError, match=r"confidence_level is .* above 0 and below 1"):
        LinearMixedModel("Subject").fit(X, y).predict_interval(X, confidence_level=level)


@pytest.mark.parametrize("n_samples", [0, -1, 2.5])
def test_numbers_of_draws_that_are_refused(n_samples):
    X, y = SLEEP
    with pytest.raises(ValueError, match="n_samples"):
        LinearMixedModel("Subject").fit(X, y).sample_y(X, n_samples)


def test_text_that_is_nobodys_is_refused_with_a_way_out():
    X, y = clinic()
    with pytest.raises(ValueError, match=r'"sex".*ColumnTransformer.*OneHotEncoder'):
        LinearMixedModel("site").fit(X, y)


def test_ids_that_changed_their_family_or_are_missing():
    X, y = SLEEP
    model = LinearMixedModel("Subject").fit(X, y)
    text = X.assign(Subject=X["Subject"].astype(str))
    gaps = X.assign(Subject=X["Subject"].where(X.index != 4))
    for call in (model.predict, lambda table: model.adapt(table, y)):
        with pytest.raises(ValueError, match=r'"Subject".*number.*308.*text.*"308"'):
            call(text)
        with pytest.raises(ValueError, match=r'"Subject" has a missing id.*row 4'):
            call(gaps)
    assert_array_equal(model.predict(X.astype({"Subject": float})), model.predict(X))


def test_arrays_after_tables_warn_as_scikit_learn_does():
    X, y = SLEEP
    model = LinearMixedModel("Subject").fit(X, y)
    with pytest.warns(UserWarning, match="valid feature names"):
        assert_array_equal(model.predict(X.to_numpy()), model.predict(X))


def test_steps_that_lose_the_names():
    """A transformer that returns an array loses the names: the message says what to do."""
    X, y = clinic()
    steps = [("lose", FunctionTransformer(lambda X: X.to_numpy())), ("m", LinearMixedModel("site"))]
    with pytest.raises(ValueError, match=r'"site", but X has no column names.*pass a DataFrame'):
        Pipeline(steps).fit(X[["site", "dose"]], y)


def test_memory_of_a_large_fit():
    """At most 2.5 times X: three numbers and an id a row, and sums by level taken in pieces."""
    rng = np.random.default_rng(0)
    n = 1_000_000
    X = pd.DataFrame(rng.normal(size=(n, 2)), columns=["x", "z"])
    X["g"] = rng.integers(n // 10, size=n)
    b = rng.normal(size=(n // 10, 2))[X["g"]]
    y = (1 + b[:, 0] + b[:, 1] * X["x"] + rng.normal(size=n)).to_numpy()
    tracemalloc.start()
    LinearMixedModel({"g": ["1", "x"]}, fixed_effects=["x", "z"]).fit(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * X.memory_usage(index=False).sum()
