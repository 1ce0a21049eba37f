"""The engine gives the numbers of lme4, glmmTMB and ordinal, for every case in its reference file.

Where they disagree with us, a test says by how much, and which of the two is right.
"""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import pytest
from numpy.testing import assert_allclose
from reference_generalized import (
    CASES,
    GAMMA_OF_LME4,
    PROBIT,
    VERBAGG_ERRORS,
    WINE,
    frame_of,
    new_rows_of,
    rows_of,
)
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import binom, norm

from sklme._engine import glmm, units
from sklme._engine.covariance import Structure
from sklme._engine.cumulative import CumulativeLogit
from sklme._engine.design import Design, Factor
from sklme._engine.families import FAMILIES, ZeroInflated
from sklme._engine.glmm import GeneralizedFit
from sklme._engine.glmm_information import information, problem_at
from sklme._engine.glmm_rows import aux_predictors
from sklme._engine.predict import effect_covariance

ONE = np.zeros(1, int)
INTERCEPT = Structure(1, ((0,),))


@dataclass
class Fit:
    """A case of R, and our fit to the same rows."""

    case: dict
    design: Design
    y: np.ndarray
    given: dict
    labels: dict
    fit: GeneralizedFit

    @cached_property
    def ready(self):
        """(rows made ready, criterion, psi) of the rows of the fit."""
        return problem_at(self.fit, self.design, self.y, **self.given)

    @cached_property
    def information(self):
        return information(self.fit, *self.ready)

    @property
    def fixed(self):
        intercept, coefficients = units.coefficients(self.fit.working)
        return np.concatenate([intercept, coefficients[0]])

    @property
    def sd(self):
        return [L[0, 0, 0] for L in units.relative_factors(self.fit.working)]

    def effects(self, name):
        """Of all levels of a factor, (n_levels,)."""
        t = self.case["groups"].index(name)
        return units.level_effects(self.fit.working)[t][0, :, 0]

    def variances(self, name):
        t = self.case["groups"].index(name)
        return effect_covariance(self.fit.working)[t][0, :, 0, 0]

    def shown(self, name):
        """Where the levels that the reference shows stand among ours."""
        levels = self.case["random_effects"][name]["levels"]
        at = self.labels[name].get_indexer(levels)
        assert (at >= 0).all()
        return at

    def linear(self, X, codes, *, population=False):
        """x'beta, and the effects of known levels."""
        eta = self.fixed[0] + X @ self.fixed[1:]
        if population:
            return eta
        for name, c in zip(self.case["groups"], codes, strict=True):
            eta = eta + np.where(c >= 0, self.effects(name)[c], 0.0)
        return eta

    def mean(self, eta, rows=slice(None)):
        columns = tuple(a[rows] for a in self.given.get("aux", ()))
        return self.fit.family.mean(eta, aux_predictors(self.fit.aux, columns))


def family_of(case):
    if case["family"] == "zero-inflated poisson":
        return ZeroInflated(FAMILIES["poisson"](case["link"]))
    return FAMILIES[case["family"]](case["link"])


def fit_of(case, family=None):
    design, y, given, labels = rows_of(case)
    structures = (INTERCEPT,) * len(case["groups"])
    nodes = case.get("n_quadrature", 1)
    made = glmm.fit(design, y, family or family_of(case), structures, n_quadrature=nodes, **given)
    return Fit(case, design, y, given, labels, made)


@cache
def fit_named(name):
    """The fit of a case, made once."""
    return fit_of(CASES[name])


@pytest.fixture(params=CASES)
def fit(request):
    return fit_named(request.param)


def only_with(*keys):
    """Cases that hold some numbers."""
    names = [name for name, case in CASES.items() if all(key in case for key in keys)]
    return pytest.mark.parametrize("fit", names, indirect=True)


# --------------------------------------------------------------------------------- estimates


def test_coefficients(fit):
    assert_allclose(fit.fixed, fit.case["fixed"], rtol=1e-5)


def test_standard_deviations(fit):
    assert_allclose(fit.sd, fit.case["sd"], rtol=1e-5)


def test_auxiliary_coefficients(fit):
    assert len(fit.fit.aux) == len(fit.case["aux"])
    for ours, theirs in zip(fit.fit.aux, fit.case["aux"], strict=True):
        assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize("fit", [c for c in CASES if CASES[c]["n_quadrature"] == 1], indirect=True)
def test_log_likelihood_with_all_constants(fit):
    """An optimum cannot be worse than another one; lme4's of the grouse ticks is 1e-5 below."""
    gain = fit.fit.log_likelihood - fit.case["log_likelihood"]
    assert -1e-6 < gain < 1.01e-5


def test_the_search_converged_well_within_a_standard_error(fit):
    record = fit.fit.working.optimization
    assert record.converged.all() and record.decrement.max() < 1e-5
    assert fit.fit.separated == () and fit.fit.unbounded == ()


def at_units(fit, theta, beta):
    """-2 log L of our criterion at parameters in units of the data."""
    _, problem, psi = fit.ready
    inside = np.linalg.solve(units.coefficient_map(fit.fit.working), beta)
    psi = np.concatenate([theta, inside, psi[len(theta) + len(beta) :]])
    return problem(psi[None], ONE).value[0]


@only_with("away")
def test_criterion_away_from_the_optimum(fit):
    """lme4's value for more than one node has no constants: there only the rise compares."""
    away = fit.case["away"]
    value = at_units(fit, away["theta"], away["beta"])
    if "rise" in away:
        best = at_units(fit, fit.case["sd"], fit.case["fixed"])
        assert_allclose(value - best, away["rise"], rtol=1e-6)
    else:
        assert_allclose(value, away["value"], rtol=1e-8)


# ---------------------------------------------------------------------------- standard errors


@pytest.mark.parametrize("fit", [name for name in CASES if name != "verbagg"], indirect=True)
def test_standard_errors(fit):
    assert_allclose(np.sqrt(np.diag(fit.information.fixed)), fit.case["standard_errors"], rtol=1e-4)


@only_with("conditional_errors")
def test_standard_errors_at_known_variances(fit):
    working = fit.fit.working
    C = units.coefficient_map(working)
    errors = np.sqrt(np.diag(C @ np.linalg.inv(working.xvx[0]) @ C.T))
    assert_allclose(errors, fit.case["conditional_errors"], rtol=1e-5)


@only_with("aux_errors")
def test_standard_errors_of_auxiliary_coefficients(fit):
    for ours, theirs in zip(fit.information.aux, fit.case["aux_errors"], strict=True):
        assert_allclose(np.sqrt(np.diag(ours)), theirs, rtol=1e-4)


# ----------------------------------------------------------------------------- random effects


def test_random_effects(fit):
    """glmmTMB's were made before the last Newton steps, as its standard deviations were."""
    refined = "glmmTMB" not in fit.case["r_call"]
    for name, theirs in fit.case["random_effects"].items():
        ours = fit.effects(name)
        atol = 1e-7 if refined else 2e-5 * fit.sd[fit.case["groups"].index(name)]
        assert_allclose(ours[fit.shown(name)], theirs["values"], rtol=1e-4, atol=atol)
        assert_allclose(ours @ ours, theirs["sum_of_squares"], rtol=1e-5 if refined else 2e-5)


@only_with("conditional_errors")
def test_conditional_variances(fit):
    found = [name for name, e in fit.case["random_effects"].items() if "variances" in e]
    assert found or fit.case["loader"] == "load_verbagg"
    for name in found:
        theirs = fit.case["random_effects"][name]["variances"]
        assert_allclose(fit.variances(name)[fit.shown(name)], theirs, rtol=1e-4)


@pytest.mark.parametrize(
    "fit", [c for c in CASES if "glmmTMB" in CASES[c]["r_call"]], indirect=True
)
def test_variances_that_include_what_is_not_known_of_the_parameters(fit):
    """Those at known parameters plus J V J', J the derivative of the modes in the parameters."""
    slopes = slopes_of_modes(fit)
    for t, (name, theirs) in enumerate(fit.case["random_effects"].items()):
        more = np.einsum("mq,mn,nq->q", slopes[t], fit.information.covariance, slopes[t])
        ours = fit.variances(name) + more
        assert_allclose(ours[fit.shown(name)], theirs["joint_variances"], rtol=1e-4)


def slopes_of_modes(fit):
    """d b / d psi by central differences of order four, (m, n_levels) a factor."""
    _, problem, psi = fit.ready
    problem(psi[None], ONE)
    columns = []
    for i, size in enumerate(np.sqrt(np.diag(fit.information.covariance))):
        d = np.zeros(len(psi))
        d[i] = 0.02 * size
        there = [problem.at(psi + k * d).modes.b for k in (1, -1, 2, -2)]
        columns.append(
            [(8 * (a - b) - (c - e))[0] / (12 * d[i]) for a, b, c, e in zip(*there, strict=True)]
        )
    return [np.stack(part) for part in zip(*columns, strict=True)]


# -------------------------------------------------------------------------------- predictions


def test_fitted_means(fit):
    X, codes = fit.design.X[:10], [f.codes[:10] for f in fit.design.factors]
    ours = fit.mean(fit.linear(X, codes), slice(10))
    assert_allclose(ours, fit.case["fitted"], rtol=1e-5)


@only_with("new_rows")
@pytest.mark.parametrize("kind", ["conditional", "population"])
def test_predictions_of_new_rows(fit, kind):
    X, codes = new_rows_of(fit.case, fit.labels)
    assert any((c < 0).any() for c in codes)
    eta = fit.linear(X, codes, population=kind == "population")
    assert_allclose(eta, fit.case[kind], rtol=1e-5)
    assert_allclose(fit.mean(eta), fit.case[f"{kind}_response"], rtol=1e-5)


# ------------------------------------------------------------------------------------ ordinal


@pytest.fixture(scope="module")
def wine():
    """Thresholds are the intercepts, and the first auxiliary coefficients."""
    design, y, _, labels = rows_of(WINE)
    design = Design(design.X, design.factors, intercept=False)
    made = glmm.fit(design, y - 1, CumulativeLogit(5), (INTERCEPT,))
    return Fit(WINE, design, y - 1, {}, labels, made)


def test_ordinal_estimates(wine):
    aux = np.concatenate(wine.fit.aux)
    assert_allclose(wine.fit.family.thresholds(aux), WINE["thresholds"], atol=1e-4)
    assert_allclose(wine.fixed[1:], WINE["fixed"], atol=1e-4)
    assert_allclose(wine.sd, [WINE["sd"]], rtol=1e-4)
    assert_allclose(wine.fit.log_likelihood, WINE["log_likelihood"], atol=1e-5)
    at = wine.labels["judge"].get_indexer(WINE["levels"])
    assert_allclose(wine.effects("judge")[at], WINE["values"], rtol=1e-4, atol=1e-4)


def test_ordinal_standard_errors(wine):
    """Those of the thresholds by the chain rule through the logarithms of their steps."""
    found, problem = wine.information, wine.ready[1]
    errors = np.sqrt(np.diag(found.fixed))
    assert_allclose(errors, WINE["standard_errors"], rtol=1e-3)
    steps = np.exp(np.concatenate(wine.fit.aux))
    J = np.tril(np.broadcast_to(np.where(np.arange(4) > 0, steps, 1.0), (4, 4)))
    first = problem.n_theta + problem.n_fixed
    covariance = J @ found.covariance[first:, first:] @ J.T
    assert_allclose(np.sqrt(np.diag(covariance)), WINE["threshold_errors"], rtol=1e-3)


# -------------------------------------------------------------- where we and R do not agree


def ordinal_laplace(eta, codes, thresholds, y, sd):
    """Laplace's approximation written out: each judge's mode by bisection of its slope."""
    ends = np.concatenate([[-np.inf], thresholds, [np.inf]])
    total = 0.0
    for q in range(codes.max() + 1):
        upper, lower = (ends[y[codes == q] + i] - eta[codes == q] for i in (1, 0))

        def value(b, upper=upper, lower=lower):
            return np.log(expit(upper - b) - expit(lower - b)).sum() - 0.5 * (b / sd) ** 2

        def slope(b, upper=upper, lower=lower):
            return (expit(lower - b) - expit(b - upper)).sum() - b / sd**2

        b = brentq(slope, -20, 20, xtol=1e-14)
        shares = np.concatenate([expit(upper - b), expit(lower - b)])
        total += value(b) - 0.5 * np.log1p(sd**2 * (shares * (1 - shares)).sum())
    return total


def test_the_value_of_clmm_is_too_high_since_its_modes_are_rough(wine):
    """At its estimates and at ours the same approximation, written out, agrees with our value."""
    codes, y = wine.design.factors[0].codes, wine.y.astype(int)
    aux = np.concatenate(wine.fit.aux)
    for fixed, thresholds, sd in [
        (wine.fixed[1:], wine.fit.family.thresholds(aux), wine.sd[0]),
        (WINE["fixed"], WINE["thresholds"], WINE["sd"]),
    ]:
        exact = ordinal_laplace(wine.design.X @ fixed, codes, thresholds, y, sd)
        assert_allclose(exact, wine.fit.log_likelihood, atol=1e-9)
        assert_allclose(WINE["log_likelihood"] - exact, 3.5e-6, rtol=0.05)


def integrated(case, fixed, sd):
    """The log-likelihood of a binomial model with a probit link, integrated by brute force."""
    design, k, given, _ = rows_of(case)
    codes, trials = design.factors[0].codes, given["trials"]
    eta = fixed[0] + design.X @ fixed[1:]

    def of_level(q):
        rows = codes == q

        def density(u):
            shares = norm.cdf(eta[rows] + sd * u)
            return np.exp(binom.logpmf(k[rows], trials[rows], shares).sum()) * norm.pdf(u)

        return np.log(quad(density, -8, 8, epsabs=0, epsrel=1e-10, limit=200)[0])

    return sum(of_level(q) for q in range(codes.max() + 1))


@pytest.fixture(scope="module")
def probit():
    return fit_of(CASES["cbpp"] | {"link": "probit"})


def test_probit_estimates_are_better_than_those_with_expected_weights(probit):
    """The observed information makes the value more exact, and its optimum nearer to the best."""
    ours = integrated(probit.case, probit.fixed, probit.sd[0])
    theirs = integrated(probit.case, PROBIT["fixed"], PROBIT["sd"])
    assert_allclose([ours, theirs], [-92.56735, -92.56843], atol=1e-5)
    assert_allclose(probit.fit.log_likelihood, -92.58334, atol=1e-5)
    assert abs(probit.fit.log_likelihood - ours) < 0.4 * abs(PROBIT["log_likelihood"] - theirs)


@pytest.mark.parametrize("at", ["optimum", "away"])
def test_expected_weights_in_the_determinant_give_the_value_of_lme4(probit, at):
    """log |I + Sigma Z'WZ| with W = n mu'^2 / (mu (1 - mu)) at the same modes."""
    theta, beta = [PROBIT["sd"]], PROBIT["fixed"]
    value = PROBIT["log_likelihood"]
    if at == "away":
        theta, beta = PROBIT["away"]["theta"], PROBIT["away"]["beta"]
        value = -0.5 * PROBIT["away"]["value"]
    _, problem, _ = probit.ready
    inside = np.linalg.solve(units.coefficient_map(probit.fit.working), beta)
    point = problem.at(np.concatenate([theta, inside]))
    mu = norm.cdf(point.eta)
    weights = probit.given["trials"] * norm.pdf(point.eta) ** 2 / (mu * (1 - mu))
    (factor,) = probit.design.factors
    sums = np.bincount(factor.codes, weights, factor.n_levels)
    expected = np.log1p(theta[0] ** 2 * sums).sum()
    assert_allclose(point.value + 0.5 * point.modes.at.log_det - 0.5 * expected, value, atol=1e-7)
    assert abs(point.value - value) > 0.01


def test_verbagg_errors_are_the_exact_second_derivatives():
    """Ours, another engine's and difference quotients of the value agree; lme4's do not."""
    fit = fit_named("verbagg")
    ours = np.sqrt(np.diag(fit.information.fixed))
    assert_allclose(ours, VERBAGG_ERRORS, rtol=5e-7)
    off = np.abs(np.array(fit.case["standard_errors"]) / ours - 1)
    assert_allclose(off[:2], [2.3e-4, 1.5e-4], rtol=0.05)
    assert off[2:].max() < 1e-4


def test_verbagg_errors_are_the_second_differences_of_the_value():
    fit = fit_named("verbagg")
    _, problem, psi = fit.ready
    H = second_differences(problem, psi, np.sqrt(np.diag(fit.information.covariance)))
    covariance = np.linalg.inv(0.5 * H)
    C = units.coefficient_map(fit.fit.working)
    beta = slice(problem.n_theta, problem.n_theta + problem.n_fixed)
    errors = np.sqrt(np.diag(C @ covariance[beta, beta] @ C.T))
    assert_allclose(errors, VERBAGG_ERRORS, rtol=2e-5)


def second_differences(problem, psi, sizes, step=0.1):
    """The Hessian of -2 log L from its values, Richardson's extrapolation of steps h and 2 h."""
    m, d = len(psi), np.diag(step * sizes)

    def value(change):
        return problem.at(psi + change).value * -2.0

    def quotient(i, j, s):
        a, b = s * d[i], s * d[j]
        corners = value(a + b) - value(a - b) - value(b - a) + value(-a - b)
        return corners / (4 * s**2 * d[i, i] * d[j, j])

    problem(psi[None], ONE)
    H = np.empty((m, m))
    for i in range(m):
        for j in range(i + 1):
            H[i, j] = H[j, i] = (4 * quotient(i, j, 1.0) - quotient(i, j, 2.0)) / 3
    return H


def test_gamma_estimates_of_lme4_are_not_of_maximum_likelihood():
    """It does not estimate the shape by likelihood: at its estimates that is lower by more than 1.

    glmmTMB, which estimates the shape by maximum likelihood, is the case that we follow.
    """
    fit = fit_named("sleepstudy gamma")
    _, problem, psi = fit.ready
    beta = np.linalg.solve(units.coefficient_map(fit.fit.working), GAMMA_OF_LME4["fixed"])
    values = []
    for log_dispersion in [2 * np.log(GAMMA_OF_LME4["residual_sd"]), psi[-1]]:
        there = np.concatenate([[GAMMA_OF_LME4["sd"]], beta, [log_dispersion]])
        values.append(problem.at(there).value)
    assert max(values) < fit.fit.log_likelihood - 1
    assert_allclose(fit.fit.log_likelihood, fit.case["log_likelihood"], atol=1e-7)


def test_grouse_ticks_are_fitted_better_than_by_lme4():
    """Newton's decrement proves the optimum: at lme4's estimates ours is 1e-5 above its value."""
    fit = fit_named("grouseticks poisson")
    at_theirs = -0.5 * at_units(fit, fit.case["sd"], fit.case["fixed"])
    assert 5e-6 < fit.fit.log_likelihood - fit.case["log_likelihood"] < 2e-5
    assert fit.fit.log_likelihood - at_theirs < 1e-8
    _, problem, psi = fit.ready
    found = problem(psi[None], ONE)
    step = np.linalg.solve(found.observed[0], found.gradient[0])
    assert found.gradient[0] @ step < 1e-9


def test_grouse_ticks_by_place_reach_the_best_known_optimum():
    frame = frame_of({"loader": "load_grouseticks"})
    _, codes = np.unique(frame["LOCATION"], return_inverse=True)
    X = np.column_stack([frame["YEAR"] == year for year in (96, 97)]).astype(float)
    design = Design(X, (Factor(codes, codes.max() + 1, np.ones((len(codes), 1))),))
    made = glmm.fit(design, frame["TICKS"].to_numpy(float), FAMILIES["poisson"](), (INTERCEPT,))
    assert_allclose(-2 * made.log_likelihood, 2298.288960, atol=1e-6)


@pytest.mark.parametrize("name, best", [("cbpp", 184.052564), ("verbagg", 8151.39972)])
def test_best_known_optima(name, best):
    assert_allclose(-2 * fit_named(name).fit.log_likelihood, best, atol=5e-6)
