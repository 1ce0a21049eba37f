"""The bootstrap: its replicates against loops over rows, its intervals, and what it refuses."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklme import LinearMixedModel, adapt
from sklme._engine import simulate
from sklme.datasets import load_dyestuff2, load_pastes, load_penicillin, load_sleepstudy
from sklme.inference.resampling import BootstrapResult, bootstrap

SLOPES = {"Subject": ["1", "Days"]}
KINDS = ("parametric", "residual", "cases")


@pytest.fixture(scope="module")
def sleep():
    X, y = load_sleepstudy(return_X_y=True)
    return X, y, LinearMixedModel(random_effects=SLOPES).fit(X, y)


@pytest.fixture(scope="module")
def crossed():
    X, y = load_penicillin(return_X_y=True)
    return X, y, LinearMixedModel(["plate", "sample"]).fit(X, y)


def estimates(model):
    """The parameters of a sleepstudy model, computed from its attributes."""
    G, s2 = model.covariance_["Subject"], model.residual_variance_
    sd = np.sqrt(np.diag(G))
    return [model.intercept_, *model.coef_, sd[0], G[0, 1] / sd.prod(), sd[1], np.sqrt(s2)]


# ------------------------------------------------------------------------------ replicates


def test_names_and_estimates(sleep):
    result = bootstrap(sleep[2], n_bootstraps=3, random_state=0)
    assert list(result.estimates.index) == [
        "(Intercept)",
        "Days",
        "sd (Intercept)|Subject",
        "cor Days.(Intercept)|Subject",
        "sd Days|Subject",
        "sigma",
    ]
    assert_allclose(result.estimates, estimates(sleep[2]), rtol=1e-9)
    assert list(result.replicates.columns) == list(result.estimates.index)


def test_parametric_replicates_are_those_of_a_loop_over_rows(sleep):
    """Mean and spread of every parameter, each within five standard errors of the simulation."""
    X, y, model = sleep
    rng = np.random.default_rng(0)
    root = np.linalg.cholesky(model.covariance_["Subject"])
    codes, z = X["Subject"].factorize()[0], np.column_stack([np.ones(len(y)), X["Days"]])
    expected = []
    for _ in range(200):
        b = rng.normal(size=(18, 2)) @ root.T
        noise = np.sqrt(model.residual_variance_) * rng.normal(size=len(y))
        new = model.predict_population(X) + (z * b[codes]).sum(axis=1) + noise
        expected.append(estimates(LinearMixedModel(random_effects=SLOPES).fit(X, new)))
    expected = np.array(expected)
    found = bootstrap(model, n_bootstraps=4000, random_state=1).replicates.to_numpy()
    spread = expected.std(axis=0)
    error = spread * np.sqrt(1 / 200 + 1 / 4000)
    assert np.all(np.abs(found.mean(axis=0) - expected.mean(axis=0)) < 5 * error)
    assert np.all(np.abs(np.log(found.std(axis=0) / spread)) < 5 / np.sqrt(2 * 200) * 1.3)


@pytest.mark.parametrize("kind", ["parametric", "residual"])
def test_the_mean_of_coefficients_is_unbiased_and_its_spread_the_standard_error(crossed, kind):
    X, y, model = crossed
    result = bootstrap(model, X, y, kind=kind, n_bootstraps=300, random_state=0)
    intercept = result.table.loc["(Intercept)"]
    assert abs(intercept["bias"]) < 5 * intercept["std_error"] / np.sqrt(300)
    assert_allclose(intercept["std_error"], 0.8086, rtol=0.2)  # lme4's standard error


def test_residual_replicates_are_those_of_a_loop_over_rows(sleep):
    """The same draws, each response refitted from its rows."""
    X, y, model = sleep
    found = bootstrap(model, X, y, kind="residual", n_bootstraps=4, random_state=7)
    rng = np.random.RandomState(7)
    error = y.to_numpy() - model.predict(X)
    error = (error - error.mean()) / error.std() * np.sqrt(model.residual_variance_)
    drawn_errors = error[rng.randint(180, size=(180, 4))]
    levels = rng.randint(18, size=(18, 4))
    table = found.replicates
    for i in range(4):
        new = LinearMixedModel(random_effects=SLOPES)
        new.fit(
            X, model.predict_population(X) + drawn_errors[:, i] + _effects(model, X, levels[:, i])
        )
        assert_allclose(table.iloc[i], estimates(new), rtol=1e-5, atol=1e-6)


def _effects(model, X, levels):
    """Z b for reflated effects of these levels, turned in the coordinates of the fit."""
    fit = model._fit
    T, L = fit.frame.z_maps[0], fit.Lambdas[0][0]
    u = fit.effects[0][:, 0].T
    u = u - u.mean(axis=0)

    def root(C, power):
        w, U = np.linalg.eigh(C)
        return (U * w**power) @ U.T

    G = L @ L.T * fit.s2[0]
    b = u @ root(u.T @ u / 18, -0.5) @ root(G, 0.5) @ T.T * fit.frame.y_scale[0]
    assert_allclose(b.T @ b / 18, model.covariance_["Subject"], rtol=1e-7)
    z = np.column_stack([np.ones(len(X)), X["Days"]])
    return (z * b[levels][X["Subject"].factorize()[0]]).sum(axis=1)


def test_cases_are_whole_levels_with_new_names(sleep):
    X, y, model = sleep
    found = bootstrap(model, X, y, kind="cases", n_bootstraps=3, random_state=5).replicates
    rng = np.random.RandomState(5)
    subjects = model.levels_["Subject"]
    for i in range(3):
        drawn = subjects[rng.randint(18, size=18)]
        parts = [X[X["Subject"] == s].assign(Subject=k) for k, s in enumerate(drawn)]
        response = np.concatenate([y[(X["Subject"] == s).to_numpy()] for s in drawn])
        again = LinearMixedModel(random_effects=SLOPES).fit(pd.concat(parts), response)
        assert_allclose(found.iloc[i], estimates(again), rtol=1e-6, atol=1e-8)


def test_cases_relabel_what_is_nested_and_keep_what_is_crossed():
    X, y = load_pastes(return_X_y=True)
    keys = ["batch", ("batch", "cask")]
    model = LinearMixedModel(keys, fixed_effects=[]).fit(X[["batch", "cask"]], y)
    result = bootstrap(
        model,
        X[["batch", "cask"]],
        y,
        kind="cases",
        factor="batch",
        n_bootstraps=20,
        random_state=0,
    )
    # 30 casks stay 30: were they not relabelled, copies would share their effects and sigma
    # would take up nothing new; the spread of casks stays near its estimate
    ratio = result.replicates["sd (Intercept)|batch:cask"] / result.estimates.iloc[2]
    assert result.n_failed == 0 and ratio.between(0.5, 1.6).all()
    X, y = load_penicillin(return_X_y=True)
    model = LinearMixedModel(["plate", "sample"]).fit(X, y)
    found = bootstrap(model, X, y, kind="cases", factor="plate", n_bootstraps=2, random_state=1)
    rng = np.random.RandomState(1)
    plates = model.levels_["plate"]
    for i in range(2):
        drawn = plates[rng.randint(24, size=24)]
        parts = [X[X["plate"] == p].assign(plate=k) for k, p in enumerate(drawn)]
        response = np.concatenate([y[(X["plate"] == p).to_numpy()] for p in drawn])
        again = LinearMixedModel(["plate", "sample"]).fit(pd.concat(parts), response)
        row = [again.intercept_, *(again.covariance_[k][0, 0] ** 0.5 for k in ("plate", "sample"))]
        assert_allclose(found.replicates.iloc[i, :3], row, rtol=1e-5)


# ---------------------------------------------------------------------------- invariances


@pytest.mark.parametrize("kind", KINDS)
def test_units_move_the_replicates_along(sleep, kind):
    X, y, model = sleep
    scaled = X.assign(Days=X["Days"] * 100.0)
    moved = LinearMixedModel(random_effects=SLOPES).fit(scaled, 3 * y - 1e4)
    options = {"kind": kind, "n_bootstraps": 5, "random_state": 2}
    a = bootstrap(model, X, y, **options).replicates
    b = bootstrap(moved, scaled, 3 * y - 1e4, **options).replicates
    factor = np.array([3, 0.03, 3, 1, 0.03, 3])
    expected = a.to_numpy() * factor - np.array([1e4, 0, 0, 0, 0, 0])
    assert_allclose(b, expected, rtol=1e-5, atol=1e-6)


def test_frequency_weights_are_repeated_rows(sleep):
    X, y, _ = sleep
    times = np.tile([1, 2, 3], 60)
    rows = np.repeat(np.arange(180), times)
    weighted = LinearMixedModel(random_effects=SLOPES).fit(X, y, sample_weight=times.astype(float))
    repeated = LinearMixedModel(random_effects=SLOPES).fit(X.iloc[rows], y[rows])
    a, b = (bootstrap(m, n_bootstraps=2000, random_state=0).table for m in (weighted, repeated))
    assert_allclose(a["estimate"], b["estimate"], rtol=1e-6)
    assert_allclose(a["std_error"], b["std_error"], rtol=0.1)


def test_chunks_and_seeds(sleep, monkeypatch):
    a = bootstrap(sleep[2], n_bootstraps=20, random_state=0).replicates
    assert a.equals(bootstrap(sleep[2], n_bootstraps=20, random_state=0).replicates)
    assert not a.equals(bootstrap(sleep[2], n_bootstraps=20, random_state=1).replicates)
    monkeypatch.setattr(simulate, "MOST_AT_ONCE", 7)
    assert bootstrap(sleep[2], n_bootstraps=20, random_state=0).replicates.shape == a.shape


def test_rows_serve_where_columns_are_too_many(crossed, monkeypatch):
    X, _, model = crossed
    expected = bootstrap(model, n_bootstraps=150, random_state=0).table
    monkeypatch.setattr(simulate, "MOST_COLUMNS", 10)
    with pytest.raises(ValueError, match=r"31 columns of Z and X .* pass X"):
        bootstrap(model, n_bootstraps=3)
    found = bootstrap(model, X, n_bootstraps=150, random_state=0).table
    assert_allclose(found["std_error"], expected["std_error"], rtol=0.4)


# -------------------------------------------------------------------------- the result


def made(values, estimate):
    return BootstrapResult(
        pd.DataFrame({"a": values}), pd.Series({"a": estimate}), 0.9, "percentile", 0
    )


def test_intervals_by_hand():
    values, e = np.arange(101.0), 40.0
    result = made(values, e)
    assert_allclose(result.table.loc["a"], [40, 10, np.std(values, ddof=1), 5, 95])
    assert_allclose(result.intervals("basic", 0.9).loc["a", ["lower", "upper"]], [-15, 75])
    half = 1.6448536 * np.std(values, ddof=1)
    assert_allclose(
        result.intervals("normal", 0.9).loc["a", ["lower", "upper"]], [30 - half, 30 + half]
    )


def test_failures_are_left_out():
    result = made(np.array([1.0, np.nan, 3.0]), 2.0)
    assert_allclose(result.table.loc["a", ["bias", "std_error"]], [0, np.sqrt(2)], atol=1e-12)


def test_a_fit_that_stops_short_is_counted(sleep):
    X, y, _ = sleep
    model = LinearMixedModel(random_effects=SLOPES).fit(X[:-7], y[:-7])  # not balanced
    model.max_iter = 1
    result = bootstrap(model, n_bootstraps=50, random_state=0)
    assert result.n_failed > 0
    assert result.replicates["sigma"].isna().sum() == result.n_failed
    assert result.replicates.isna().any(axis=1).sum() == result.n_failed


def test_kind_of_interval(sleep):
    options = {"n_bootstraps": 100, "random_state": 0}
    basic = bootstrap(sleep[2], kind_of_interval="basic", confidence_level=0.8, **options)
    other = bootstrap(sleep[2], **options)
    pd.testing.assert_frame_equal(basic.table, other.intervals("basic", 0.8))


def test_statistics(sleep):
    options = {"n_bootstraps": 30, "random_state": 0}
    ratio = bootstrap(sleep[2], statistic=lambda p: p["sigma"] / p["Days"], **options)
    table = ratio.replicates
    assert_allclose(table["statistic"], table["sigma"] / table["Days"])
    assert_allclose(ratio.table.loc["statistic", "estimate"], 25.5918 / 10.46729, rtol=1e-5)

    def two(p):
        return pd.DataFrame({"variance": p["sigma"] ** 2, "double": 2 * p["Days"]})

    several = bootstrap(sleep[2], statistic=two, **options)
    assert_allclose(several.replicates["double"], 2 * several.replicates["Days"])
    assert_allclose(several.table.loc["variance", "estimate"], 654.94, rtol=1e-5)
    with pytest.raises(ValueError, match="a value for each of the 30 rows"):
        bootstrap(sleep[2], statistic=lambda p: 1.0, **options)


def test_progress_is_told(sleep, capsys):
    bootstrap(sleep[2], n_bootstraps=10, verbose=1)
    assert "10 of 10 refits" in capsys.readouterr().out
    bootstrap(*sleep[2:], *sleep[:2], kind="cases", n_bootstraps=3, verbose=1)
    assert "3 of 3 refits" in capsys.readouterr().out
    bootstrap(sleep[2], n_bootstraps=10)
    assert capsys.readouterr().out == ""


# ---------------------------------------------------------------------------- other models


@pytest.mark.parametrize("kind", KINDS)
def test_wrapped_models(sleep, kind):
    X, y, _ = sleep
    pipeline = make_pipeline(FunctionTransformer(), LinearMixedModel(random_effects=SLOPES))
    wrapped = TransformedTargetRegressor(pipeline, func=np.log, inverse_func=np.exp).fit(X, y)
    plain = LinearMixedModel(random_effects=SLOPES).fit(X, np.log(y))
    options = {"kind": kind, "n_bootstraps": 3, "random_state": 0}
    a = bootstrap(wrapped, X, y, **options).replicates
    assert_allclose(a, bootstrap(plain, X, np.log(y), **options).replicates, rtol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_one_output_of_several(sleep, kind):
    X, y, model = sleep
    Y = np.column_stack([y[::-1], y])
    both = LinearMixedModel(random_effects=SLOPES).fit(X, Y)
    options = {"kind": kind, "n_bootstraps": 3, "random_state": 0}
    a = bootstrap(both, X, Y, output=1, **options).replicates
    assert_allclose(a, bootstrap(model, X, y, **options).replicates, rtol=1e-4, atol=1e-5)


def test_an_offset_is_taken_off(sleep):
    X, y, model = sleep
    off = np.arange(180.0)
    with_offset = LinearMixedModel(random_effects=SLOPES, offset="off")
    with_offset.fit(X.assign(off=off), y + off)
    for kind in KINDS:
        options = {"kind": kind, "n_bootstraps": 3, "random_state": 0}
        a = bootstrap(with_offset, X.assign(off=off), y + off, **options).replicates
        assert_allclose(a, bootstrap(model, X, y, **options).replicates, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", ["parametric", "residual"])
def test_without_random_effects(sleep, kind):
    X, y, _ = sleep
    X = X[["Days"]]
    result = bootstrap(
        LinearMixedModel().fit(X, y), X, y, kind=kind, n_bootstraps=2000, random_state=0
    )
    assert list(result.estimates.index) == ["(Intercept)", "Days", "sigma"]
    assert_allclose(result.table["std_error"].iloc[:2], [6.610, 1.238], rtol=0.1)  # R: lm
    assert abs(result.table.loc["sigma", "bias"]) < 0.5


def test_without_fixed_effects(sleep):
    X, y, _ = sleep
    model = LinearMixedModel(
        {"Subject": ["1"]}, fixed_effects=[], fit_intercept=False, method="ml"
    ).fit(X, y)
    table = bootstrap(model, n_bootstraps=300, random_state=0).table
    assert list(table.index) == ["sd (Intercept)|Subject", "sigma"]
    assert_allclose(table.loc["sigma", "std_error"], model.residual_variance_**0.5 / 18, rtol=0.2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_variance_at_zero(kind):
    X, y = load_dyestuff2(return_X_y=True)
    result = bootstrap(
        LinearMixedModel("Batch").fit(X, y), X, y, kind=kind, n_bootstraps=40, random_state=0
    )
    sd = result.replicates["sd (Intercept)|Batch"]
    assert (sd >= 0).all() and (sd == 0).any()
    assert result.n_failed == 0


def test_a_dropped_column_stays_missing(sleep):
    X, y, _ = sleep
    X = X.assign(twice=2 * X["Days"])
    model = LinearMixedModel(random_effects=SLOPES).fit(X, y)
    table = bootstrap(model, n_bootstraps=10, random_state=0).table
    assert table.loc["twice"].isna().all()
    assert np.isfinite(table.drop("twice")).all(axis=None)


# ------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"kind": "rows"}, "kind is 'rows'"),
        ({"n_bootstraps": 1}, "n_bootstraps is 1"),
        ({"confidence_level": 95}, "confidence_level is 95"),
        ({"kind_of_interval": "bca"}, "kind_of_interval is 'bca'"),
        ({"kind": "residual"}, 'bootstrap\\(kind="residual"\\) needs the rows'),
        ({"kind": "cases"}, "pass X and y"),
    ],
)
def test_bad_arguments(sleep, arguments, message):
    with pytest.raises(ValueError, match=message):
        bootstrap(sleep[2], **arguments)


@pytest.mark.parametrize("kind", ["residual", "cases"])
def test_other_rows_are_refused(sleep, kind):
    X, y, model = sleep
    with pytest.raises(ValueError, match="X has 170 rows, but the model was fitted to 180"):
        bootstrap(model, X[:170], y[:170], kind=kind)
    with pytest.raises(ValueError, match="not the response that the model was fitted to"):
        bootstrap(model, X, y + 1, kind=kind)
    weighted = LinearMixedModel(random_effects=SLOPES).fit(X, y, sample_weight=np.full(180, 2.0))
    with pytest.raises(ValueError, match="fitted with sample_weight"):
        bootstrap(weighted, X, y, kind=kind)


def test_bad_models(sleep, crossed):
    X, y, model = sleep
    with pytest.raises(Exception, match="not fitted yet"):
        bootstrap(LinearMixedModel("Subject"))
    with pytest.raises(ValueError, match="adapted to more rows"):
        bootstrap(adapt(model, X, y + 100))
    with pytest.raises(ValueError, match="several factors, choose one: 'plate', 'sample'"):
        bootstrap(crossed[2], *crossed[:2], kind="cases")
    with pytest.raises(ValueError, match="no factor 'room'"):
        bootstrap(crossed[2], *crossed[:2], kind="cases", factor="room")
    with pytest.raises(ValueError, match="has no random effects"):
        bootstrap(LinearMixedModel().fit(X[["Days"]], y), X[["Days"]], y, kind="cases")
    with pytest.warns(Warning, match="exactly"):
        constant = LinearMixedModel("Subject").fit(X, np.ones(len(y)))
    with pytest.raises(ValueError, match="reproduces y exactly"):
        bootstrap(constant)
