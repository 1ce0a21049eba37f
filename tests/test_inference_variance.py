"""Where the variance sits: against R, against dense algebra, and by hand."""

import numpy as np
import pandas as pd
import pytest
from dense import Dense
from numpy.testing import assert_allclose
from reference_linear import CASES, training_data
from reference_variance import R_SQUARED
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklme import LinearMixedModel
from sklme._columns import read_columns
from sklme.inference import (
    icc,
    implied_correlation,
    r_squared,
    random_effects_table,
    variance_table,
)


def table(seed=0, n=120):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({"g": rng.integers(0, 8, n), "h": rng.integers(0, 5, n)})
    X["x"], X["u"] = rng.normal(3, 2, n), rng.normal(size=n)
    b = rng.normal(size=(8, 2)) @ np.array([[1.5, 0.4], [0, 0.7]])
    y = 1 + X["x"] + b[X["g"], 0] + b[X["g"], 1] * X["x"] + rng.normal(size=5)[X["h"]]
    return X, (y + rng.normal(size=n)).to_numpy()


TWO = {"g": ["1", "x"], "h": ["1"]}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    case = CASES[request.param]
    X, y, weights = training_data(case)
    return request.param, LinearMixedModel(**case["model"]).fit(X, y, sample_weight=weights), X


def test_r_squared_and_icc_are_those_of_r(case):
    name, model, X = case
    if name not in R_SQUARED:
        pytest.skip("the version of R's package leaves a variance out")
    rows = X if "weighted" in name else None
    theirs, found = R_SQUARED[name], icc(model, rows).loc["all"]
    ours = r_squared(model, rows).to_dict() | found.to_dict()
    for key, value in theirs.items():
        assert_allclose(ours[key], value, rtol=1e-8, atol=1e-10, err_msg=key)


def test_rows_given_and_rows_kept_agree(case):
    name, model, X = case
    if "weighted" in name:
        pytest.skip("weighted sums are not means over rows")
    assert_allclose(r_squared(model), r_squared(model, X), rtol=1e-10, atol=1e-20)
    assert_allclose(icc(model), icc(model, X), rtol=1e-10, atol=1e-20)
    ours, rows = variance_table(model)["share"], variance_table(model, X)["share"]
    assert_allclose(ours, rows, rtol=1e-8, atol=1e-12)


def test_shares_are_those_of_the_variance_around_the_fixed_part(case):
    _, model, X = case
    shares = variance_table(model, X)["share"].groupby("group").sum()
    assert_allclose(shares.sum(), 1)
    parts = icc(model, X)["adjusted"].drop("all")
    assert_allclose(shares[parts.index], parts, rtol=1e-8, atol=1e-12)


def test_the_table_holds_the_estimates(case):
    _, model, _ = case
    found = variance_table(model)
    assert found.index.names == ["group", "term", "with_term"]
    assert found.index[-1] == ("Residual", "", "")
    assert_allclose(found["variance"].iloc[-1], model.residual_variance_)
    for term in model._terms:
        G = model.covariance_[term.key]
        key = ":".join(term.key) if isinstance(term.key, tuple) else term.key
        for i, name in enumerate(term.names):
            assert_allclose(found.loc[(key, name, ""), "variance"], G[i, i])
            assert_allclose(found.loc[(key, name, ""), "sd"], np.sqrt(G[i, i]))
        if len(G) == 2 and G[0, 1]:
            pair = found.loc[(key, term.names[1], term.names[0])]
            assert_allclose(pair["variance"], G[0, 1])
            assert_allclose(pair["correlation"], G[0, 1] / np.sqrt(G[0, 0] * G[1, 1]))
            assert np.isnan(pair["sd"])


def test_uncorrelated_coefficients_have_no_pair():
    X, y = table()
    for kind in ("diagonal", "spherical"):
        model = LinearMixedModel({"g": ["1", "x"]}, covariance_type=kind).fit(X, y)
        assert list(variance_table(model).index.get_level_values("with_term")) == ["", "", ""]
    blocks = {"g": [["1", "u"], ["x"]]}
    model = LinearMixedModel({"g": ["1", "x", "u"]}, covariance_type=blocks).fit(X, y)
    pairs = variance_table(model).query("with_term != ''").index.tolist()
    assert pairs == [("g", "u", "(Intercept)")]


def test_a_share_can_be_done_by_hand():
    X, y = table()
    model = LinearMixedModel(TWO).fit(X, y)
    x, G = X["x"].to_numpy(), model.covariance_["g"]
    parts = {
        ("g", "(Intercept)", ""): G[0, 0],
        ("g", "x", ""): G[1, 1] * np.mean(x**2),
        ("g", "x", "(Intercept)"): 2 * G[0, 1] * x.mean(),
        ("h", "(Intercept)", ""): model.covariance_["h"][0, 0],
        ("Residual", "", ""): model.residual_variance_,
    }
    share = variance_table(model)["share"]
    total = sum(parts.values())
    for key, value in parts.items():
        assert_allclose(share[key], value / total, rtol=1e-9)


def test_frequency_weights_are_repeated_rows():
    X, y = table()
    weights = np.arange(len(X)) % 3
    light = LinearMixedModel(TWO).fit(X, y, sample_weight=weights)
    again = np.repeat(np.arange(len(X)), weights)
    heavy = LinearMixedModel(TWO).fit(X.iloc[again], y[again])
    assert_allclose(r_squared(light), r_squared(heavy), rtol=1e-6)
    assert_allclose(icc(light), icc(heavy), rtol=1e-5)
    assert_allclose(variance_table(light), variance_table(heavy), rtol=1e-4)


def test_shares_do_not_depend_on_units():
    X, y = table()
    plain = LinearMixedModel(TWO).fit(X, y)
    moved = X.assign(x=2000 + 0.01 * X["x"], u=1e5 * X["u"])
    other = LinearMixedModel(TWO).fit(moved, 1e4 - 7 * y)
    assert_allclose(r_squared(other), r_squared(plain), rtol=1e-6)
    assert_allclose(icc(other), icc(plain), rtol=1e-6)
    again = np.random.default_rng(0).permutation(len(X))
    other = LinearMixedModel(TWO).fit(X.iloc[again], y[again])
    assert_allclose(r_squared(other), r_squared(plain), rtol=1e-8)


def dense(model, X, y):
    rows = read_columns(model, X, model._columns)
    s2 = model.residual_variance_
    terms = [
        (c, len(model.levels_[key]), z, model.covariance_[key] / s2)
        for c, z, key in zip(rows.codes, rows.slopes, model.levels_, strict=True)
    ]
    return Dense(np.column_stack([np.ones(len(y)), rows.X]), y, terms)


def test_effects_and_their_errors_are_those_of_dense_algebra():
    X, y = table()
    model = LinearMixedModel(TWO).fit(X, y)
    oracle = dense(model, X, y)
    for t, key in enumerate(["g", "h"]):
        found, joint = (random_effects_table(model, key, joint=j) for j in (False, True))
        k = len(model.covariance_[key])
        assert_allclose(found["effect"], oracle.blups()[t].ravel(), rtol=1e-8)
        known = np.stack([np.diag(C) for C in oracle.conditional_covariance()[t]])
        assert_allclose(found["std_error"] ** 2, known.ravel(), rtol=1e-8)
        codes = np.repeat(np.arange(len(model.levels_[key])), k)
        z = np.tile(np.eye(k), (len(model.levels_[key]), 1))
        new = [(np.full(len(codes), -1), np.zeros((len(codes), s))) for s in (2, 1)]
        new[t] = codes, z
        variance = oracle.prediction_variance(np.zeros((len(codes), 3)), new)
        assert_allclose(joint["std_error"] ** 2, variance, rtol=1e-8)
        assert (joint["std_error"] > found["std_error"]).all()


def test_intervals_of_effects_have_their_width():
    X, y = table()
    model = LinearMixedModel("g").fit(X, y)
    found = random_effects_table(model, confidence_level=0.8)
    assert_allclose(found["upper"] - found["lower"], 2 * 1.2815515655446 * found["std_error"])
    assert_allclose(found["upper"] + found["lower"], 2 * found["effect"])
    assert found.index.names == ["g", "term"]
    assert list(found.index.get_level_values("g")) == list(model.levels_["g"])


def test_levels_of_combinations_have_an_index_for_each_column():
    X, y = table()
    model = LinearMixedModel([("g", "h")]).fit(X, y)
    found = random_effects_table(model)
    assert found.index.names == ["g", "h", "term"]
    levels = list(map(tuple, model.levels_[("g", "h")]))
    assert list(found.index.droplevel("term")) == levels
    assert variance_table(model).index[0] == ("g:h", "(Intercept)", "")


def test_an_effect_at_zero_has_no_error():
    X, y, _ = training_data(CASES["dyestuff2_singular_reml"])
    model = LinearMixedModel(**CASES["dyestuff2_singular_reml"]["model"]).fit(X, y)
    assert (random_effects_table(model)[["effect", "std_error"]] == 0).all().all()
    found = variance_table(model)
    assert found["share"].tolist() == [0, 1]


def test_correlations_are_those_of_the_marginal_covariance():
    X, y = table()
    model = LinearMixedModel(TWO).fit(X, y)
    H = dense(model, X, y).H
    expected = H / np.sqrt(np.outer(np.diag(H), np.diag(H)))
    assert_allclose(implied_correlation(model, X), expected, rtol=1e-10, atol=1e-14)
    g, h = (implied_correlation(model, X, key).to_numpy() for key in ("g", "h"))
    off = ~np.eye(len(X), dtype=bool)
    assert_allclose((g + h)[off], expected[off], rtol=1e-10, atol=1e-14)
    assert_allclose(np.diag(g), 1)


def test_correlations_of_new_levels():
    X, y = table()
    model = LinearMixedModel("g").fit(X, y)
    new = X.iloc[:3].assign(g=[100, 100, 101]).set_axis(["a", "b", "c"])
    found = implied_correlation(model, new)
    share = icc(model).loc["g", "adjusted"]
    assert_allclose(found, [[1, share, 0], [share, 1, 0], [0, 0, 1]])
    assert list(found.columns) == list(found.index) == ["a", "b", "c"]


def test_one_of_several_outputs():
    X, y = table()
    both = LinearMixedModel(TWO).fit(X, np.column_stack([y**2, y]))
    alone = LinearMixedModel(TWO).fit(X, y)
    calls = [
        variance_table,
        r_squared,
        icc,
        lambda m, **output: random_effects_table(m, "g", joint=True, **output),
        lambda m, **output: implied_correlation(m, X, **output),
    ]
    for f in calls:
        assert_allclose(f(both, output=1), f(alone), rtol=1e-4, atol=1e-8)
        with pytest.raises(ValueError, match="2 outputs: choose one"):
            f(both)


def test_a_pipeline_is_opened():
    X, y = table()
    double = FunctionTransformer(_doubled)
    pipeline = make_pipeline(double, LinearMixedModel(TWO)).fit(X, y)
    inner = LinearMixedModel(TWO).fit(_doubled(X), y)
    assert_allclose(variance_table(pipeline), variance_table(inner))
    assert_allclose(r_squared(pipeline, X), r_squared(inner))
    assert_allclose(implied_correlation(pipeline, X), implied_correlation(inner, _doubled(X)))


def _doubled(X):
    return X.assign(x=2 * X["x"])


def test_least_squares_has_the_usual_r_squared():
    X, y = table()
    numbers = X[["x", "u"]]
    model = LinearMixedModel().fit(numbers, y)
    fitted = model.predict(numbers)
    usual = fitted.var(ddof=1) / (fitted.var(ddof=1) + model.residual_variance_)
    assert_allclose(r_squared(model), [usual, usual])
    assert variance_table(model)["share"].tolist() == [1]
    with pytest.raises(ValueError, match="no random effects, hence no intraclass correlation"):
        icc(model)
    with pytest.raises(ValueError, match="no random effects"):
        random_effects_table(model)


def test_rows_are_asked_for_where_they_are_needed():
    X, y = table()
    bare = LinearMixedModel("g", fit_intercept=False).fit(X, y)
    with pytest.raises(ValueError, match=r"without a fixed intercept .* pass X"):
        r_squared(bare)
    fixed, total = np.var(bare.predict_population(X), ddof=1), icc(bare, X)
    assert_allclose(
        r_squared(bare, X)["marginal"],
        fixed / (fixed + bare.covariance_["g"][0, 0] + bare.residual_variance_),
    )
    assert (total["unadjusted"] < total["adjusted"]).all()
    weighted = LinearMixedModel("g", weight_type="precision")
    weighted.fit(X, y, sample_weight=np.arange(len(X)) + 1.0)
    for f in (r_squared, icc):
        with pytest.raises(ValueError, match=r"precision weights .* pass X"):
            f(weighted)
    assert variance_table(weighted)["share"].isna().all()
    assert_allclose(variance_table(weighted, X)["share"].sum(), 1)


def test_bad_input_is_told():
    X, y = table()
    model = LinearMixedModel(TWO).fit(X, y)
    with pytest.raises(ValueError, match="several factors, choose one: 'g', 'h'"):
        random_effects_table(model)
    with pytest.raises(ValueError, match="no factor 'k': 'g', 'h'"):
        implied_correlation(model, X, "k")
    with pytest.raises(ValueError, match="confidence_level"):
        random_effects_table(model, "g", confidence_level=95)
    with pytest.raises(NotFittedError):
        variance_table(LinearMixedModel("g"))
    with pytest.raises(TypeError, match="this is LinearRegression"):
        icc(LinearRegression().fit(X, y))
