"""Sensitivity of V, Kenward-Roger and Satterthwaite, against dense n x n algebra and against R."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from reference_dof import KENWARD_ROGER, SATTERTHWAITE
from reference_linear import CASES, training_data

from sklme import LinearMixedModel
from sklme._engine import dof as dof_module
from sklme._engine import lmm
from sklme._engine import sensitivity as sensitivity_module
from sklme._engine.covariance import Structure
from sklme._engine.design import Design, Factor
from sklme._engine.dof import (
    KenwardRoger,
    Satterthwaite,
    WaldTests,
    coefficient_covariance,
    kenward_roger,
    make_tests,
    satterthwaite,
)
from sklme._engine.gram import in_frame
from sklme._engine.sensitivity import sensitivity

# ------------------------------------------------------------------------------ what is fitted

FULL, PAIR = Structure(2, ((0, 1),)), Structure(2, ((0,), (1,)))
ONE, BALL = Structure(1, ((0,),)), Structure(2, ((0,), (1,)), spherical=True)
DESIGNS = {
    "intercept": [(9, ONE)],
    "slopes": [(9, FULL)],
    "diagonal": [(9, PAIR)],
    "spherical": [(9, BALL)],
    "a fixed zero": [(9, Structure(2, ((1,),)))],
    "crossed": [(12, ONE), (7, ONE)],
    "crossed slopes": [(12, FULL), (7, ONE)],
    "crossed balls": [(12, BALL), (7, PAIR)],
    "nested": [("nest", ONE), (5, ONE)],
    "nested and crossed": [("nest", FULL), (5, ONE), (6, ONE)],
}


def make(name, n=90, seed=0, size=1.0, weights=None):
    """Design and response of a name of DESIGNS; `size` scales the effects."""
    rng = np.random.default_rng([seed, len(name)])
    x, w = rng.normal(size=n), rng.normal(size=n)
    y = 3.0 + x - 0.5 * w + rng.normal(size=n)
    factors, structures = [], []
    for q, s in DESIGNS[name]:
        outer = rng.integers(0, 5 if q == "nest" else q, n)
        codes = 3 * outer + rng.integers(0, 3, n) if q == "nest" else outer
        if q != "nest" and DESIGNS[name][0][0] == "nest" and q == 5:
            codes = factors[0].codes // 3
        q = 15 if q == "nest" else q
        z = np.column_stack([np.ones(n), x + 0.5])[:, : s.k]
        y += size * np.einsum("nk,nk->n", z, rng.normal(size=(q, s.k))[codes])
        factors.append(Factor(codes, q, z))
        structures.append(s)
    design = Design(np.column_stack([x, w]), tuple(factors), True, weights)
    return design, y[:, None], tuple(structures)


def fit(name, reml=True, precision=False, **options):
    design, y, structures = make(name, **options)
    return lmm.fit(design, y, structures, reml=reml, precision=precision), design, y


@pytest.fixture(params=["small", "large"])
def path(request, monkeypatch):
    """Few effects as one dense matrix, or by elimination."""
    if request.param == "large":
        monkeypatch.setattr(sensitivity_module, "DENSE", -1)
    return request.param


# --------------------------------------------------------------------------- the dense oracle


@dataclass
class Oracle:
    """V and its derivatives as n x n matrices, in the frame, residual variance 1."""

    X: np.ndarray
    y: np.ndarray
    V: np.ndarray
    U: list
    s2: float
    reml: bool

    @staticmethod
    def of(record, design, y, directions):
        X, response, *Z = in_frame(design, record.frame, y, slice(None))
        n = X.shape[1]
        same = [f.codes[:, None] == f.codes[None, :] for f in design.factors]
        V = np.eye(n)
        for z, level, L in zip(Z, same, record.Lambdas, strict=True):
            V += (z.T @ L[0] @ L[0].T @ z) * level
        U = [(Z[d.factor].T @ d.T @ Z[d.factor]) * same[d.factor] for d in directions]
        X = X[record.columns].T
        return Oracle(X, response[0], V, U, record.s2[0], record.reml)

    @property
    def V_inv(self):
        return np.linalg.inv(self.V)

    @property
    def P(self):
        VX = self.V_inv @ self.X
        return self.V_inv - VX @ np.linalg.solve(self.X.T @ VX, VX.T)

    def deviance(self, change, log_s2):
        """-2 log-likelihood, not profiled, at V + sum change_i U_i."""
        V = self.V + sum(c * U for c, U in zip(change, self.U, strict=True))
        other = replace(self, V=V)
        XVX = self.X.T @ other.V_inv @ self.X
        n, p = self.X.shape
        nu = n - p if self.reml else n
        value = np.linalg.slogdet(V)[1] + (np.linalg.slogdet(XVX)[1] if self.reml else 0.0)
        return value + nu * log_s2 + self.y @ other.P @ self.y / np.exp(log_s2)

    def variance(self, l, change, log_s2):
        """Variance of l'beta there."""
        V = self.V + sum(c * U for c, U in zip(change, self.U, strict=True))
        XVX = self.X.T @ np.linalg.solve(V, self.X)
        return np.exp(log_s2) * l @ np.linalg.solve(XVX, l)


def numeric_gradient(f, at, h):
    steps = np.eye(len(at)) * h
    return np.array(
        [
            (8.0 * (f(at + e) - f(at - e)) - (f(at + 2 * e) - f(at - 2 * e))) / (12.0 * e.sum())
            for e in steps
        ]
    )


def numeric_hessian(f, at, h):
    return numeric_gradient(lambda x: numeric_gradient(f, x, h), at, h)


CASES_OF_PIECES = [(name, reml) for name in DESIGNS for reml in (True, False)]


@pytest.mark.parametrize("name, reml", CASES_OF_PIECES)
def test_the_pieces_are_the_oracles(name, reml, path):
    record, design, y = fit(name, reml)
    s = sensitivity(record)
    o = Oracle.of(record, design, y, s.directions)
    P, X, y = o.P, o.X, o.y
    A = P if reml else o.V_inv
    VU = [o.V_inv @ U for U in o.U]
    rtol = 1e-7 if path == "large" else 1e-9
    assert len(s.directions) == sum(st.n_theta for st in record.structures)
    assert_allclose(s.t1, [np.trace(A @ U) for U in o.U], rtol=1e-9)
    t2 = [[np.trace(A @ U @ A @ W) for W in o.U] for U in o.U]
    assert_allclose(s.t2, t2, rtol=rtol, atol=rtol * np.abs(t2).max())
    G = np.array([X.T @ VUi @ o.V_inv @ X for VUi in VU])
    assert_allclose(s.G, G, rtol=1e-9, atol=1e-9 * np.abs(G).max())
    Q = np.array([[X.T @ VUi @ VUj @ o.V_inv @ X for VUj in VU] for VUi in VU])
    assert_allclose(s.Q, Q, rtol=1e-9, atol=1e-9 * np.abs(Q).max())
    assert_allclose(s.a, [y @ P @ U @ P @ y / o.s2 for U in o.U], rtol=1e-7)
    w = [[y @ P @ U @ P @ W @ P @ y / o.s2 for W in o.U] for U in o.U]
    assert_allclose(s.w, w, rtol=1e-7, atol=1e-7 * np.abs(w).max())
    gradient = [np.trace(d.T @ s.M[d.factor]) for d in s.directions]
    assert_allclose(gradient, s.t1 - s.a, rtol=1e-7, atol=1e-8 * np.abs(s.t1).max())


def dense_kenward_roger(o, L):
    """(adjusted covariance, lambda, m) by the formulas of the paper, parameters s2 and s2 Gamma."""
    S_inv = np.linalg.inv(o.s2 * o.V)
    SX = S_inv @ o.X
    Phi = np.linalg.inv(o.X.T @ SX)
    P = S_inv - SX @ Phi @ SX.T
    D = [np.eye(len(o.y)), *o.U]
    information = 0.5 * np.array([[np.trace(P @ A @ P @ B) for B in D] for A in D])
    W = np.linalg.inv(information)
    Pi = [-SX.T @ A @ SX for A in D]
    Q = [[SX.T @ A @ S_inv @ B @ SX for B in D] for A in D]
    m = range(len(D))
    inner = sum(W[i, j] * (Q[i][j] - Pi[i] @ Phi @ Pi[j]) for i in m for j in m)
    Theta = L.T @ np.linalg.solve(L @ Phi @ L.T, L)
    R = [Theta @ Phi @ p @ Phi for p in Pi]
    A1 = sum(W[i, j] * np.trace(R[i]) * np.trace(R[j]) for i in m for j in m)
    A2 = sum(W[i, j] * np.trace(R[i] @ R[j]) for i in m for j in m)
    q = len(L)
    B = (A1 + 6 * A2) / (2 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    c1, c2, c3 = np.array([g, q - g, q + 2 - g]) / (3 * q + 2 * (1 - g))
    E = 1 / (1 - A2 / q)
    variance = 2 / q * (1 + c1 * B) / ((1 - c2 * B) ** 2 * (1 - c3 * B))
    dof = 4 + (q + 2) / (q * variance / (2 * E**2) - 1)
    return Phi + 2 * Phi @ inner @ Phi, dof / (E * (dof - 2)), dof


HYPOTHESIS = np.array([[0.0, 1.0, 0.0], [0.0, 0.3, 1.0]])  # no intercept: the frame is a scale


def in_the_frame(record, L):
    scale = np.append(1.0, record.frame.x_scale)
    return L / scale * record.frame.y_scale


@pytest.mark.parametrize("name", [n for n in DESIGNS if n != "spherical"])
def test_kenward_roger_is_the_paper(name, path):
    record, design, y = fit(name)
    tests = KenwardRoger(record)
    o = Oracle.of(record, design, y, sensitivity(record).directions)
    L = in_the_frame(record, HYPOTHESIS)
    covariance, scale, dof = dense_kenward_roger(o, L)
    found = tests.joint(HYPOTHESIS)
    assert_allclose(found.denominator_dof, dof, rtol=1e-6)
    assert_allclose(found.scale, scale, rtol=1e-7)
    assert_allclose(HYPOTHESIS @ tests.covariance @ HYPOTHESIS.T, L @ covariance @ L.T, rtol=1e-7)
    value = HYPOTHESIS @ np.append(0.0, record.beta[0, 1:] / record.frame.x_scale)
    value = value * record.frame.y_scale[0]
    wald = value @ np.linalg.solve(L @ covariance @ L.T, value) / 2
    assert_allclose(found.statistic, scale * wald, rtol=1e-6)
    for row in HYPOTHESIS:
        single = dense_kenward_roger(o, in_the_frame(record, row[None]))
        assert_allclose(tests.dof(row[None]), single[2], rtol=1e-6)
        assert_allclose(single[1], 1.0, rtol=1e-9)  # one hypothesis needs no scale


DELTA = [(n, r) for n in ("slopes", "crossed", "spherical", "crossed balls") for r in (0, 1)]


@pytest.mark.parametrize("name, reml", DELTA)
def test_satterthwaite_is_the_delta_method(name, reml, path):
    """Derivatives by differences of the dense deviance, at an optimum within the boundary."""
    record, design, y = fit(name, bool(reml))
    o = Oracle.of(record, design, y, sensitivity(record).directions)
    assert min(np.linalg.svd(L[0], compute_uv=False).min() for L in record.Lambdas) > 0.1
    at = np.append(np.zeros(len(o.U)), np.log(o.s2))
    H = numeric_hessian(lambda x: o.deviance(x[:-1], x[-1]), at, 2e-3)
    for row in HYPOTHESIS:
        l = in_the_frame(record, row[None])[0]
        g = numeric_gradient(lambda x, l=l: o.variance(l, x[:-1], x[-1]), at, 1e-3)
        dof = o.variance(l, at[:-1], at[-1]) ** 2 / (g @ np.linalg.solve(H, g))
        assert_allclose(satterthwaite(record, 0, row[None]).dof, dof, rtol=1e-5)


def test_satterthwaite_of_several_rows_is_the_mean_of_their_t():
    record, *_ = fit("slopes")
    tests = Satterthwaite(record)
    turned = np.linalg.eigh(HYPOTHESIS @ tests.covariance @ HYPOTHESIS.T)[1].T @ HYPOTHESIS
    rows = tests.rows(turned)
    t = rows.estimate / rows.std_error
    expectation = (rows.dof / (rows.dof - 2.0)).sum()
    found = tests.joint(HYPOTHESIS)
    assert_allclose(found.statistic, (t**2).mean())
    assert_allclose(found.denominator_dof, 2 * expectation / (expectation - 2))
    assert found.numerator_dof == 2


@pytest.mark.parametrize("kind", ["satterthwaite", "kenward-roger", "residual"])
def test_a_row_that_depends_on_others_adds_nothing(kind):
    record, *_ = fit("slopes")
    tests = make_tests(record, 0, kind)
    found = tests.joint(HYPOTHESIS)
    more = tests.joint(np.vstack([HYPOTHESIS, 1e6 * HYPOTHESIS.sum(axis=0)]))
    assert_allclose(more[:2], found[:2], rtol=1e-6)
    if kind != "satterthwaite":  # whose denominator depends on the rows
        assert_allclose(more[2], found[2], rtol=1e-6)


# ----------------------------------------------------------------------------------- against R


@pytest.mark.parametrize("name", SATTERTHWAITE)
def test_satterthwaite_is_lmertests(name, path):
    model, names = reference(name)
    found = satterthwaite(model._fit, 0, np.eye(len(names)))
    assert_allclose(found.dof, [SATTERTHWAITE[name][n] for n in names], rtol=1e-6)
    ours = coefficient_covariance(model._fit)
    assert_allclose(found.std_error, np.sqrt(np.diag(ours)))


@pytest.mark.parametrize("name", KENWARD_ROGER)
def test_kenward_roger_is_pbkrtests(name, path):
    model, names = reference(name)
    found = kenward_roger(model._fit, 0, np.eye(len(names)))
    std_error, dof = zip(*(KENWARD_ROGER[name][n] for n in names), strict=True)
    assert_allclose(found.dof, dof, rtol=1e-7)
    assert_allclose(found.std_error, std_error, rtol=1e-8)


def reference(name):
    case = CASES[name]
    X, y, weights = training_data(case)
    model = LinearMixedModel(**case["model"]).fit(X, y, sample_weight=weights)
    return model, ["(Intercept)", *model.fixed_names_]


# --------------------------------------------------------------------- boundary and invariance


@pytest.mark.parametrize("name", ["intercept", "diagonal", "crossed"])
def test_a_variance_at_zero(name, path):
    """It drops out of Satterthwaite's dof, and remains in those of Kenward and Roger."""
    record, design, y = fit(name, size=0.0)
    zero = [~L[0].any(axis=1) for L in record.Lambdas]
    assert any(z.any() for z in zero)
    less = [
        replace(s, blocks=tuple(b for b in s.blocks if not z[list(b)].any()))
        for s, z in zip(record.structures, zero, strict=True)
    ]
    without = Satterthwaite(replace(record, structures=tuple(less))).dof(HYPOTHESIS)
    assert_allclose(Satterthwaite(record).dof(HYPOTHESIS), without, rtol=1e-8)
    o = Oracle.of(record, design, y, sensitivity(record).directions)
    dof = dense_kenward_roger(o, in_the_frame(record, HYPOTHESIS))[2]
    assert_allclose(KenwardRoger(record).joint(HYPOTHESIS).denominator_dof, dof, rtol=1e-6)


def test_a_singular_covariance_counts_what_can_still_vary():
    """A slope in proportion to the intercept: one spread, one ratio."""
    design, y, structures = make("slopes", size=0.0, n=120, seed=3)
    rng = np.random.default_rng(0)
    z, codes = design.factors[0].z, design.factors[0].codes
    y = y + (z @ [2.0, 1.0] * rng.normal(size=9)[codes])[:, None]
    record = lmm.fit(design, y, structures)
    size = np.linalg.svd(record.Lambdas[0][0], compute_uv=False)
    assert size[1] < 1e-12 < size[0]
    tests = Satterthwaite(record)
    # the same along a curve Gamma(t) = v(t) v(t)', by differences in v
    o = Oracle.of(record, design, y, ())
    Z = in_frame(design, record.frame, y, slice(None))[2].T
    same = codes[:, None] == codes
    U, s, _ = np.linalg.svd(record.Lambdas[0][0])
    v = U[:, 0] * s[0]

    def at(x):
        V = np.eye(len(y)) + np.outer(Z @ x[:2], Z @ x[:2]) * same
        return replace(o, V=V)

    start = np.append(v, np.log(o.s2))
    H = numeric_hessian(lambda x: at(x).deviance((), x[2]), start, 3e-3)
    for row in HYPOTHESIS:
        l = in_the_frame(record, row[None])[0]
        g = numeric_gradient(lambda x, l=l: at(x).variance(l, (), x[2]), start, 1e-3)
        dof = o.variance(l, (), np.log(o.s2)) ** 2 / (g @ np.linalg.solve(H, g))
        assert_allclose(tests.dof(row[None]), dof, rtol=1e-4)


def all_numbers(record, L=HYPOTHESIS):
    out = [*satterthwaite(record, 0, L)[1:], *kenward_roger(record, 0, L)[1:]]
    joint = [Satterthwaite(record).joint(L), KenwardRoger(record).joint(L)]
    return np.concatenate([*out, *(np.array(j) for j in joint)])


@pytest.mark.parametrize("name", ["slopes", "crossed slopes", "nested"])
def test_frequency_weights_are_repeated_rows(name, path):
    times = np.random.default_rng(5).integers(1, 4, 90)
    weighted, design, y = fit(name, weights=times.astype(float))
    rows = np.repeat(np.arange(90), times)
    factors = [replace(f, codes=f.codes[rows], z=f.z[rows]) for f in design.factors]
    repeated = lmm.fit(
        Design(design.X[rows], tuple(factors), True, None), y[rows], weighted.structures
    )
    assert_allclose(all_numbers(weighted), all_numbers(repeated), rtol=1e-6)


@pytest.mark.parametrize("name", ["slopes", "crossed"])
def test_precision_weights_are_whitened_rows(name, path):
    weights = np.random.default_rng(6).uniform(0.3, 3.0, 90)
    record, design, y = fit(name, precision=True, weights=weights)
    o = Oracle.of(record, design, y, sensitivity(record).directions)  # the frame's rows: sqrt(w)
    L = in_the_frame(record, HYPOTHESIS)
    covariance, _, dof = dense_kenward_roger(o, L)
    tests = KenwardRoger(record)
    assert_allclose(tests.joint(HYPOTHESIS).denominator_dof, dof, rtol=1e-6)
    assert_allclose(HYPOTHESIS @ tests.covariance @ HYPOTHESIS.T, L @ covariance @ L.T, rtol=1e-7)


@pytest.mark.parametrize("name", ["slopes", "crossed slopes"])
def test_units_and_the_order_of_rows_do_not_matter(name, path):
    record, design, y = fit(name)
    before = all_numbers(record)
    order = np.random.default_rng(1).permutation(90)
    factors = [replace(f, codes=f.codes[order], z=f.z[order]) for f in design.factors]
    X = design.X[order] * [10.0, 0.2] + [5.0, -100.0]
    moved = lmm.fit(Design(X, tuple(factors), True, None), 7.0 * y[order] - 1e4, record.structures)
    L = HYPOTHESIS * [1.0, 10.0, 0.2] / 7.0  # the same combination
    assert_allclose(all_numbers(moved, L), before, rtol=2e-6)


def test_outputs_are_tested_one_by_one():
    design, y, structures = make("slopes")
    other = make("slopes", seed=9)[1]
    both = lmm.fit(design, np.hstack([other, y]), structures)
    alone = lmm.fit(design, y, structures)
    for test in (satterthwaite, kenward_roger):
        assert_allclose(test(both, 1, HYPOTHESIS), test(alone, 0, HYPOTHESIS), rtol=1e-6)


# ------------------------------------------------------------------------------- plain and bad


def test_without_random_effects_all_is_least_squares():
    design, y, _ = make("intercept")
    record = lmm.fit(replace(design, factors=()), y, ())
    for kind in ("satterthwaite", "kenward-roger", "residual"):
        assert_allclose(make_tests(record, 0, kind).dof(HYPOTHESIS), 87.0)
    X = np.column_stack([np.ones(90), design.X])
    beta, rss = np.linalg.lstsq(X, y[:, 0])[:2]
    smaller = ((y - y.mean()) ** 2).sum()
    found = make_tests(record, 0, "satterthwaite").joint(np.eye(3)[1:])
    assert_allclose(found.statistic, (smaller - rss[0]) / 2 / (rss[0] / 87))
    assert_allclose(WaldTests(record, 0).rows(np.eye(3)).estimate, beta)


def test_normal_has_no_end():
    record, *_ = fit("slopes")
    assert np.isinf(make_tests(record, 0, "normal").dof(HYPOTHESIS)).all()


def test_kenward_roger_refuses_maximum_likelihood():
    record, *_ = fit("slopes", reml=False)
    with pytest.raises(ValueError, match='refit with method="reml"'):
        kenward_roger(record, 0, HYPOTHESIS)


@pytest.mark.parametrize("name", ["slopes", "crossed"])
def test_a_record_with_other_rows_than_those_of_the_fit_is_refused(name, path):
    record, design, y = fit(name)
    few = slice(0, 2)
    factors = [replace(f, codes=f.codes[few], z=f.z[few]) for f in design.factors]
    more = lmm.adapt(record, Design(design.X[few], tuple(factors), True, None), y[few])
    with pytest.raises(ValueError, match="adapted"):
        satterthwaite(more, 0, HYPOTHESIS)


def test_nothing_to_test():
    record, *_ = fit("intercept")
    for kind in ("satterthwaite", "kenward-roger", "normal"):
        found = make_tests(record, 0, kind).joint(np.zeros((1, 3)))
        assert found.numerator_dof == 0 and np.isnan(found.statistic)


def test_four_degrees_of_freedom():
    """Where the general formula divides by zero: six groups in balance, half of them treated."""
    assert dof_module._matched(0.5, 0.5, 1) == (1.0, 4.0)
    for A in (0.49999, 0.50001):
        assert_allclose(dof_module._matched(A, A, 1), (1.0, 4.0), rtol=1e-4)
