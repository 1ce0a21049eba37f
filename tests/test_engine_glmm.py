"""Fits of generalised mixed models: optima, limits, invariances, new rows, standard errors."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from dense_generalized import EVERY, Case, family_of, make, structure_of
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, logit

from sklme._engine import glmm, units
from sklme._engine.covariance import Structure
from sklme._engine.design import Design, Factor
from sklme._engine.glmm_adapt import adapt
from sklme._engine.glmm_information import information, problem_at
from sklme._engine.predict import effect_covariance
from sklme._engine.sweep import factorise
from sklme._engine.system import System

ONE = np.zeros(1, int)
INTERCEPT = Structure(1, ((0,),))
MOST = 90.0  # where the rows nearest to the border are when a search gives up


def design_of(case):
    """X without the intercept, and the factors."""
    factors = tuple(Factor(c, q, z) for c, q, z, _ in case.groups)
    return Design(case.X[:, 1:], factors, weights=case.weights)


def given_of(case):
    """The keyword arguments of a fit."""
    aux = tuple(A[:, 1:] if A.shape[1] > 1 else None for A in case.aux)
    return {"offset": case.offset, "trials": case.trials, "aux": aux}


def fit_case(case, **options):
    return glmm.fit(
        design_of(case), case.y, case.family, case.structures, **given_of(case), **options
    )


def estimates(fit):
    """Intercept and coefficients, the covariance of each factor, auxiliary coefficients."""
    intercept, coefficients = units.coefficients(fit.working)
    covariances = [(L @ L.swapaxes(1, 2))[0] for L in units.relative_factors(fit.working)]
    return np.concatenate([intercept, coefficients[0]]), covariances, fit.aux


def psi_of(fit, case):
    """The estimates as the oracle takes them."""
    fixed, _, aux = estimates(fit)
    pairs = zip(case.structures, units.relative_factors(fit.working), strict=True)
    theta = [s.theta(L[0]) for s, L in pairs]
    return np.concatenate([*theta, fixed, *aux])


def effects(fit):
    """b of each factor, (n_levels, k)."""
    return [b[0] for b in units.level_effects(fit.working)]


def linear(fit, design, offset=0.0):
    """The linear predictor of rows of known levels."""
    fixed = estimates(fit)[0]
    return fixed[0] + design.X @ fixed[1:] + design.random_part(effects(fit)) + offset


def crossed(family="poisson log", n=300, seed=0, **extras):
    """Rows of two crossed factors whose effects are not zero, and a slope of the first."""
    rng = np.random.default_rng(seed)
    case = make(family, "crossed", n=n, seed=seed, **extras)
    (g, q, z, s), (h, r, w, u) = case.groups
    eta = 0.5 + 0.3 * case.X[:, 1] + 0.8 * rng.normal(size=q)[g] + 0.6 * rng.normal(size=r)[h]
    eta += 0.4 * (z[:, 1] * rng.normal(size=q)[g])
    return redrawn(replace(case, groups=[(g, q, z, s), (h, r, w, u)]), eta, rng)


def redrawn(case, eta, rng, tau=-0.7):
    """The case with outcomes drawn at eta."""
    tau = np.full((len(case.family.aux_names), 1), tau)
    y = np.asarray(case.family.sample(eta, tau, case.trials, rng), float)
    return replace(case, y=np.clip(y, 0.005, 0.995) if case.family.name == "beta" else y)


# --------------------------------------------------------------------------------- the optimum


def grouped(name, n=240, seed=0, **extras):
    """Rows of ten levels, a random intercept, columns far from zero and of many sizes."""
    rng = np.random.default_rng(seed)
    case = make(name, "one", n=n, seed=seed, **extras)
    g, x = rng.integers(10, size=n), rng.normal(size=(n, 2))
    positive = case.family.link.name in ("identity", "inverse", "sqrt")
    base, size = (2.0, 0.15) if positive else (0.3, 0.7)
    eta = base + size * (0.3 * x[:, 0] + rng.normal(size=10)[g])
    X = np.column_stack([np.ones(n), 50 + 5 * x[:, 0], -0.1 + 1e-2 * x[:, 1]])
    aux = tuple(X[:, : A.shape[1]] for A in case.aux)
    case = replace(case, X=X, aux=aux, groups=[(g, 10, np.ones((n, 1)), INTERCEPT)])
    if case.offset is not None:
        case = replace(case, offset=0.1 * case.offset)
    return redrawn(case, np.maximum(eta, 0.5) if positive else eta, rng)


# no intercept beside thresholds
MOST_FAMILIES = [name for name in EVERY if name != "cumulative logit"]


@pytest.mark.parametrize("name", MOST_FAMILIES)
def test_a_fit_is_an_optimum_of_the_oracle(name):
    """Its likelihood is that of its estimates in units of the data, and no step gains."""
    case = grouped(name, weights=True, offset=True)
    fit = fit_case(case)
    record = fit.working.optimization
    assert record.converged.all()
    assert_allclose(fit.log_likelihood, case.value(psi_of(fit, case)), atol=1e-7)
    _, problem, psi = problem_at(fit, design_of(case), case.y, **given_of(case))
    found = problem(psi[None], ONE)
    H = information(fit, *problem_at(fit, design_of(case), case.y, **given_of(case)))
    assert found.gradient[0] @ H.covariance @ found.gradient[0] < 1e-8
    assert fit.separated == () and fit.unbounded == ()


@pytest.mark.parametrize("name", ["nb2 log", "zero-inflated poisson", "gamma log"])
def test_auxiliary_coefficients_of_columns_are_in_units_of_the_data(name):
    case = grouped(name, n=500, covariates=True)
    fit = fit_case(case)
    assert [len(a) for a in fit.aux] == [2] * len(fit.family.aux_names)
    assert_allclose(fit.log_likelihood, case.value(psi_of(fit, case)), atol=1e-6)


@pytest.mark.parametrize("structure", ["full", "diagonal", "spherical"])
def test_several_factors_with_slopes(structure):
    case = crossed("nb2 log", n=600, weights=True, offset=True)
    case = replace(
        case, groups=[(c, q, z, structure_of(z.shape[1], structure)) for c, q, z, _ in case.groups]
    )
    fit = fit_case(case)
    assert fit.working.optimization.converged.all()
    assert_allclose(fit.log_likelihood, case.value(psi_of(fit, case)), atol=1e-7)
    assert fit.n_parameters == 3 + sum(s.n_theta for s in case.structures) + 1


def test_without_random_effects_it_is_the_generalised_linear_model():
    """A log-linear model of two groups has their means."""
    x = np.repeat([0.0, 1.0], 30)
    y = np.random.default_rng(0).poisson(np.exp(0.5 + x)).astype(float)
    fit = glmm.fit(Design(x[:, None], ()), y, family_of("poisson log"), ())
    means = [np.log(y[x == v].mean()) for v in (0, 1)]
    assert_allclose(estimates(fit)[0], [means[0], means[1] - means[0]], rtol=1e-6)
    assert effects(fit) == []


def test_thresholds_take_the_place_of_the_intercept():
    case = make("cumulative logit", "one", n=400)
    rng = np.random.default_rng(0)
    g = case.groups[0][0]
    case = redrawn(case, case.X[:, 1] + rng.normal(size=8)[g], rng, tau=0.0)
    design = replace(design_of(case), intercept=False)
    fit = glmm.fit(design, case.y, case.family, case.structures)
    assert fit.working.optimization.converged.all()
    psi = psi_of(fit, case)
    assert psi[1] == 0.0
    assert_allclose(fit.log_likelihood, case.value(psi), atol=1e-8)


def test_effects_solve_the_working_model():
    """Given beta, the effects are those of the linear mixed model that the record holds."""
    fit = fit_case(crossed())
    working = fit.working
    at = factorise(System(working.gram), [L[0] for L in working.Lambdas])
    beta = working.beta[0]
    answer = [f.zy - np.einsum("apq,p->aq", f.zx, beta)[:, None] for f in working.gram.factors]
    for b, kept in zip(at.posterior(answer)[0], working.effects, strict=True):
        assert_allclose(b, kept, atol=1e-8)


def test_progress_is_told_and_the_number_of_steps_is_bounded():
    seen = []
    case = crossed()
    fit = fit_case(case, progress=lambda *state: seen.append(state))
    assert len(seen) >= 3 and all(len(state) == 4 for state in seen)
    short = fit_case(case, max_iter=1)
    assert not short.working.optimization.converged.all()
    assert short.log_likelihood < fit.log_likelihood


# --------------------------------------------------------------------------------- invariances


def same_fit(one, two, fixed=None, rtol=1e-5):
    """Whether two fits have the same likelihood and, but for `fixed`, the same estimates."""
    assert_allclose(one.log_likelihood, two.log_likelihood, rtol=1e-10)
    a, b = estimates(one), estimates(two)
    assert_allclose(a[0] if fixed is None else fixed, b[0], rtol=rtol, atol=1e-6)
    for x, y in zip(a[1], b[1], strict=True):
        assert_allclose(x, y, rtol=rtol, atol=1e-6)


def test_order_of_rows_and_numbers_of_levels_do_not_matter():
    case, rng = crossed("nb1 log", weights=True), np.random.default_rng(0)
    order = rng.permutation(len(case.y))
    names = [rng.permutation(q) for _, q, *_ in case.groups]
    other = replace(
        case,
        X=case.X[order],
        y=case.y[order],
        weights=case.weights[order],
        groups=[
            (p[c][order], q, z[order], s)
            for (c, q, z, s), p in zip(case.groups, names, strict=True)
        ],
    )
    one, two = fit_case(case), fit_case(other)
    same_fit(one, two)
    for a, b, p in zip(effects(one), effects(two), names, strict=True):
        assert_allclose(a, b[p], atol=1e-5)


@pytest.mark.parametrize("shift, scale", [(3.0, 1.0), (-1e3, 1.0), (0.0, 1e-4), (1e5, 1e3)])
def test_shift_and_scale_of_a_column_with_a_random_slope(shift, scale):
    """Under a full covariance it is the same model, in other units."""
    case = crossed()
    X = case.X.copy()
    X[:, 1] = shift + scale * X[:, 1]
    (g, q, _, s), second = case.groups
    other = replace(case, X=X, groups=[(g, q, X[:, :2], s), second])
    one, two = fit_case(case), fit_case(other)
    T = np.array([[1.0, -shift / scale], [0.0, 1.0 / scale]])
    assert_allclose(one.log_likelihood, two.log_likelihood, rtol=1e-9)
    (fixed, (G, _), _), (moved, (H, _), _) = estimates(one), estimates(two)
    assert_allclose(moved, [*(T @ fixed[:2]), fixed[2]], rtol=1e-5)
    size = np.sqrt(np.outer(np.diag(T @ G @ T.T), np.diag(T @ G @ T.T)))
    assert_allclose(H / size, T @ G @ T.T / size, atol=1e-4)
    assert_allclose(linear(one, design_of(case)), linear(two, design_of(other)), atol=1e-5)


@pytest.mark.parametrize("name", ["poisson log", "binomial probit", "gamma log", "nb2 log"])
def test_weights_are_repeated_rows(name):
    case = crossed(name, n=150, weights=True, offset=True)
    same_fit(fit_case(case), fit_case(case.repeated()))


def test_trials_are_single_rows_added_up():
    """The same estimates; the likelihood differs by the binomial coefficients."""
    case = crossed("binomial logit", n=150)
    k, n = case.y.astype(int), case.trials.astype(int)
    at = np.repeat(np.arange(len(k)), n)
    y = np.concatenate([np.arange(m) < s for s, m in zip(k, n, strict=True)]).astype(float)
    single = replace(
        case,
        X=case.X[at],
        y=y,
        trials=None,
        groups=[(c[at], q, z[at], s) for c, q, z, s in case.groups],
    )
    one, two = fit_case(case), fit_case(single)
    for a, b in zip(estimates(one)[1], estimates(two)[1], strict=True):
        assert_allclose(a, b, atol=1e-6)
    assert_allclose(estimates(one)[0], estimates(two)[0], atol=1e-6)
    assert_allclose(one.log_likelihood - two.log_likelihood, case.outcome.constant, rtol=1e-8)


def test_a_constant_offset_moves_the_intercept():
    case = crossed()
    one, two = fit_case(case), fit_case(replace(case, offset=np.full(len(case.y), 1.5)))
    fixed = estimates(one)[0]
    same_fit(one, two, fixed=[fixed[0] - 1.5, *fixed[1:]])


def test_rows_of_weight_nearly_zero_do_not_count():
    case = crossed()
    weights = np.where(np.arange(len(case.y)) < 250, 1.0, 1e-12)
    kept = replace(
        case,
        X=case.X[:250],
        y=case.y[:250],
        groups=[(c[:250], q, z[:250], s) for c, q, z, s in case.groups],
    )
    one, two = fit_case(replace(case, weights=weights)), fit_case(kept)
    assert_allclose(one.log_likelihood, two.log_likelihood, atol=1e-6)


# ---------------------------------------------------- variances that cannot be told, or are zero


def one_factor(codes, y, x=None, name="binomial logit", trials=None, q=None):
    """A fit with one random intercept."""
    n = len(y)
    X = np.zeros((n, 0)) if x is None else x.reshape(n, -1)
    factor = Factor(codes, int(codes.max()) + 1 if q is None else q, np.ones((n, 1)))
    design = Design(X, (factor,))
    return glmm.fit(design, y, family_of(name), (INTERCEPT,), trials=trials)


def plain(y, x=None, name="binomial logit", trials=None):
    """The model without random effects."""
    X = np.zeros((len(y), 0)) if x is None else x.reshape(len(y), -1)
    return glmm.fit(Design(X, ()), y, family_of(name), (), trials=trials)


def yes_no(n, seed=0):
    return (np.random.default_rng(seed).random(n) < 0.4).astype(float)


@pytest.mark.parametrize(
    "codes, name",
    [
        (np.zeros(40, int), "binomial logit"),
        (np.zeros(40, int), "poisson log"),
        (np.arange(40), "binomial logit"),
        (np.arange(40), "nb2 log"),
        (np.arange(40), "gamma log"),
    ],
)
def test_variances_that_the_data_cannot_tell_are_zero(codes, name):
    """A factor of one level; a level for each yes or no, or beside a dispersion of the family."""
    y = (
        yes_no(40)
        + (name != "binomial logit") * np.random.default_rng(1).poisson(3.0, 40)
        + (name == "gamma log")
    )
    x = np.random.default_rng(2).normal(size=40)
    fit = one_factor(codes, y, x, name)
    assert fit.working.unidentified == ((0,),)
    assert not effects(fit)[0].any() and not estimates(fit)[1][0].any()
    assert_allclose(fit.log_likelihood, plain(y, x, name).log_likelihood, rtol=1e-9)


@pytest.mark.parametrize("name", ["poisson log", "binomial logit"])
def test_a_level_for_each_row_takes_up_more_variance_than_the_family_has(name):
    rng = np.random.default_rng(0)
    eta = 0.5 + rng.normal(size=200)
    trials = np.full(200, 20.0) if name.startswith("binomial") else None
    y = rng.binomial(20, expit(eta)) if trials is not None else rng.poisson(np.exp(eta))
    fit = one_factor(np.arange(200), y.astype(float), name=name, trials=trials)
    assert fit.working.unidentified == ((),)
    assert_allclose(estimates(fit)[1][0], 1.0, atol=0.3)


def test_a_slope_that_the_fixed_effects_reproduce_in_each_level_has_no_variance():
    """A random coefficient of a column that is the same in every level stands for its intercept."""
    rng = np.random.default_rng(0)
    g = rng.integers(10, size=200)
    z = np.column_stack([np.ones(200), np.full(200, 2.0)])
    y = rng.poisson(np.exp(rng.normal(size=10)[g])).astype(float)
    design = Design(np.zeros((200, 0)), (Factor(g, 10, z),))
    fit = glmm.fit(design, y, family_of("poisson log"), (structure_of(2, "diagonal"),))
    assert fit.working.unidentified == ((1,),)
    assert_allclose(fit.log_likelihood, one_factor(g, y, name="poisson log").log_likelihood)


def test_columns_that_depend_on_others_are_dropped():
    case = crossed()
    X = np.column_stack([case.X[:, 1:], case.X[:, 1] - 2 * case.X[:, 2], np.full(len(case.y), 7.0)])
    fit = glmm.fit(
        replace(design_of(case), X=X), case.y, case.family, case.structures, **given_of(case)
    )
    assert_array_equal(fit.working.columns, [True, True, True, False, False])
    whole = fit_case(case)
    assert_allclose(fit.log_likelihood, whole.log_likelihood, rtol=1e-11)
    assert_allclose(estimates(fit)[0], [*estimates(whole)[0], 0.0, 0.0], rtol=1e-6)
    assert fit.n_parameters == whole.n_parameters


@pytest.mark.parametrize("name", ["poisson log", "binomial logit", "nb2 log"])
def test_variances_settle_at_exactly_zero(name):
    """Levels that differ less than chance: the optimum is the model without them."""
    rng = np.random.default_rng(0)
    y = np.tile([0.0, 1.0, 1.0, 0.0, 2.0, 0.0, 5.0, 1.0, 0.0, 0.0], 12)
    trials = np.full(120, 6.0) if name.startswith("binomial") else None
    codes, x = np.repeat(np.arange(12), 10), rng.normal(size=120)
    fit = one_factor(codes, y, x, name, trials)
    assert estimates(fit)[1][0] == 0.0 and not effects(fit)[0].any()
    assert fit.working.optimization.converged.all() and fit.working.unidentified == ((),)
    assert_allclose(fit.log_likelihood, plain(y, x, name, trials).log_likelihood, rtol=1e-10)


def test_one_variance_at_zero_beside_one_that_is_not():
    rng = np.random.default_rng(0)
    h = np.tile(np.arange(20), 15)
    y = rng.poisson(np.exp(1 + rng.normal(size=20)[h])).astype(float)
    g = np.empty(300, int)  # levels with sums as equal as can be
    g[np.argsort(y, kind="stable")] = np.tile([*range(10), *range(9, -1, -1)], 15)
    one = np.ones((300, 1))
    design = Design(np.zeros((300, 0)), (Factor(g, 10, one), Factor(h, 20, one)))
    fit = glmm.fit(design, y, family_of("poisson log"), (INTERCEPT, INTERCEPT))
    (G, H) = estimates(fit)[1]
    assert G == 0.0 and H > 0.3
    alone = one_factor(h, y, name="poisson log")
    assert_allclose(fit.log_likelihood, alone.log_likelihood, rtol=1e-10)


# ---------------------------------------------------------------- estimates that are not finite


def data(seed=1, n=200):
    rng = np.random.default_rng(seed)
    x, g, d = rng.normal(size=n), rng.integers(20, size=n), rng.integers(4, size=n)
    return rng, x, g, d


def _complete():
    _, x, g, _ = data()
    return x, (x > 0).astype(float), g, "binomial logit", (1,)


def _all_zero(name):
    _, x, g, _ = data()
    return x, np.zeros(200), g, name, (0,)


def _all_one():
    _, x, g, _ = data()
    return x, np.ones(200), g, "binomial logit", (0,)


def _dummy(name):
    """One of three indicators has zeros only."""
    rng, x, g, d = data()
    X = np.column_stack([x, d == 1, d == 2, d == 3]).astype(float)
    y = rng.poisson(np.exp(x)) if name == "poisson log" else x + rng.logistic(size=200) > 0
    return X, np.where(d == 2, 0.0, y), g, name, (3,)


def _direction():
    """Neither column alone, but their sum separates."""
    rng, x, g, _ = data()
    z = rng.normal(size=200)
    return np.column_stack([x, z]), (x + z > 0).astype(float), g, "binomial logit", (1, 2)


SEPARATED = {
    "complete": _complete,
    "all no": lambda: _all_zero("binomial logit"),
    "all yes": _all_one,
    "no probit": lambda: _all_zero("binomial probit"),
    "no counts": lambda: _all_zero("poisson log"),
    "no counts nb2": lambda: _all_zero("nb2 log"),
    "no counts nb1": lambda: _all_zero("nb1 log"),
    "an indicator": lambda: _dummy("binomial logit"),
    "an indicator cloglog": lambda: _dummy("binomial cloglog"),
    "an indicator of counts": lambda: _dummy("poisson log"),
    "a direction": _direction,
}


@pytest.mark.parametrize("case", SEPARATED)
def test_coefficients_without_a_finite_estimate_are_named(case):
    X, y, g, name, expected = SEPARATED[case]()
    fit = one_factor(g, y, X, name, q=20)
    assert set(expected) <= set(fit.separated)
    assert fit.separated == expected or case == "a direction"
    assert np.isfinite(estimates(fit)[0]).all() and fit.log_likelihood <= 1e-9


@pytest.mark.parametrize("case", SEPARATED)
def test_a_linear_predictor_does_not_run_away(case):
    """It stops when the rows that are the hardest to tell are told; others may be far beyond."""
    X, y, g, name, _ = SEPARATED[case]()
    fit = one_factor(g, y, X, name, q=20)
    X = X.reshape(len(y), -1)
    eta = linear(fit, Design(X, (Factor(g, 20, np.ones((len(y), 1))),)))
    assert np.abs(eta).min() <= MOST and np.abs(eta).max() < 1e6


def test_the_other_coefficients_are_as_without_the_separated_rows():
    """Where an indicator has zeros only, its rows say nothing of the rest."""
    X, y, g, name, _ = SEPARATED["an indicator of counts"]()
    fit, rest = one_factor(g, y, X, name, q=20), X[:, 2] == 0
    kept = one_factor(g[rest], y[rest], X[rest][:, [0, 1, 3]], name, q=20)
    assert_allclose(estimates(fit)[0][[0, 1, 2, 4]], estimates(kept)[0], atol=1e-4)
    assert_allclose(fit.log_likelihood, kept.log_likelihood, atol=1e-6)


def test_levels_that_are_all_yes_or_all_no_have_no_finite_variance():
    _, x, g, _ = data()
    fit = one_factor(g, (g % 2).astype(float), x, q=20)
    assert fit.unbounded == ((0, 0),) and fit.separated == ()
    assert np.isfinite(fit.log_likelihood)


def test_nothing_is_separated_where_all_is_well():
    case = crossed("binomial logit")
    fit = fit_case(case)
    assert fit.separated == () and fit.unbounded == ()
    _, x, g, d = data()
    rare = np.where(d == 2, np.arange(200) % 97 == 0, x > 0.3).astype(float)  # nearly separated
    X = np.column_stack([d == 1, d == 2, d == 3]).astype(float)
    assert one_factor(g, rare, X, q=20).separated == ()


# ------------------------------------------------------------------------------- large and small


@pytest.mark.parametrize("size", [1e6, 1e9])
def test_huge_counts(size):
    """Counts so large that a level knows its own mean: effects are logarithms of means."""
    rng, _, g, _ = data()
    y = rng.poisson(size * np.exp(rng.normal(size=20)[g])).astype(float)
    fit = one_factor(g, y, name="poisson log")
    assert fit.working.optimization.converged.all()
    means = np.log(np.bincount(g, y) / np.bincount(g))
    assert_allclose(effects(fit)[0][:, 0] + estimates(fit)[0][0], means, atol=1e-4)
    assert_allclose(estimates(fit)[0][0], means.mean(), atol=1e-4)
    assert_allclose(estimates(fit)[1][0], means.var(), rtol=1e-4)


def test_one_level_far_above_all_others():
    """A site with a million where the others have a handful."""
    rng, _, g, _ = data()
    y = rng.poisson(np.where(g == 7, 3e6, 2.0)).astype(float)
    fit = one_factor(g, y, name="poisson log")
    assert np.isfinite(fit.log_likelihood) and fit.working.optimization.converged.all()
    eta = estimates(fit)[0][0] + effects(fit)[0][7, 0]
    assert_allclose(np.exp(eta), y[g == 7].mean(), rtol=1e-4)


@pytest.mark.parametrize("unit", [1e-8, 1.0, 1e8])
def test_the_unit_of_a_positive_response_moves_the_intercept(unit):
    rng, x, g, _ = data()
    y = rng.gamma(2.0, size=200) * np.exp(0.5 * x + 0.6 * rng.normal(size=20)[g])
    one, two = (one_factor(g, y * u, x, "gamma log") for u in (1.0, unit))
    fixed = estimates(one)[0]
    assert_allclose(estimates(two)[0], [fixed[0] + np.log(unit), fixed[1]], atol=1e-5)
    assert_allclose(estimates(two)[1][0], estimates(one)[1][0], atol=1e-5)
    gain = two.log_likelihood - one.log_likelihood
    assert_allclose(gain, -200 * np.log(unit), atol=1e-6)


@pytest.mark.parametrize("name", ["zero-inflated poisson", "nb2 log"])
def test_more_rows_than_a_block(name):
    """Rows beyond one block of the families' terms; estimates near the truth."""
    rng = np.random.default_rng(0)
    g = rng.integers(30, size=20_000)
    eta = 1.0 + 0.5 * rng.normal(size=30)[g]
    family = family_of(name)
    y = np.asarray(family.sample(eta, np.full((1, 1), -1.0), None, rng), float)
    fit = one_factor(g, y, name=name)
    assert fit.working.optimization.converged.all()
    assert_allclose(fit.aux[0], -1.0, atol=0.1)
    assert_allclose(np.sqrt(estimates(fit)[1][0]), 0.5, atol=0.2)


def rough(name, layout, seed):
    """Effects and slopes so large that single rows are far from their means."""
    rng, case = np.random.default_rng(seed), make(name, layout, n=150, seed=seed)
    eta = 0.3 + 0.3 * case.X[:, 1]
    for c, q, z, _ in case.groups:
        eta = eta + (z * (0.7 * rng.normal(size=(q, z.shape[1])))[c]).sum(axis=1)
    return redrawn(case, np.clip(eta, -6, 6), rng)


HARD = [
    *(("inverse gaussian log", seed) for seed in (7, 8, 9)),
    *(("zero-inflated nb1", seed) for seed in (8, 10)),
    *(("tweedie log", seed) for seed in (5, 6)),
    ("binomial probit", 0),
]


@pytest.mark.parametrize("name, seed", HARD)
def test_searches_end_at_an_optimum_where_levels_differ_much(name, seed):
    """Also where rows are not concave, so that modes may be several."""
    case = rough(name, "slopes", seed)
    fit = fit_case(case)
    assert np.isfinite(fit.log_likelihood) and fit.separated == () and fit.unbounded == ()
    assert fit.working.optimization.converged.all()


ONE_FACTOR = (Structure(1, ((0,),)),)


def test_a_standard_deviation_with_a_unit_is_not_called_endless():
    """With the identity link eta has the unit of y: 200 days is no sign of a search without end."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(20), 10)
    y = (2000 + 200 * rng.normal(size=20)[g]) * rng.gamma(50, 1 / 50, 200)
    design = Design(np.zeros((200, 0)), (Factor(g, 20, np.ones((200, 1))),))
    for steps in (1, 100):
        made = glmm.fit(design, y, family_of("gamma identity"), ONE_FACTOR, max_iter=steps)
        assert made.working.Lambdas[0][0, 0, 0] ** 2 > 100**2
        assert made.working.optimization.converged.all() == (steps > 1)
        assert made.unbounded == ()


def test_a_level_between_one_mode_and_two_has_no_optimum():
    """There log |I + Sigma Z'WZ| falls without bound: the fit says that it found no optimum."""
    fit = fit_case(rough("zero-inflated nb1", "slopes", 9))
    assert not fit.working.optimization.converged.any()
    assert np.isfinite(fit.log_likelihood)


def test_effects_of_a_link_that_ends_at_zero():
    """A mean cannot pass below zero: the search stays inside, and finds a way to begin inside."""
    fit = fit_case(rough("poisson sqrt", "one", 2))
    assert np.isfinite(fit.log_likelihood)


# --------------------------------------------------------------------------------- new rows


@dataclass
class Parts:
    """Rows to fit and rows to adapt to; levels of the first factor are new from `known` on."""

    case: Case
    fit: glmm.GeneralizedFit
    later: Case
    known: int


def take(case, rows, levels=None):
    """Some rows of a case, the first factor cut to its first levels."""
    some = {name: getattr(case, name) for name in ("X", "y", "trials", "weights", "offset")}
    groups = list(case.groups)
    if levels is not None:
        groups[0] = (groups[0][0], levels, *groups[0][2:])
    return replace(
        case,
        **{name: None if a is None else a[rows] for name, a in some.items()},
        groups=[(c[rows], q, z[rows], s) for c, q, z, s in groups],
        aux=tuple(A[rows] for A in case.aux),
    )


def parts_of(case, known=6):
    old = case.groups[0][0] < known
    first = take(case, old, known)
    return Parts(case, fit_case(first), take(case, ~old), known)


def adapted(parts):
    return adapt(parts.fit, design_of(parts.later), parts.later.y, **given_of(parts.later))


def joint_modes(parts):
    """The modes on all rows at the parameters of the fit, (n_levels, k) a factor."""
    psi = psi_of(parts.fit, parts.case)
    return [b.T for b in parts.case.effects(psi)]


@pytest.mark.parametrize(
    "name", ["binomial logit", "gamma log", "nb2 log", "zero-inflated poisson"]
)
def test_new_levels_have_the_modes_of_a_joint_solution(name):
    """With one factor levels do not meet: new ones are exact, and old ones stay as they are."""
    case = crossed(name, weights=True, offset=True, covariates=True)
    parts = parts_of(replace(case, groups=case.groups[:1]))
    later = adapted(parts)
    found, joint = effects(later)[0], joint_modes(parts)[0]
    assert_allclose(found[parts.known :], joint[parts.known :], atol=1e-7)
    assert_allclose(found[: parts.known], effects(parts.fit)[0], atol=1e-9)
    assert later.working.adapted and not parts.fit.working.adapted
    assert_array_equal(estimates(later)[0], estimates(parts.fit)[0])


def test_new_levels_have_the_variances_of_a_joint_solution():
    case = crossed("binomial logit")
    parts = parts_of(replace(case, groups=case.groups[:1]))
    ours = effect_covariance(adapted(parts).working)[0][0, parts.known :]
    psi = psi_of(parts.fit, parts.case)
    u, S = parts.case.mode(psi)
    _, fixed, tau = parts.case.unpacked(psi)
    terms = case.family.terms(case.outcome, fixed + S @ u, tau, 2)
    L = parts.case.unpacked(psi)[0][0]
    H = np.linalg.inv(np.eye(len(u)) - (S.T * terms.second) @ S)
    for q in range(parts.known, 8):
        at = slice(2 * q, 2 * q + 2)
        assert_allclose(ours[q - parts.known], L @ H[at, at] @ L.T, rtol=1e-6)


@pytest.mark.parametrize("name", ["poisson log", "binomial logit"])
def test_levels_of_a_second_factor_that_are_seen_again(name):
    """What was known of them is a normal distribution, hence nearly the joint solution."""
    parts = parts_of(crossed(name, n=1500))
    found, joint = effects(adapted(parts)), joint_modes(parts)
    for a, b in zip(found, joint, strict=True):
        assert_allclose(a, b, atol=1e-2)
    before = effects(parts.fit)[1]
    assert np.abs(found[1] - joint[1]).max() < 0.5 * np.abs(before - joint[1]).max()


def test_rows_may_come_one_by_one():
    """Levels of a single factor that come apart give what they give together."""
    case = crossed("poisson log")
    parts = parts_of(replace(case, groups=case.groups[:1]))
    whole, codes = adapted(parts), parts.later.groups[0][0]
    step = parts.fit
    for level in (6, 7):
        rows = take(parts.later, codes == level, level + 1)
        step = adapt(step, design_of(rows), rows.y, **given_of(rows))
    assert_allclose(effects(step)[0], effects(whole)[0], atol=1e-9)


def test_more_rows_of_known_levels_sharpen_them():
    case = crossed("poisson log", n=2000)
    case = replace(case, groups=case.groups[:1])
    rows = np.arange(2000) < 1500
    fit = fit_case(take(case, rows))
    more = take(case, ~rows)
    later = adapt(fit, design_of(more), more.y)
    joint = [b.T for b in case.effects(psi_of(fit, case))]
    assert_allclose(effects(later)[0], joint[0], atol=1e-2)
    before, after = (effect_covariance(f.working)[0][0] for f in (fit, later))
    assert (np.einsum("qaa->qa", after) < np.einsum("qaa->qa", before)).all()


# ----------------------------------------------------------------------------- standard errors


def second_differences(problem, psi, sizes):
    """The Hessian of -log L from values, with Richardson's extrapolation."""
    problem(psi[None], ONE)
    d, m = np.diag(0.1 * sizes), len(psi)

    def quotient(i, j, s):
        a, b = s * d[i], s * d[j]
        values = [problem.at(psi + c).value for c in (a + b, a - b, b - a, -a - b)]
        return (values[1] + values[2] - values[0] - values[3]) / (4 * s**2 * d[i, i] * d[j, j])

    H = np.empty((m, m))
    for i in range(m):
        for j in range(i + 1):
            H[i, j] = H[j, i] = (4 * quotient(i, j, 1) - quotient(i, j, 2)) / 3
    return H


@pytest.mark.parametrize("name", ["poisson log", "binomial probit", "nb2 log"])
def test_information_is_the_second_derivative_of_the_value(name):
    case = crossed(name, n=200, weights=True, offset=True, covariates=name == "nb2 log")
    case = replace(case, groups=[(c, q, z[:, :1], INTERCEPT) for c, q, z, _ in case.groups])
    fit = fit_case(case)
    ready, problem, psi = problem_at(fit, design_of(case), case.y, **given_of(case))
    found = information(fit, ready, problem, psi)
    assert found.free.all()
    sizes = np.sqrt(np.diag(found.covariance))
    H = np.linalg.inv(second_differences(problem, psi, sizes))
    assert_allclose(
        found.covariance / np.outer(sizes, sizes), H / np.outer(sizes, sizes), atol=1e-3
    )
    C = units.coefficient_map(fit.working)
    at = slice(problem.n_theta, problem.n_theta + problem.n_fixed)
    assert_allclose(found.fixed, C @ found.covariance[at, at] @ C.T)
    assert [len(a) for a in found.aux] == [len(a) for a in fit.aux]


def test_standard_errors_of_a_model_without_random_effects():
    """Those of a logistic regression with one indicator: 1/a + 1/b + 1/c + 1/d (Woolf 1955)."""
    x = np.repeat([0.0, 1.0], [60, 40])
    y = np.concatenate([np.arange(60) < 21, np.arange(40) < 26]).astype(float)
    design = Design(x[:, None], ())
    fit = glmm.fit(design, y, family_of("binomial logit"), ())
    found = information(fit, *problem_at(fit, design, y))
    assert_allclose(estimates(fit)[0][1], logit(26 / 40) - logit(21 / 60), rtol=1e-7)
    woolf = 1 / 21 + 1 / 39 + 1 / 26 + 1 / 14
    assert_allclose(found.fixed[1, 1], woolf, rtol=1e-6)


def test_a_variance_at_zero_has_no_standard_error_and_the_rest_is_as_without_it():
    y = np.tile([0.0, 1.0, 1.0, 0.0, 2.0, 0.0, 5.0, 1.0, 0.0, 0.0], 12)
    codes = np.repeat(np.arange(12), 10)
    x = np.random.default_rng(0).normal(size=(120, 1))
    parts = []
    for factors in ((Factor(codes, 12, np.ones((120, 1))),), ()):
        design = Design(x, factors)
        fit = glmm.fit(design, y, family_of("poisson log"), (INTERCEPT,) * len(factors))
        parts.append(information(fit, *problem_at(fit, design, y)))
    assert_array_equal(parts[0].free, [False, True, True])
    assert not parts[0].covariance[0].any()
    assert_allclose(parts[0].fixed, parts[1].fixed, rtol=1e-5)


def test_dropped_columns_have_a_variance_of_zero():
    case = crossed()
    design = design_of(case)
    design = replace(design, X=np.column_stack([design.X, design.X[:, 0]]))
    fit = glmm.fit(design, case.y, case.family, case.structures)
    found = information(fit, *problem_at(fit, design, case.y))
    assert found.fixed.shape == (4, 4)
    assert not found.fixed[3].any() and (np.diag(found.fixed)[:3] > 0).all()


def test_other_rows_than_those_of_the_fit_are_refused():
    case = crossed()
    fit, design = fit_case(case), design_of(case)
    problem_at(fit, design, case.y)
    moved = replace(design, X=design.X + 1e-3)
    (c, q, z, s), second = case.groups
    wider = design_of(replace(case, groups=[(c, q + 1, z, s), second]))
    more = replace(design, X=np.column_stack([design.X, design.X[:, 0] ** 2]))
    fewer = take(case, np.arange(len(case.y)) < 299)
    for other, y in [
        (moved, case.y),
        (wider, case.y),
        (more, case.y),
        (design_of(fewer), fewer.y),
    ]:
        with pytest.raises(ValueError, match="not the rows that the model was fitted to"):
            problem_at(fit, other, y)
