"""LinearMixedModel gives lme4's numbers, for every case in reference_linear.py."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from reference_linear import CASES, new_data, training_data

from sklme import LinearMixedModel
from sklme._columns import read_columns
from sklme._engine import lmm
from sklme._engine.dof import coefficient_covariance
from sklme._engine.predict import effect_covariance


def standard_errors(model):
    """Standard errors of the intercept and of the coefficients in the order of fixed_names_."""
    return np.sqrt(np.diag(coefficient_covariance(model._fit)))


def conditional_covariance(model):
    """Cov(b | y) at known fixed effects: dict factor -> (n_levels, k, k), levels as in levels_."""
    parts = effect_covariance(model._fit)
    return {key: part[0] for key, part in zip(model.levels_, parts, strict=True)}


def criterion_at(model, X, y, theta, sample_weight=None):
    """-2 log-likelihood (ML) or the REML criterion at theta, dict factor -> (k, k)."""
    rows = read_columns(model, X, model._columns)
    offset = 0.0 if rows.offset is None else rows.offset
    return lmm.criterion_at(
        model._design(rows, sample_weight),
        (np.asarray(y, float) - offset)[:, None],
        [np.asarray(theta[key], float) for key in model.levels_],
        reml=model.method == "reml",
        precision=model.weight_type == "precision" and sample_weight is not None,
    )


@dataclass
class Fit:
    """A case of R, and the model fitted to the same data."""

    case: dict
    model: LinearMixedModel
    X: pd.DataFrame
    y: np.ndarray
    weights: np.ndarray | None

    def by_factor(self, name):
        """(ours, lme4's) for an attribute that is a dict by factor."""
        ours, theirs = getattr(self.model, f"{name}_"), self.case[name]
        assert ours.keys() == theirs.keys()
        return [(np.asarray(ours[key]), np.array(theirs[key])) for key in theirs]

    def level_rows(self, key):
        """Where lme4's levels of a factor stand in our levels_."""
        position = {_label(level): i for i, level in enumerate(self.model.levels_[key])}
        return [position[level] for level in self.case["random_effects"][key]["levels"]]


def _label(level):
    return tuple(map(str, level)) if np.ndim(level) else str(level)


@pytest.fixture(scope="module", params=CASES)
def fit(request):
    case = CASES[request.param]
    X, y, weights = training_data(case)
    model = LinearMixedModel(**case["model"]).fit(X, y, sample_weight=weights)
    return Fit(case, model, X, y, weights)


def _likelihood_tolerance(value):
    return max(1e-6, 1e-11 * abs(value))


def test_log_likelihood(fit):
    expected = fit.case["log_likelihood"]
    assert abs(fit.model.log_likelihood_ - expected) <= _likelihood_tolerance(expected)


def test_criterion_at_theta(fit):
    for point in fit.case["criterion_at_theta"]:
        theta = {key: np.array(factor) for key, factor in point["theta"].items()}
        value = criterion_at(fit.model, fit.X, fit.y, theta, sample_weight=fit.weights)
        assert abs(value - point["value"]) <= _likelihood_tolerance(point["value"])


def test_fixed_effects(fit):
    ours = dict(zip(fit.model.fixed_names_, fit.model.coef_, strict=True))
    ours["(Intercept)"] = fit.model.intercept_
    assert ours.keys() == fit.case["fixed"].keys()
    for name, value in fit.case["fixed"].items():
        assert_allclose(ours[name], value, rtol=1e-6, atol=1e-8, err_msg=name)


def test_standard_errors(fit):
    names = ["(Intercept)", *fit.model.fixed_names_]
    ours = dict(zip(names, standard_errors(fit.model), strict=True))
    in_order = [ours[name] for name in fit.case["fixed"]]
    assert_allclose(in_order, fit.case["standard_errors"], rtol=1e-6)


def test_residual_variance(fit):
    assert_allclose(fit.model.residual_variance_, fit.case["residual_sd"] ** 2, rtol=1e-5)


def test_covariance(fit):
    atol = 1e-6 * fit.case["residual_sd"] ** 2 if fit.case["singular"] else 0
    for ours, theirs in fit.by_factor("covariance"):
        assert_allclose(ours, theirs, rtol=1e-5, atol=atol)


def test_theta(fit):
    atol = 1e-6 if fit.case["singular"] else 0
    for ours, theirs in fit.by_factor("theta"):
        assert_allclose(ours, theirs, rtol=1e-5, atol=atol)


def test_a_variance_at_zero_is_reported(fit):
    assert (len(fit.model.optimization_.at_zero) > 0) == fit.case["singular"]


def test_levels(fit):
    assert {key: len(levels) for key, levels in fit.model.levels_.items()} == fit.case["n_levels"]


def test_random_effects(fit):
    for key, theirs in fit.case["random_effects"].items():
        ours = fit.model.random_effects_[key]
        assert_allclose(ours[fit.level_rows(key)], theirs["values"], rtol=1e-5, atol=1e-6)
        assert_allclose(np.sum(ours**2, axis=0), theirs["sum_of_squares"], rtol=1e-5, atol=1e-6)


def test_conditional_covariance(fit):
    if not any(r["conditional_covariance"] for r in fit.case["random_effects"].values()):
        pytest.skip("lme4's conditional covariances of this large case are not recorded")
    ours = conditional_covariance(fit.model)
    for key, theirs in fit.case["random_effects"].items():
        expected = np.array(theirs["conditional_covariance"], float)  # None becomes NaN
        known = ~np.isnan(np.broadcast_to(expected, ours[key].shape))
        found = np.where(known, ours[key][fit.level_rows(key)], np.nan)
        assert_allclose(found, np.where(known, expected, np.nan), rtol=1e-5, atol=1e-6)


def test_fitted_values(fit):
    fitted = fit.model.predict(fit.X)
    assert_allclose(fitted[:10], fit.case["fitted_first10"], rtol=1e-6)
    assert_allclose(np.sum(fitted**2), fit.case["sum_fitted_sq"], rtol=1e-6)
    assert_allclose(np.sum((fit.y - fitted) ** 2), fit.case["sum_resid_sq"], rtol=1e-5)


def test_predictions_of_new_rows(fit):
    X, expected = new_data(fit.case), fit.case["new_rows"]
    assert_allclose(fit.model.predict(X), expected["conditional"], rtol=1e-6)
    assert_allclose(fit.model.predict_population(X), expected["population"], rtol=1e-6)


def test_optimization(fit):
    assert fit.model.converged_
    assert fit.model.optimization_.n_evaluations <= 20


BALANCED = {"cake_reml", "dyestuff_reml", "machines_reml", "pastes_nested_reml", "penicillin_reml"}


@pytest.mark.parametrize("name", sorted(BALANCED))
def test_a_balanced_design_starts_at_its_estimate(name):
    case = CASES[name]
    X, y, _ = training_data(case)
    assert LinearMixedModel(**case["model"]).fit(X, y).optimization_.n_evaluations == 1
