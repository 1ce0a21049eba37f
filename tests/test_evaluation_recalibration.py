"""SiteRecalibrator: equals a mixed model of the outcome given the predictions at left-out sites."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, logit
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from sklme import LinearMixedModel, LogisticMixedModel, adapt
from sklme.evaluation import SiteRecalibrator


def data(n_sites=12, n=60, sd=1.5, seed=0):
    """Two features, sites that differ in the level, and both kinds of outcome."""
    rng = np.random.default_rng(seed)
    site = np.repeat(np.arange(n_sites), n)
    X = pd.DataFrame(rng.normal(size=(len(site), 2)), columns=["a", "b"])
    eta = X["a"] - 0.5 * X["b"] + rng.normal(0, sd, n_sites)[site]
    X["site"] = [f"site {s}" for s in site]
    return X, rng.random(len(site)) < expit(eta), eta + rng.normal(size=len(site))


X, Y, Z = data()
NEW = X["site"] == "site 3"
SITE = SiteRecalibrator(site="site")


def test_the_kind_is_that_of_the_estimator():
    assert is_classifier(SITE) and hasattr(SITE, "predict_proba")
    regressor = SiteRecalibrator(LinearRegression())
    assert is_regressor(regressor) and not hasattr(regressor, "predict_proba")


def test_without_sites_it_is_the_estimator():
    inner = LogisticRegression().fit(X[["a", "b"]], Y)
    model = SiteRecalibrator(LogisticRegression()).fit(X[["a", "b"]], Y)
    assert_array_equal(model.predict_proba(X[["a", "b"]]), inner.predict_proba(X[["a", "b"]]))
    assert model.recalibration_ is None
    with pytest.raises(ValueError, match="name their column by `site`"):
        model.adapt(X[["a", "b"]], Y)


def test_probabilities_are_those_of_a_mixed_model_of_left_out_predictions():
    features = X[["a", "b"]]
    left_out = cross_val_predict(
        *(LogisticRegression(), features, Y),
        **{"groups": X["site"], "cv": LeaveOneGroupOut(), "method": "predict_proba"},
    )[:, 1]
    table = pd.DataFrame({"lp": logit(left_out), "g": X["site"]})
    by_hand = LogisticMixedModel("g", fixed_effects=[], offset="lp").fit(table, Y)
    lp = logit(LogisticRegression().fit(features, Y).predict_proba(features)[:, 1])
    expected = by_hand.predict_proba(table.assign(lp=lp))
    assert_allclose(SITE.fit(X, Y).predict_proba(X), expected, rtol=1e-10)


def test_regression_with_slope_is_a_linear_mixed_model():
    features = X[["a", "b"]]
    left_out = cross_val_predict(Ridge(), features, Z, groups=X["site"], cv=LeaveOneGroupOut())
    table = pd.DataFrame({"f": left_out, "g": X["site"]})
    by_hand = LinearMixedModel({"g": ["1", "f"]}).fit(table, Z)
    expected = by_hand.predict(table.assign(f=Ridge().fit(features, Z).predict(features)))
    model = SiteRecalibrator(Ridge(), site="site", method="slope").fit(X, Z)
    assert_allclose(model.predict(X), expected, rtol=1e-8)


def test_few_rows_of_a_new_site_mend_its_level():
    model = SITE.fit(X[~NEW], Y[~NEW.to_numpy()])
    few, rest = X[NEW].head(20), X[NEW].tail(40)
    adapted = model.adapt(few, Y[few.index])
    found = Y[rest.index].mean()
    before, after = (abs(m.predict_proba(rest)[:, 1].mean() - found) for m in (model, adapted))
    assert after < before
    assert "site 3" not in model.recalibration_.levels_["site"]
    assert_array_equal(adapted.predict(rest), adapted.predict_proba(rest)[:, 1] > 0.5)


def test_adapt_goes_through_a_pipeline_and_a_search():
    search = GridSearchCV(make_pipeline(SITE), {"siterecalibrator__method": ["intercept"]}, cv=2)
    search.fit(X[~NEW], Y[~NEW.to_numpy()])
    few = X[NEW].head(10)
    expected = search.best_estimator_[-1].adapt(few, Y[few.index]).predict_proba(X[NEW])
    assert_array_equal(adapt(search, few, Y[few.index]).predict_proba(X[NEW]), expected)


def test_names_of_sites_and_order_of_rows_do_not_matter():
    order = np.random.default_rng(0).permutation(len(X))
    renamed = X.assign(site=X["site"].map({s: i for i, s in enumerate(X["site"].unique()[::-1])}))
    first = SITE.fit(X, Y).predict_proba(X)
    second = clone(SITE).fit(renamed.iloc[order], Y[order]).predict_proba(renamed)
    assert_allclose(second, first, rtol=1e-6)


def test_position_and_polars_and_folds_of_sites():
    pl = pytest.importorskip("polars")
    numbers = X.assign(site=np.repeat(np.arange(12), 60))
    by_name = SiteRecalibrator(site="site", cv=4).fit(numbers, Y).predict_proba(numbers)
    by_position = SiteRecalibrator(site=2, cv=4).fit(numbers.to_numpy(), Y)
    assert_allclose(by_position.predict_proba(numbers.to_numpy()), by_name, rtol=1e-10)
    frame = pl.from_pandas(numbers)
    assert_allclose(SiteRecalibrator(site="site", cv=4).fit(frame, Y).predict_proba(frame), by_name)


def test_adapt_refuses_classes_that_it_does_not_know():
    model = clone(SITE).fit(X, np.where(Y, "yes", "no"))
    few = X[NEW].head(3)
    with pytest.raises(ValueError, match=r'y of row 1 is "Yes".*seen in fit, "no" and "yes"'):
        model.adapt(few, ["no", "Yes", "yes"])


@pytest.mark.parametrize(
    "X, y, options, message",
    [
        (X[X["site"] == "site 1"], Y[:60], {}, "at least two sites.*of site site 1"),
        (X.assign(site=X["site"].where(X.index != 7)), Y, {}, '"site" has a missing id.* row 7'),
        (X[["a", "b"]], Y, {}, 'site names "site", which is not a column of X'),
        (X[["site"]], Y, {}, "there is no feature besides the site"),
        (X, Y, {"cv": 1}, "cv is 1"),
        (X, np.arange(len(X)) % 3, {}, "y has 3 classes: recalibrate one of them"),
        (X, Y, {"method": "both"}, "method is 'both'; it must be one of 'intercept', 'slope'"),
    ],
)
def test_bad_input_is_named(X, y, options, message):
    with pytest.raises(ValueError, match=message):
        SiteRecalibrator(site="site", **options).fit(X, y)


def test_a_classifier_needs_probabilities():
    with pytest.raises(TypeError, match="LinearSVC has no predict_proba"):
        SiteRecalibrator(LinearSVC(), site="site").fit(X, Y)
