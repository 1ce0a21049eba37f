"""cross_site_validate: equals loops by hand, finds what was simulated, refuses what is wrong."""

import pickle
import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import parallel_config
from numpy.testing import assert_allclose, assert_array_equal
from pandas.testing import assert_frame_equal
from scipy.special import expit
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin, clone
from sklearn.cluster import KMeans
from sklearn.compose import TransformedTargetRegressor
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    LeaveOneGroupOut,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from sklme import LogisticMixedModel, adapt
from sklme._engine import meta
from sklme.datasets import load_mriqc
from sklme.evaluation import SiteRecalibrator
from sklme.evaluation._sites import Labels
from sklme.evaluation._target import Target, draw
from sklme.evaluation.cross_site import cross_site_validate
from sklme.evaluation.metrics import from_scale, to_scale

TABLE, RATING = load_mriqc(return_X_y=True)
X = TABLE[["snr_wm", "efc", "cjv"]]
SITE, BAD = TABLE["site"], (RATING < 0).to_numpy()
MODEL = make_pipeline(StandardScaler(), LogisticRegression())
FAST = {"scoring": "roc_auc", "pi_method": "hksj"}


def multi_site(n_sites=6, n=40, sd=1.0, seed=0, truth=False):
    """A table with its site, outcomes whose level differs between sites, and these levels."""
    rng = np.random.default_rng(seed)
    site = np.repeat(np.arange(n_sites), n)
    table = pd.DataFrame(rng.normal(size=(len(site), 2)), columns=["a", "b"])
    level = rng.normal(0, sd, n_sites)
    eta = table["a"] - 0.5 * table["b"] + level[site]
    y = (rng.random(len(site)) < expit(eta)).astype(int)
    table["site"] = [f"s{s}" for s in site]
    y = y.to_numpy()
    return (table, y, level) if truth else (table, y)


SMALL, Y = multi_site(seed=8)
AB = SMALL[["a", "b"]]


# The same by hand -------------------------------------------------------------------------------


def test_it_equals_a_loop_over_left_out_sites():
    result = cross_site_validate(MODEL, X, BAD, site=SITE)
    by_row = result.predictions.set_index("row")["prediction"]
    aucs = result.table[result.table["metric"] == "roc_auc"].set_index("site")
    for train, test in LeaveOneGroupOut().split(X, BAD, SITE):
        p = clone(MODEL).fit(X.iloc[train], BAD[train]).predict_proba(X.iloc[test])[:, 1]
        assert_allclose(by_row[test], p, rtol=1e-12)
        found = aucs.loc[SITE[test[0]]]
        assert_allclose(found["estimate"], roc_auc_score(BAD[test], p), rtol=1e-12)
        assert found["n"] == len(test) and found["n_events"] == BAD[test].sum()
        assert found["n_train"] == len(train) and found["n_train_sites"] == 16
    assert len(by_row) == len(X) and by_row.index.is_unique
    assert_array_equal(result.predictions["y"], BAD[result.predictions["row"]])
    assert_array_equal(result.predictions["site"], SITE[result.predictions["row"]])


def test_regression_equals_a_loop():
    result = cross_site_validate(LinearRegression(), X, RATING, site=SITE, scoring=["mae", "rmse"])
    table = result.table.set_index(["metric", "site"])["estimate"]
    for train, test in LeaveOneGroupOut().split(X, RATING, SITE):
        model = LinearRegression().fit(X.iloc[train], RATING.iloc[train])
        error = model.predict(X.iloc[test]) - RATING.iloc[test]
        site = SITE[test[0]]
        assert_allclose(table["mae", site], np.abs(error).mean(), rtol=1e-12)
        assert_allclose(table["rmse", site], np.sqrt((error**2).mean()), rtol=1e-12)
    assert result.task == "regression" and result.classes is None
    assert result.table["n_events"].isna().all()


def test_parts_of_sites_are_those_of_group_k_fold():
    by_number = cross_site_validate(MODEL, X, BAD, site=SITE, cv=4, **FAST)
    by_splitter = cross_site_validate(MODEL, X, BAD, site=SITE, cv=GroupKFold(4), **FAST)
    assert_frame_equal(by_number.table, by_splitter.table)
    fold = by_number.predictions.set_index("row")["fold"]
    codes = pd.factorize(SITE, sort=True)[0]
    for k, (_, test) in enumerate(GroupKFold(4).split(X, BAD, codes)):
        assert (fold[test] == k).all()


def test_pooled_numbers_are_those_of_the_meta_analysis():
    result = cross_site_validate(MODEL, X, BAD, site=SITE, pi_method="hksj", pi_dof="k-2")
    rows = result.table[result.table["metric"] == "brier"]
    ok = (rows["status"] == "ok").to_numpy()
    theta, error = np.log(rows["estimate"])[ok], rows["std_error"][ok]
    expected = meta.pool(theta, error, prediction="hksj", prediction_dof="k-2")
    found = result.pooled.loc["brier"]
    for name in ("mean", "lower", "upper", "prediction_lower", "prediction_upper"):
        assert_allclose(found[name], np.exp(getattr(expected, name)[0]), rtol=1e-10)
    assert_allclose([found["tau2"], found["i2"]], [expected.tau2[0], expected.i2[0]], rtol=1e-10)
    precision = 1 / (error**2 + expected.tau2[0])
    assert_allclose(rows["weight"][ok], precision / precision.sum(), rtol=1e-10)
    assert (rows["weight"][~ok] == 0).all() and not ok.all()
    assert_allclose(np.sum(rows["weight"][ok] * theta), np.log(found["mean"]), rtol=1e-10)


def test_metrics_over_all_rows_are_of_all_predictions():
    result = cross_site_validate(MODEL, X, BAD, site=SITE, **FAST)
    together = roc_auc_score(result.predictions["y"], result.predictions["prediction"])
    assert_allclose(result.pooled.loc["roc_auc", "over_all_rows"], together, rtol=1e-12)


def test_the_variance_between_sites_is_found():
    table, y, level = multi_site(n_sites=40, n=300, sd=0.8, truth=True)
    result = cross_site_validate(
        *(LogisticRegression(), table[["a", "b"]], y),
        **{"site": table["site"], "scoring": "calibration_intercept", "pi_method": "hksj"},
    )
    pooled = result.pooled.loc["calibration_intercept"]
    # Averaging over sites flattens the coefficients, so that intercepts are flatter than levels.
    assert_allclose(pooled["tau2"], level.var(ddof=1), rtol=0.15)
    assert pooled["tau2_lower"] < level.var(ddof=1) < pooled["tau2_upper"]
    inside = (level - level.mean() > pooled["prediction_lower"]) & (
        level - level.mean() < pooled["prediction_upper"]
    )
    assert 0.85 < inside.mean() <= 1.0


# Invariance -------------------------------------------------------------------------------------


def tables_of(X, y, site, estimator=MODEL, **options):
    result = cross_site_validate(estimator, X, y, site=site, random_state=0, **options)
    return result.table, result.pooled


def test_the_order_of_rows_does_not_matter():
    order = np.random.default_rng(1).permutation(len(X))
    scoring = {"scoring": ["r2", "mae"], "estimator": LinearRegression()}
    before = tables_of(X, RATING, SITE, **scoring)
    after = tables_of(X.iloc[order], RATING.iloc[order], SITE.iloc[order], **scoring)
    for one, other in zip(before, after, strict=True):
        assert_frame_equal(one, other, rtol=1e-8)


def test_names_of_sites_do_not_matter():
    names = {name: f"{97 - i} {name}" for i, name in enumerate(sorted(set(SITE)))}
    before, pooled = tables_of(X, RATING, SITE, LinearRegression(), scoring="r2")
    after, again = tables_of(X, RATING, SITE.map(names), LinearRegression(), scoring="r2")
    after = after.set_index("site").loc[before["site"].map(names)].reset_index()
    columns = [c for c in before if c != "site"]
    assert_frame_equal(before[columns], after[columns], rtol=1e-10)
    assert_frame_equal(pooled, again, rtol=1e-10)


@pytest.mark.parametrize("backend", ["threading", pytest.param("loky", marks=pytest.mark.slow)])
def test_any_number_of_jobs_gives_the_same(backend):
    options = {"target": "updated", "n_target": [0, 5], "n_repeats": 2, "scoring": "brier"}
    options |= {"site": "site", "random_state": 3}
    model = LogisticMixedModel("site")
    one = cross_site_validate(model, SMALL, Y, n_jobs=1, **options)
    with parallel_config(backend=backend):
        two = cross_site_validate(model, SMALL, Y, n_jobs=2, **options)
    assert_frame_equal(one.table, two.table)
    assert_frame_equal(one.predictions, two.predictions)
    assert_frame_equal(one.pooled, two.pooled)


@pytest.mark.parametrize("kind", ["name", "position", "list", "array", "polars", "categories"])
def test_sites_come_in_any_form(kind):
    data = SMALL[["a", "b", "site"]]
    model = LogisticMixedModel("site")
    expected = cross_site_validate(model, data, Y, site="site", **FAST)
    site, given = SMALL["site"], data
    if kind == "polars":
        given = pl.from_pandas(data)
        site = given["site"]
    elif kind == "categories":
        site = site.astype("category")
    else:
        site = {"name": "site", "position": 2, "list": list(site), "array": np.array(list(site))}
        site = site[kind]
    found = cross_site_validate(model, given, Y, site=site, **FAST)
    assert_frame_equal(found.table, expected.table)


def test_arrays_take_sites_by_position_and_keep_their_type():
    codes = pd.factorize(SMALL["site"])[0]
    table = np.column_stack([AB, codes])
    by_position = cross_site_validate(LogisticMixedModel(2), table, Y, site=2, **FAST)
    assert by_position.table["site"].tolist() == list(range(6))
    beside = cross_site_validate(LogisticRegression(), AB, Y, site=codes, **FAST)
    assert beside.table["site"].dtype == codes.dtype == beside.predictions["site"].dtype
    dates = pd.to_datetime("2020-01-01") + pd.to_timedelta(codes, "D")
    dated = cross_site_validate(LogisticRegression(), AB, Y, site=dates, **FAST)
    assert dated.table["site"].iloc[1] == pd.Timestamp("2020-01-02")


def test_labels_of_classes_are_any():
    expected = cross_site_validate(LogisticRegression(), AB, Y, site=SMALL["site"], **FAST)
    named = np.where(Y, "yes", "no")
    found = cross_site_validate(LogisticRegression(), AB, named, site=SMALL["site"], **FAST)
    assert_frame_equal(found.table, expected.table, rtol=1e-12)
    assert found.classes.tolist() == ["no", "yes"] and "Positive class: yes" in found.summary()


# Sites that cannot be evaluated, or not pooled --------------------------------------------------


def uneven():
    """Outcomes of which s0 has no event and s1 two."""
    y = Y.copy()
    y[SMALL["site"] == "s0"] = 0
    at = np.flatnonzero(SMALL["site"] == "s1")
    y[at] = 0
    y[at[:2]] = 1
    return y


def test_sites_without_events_stay_in_the_table():
    result = cross_site_validate(LogisticRegression(), AB, uneven(), site=SMALL["site"])
    rows = result.table[result.table["metric"] == "roc_auc"].set_index("site")
    assert rows["status"].tolist() == ["not estimable", "few events", *["ok"] * 4]
    assert "one class" in rows.loc["s0", "reason"]
    assert rows.loc["s1", "reason"] == "2 rows in the smaller class, fewer than 5"
    assert np.isfinite(rows.loc["s1", "estimate"]) and rows.loc["s1", "weight"] == 0
    assert result.pooled.loc["roc_auc", "n_sites"] == 4
    assert "rough" in result.pooled.loc["roc_auc", "reason"]
    everything = cross_site_validate(
        LogisticRegression(), AB, uneven(), site=SMALL["site"], min_events=2, **FAST
    )
    assert everything.pooled.loc["roc_auc", "n_sites"] == 5


def test_training_rows_of_one_class_are_said_to_be_so():
    y = np.where(SMALL["site"] == "s2", Y, 0)
    result = cross_site_validate(
        LogisticRegression(), AB, y, site=SMALL["site"], return_estimator=True, **FAST
    )
    row = result.table.set_index("site").loc["s2"]
    assert row["status"] == "not estimable" and np.isnan(row["estimate"])
    assert row["reason"] == "the training sites have only the class 0"
    assert result.estimators["s2"] is None and result.estimators["s1"] is not None
    assert "s2" not in set(result.predictions["site"])
    assert result.pooled.loc["roc_auc", "reason"] == "no site could be pooled"
    assert "only the class 0: s2" in result.summary()


@pytest.mark.parametrize(
    "k, has, remark", [(2, False, "too few"), (3, True, "rough"), (5, True, "")]
)
def test_a_prediction_interval_needs_three_sites(k, has, remark):
    few = SMALL["site"].isin([f"s{i}" for i in range(k)]).to_numpy()
    result = cross_site_validate(
        *(LogisticRegression(), AB[few], Y[few]),
        **{"site": SMALL["site"][few], "benchmark": 0.6, **FAST},
    )
    row = result.pooled.loc["roc_auc"]
    assert np.isfinite(row["mean"]) and np.isfinite(row["prediction_lower"]) == has
    assert np.isfinite(row["probability"]) == has
    assert remark in row["reason"] and bool(row["reason"]) == bool(remark)
    assert result.summary()


def test_classes_that_training_lacks_get_no_probability():
    three = np.where(SMALL["a"] > 0.5, "c", np.where(Y, "b", "a"))
    three = np.where((SMALL["site"] != "s0") & (three == "b"), "a", three)
    result = cross_site_validate(LogisticRegression(), AB, three, site=SMALL["site"])
    assert result.task == "classes" and result.classes.tolist() == ["a", "b", "c"]
    p = result.predictions[[f"prediction_{c}" for c in "abc"]]
    assert_allclose(p.sum(axis=1), 1.0)
    here = (result.predictions["site"] == "s0").to_numpy()
    assert (p["prediction_b"][here] == 0).all() and (p["prediction_b"][~here] > 0).all()
    model = LogisticRegression().fit(AB[40:], three[40:])
    assert_allclose(p[["prediction_a", "prediction_c"]][here], model.predict_proba(AB[:40]))
    found = result.table.set_index(["metric", "site"]).loc[("accuracy", "s0"), "estimate"]
    assert_allclose(found, (model.predict(AB[:40]) == three[:40]).mean())
    assert result.predictions["y"].tolist() == three[result.predictions["row"]].tolist()


def test_sites_in_no_test_fold_are_listed():
    one = GroupShuffleSplit(1, test_size=2, random_state=0)
    result = cross_site_validate(LogisticRegression(), AB, Y, site=SMALL["site"], cv=one, **FAST)
    assert len(result.excluded) == 4 and (result.excluded["n"] == 40).all()
    assert set(result.excluded["site"]) | set(result.table["site"]) == set(SMALL["site"])
    assert "in no test fold" in result.summary()


def test_a_site_tested_more_than_once_is_averaged():
    cv = GroupShuffleSplit(8, test_size=2, random_state=0)
    result = cross_site_validate(
        LogisticRegression(), AB, Y, site=SMALL["site"], cv=cv, scoring="calibration_intercept"
    )
    times = result.predictions.groupby("site")["fold"].nunique()
    assert times.max() > 1 and (result.table["n"] == 40).all()


# What is known of the site ----------------------------------------------------------------------


def test_adapted_predictions_are_those_of_adapt():
    options = {"target": "updated", "n_target": 10, "random_state": 0, **FAST}
    result = cross_site_validate(
        LogisticMixedModel("site"), SMALL, Y, site="site", return_estimator=True, **options
    )
    assert result.settings["update"] == "adapt"
    for name, rows in result.predictions.groupby("site"):
        here = np.flatnonzero(SMALL["site"] == name)
        seen = np.setdiff1d(here, rows["row"])
        assert len(seen) == 10
        adapted = adapt(result.estimators[name], SMALL.iloc[seen], Y[seen])
        p = adapted.predict_proba(SMALL.iloc[rows["row"]])[:, 1]
        assert_allclose(rows["prediction"], p, rtol=1e-12)
        assert name not in result.estimators[name].levels_["site"]


def test_recalibrated_predictions_are_those_of_the_recalibrator():
    options = {"target": "updated", "n_target": [10], "random_state": 0, **FAST}
    result = cross_site_validate(MODEL, AB, Y, site=SMALL["site"], return_estimator=True, **options)
    assert result.settings["update"] == "recalibrate"
    rows = result.predictions[result.predictions["site"] == "s4"]
    here = (SMALL["site"] == "s4").to_numpy()
    seen = np.setdiff1d(np.flatnonzero(here), rows["row"])
    model = SiteRecalibrator(MODEL, site="site").fit(SMALL[~here], Y[~here])
    expected = model.adapt(SMALL.iloc[seen], Y[seen]).predict_proba(SMALL.iloc[rows["row"]])
    assert_allclose(rows["prediction"], expected[:, 1], rtol=1e-9)
    assert_allclose(
        result.estimators["s4"].predict_proba(AB), MODEL.fit(AB[~here], Y[~here]).predict_proba(AB)
    )


def test_recalibration_sees_what_the_estimator_sees():
    """With its site as a column, and with a search that needs the sites."""
    options = {"target": "updated", "n_target": 5, "update": "recalibrate", "cv": 3, **FAST}
    mixed = cross_site_validate(LogisticMixedModel("site"), SMALL, Y, site="site", **options)
    assert mixed.table["status"].eq("ok").all()
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1]}, cv=LeaveOneGroupOut())
    searched = cross_site_validate(search, AB, Y, site=SMALL["site"], **options)
    assert searched.table["status"].eq("ok").all()


def test_more_rows_of_a_site_calibrate_better():
    table, y = multi_site(n_sites=10, n=120, sd=1.5)
    result = cross_site_validate(
        *(LogisticMixedModel("site"), table, y),
        **{"site": "site", "target": "updated", "n_target": [0, 5, 20, 60], "n_repeats": 3},
        **{"scoring": ["roc_auc", "calibration_intercept"], "pi_method": "hksj", "random_state": 0},
    )
    tau2 = result.pooled.loc["calibration_intercept", "tau2"]
    assert tau2.index.tolist() == [0, 5, 20, 60]
    assert tau2[0] > 1.0 > tau2[5] > tau2[20] and tau2[60] < 0.25
    rows = result.predictions.groupby(["site", "repeat", "n_target"])["row"].agg(frozenset)
    assert rows.groupby(["site", "repeat"]).nunique().eq(1).all()
    assert rows.groupby("site").nunique().eq(3).all() and rows.map(len).eq(60).all()
    # Ranking within a site does not depend on its level.
    auc = result.pooled.loc["roc_auc", "mean"]
    assert_allclose(auc, auc[0], rtol=1e-6)
    text = " ".join(result.summary().split())
    assert "0, 5, 20 or 60 of its rows and their outcomes, drawn 3 times" in text
    assert "AUC 0 rows" in text and "60 rows" in text


def test_draws_are_combined_on_the_scale_of_pooling():
    result = cross_site_validate(
        *(LogisticMixedModel("site"), SMALL, Y),
        **{"site": "site", "target": "updated", "n_target": 8, "n_repeats": 4, "random_state": 1},
        **FAST,
    )
    (metric,) = result.metrics
    options = {"confidence_level": 0.95, "rng": np.random.default_rng(0)}
    for name, rows in result.predictions.groupby("site"):
        draws = [
            metric.function(d["y"], d["prediction"], **options) for _, d in rows.groupby("repeat")
        ]
        theta = np.mean([d.theta for d in draws])
        found = result.table.set_index("site").loc[name]
        assert_allclose(found["estimate"], from_scale(theta, "logit"), rtol=1e-12)
        assert_allclose(found["std_error"] ** 2, np.mean([d.std_error**2 for d in draws]))
        half = 1.959963984540054 * found["std_error"]
        assert_allclose(to_scale(found["upper"], "logit"), theta + half, rtol=1e-8)
        assert_allclose(found["n_events"], rows["y"].sum() / 4)


def test_a_size_above_half_of_a_site_is_left_out_there():
    keep = np.ones(len(Y), dtype=bool)
    keep[np.flatnonzero(SMALL["site"] == "s0")[12:]] = False
    result = cross_site_validate(
        *(LogisticMixedModel("site"), SMALL[keep], Y[keep]),
        **{"site": "site", "target": "updated", "n_target": [2, 10], "scoring": "brier"},
        min_events=1,
    )
    rows = result.table.set_index(["site", "n_target"])
    assert rows.loc[("s0", 10), "status"] == "not estimable"
    assert rows.loc[("s0", 10), "reason"] == "10 rows are more than half of the site"
    assert rows.loc[("s0", 2), "n"] == 10 and rows.loc[("s1", 2), "n"] == 30
    assert result.pooled.loc[("brier", 10), "n_sites"] == 5
    assert "over different sites" in result.summary()


def test_regressors_are_recalibrated_too():
    table, y = multi_site(n_sites=8, n=60)
    level = pd.factorize(table["site"])[0]
    y = table["a"] + 2.0 * level + 0.1 * np.random.default_rng(0).normal(size=len(y))
    result = cross_site_validate(
        *(LinearRegression(), table[["a", "b"]], y),
        **{"site": table["site"], "target": "updated", "n_target": [0, 10], "scoring": "mae"},
    )
    mean = result.pooled["mean"]
    assert mean["mae", 0] > 3 and mean["mae", 10] < 0.5


class SiteCentering(TransformerMixin, BaseEstimator):
    """Subtracts the mean of the site, a column; an unknown site is left as it is."""

    def fit(self, X, y=None):
        self.means_ = X.groupby("site")[["a", "b"]].mean()
        return self

    def adapt(self, X, y=None):
        assert y is None
        other = clone(self)
        other.means_ = pd.concat([self.means_, X.groupby("site")[["a", "b"]].mean()])
        return other

    def transform(self, X):
        means = self.means_.reindex(X["site"]).fillna(0.0).to_numpy()
        return X[["a", "b"]].to_numpy() - means


def test_unlabeled_rows_reach_transformers():
    model = make_pipeline(SiteCentering(), LogisticRegression())
    result = cross_site_validate(
        model, SMALL, Y, site="site", target="unlabeled", n_target=20, random_state=0, **FAST
    )
    rows = result.predictions[result.predictions["site"] == "s3"]
    here = np.flatnonzero(SMALL["site"] == "s3")
    seen = np.setdiff1d(here, rows["row"])
    train = (SMALL["site"] != "s3").to_numpy()
    fitted = clone(model).fit(SMALL[train], Y[train])
    centred = AB.iloc[rows["row"]] - AB.iloc[seen].mean()
    assert_allclose(rows["prediction"], fitted[-1].predict_proba(centred.to_numpy())[:, 1])
    assert "adapted to 20 of its rows without outcome" in result.summary()


# Draws and patients -----------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 8), min_size=1, max_size=30),
    st.lists(st.integers(0, 12), min_size=1, max_size=4),
    st.integers(0, 5),
)
def test_draws_are_nested_and_of_whole_patients(patient, sizes, seed):
    rows = 7 + 3 * np.arange(len(patient))
    codes = np.full(rows[-1] + 1, -1)
    codes[rows] = patient
    target = Target("updated", tuple(sorted(set(sizes))))
    patients = Labels("patient", codes, np.arange(9))
    given_rows, rest = draw(rows, target, patients, np.random.default_rng(seed))
    assert set(given_rows) == {size for size in sizes if 2 * size <= len(rows)}
    before = set()
    for size, chosen in given_rows.items():
        assert set(chosen) >= before and len(chosen) >= size
        assert not set(codes[chosen]) & set(codes[np.setdiff1d(rows, chosen)])
        without_last = len(chosen) - max(np.bincount(codes[chosen]), default=0)
        assert without_last < size or size == 0
        before = set(chosen)
    if given_rows:
        assert set(rest) == set(rows) - before


def test_without_patients_draws_are_exact():
    rows = np.arange(50, 75)
    found, rest = draw(rows, Target("updated", (0, 3, 12, 13)), None, np.random.default_rng(0))
    assert [len(r) for r in found.values()] == [0, 3, 12] and len(rest) == 13
    assert set(found[12]) | set(rest) == set(rows) and set(found[3]) < set(found[12])


def test_the_explained_share_at_a_new_site_is_below_one():
    site = np.repeat(np.arange(3), 30)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 1))
    y = x[:, 0] + np.array([0.05, 0.3, 1.5])[site] * rng.normal(size=90)
    result = cross_site_validate(
        LinearRegression(), x, y, site=site, scoring="r2", benchmark=0.3, random_state=0
    )
    row, of = result.pooled.loc["r2"], result.table
    assert row["prediction_upper"] < 1 and row["upper"] < 1 and row["scale"] == "log-unexplained"
    by_hand = meta.pool(-np.log(1 - of["estimate"].to_numpy()), of["std_error"].to_numpy())
    assert_allclose(
        row[["mean", "upper"]].astype(float), 1 - np.exp(-np.r_[by_hand.mean, by_hand.upper])
    )
    assert 0.5 < row["probability"] < 1
    with pytest.raises(ValueError, match="benchmark of r2 is 1; it must be below 1"):
        cross_site_validate(LinearRegression(), x, y, site=site, scoring="r2", benchmark=1)


def test_one_row_of_a_patient_needs_no_remark():
    result = cross_site_validate(
        MODEL, AB, Y, site=SMALL["site"], groups=np.arange(len(Y)), scoring="brier"
    )
    assert "as independent" not in result.summary()


def test_the_summary_names_metrics_in_full_beside_wide_intervals():
    class Certain(LogisticRegression):
        def predict_proba(self, X):
            return np.eye(2)[self.predict(X)]

    result = cross_site_validate(Certain(), AB, Y, site=SMALL["site"], thresholds=[0.2, 0.5])
    text = result.summary()
    assert max(map(len, text.splitlines())) <= 80
    assert "  net benefit at 0.2 " in text and "  net benefit at 0.5 " in text


def test_a_site_is_no_tuple():
    site = pd.Series([("a", s) for s in SMALL["site"]])
    with pytest.raises(ValueError, match="site of row 0 is a tuple; a label must be a text"):
        cross_site_validate(MODEL, AB, Y, site=site)


def test_patients_come_whole_and_at_one_site():
    patient = np.arange(len(Y)) // 2
    result = cross_site_validate(
        *(LogisticMixedModel("site"), SMALL, Y),
        **{"site": "site", "groups": patient, "target": "updated", "n_target": 5, **FAST},
    )
    assert (result.table["n"] == 34).all() and result.settings["n_patients"] == 120
    text = " ".join(result.summary().split())
    assert "240 rows of 120 patients at 6 sites" in text
    assert "standard errors take the rows of a site as independent" in text
    patient[40] = patient[0]
    with pytest.raises(ValueError, match='patient 0 has rows at the sites "s0" and "s1"'):
        cross_site_validate(MODEL, AB, Y, site=SMALL["site"], groups=patient)


def test_a_site_of_one_patient_has_nothing_left():
    patient = np.where(SMALL["site"] == "s0", -1, np.arange(len(Y)))
    result = cross_site_validate(
        *(LogisticMixedModel("site"), SMALL, Y),
        **{"site": "site", "groups": patient, "target": "updated", "n_target": 5, **FAST},
    )
    assert result.table.set_index("site").loc["s0", "reason"] == "no patient is left to predict"


# Searches ---------------------------------------------------------------------------------------


class Recorder(LeaveOneGroupOut):
    """Leave one group out, and remember which groups there were."""

    seen = []  # noqa: RUF012  shared by all clones

    def split(self, X, y=None, groups=None):
        Recorder.seen.append(frozenset(groups))
        return super().split(X, y, groups)


def wrapped(kind, search):
    if kind == "pipeline":
        return make_pipeline(StandardScaler(), search)
    if kind == "target":
        return TransformedTargetRegressor(search)
    if kind == "both":
        return make_pipeline(TransformedTargetRegressor(make_pipeline(StandardScaler(), search)))
    return search


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize("kind", ["alone", "pipeline", "target", "both"])
def test_a_search_leaves_out_training_sites(kind, routing):
    Recorder.seen.clear()
    search = GridSearchCV(Ridge(), {"alpha": [1.0]}, cv=Recorder())
    with config_context(enable_metadata_routing=routing), warnings.catch_warnings():
        warnings.simplefilter("error")
        cross_site_validate(
            wrapped(kind, search), AB, AB["a"] + Y, site=SMALL["site"], scoring="mae"
        )
    assert set(Recorder.seen) == {frozenset(range(6)) - {s} for s in range(6)}


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize("cv", [None, 3, KFold(3)])
def test_a_search_that_splits_rows_is_warned_of(cv, routing):
    model = make_pipeline(GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=cv))
    with config_context(enable_metadata_routing=routing):
        with pytest.warns(UserWarning, match=r"GroupKFold.*LeaveOneGroupOut") as caught:
            cross_site_validate(model, AB, Y, site=SMALL["site"], **FAST)
    assert len(caught) == 1 and caught[0].filename == __file__


# Benchmarks and other arguments -----------------------------------------------------------------


def test_the_probability_of_being_better():
    options = {"site": SMALL["site"], "scoring": ["roc_auc", "brier"], "pi_method": "hksj"}
    benchmark = {"roc_auc": 0.75, "brier": 0.22}
    result = cross_site_validate(LogisticRegression(), AB, Y, benchmark=benchmark, **options)
    for name, scale in (("roc_auc", "logit"), ("brier", "log")):
        rows, found = result.table[result.table["metric"] == name], result.pooled.loc[name]
        theta = to_scale(rows["estimate"], scale)
        above = meta.probability_above(
            meta.pool(theta, rows["std_error"]), float(to_scale(benchmark[name], scale))
        )[0]
        assert_allclose(found["probability"], above if name == "roc_auc" else 1 - above, rtol=1e-9)
        assert found["benchmark"] == benchmark[name]
    alone = cross_site_validate(LogisticRegression(), AB, Y, benchmark=0.75, **options)
    assert alone.pooled.loc["roc_auc", "probability"] == result.pooled.loc["roc_auc", "probability"]
    assert np.isnan(alone.pooled.loc["brier", "probability"])


def test_thresholds_and_own_metrics():
    result = cross_site_validate(MODEL, AB, Y, site=SMALL["site"], thresholds=[0.3])
    assert "net_benefit@0.3" in result.pooled.index
    share = {"share": lambda y, p: np.mean((p > 0.5) == y)}
    own = cross_site_validate(MODEL, AB, Y, site=SMALL["site"], scoring=share, random_state=0)
    usual = cross_site_validate(MODEL, AB, Y, site=SMALL["site"], scoring="accuracy")
    assert_allclose(own.table["estimate"], usual.table["estimate"])


def test_an_estimator_without_error_is_not_pooled():
    exact = LinearRegression()
    result = cross_site_validate(exact, AB, AB["a"], site=SMALL["site"], scoring="mae")
    assert result.table["status"].isin(["ok", "not estimable"]).all() and result.summary()


def refused(match, kind=ValueError, estimator=MODEL, X=AB, y=Y, **options):
    with pytest.raises(kind, match=match) as caught:
        cross_site_validate(estimator, X, y, **{"site": SMALL["site"], **options})
    return caught.value


ARGUMENTS = [
    ({"site": "centre"}, r"'centre', which is not a column of X; X has \['a', 'b'\]"),
    ({"site": 7}, "site is 7, which is not a column of X"),
    ({"site": "a", "X": AB.to_numpy()}, "an array without names"),
    ({"site": SMALL["site"][1:]}, r"site has the shape \(239,\), but X has 240 rows"),
    ({"site": SMALL["site"].where(SMALL.index != 3)}, "site of row 3 is missing"),
    ({"site": np.where(np.arange(240) == 5, np.nan, 1.0)}, "site of row 5 is missing"),
    ({"site": ["only"] * 240}, 'all 240 rows are of site "only"'),
    ({"groups": np.where(np.arange(240) == 5, None, 1)}, "groups of row 5 is missing"),
    ({"y": np.where(np.arange(240) == 9, np.nan, Y)}, "y of row 9 is missing"),
    ({"y": np.ones(240)}, "y has only the class"),
    ({"y": Y[1:]}, "inconsistent numbers of samples"),
    ({"cv": "loso"}, "cv is 'loso'"),
    ({"cv": 1}, "cv is 1; with 6 sites it must be from 2 to 6"),
    ({"cv": 7}, "cv is 7"),
    ({"cv": KFold(3, shuffle=True, random_state=0)}, 'rows of site "s0" into training and test'),
    ({"target": "old"}, "target is 'old'"),
    ({"update": "refit"}, "update is 'refit'"),
    ({"n_target": 5}, 'n_target is 5, but target="new"'),
    ({"target": "updated"}, 'target="updated" needs n_target'),
    ({"target": "updated", "n_target": []}, "empty list"),
    ({"target": "updated", "n_target": [5, -1]}, "n_target is -1"),
    ({"target": "updated", "n_target": 2.5}, "n_target is 2.5"),
    ({"target": "updated", "n_target": 5, "n_repeats": 0}, "n_repeats is 0"),
    ({"scoring": "auroc"}, "auroc"),
    ({"benchmark": {"brier": 0.2}, "scoring": "roc_auc"}, "benchmark is for 'brier'"),
    ({"benchmark": 1.5}, "benchmark of roc_auc is 1.5; it must be between 0 and 1"),
    ({"benchmark": "high"}, "benchmark of roc_auc is 'high'"),
    ({"benchmark": {"calibration_slope": 1.0}}, "neither a high nor a low value"),
    ({"min_events": -1}, "min_events is -1"),
    ({"confidence_level": 95}, "confidence_level is 95"),
    ({"pooling": "fixed"}, "pooling is 'fixed'"),
    ({"ci": "t"}, "ci is 't'"),
    ({"pi_method": "bayes"}, "pi_method is 'bayes'"),
    ({"pi_dof": "k"}, "pi_dof is 'k'"),
    ({"random_state": -1}, "Seed must be between 0"),
]


@pytest.mark.parametrize("options, match", ARGUMENTS, ids=lambda v: v if isinstance(v, str) else "")
def test_bad_arguments_get_one_sentence(options, match):
    refused(match, **options)


def test_estimators_that_cannot_be_validated():
    refused("CalibratedClassifierCV", TypeError, LinearSVC())
    refused("neither a classifier nor a regressor", TypeError, KMeans(2))
    refused("needs numbers", ValueError, Ridge(), y=np.where(Y, "yes", "no"))
    known = {"n_target": 5}
    refused("can adapt to unlabeled", TypeError, target="unlabeled", **known)
    refused(
        "adapts by outcomes", TypeError, LogisticMixedModel("site"), target="unlabeled", **known
    )
    refused("recalibrate", TypeError, target="updated", update="adapt", **known)
    three = np.arange(240) % 3
    refused("two classes or a regression", y=three, target="updated", **known)
    plain = cross_site_validate(
        LogisticMixedModel(), AB, Y, site=SMALL["site"], cv=3, target="updated", **known, **FAST
    )
    assert plain.settings["update"] == "recalibrate"
    two = (SMALL["site"] < "s2").to_numpy()
    few = {"X": AB[two], "y": Y[two], "site": SMALL["site"][two]}
    refused("at least two training sites", target="updated", **known, **few)


class Fails(ClassifierMixin, BaseEstimator):
    """Fails where site 2 is left out; `kind` is what it raises, or "nan" for what it predicts."""

    def __init__(self, kind=ValueError):
        self.kind = kind

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.left_out = SMALL["site"][40 * 2] not in set(SMALL["site"][X.index])
        if self.left_out and self.kind != "nan":
            raise self.kind("no convergence")
        return self

    def predict_proba(self, X):
        return np.full((len(X), 2), np.nan if self.left_out else 0.5)


@pytest.mark.parametrize("kind, raised", [(ValueError, ValueError), (KeyError, RuntimeError)])
def test_what_fails_in_a_fold_names_the_site(kind, raised):
    error = refused(r'the fold that tests site "s2" failed: \'?no convergence', raised, Fails(kind))
    assert isinstance(error.__cause__, kind)


def test_predictions_that_are_not_numbers_are_refused():
    refused(
        'site "s2" failed: the prediction of row 80 is not a finite number', estimator=Fails("nan")
    )


def test_an_interrupt_is_not_swallowed():
    with pytest.raises(KeyboardInterrupt):
        cross_site_validate(Fails(KeyboardInterrupt), AB, Y, site=SMALL["site"])


# The result -------------------------------------------------------------------------------------


def test_columns_of_the_tables():
    result = cross_site_validate(MODEL, AB, Y, site=SMALL["site"], **FAST)
    expected = {
        "table": "metric site n_target estimate std_error lower upper n n_events n_train "
        "n_train_sites weight status reason",
        "pooled": "mean lower upper prediction_lower prediction_upper tau2 tau2_lower tau2_upper "
        "i2 n_sites benchmark probability scale reason over_all_rows",
        "predictions": "site row y prediction fold n_target repeat",
        "excluded": "site n reason",
    }
    for name, columns in expected.items():
        assert getattr(result, name).columns.tolist() == columns.split()
    assert result.pooled.index.name == "metric" and result.estimators is None


def test_the_summary_says_what_matters():
    result = cross_site_validate(MODEL, X, BAD, site=SITE, benchmark=0.7)
    text = result.summary()
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"1101 rows at 17 sites \(leave one site out\)", text)
    assert re.search(r"AUC +0\.\d\d +0\.\d\d to 0\.\d\d +0\.\d\d to 0\.\d\d .* \d+/17", text)
    assert re.search(r"AUC above 0.7 at a new site: probability 0\.\d\d", text)
    assert re.search(r"fewer than 5 rows in the smaller class: .*OHSU", text, re.S)
    assert "the best and the worst" in text and "Positive class: True" in text


def test_pooled_rows_that_mislead_are_remarked_upon():
    """Sites differ in how common events are, and a feature tells the site, not the row."""
    rng = np.random.default_rng(0)
    site = np.repeat(np.arange(12), 80)
    common = np.linspace(-2, 2, 12)[site]
    y = rng.random(960) < expit(common)
    table = np.column_stack([common + 0.1 * rng.normal(size=960), rng.normal(size=960)])
    result = cross_site_validate(LogisticRegression(), table, y, site=site, **FAST)
    row = result.pooled.loc["roc_auc"]
    assert row["over_all_rows"] > 0.7 and abs(row["mean"] - 0.5) < 0.05
    assert "on the rows of all sites together the AUC is 0." in result.summary()


def test_results_pickle_and_say_what_they_are():
    result = cross_site_validate(MODEL, AB, Y, site=SMALL["site"], return_estimator=True, **FAST)
    again = pickle.loads(pickle.dumps(result))
    assert_frame_equal(again.table, result.table)
    assert again.summary() == result.summary()
    assert repr(result) == "CrossSiteResult(6 sites, binary, metrics roc_auc)"


def test_a_page_is_written(tmp_path):
    result = cross_site_validate(MODEL, AB, Y, site=SMALL["site"], **FAST)
    result.to_html(tmp_path / "page.html", title="Six sites")
    assert "Six sites" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_line_for_each_site(capsys):
    cross_site_validate(MODEL, AB, Y, site=SMALL["site"], verbose=1, **FAST)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and re.fullmatch(r"site s0: 40 rows, AUC 0\.\d{3}", lines[0])


def test_constant_predictions_are_rows_with_a_reason():
    for model, y in ((DummyClassifier(), Y), (DummyRegressor(), AB["a"])):
        result = cross_site_validate(model, AB, y, site=SMALL["site"], random_state=0)
        absent = result.table["status"] == "not estimable"
        assert (result.table["reason"][absent] != "").all()
        assert result.summary()


class NoArrays(RegressorMixin, BaseEstimator):
    """Says with which container it was fitted."""

    def fit(self, X, y):
        assert isinstance(X, pl.DataFrame)
        return self

    def predict(self, X):
        return X["a"].to_numpy()


def test_the_estimator_gets_the_container_that_was_given():
    table = pl.from_pandas(SMALL)
    result = cross_site_validate(NoArrays(), table, AB["a"] + 1.0 * Y, site="site", scoring="mae")
    assert (result.table["status"] == "ok").all()
