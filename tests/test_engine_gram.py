"""Cross-products by level: against dense products in the frame, merged, cut and whitened.

Also home of `problems`, the random mixed models on which the whole engine is tested.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from dense import Dense
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from sklme._engine import elimination, lmm
from sklme._engine import gram as gram_module
from sklme._engine.covariance import Charts, Structure
from sklme._engine.design import Design, Factor, sum_by_level
from sklme._engine.gram import Frame, frame_of, gram, merge, output, select
from sklme._engine.problem import make_problem

# ------------------------------------------------------------------------- random mixed models


@dataclass(frozen=True)
class Problem:
    """A random model with its rows: everything that a test of the engine needs."""

    design: Design
    y: np.ndarray
    structures: tuple[Structure, ...]
    precision: bool
    reml: bool
    theta: np.ndarray  # (n_outputs, n_theta)

    @property
    def charts(self):
        return Charts(self.structures, self.y.shape[1])

    @property
    def Lambdas(self):
        """(n_outputs, k, k) of each factor."""
        return self.charts.factors(self.theta, np.arange(self.y.shape[1]))

    @property
    def gram(self):
        """Cross-products in the units of the data."""
        whole = gram(self.design, self.y, identity_frame(self.design, self.y))
        return replace(whole, total=float(whole.n_rows)) if self.precision else whole

    def dense(self, r=0, theta=None, reml=None):
        """The oracle of response r."""
        theta = self.theta if theta is None else theta
        Lambdas = self.charts.factors(theta, np.arange(len(theta)))
        terms = [
            (f.codes, f.n_levels, f.z, L[r] @ L[r].T)
            for f, L in zip(self.design.factors, Lambdas, strict=True)
        ]
        kind = "precision" if self.precision else "frequency"
        reml = self.reml if reml is None else reml
        y, weights = self.y[:, r], self.design.weights
        return Dense(full_X(self.design), y, terms, weights, kind, reml)

    def log_weights(self):
        """What the criterion of the weighted rows lacks: |W| of the precisions."""
        return np.log(self.design.weights).sum() if self.precision else 0.0


def full_X(design):
    """X with its intercept."""
    ones = np.ones((design.n_rows, int(design.intercept)))
    return np.hstack([ones, design.X])


def identity_frame(design, y):
    """The frame that moves nothing."""
    p, r = design.X.shape[1], y.shape[1]
    maps = tuple(np.eye(f.k) for f in design.factors)
    return Frame(np.zeros(p), np.ones(p), np.zeros(r), np.ones(r), maps)


def level_codes(rng, n, kinds, sizes):
    """Codes of several factors: "free", or over the first factor "finer", "coarser", "almost"."""
    first = np.minimum(rng.geometric(1.6 / sizes[0], n) - 1, sizes[0] - 1)  # unequal sizes
    codes = [first]
    for kind, size in zip(kinds, sizes[1:], strict=True):
        own = rng.integers(0, size, n)
        if kind == "free":
            new = own
        elif kind == "finer":
            new = codes[-1] * size + own
        else:  # of levels of the last factor; with "almost" one row goes elsewhere
            new = rng.integers(0, size, codes[-1].max() + 1)[codes[-1]]
            if kind == "almost":
                new[0] = (new[0] + 1) % size
        codes.append(new)
    return [np.unique(c, return_inverse=True)[1] for c in codes]


def slopes(rng, n, k):
    return np.hstack([np.ones((n, 1)), rng.normal(size=(n, k - 1))])[:, :k]


def structure(kind, k):
    blocks = {
        "full": (tuple(range(k)),),
        "diagonal": tuple((i,) for i in range(k)),
        "spherical": tuple((i,) for i in range(k)),
        "blocks": ((0,), tuple(range(1, k))) if k > 1 else ((0,),),
    }
    return Structure(k, blocks[kind], spherical=kind == "spherical")


def random_theta(rng, structures, n_outputs, special):
    """Any theta, or one at the edge: a variance at zero, or correlations of one."""
    theta = rng.normal(size=(n_outputs, sum(s.n_theta for s in structures)))
    entries = [np.argwhere(entry)[0] for s in structures for entry in s.basis]
    for p, (i, j) in enumerate(entries):
        if (special == "zero" and j == 0) or (special == "rank one" and i == j > 0):
            theta[:, p] = 0.0
    return theta


@st.composite
def problems(draw, n_outputs=1, factors=(1, 4), special=("none", "zero", "rank one")):
    """A random problem; hypothesis draws its structure, one seed its numbers."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="seed"))
    n = draw(st.integers(14, 34), label="n")
    n_factors = draw(st.integers(*factors), label="n_factors")
    kinds = draw(
        st.lists(
            st.sampled_from(["free", "finer", "coarser", "almost"]),
            min_size=n_factors - 1,
            max_size=n_factors - 1,
        ),
        label="kinds",
    )
    sizes = draw(st.lists(st.integers(2, 6), min_size=n_factors, max_size=n_factors), label="sizes")
    ks = draw(st.lists(st.integers(1, 3), min_size=n_factors, max_size=n_factors), label="ks")
    shapes = draw(
        st.lists(
            st.sampled_from(["full", "diagonal", "blocks", "spherical"]),
            min_size=n_factors,
            max_size=n_factors,
        ),
        label="shapes",
    )
    weighting = draw(st.sampled_from(["none", "frequency", "precision"]), label="weights")
    intercept, p = draw(st.booleans(), label="intercept"), draw(st.integers(0, 3), label="p")
    codes = level_codes(rng, n, kinds, sizes)
    order = draw(st.permutations(range(n_factors)), label="order")  # any factor may come first
    chosen = [Factor(codes[t], int(codes[t].max()) + 1, slopes(rng, n, ks[t])) for t in order]
    structures = tuple(structure(shapes[t], ks[t]) for t in order)
    weights = {
        "none": None,
        "frequency": rng.integers(1, 4, n).astype(float),
        "precision": rng.uniform(0.3, 3, n),
    }[weighting]
    design = Design(rng.normal(size=(n, p)) + 1, tuple(chosen), intercept, weights)
    effects = [rng.normal(size=(f.n_levels, f.k, n_outputs)) for f in chosen]
    y = 3 + rng.normal(size=(n, n_outputs)) + design.random_part(effects)
    edge = draw(st.sampled_from(special), label="theta")
    theta = random_theta(rng, structures, n_outputs, edge)
    reml = draw(st.booleans(), label="reml")
    return Problem(design, y, structures, weighting == "precision", reml, theta)


# --------------------------------------------------------------------------------- the sums


def dense_columns(design, y, frame, whiten=None):
    """X, y and the Z of each factor in the frame, by plain algebra."""
    X = full_X(replace(design, X=(design.X - frame.x_shift) / frame.x_scale))
    Y = (y - frame.y_shift) / frame.y_scale
    Z = [
        replace(design, factors=(replace(f, z=f.z @ T),)).dense_random()
        for f, T in zip(design.factors, frame.z_maps, strict=True)
    ]
    root = np.ones(len(y)) if design.weights is None else np.sqrt(design.weights)
    W = np.diag(root) if whiten is None else whiten @ np.diag(root)
    return W @ X, W @ Y, [W @ z for z in Z]


def by_level(product, k):
    """Z'A (q k, m) as (k, m, q)."""
    return product.reshape(len(product) // k, k, product.shape[1]).transpose(1, 2, 0)


def assert_is_dense(found, X, Y, Z, sizes, rtol=1e-12):
    """Every sum of a Gram against products of matrices, to `rtol` of the sum of sizes."""
    atol = rtol * max([1.0, *(np.abs(a.T @ a).max(initial=0.0) for a in (X, Y, *Z))])
    close = lambda a, b: assert_allclose(a, b, rtol=rtol, atol=atol)
    close(found.xx, X.T @ X)
    close(found.xy, X.T @ Y)
    close(found.yy, (Y**2).sum(axis=0))
    for t, (k, q) in enumerate(sizes):
        f, ZZ = found.factors[t], (Z[t].T @ Z[t]).reshape(q, k, q, k)
        close(f.zz, np.einsum("gagb->abg", ZZ))
        close(f.zx, by_level(Z[t].T @ X, k))
        close(f.zy, by_level(Z[t].T @ Y, k))
        for s in range(t):
            cross, (k_s, q_s) = found.cross[s, t], sizes[s]
            whole = np.zeros((q_s, k_s, q, k))
            whole[cross.rows, :, cross.columns, :] = np.moveaxis(cross.data, 2, 0)
            close(whole.reshape(q_s * k_s, -1), Z[s].T @ Z[t])


def sizes_of(design):
    return [(f.k, f.n_levels) for f in design.factors]


@settings(max_examples=40)
@given(problems(n_outputs=2))
def test_sums_are_dense_products_in_the_frame(problem):
    design, y = problem.design, problem.y
    frame = frame_of(design, y, problem.structures)
    found = gram(design, y, frame)
    assert_is_dense(found, *dense_columns(design, y, frame), sizes_of(design))
    w = np.ones(len(y)) if design.weights is None else design.weights
    assert (found.n_rows, found.n_outputs) == y.shape
    assert_allclose([found.total, found.log_weights], [w.sum(), np.log(w).sum()], rtol=1e-13)


@settings(max_examples=25)
@given(problems(n_outputs=2), st.data())
def test_sums_of_two_sources_merge(problem, data):
    design, y = problem.design, problem.y
    cut = data.draw(st.integers(1, len(y) - 1))
    frame = frame_of(design, y, problem.structures)
    merged = merge(*(gram(rows_of(design, at), y[at], frame) for at in halves(cut, len(y))))
    assert_is_dense(merged, *dense_columns(design, y, frame), sizes_of(design))
    whole = gram(design, y, frame)
    assert (merged.n_rows, merged.cross.keys()) == (whole.n_rows, whole.cross.keys())
    for key, cross in whole.cross.items():
        assert np.array_equal(merged.cross[key].rows, cross.rows)
        assert np.array_equal(merged.cross[key].columns, cross.columns)
    assert_allclose(merged.total, whole.total, rtol=1e-14)
    assert_allclose(merged.log_weights, whole.log_weights, rtol=1e-12, atol=1e-13)


def halves(cut, n):
    return np.arange(cut), np.arange(cut, n)


def rows_of(design, at):
    """Some rows, with the levels of all."""
    factors = tuple(replace(f, codes=f.codes[at], z=f.z[at]) for f in design.factors)
    weights = None if design.weights is None else design.weights[at]
    return replace(design, X=design.X[at], factors=factors, weights=weights)


@settings(max_examples=25)
@given(problems(n_outputs=2), st.data())
def test_levels_that_only_one_source_has_are_padded(problem, data):
    """The first source ends before the last levels of any factor; either order of the two."""
    design, y = problem.design, problem.y
    order = np.argsort(design.factors[-1].codes, kind="stable")
    cut = data.draw(st.integers(1, len(y) - 1))
    renumbered = []
    for f in design.factors:  # in order of appearance, as a table that grows numbers them
        _, first, codes = np.unique(f.codes[order], return_index=True, return_inverse=True)
        renumbered.append(replace(f, codes=np.argsort(np.argsort(first))[codes], z=f.z[order]))
    weights = None if design.weights is None else design.weights[order]
    design = replace(design, X=design.X[order], factors=tuple(renumbered), weights=weights)
    y = y[order]
    frame = frame_of(design, y, problem.structures)
    early = rows_of(design, np.arange(cut))
    seen = tuple(replace(f, n_levels=int(f.codes.max()) + 1) for f in early.factors)
    first = gram(replace(early, factors=seen), y[:cut], frame)
    second = gram(rows_of(design, np.arange(cut, len(y))), y[cut:], frame)
    for merged in (merge(first, second), merge(second, first)):
        assert_is_dense(merged, *dense_columns(design, y, frame), sizes_of(design))


@settings(max_examples=15)
@given(problems(n_outputs=2), st.sampled_from([1, 3, 7]))
def test_the_size_of_the_blocks_does_not_matter(problem, block):
    design, y = problem.design, problem.y
    frame = frame_of(design, y, problem.structures)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gram_module, "BLOCK", block)
        found = gram(design, y, frame)
    assert_is_dense(found, *dense_columns(design, y, frame), sizes_of(design))


@pytest.mark.parametrize("m", [3, 40])
def test_grouped_sums_of_few_and_many_columns(m):
    rng = np.random.default_rng(m)
    codes, rows = rng.integers(0, 6, 50), rng.normal(size=(m, 50))
    expected = np.stack([rows[:, codes == level].sum(axis=1) for level in range(8)], axis=1)
    assert_allclose(sum_by_level(codes, 8, rows), expected, rtol=1e-12, atol=1e-13)


@given(problems(n_outputs=3))
@settings(max_examples=10)
def test_select_and_output_cut_the_sums(problem):
    whole = problem.gram
    one = output(whole, 1)
    again = replace(problem, y=problem.y[:, [1]]).gram
    columns = np.arange(len(whole.xx))[::2]
    some = select(whole, columns)
    assert_allclose(one.xy, again.xy, rtol=1e-13, atol=1e-13)
    assert_allclose(one.yy, again.yy, rtol=1e-13)
    assert np.array_equal(some.xx, whole.xx[columns][:, columns])
    for f, g, h, w in zip(one.factors, again.factors, some.factors, whole.factors, strict=True):
        assert_allclose(f.zy, g.zy, rtol=1e-13, atol=1e-13)
        assert np.array_equal(h.zx, w.zx[:, columns])


@given(problems(factors=(2, 4)))
@settings(max_examples=25)
def test_which_levels_meet(problem):
    f, g = problem.design.factors[:2]
    table = np.zeros((f.n_levels, g.n_levels), bool)
    table[f.codes, g.codes] = True
    found = problem.gram
    met = np.zeros_like(table)
    met[found.cross[0, 1].rows, found.cross[0, 1].columns] = True
    assert np.array_equal(met, table)
    assert elimination.is_nested(found, 0, 1) == bool((table.sum(axis=1) == 1).all())
    assert elimination.is_nested(found, 1, 0) == bool((table.sum(axis=0) == 1).all())
    kind, pairs, possible = elimination.meeting(found, 0, 1)
    assert (pairs, possible) == (table.sum(), table.size)
    inner, outer = (table.sum(axis=1) == 1).all(), (table.sum(axis=0) == 1).all()
    words = {(True, True): "alike", (True, False): "nested", (False, True): "around"}
    crossed = "crossed" if table.all() else "partly crossed"
    assert kind == words.get((bool(inner), bool(outer)), crossed)


# -------------------------------------------------------------------------------- the frame


def test_the_frame_moves_only_what_the_model_allows():
    rng = np.random.default_rng(0)
    z = np.column_stack([np.full(20, 2.0), 50 + rng.normal(size=20), 7 * rng.normal(size=20)])
    X = np.column_stack([1e6 + rng.normal(size=20), np.full(20, 3.0)])
    design = Design(X, (Factor(np.arange(20) % 4, 4, z),))
    y = rng.normal(size=(20, 1)) + 1e8
    full = frame_of(design, y, (structure("full", 3),))
    moved = z @ full.z_maps[0]
    assert_allclose(moved[:, 0].std(), 0, atol=1e-12)
    assert_allclose(moved[:, 1:].mean(axis=0), 0, atol=1e-12)
    assert_allclose(moved[:, 1:].std(axis=0), 1, rtol=1e-12)
    assert_allclose([full.x_shift[0], full.y_shift[0]], [X[:, 0].mean(), y.mean()], rtol=1e-14)
    assert full.x_scale[1] == 1  # a constant column has no spread
    diagonal = frame_of(design, y, (structure("diagonal", 3),))
    off = diagonal.z_maps[0] - np.diag(np.diag(diagonal.z_maps[0]))
    assert not off.any()
    spherical = frame_of(design, y, (structure("spherical", 3),))
    assert np.array_equal(spherical.z_maps[0], np.eye(3))
    through_zero = frame_of(replace(design, intercept=False), y, (structure("full", 3),))
    assert not through_zero.x_shift.any() and not through_zero.y_shift.any()


def test_a_far_shift_of_y_and_a_large_scale_cost_no_digits():
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 6, 60)
    X, y = rng.normal(size=(60, 2)), rng.normal(size=(60, 1)) + rng.normal(size=6)[codes, None]
    design = Design(X, (Factor(codes, 6, np.ones((60, 1))),))
    far = replace(design, X=X * [1e6, 1e-6] + [1e6, 0])
    one, other = (lmm.fit(d, v, (structure("full", 1),)) for d, v in ((design, y), (far, y + 1e8)))
    assert_allclose(other.s2 * other.frame.y_scale**2, one.s2 * one.frame.y_scale**2, rtol=1e-6)
    expected = one.criterion  # the scales of the two columns cancel
    assert_allclose(other.criterion, expected, rtol=1e-8)


# ------------------------------------------------------------------------------- whitening


@given(problems(n_outputs=2))
@settings(max_examples=15)
def test_whitening_by_a_vector_is_a_precision_weight(problem):
    design, y = replace(problem.design, weights=None), problem.y
    w = np.random.default_rng(0).uniform(0.5, 2, len(y))
    frame = identity_frame(design, y)
    whitened = gram(replace(design, whiten=lambda a: np.sqrt(w)[:, None] * a), y, frame)
    columns = dense_columns(replace(design, weights=w), y, frame)
    assert_is_dense(whitened, *columns, sizes_of(design))
    assert whitened.total == len(y)


def ar1(codes, rho):
    """The whitening matrix of errors with correlation rho^|i - j| within a level, rows in order."""
    n = len(codes)
    same = codes[:, None] == codes[None, :]
    place = np.array([np.sum(codes[:i] == codes[i]) for i in range(n)])
    V = np.where(same, float(rho) ** np.abs(place[:, None] - place[None, :]), 0.0)
    return V, np.linalg.inv(np.linalg.cholesky(V))


@pytest.mark.parametrize("n_factors", [1, 2])
def test_ar1_errors_by_whitening_are_dense_gls(n_factors):
    """The rows of a level keep their order but do not stand together."""
    rng = np.random.default_rng(5)
    codes = rng.integers(0, 5, 30)
    factors = (Factor(codes, 5, slopes(rng, 30, 2)), Factor(codes // 2, 3, np.ones((30, 1))))
    V, whitener = ar1(codes, 0.6)
    design = Design(rng.normal(size=(30, 2)), factors[:n_factors], whiten=lambda a: whitener @ a)
    y = rng.normal(size=(30, 1))
    whole = gram(design, y, identity_frame(design, y))
    Lambdas = [np.array([[0.8, 0.0], [-0.3, 0.5]]), np.array([[0.7]])][:n_factors]
    structures = tuple(structure("full", len(L)) for L in Lambdas)
    found = make_problem(whole, structures, True).solve([L[None] for L in Lambdas])
    H = V.copy()
    for f, L in zip(design.factors, Lambdas, strict=True):
        H += (f.z @ L @ L.T @ f.z.T) * (f.codes[:, None] == f.codes)
    X, H_inv = full_X(design), np.linalg.inv(H)
    beta = np.linalg.solve(X.T @ H_inv @ X, X.T @ H_inv @ y[:, 0])
    residual = y[:, 0] - X @ beta
    assert_allclose(found.beta[0], beta, rtol=1e-11)
    assert_allclose(found.rss[0], residual @ H_inv @ residual, rtol=1e-11)
    log_det = np.linalg.slogdet(H)[1] - np.linalg.slogdet(V)[1]
    assert_allclose(found.log_det[0], log_det, rtol=1e-11)
    for f, L, b in zip(design.factors, Lambdas, found.effects, strict=True):
        Z = replace(design, factors=(f,)).dense_random()
        G = np.kron(np.eye(f.n_levels), L @ L.T)
        expected = (G @ Z.T @ H_inv @ residual).reshape(-1, f.k).T
        assert_allclose(b[:, 0], expected, rtol=1e-10, atol=1e-12)
