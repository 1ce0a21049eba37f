"""Analysis of variance and contrasts."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from reference_dof import ANOVA
from reference_linear import CASES, training_data
from scipy import stats

from sklme import LinearMixedModel
from sklme.datasets import load_cake, load_sleepstudy
from sklme.inference.coefficients import coefficient_table
from sklme.inference.contrasts import anova, contrast

F_COLUMNS = [
    *("sum_of_squares", "mean_square", "numerator_dof"),
    *("denominator_dof", "statistic", "p_value"),
]
KINDS = pytest.mark.parametrize("dof", ["satterthwaite", "kenward-roger"])


def terms_of(names, variables):
    """The columns of each term, R's names: "recipeB:temperature185" is of recipe:temperature."""
    terms = {}
    for name in names:
        parts = [next(v for v in variables if p.startswith(v)) for p in name.split(":")]
        terms.setdefault(":".join(parts), []).append(name)
    return terms


def dummies(levels, name):
    return {f"{name}{level}": (levels == level).astype(float) for level in np.unique(levels)[1:]}


def two_way(seed=0, n=120, q=10):
    """An unbalanced table of two factors (a: 3, b: 2), a number x, and all their products."""
    rng = np.random.default_rng(seed)
    a, b = rng.choice(list("ABC"), n, p=[0.5, 0.3, 0.2]), rng.choice(list("UV"), n, p=[0.7, 0.3])
    x, g = rng.normal(2.0, 1.0, n), rng.integers(0, q, n)
    columns = dummies(a, "a") | dummies(b, "b") | {"x": x}
    for left, right in [("aB", "bV"), ("aC", "bV"), ("aB", "x"), ("aC", "x")]:
        columns[f"{left}:{right}"] = columns[left] * columns[right]
    y = x + columns["aB"] - columns["aC:bV"] + rng.normal(size=q)[g] + rng.normal(size=n)
    raw = pd.DataFrame({"a": a, "b": b, "x": x, "g": g.astype(str)})
    return pd.DataFrame(columns).assign(g=raw["g"]), y, raw


def two_way_model(random_effects="g", **options):
    X, y, _ = two_way(**options)
    if random_effects is None:
        X = X.drop(columns="g")
    return LinearMixedModel(random_effects).fit(X, y), X, y


TERMS = terms_of(["aB", "aC", "bV", "x", "aB:bV", "aC:bV", "aB:x", "aC:x"], ["a", "b", "x"])


# ------------------------------------------------------------------------- analysis of variance


@pytest.mark.parametrize("name", ANOVA)
def test_type_three_is_lmertests(name):
    case = CASES[name]
    X, y, weights = training_data(case)
    model = LinearMixedModel(**case["model"]).fit(X, y, sample_weight=weights)
    for dof, expected in ANOVA[name].items():
        variables = [term for term in expected if ":" not in term]
        table = anova(model, dof=dof, terms=terms_of(model.fixed_names_, variables))
        assert list(table.columns) == F_COLUMNS
        assert_allclose(table.loc[list(expected)], list(expected.values()), rtol=1e-6)


def least_squares_rss(X, names):
    A = np.column_stack([np.ones(len(X)), *(X[n] for n in names)])
    return lambda y: np.linalg.lstsq(A, y)[1][0]


def columns_of(*terms):
    return [c for term in terms for c in TERMS[term]]


SEQUENCE = ["a", "b", "x", "a:b", "a:x"]
BEFORE = {
    "I": {term: SEQUENCE[:i] for i, term in enumerate(SEQUENCE)},
    "II": {
        "a": ["b", "x", "a:x"],  # x is no factor: a:x does not contain a
        "b": ["a", "x", "a:x"],
        "x": ["a", "b", "a:b"],
        "a:b": ["a", "b", "x", "a:x"],
        "a:x": ["a", "b", "x", "a:b"],
    },
}


@pytest.mark.parametrize("kind, term", [(k, t) for k in BEFORE for t in SEQUENCE])
def test_types_one_and_two_are_differences_of_sums_of_squares(kind, term):
    """Without random effects: what the term takes away from the residual sum of squares."""
    model, X, y = two_way_model(None)
    row = anova(model, kind=kind, terms=TERMS).loc[term]
    before = BEFORE[kind][term]
    less = least_squares_rss(X, columns_of(*before))(y)
    more = least_squares_rss(X, columns_of(*before, term))(y)
    assert_allclose(row["sum_of_squares"], less - more, rtol=1e-8)
    assert row["numerator_dof"] == len(TERMS[term])
    assert_allclose(row["denominator_dof"], 120 - 9)


def test_type_three_compares_means_of_equal_weight():
    """The coefficients of sum-to-zero coding, dropped term by term, give the same tests."""
    model, X, y = two_way_model(None)
    S = pd.DataFrame({"a1": X["aB"], "a2": X["aC"], "b1": X["bV"], "x": X["x"]})
    base_a = (X["aB"] + X["aC"] == 0).to_numpy()
    S.loc[base_a, ["a1", "a2"]] = -1.0
    S.loc[X["bV"] == 0, "b1"] = -1.0
    for left, right in [("a1", "b1"), ("a2", "b1"), ("a1", "x"), ("a2", "x")]:
        S[f"{left}:{right}"] = S[left] * S[right]
    coded = {"a": ["a1", "a2"], "b": ["b1"], "x": ["x"]}
    coded |= {"a:b": ["a1:b1", "a2:b1"], "a:x": ["a1:x", "a2:x"]}
    table = anova(model, terms=TERMS)
    for term, names in coded.items():
        less = least_squares_rss(S, [c for c in S if c not in names])(y)
        more = least_squares_rss(S, list(S))(y)
        assert_allclose(table.loc[term, "sum_of_squares"], less - more, rtol=1e-8)


@KINDS
@pytest.mark.parametrize("kind", ["I", "II", "III"])
def test_the_base_level_does_not_matter(kind, dof):
    model, X, y = two_way_model()
    base = 1.0 - X["aB"] - X["aC"]
    other = X.assign(**{"aB": base, "aB:bV": base * X["bV"], "aB:x": base * X["x"]})
    moved = LinearMixedModel("g").fit(other, y)
    expected = anova(model, kind=kind, dof=dof, terms=TERMS)
    found = anova(moved, kind=kind, dof=dof, terms=TERMS)
    exact = [
        c for c in F_COLUMNS if dof == "kenward-roger" or c not in ("p_value", "denominator_dof")
    ]
    assert_allclose(found[exact], expected[exact], rtol=1e-5)


def test_types_agree_in_a_balanced_table():
    X, y, _ = training_data(CASES["cake_reml"])
    model = LinearMixedModel(**CASES["cake_reml"]["model"]).fit(X, y)
    terms = terms_of(model.fixed_names_, ["recipe", "temperature"])
    first, second, third = (anova(model, kind=k, terms=terms) for k in ("I", "II", "III"))
    assert_allclose(first, third, rtol=1e-6)
    assert_allclose(second, third, rtol=1e-6)


def test_a_term_may_be_one_column():
    model, _, _ = two_way_model()
    table = anova(model, terms={"b": "bV"})
    row = coefficient_table(model).loc["bV"]
    assert_allclose(table.loc["b", "statistic"], row["statistic"] ** 2)
    assert_allclose(table.loc["b", "denominator_dof"], row["dof"])
    assert_allclose(table.loc["b", "p_value"], row["p_value"])


def test_without_terms_every_column_is_one():
    X, y, _ = two_way()
    model = LinearMixedModel("g", fixed_effects=["bV", "x"]).fit(X, y)
    table, coefficients = anova(model), coefficient_table(model)
    assert list(table.index) == ["bV", "x"]
    assert_allclose(table["statistic"], coefficients["statistic"].iloc[1:] ** 2)
    X, y, _ = training_data(CASES["orthodont_crosslevel_reml"])
    model = LinearMixedModel(**CASES["orthodont_crosslevel_reml"]["model"]).fit(X, y)
    expected = ANOVA["orthodont_crosslevel_reml"]["satterthwaite"]
    found = anova(model).rename({"SexFemale": "Sex", "age:SexFemale": "age:Sex"})
    assert_allclose(found.loc[list(expected)], list(expected.values()), rtol=1e-6)


def test_dummies_of_one_factor_that_are_not_named_together_are_refused():
    model, _, _ = two_way_model()
    with pytest.raises(ValueError, match="'aB' and 'aC' look like levels of one factor"):
        anova(model)


@KINDS
def test_terms_of_a_formula(dof):
    pytest.importorskip("formulaic")
    from sklme.formula import from_formula

    cake = load_cake().frame.astype({"temperature": str})
    model = from_formula("angle ~ recipe * temperature + (1 | recipe:replicate)", cake)
    table, expected = anova(model, dof=dof), ANOVA["cake_reml"][dof]
    assert list(table.index) == list(expected)
    assert_allclose(table, list(expected.values()), rtol=1e-6)
    assert table.attrs["kind"] == "III" and table.attrs["dof"] == dof


def test_type_three_does_not_depend_on_the_coding():
    pytest.importorskip("formulaic")
    from sklme.formula import from_formula

    _, y, raw = two_way()
    table = raw.assign(y=y)
    dummy = anova(from_formula("y ~ a * b + a * x + (1 | g)", table))
    sums = "y ~ C(a, contr.sum) * C(b, contr.sum) + C(a, contr.sum) * x + (1 | g)"
    coded = anova(from_formula(sums, table))
    assert list(coded.index) == [
        *("C(a, contr.sum)", "C(b, contr.sum)", "x"),
        *("C(a, contr.sum):C(b, contr.sum)", "C(a, contr.sum):x"),
    ]
    exact = ["sum_of_squares", "numerator_dof", "statistic"]  # the dof depend on the rows of L
    assert_allclose(coded[exact], dummy[exact], rtol=1e-5)


def test_a_dropped_column_of_a_term():
    X, y, _ = two_way()
    model = LinearMixedModel("g", fixed_effects=["aB", "aC", "copy", "x"])
    model.fit(X.assign(copy=X["aB"] + X["aC"]), y)
    table = anova(model, terms={"a": ["aB", "aC", "copy"], "x": ["x"]})
    assert table.loc["a", "numerator_dof"] == 2
    less = LinearMixedModel("g", fixed_effects=["aB", "aC", "x"]).fit(X, y)
    assert_allclose(table, anova(less, terms={"a": ["aB", "aC"], "x": ["x"]}), rtol=1e-5)
    alone = anova(model, terms={"copy": ["copy"]})
    assert alone.loc["copy", "numerator_dof"] == 0 and np.isnan(alone.loc["copy", "statistic"])


def test_an_empty_combination_has_no_type_three():
    X, y, raw = two_way()
    some = ~((raw["a"] == "C") & (raw["b"] == "V"))
    names = ["aB", "aC", "bV", "aB:bV", "aC:bV"]
    model = LinearMixedModel("g", fixed_effects=names).fit(X[some], y[some])
    terms = terms_of(names, ["a", "b"])
    with pytest.raises(ValueError, match=r'"III" is not defined.*aC:bV.*kind="II"'):
        anova(model, terms=terms)
    table = anova(model, kind="II", terms=terms)
    assert list(table["numerator_dof"]) == [2, 1, 1]


@pytest.mark.parametrize(
    "terms, message",
    [
        ({"a": ["aB", "aD"]}, "'a' names 'aD'; the model has '.Intercept.', 'aB'"),
        ({"a": ["aB"], "c": ["aB"]}, "'aB' is in two terms, 'a' and 'c'"),
        ({"a": ["aB"], "b": ["bV"], "a:b": ["aC:bV"]}, "'aC:bV' .* is not named as a product"),
    ],
)
def test_bad_terms(terms, message):
    model, _, _ = two_way_model()
    with pytest.raises(ValueError, match=message):
        anova(model, terms=terms)


def test_bad_arguments_of_anova():
    model, X, y = two_way_model()
    with pytest.raises(ValueError, match="kind is 'IV'"):
        anova(model, kind="IV")
    with pytest.raises(TypeError, match="dict of term name -> columns"):
        anova(model, terms=["a", "b"])
    bare = LinearMixedModel("g", fit_intercept=False).fit(X, y)
    with pytest.raises(ValueError, match="with an intercept only"):
        anova(bare, terms=TERMS)
    assert len(anova(bare, kind="I", terms=TERMS)) == 5


# ------------------------------------------------------------------------------------ contrasts


def sleepstudy_model():
    X, y = load_sleepstudy(return_X_y=True, as_frame=True)
    return LinearMixedModel({"Subject": ["1", "Days"]}).fit(X, y)


@KINDS
def test_a_contrast_of_one_coefficient_is_its_row(dof):
    model = sleepstudy_model()
    expected = coefficient_table(model, dof=dof).loc[["Days"]]
    for L in ({"Days": 1}, [0, 1], [[0.0, 1.0]], {"any": {"Days": 1.0}}):
        assert_allclose(contrast(model, L, dof=dof), expected)
    assert list(contrast(model, {"a": {"Days": 1}, "b": {"Days": 2}}).index) == ["a", "b"]


def test_a_contrast_is_the_coefficient_of_a_shifted_column():
    X, y = load_sleepstudy(return_X_y=True, as_frame=True)
    shifted = LinearMixedModel({"Subject": ["1", "Days"]}).fit(X.assign(Days=X["Days"] - 4), y)
    found = contrast(sleepstudy_model(), {"(Intercept)": 1, "Days": 4})
    expected = coefficient_table(shifted).loc[["(Intercept)"]]
    assert_allclose(found, expected, rtol=1e-5)


@KINDS
def test_a_joint_contrast_is_the_test_of_the_term(dof):
    model, _, _ = two_way_model(n=200)
    L = {"B": {"aB": 1}, "C": {"aC": 1}}
    table = contrast(model, L, joint=True, dof=dof)
    assert list(table.index) == ["joint"] and list(table.columns) == F_COLUMNS
    assert_allclose(table, anova(model, dof=dof, terms={"a": ["aB", "aC"]}))


def test_normal_dof_gives_chi_squared():
    model, _, _ = two_way_model()
    row = contrast(model, {"B": {"aB": 1}, "C": {"aC": 1}}, joint=True, dof="normal").iloc[0]
    assert_allclose(row["p_value"], stats.chi2.sf(2 * row["statistic"], 2))


@pytest.mark.parametrize(
    "L, message",
    [
        ({"days": 1}, "'days'; the model has '.Intercept.', 'Days'"),
        ({"Days": "1"}, "weight of 'Days'"),
        ([1.0, 2.0, 3.0], "has the shape .1, 3.; it needs 2 finite columns"),
        ([0.0, np.nan], "finite"),
    ],
)
def test_bad_contrasts(L, message):
    with pytest.raises(ValueError, match=message):
        contrast(sleepstudy_model(), L)


def test_combinations_with_a_dropped_column():
    X, y = load_sleepstudy(return_X_y=True, as_frame=True)
    X = X.assign(twice=2 * X["Days"] + 1)
    model = LinearMixedModel("Subject", fixed_effects=["Days", "twice"]).fit(X, y)
    with pytest.raises(ValueError, match="'twice' was dropped"):
        contrast(model, {"twice": 1})
    possible = contrast(model, {"(Intercept)": 1, "Days": 3, "twice": 7})  # a row of such a table
    assert_allclose(possible, contrast(model, {"(Intercept)": 1, "Days": 3}))
