"""What must not change an answer: order, names, units, origins, and how weights are written."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from sklme import LinearMixedModel

# name: (factors with their terms, covariance_type)
STRUCTURES = {
    "intercept": ({"a": ["1"]}, "full"),
    "slope": ({"a": ["1", "x"]}, "full"),
    "slope apart": ({"a": ["1", "x"]}, "diagonal"),
    "slope only": ({"a": ["x"]}, "full"),
    "crossed": ({"a": ["1"], "b": ["1"]}, "full"),
    "crossed slope": ({"a": ["1", "x"], "b": ["1"]}, "full"),
    "nested": ({"a": ["1"], ("a", "b"): ["1"]}, "full"),
    "none": ({}, "full"),
}
SLOPES_MAY_SHIFT = ["intercept", "slope", "crossed", "crossed slope", "nested", "none"]

seeds = st.integers(0, 10_000)
structures = st.sampled_from(sorted(STRUCTURES))
methods = st.sampled_from(["reml", "ml"])
scales = st.floats(-6, 6).map(lambda e: 10.0**e) | st.sampled_from([-1.0, -1e3])
few = settings(max_examples=12)


def draw(seed, structure, sizes=(7, 4), n_samples=70):
    """Unbalanced rows with effects of every term that the structure names, and of some none."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(sizes[0], size=n_samples), rng.integers(sizes[1], size=n_samples)
    X = pd.DataFrame(
        {
            "x": rng.normal(size=n_samples),
            "z": rng.exponential(size=n_samples),
            "a": [f"a{i}" for i in a],
            "b": [f"b{i}" for i in b],
        }
    )
    sd = rng.choice([0.0, 0.5, 2.0], size=4, p=[0.1, 0.3, 0.6])
    y = X["x"] - 0.5 * X["z"] + sd[0] * rng.normal(size=sizes[0])[a]
    y += sd[1] * rng.normal(size=sizes[0])[a] * X["x"] + sd[2] * rng.normal(size=sizes[1])[b]
    y += sd[3] * rng.normal(size=sizes)[a, b] + rng.normal(size=n_samples)
    factors = STRUCTURES[structure][0]
    used = {c for key in factors for c in (key if isinstance(key, tuple) else (key,))}
    return X[[c for c in X if c in ("x", "z") or c in used]], y.to_numpy()


def fit(X, y, structure, method="reml", sample_weight=None, **options):
    factors, covariance_type = STRUCTURES[structure]
    options = {"covariance_type": covariance_type, "method": method} | options
    model = LinearMixedModel(factors or None, **options)
    return model.fit(X, y, sample_weight=sample_weight)


def everything(model, X):
    mean, std = model.predict(X, return_std=True)
    return np.column_stack([mean, std, model.predict_population(X), model.predict_interval(X)])


def assert_same(model, other, X, X_other, y, moved=0.0, shift=0.0, scale=1.0):
    """`other` predicts ``shift + scale * y`` where `model` predicts y, and fits as well."""
    atol = 1e-6 * np.std(y)
    ours, theirs = everything(model, X), everything(other, X_other)
    where = np.array([shift, 0, shift, shift, shift])
    factor = np.array([scale, abs(scale), scale, scale, scale])
    if scale < 0:
        ours = ours[:, [0, 1, 2, 4, 3]]
    assert_allclose((theirs - where) / factor, ours, rtol=1e-6, atol=atol)
    assert_allclose(other.log_likelihood_ - moved, model.log_likelihood_, rtol=1e-9, atol=1e-7)


def rank(X):
    return 1 + sum(c in ("x", "z") for c in X)


@few
@given(seeds, structures, methods)
def test_order_of_rows(seed, structure, method):
    X, y = draw(seed, structure)
    order = np.random.default_rng(seed).permutation(len(y))
    other = fit(X.iloc[order], y[order], structure, method)
    assert_same(fit(X, y, structure, method), other, X, X, y)


@few
@given(seeds, structures, methods)
def test_names_and_order_of_levels(seed, structure, method):
    """Other ids, sorted otherwise and of another family, and categories that nobody has."""
    X, y = draw(seed, structure)
    rng = np.random.default_rng(seed)
    renamed = X.copy()
    for column in set(X) & {"a", "b"}:
        codes, levels = pd.factorize(X[column])
        names = np.sort(rng.choice(1000, 2 * len(levels), replace=False))
        here = rng.permutation(names)[: len(levels)]
        renamed[column] = pd.Categorical(here[codes], categories=names)
    model, other = fit(X, y, structure, method), fit(renamed, y, structure, method)
    assert_same(model, other, X, renamed, y)
    for key, levels in model.levels_.items():
        assert len(other.levels_[key]) == len(levels)


@few
@given(seeds, structures, methods)
def test_order_of_columns_and_of_factors(seed, structure, method):
    X, y = draw(seed, structure)
    factors, kind = STRUCTURES[structure]
    turned = {key: terms[::-1] for key, terms in reversed(factors.items())}
    backwards = X[X.columns[::-1]]
    other = LinearMixedModel(turned or None, covariance_type=kind, method=method).fit(backwards, y)
    assert_same(fit(X, y, structure, method), other, X, backwards, y)


@few
@given(seeds, structures, methods, scales, st.floats(-1e4, 1e4))
def test_scale_and_shift_of_y(seed, structure, method, scale, shift):
    """-(N - p) log|c| under REML, -N log|c| under ML: the density of c y + shift."""
    X, y = draw(seed, structure)
    n = len(y) - (rank(X) if method == "reml" else 0)
    model = fit(X, y, structure, method)
    other = fit(X, scale * (y + shift), structure, method)
    moved = -n * np.log(abs(scale))
    assert_same(model, other, X, X, y, moved=moved, shift=scale * shift, scale=scale)


@few
@given(seeds, structures, methods, scales, st.sampled_from(["x", "z"]))
def test_scale_of_a_column(seed, structure, method, scale, column):
    """-log|c| under REML, for |X'V^-1X|; nothing under ML."""
    X, y = draw(seed, structure)
    scaled = X.assign(**{column: scale * X[column]})
    other = fit(scaled, y, structure, method)
    moved = -np.log(abs(scale)) if method == "reml" else 0.0
    assert_same(fit(X, y, structure, method), other, X, scaled, y, moved=moved)


@few
@given(seeds, structures, methods, st.floats(-1e5, 1e5))
def test_shift_of_a_fixed_column(seed, structure, method, shift):
    X, y = draw(seed, structure)
    shifted = X.assign(z=X["z"] + shift)
    assert_same(fit(X, y, structure, method), fit(shifted, y, structure, method), X, shifted, y)


@few
@given(seeds, st.sampled_from(SLOPES_MAY_SHIFT), methods, st.floats(-1e5, 1e5))
def test_shift_of_a_slope_under_full_covariance(seed, structure, method, shift):
    X, y = draw(seed, structure)
    shifted = X.assign(x=X["x"] + shift)
    assert_same(fit(X, y, structure, method), fit(shifted, y, structure, method), X, shifted, y)


@pytest.mark.parametrize("kind", ["diagonal", "spherical"])
def test_shift_of_a_slope_is_another_model_without_correlation(kind):
    """The invariance above is no accident: it is lost where it must be."""
    X, y = draw(3, "slope")
    shifted = X.assign(x=X["x"] + 2)
    a, b = (fit(table, y, "slope", covariance_type=kind) for table in (X, shifted))
    assert abs(a.log_likelihood_ - b.log_likelihood_) > 0.1


def test_scale_of_a_slope_is_another_model_with_one_variance_for_all():
    X, y = draw(3, "slope")
    a = fit(X, y, "slope", "ml", covariance_type="spherical")
    b = fit(X.assign(x=5 * X["x"]), y, "slope", "ml", covariance_type="spherical")
    assert abs(a.log_likelihood_ - b.log_likelihood_) > 0.1


@few
@given(seeds, structures, methods)
def test_a_frequency_is_repeated_rows(seed, structure, method):
    """Split in any way: 3 is 1 + 2 is 1 + 1 + 1, and 0 is nothing."""
    X, y = draw(seed, structure)
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 4, len(y))
    other = fit(X, y, structure, method, sample_weight=weights)
    rows = np.repeat(np.arange(len(y)), weights)
    assert_same(fit(X.iloc[rows], y[rows], structure, method), other, X, X, y)
    first = rng.uniform(size=len(y)) * weights
    both = np.tile(np.arange(len(y)), 2)
    split = np.concatenate([first, weights - first])
    third = fit(X.iloc[both], y[both], structure, method, sample_weight=split)
    assert_same(other, third, X, X, y)


@few
@given(seeds, structures, methods, st.floats(-5, 5).map(lambda e: 10.0**e))
def test_a_unit_of_precisions(seed, structure, method, unit):
    X, y = draw(seed, structure)
    weights = np.random.default_rng(seed).uniform(0.3, 3, len(y))
    model, other = (
        fit(X, y, structure, method, sample_weight=w, weight_type="precision")
        for w in (weights, unit * weights)
    )
    assert_allclose(other.log_likelihood_, model.log_likelihood_, rtol=1e-9, atol=1e-7)
    assert_allclose(other.predict(X), model.predict(X), rtol=1e-6, atol=1e-6 * np.std(y))
    assert_allclose(other.residual_variance_ / unit, model.residual_variance_, rtol=1e-5)


@few
@given(seeds, structures, methods)
def test_outputs_do_not_meet(seed, structure, method):
    """An output is fitted alike alone and beside others, in any order."""
    X, y = draw(seed, structure)
    rng = np.random.default_rng(seed)
    Y = np.column_stack([rng.normal(size=len(y)), y, 1e5 * y, y - 3 * X["x"]])
    alone = fit(X, y, structure, method)
    for columns in ([0, 1, 2, 3], [1, 3], [3, 1, 0]):
        together = fit(X, Y[:, columns], structure, method)
        at = columns.index(1)
        assert_allclose(together.log_likelihood_[at], alone.log_likelihood_, rtol=1e-9, atol=1e-7)
        assert_allclose(
            together.predict(X)[:, at], alone.predict(X), rtol=1e-6, atol=1e-6 * y.std()
        )


@few
@given(seeds, structures, methods)
def test_a_larger_model_fits_no_worse(seed, structure, method):
    """The same fixed effects: the likelihood can only rise with the random effects."""
    X, y = draw(seed, structure)
    ignored = {c: [] for c in X if c in ("a", "b")}
    null = LinearMixedModel(ignored or None, method=method).fit(X, y)
    model = fit(X, y, structure, method)
    assert model.log_likelihood_ >= null.log_likelihood_ - 1e-7
    assert model.converged_


def hard(seed):
    """Few or many levels, some effects of size 10 and some none, x in any unit and far from 0."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(12, 150))
    a = rng.integers(rng.integers(2, 12), size=n)
    b = rng.integers(rng.integers(2, 8), size=n)
    x = rng.normal(size=n) * 10 ** rng.uniform(-3, 3) + rng.choice([0, 0, 100.0])
    z = rng.exponential(size=n)
    sd = rng.choice([0, 0.3, 1, 10], size=4)
    parts = [
        sd[0] * rng.normal(size=12)[a],
        sd[1] * rng.normal(size=12)[a] * (x - x.mean()) / x.std(),
        sd[2] * rng.normal(size=8)[b],
        sd[3] * rng.normal(size=12)[a] * z,
        rng.normal(size=n),
    ]
    y = np.sum(parts, axis=0)
    return pd.DataFrame({"x": x, "z": z, "a": a.astype(str), "b": b.astype(str)}), y


@pytest.mark.parametrize(
    "seed, factors, kind",
    [
        (12, {"a": ["1", "x"], "b": ["1", "x"]}, "full"),
        (143, {"a": ["1", "x"], "b": []}, "diagonal"),
        (205, {"a": ["1", "x", "z"], "b": ["1"]}, "full"),
        (461, {"a": ["1", "x", "z"], "b": ["1"]}, "full"),
        (593, {"a": ["1", "x", "z"], "b": []}, "full"),
        (615, {"a": ["1", "x"], "b": ["1"]}, "full"),
    ],
)
def test_hard_data_converge_in_any_order_of_rows(seed, factors, kind):
    """At the optimum but for rounding: no order of the rows may warn."""
    X, y = hard(seed)
    model = LinearMixedModel(factors, covariance_type=kind)
    backwards = slice(None, None, -1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = model.fit(X, y).log_likelihood_
        assert_allclose(
            model.fit(X.iloc[backwards], y[backwards]).log_likelihood_, value, rtol=1e-9
        )


@pytest.mark.parametrize("seed, kind", [(313, "full"), (196, "diagonal"), (440, "diagonal")])
def test_a_slope_more_fits_no_worse(seed, kind):
    """Two optima: the search must not stay in the one that loses to a variance of zero."""
    X, y = hard(seed)
    less = LinearMixedModel({"a": ["1"], "b": []}).fit(X, y)
    more = LinearMixedModel({"a": ["1", "x"], "b": []}, covariance_type=kind).fit(X, y)
    assert more.log_likelihood_ >= less.log_likelihood_ - 1e-6
