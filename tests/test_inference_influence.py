"""Leaving a group out: every number against the loop of fits without it, or dense algebra."""

import numpy as np
import pandas as pd
import pytest
from dense import Dense
from numpy.testing import assert_allclose
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklme import LinearMixedModel
from sklme._columns import read_columns
from sklme._engine import deleted, leave_out
from sklme.datasets import load_dyestuff2, load_pastes, load_penicillin, load_sleepstudy
from sklme.inference import _left_out, coefficient_table, group_influence, leave_one_group_out


def table(seed=0, n_groups=9, balanced=False):
    """Groups of different sizes with slopes; `w` varies between groups only."""
    rng = np.random.default_rng(seed)
    sizes = np.full(n_groups, 6) if balanced else rng.integers(3, 10, n_groups)
    g = np.repeat(np.arange(n_groups), sizes)
    x = np.tile(np.arange(6.0), n_groups) if balanced else rng.normal(3, 2, len(g))
    b = rng.normal(size=(n_groups, 2)) @ np.array([[1.5, 0.3], [0, 0.8]])
    X = pd.DataFrame({"g": g, "x": x, "w": rng.normal(size=n_groups)[g]})
    y = 1 + 2 * x + 0.5 * X["w"] + b[g, 0] + b[g, 1] * x + rng.normal(size=len(g))
    return X.sample(frac=1, random_state=seed), y.to_numpy()[
        X.sample(frac=1, random_state=seed).index
    ]


def crossed(seed=0):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({"a": rng.integers(0, 7, 90), "b": rng.integers(0, 6, 90)})
    X["x"] = rng.normal(size=90)
    effects = rng.normal(size=7)[X["a"]] + 0.8 * rng.normal(size=6)[X["b"]]
    return X, (effects + X["x"] + rng.normal(size=90)).to_numpy()


def nested(seed=0):
    X, y = crossed(seed)
    X["c"] = X["a"].astype(str) + X["b"].astype(str)
    return X, y + np.random.default_rng(seed).normal(size=200)[X["a"] * 10 + X["b"]]


def loop(model, key, X, y, weights=None):
    """Prediction and standard deviation of each row by a fit to the other levels."""
    groups = X[key].to_numpy()
    mean, std = np.full(len(y), np.nan), np.full(len(y), np.nan)
    for level in np.unique(groups):
        own = groups == level
        w = None if weights is None else weights[~own]
        rest = LinearMixedModel(**model).fit(X[~own], y[~own], sample_weight=w)
        mean[own], std[own] = rest.predict(X[own], return_std=True)
    return mean, std


SLOPES = {"g": ["1", "x"]}
MODELS = {
    "slopes": {"random_effects": SLOPES},
    "ml": {"random_effects": SLOPES, "method": "ml"},
    "intercept": {"random_effects": "g"},
    "diagonal": {"random_effects": SLOPES, "covariance_type": "diagonal"},
    "spherical": {"random_effects": SLOPES, "covariance_type": "spherical"},
    "no fixed intercept": {"random_effects": SLOPES, "fit_intercept": False},
    "offset": {"random_effects": "g", "fixed_effects": ["w"], "offset": "x"},
    "three": {"random_effects": {"g": ["1", "x", "w"]}},
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("balanced", [True, False])
def test_predictions_equal_the_loop_of_fits(name, balanced):
    X, y = table(balanced=balanced)
    found = leave_one_group_out(LinearMixedModel(**MODELS[name]).fit(X, y), X=X, y=y)
    mean, std = loop(MODELS[name], "g", X, y)
    assert_allclose(found["prediction"], mean, rtol=1e-7, atol=1e-7)
    assert_allclose(found["std"], std, rtol=1e-6)
    assert list(found["fold"]) == list(X["g"])
    assert list(found.index) == list(X.index)


@pytest.mark.parametrize("name", ["slopes", "ml", "intercept", "diagonal", "spherical"])
def test_regular_folds_are_fitted_at_once(name, monkeypatch):
    X, y = table(n_groups=14)
    model = LinearMixedModel(**MODELS[name]).fit(X, y)
    monkeypatch.setattr(_left_out, "without_level", None)  # would be called for a fold of its own
    assert leave_one_group_out(model, X=X, y=y)["prediction"].notna().all()


@pytest.mark.parametrize("key, random_effects", [("a", ["a", "b"]), ("b", ["a", "b"])])
@pytest.mark.parametrize("method", ["reml", "ml"])
def test_crossed_factors_equal_the_loop(key, random_effects, method):
    X, y = crossed()
    arguments = {"random_effects": random_effects, "method": method}
    model = LinearMixedModel(**arguments).fit(X, y)
    found = leave_one_group_out(model, key, X, y)
    mean, std = loop(arguments, key, X, y)
    assert_allclose(found["prediction"], mean, rtol=1e-7, atol=1e-7)
    assert_allclose(found["std"], std, rtol=1e-6)


@pytest.mark.parametrize("key", ["a", "c"])
def test_nested_factors_equal_the_loop(key):
    X, y = nested()
    arguments = {"random_effects": ["a", "c"], "fixed_effects": ["x"]}
    found = leave_one_group_out(LinearMixedModel(**arguments).fit(X, y), key, X, y)
    mean, std = loop(arguments, key, X, y)
    assert_allclose(found["prediction"], mean, rtol=1e-7, atol=1e-7)
    assert_allclose(found["std"], std, rtol=1e-6)


@pytest.mark.parametrize("weight_type", ["frequency", "precision"])
@pytest.mark.parametrize("random_effects", [SLOPES, ["g", "h"]])
def test_weights_equal_the_loop(weight_type, random_effects):
    X, y = table(3)
    X["h"] = np.arange(len(X)) % 4
    weights = np.arange(len(X)) % 3 + 1.0
    arguments = {
        "random_effects": random_effects,
        "fixed_effects": ["x"],
        "weight_type": weight_type,
    }
    model = LinearMixedModel(**arguments).fit(X, y, sample_weight=weights)
    found = leave_one_group_out(model, "g", X, y, sample_weight=weights)
    mean, std = loop(arguments, "g", X, y, weights)
    assert_allclose(found["prediction"], mean, rtol=1e-7, atol=1e-7)
    assert_allclose(found["std"], std, rtol=1e-6)


def test_rows_of_weight_zero_are_predicted_and_not_learned_from():
    X, y = table()
    weights = np.ones(len(X))
    weights[::5] = 0
    stranger = X.iloc[[0]].assign(g=99)
    X, y, weights = pd.concat([X, stranger]), np.append(y, 0.0), np.append(weights, 0)
    model = LinearMixedModel("g").fit(X, y, sample_weight=weights)
    found = leave_one_group_out(model, X=X, y=y, sample_weight=weights)
    here = weights > 0
    few = leave_one_group_out(model, X=X[here], y=y[here])
    assert_allclose(found["prediction"][here], few["prediction"], rtol=1e-12)
    own = (X["g"] == X["g"].iloc[0]).to_numpy()
    rest = LinearMixedModel("g").fit(X[~own & here], y[~own & here])
    assert_allclose(found["prediction"][own], rest.predict(X[own]), rtol=1e-7)
    assert_allclose(found["prediction"].iloc[-1], model.predict(stranger)[0])
    assert found["fold"].isna().tolist() == [False] * (len(X) - 1) + [True]


def test_frequency_weights_are_repeated_rows():
    X, y = table()
    weights = np.arange(len(X)) % 3 + 1
    again = np.repeat(np.arange(len(X)), weights)
    many, ym = X.iloc[again], y[again]
    light = LinearMixedModel(SLOPES).fit(X, y, sample_weight=weights)
    heavy = LinearMixedModel(SLOPES).fit(many, ym)
    a = leave_one_group_out(light, X=X, y=y, sample_weight=weights)["prediction"].to_numpy()
    b = leave_one_group_out(heavy, X=many, y=ym)["prediction"].to_numpy()
    assert_allclose(a[again], b, rtol=1e-7)
    a = group_influence(light, X=X, y=y, sample_weight=weights).drop(columns="note")
    b = group_influence(heavy, X=many, y=ym).drop(columns="note")
    assert_allclose(a.astype(float), b.astype(float), rtol=1e-6)


def test_a_singular_fit_equals_the_loop():
    X, y = load_dyestuff2(return_X_y=True, as_frame=True)
    found = leave_one_group_out(LinearMixedModel("Batch").fit(X, y), X=X, y=y)
    mean, std = loop({"random_effects": "Batch"}, "Batch", X, y.to_numpy())
    assert_allclose(found["prediction"], mean, rtol=1e-7)
    assert_allclose(found["std"], std, rtol=1e-6)


def test_a_correlation_of_one_equals_the_loop():
    X, y = table(5)
    g, x = X["g"].to_numpy(), X["x"].to_numpy()
    y = 1 + x + np.random.default_rng(1).normal(size=40)[g] * (1 + 0.5 * x)
    y = y + np.random.default_rng(2).normal(size=len(y))
    model = LinearMixedModel(SLOPES).fit(X, y)
    assert np.linalg.matrix_rank(model.covariance_["g"], tol=1e-6) == 1
    found = leave_one_group_out(model, X=X, y=y)
    mean, std = loop({"random_effects": SLOPES}, "g", X, y)
    assert_allclose(found["prediction"], mean, rtol=1e-6, atol=1e-6)
    assert_allclose(found["std"], std, rtol=1e-5)


@pytest.mark.parametrize("loader, key", [(load_penicillin, "plate"), (load_pastes, "batch")])
def test_classic_data_equal_the_loop(loader, key):
    X, y = loader(return_X_y=True, as_frame=True)
    X = X.astype(str).drop(columns="sample" if key == "batch" else [])
    factors = ["plate", "sample"] if key == "plate" else ["batch", ("batch", "cask")]
    arguments = {"random_effects": factors}
    found = leave_one_group_out(LinearMixedModel(**arguments).fit(X, y), key, X, y)
    mean, std = loop(arguments, key, X, y.to_numpy())
    assert_allclose(found["prediction"], mean, rtol=1e-7)
    assert_allclose(found["std"], std, rtol=1e-6)


def test_it_is_scikit_learns_leave_one_group_out():
    X, y = load_sleepstudy(return_X_y=True, as_frame=True)
    pipeline = make_pipeline(FunctionTransformer(_hours), LinearMixedModel("Subject"))
    found = leave_one_group_out(pipeline.fit(X, y), X=X, y=y)
    theirs = cross_val_predict(pipeline, X, y, groups=X["Subject"], cv=LeaveOneGroupOut())
    assert_allclose(found["prediction"], theirs, rtol=1e-8)


def _hours(X):
    return X.assign(Days=24 * X["Days"])


def test_a_transformed_target_is_seen_as_the_model_saw_it():
    X, y = table()
    wrapped = TransformedTargetRegressor(
        LinearMixedModel(SLOPES), func=np.arcsinh, inverse_func=np.sinh
    )
    found = leave_one_group_out(wrapped.fit(X, y), X=X, y=y)
    inner = LinearMixedModel(SLOPES).fit(X, np.arcsinh(y))
    assert_allclose(
        found["prediction"], leave_one_group_out(inner, X=X, y=np.arcsinh(y)).iloc[:, 0]
    )


def test_one_of_several_outputs():
    X, y = table()
    both = np.column_stack([y**2, y])
    model = LinearMixedModel(SLOPES).fit(X, both)
    alone = LinearMixedModel(SLOPES).fit(X, y)
    found = leave_one_group_out(model, X=X, y=both, output=1)
    expected = leave_one_group_out(alone, X=X, y=y)
    assert_allclose(found["prediction"], expected["prediction"], rtol=1e-6)
    a, b = group_influence(model, X=X, y=both, output=1), group_influence(alone, X=X, y=y)
    assert_allclose(a["cooks_distance"], b["cooks_distance"], rtol=1e-5)
    with pytest.raises(ValueError, match="2 outputs: choose one"):
        leave_one_group_out(model, X=X, y=both)


def dense_without(model, X, y, key, level):
    """The oracle at the covariance of all rows, without the rows of a level."""
    rows = read_columns(model, X, model._columns)
    stay = (X[key] != level).to_numpy()
    design = np.column_stack([np.ones(len(X)), rows.X])[stay]
    terms = [
        (codes[stay], len(model.levels_[k]), z[stay], model.covariance_[k] / s2)
        for codes, z, k, s2 in zip(
            rows.codes,
            rows.slopes,
            model.levels_,
            [model.residual_variance_] * len(rows.codes),
            strict=True,
        )
    ]
    return Dense(design, y[stay], terms), rows, stay


@pytest.mark.parametrize(
    "data, random_effects, key",
    [(table, SLOPES, "g"), (crossed, ["a", "b"], "a"), (nested, ["a", "c"], "a")],
)
def test_frozen_variances_equal_dense_algebra(data, random_effects, key):
    X, y = data()
    fixed = ["x", "w"] if "w" in X else ["x"]
    model = LinearMixedModel(random_effects, fixed_effects=fixed).fit(X, y)
    s2, p = model.residual_variance_, len(fixed) + 1
    found = leave_one_group_out(model, key, X, y, theta="frozen")
    measures = group_influence(model, key, X, y)
    beta = np.append(model.intercept_, model.coef_)
    V = np.linalg.inv(dense_without(model, X, y, key, "nobody")[0].XtHX) * s2
    for level in model.levels_[key]:
        rest, rows, stay = dense_without(model, X, y, key, level)
        one, C = measures.loc[level], np.linalg.inv(rest.XtHX) * s2
        d = beta - rest.beta
        assert one["n_rows"] == (~stay).sum()
        assert_allclose(one["cooks_distance"], d @ np.linalg.solve(V, d) / p, rtol=1e-6)
        assert_allclose(one["mdffits"], d @ np.linalg.solve(C, d) / p, rtol=1e-6)
        assert_allclose(one["covratio"], np.linalg.det(C) / np.linalg.det(V), rtol=1e-6)
        names = [f"dfbeta {name}" for name in ["(Intercept)", *fixed]]
        assert_allclose(one[names].astype(float), d / np.sqrt(np.diag(C)), rtol=1e-5, atol=1e-9)
        new = [
            (np.where(c[~stay] >= 0, c[~stay], -1), z[~stay])
            for c, z in zip(rows.codes, rows.slopes, strict=True)
        ]
        t = list(model.levels_).index(key)
        new[t] = (np.full((~stay).sum(), -1), new[t][1])
        x = np.column_stack([np.ones(len(X)), rows.X])[~stay]
        at = (X[key] == level).to_numpy()
        assert_allclose(found["prediction"][at], rest.predict(x, new), rtol=1e-8, atol=1e-8)
        variance = rest.prediction_variance(x, new) / rest.sigma2 * s2
        assert_allclose(found["std"][at] ** 2, variance, rtol=1e-6)


@pytest.mark.parametrize("data, key", [(table, "g"), (crossed, "a")])
def test_influence_with_refitted_variances_equals_the_loop(data, key):
    X, y = data()
    random_effects = SLOPES if key == "g" else ["a", "b"]
    model = LinearMixedModel(random_effects).fit(X, y)
    found = group_influence(model, key, X, y, theta="refit")
    whole = coefficient_table(model, dof="normal")
    for level in model.levels_[key]:
        stay = (X[key] != level).to_numpy()
        rest = coefficient_table(
            LinearMixedModel(random_effects).fit(X[stay], y[stay]), dof="normal"
        )
        change = (whole["estimate"] - rest["estimate"]) / rest["std_error"]
        ours = found.loc[level, [f"dfbeta {name}" for name in whole.index]].astype(float)
        assert_allclose(ours, change, rtol=1e-5, atol=1e-7)


def test_rows_are_not_needed_where_the_slopes_span_the_fixed_part():
    X, y = load_sleepstudy(return_X_y=True, as_frame=True)
    model = LinearMixedModel({"Subject": ["1", "Days"]}).fit(X, y)
    with_rows, without = group_influence(model, X=X, y=y), group_influence(model)
    pd.testing.assert_frame_equal(with_rows, without, rtol=1e-7, check_dtype=False)
    with pytest.raises(ValueError, match='theta="refit" needs the rows'):
        group_influence(model, theta="refit")
    with pytest.raises(ValueError, match="where a fixed column is not a random slope too"):
        group_influence(LinearMixedModel("Subject").fit(X, y))
    with pytest.raises(ValueError, match="with several factors needs the rows"):
        group_influence(LinearMixedModel(["Subject", "Days"]).fit(X, y), "Subject")


def test_measures_do_not_depend_on_units():
    X, y = table()
    plain = group_influence(LinearMixedModel(SLOPES).fit(X, y), X=X, y=y, theta="refit")
    X = X.assign(x=2000 + 0.001 * X["x"], w=1e6 * X["w"])
    y = 1e5 - 30 * y
    moved = group_influence(LinearMixedModel(SLOPES).fit(X, y), X=X, y=y, theta="refit")
    for name in ("cooks_distance", "mdffits", "covratio"):
        assert_allclose(moved[name], plain[name], rtol=1e-5)
    assert_allclose(moved["dfbeta x"], -plain["dfbeta x"], rtol=1e-5, atol=1e-7)


def test_the_order_of_the_rows_does_not_matter():
    X, y = table()
    again = np.random.default_rng(0).permutation(len(X))
    a = leave_one_group_out(LinearMixedModel(SLOPES).fit(X, y), X=X, y=y)["prediction"]
    other = LinearMixedModel(SLOPES).fit(X.iloc[again], y[again])
    b = leave_one_group_out(other, X=X.iloc[again], y=y[again])["prediction"]
    assert_allclose(a.iloc[again], b, rtol=1e-8)


@pytest.mark.parametrize("theta", ["refit", "frozen"])
@pytest.mark.parametrize("second", [False, True])
def test_a_column_that_only_one_level_tells_is_named(theta, second):
    X, y = table()
    X["only"] = (X["g"] == 2) * X["x"]
    X["h"] = np.arange(len(X)) % 4
    random_effects = ["g", "h"] if second else "g"
    model = LinearMixedModel(random_effects, fixed_effects=["x", "only"]).fit(X, y)
    found = leave_one_group_out(model, "g", X, y, theta=theta)
    notes = found.groupby("fold")["note"].first()
    assert notes[2] == "without this level only cannot be estimated"
    assert (notes.drop(2) == "").all()
    if theta == "refit":
        arguments = {"random_effects": random_effects, "fixed_effects": ["x", "only"]}
        assert_allclose(found["prediction"], loop(arguments, "g", X, y)[0], rtol=1e-7, atol=1e-7)
    measures = group_influence(model, "g", X, y, theta=theta)
    assert measures.loc[2].drop(["n_rows", "note"]).isna().all()
    assert measures.drop(2).drop(columns="note").notna().all().all()


def test_a_variance_that_only_one_level_tells_is_named():
    X = pd.DataFrame({"g": [0, 0, 0, 1, 2, 3, 4, 5], "x": np.arange(8.0)})
    y = np.array([1.0, 2, 1, 3, 2, 5, 3, 6])
    model = LinearMixedModel("g").fit(X, y)
    found = leave_one_group_out(model, X=X, y=y)
    assert found["note"].iloc[0] == (
        "without this level the variance of (Intercept) by g is not identified"
    )
    assert (found["note"].iloc[3:] == "").all()
    assert found["prediction"].notna().all()


def test_a_level_without_which_nothing_can_be_fitted_is_named():
    X = pd.DataFrame({"g": [0] * 8 + [1, 2], "x": np.arange(10.0)})
    y = np.sin(np.arange(10.0))
    found = leave_one_group_out(LinearMixedModel("g").fit(X, y), X=X, y=y)
    assert "2 sample(s) cannot determine 2 fixed effects" in found["note"].iloc[0]
    assert found["prediction"].isna().tolist() == [True] * 8 + [False] * 2
    measures = group_influence(LinearMixedModel("g").fit(X, y), X=X, y=y, theta="refit")
    assert measures["cooks_distance"].isna().tolist() == [True, False, False]


def test_a_dropped_column_stays_out():
    X, y = table()
    X["twice"] = 2 * X["x"]
    plain = group_influence(LinearMixedModel("g", fixed_effects=["x"]).fit(X, y), X=X, y=y)
    model = LinearMixedModel("g", fixed_effects=["x", "twice"]).fit(X, y)
    found = group_influence(model, X=X, y=y)
    assert found["dfbeta twice"].isna().all() and (found["note"] == "").all()
    assert_allclose(found["cooks_distance"], plain["cooks_distance"])


def test_combinations_are_levels():
    X, y = nested()
    model = LinearMixedModel(["a", ("a", "b")], fixed_effects=["x"]).fit(X, y)
    found = group_influence(model, ("a", "b"), X, y)
    assert found.index.names == ["a", "b"] and found.index.is_unique
    folds = leave_one_group_out(model, ("a", "b"), X, y)["fold"]
    assert list(folds) == list(zip(X["a"], X["b"], strict=True))


def test_a_fold_that_does_not_converge_is_fitted_alone(monkeypatch):
    X, y = table()
    model = LinearMixedModel(SLOPES).fit(X, y)
    expected = leave_one_group_out(model, X=X, y=y)
    at_once = leave_out.minimise

    def stop_early(*args, **kwargs):
        return at_once(*args, **{**kwargs, "max_iter": 0})

    monkeypatch.setattr(leave_out, "minimise", stop_early)
    found = leave_one_group_out(model, X=X, y=y)
    assert_allclose(found["prediction"], expected["prediction"], rtol=1e-7)


def test_bad_input_is_told():
    X, y = table()
    model = LinearMixedModel(SLOPES).fit(X, y)
    with pytest.raises(ValueError, match="leave_one_group_out needs the rows"):
        leave_one_group_out(model)
    with pytest.raises(ValueError, match="are not the rows that the model was fitted to"):
        leave_one_group_out(model, X=X, y=y + 1)
    with pytest.raises(ValueError, match="are not the rows that the model was fitted to"):
        group_influence(model, X=X[1:], y=y[1:])
    with pytest.raises(ValueError, match="are not the rows that the model was fitted to"):
        group_influence(model, X=X.assign(g=-X["g"]), y=y)
    with pytest.raises(ValueError, match="no factor 'h': 'g'"):
        group_influence(model, "h", X, y)
    with pytest.raises(ValueError, match="theta is 'free'"):
        group_influence(model, X=X, y=y, theta="free")
    with pytest.raises(ValueError, match="no random effects"):
        group_influence(LinearMixedModel(fixed_effects=["x"]).fit(X, y), X=X, y=y)
    with pytest.warns(UserWarning, match="one level"):
        one = LinearMixedModel("g").fit(X.assign(g=0), y)
    with pytest.raises(ValueError, match="g has one level"):
        leave_one_group_out(one, X=X.assign(g=0), y=y)


def test_a_model_that_has_adapted_is_refused():
    X, y = load_sleepstudy(return_X_y=True, as_frame=True)
    old = X["Subject"] != 308
    model = LinearMixedModel({"Subject": ["1", "Days"]}).fit(X[old], y[old])
    adapted = model.adapt(X[~old], y[~old])
    with pytest.raises(ValueError, match="not adapted to others"):
        leave_one_group_out(adapted, X=X[old], y=y[old])
    with pytest.raises(ValueError, match="not adapted to others"):
        group_influence(adapted)


@pytest.mark.parametrize("weight_type", [None, "frequency", "precision"])
@pytest.mark.parametrize("key", ["g", "h"])
def test_deletion_at_once_equals_the_fits_without_each_level(weight_type, key, monkeypatch):
    X, y = table(3)
    X["h"] = np.arange(len(X)) % 4
    weights = None if weight_type is None else np.arange(len(X)) % 3 + 1.0
    model = LinearMixedModel(
        {"g": ["1", "x"], "h": ["1"]}, weight_type=weight_type or "frequency", method="ml"
    ).fit(X, y, sample_weight=weights)
    rows = {"X": X, "y": y, "sample_weight": weights}
    at_once = leave_one_group_out(model, key, theta="frozen", **rows)
    influence_at_once = group_influence(model, key, **rows)
    monkeypatch.setattr(deleted, "MOST", 0)
    one_by_one = leave_one_group_out(model, key, theta="frozen", **rows)
    assert_allclose(at_once["prediction"], one_by_one["prediction"], rtol=1e-8, atol=1e-10)
    assert_allclose(at_once["std"], one_by_one["std"], rtol=1e-7)
    again = group_influence(model, key, **rows)
    assert_allclose(
        influence_at_once.drop(columns="note").astype(float),
        again.drop(columns="note").astype(float),
        rtol=1e-6,
        atol=1e-9,
    )


def test_rows_of_weight_zero_with_several_factors_and_frozen_variances():
    X, y = table(3)
    X["h"] = np.arange(len(X)) % 4
    weights = np.where(np.arange(len(X)) % 6, 1.0, 0.0)
    model = LinearMixedModel(["g", "h"]).fit(X, y, sample_weight=weights)
    found = leave_one_group_out(model, "g", X, y, theta="frozen", sample_weight=weights)
    here = weights > 0
    few = leave_one_group_out(model, "g", X[here], y[here], theta="frozen")
    assert_allclose(found["prediction"][here], few["prediction"], rtol=1e-9)
    assert found.notna().all().all()
