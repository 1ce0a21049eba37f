"""What every model promises, whatever it estimates: groups in X, adapt, weights, pickling, ...

`TABLE` says for each class of the package which configured instances are tested and on which data;
a class that is exported and not listed fails the first test.
"""

import inspect
import pickle
import warnings
from dataclasses import is_dataclass

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import sklme
from sklme import (
    GeneralizedLinearMixedModel,
    LinearMixedModel,
    LogisticMixedModel,
    OrdinalMixedModel,
)

SHARP = 1e-9  # tolerance of searches that are compared
COLUMNS = ["age", "site", "dose", "rater", "room"]
METHODS = ("predict", "predict_population", "predict_interval")
METHODS += ("predict_linear", "predict_proba", "decision_function")
BY_OUTPUT = ("coef_", "intercept_", "random_effects_", "covariance_", "theta_")
BY_OUTPUT += ("residual_variance_", "log_likelihood_")
FROZEN = ("coef_", "intercept_", "covariance_", "theta_", "log_likelihood_")


def regression_data(n_samples=160, seed=0):
    """Rows of 8 sites, 5 raters and rooms numbered from 1 in every site; ids are text."""
    rng = np.random.default_rng(seed)
    site, rater = np.arange(n_samples) % 8, rng.integers(5, size=n_samples)
    room = rng.integers(3, size=n_samples)
    X = pd.DataFrame(
        {
            "age": rng.normal(50, 10, n_samples),
            "site": [f"site {i}" for i in site],
            "dose": rng.uniform(0, 4, n_samples),
            "rater": [f"rater {i}" for i in rater],
            "room": [f"room {i + 1}" for i in room],
        }
    )
    y = 0.1 * X["age"] + X["dose"] * (1 + rng.normal(0, 0.7, 8)[site]) + rng.normal(0, 2, 8)[site]
    y += rng.normal(0, 1, 5)[rater] + rng.normal(0, 1, (8, 3))[site, room]
    return X, y + rng.normal(0, 1, n_samples)


def count_data(n_samples=160, seed=0):
    """Counts on the rows of `regression_data`."""
    X, y = regression_data(n_samples, seed)
    return X, pd.Series(np.random.default_rng(1).poisson(np.exp(0.2 * y - 1)), dtype=float)


def class_data(n_samples=160, seed=0):
    """Two classes with names on the rows of `regression_data`."""
    X, y = regression_data(n_samples, seed)
    noise = np.random.default_rng(1).logistic(scale=2, size=n_samples)
    return X, pd.Series(np.where(y + noise > 7, "yes", "no"))


def ordered_data(n_samples=160, seed=0):
    """Four ordered classes on the rows of `regression_data`."""
    X, y = regression_data(n_samples, seed)
    noise = np.random.default_rng(1).logistic(scale=2, size=n_samples)
    return X, pd.Series(np.digitize(y + noise, [4, 7, 10]))


def linear(site=(), rater=(), rooms=(), **options):
    """A linear model of these terms."""
    return with_terms(LinearMixedModel, site, rater, rooms, **options)


def with_terms(kind, site=(), rater=(), rooms=(), **options):
    """A model with these terms; the columns of factors without terms are left out."""
    random_effects = {"site": list(site), "rater": list(rater), ("site", "room"): list(rooms)}
    if not rooms:
        del random_effects["site", "room"]
        random_effects["room"] = []
    return kind(random_effects, **options)


# class: (data, {name: instance}); the first instance has one factor with an intercept
TABLE = {
    LinearMixedModel: (
        regression_data,
        {
            "intercept": linear(["1"]),
            "slope": linear(["1", "dose"]),
            "slope without intercept": linear(["dose"], fixed_effects=["age"]),
            "diagonal": linear(["1", "dose"], covariance_type="diagonal"),
            "spherical": linear(["1", "dose"], covariance_type="spherical"),
            "blocks": linear(
                ["1", "dose", "age"], covariance_type={"site": [["1", "dose"], ["age"]]}
            ),
            "crossed": linear(["1", "dose"], ["1"]),
            "nested": linear(["1"], rooms=["1"]),
            "nested and crossed": linear(["1"], ["1"], ["1"]),
            "no coefficient at all": linear(["1"], fixed_effects=[], fit_intercept=False),
            "ml": linear(["1", "dose"], method="ml"),
            "precision": linear(["1"], weight_type="precision"),
            "offset": linear(["1"], offset="age"),
            "no random effects": linear(),
        },
    ),
    GeneralizedLinearMixedModel: (
        count_data,
        {
            "intercept": with_terms(GeneralizedLinearMixedModel, ["1"], tol=SHARP),
            "slope": with_terms(GeneralizedLinearMixedModel, ["1", "dose"], tol=SHARP),
            "crossed": with_terms(GeneralizedLinearMixedModel, ["1"], ["1"], tol=SHARP),
            "nested": with_terms(GeneralizedLinearMixedModel, ["1"], rooms=["1"], tol=SHARP),
            "nb2": with_terms(GeneralizedLinearMixedModel, ["1"], family="nb2", tol=SHARP),
            "zeros": with_terms(
                GeneralizedLinearMixedModel, ["1"], zero_inflation=["dose"], tol=SHARP
            ),
            "no random effects": with_terms(GeneralizedLinearMixedModel, tol=SHARP),
        },
    ),
    LogisticMixedModel: (
        class_data,
        {
            "intercept": with_terms(LogisticMixedModel, ["1"], tol=SHARP),
            "slope": with_terms(LogisticMixedModel, ["1", "dose"], tol=SHARP),
            "probit": with_terms(LogisticMixedModel, ["1"], link="probit", tol=SHARP),
            "crossed": with_terms(LogisticMixedModel, ["1"], ["1"], tol=SHARP),
            "balanced": with_terms(LogisticMixedModel, ["1"], class_weight="balanced", tol=SHARP),
            "offset": with_terms(LogisticMixedModel, ["1"], offset="dose", tol=SHARP),
        },
    ),
    OrdinalMixedModel: (
        ordered_data,
        {
            "intercept": with_terms(OrdinalMixedModel, ["1"], tol=SHARP),
            "crossed": with_terms(OrdinalMixedModel, ["1"], ["1"], tol=SHARP),
        },
    ),
}
# Whether a y of several columns is several outputs, else it is refused.
SEVERAL_OUTPUTS = {
    LinearMixedModel: True,
    GeneralizedLinearMixedModel: False,
    LogisticMixedModel: False,
    OrdinalMixedModel: False,
}
# How far adapt in two parts may be from adapt at once, in standard deviations of what is predicted:
# a linear model keeps all there is to know of a level, the others a normal approximation.
IN_PARTS = {
    LinearMixedModel: 0.0,
    GeneralizedLinearMixedModel: 0.5,
    LogisticMixedModel: 0.5,
    OrdinalMixedModel: 0.5,
}
# What tells a model whose effects of unseen levels are zero.
KNOWN = {
    LinearMixedModel: ("predict", "predict_population"),
    GeneralizedLinearMixedModel: ("predict", "predict_population"),
    LogisticMixedModel: ("predict_proba", "predict_population"),
    OrdinalMixedModel: ("predict_proba", "predict_population"),
}
# Further attributes that adapt leaves alone.
ALSO_FROZEN = {
    LinearMixedModel: ("residual_variance_",),
    GeneralizedLinearMixedModel: ("dispersion_", "power_", "zero_intercept_", "zero_coef_"),
    LogisticMixedModel: ("classes_",),
    OrdinalMixedModel: ("classes_", "thresholds_"),
}

CASES = [
    pytest.param(estimator, data, id=f"{cls.__name__}-{name}")
    for cls, (data, estimators) in TABLE.items()
    for name, estimator in estimators.items()
]
every_model = pytest.mark.parametrize("estimator, data", CASES)
every_class = pytest.mark.parametrize(
    "estimator, data",
    [pytest.param(next(iter(e.values())), data, id=c.__name__) for c, (data, e) in TABLE.items()],
)


def keys(model):
    """Columns whose ids the model knows."""
    levels = model.levels_
    return list(dict.fromkeys(c for k in levels for c in (k if isinstance(k, tuple) else (k,))))


def methods(model):
    return [name for name in METHODS if hasattr(model, name)]


def fitted_state(model):
    """Everything public that fit has learned, to the last bit."""
    return {k: bits(v) for k, v in vars(model).items() if k.endswith("_")}


def bits(value):
    if isinstance(value, np.ndarray):
        data = value.tolist() if value.dtype == object else value.tobytes()
        return value.shape, value.dtype.str, data
    if isinstance(value, dict):
        return {k: bits(v) for k, v in value.items()}
    return bits(vars(value)) if is_dataclass(value) else value


def answers(model, X):
    """What each predict-like method says of the rows, and the standard deviation."""
    out = {name: getattr(model, name)(X) for name in methods(model)}
    for name in out.copy():
        if "return_std" in inspect.signature(getattr(model, name)).parameters:
            out[f"std of {name}"] = getattr(model, name)(X, return_std=True)[1]
    return out


def on_the_scale_of_effects(model, X):
    """Predictions to which the effects of levels are added, and their standard deviations."""
    return getattr(model, "predict_linear", model.predict)(X, return_std=True)


def assert_close(a, b, rtol, atol, name):
    if np.asarray(a).dtype.kind in "fiu":
        assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=name)
    else:
        assert_array_equal(a, b, err_msg=name)


def assert_same_answers(a, b, X, rtol=1e-9, X_b=None):
    theirs = answers(b, X if X_b is None else X_b)
    for name, value in answers(a, X).items():
        assert_close(value, theirs[name], rtol, rtol, name)


def test_every_estimator_is_in_the_table():
    exported = [getattr(sklme, name) for name in sklme.__all__]
    classes = {c for c in exported if inspect.isclass(c) and issubclass(c, BaseEstimator)}
    promises = TABLE, SEVERAL_OUTPUTS, IN_PARTS, KNOWN, ALSO_FROZEN
    assert all(classes == set(promise) for promise in promises)


# Levels that fit has not seen ------------------------------------------------------------------


@every_model
def test_unseen_levels_get_the_population(estimator, data):
    X, y = data()
    model = clone(estimator).set_params(handle_unknown="population").fit(X, y)
    new = X.assign(**dict.fromkeys(keys(model), "elsewhere"))
    predict, population = KNOWN[type(model)]
    assert_array_equal(getattr(model, predict)(new), getattr(model, population)(X))


@every_model
def test_one_unseen_level_leaves_the_effects_of_the_others(estimator, data):
    X, y = data()
    model = clone(estimator).fit(X, y)
    single = [key for key in model.levels_ if not isinstance(key, tuple)]
    here, nowhere = (
        X.assign(**dict.fromkeys(columns, "elsewhere")) for columns in (["site"], keys(model))
    )
    rest = on_the_scale_of_effects(model, here)[0] - on_the_scale_of_effects(model, nowhere)[0]
    expected = np.zeros(len(X))
    if "rater" in single:
        where = pd.Index(model.levels_["rater"]).get_indexer(X["rater"])
        expected = model.random_effects_["rater"][where, 0]
    assert_allclose(rest, expected, atol=1e-12)


@every_model
def test_unseen_levels_widen_the_standard_deviation(estimator, data):
    X, y = data()
    model = clone(estimator).fit(X, y)
    _, known = on_the_scale_of_effects(model, X)
    _, new = on_the_scale_of_effects(model, X.assign(site="elsewhere"))
    assert np.all(new >= known) if "site" not in keys(model) else np.all(new > known)


@every_model
def test_unseen_levels_are_refused_on_demand(estimator, data):
    X, y = data()
    model = clone(estimator).set_params(handle_unknown="error").fit(X, y)
    for column in keys(model):
        strange = X.copy()
        strange.loc[7, column] = "elsewhere"
        for name in set(methods(model)) - {"predict_population"}:
            with pytest.raises(ValueError, match=f'"{column}".*"elsewhere".*row 7'):
                getattr(model, name)(strange)
        assert_array_equal(model.predict_population(strange), model.predict_population(X))


@every_class
def test_a_level_of_another_family_is_refused(estimator, data):
    X, y = data()
    model = clone(estimator).fit(X, y)
    with pytest.raises(ValueError, match=r'column "site".*family text.*number.*308'):
        model.predict(X.assign(site=308))


# adapt -----------------------------------------------------------------------------------------


@every_model
def test_adapt_returns_a_copy_with_frozen_parameters(estimator, data):
    X, y = data()
    known = (X["site"] != "site 3").to_numpy()
    model = clone(estimator).fit(X[known], y[known])
    before, said = fitted_state(model), answers(model, X)
    adapted = model.adapt(X, y)
    assert fitted_state(model) == before
    for name, value in answers(model, X).items():
        assert_array_equal(value, said[name])
    assert adapted is not model and type(adapted) is type(model)
    for name in (*FROZEN, *ALSO_FROZEN[type(model)]):
        assert bits(getattr(adapted, name)) == bits(getattr(model, name)), name
    assert_array_equal(adapted.predict_population(X), model.predict_population(X))
    for key in model.levels_:
        n_known = len(model.levels_[key])
        assert_array_equal(adapted.levels_[key][:n_known], model.levels_[key])
    if "site" in keys(model):
        assert "site 3" in adapted.levels_["site"]
        adapted.set_params(handle_unknown="error").predict(X)


@every_model
def test_adapt_accumulates(estimator, data):
    """adapt(a) then adapt(b) is adapt(a + b), for levels old and new, in any order.

    `IN_PARTS` says how nearly.
    """
    X, y = data()
    first = (X["site"] < "site 6").to_numpy() & (X["age"] < 55).to_numpy()
    model = clone(estimator).fit(X[first], y[first])
    X, y = X[~first], y[~first]
    a, b = slice(0, 40), slice(40, None)
    at_once = model.adapt(X, y)
    in_parts = (
        model.adapt(X[a], y[a]).adapt(X[b], y[b]),
        model.adapt(X[b], y[b]).adapt(X[a], y[a]),
    )
    expected, std = on_the_scale_of_effects(at_once, X)
    for other in in_parts:
        found, _ = on_the_scale_of_effects(other, X)
        if IN_PARTS[type(model)]:
            assert np.all(np.abs(found - expected) <= IN_PARTS[type(model)] * std)
        else:
            assert_same_answers(other, at_once, X, rtol=1e-10)


@every_model
def test_adapt_changes_no_answer_about_other_new_levels(estimator, data):
    X, y = data()
    known = (X["site"] < "site 6").to_numpy()
    model = clone(estimator).fit(X[known], y[known])
    adapted = model.adapt(X[~known], y[~known])
    new = X.assign(**dict.fromkeys(keys(model), "elsewhere"))
    assert_same_answers(model, adapted, new, rtol=1e-12)


@every_model
def test_adapt_knows_weights(estimator, data):
    X, y = data()
    known = (X["site"] < "site 6").to_numpy()
    model = clone(estimator).fit(X[known], y[known])
    X, y = X[~known], y[~known]
    predict, _ = KNOWN[type(model)]
    said = lambda adapted: getattr(adapted, predict)(X)
    twice = model.adapt(pd.concat([X, X]), np.tile(y, 2))
    doubled = model.adapt(X, y, sample_weight=np.full(len(X), 2.0))
    assert_allclose(said(doubled), said(twice), rtol=1e-10)
    some = np.arange(len(X)) % 2 == 0
    zeroed = model.adapt(X, y, sample_weight=some.astype(float))
    assert_allclose(said(zeroed), said(model.adapt(X[some], y[some])), rtol=1e-12)


@every_model
def test_an_adapted_model_can_be_pickled_cloned_and_refitted(estimator, data):
    X, y = data()
    known = (X["site"] < "site 6").to_numpy()
    adapted = clone(estimator).fit(X[known], y[known]).adapt(X[~known], y[~known])
    assert_same_answers(pickle.loads(pickle.dumps(adapted)), adapted, X, rtol=1e-15)
    assert fitted_state(adapted.fit(X, y)) == fitted_state(clone(adapted).fit(X, y))


# Rows are on their own -------------------------------------------------------------------------


@every_model
def test_a_row_is_predicted_alike_alone_and_in_a_table(estimator, data):
    X, y = data()
    known = (X["site"] < "site 6").to_numpy()
    model = clone(estimator).fit(X[known], y[known])
    together = answers(model, X)
    for i in (0, 6, 31):  # sites 6 and 7 are new
        for name, alone in answers(model, X.iloc[[i]]).items():
            assert_close(alone[0], together[name][i], 1e-12, 1e-12, name)


@every_model
def test_rows_are_predicted_in_any_order(estimator, data):
    X, y = data()
    known = (X["site"] < "site 6").to_numpy()
    model = clone(estimator).fit(X[known], y[known])
    order = np.random.default_rng(0).permutation(len(X))[:100]
    shuffled = answers(model, X.iloc[order])
    for name, value in answers(model, X).items():
        assert_close(shuffled[name], value[order], 1e-12, 1e-12, name)


# Weights ---------------------------------------------------------------------------------------


@every_model
def test_a_weight_of_two_is_the_row_twice(estimator, data):
    if estimator.get_params().get("weight_type") == "precision":
        pytest.skip("precisions are no frequencies")
    X, y = data()
    weights = np.random.default_rng(0).integers(1, 4, len(X))
    model = clone(estimator).fit(X, y, sample_weight=weights)
    repeated = clone(estimator).fit(X.loc[X.index.repeat(weights)], np.repeat(y, weights))
    assert_same_answers(model, repeated, X, rtol=1e-6)
    assert_allclose(model.log_likelihood_, repeated.log_likelihood_, rtol=1e-10)


@every_model
def test_a_weight_of_zero_is_no_row(estimator, data):
    """Levels that have only such rows are not known."""
    X, y = data()
    here = (X["site"] != "site 5").to_numpy() & (np.arange(len(X)) % 7 > 0)
    model = clone(estimator).fit(X, y, sample_weight=here.astype(float))
    without = clone(estimator).fit(X[here], y[here], sample_weight=np.ones(here.sum()))
    assert_same_answers(model, without, X, rtol=1e-12)
    assert_allclose(model.log_likelihood_, without.log_likelihood_, rtol=1e-12)
    for key, levels in model.levels_.items():
        assert_array_equal(levels, without.levels_[key])
        assert "site 5" not in levels


@every_model
def test_weights_of_one_are_no_weights(estimator, data):
    X, y = data()
    model = clone(estimator).fit(X, y)
    assert_same_answers(model, clone(estimator).fit(X, y, sample_weight=np.ones(len(X))), X)


# What is kept ----------------------------------------------------------------------------------


@every_model
def test_pickles_answer_alike(estimator, data):
    X, y = data()
    model = clone(estimator).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    assert fitted_state(again) == fitted_state(model)
    new = X.assign(site="elsewhere")
    for table in (X, new):
        for name, value in answers(model, table).items():
            assert_array_equal(answers(again, table)[name], value)
    assert_same_answers(again.adapt(new, y), model.adapt(new, y), new, rtol=1e-15)


@every_model
def test_no_rows_are_kept(estimator, data):
    X, y = data(1000)  # so many that every pair of levels occurs
    small = len(pickle.dumps(clone(estimator).fit(X, y)))
    X, y = data(20_000)
    large = len(pickle.dumps(clone(estimator).fit(X, y)))
    assert large < small + 100


@every_model
def test_fitted_attributes_have_an_underscore(estimator, data):
    X, y = data()
    model = clone(estimator).fit(X, y)
    parameters = model.get_params(deep=False)
    plain = [n for n in vars(model) if not n.startswith("_") and not n.endswith("_")]
    assert set(plain) == set(parameters)
    assert not [n for n in vars(clone(estimator)) if n not in parameters]


@every_model
def test_repr_is_short(estimator, data):
    assert len(repr(clone(estimator).fit(*data()))) < 250
    assert repr(type(estimator)()) == f"{type(estimator).__name__}()"


@every_model
def test_a_refit_gives_the_same_bits(estimator, data):
    X, y = data()
    model = clone(estimator).fit(X, y)
    state = fitted_state(model)
    assert fitted_state(clone(estimator).fit(X.copy(), y.copy())) == state
    model.fit(X.iloc[:50], y[:50])
    assert fitted_state(model.fit(X, y)) == state


@every_model
def test_nothing_that_is_given_is_changed(estimator, data):
    X, y = data()
    weights, estimator = np.linspace(1, 2, len(X)), clone(estimator)
    given = (X, y, weights, estimator.get_params(deep=False))
    before = joblib.hash(given)
    model = estimator.fit(X, y, sample_weight=weights)
    model.adapt(X, y, sample_weight=weights)
    answers(model, X)
    assert joblib.hash((X, y, weights, model.get_params(deep=False))) == before


@every_class
def test_read_only_arrays_will_do(estimator, data):
    X, y = data()
    numbers = np.column_stack([X["age"], np.unique(X["site"], return_inverse=True)[1]])
    arrays = [numbers, y.to_numpy().copy(), np.ones(len(y))]
    for array in arrays:
        array.flags.writeable = False
    model = clone(estimator).set_params(random_effects=1).fit(*arrays)
    predict, _ = KNOWN[type(model)]
    assert np.isfinite(getattr(model.adapt(*arrays), predict)(numbers)).all()


# Parameters ------------------------------------------------------------------------------------

FORMS = [
    None,
    "site",
    1,
    -4,
    ["site", "rater"],
    [1, 3],
    ("site", "room"),
    (1, 4),
    ["site", ("site", "room")],
    {"site": ["1", "dose"]},
    {1: ["1", 2]},
    {"site": ["1"], ("site", "room"): ["1"]},
    {"site": [], "rater": ["dose"]},
]


@every_class
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_form_of_random_effects_can_be_cloned_and_set(estimator, data, form):
    made = type(estimator)(random_effects=form)
    assert clone(made).get_params()["random_effects"] == form
    assert clone(made) is not made
    assert type(estimator)().set_params(random_effects=form).random_effects is form
    with pytest.raises(NotFittedError):
        clone(made).predict(data()[0])


@every_class
@pytest.mark.parametrize("form", FORMS[1:], ids=str)
def test_every_form_of_random_effects_can_be_fitted(estimator, data, form):
    X, y = data()
    used = str(form)
    by_position = not any(f"'{name}'" in used for name in COLUMNS) and form != "site"
    if by_position:
        X = X.apply(lambda c: pd.factorize(c)[0] if c.name in ("site", "rater", "room") else c)
        X = X.to_numpy(dtype=float)
    else:
        X = X[[c for c in COLUMNS if c in ("age", "dose") or c in used]]
    model = clone(estimator).set_params(random_effects=form).fit(X, y)
    assert fitted_state(clone(model).fit(X, y)) == fitted_state(model)
    assert model.random_effects is form
    named = [k for k, v in form.items() if v] if isinstance(form, dict) else form
    expected = named if isinstance(named, list) else [named]
    assert list(model.levels_) == expected == list(model.random_effects_)


@every_class
def test_parameters_can_be_changed_after_fit(estimator, data):
    """set_params counts in the next fit; predictions and adapt go on as fitted."""
    X, y = data()
    model = clone(estimator).fit(X, y)
    before, new = answers(model, X), X.assign(site="elsewhere")
    adapted = model.adapt(new, y)
    changed = {"random_effects": "rater", "fixed_effects": ["dose"]}
    changed |= {"fit_intercept": False} if "fit_intercept" in model.get_params() else {}
    model.set_params(**changed)
    for name, value in answers(model, X).items():
        assert_array_equal(value, before[name])
    assert_same_answers(model.adapt(new, y), adapted, new, rtol=1e-12)
    assert list(model.fit(X.drop(columns=["site", "room"]), y).levels_) == ["rater"]


# Tables and outputs ----------------------------------------------------------------------------


def by_position(estimator):
    """The same model for a table without names."""
    at = COLUMNS.index
    place = lambda key: tuple(map(at, key)) if isinstance(key, tuple) else at(key)
    term = lambda name: name if name == "1" else at(name)
    p = estimator.get_params(deep=False)
    effects = {place(k): [term(t) for t in v] for k, v in p["random_effects"].items()}
    kind = p["covariance_type"]
    if isinstance(kind, dict):
        kind = {place(k): [[term(t) for t in b] for b in v] for k, v in kind.items()}
    fixed = p["fixed_effects"] and [at(c) for c in p["fixed_effects"]]
    single = {n: at(p[n]) for n in ("offset", "trials") if p.get(n) is not None}
    if p.get("zero_inflation"):
        single["zero_inflation"] = [at(c) for c in p["zero_inflation"]]
    return clone(estimator).set_params(
        random_effects=effects, covariance_type=kind, fixed_effects=fixed, **single
    )


@every_model
def test_pandas_polars_and_arrays_give_the_same(estimator, data):
    X, y = data()
    model = clone(estimator).fit(X, y)
    polars = clone(estimator).fit(pl.from_pandas(X), pl.Series(y.to_numpy()))
    array = by_position(estimator).fit(X.to_numpy(dtype=object), y.to_numpy())
    categories = X.astype({"site": "category", "rater": "category", "room": "category"})
    for other, table in [
        (polars, pl.from_pandas(X)),
        (array, X.to_numpy(dtype=object)),
        (array, X.to_numpy(dtype=object).tolist()),
        (clone(estimator).fit(categories, y), categories),
    ]:
        assert_same_answers(model, other, X, rtol=1e-12, X_b=table)
        for a, b in zip(model.levels_.values(), other.levels_.values(), strict=True):
            assert a.tolist() == b.tolist()
    adapted = polars.adapt(pl.from_pandas(X), pl.Series(y.to_numpy()))
    assert_same_answers(model.adapt(X, y), adapted, X, rtol=1e-12)


@every_model
def test_the_index_of_a_table_does_not_matter(estimator, data):
    X, y = data()
    model = clone(estimator).fit(X, y)
    strange = np.random.default_rng(0).permutation(len(X)) // 2
    other = clone(estimator).fit(X.set_axis(strange), y.set_axis(strange[::-1]))
    assert fitted_state(other) == fitted_state(model)


@every_model
def test_columns_in_another_order_are_refused(estimator, data):
    X, y = data()
    model = clone(estimator).fit(X, y)
    for name in methods(model):
        with pytest.raises(ValueError, match="same order"):
            getattr(model, name)(X[COLUMNS[::-1]])
        with pytest.raises(ValueError, match="now missing:\n- age"):
            getattr(model, name)(X.drop(columns="age"))
    with pytest.raises(ValueError, match="same order"):
        model.adapt(X[COLUMNS[::-1]], y)


def shapes(value):
    value = value if isinstance(value, dict) else {"": value}
    return {key: np.shape(v) for key, v in value.items()}


@every_model
def test_shapes_for_one_output_and_several(estimator, data):
    """Several outputs lead the attributes and follow the rows; each is as if fitted alone."""
    X, y = data()
    if not SEVERAL_OUTPUTS[type(estimator)]:
        with pytest.raises(ValueError, match="1d array"):
            clone(estimator).fit(X, np.column_stack([y, y]))
        return
    Y = np.column_stack([y, -3 * y + X["age"], np.cos(np.arange(len(y)))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, many = clone(estimator).fit(X, y), clone(estimator).fit(X, Y)
    for name in BY_OUTPUT:
        single, several = shapes(getattr(one, name)), shapes(getattr(many, name))
        assert several == {key: (3, *shape) for key, shape in single.items()}, name
    for key, levels in one.levels_.items():
        k = len(one.covariance_[key])
        assert one.random_effects_[key].shape == (len(levels), k)
        assert one.covariance_[key].shape == one.theta_[key].shape == (k, k)
        assert_array_equal(many.levels_[key], levels)
    assert one.coef_.shape == (len(one.fixed_names_),)
    n = len(X)
    alone = [answers(clone(estimator).fit(X, column), X) for column in Y.T]
    for name, value in answers(many, X).items():
        expected = np.stack([answer[name] for answer in alone], axis=-1)
        assert value.shape == expected.shape == ((n, 2, 3) if "interval" in name else (n, 3))
        assert_allclose(value, expected, rtol=1e-6, atol=1e-6, err_msg=name)
    assert many.sample_y(X, 5, random_state=0).shape == (n, 3, 5)
    assert one.sample_y(X, 5, random_state=0).shape == (n, 5)
    assert many.adapt(X, Y).predict(X).shape == (n, 3)
    assert clone(estimator).fit(X, Y[:, :1]).predict(X).shape == (n, 1)


@every_model
@pytest.mark.parametrize("output", ["pandas", "polars"])
def test_behind_a_transformer_that_keeps_names(estimator, data, output):
    X, y = data()
    scale = ColumnTransformer(
        [("scale", StandardScaler(), ["age", "dose"])],
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform=output)
    pipeline = make_pipeline(scale, clone(estimator)).fit(X, y)
    scaled = X.assign(**{c: (X[c] - X[c].mean()) / X[c].std(ddof=0) for c in ("age", "dose")})
    scaled = scaled[["age", "dose", "site", "rater", "room"]]
    predict, _ = KNOWN[type(estimator)]
    expected = getattr(clone(estimator).fit(scaled, y), predict)(scaled)
    assert_allclose(getattr(pipeline, predict)(X), expected, rtol=1e-8)
    adapted = sklme.adapt(pipeline, X.assign(site="elsewhere"), y)
    if "site" in keys(pipeline[-1]):
        assert "elsewhere" in adapted[-1].levels_["site"]
        assert "elsewhere" not in pipeline[-1].levels_["site"]


@every_model
def test_what_is_not_fitted_says_so(estimator, data):
    X, y = data()
    model = clone(estimator)
    for name in (*methods(model), "sample_y", "summary"):
        with pytest.raises(NotFittedError):
            getattr(model, name)(*([] if name == "summary" else [X]))
    with pytest.raises(NotFittedError):
        model.adapt(X, y)
    assert fitted_state(model) == {}
