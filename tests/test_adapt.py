"""sklme.adapt: new levels for a fitted model, wherever scikit-learn's wrappers have put it."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures, StandardScaler

from sklme import LinearMixedModel, adapt


class SiteMeans(TransformerMixin, BaseEstimator):
    """A transformer that adapts without y: it centres `dose` by the means of the sites it knows."""

    def fit(self, X, y=None):
        self.means_ = X.groupby("site")["dose"].mean().to_dict()
        return self

    def transform(self, X):
        return X.assign(dose=X["dose"] - X["site"].map(self.means_).fillna(0.0))

    def adapt(self, X, y=None):
        other = clone(self)
        other.means_ = self.means_ | X.groupby("site")["dose"].mean().to_dict()
        return other

    def get_feature_names_out(self, names=None):
        return names


def clinics(n_samples=300, seed=0):
    """Eight sites; the last, "new", is 6 above the rest and is held out. y > 0."""
    rng = np.random.default_rng(seed)
    site = rng.permutation(np.arange(n_samples) % 8)
    X = pd.DataFrame(
        {
            "age": rng.normal(50, 10, n_samples),
            "dose": rng.uniform(0, 4, n_samples),
            "site": np.array(["a", "b", "c", "d", "e", "f", "g", "new"])[site],
        }
    )
    effects = np.append(rng.normal(0, 2, 7), 6.0)
    y = 30 + 0.1 * X["age"] + 2 * X["dose"] + effects[site] + rng.normal(size=n_samples)
    return X, y


X, y = clinics()
KNOWN, NEW = X["site"] != "new", X["site"] == "new"
FEW = X[NEW].index[:10]
LATER = X[NEW].index[10:]


def scaler():
    return ColumnTransformer(
        [("scale", StandardScaler(), ["age", "dose"])],
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")


def model():
    return LinearMixedModel("site")


def as_frame(X):
    return pd.DataFrame(X, columns=["age", "dose", "site"]).astype({"age": float, "dose": float})


def logged(regressor):
    return TransformedTargetRegressor(regressor, func=np.log, inverse_func=np.exp)


def searched(estimator):
    grid = {"method": ["reml", "ml"]} if isinstance(estimator, LinearMixedModel) else {}
    return GridSearchCV(estimator, grid, cv=3)


WRAPPED = {
    "alone": model,
    "pipeline": lambda: make_pipeline(model()),
    "behind a scaler": lambda: make_pipeline(scaler(), model()),
    "passthrough steps": lambda: Pipeline([("a", "passthrough"), ("b", None), ("m", model())]),
    "search": lambda: searched(model()),
    "random search": lambda: RandomizedSearchCV(
        model(), {"method": ["ml", "reml"]}, n_iter=2, cv=3
    ),
    "log target": lambda: logged(model()),
    "scaled target": lambda: TransformedTargetRegressor(model(), transformer=StandardScaler()),
    "pipeline in a pipeline": lambda: make_pipeline(scaler(), make_pipeline(model())),
    "log target in a search": lambda: GridSearchCV(
        logged(model()), {"regressor__method": ["reml", "ml"]}, cv=3
    ),
    "search in a log target": lambda: logged(searched(make_pipeline(scaler(), model()))),
    "search behind a scaler": lambda: make_pipeline(scaler(), searched(model())),
    "everything": lambda: searched(
        make_pipeline(FunctionTransformer(as_frame), logged(make_pipeline(scaler(), model())))
    ),
}
everywhere = pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)


def inner(estimator):
    """The LinearMixedModel inside."""
    for name in ("best_estimator_", "regressor_"):
        if hasattr(estimator, name):
            return inner(getattr(estimator, name))
    return inner(estimator[-1]) if isinstance(estimator, Pipeline) else estimator


@everywhere
def test_a_held_out_site_is_learned(wrap):
    """Predictions move towards the site, by what the shrinkage allows; the original stays."""
    fitted = wrap().fit(X[KNOWN], y[KNOWN])
    before, others = fitted.predict(X.loc[LATER]), fitted.predict(X[KNOWN])
    adapted = adapt(fitted, X.loc[FEW], y[FEW])
    assert type(adapted) is type(fitted) and adapted is not fitted
    assert_array_equal(fitted.predict(X.loc[LATER]), before)
    assert "new" not in inner(fitted).levels_["site"]
    assert "new" in inner(adapted).levels_["site"]
    after = adapted.predict(X.loc[LATER])
    assert np.mean((y[LATER] - after) ** 2) < 0.2 * np.mean((y[LATER] - before) ** 2)
    assert_allclose(adapted.predict(X[KNOWN]), others, rtol=1e-12)
    assert_array_equal(inner(adapted).coef_, inner(fitted).coef_)


@everywhere
def test_every_row_of_the_site_brings_it_closer(wrap):
    fitted = wrap().fit(X[KNOWN], y[KNOWN])
    rows = X[NEW].index
    errors = [
        abs(np.mean(y[NEW] - adapt(fitted, X.loc[rows[:n]], y[rows[:n]]).predict(X[NEW])))
        for n in (1, len(rows))
    ]
    assert errors[1] < 0.2 < abs(np.mean(y[NEW] - fitted.predict(X[NEW])))
    assert errors[1] < max(errors[0], 0.05)


@everywhere
def test_twice_is_at_once(wrap):
    fitted = wrap().fit(X[KNOWN], y[KNOWN])
    twice = adapt(adapt(fitted, X.loc[FEW], y[FEW]), X.loc[LATER], y[LATER])
    assert_allclose(twice.predict(X), adapt(fitted, X[NEW], y[NEW]).predict(X), rtol=1e-10)


@everywhere
def test_wrappers_do_what_one_would_do_by_hand(wrap):
    """The steps before the model transform the new rows as fitted, not anew."""
    fitted = wrap().fit(X[KNOWN], y[KNOWN])
    target, table = y[NEW], X[NEW]
    if any(isinstance(part, TransformedTargetRegressor) for part in parts(fitted)):
        wrapper = next(p for p in parts(fitted) if isinstance(p, TransformedTargetRegressor))
        target = wrapper.transformer_.transform(target.to_numpy()[:, None])[:, 0]
    for part in parts(fitted):
        if isinstance(part, ColumnTransformer):
            table = part.transform(table)
    by_hand = inner(fitted).adapt(table, target)
    ours = inner(adapt(fitted, X[NEW], y[NEW]))
    assert_allclose(ours.predict(table), by_hand.predict(table), rtol=1e-12)


def parts(estimator):
    """All estimators of a nest, the outer before the inner."""
    inside = [getattr(estimator, n, None) for n in ("best_estimator_", "regressor_")]
    inside += estimator.named_steps.values() if isinstance(estimator, Pipeline) else []
    inside = [part for part in inside if isinstance(part, BaseEstimator)]
    return [estimator, *(p for part in inside for p in parts(part))]


def test_transformers_learn_before_the_model_does():
    """In a pipeline of two that can adapt, the model sees what the adapted transformer makes."""
    fitted = make_pipeline(SiteMeans(), model()).fit(X[KNOWN], y[KNOWN])
    adapted = adapt(fitted, X[NEW], y[NEW])
    assert "new" in adapted[0].means_ and "new" not in fitted[0].means_
    table = adapted[0].transform(X[NEW])
    assert_allclose(table["dose"].mean(), 0, atol=1e-12)
    assert_allclose(adapted.predict(X[NEW]), fitted[1].adapt(table, y[NEW]).predict(table))


def test_a_transformer_adapts_without_y():
    fitted = SiteMeans().fit(X[KNOWN])
    assert "new" in adapt(fitted, X[NEW]).means_
    assert "new" in adapt(make_pipeline(SiteMeans()).fit(X[KNOWN]), X[NEW])[0].means_


def test_inside_a_column_transformer():
    """The parts that can adapt do so on their own columns; the others stay as fitted."""
    fitted = ColumnTransformer(
        [("centre", SiteMeans(), ["dose", "site"]), ("scale", StandardScaler(), ["age"])]
    ).fit(X[KNOWN])
    before = fitted.transform(X)
    adapted = adapt(fitted, X[NEW])
    after = adapted.transform(X)
    assert_array_equal(fitted.transform(X), before)
    assert_array_equal(after[KNOWN], before[KNOWN])
    assert_allclose(after[NEW, 0].astype(float).mean(), 0, atol=1e-12)
    assert "new" in adapted.named_transformers_["centre"].means_
    assert "new" not in fitted.named_transformers_["centre"].means_


def test_inside_a_column_transformer_of_arrays():
    names = FunctionTransformer(lambda x: pd.DataFrame(x, columns=["dose", "site"]).infer_objects())
    centre = make_pipeline(names, SiteMeans())
    fitted = ColumnTransformer([("centre", centre, [1, 2])], remainder="passthrough")
    fitted.fit(X[KNOWN].to_numpy())
    after = adapt(fitted, X[NEW].to_numpy()).transform(X.to_numpy())
    assert_allclose(after[NEW, 0].astype(float).mean(), 0, atol=1e-12)
    assert_array_equal(after[:, 2], X["age"])


def test_search_of_a_pipeline_keeps_its_results():
    grid = {"linearmixedmodel__method": ["ml", "reml"]}
    search = GridSearchCV(make_pipeline(scaler(), model()), grid, cv=3).fit(X[KNOWN], y[KNOWN])
    adapted = adapt(search, X[NEW], y[NEW])
    assert adapted.best_params_ == search.best_params_
    assert adapted.best_score_ == search.best_score_
    assert adapted.score(X[NEW], y[NEW]) > search.score(X[NEW], y[NEW])


def test_targets_of_two_columns():
    Y = np.column_stack([y, np.sqrt(y)])
    fitted = logged(model()).fit(X[KNOWN], Y[KNOWN])
    adapted = adapt(fitted, X[NEW], Y[NEW])
    assert adapted.predict(X).shape == Y.shape
    error = lambda m: np.mean((np.log(Y[NEW]) - np.log(m.predict(X[NEW]))) ** 2, axis=0)
    assert np.all(error(adapted) < 0.2 * error(fitted))


def test_a_target_of_one_column():
    """scikit-learn squeezes a target of one column for the regressor inside."""
    Y = y.to_frame()
    for transformer in (None, StandardScaler()):
        fitted = TransformedTargetRegressor(model(), transformer=transformer).fit(
            X[KNOWN], Y[KNOWN]
        )
        adapted = adapt(fitted, X[NEW], Y[NEW])
        assert adapted.predict(X[NEW]).shape == fitted.predict(X[NEW]).shape
        assert np.mean(y[NEW].to_numpy() - adapted.predict(X[NEW]).ravel()) < 0.5


def test_a_target_transformer_that_keeps_its_shape():
    """check_inverse and y as a Series, list or column give the same."""
    fitted = logged(model()).fit(X[KNOWN], y[KNOWN])
    expected = adapt(fitted, X[NEW], y[NEW]).predict(X[NEW])
    for given in (y[NEW].to_numpy(), y[NEW].tolist()):
        assert_array_equal(adapt(fitted, X[NEW], given).predict(X[NEW]), expected)


@pytest.mark.parametrize(
    "estimator",
    [
        *(wrap() for wrap in WRAPPED.values()),
        make_pipeline(StandardScaler(), LinearRegression()),
        GridSearchCV(model(), {"method": ["ml"]}),
    ],
    ids=[*WRAPPED, "nothing adaptable", "unfitted search"],
)
def test_what_is_not_fitted(estimator):
    with pytest.raises(NotFittedError):
        adapt(estimator, X, y)


NUMBERS = X[["age", "dose"]]


@pytest.mark.parametrize(
    "estimator",
    [
        LinearRegression(),
        make_pipeline(PolynomialFeatures(2), Ridge()),
        GridSearchCV(Ridge(), {"alpha": [1.0]}, cv=3),
        TransformedTargetRegressor(Ridge(), func=np.log, inverse_func=np.exp),
        ColumnTransformer([("s", StandardScaler(), ["age"])]),
        GridSearchCV(LinearMixedModel(), {"method": ["ml"]}, cv=3, refit=False),
    ],
    ids=lambda e: type(e).__name__,
)
def test_nothing_that_can_adapt(estimator):
    fitted = estimator.fit(NUMBERS, y)
    with pytest.raises(TypeError, match=f"nothing in {type(estimator).__name__} can adapt"):
        adapt(fitted, NUMBERS, y)


def test_what_is_no_estimator():
    for thing in (LinearMixedModel, "site", None):
        with pytest.raises(TypeError):
            adapt(thing, X, y)


def test_a_model_wants_y():
    fitted = make_pipeline(model()).fit(X[KNOWN], y[KNOWN])
    for estimator in (fitted, fitted[-1], logged(model()).fit(X[KNOWN], y[KNOWN])):
        with pytest.raises((ValueError, TypeError), match="y"):
            adapt(estimator, X[NEW])
