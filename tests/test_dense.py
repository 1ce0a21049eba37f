"""The oracle itself: against closed forms, against lme4 and against finite differences."""

import numpy as np
import pytest
from dense import Dense
from numpy.testing import assert_allclose
from reference_linear import CASES, training_data
from scipy.stats import multivariate_normal

# ------------------------------------------------------------------ closed forms: one way, balanced


@pytest.fixture
def one_way():
    """y by group and the mean squares of its analysis of variance."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(7, 1)) * 2 + rng.normal(size=(7, 4)) + 10
    between = 4 * np.sum((y.mean(axis=1) - y.mean()) ** 2)
    within = np.sum((y - y.mean(axis=1, keepdims=True)) ** 2)
    return y, between, within


def _one_way_model(y, G, reml):
    m, n = y.shape
    Z = np.ones((m * n, 1))
    return Dense(Z, y.ravel(), [(np.repeat(np.arange(m), n), m, Z, [[G]])], reml=reml)


def test_the_criterion_of_a_balanced_one_way_layout(one_way):
    y, between, within = one_way
    (m, n), G = y.shape, 0.8
    r2, N, p = within + between / (1 + n * G), m * n, 1
    log_det = m * np.log(1 + n * G)
    ml, reml = _one_way_model(y, G, False), _one_way_model(y, G, True)
    assert_allclose(ml.criterion, log_det + N * (1 + np.log(2 * np.pi * r2 / N)), rtol=1e-12)
    log_det += np.log(N / (1 + n * G))  # |X'H^-1 X|
    expected = log_det + (N - p) * (1 + np.log(2 * np.pi * r2 / (N - p)))
    assert_allclose(reml.criterion, expected, rtol=1e-12)


def test_the_anova_estimates_are_the_reml_optimum(one_way):
    y, between, within = one_way
    m, n = y.shape
    mean_square_between, mean_square_within = between / (m - 1), within / (m * (n - 1))
    G = (mean_square_between / mean_square_within - 1) / n
    model = _one_way_model(y, G, True)
    assert_allclose(model.gradient(0, np.sqrt([[G]])), 0, atol=1e-10)
    assert_allclose(model.sigma2, mean_square_within, rtol=1e-12)
    assert_allclose(model.beta, y.mean(), rtol=1e-12)
    assert_allclose(model.beta_covariance, mean_square_between / (m * n), rtol=1e-12)


def test_shrinkage_in_a_balanced_one_way_layout(one_way):
    y, _, _ = one_way
    (m, n), G = y.shape, 0.8
    model, shrinkage = _one_way_model(y, G, True), n * G / (1 + n * G)
    effects = shrinkage * (y.mean(axis=1) - y.mean())
    assert_allclose(model.blups()[0][:, 0], effects, rtol=1e-12, atol=1e-12)
    assert_allclose(model.conditional_covariance()[0], model.sigma2 * G / (1 + n * G), rtol=1e-12)
    known, unseen = model.prediction_variance([[1], [1]], [([2, -1], [[1], [1]])])
    of_the_mean = (1 + n * G) / (m * n)  # Var(beta) / sigma2
    expected = G / (1 + n * G) + (1 - shrinkage) ** 2 * of_the_mean
    assert_allclose(known, model.sigma2 * expected, rtol=1e-12)
    assert_allclose(unseen, model.sigma2 * (G + of_the_mean), rtol=1e-12)


def test_maximum_likelihood_is_the_normal_density():
    model = _crossed(reml=False)
    density = multivariate_normal(model.X @ model.beta, model.sigma2 * model.H)
    assert_allclose(model.criterion, -2 * density.logpdf(model.y), rtol=1e-12)


# ---------------------------------------------------- a crossed model with slopes, every option

LAMBDA = [np.array([[0.9, 0.0], [-0.4, 0.6]]), np.array([[1.3]])]
SINGULAR = [np.array([[0.9, 0.0], [-0.4, 0.0]]), np.array([[1.3]])]


def _crossed(Lambdas=LAMBDA, rows=slice(None), weights=None, **options):
    rng = np.random.default_rng(1)
    x = rng.normal(size=40)
    y = rng.normal(size=40) + x
    first, second = rng.integers(5, size=40), rng.integers(4, size=40)
    X, ones = np.column_stack([np.ones(40), x]), np.ones((40, 1))
    terms = [(first[rows], 6, X[rows], None), (second[rows], 4, ones[rows], None)]
    terms = [(*t[:3], L @ L.T) for t, L in zip(terms, Lambdas, strict=True)]
    return Dense(X[rows], y[rows], terms, weights=weights, **options)


def _finite_difference(Lambdas, t, entry, h=1e-5, **options):
    def at(step):
        moved = [L.copy() for L in Lambdas]
        moved[t][entry] += step
        return _crossed(moved, **options).criterion

    return (at(h) - at(-h)) / (2 * h)


@pytest.mark.parametrize("Lambdas", [LAMBDA, SINGULAR], ids=["regular", "singular"])
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("weight_type", ["precision", "frequency"])
def test_gradient_against_finite_differences(Lambdas, reml, weight_type):
    options = {"reml": reml, "weight_type": weight_type, "weights": np.arange(40) % 4}
    model = _crossed(Lambdas, **options)
    for t, Lambda in enumerate(Lambdas):
        entries = list(np.ndindex(Lambda.shape))
        expected = [_finite_difference(Lambdas, t, entry, **options) for entry in entries]
        assert_allclose(model.gradient(t, Lambda).ravel(), expected, rtol=1e-6, atol=1e-6)


def test_gradient_refuses_the_factor_of_another_covariance():
    with pytest.raises(ValueError, match="not the covariance G of term 1"):
        _crossed().gradient(1, np.array([[2.0]]))


def _joint_covariance(model, weights):
    """Cov(beta-hat - beta, b-hat - b): sigma2 times Henderson's coefficient matrix, inverted."""
    A = np.hstack([model.X, *(_indicators(t) for t in model.terms)])
    C = A.T @ (A * weights[:, None])
    start = model.X.shape[1]
    for t in model.terms:
        own = slice(start, start := start + t.n_levels * len(t.G))
        C[own, own] += np.kron(np.eye(t.n_levels), np.linalg.inv(t.G))
    return model.sigma2 * np.linalg.inv(C)


def _indicators(term):
    columns = np.eye(term.n_levels)[term.codes][:, :, None] * term.Z[:, None, :]
    return columns.reshape(len(term.codes), -1)


@pytest.mark.parametrize("reml", [True, False])
def test_prediction_variance_against_hendersons_equations(reml):
    weights = 1.0 + np.arange(40) % 3
    model = _crossed(reml=reml, weights=weights)
    V = _joint_covariance(model, weights)
    X = np.array([[1, 0.3], [1, -2.0], [1, 0.7]])
    first, second = np.array([4, 5, -1]), np.array([0, 3, 2])  # level 5 has no rows
    A = np.zeros((3, len(V)))
    A[:, :2] = X
    for i in (0, 1):
        A[i, 2 + 2 * first[i] : 4 + 2 * first[i]] = X[i]
    A[np.arange(3), 14 + second] = 1
    expected = np.einsum("mi,ij,mj->m", A, V, A)
    expected[2] += model.sigma2 * X[2] @ model.terms[0].G @ X[2]  # unseen: the prior, independent
    new_terms = [(first, X), (second, np.ones((3, 1)))]
    assert_allclose(model.prediction_variance(X, new_terms), expected, rtol=1e-10)


def test_predictions_are_fixed_part_plus_effects():
    model = _crossed()
    by_hand = model.X @ model.beta
    for term, b in zip(model.terms, model.blups(), strict=True):
        by_hand += np.sum(term.Z * b[term.codes], axis=1)
    training = [(t.codes, t.Z) for t in model.terms]
    assert_allclose(model.predict(model.X, training), by_hand, rtol=1e-10, atol=1e-12)
    nobody = [(np.full(40, -1), t.Z) for t in model.terms]
    assert_allclose(model.predict(model.X, nobody), model.X @ model.beta, rtol=1e-12, atol=1e-12)


def test_a_level_without_rows_keeps_its_prior():
    model = _crossed()
    assert_allclose(model.blups()[0][5], 0, atol=1e-14)
    assert_allclose(model.conditional_covariance()[0][5], model.sigma2 * model.terms[0].G)


@pytest.mark.parametrize("reml", [True, False])
def test_frequency_weights_are_repeated_rows(reml):
    times = np.arange(40) % 3
    weighted = _crossed(weights=times, weight_type="frequency", reml=reml)
    repeated = _crossed(rows=np.repeat(np.arange(40), times), reml=reml)
    assert len(weighted.y) == times.sum()
    assert_allclose(weighted.criterion, repeated.criterion, rtol=1e-12)
    assert_allclose(weighted.beta, repeated.beta, rtol=1e-12)


def test_precision_weights_of_zero_are_absent_rows():
    weights = 1.0 + np.arange(40) % 3
    weights[[3, 17]] = 0
    present = np.flatnonzero(weights)
    without = _crossed(rows=present, weights=weights[present])
    assert_allclose(_crossed(weights=weights).criterion, without.criterion, rtol=1e-12)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"weight_type": "inverse"}, "weight_type is"),
        ({"weight_type": "frequency", "weights": np.full(40, 0.5)}, "whole numbers"),
    ],
)
def test_weights_that_the_oracle_does_not_know(options, message):
    with pytest.raises(ValueError, match=message):
        _crossed(**options)


# ------------------------------------------------------------------------------------------- lme4

REFERENCES = ["sleepstudy_reml", "orthodont_crosslevel_ml", "pastes_nested_reml", "weighted_reml"]


def _from_lme4(case, theta):
    """The oracle at given relative factors, and the labels of its levels by factor."""
    X, y, weights = training_data(case)
    fixed = np.column_stack([np.ones(len(X)), X[case["model"]["fixed_effects"]]])
    labels, terms = {}, []
    for key, factor in theta.items():
        of_rows = X[key] if isinstance(key, str) else list(zip(*(X[c] for c in key), strict=True))
        labels[key] = sorted(set(of_rows))
        codes = [labels[key].index(label) for label in of_rows]
        factor = np.array(factor)
        terms.append((codes, len(labels[key]), fixed[:, : len(factor)], factor @ factor.T))
    return Dense(fixed, y, terms, weights, reml=case["model"]["method"] == "reml"), labels


@pytest.mark.parametrize("name", REFERENCES)
def test_criterion_of_lme4(name):
    for point in CASES[name]["criterion_at_theta"]:
        model, _ = _from_lme4(CASES[name], point["theta"])
        assert_allclose(model.criterion, point["value"], rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", REFERENCES)
def test_estimates_of_lme4(name):
    case = CASES[name]
    model, _ = _from_lme4(case, case["theta"])
    assert_allclose(model.beta, list(case["fixed"].values()), rtol=1e-8)
    assert_allclose(model.sigma2, case["residual_sd"] ** 2, rtol=1e-8)
    assert_allclose(model.beta_covariance, case["fixed_covariance"], rtol=1e-7)
    for t, factor in enumerate(case["theta"].values()):
        assert_allclose(np.tril(model.gradient(t, np.array(factor))), 0, atol=1e-4)


@pytest.mark.parametrize("name", REFERENCES)
def test_effects_of_lme4(name):
    case = CASES[name]
    model, labels = _from_lme4(case, case["theta"])
    ours = zip(labels, model.blups(), model.conditional_covariance(), strict=True)
    for key, effects, covariances in ours:
        theirs = case["random_effects"][key]
        order = [labels[key].index(level) for level in theirs["levels"]]
        assert_allclose(effects[order], theirs["values"], rtol=1e-6, atol=1e-8)
        expected = np.broadcast_to(theirs["conditional_covariance"], covariances.shape)
        assert_allclose(covariances[order], expected, rtol=1e-6)
