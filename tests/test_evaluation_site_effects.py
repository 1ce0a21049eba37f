"""Can the site be told from the features, and what share of each feature does it explain?"""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import roc_auc_score

from sklme import LinearMixedModel
from sklme.evaluation import site_separability, variance_by_site
from sklme.evaluation.site_effects import _influence


def table(shift=0.0, n_sites=4, n=60, seed=0):
    """Three features of which the first is shifted by site, and the site."""
    rng = np.random.default_rng(seed)
    site = np.repeat(np.arange(n_sites), n)
    X = pd.DataFrame(rng.normal(size=(len(site), 3)), columns=["a", "b", "c"])
    X["a"] += shift * site
    return X.assign(site=[f"site {s}" for s in site])


def test_sites_that_differ_are_told_and_others_are_not():
    apart = site_separability(table(8.0), "site", random_state=0).loc["(mean)"]
    alike = site_separability(table(0.0), "site", random_state=0).loc["(mean)"]
    assert apart["auc"] > 0.99 and apart["recognised"] > 0.95
    assert alike["lower"] < 0.5 < alike["upper"]
    assert alike["recognised"] < 0.4 and alike["chance"] == 0.25


def test_the_mean_is_that_of_the_sites():
    found = site_separability(table(0.5), "site", random_state=0)
    assert_allclose(found.loc["(mean)", "auc"], found["auc"][:-1].mean(), rtol=1e-12)
    assert_allclose(found.loc["(mean)", "recognised"], found["recognised"][:-1].mean())
    assert found.loc["(mean)", "std_error"] < found["std_error"][:-1].mean()


def test_the_error_of_one_curve_is_that_of_delong():
    """With two sites both curves are the same, so the mean has the error of either."""
    found = site_separability(table(0.5, n_sites=2), "site", random_state=0)
    assert_allclose(found["std_error"], found["std_error"].iloc[0], rtol=1e-10)
    assert_allclose(found["auc"], found["auc"].iloc[0], rtol=1e-12)


def test_influences_sum_to_the_variance_of_delong():
    rng = np.random.default_rng(0)
    here, score = rng.random(80) < 0.4, rng.normal(size=80).round(1)
    high, low = score[here], score[~here]
    psi = (high[:, None] > low) + 0.5 * (high[:, None] == low)
    expected = psi.mean(axis=1).var(ddof=1) / len(high) + psi.mean(axis=0).var(ddof=1) / len(low)
    assert_allclose((_influence(here, score) ** 2).sum(), expected, rtol=1e-12)


def test_order_of_rows_and_names_do_not_matter_without_shuffling():
    X = table(1.0)
    first = site_separability(X.drop(columns="site"), X["site"], random_state=1)
    second = site_separability(X, "site", random_state=1)
    third = site_separability(X.to_numpy(object), 3, random_state=1)
    assert_allclose(second, first)
    assert_allclose(third, first)


def test_patients_are_not_split():
    """Rows that occur twice are recognised by their copy unless the patient is kept whole."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(60, 200))).add_prefix("f")
    X = pd.concat([X, X + 1e-6 * rng.normal(size=X.shape)], ignore_index=True)
    X["site"], X["patient"] = np.arange(120) % 2, np.tile(np.arange(60), 2)
    split = site_separability(X.drop(columns="patient"), "site", random_state=0)
    whole = site_separability(X, "site", groups="patient", random_state=0)
    assert split.loc["(mean)", "auc"] > 0.95 > 0.75 > whole.loc["(mean)", "auc"]


@pytest.mark.parametrize("estimator", [LogisticRegression(), RidgeClassifier()])
def test_any_classifier(estimator):
    X = table(1.0, n_sites=2)
    found = site_separability(X, "site", estimator=estimator, random_state=0)
    assert found.loc["(mean)", "auc"] > 0.7
    by_hand = roc_auc_score(X["site"] == "site 1", X["a"])
    assert_allclose(found.loc["(mean)", "auc"], by_hand, atol=0.05)


@pytest.mark.parametrize(
    "X, message",
    [
        (table().assign(site="one"), 'all 240 rows are of site "one"'),
        (table().assign(b="x"), "column 'b' is not numeric: name it as site or groups"),
        (table()[["site"]], "no feature besides"),
        (table().assign(b=np.inf), "column 'b' is infinite in row 0"),
    ],
)
def test_bad_input_is_named(X, message):
    with pytest.raises(ValueError, match=message):
        site_separability(X, "site")


# Feature by feature -----------------------------------------------------------------------------


def test_shares_are_those_of_linear_mixed_models():
    X = table(0.3, n=20).sample(70, random_state=0)
    found = variance_by_site(X, "site")
    for name in "abc":
        model = LinearMixedModel("site").fit(X[["site"]], X[name])
        between = model.covariance_["site"].item()
        assert_allclose(found.loc[name, "between"], between, rtol=1e-5, atol=1e-9)
        assert_allclose(found.loc[name, "within"], model.residual_variance_, rtol=1e-6)
    assert_allclose(found["share"], found["between"] / (found["between"] + found["within"]))


def test_exact_limits_are_where_the_f_test_of_the_share_rejects():
    """Of balanced sites the limits are (F / F_q - 1) / (F / F_q - 1 + n), Searle (1971)."""
    X = table(0.3, n=20)
    found = variance_by_site(X, "site", confidence_level=0.9)
    groups = [values["a"].to_numpy() for _, values in X.groupby("site")]
    F = stats.f_oneway(*groups)
    ratio = F.statistic / stats.f.ppf([0.95, 0.05], 3, 76)
    assert_allclose(found.loc["a", ["lower", "upper"]], (ratio - 1) / (ratio - 1 + 20), rtol=1e-8)
    assert_allclose(found.loc["a", "p_value"], F.pvalue, rtol=1e-8)


def test_features_that_tell_nothing_say_so():
    X = table(0.5, n=20).assign(constant=1.0, empty=np.nan)
    X["one site"] = X["a"].where(X["site"] == "site 1")
    X["a"] = X["a"].where(X["site"] != "site 1")
    found = variance_by_site(X, "site")
    assert found["reason"].to_dict() == {
        "a": "",
        "b": "",
        "c": "",
        "constant": "it is constant",
        "empty": "all values are missing",
        "one site": "no two sites have values to compare",
    }
    assert found.loc["a", ["n", "n_sites"]].tolist() == [60, 3]
    alone = variance_by_site(X[["a", "site"]].dropna(), "site")
    assert_allclose(found.loc["a", ["share", "lower"]], alone.loc["a", ["share", "lower"]])


def test_the_column_of_sites_is_no_feature_however_it_is_named():
    X = table(0.5)
    X["site"] = np.repeat(np.arange(4), 60)
    by_name = variance_by_site(X, "site")
    for given in (pl.from_pandas(X), X):
        pd.testing.assert_frame_equal(variance_by_site(given, "site"), by_name)
    for position in (3, -1, np.int64(3)):
        pd.testing.assert_frame_equal(variance_by_site(X, position), by_name)
        found = variance_by_site(X.to_numpy(), position)
        assert found.index.tolist() == [0, 1, 2]
        assert_allclose(found["share"], by_name["share"])
    told = site_separability(X, "site", random_state=0)
    pd.testing.assert_frame_equal(
        site_separability(pl.from_pandas(X), "site", random_state=0), told
    )


def test_columns_of_the_same_name_stay_apart():
    X = table(0.5)
    found = variance_by_site(X[["a", "b", "c"]].set_axis(["a", "b", "b"], axis=1), X["site"])
    assert found.index.tolist() == ["a", "b", "b"]
    assert_allclose(found["share"], variance_by_site(X, "site")["share"])


def test_separability_needs_two_parts():
    with pytest.raises(ValueError, match="cv is 1"):
        site_separability(table(), "site", cv=1)
