"""The alternating algorithm against R's nlme 3.1-162, and its linear model against brute force.

nlme was run with tolerance = pnlsTol = 1e-7, msTol = 1e-10, niterEM = 25, opt = "nlminb".
"""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from reference_nonlinear import (
    Structure,
    identity_design,
    oral,
    parameters,
    phenobarbital,
    theophylline,
    theophylline_rows,
)
from scipy.optimize import approx_fprime

from sklme._engine.nlme.data import Data
from sklme._engine.nlme.fit import fit
from sklme._engine.nlme.lindstrom import _State, alternate
from sklme._engine.nlme.mixed import Linear, fit_linear
from sklme._engine.nlme.parameters import Pattern, search
from sklme.datasets import load_indomethacin, load_orange


def by_subject(load, subject, time, response):
    """Time and response as one row for each subject."""
    frame = load().frame
    groups = [rows for _, rows in frame.groupby(subject, sort=False)]
    return (np.array([g[name] for g in groups], float) for name in (time, response))


def record(formula, arrays, y, links, n_effects, order=None):
    """Every parameter has a coefficient, those in `order` an effect."""
    order = range(n_effects) if order is None else order
    one = identity_design(len(y), len(links))
    B = one[..., list(order)].copy()
    return Data(Structure(formula, *arrays), y, np.ones(y.shape, bool), one, B, links)


def first_order():
    """SSfol(Dose, Time, lKe, lKa, lCl), effects of ka and clearance."""
    weight, dose, time, y = theophylline_rows()
    formula = lambda p, dose, time: oral(dose, time, p[1], p[0], p[2] / p[0])
    return record(formula, (dose / weight, time), y, ("exp",) * 3, 2, (1, 2))


def orange():
    """SSlogis(age, Asym, xmid, scal), an effect of Asym."""
    age, y = by_subject(load_orange, "Tree", "age", "circumference")
    logistic = lambda p, t: p[0] / (1.0 + np.exp((p[1] - t) / p[2]))
    return record(logistic, (age,), y, ("identity",) * 3, 1)


def indomethacin():
    """SSbiexp(time, A1, lrc1, A2, lrc2), effects of all but lrc2."""
    time, y = by_subject(load_indomethacin, "Subject", "time", "conc")
    formula = lambda p, t: p[0] * np.exp(-p[1] * t) + p[2] * np.exp(-p[3] * t)
    return record(formula, (time,), y, ("identity", "exp") * 2, 3)


def infants(*, covariates):
    """phenoModel(Subject, time, dose, lCl, lV); lCl ~ Wt and lV ~ Wt + ApgarInd."""
    data = phenobarbital()
    C = data.C[..., :2]
    if covariates:
        weight, low = np.exp(data.C[:, 0, 0, 3]), data.C[:, 0, 1, 2]
        C = np.zeros((59, 1, 2, 5))
        C[:, 0, 0, 0] = C[:, 0, 1, 2] = 1.0
        C[:, 0, 0, 1] = C[:, 0, 1, 3] = weight
        C[:, 0, 1, 4] = 1.0 - low
    return replace(data, C=C, errors=("additive",))


THEOPHYLLINE = parameters([-2.45, 0.45, -3.23], [0.4, 0.05], [0.7])
ORANGE = parameters([190.0, 700.0, 350.0], [900.0], [8.0])
# Of nlme: fixed effects, their standard errors, sd of the effects, sigma, log-likelihood.
CASES = {
    "theophylline, general": (
        first_order,
        THEOPHYLLINE,
        Pattern.full(2),
        [-2.45469603803406, 0.465642755829171, -3.22722368920081],
        [0.0518895704373066, 0.196321437766425, 0.0593214009088742],
        [0.643688329732176, 0.166917959830439],
        0.709241710406199,
        -177.022215545238,
    ),
    "theophylline, diagonal": (
        first_order,
        THEOPHYLLINE,
        Pattern.diagonal(2),
        [-2.45467864010303, 0.465634904730906, -3.2272121062622],
        [0.0518896550969532, 0.196324003529554, 0.0593230156655682],
        [0.643698614295362, 0.166925139897594],
        0.709241880481871,
        -177.022336054297,
    ),
    "orange": (
        orange,
        ORANGE,
        Pattern.diagonal(1),
        [191.049000889973, 722.555979972232, 344.162382156175],
        [15.4462064880022, 33.6106156020488, 25.9578677624477],
        [31.4825578325005],
        7.84625448652273,
        -131.584579105672,
    ),
    "indomethacin": (
        indomethacin,
        parameters([2.8, 0.8, 0.46, -1.35], [0.3, 0.03, 0.01], [0.08]),
        Pattern.diagonal(3),
        [2.82766572823975, 0.772895995535677, 0.460582665091844, -1.34587686511703],
        [0.25581470928848, 0.106606541351629, 0.10923676012452, 0.224418827183062],
        [0.57129187514662, 0.15816344519463, 0.111461914517781],
        0.0814990863111503,
        54.5881407593275,
    ),
    "phenobarbital": (
        lambda: infants(covariates=False),
        parameters([-5.0, 0.0], [0.2, 0.2], [3.0]),
        Pattern.diagonal(2),
        [-5.09339308364738, 0.342574335968046],
        [0.0795434468010207, 0.0612051709221375],
        [0.440036579501993, 0.45046514642659],
        2.79311499843309,
        -505.411349839266,
    ),
    "phenobarbital, covariates": (
        lambda: infants(covariates=True),
        parameters([-5.9, 0.55, -0.5, 0.5, 0.1], [0.2, 0.2], [2.7]),
        Pattern.diagonal(2),
        [
            -5.95737059364171,
            0.619668856521047,
            -0.458308469879107,
            0.532487246902275,
            -0.0322564449833484,
        ],
        [0.122229568542562, 0.0744606686749532, 0.0892253107456137, 0.0407370419263527,
         0.0713897992027885],
        [0.215989447767753, 0.172058892727334],
        2.73735092708062,
        -437.602315667337,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_nlme(case):
    make, start, pattern, beta, errors, sd, sigma, log_likelihood = CASES[case]
    found = alternate(make(), start, pattern)
    assert found.converged and found.message == "converged"
    assert_allclose(found.parameters.beta, beta, rtol=1e-5)
    assert_allclose(np.sqrt(np.diag(found.covariance)), errors, rtol=1e-5)
    assert_allclose(np.sqrt(np.diag(found.parameters.Omega)), sd, rtol=2e-5)
    assert_allclose(found.parameters.sigma, sigma, rtol=2e-6)
    assert_allclose(found.log_likelihood, log_likelihood, atol=2e-5)


def test_infants_where_nlme_stopped_elsewhere():
    """From its book start nlme ends at -445.8897, with a variance near zero; here the alternation
    comes to the higher end from there too."""
    start = parameters([-6.01155, 0.64342, -0.43364, 0.52155, -0.0322], [1e-4, 0.03], [3.3])
    found = alternate(infants(covariates=True), start, Pattern.diagonal(2))
    assert_allclose(found.log_likelihood, -437.602315, atol=2e-5)


def test_restricted_likelihood_of_orange_trees():
    """nlme's REML fit is not at the maximum of the restricted likelihood that it reports.

    Its variances are those of ML times 35 / 32. At its estimates the restricted likelihood is the
    -119.757453 that it says, but lme(w ~ X1 + X2 + X3 - 1, random = ~ X1 - 1 | Tree), REML, with
    the working response and derivatives of that fit has -119.7352 at sd 35.29246 and 8.120177.
    """
    data = orange()
    at = parameters([191.049000812674, 722.555979643264, 344.162381780834], [1.0], [8.20580935861])
    at = replace(at, Omega=np.array([[32.9252470892568**2]]))
    state = _State(data, search(at, Pattern.diagonal(1)), True)
    state.least_squares()
    model = state.linear()
    constant = 32.0 * np.log(2.0 * np.pi)
    reported = -0.5 * (model.solve(state.theta).value.sum() + constant)
    assert_allclose(reported, -119.757452752587, atol=1e-7)
    theta, converged = fit_linear(model, state.theta, tol=1e-12)
    best, variances = model.solve(theta), model.search.unpack(theta)
    assert converged
    assert_allclose(-0.5 * (best.value.sum() + constant), -119.7352, atol=2e-4)
    assert_allclose(variances.Omega[0, 0] ** 0.5, 35.29246, rtol=1e-5)
    assert_allclose(variances.sigma, 8.120177, rtol=1e-6)
    found = alternate(data, ORANGE, Pattern.diagonal(1), reml=True)
    assert found.converged and found.log_likelihood > reported + 0.02


def brute_force(model, theta):
    """-2 log L of the rows stacked, all subjects in one matrix."""
    parameters = model.search.unpack(theta)
    keep = model.data.mask.ravel()
    N, n = model.data.mask.shape
    V = np.zeros((N * n, N * n))
    for i in range(N):
        rows = slice(i * n, (i + 1) * n)
        V[rows, rows] = model.Z[i] @ parameters.Omega @ model.Z[i].T
    scale = np.ones(N * n)
    if model.data.errors == ("proportional",):
        scale = model.f.ravel() ** 2
    V += parameters.sigma[0] ** 2 * np.diag(scale)
    V, X = V[np.ix_(keep, keep)], model.X.reshape(N * n, -1)[keep]
    w = model.w.ravel()[keep]
    information = X.T @ np.linalg.solve(V, X)
    r = w - X @ np.linalg.solve(information, X.T @ np.linalg.solve(V, w))
    value = np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r)
    return value + (np.linalg.slogdet(information)[1] if model.reml else 0.0)


def linear(reml, error="additive"):
    """The linear model of infants at some variances, with unequal numbers of rows."""
    data = replace(infants(covariates=True), errors=(error,))
    sigma = 2.7 if error == "additive" else 0.15
    start = parameters([-5.9, 0.6, -0.5, 0.5, 0.1], [[0.05, 0.01], [0.01, 0.03]], [sigma])
    state = _State(data, search(start, Pattern.full(2)), reml)
    state.least_squares()
    return state.linear(), state.theta


@pytest.mark.parametrize("error", ["additive", "proportional"])
@pytest.mark.parametrize("reml", [False, True])
def test_the_linear_model_against_brute_force(reml, error):
    model, theta = linear(reml, error)
    assert_allclose(model.solve(theta).value.sum(), brute_force(model, theta), rtol=1e-9)
    gradient = model.solve(theta).gradients(theta).sum(axis=0)
    numeric = approx_fprime(theta, lambda t: model.solve(t).value.sum(), 1e-6)
    assert_allclose(gradient, numeric, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("reml", [False, True])
def test_the_linear_model_ends_where_nothing_slopes(reml):
    model, theta = linear(reml)
    end, converged = fit_linear(model, theta, tol=1e-12)
    assert converged
    assert np.abs(model.solve(end).gradients(end).sum(axis=0)).max() < 1e-4
    assert model.solve(end).value.sum() < model.solve(theta).value.sum()


@pytest.mark.parametrize("error, sigma", [("additive", [0.7]), ("proportional", [0.3])])
def test_a_linear_structure_has_its_exact_maximum(error, sigma):
    """With a straight structure the algorithm is maximum likelihood itself, as FO is; where the
    variance depends on f it is taken at the individual predictions."""
    _, _, time, y = theophylline_rows()
    formula = lambda psi, x: psi[0] + psi[1] * x
    data = record(formula, (np.log1p(time),), 5.0 + y, ("identity",) * 2, 2)
    data = replace(data, errors=(error,))
    start = parameters([5.0, 1.0], [1.0, 0.5], sigma)
    found = alternate(data, start, Pattern.diagonal(2))
    assert found.converged
    if error == "additive":
        exact = fit(data, start, Pattern.diagonal(2), method="fo")
        value = -0.5 * exact.minus2_log_likelihood
        assert_allclose(found.log_likelihood, value, atol=1e-6)
        assert_allclose(found.parameters.beta, exact.parameters.beta, atol=2e-6)
    else:
        R = (found.parameters.sigma[0] * found.fitted) ** 2
        assert_allclose(((data.y - found.fitted) ** 2 / R).mean(), 1.0, atol=0.2)


def test_rows_and_subjects_that_change_places_change_nothing():
    data = infants(covariates=False)
    start = parameters([-5.0, 0.0], [0.2, 0.2], [3.0])
    order = np.random.default_rng(0).permutation(59)
    one, other = (alternate(d, start, Pattern.diagonal(2)) for d in (data, data.take(order)))
    assert_allclose(other.parameters.beta, one.parameters.beta, rtol=1e-7)
    assert_allclose(other.eta, one.eta[order], atol=1e-6)


def test_what_is_fixed_stays():
    found = alternate(
        first_order(),
        THEOPHYLLINE,
        Pattern.diagonal(2),
        fixed_beta=[True, False, False],
        fixed_sigma=[True],
    )
    assert found.converged
    assert found.parameters.beta[0] == -2.45
    assert_allclose(found.parameters.sigma, [0.7], rtol=1e-14)
    assert (found.covariance[0] == 0).all()


def test_censored_rows_are_refused():
    data = theophylline()
    data = replace(data, censored=np.zeros(data.y.shape, bool) | (data.y < 1.0))
    start = parameters([0.4, 1.0, 3.4], [0.3, 0.1, 0.05], [0.7])
    with pytest.raises(ValueError, match="not possible with censored observations"):
        alternate(data, start, Pattern.diagonal(3))


def test_coefficients_that_cannot_be_told_apart_are_refused():
    data = theophylline()
    data = replace(data, C=np.concatenate([data.C, data.C[..., :1]], axis=-1))
    start = parameters([0.2, 1.0, 3.4, 0.2], [0.3, 0.1, 0.05], [0.7])
    with pytest.raises(ValueError, match="cannot tell the coefficients apart"):
        alternate(data, start, Pattern.diagonal(3))


def test_too_few_alternations_are_not_called_convergence():
    found = alternate(first_order(), THEOPHYLLINE, Pattern.diagonal(2), max_iter=1)
    assert not found.converged and found.message == "max_iter reached"


def test_the_working_response_of_a_linear_structure_is_the_response():
    data = orange()
    state = _State(data, search(ORANGE, Pattern.diagonal(1)), False)
    model = state.linear()
    assert isinstance(model, Linear)
    f = state.point().rows(state.u).f
    assert_allclose(model.w, data.y - f + model.X @ state.beta, rtol=1e-12)
