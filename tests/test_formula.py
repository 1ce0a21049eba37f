"""Formulas against the same model spelt out, against lme4, and the messages for wrong ones."""

import pickle
import sys
from decimal import Decimal

import joblib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_predict
from sklearn.pipeline import Pipeline
from sklearn.utils import estimator_html_repr

from sklme import LinearMixedModel, adapt, datasets
from sklme.formula import FormulaColumns, FormulaPipeline, from_formula
from sklme.formula._bars import parse_formula
from sklme.formula._left_side import FUNCTIONS, INVERSES, Transform

pytest.importorskip("formulaic")


def make_table(n=240, seed=0):
    """Numbers x, z, n; text f; an ordered Categorical o; yes or no b; groups g, a, c."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "z": rng.uniform(1, 2, size=n),
            "f": rng.choice(list("qrs"), n),
            "o": pd.Categorical(
                rng.choice(["low", "mid", "high"], n), ["low", "mid", "high", "never"], ordered=True
            ),
            "b": rng.random(n) < 0.5,
            "k": rng.integers(1, 4, n),
            "g": rng.integers(0, 12, n),
            "a": rng.choice(list("tuvw"), n),
            "c": rng.choice(list("lmn"), n),
        },
        index=rng.permutation(n) + 1000,
    )
    slopes = rng.normal(size=12)[table["g"]]
    levels = rng.normal(size=12)[table["g"]] + table["a"].map(
        dict(zip("tuvw", range(4), strict=True))
    )
    pairs = pd.factorize(table["a"] + table["c"])[0]
    by_f = rng.normal(size=(12, 3))[table["g"], pd.factorize(table["f"])[0]]
    mean = 10 + (0.5 + slopes) * table["x"] + levels + rng.normal(size=12)[pairs] + by_f
    table["y"] = (mean + rng.normal(size=n)).clip(0.5) + 0.1 * table["z"] ** 2
    return table


TABLE = make_table()
X, Y = TABLE.drop(columns="y"), TABLE["y"]


def by_hand():
    """Columns spelt out, and the grouping columns."""
    d = TABLE
    made = {
        "x": d["x"],
        "z": d["z"],
        "fr": 1.0 * (d["f"] == "r"),
        "fs": 1.0 * (d["f"] == "s"),
        "fq": 1.0 * (d["f"] == "q"),
        "om": 1.0 * (d["o"] == "mid"),
        "oh": 1.0 * (d["o"] == "high"),
        "b": 1.0 * d["b"],
        "xx": d["x"] ** 2,
        "xfr": d["x"] * (d["f"] == "r"),
        "xfs": d["x"] * (d["f"] == "s"),
        "lz": np.log(d["z"]),
        "z2": 2 * d["z"] + np.log(d["z"]),
    }
    return pd.DataFrame({**made, "g": d["g"], "a": d["a"], "c": d["c"]})


SAME = [
    ("y ~ x + (1 | g)", {"g": ["1"]}, ["x"], {}),
    ("y ~ x + (x | g)", {"g": ["1", "x"]}, ["x"], {}),
    ("y ~ x + (1 + x | g)", {"g": ["1", "x"]}, ["x"], {}),
    ("y ~ x + (0 + x | g)", {"g": ["x"]}, ["x"], {}),
    ("y ~ x + (x - 1 | g)", {"g": ["x"]}, ["x"], {}),
    ("y ~ x + (x || g)", {"g": ["1", "x"]}, ["x"], {"covariance_type": "diagonal"}),
    ("y ~ x + (1 | g) + (0 + x | g)", {"g": ["1", "x"]}, ["x"], {"covariance_type": "diagonal"}),
    (
        "y ~ x + (x | g) + (0 + z | g)",
        {"g": ["1", "x", "z"]},
        ["x"],
        {"covariance_type": {"g": [["1", "x"], ["z"]]}},
    ),
    ("y ~ (1 | a/c)", {"a": ["1"], ("a", "c"): ["1"]}, [], {}),
    ("y ~ (1 | a:c)", {("a", "c"): ["1"]}, [], {}),
    ("y ~ (1 | g) + (1 | a)", ["g", "a"], [], {}),
    (
        "y ~ (1 | a:c) + (0 + x | c:a)",
        {("a", "c"): ["1", "x"]},
        [],
        {"covariance_type": "diagonal"},
    ),
    (
        "y ~ (x || g) + (x | a)",
        {"g": ["1", "x"], "a": ["1", "x"]},
        [],
        {"covariance_type": {"g": "diagonal"}},
    ),
    ("y ~ f + (f | g)", {"g": ["1", "fr", "fs"]}, ["fr", "fs"], {}),
    ("y ~ f + (0 + f | g)", {"g": ["fq", "fr", "fs"]}, ["fr", "fs"], {}),
    ("y ~ f + (f || g)", {"g": ["1", "fr", "fs"]}, ["fr", "fs"], {"covariance_type": "diagonal"}),
    ("y ~ 0 + f + (1 | g)", "g", ["fq", "fr", "fs"], {"fit_intercept": False}),
    ("y ~ f - 1 + (1 | g)", "g", ["fq", "fr", "fs"], {"fit_intercept": False}),
    ("y ~ (1 | g) - 1 + x", "g", ["x"], {"fit_intercept": False}),
    ("y ~ o + b + (1 | g)", "g", ["om", "oh", "b"], {}),
    ("y ~ x * f + (1 | g)", "g", ["x", "fr", "fs", "xfr", "xfs"], {}),
    ("y ~ x + f + x:f + (1 | g)", "g", ["x", "fr", "fs", "xfr", "xfs"], {}),
    ("y ~ (x + f)**2 + (1 | g)", "g", ["x", "fr", "fs", "xfr", "xfs"], {}),
    ("y ~ (x + f)^2 + (1 | g)", "g", ["x", "fr", "fs", "xfr", "xfs"], {}),
    ("y ~ x + I(x**2) + (1 | g)", "g", ["x", "xx"], {}),
    ("y ~ x + {x**2} + (I(x**2) | g)", {"g": ["1", "xx"]}, ["x", "xx"], {}),
    ("y ~ log(z) + (1 | g)", "g", ["lz"], {}),
    ("y ~ np.log(z) + (1 | g)", "g", ["lz"], {}),
    ("y ~ x + offset(2 * z) + offset(log(z)) + (1 | g)", "g", ["x"], {"offset": "z2"}),
    ("y ~ x + offset(z) + (z | g)", {"g": ["1", "z"]}, ["x"], {"offset": "z"}),
    ("y ~ g + (1 | g)", "g", ["g"], {}),
    ("y ~ x", None, ["x"], {}),
    ("y ~ 0 + (1 | g)", "g", [], {"fit_intercept": False}),
]


@pytest.mark.parametrize("formula, random_effects, fixed, others", SAME)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_formula_is_the_model_spelt_out(formula, random_effects, fixed, others):
    said = from_formula(formula, TABLE)
    spelt = LinearMixedModel(random_effects, fixed_effects=fixed, **others).fit(by_hand(), Y)
    assert said[-1].log_likelihood_ == pytest.approx(spelt.log_likelihood_, rel=1e-10)
    np.testing.assert_allclose(said[-1].coef_, spelt.coef_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(said.predict(TABLE), spelt.predict(by_hand()), rtol=1e-6)
    assert said[-1].fit_intercept is spelt.fit_intercept


# R 4.2, lme4 1.1-31, lmer(..., control = lmerControl("bobyqa", optCtrl = list(rhoend = 1e-10))),
# text columns as factors with sorted levels: logLik of the REML fit.
LME4 = [
    ("sleepstudy", "Reaction ~ Days + (Days | Subject)", -871.814135979),
    ("sleepstudy", "Reaction ~ Days + (Days || Subject)", -871.834646791),
    ("sleepstudy", "Reaction ~ Days + offset(10 * Days) + (Days | Subject)", -871.814135979),
    ("sleepstudy", "Reaction ~ 0 + factor(Days) + (1 | Subject)", -864.746280118),
    ("sleepstudy", "log(Reaction) ~ poly(Days, 2) + (1 | Subject)", 133.831344580),
    ("sleepstudy", "I(-1000/Reaction) ~ I(Days**2) + Days + (1 | Subject)", -87.237452680),
    ("pastes", "strength ~ 1 + (1 | batch/cask)", -123.495372927),
    ("cake", "angle ~ recipe * temperature + (1 | recipe:replicate)", -816.623090736),
    ("machines", "score ~ Machine + (Machine | Worker)", -104.155609158),
    ("machines", "score ~ Machine + (0 + Machine | Worker)", -104.155609158),
    ("orthodont", "distance ~ age * Sex + (age | Subject)", -216.290830751),
]


@pytest.mark.parametrize("name, formula, expected", LME4)
def test_a_formula_gives_what_lme4_gives(name, formula, expected):
    model = from_formula(formula, getattr(datasets, f"load_{name}")().frame)[-1]
    model = getattr(model, "regressor_", model)
    assert model.log_likelihood_ == pytest.approx(expected, abs=1e-6)


def test_uncorrelated_dummies_unlike_lme4():
    model = from_formula("score ~ Machine + (Machine || Worker)", datasets.load_machines().frame)[
        -1
    ]
    covariance = model.covariance_["Worker"]
    assert np.count_nonzero(covariance - np.diag(np.diag(covariance))) == 0


FIXED = ["x", "f", "x:f", "z", "log(z)"]
RANDOM = ["(1 | a)", "(0 + x | g)", "(1 | g)"]


@pytest.fixture(scope="module")
def expected():
    return from_formula(" + ".join(["y ~ x", *FIXED[1:], *RANDOM]), TABLE)


@given(st.permutations(FIXED + RANDOM), st.sampled_from(["", " ", "  ", "\n  "]))
def test_order_and_spaces_do_not_matter(expected, terms, space):
    text = f"{space}+{space}".join(terms)
    text = text.replace("|", f"{space}|{space}")
    said = from_formula(f"y{space}~{space}{text}", TABLE)
    assert said[-1].log_likelihood_ == pytest.approx(expected[-1].log_likelihood_, abs=1e-7)
    np.testing.assert_allclose(said.predict(TABLE), expected.predict(TABLE), atol=1e-4)


@given(st.text(alphabet="xfg01 ()|~+-*/:^{}`'\".,", max_size=20))
def test_any_text_is_read_or_refused_in_words(text):
    try:
        columns = FormulaColumns(f"y ~ {text}").fit(X)
    except ValueError as problem:
        assert "^" in str(problem) or "row" in str(problem)
    else:
        assert len(columns.get_feature_names_out())


def test_every_column_is_listed_and_named_as_in_r():
    said = from_formula("y ~ x * o + b + C(k) + poly(z, 2) + (f | g) + offset(z)", TABLE)
    model = said[-1]
    assert (
        model.fixed_names_
        == model.fixed_effects
        == [
            *("x", "o[T.mid]", "o[T.high]", "b[T.True]", "C(k)[T.2]", "C(k)[T.3]"),
            *("poly(z, 2)[1]", "poly(z, 2)[2]", "x:o[T.mid]", "x:o[T.high]"),
        ]
    )
    assert model.random_effects == {"g": ["1", "f[T.r]", "f[T.s]"]}
    assert model.covariance_type == "full"
    assert model.fit_intercept is True
    assert model.offset == "z"
    names = said[0].get_feature_names_out().tolist()
    assert names == [*model.fixed_names_, "f[T.r]", "f[T.s]", "z", "g"]
    assert said[:-1].get_feature_names_out().tolist() == names
    assert said.feature_names_in_.tolist() == list(X)
    assert said[0].n_features_in_ == X.shape[1]


def test_columns_are_a_table_with_the_groups_untouched():
    columns = FormulaColumns("y ~ x + f + (x | g) + (1 | a:c)")
    made = columns.fit_transform(X)
    assert list(made) == ["x", "f[T.r]", "f[T.s]", "g", "a", "c"]
    pd.testing.assert_frame_equal(made[["g", "a", "c"]], X[["g", "a", "c"]])
    pd.testing.assert_frame_equal(columns.transform(X), made)
    pd.testing.assert_frame_equal(FormulaColumns(columns.formula).fit(X).transform(X), made)
    part = columns.transform(X.iloc[5:8])
    pd.testing.assert_frame_equal(part, made.iloc[5:8])


def test_what_functions_learn_is_learned_in_fit():
    columns = FormulaColumns("y ~ poly(x, 2) + center(z) + scale(x) + (1 | g)").fit(X)
    few = X.iloc[:3]
    np.testing.assert_allclose(columns.transform(X)[:3], columns.transform(few), rtol=1e-12)
    assert columns.transform(few)["center(z)"].mean() == pytest.approx(
        few["z"].mean() - X["z"].mean()
    )


def test_columns_that_formulaic_names_alike_come_once():
    made = FormulaColumns("y ~ x + (x | g) + (x | a)").fit_transform(X)
    assert list(made) == ["x", "g", "a"]


def test_names_in_backticks():
    table = TABLE.rename(columns={"x": "my x", "g": "the group", "z": "z.1", "y": "the y"})
    said = from_formula("log(`the y`) ~ `my x` + log(`z.1`) + (`my x` | `the group`)", table)
    plain = from_formula("log(y) ~ x + log(z) + (x | g)", TABLE)
    np.testing.assert_allclose(said.predict(table), plain.predict(TABLE))
    assert said[-1].regressor.random_effects == {"the group": ["1", "my x"]}
    said = from_formula("`the y` ~ z.1 + (1 | `the group`)", table)
    assert said[-1].fixed_names_ == ["z.1"]


def test_numbers_in_objects_are_numbers():
    odd = TABLE.assign(x=TABLE["x"].astype(object), k=TABLE["k"].astype("Int64"))
    odd["b"] = odd["b"].astype("boolean")
    formula = "y ~ x + k + b + (x | g)"
    np.testing.assert_allclose(
        from_formula(formula, odd).predict(odd), from_formula(formula, TABLE).predict(TABLE)
    )


def test_decimals_are_numbers():
    odd = TABLE.assign(x=[Decimal(f"{x:.3f}") for x in TABLE["x"]])
    said = from_formula("y ~ x + (x | g)", odd)
    assert said[-1].fixed_names_ == ["x"]


def test_contrasts_levels_and_constants():
    said = from_formula(
        "y ~ C(f, contr.sum) + C(o, levels=['mid', 'low', 'high']) + {x * np.pi}", TABLE
    )
    assert said[-1].fixed_names_ == [
        *("C(f, contr.sum)[S.q]", "C(f, contr.sum)[S.r]"),
        *(
            "C(o, levels=['mid', 'low', 'high'])[T.low]",
            "C(o, levels=['mid', 'low', 'high'])[T.high]",
        ),
        "x * np.pi",
    ]
    made = said[:-1].transform(X)
    np.testing.assert_array_equal(made.iloc[:, 0], 1.0 * (X["f"] == "q") - (X["f"] == "s"))
    np.testing.assert_array_equal(made.iloc[:, 4], np.pi * X["x"])


def test_yes_and_no_are_numbers_where_one_calculates():
    said = from_formula("y ~ {b + 1} + b + (1 | g)", TABLE)
    assert said[-1].fixed_names_ == ["b + 1", "b"]


def test_polars_tables():
    pl = pytest.importorskip("polars")
    formula = "y ~ x * f + o + C(k) + b + (f || g) + (1 | a/c)"
    pandas = from_formula(formula, TABLE)
    table = pl.DataFrame({name: TABLE[name].to_list() for name in TABLE}).with_columns(
        pl.col("o").cast(pl.Enum(["low", "mid", "high"])), pl.col("f").cast(pl.Categorical)
    )
    polars = from_formula(formula, table)
    assert polars[-1].fixed_names_ == pandas[-1].fixed_names_
    np.testing.assert_allclose(polars.predict(table), pandas.predict(TABLE), rtol=1e-8)
    columns = FormulaColumns(formula).set_output(transform="polars")
    assert isinstance(columns.fit_transform(X), pl.DataFrame)
    said = from_formula("y ~ x + (1 | a)").set_output(transform="polars").fit(X, Y)
    np.testing.assert_allclose(said.predict(X), from_formula("y ~ x + (1 | a)", TABLE).predict(X))


# In the rest of scikit-learn --------------------------------------------------------------------


def test_without_data_the_pipeline_is_fitted_later():
    said = from_formula("y ~ x + (x | g)", method="ml")
    assert isinstance(said, Pipeline)
    assert list(said.named_steps) == ["formulacolumns", "linearmixedmodel"]
    assert said[-1].method == "ml"
    said.fit(X, Y)
    fitted = from_formula("y ~ x + (x | g)", TABLE, method="ml")
    np.testing.assert_array_equal(said.predict(X), fitted.predict(TABLE))
    said.fit(TABLE, Y)  # Columns that the formula does not name do no harm.
    np.testing.assert_array_equal(said.predict(X[["g", "x"]]), fitted.predict(TABLE))


def test_an_estimator_is_cloned_and_its_parameters_kept():
    estimator = LinearMixedModel("nonsense", method="ml", tol=1e-6)
    said = from_formula("y ~ x + (1 | g)", TABLE, estimator, max_iter=50)
    assert said[-1] is not estimator
    assert estimator.random_effects == "nonsense"
    assert estimator.max_iter == 100
    model = said[-1]
    assert (model.method, model.tol, model.max_iter) == ("ml", 1e-6, 50)
    assert model.random_effects == {"g": ["1"]}


class Simple(BaseEstimator):
    """Has what every formula needs, no more."""

    def __init__(self, random_effects=None, fixed_effects=None):
        self.random_effects, self.fixed_effects = random_effects, fixed_effects

    def fit(self, X, y):
        self.names_ = list(X)
        return self


def test_another_estimator():
    said = from_formula("y ~ x + (z | g)", TABLE, Simple())
    assert said[-1].names_ == ["x", "z", "g"]
    assert said[-1].random_effects == {"g": ["1", "z"]}
    for formula, name in [
        ("y ~ 0 + x + (z | g)", "fit_intercept"),
        ("y ~ x + (z || g)", "covariance_type"),
        ("y ~ x + offset(z) + (1 | g)", "offset"),
    ]:
        with pytest.raises(ValueError, match=f"the formula needs {name}, which Simple has not"):
            from_formula(formula, TABLE, Simple())


def test_new_groups_are_predicted_and_learned():
    said = from_formula("y ~ x + (x | g)", TABLE)
    new = TABLE.assign(g=99)
    made = said[:-1].transform(new)
    np.testing.assert_array_equal(said.predict(new), said[-1].predict_population(made))
    adapted = adapt(said, new.head(50), Y.head(50))
    error = np.abs(Y.head(50) - adapted.predict(new.head(50))).mean()
    assert error < np.abs(Y.head(50) - said.predict(new.head(50))).mean()


def test_cross_validation_learns_the_columns_in_each_fold():
    rare = X.assign(f=np.where(np.arange(len(X)) < 20, "rare", X["f"]))  # only in the first fold
    said = from_formula("y ~ poly(x, 2) + (1 | g)")
    predicted = cross_val_predict(said, rare, Y, cv=KFold(4))
    for train, test in KFold(4).split(X):
        one = clone(said).fit(X.iloc[train], Y.iloc[train])
        np.testing.assert_allclose(predicted[test], one.predict(X.iloc[test]))
    with pytest.raises(ValueError, match='holds "rare" in row 0, a level that fit has not seen'):
        cross_val_predict(from_formula("y ~ f + (1 | g)"), rare, Y, cv=KFold(4))


def test_a_fold_without_a_category_of_the_table():
    rows = (X["o"] != "high").to_numpy()
    said = from_formula("y ~ o + (o | g)").fit(X[rows], Y[rows])
    assert said[-1].fixed_names_ == ["o[T.mid]"]
    with pytest.raises(ValueError, match='column "o" holds "high" in row'):
        said.predict(X)


def test_grid_search_over_the_model_and_over_formulas():
    formulas = ["y ~ 1 + (1 | g)", "y ~ x + f + (x || g) + (1 | a)", "y ~ x + (1 | a:c)"]
    grid = {"linearmixedmodel__method": ["ml", "reml"], "formulacolumns__formula": formulas}
    search = GridSearchCV(from_formula(formulas[0]), grid, cv=KFold(3)).fit(X, Y)
    assert search.best_params_["formulacolumns__formula"] == formulas[1]
    best = search.best_estimator_[-1]
    assert best.random_effects == {"g": ["1", "x"], "a": ["1"]}
    assert best.covariance_type == {"g": "diagonal"}
    back = search.best_estimator_.set_params(formulacolumns__formula="y ~ x + (x | g)").fit(X, Y)
    assert back[-1].covariance_type == "full"
    groups = GridSearchCV(
        from_formula("y ~ x + (1 | g)"), {"linearmixedmodel__method": ["ml"]}, cv=GroupKFold(3)
    )
    assert groups.fit(X, Y, groups=X["g"]).best_score_ < 1


def test_what_the_formula_sets_is_not_set_apart():
    said = from_formula("y ~ x + (x | g)", TABLE)
    for name, value in [("covariance_type", "diagonal"), ("random_effects", "a"), ("offset", "z")]:
        with pytest.raises(ValueError, match=f"linearmixedmodel__{name} is set by the formula"):
            said.set_params(**{f"linearmixedmodel__{name}": value})
        with pytest.raises(ValueError, match=f"{name} is set by the formula: say it there"):
            from_formula("y ~ x + (x | g)", **{name: value})
    assert said.set_params(**said.get_params()) is said


def test_clone_pickle_joblib_and_html(tmp_path):
    said = from_formula("log(y) ~ poly(x, 2) * f + C(k) + (f || g) + offset(z)", TABLE)
    expected = said.predict(TABLE)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(said)).predict(TABLE), expected)
    joblib.dump(said, tmp_path / "said.joblib")
    np.testing.assert_array_equal(joblib.load(tmp_path / "said.joblib").predict(TABLE), expected)
    again = clone(said)
    assert not hasattr(again[0], "estimator_params_")
    np.testing.assert_array_equal(again.fit(X, Y).predict(X), expected)
    assert "FormulaColumns" in estimator_html_repr(said)
    assert isinstance(clone(said), FormulaPipeline)


def test_sample_weight_and_population_go_to_the_model():
    weights = np.random.default_rng(0).integers(0, 3, len(X))
    said = from_formula("y ~ x + (1 | g)").fit(X, Y, linearmixedmodel__sample_weight=weights)
    twice = from_formula("y ~ x + (1 | g)").fit(
        X.loc[X.index.repeat(weights)], Y.loc[Y.index.repeat(weights)]
    )
    np.testing.assert_allclose(said.predict(X), twice.predict(X), rtol=1e-8)


def test_several_responses():
    said = from_formula("y ~ x + (1 | g)").fit(X, np.column_stack([Y, -2 * Y]))
    np.testing.assert_allclose(said.predict(X)[:, 1], -2 * said.predict(X)[:, 0], rtol=1e-6)


def test_nothing_given_is_changed():
    before = TABLE.copy(deep=True)
    from_formula("log(y) ~ x * f + o + b + (f | g)", TABLE).predict(TABLE)
    pd.testing.assert_frame_equal(TABLE, before)


# The left side ----------------------------------------------------------------------------------

LEFT = {
    "log(y)": np.log,
    "np.log1p(y)": np.log1p,
    "sqrt(y)": np.sqrt,
    "log(y + 1)": lambda y: np.log(y + 1),
    "log2(2 + y)": lambda y: np.log2(2 + y),
    "-1000 / y": lambda y: -1000 / y,
    "I(1 / y)": lambda y: 1 / y,
    "{y / 10 - 3}": lambda y: y / 10 - 3,
    "4 - 2 * y": lambda y: 4 - 2 * y,
    "-log10(y * 3)": lambda y: -np.log10(y * 3),
}


@pytest.mark.parametrize("left", LEFT)
def test_a_transformed_left_side_is_turned_back(left):
    said = from_formula(f"{left} ~ x + (x | g)", TABLE)
    there = LEFT[left](Y)
    spelt = from_formula("y ~ x + (x | g)").fit(X, there)
    assert list(said.named_steps) == ["formulacolumns", "transformedtargetregressor"]
    model = said[-1].regressor_
    assert model.log_likelihood_ == pytest.approx(spelt[-1].log_likelihood_, rel=1e-10)
    np.testing.assert_allclose(LEFT[left](said.predict(X)), spelt.predict(X), rtol=1e-9)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_has_its_inverse(name):
    y = np.linspace(0.1, 0.9, 9)
    there, back = Transform(f"{name}(y)"), Transform(f"{name}(y)", inverse=True)
    np.testing.assert_allclose(there(y), FUNCTIONS[name](y))
    np.testing.assert_allclose(back(there(y)), y)
    assert FUNCTIONS[name] in INVERSES


@pytest.mark.parametrize(
    "left, place",
    [
        ("y + x", "y"),
        ("y**2", "y"),
        ("log(abs(y))", "abs"),
        ("0 * y", "0"),
        ("log(y, 2)", "log"),
        ("cbind(y, x)", "cbind"),
        ("round(y)", "round"),
        ("3", "3"),
        ("'y'", "'"),
    ],
)
def test_a_left_side_without_an_inverse(left, place):
    fault = raises(f"{left} ~ x + (1 | g)", at=left.index(place))
    assert fault.startswith("the inverse of this left side is not known: it is one column")


def test_a_left_side_that_is_no_expression():
    assert raises("y y ~ x", at=2) == "the left side cannot be read"


def test_another_left_side_later_needs_another_pipeline():
    said = from_formula("y ~ x + (1 | g)", TABLE)
    with pytest.raises(
        ValueError, match=r"the left side of 'log\(y\) ~ x' transforms the response"
    ):
        said.set_params(formulacolumns__formula="log(y) ~ x").fit(X, Y)
    said = from_formula("log(y) ~ x + (1 | g)", TABLE)
    said.set_params(formulacolumns__formula="log(y) ~ z + (1 | g)").fit(X, Y)
    assert said[-1].regressor_.fixed_names_ == ["z"]


# What wrong formulas and tables get -------------------------------------------------------------


def raises(formula, data=TABLE, *, at=None):
    """The sentence of the error; the formula is shown, with a caret below the place `at`."""
    with pytest.raises(ValueError) as raised:
        from_formula(formula, data)
    sentence, _, shown = str(raised.value).partition("\n\n")
    if at is not None:
        text, caret = shown.split("\n")
        assert text == f"    {formula.rstrip()}"
        assert caret == " " * (4 + at) + "^", shown
    assert "\n" not in sentence
    return sentence


# The place is marked by an arrow before it.
WRONG = [
    ("→y", 'the formula has no "~"'),
    ("y →~", 'nothing stands after "~"'),
    ("→~ x", 'nothing stands before "~"'),
    ("y ~ x →~ z", 'a formula has one "~"'),
    ("y ~ (x →~ z)", 'a formula has one "~"'),
    ("(y →~ x)", '"~" stands outside all parentheses'),
    ("y ~ x + →(1 | g", 'this "(" is never closed'),
    ("y ~ x + 1 | g→)", 'this ")" closes nothing that is open'),
    ("y ~ (x + z→]", 'this "]" closes nothing that is open'),
    ("y ~ →'x", "this quote is never closed"),
    ("y ~ →`x + (1 | g)", "this quote is never closed"),
    ("y ~ x + (1 | →)", "nothing stands after the bar: name a grouping column"),
    ("y ~ x + (→| g)", "nothing stands before the bar"),
    ("y ~ x + 1 →| g", "a random term stands in parentheses: write (1 | g)"),
    ("y ~ x →| g + z", "a random term stands in parentheses: write (x | g)"),
    ("y ~ (1 | (a →| g))", "one pair of parentheses has one bar"),
    ("y ~ (1 | g →| a)", "one pair of parentheses has one bar"),
    ("y ~ (x ||→| a)", "one pair of parentheses has one bar"),
    ("y ~ (x + (1 →| g))", "a random term stands alone, in one pair of parentheses"),
    ("y ~ x:(1 →| g)", "a random term stands alone, in one pair of parentheses"),
    ("y ~ x (1 →| g)", "a random term stands alone, in one pair of parentheses"),
    ("y ~ x →- (1 | g)", "random terms and offsets are added, not subtracted"),
    ("y ~ x →- offset(z)", "random terms and offsets are added, not subtracted"),
    ("y ~ x:→offset(z)", "offset(...) is a term of its own"),
    ("y ~ x + (1 | a →+ c)", 'after the bar stand columns, joined by ":"'),
    ("y ~ x + (1 | a →* c)", 'after the bar stand columns, joined by ":"'),
    ("y ~ x + (1 | factor→(a))", 'after the bar stand columns, joined by ":"'),
    ("y ~ x + (1 | →1)", 'after the bar stand columns, joined by ":"'),
    ("y ~ x + (1 | a→/)", "a column is missing after this sign"),
    ("y ~ I(x→^2) + (1 | g)", 'a power is "**" and not "^"'),
    ("y ~ {x →^ 2} + (1 | g)", 'a power is "**" and not "^"'),
    ("y ~ →. + (1 | g)", '"." does not stand for all columns here: name them'),
    ("y ~ x + →X + (1 | g)", "\"X\" is not a column; there are ['x', "),
    ("y ~ x + →gg", '"gg" is not a column'),
    ("y ~ log(→zz) + (1 | g)", '"zz" is not a column'),
    ("y ~ x + (→w | g)", '"w" is not a column'),
    ("y ~ x + (1 | a/→cc)", '"cc" is not a column'),
    ("y ~ x + offset(→w)", '"w" is not a column'),
    ("y ~ →y + x", '"y" is not a column'),
    (
        "→Y ~ x",
        "\"Y\" is not a column; there are ['x', 'z', 'f', 'o', 'b', 'k', 'g', 'a', 'c', 'y']",
    ),
    ("log(→Y) ~ x", '"Y" is not a column'),
    ("y ~ →foo(x)", '"foo" is no function that formulas know: those of numpy are np.exp'),
    ("y ~ →as.factor(k)", '"as.factor" is no function that formulas know; write factor(x)'),
    ("y ~ →ns(x, 3)", '"ns" is no function that formulas know; write cs(x, df=3)'),
    ("y ~ →np.foo(x) + z", "the formula cannot be read: Unable to evaluate factor `np.foo(x)`"),
    ("y ~ x→* + (1 | g)", "the formula cannot be read: "),
    ("y ~ (1 | g) + x →*/ z", "the formula cannot be read: "),
    ("y ~ x + →3", "the formula cannot be read: "),
    ("y ~ (x →% z | g)", "the formula cannot be read: "),
    ("y ~ x + (0 →| g)", "nothing varies: there is no column and no intercept"),
    ("y ~ (1 | g) + (x →| g)", '"g" has an intercept in two random terms'),
    ("y ~ (1 | g) + (x | a/c) + (1 →| a)", '"a" has an intercept in two random terms'),
    ("y ~ (x | g) + (0 + x →|| g)", '"g" has "x" in two random terms: take it out of one'),
    ("y ~ (poly(x, 2) →|| g)", 'a function before "||" makes several columns'),
    ("y ~ (f:poly(x, 2) →|| g)", 'a function before "||" makes several columns'),
    ("y ~ x + →offset(f)", "an offset is one column of numbers"),
    ("y→ ~ 1", "the formula leaves no column"),
    ("y→ ~ x - x", "the formula leaves no column"),
]


@pytest.mark.parametrize("marked, sentence", WRONG)
def test_a_wrong_formula_is_shown_with_its_place(marked, sentence):
    formula = marked.replace("→", "")
    at = marked.index("→")
    assert sentence in raises(formula, at=at)


def test_a_formula_over_several_lines_is_shown_on_one():
    assert parse_formula("y ~ x\n  + (1 | g)\n").text == "y ~ x   + (1 | g)"
    assert parse_formula("y ~ {x | k} + (1 | g)").bars[0].at == 17  # Python's own bar is none


def test_a_close_name_is_suggested():
    assert raises("y ~ (1 | gg)", at=9).endswith('did you mean "g"?')
    wide = TABLE.assign(**{f"w{i}": 0.0 for i in range(30)})
    assert "..." in raises("y ~ nothing_like_it", wide)


@pytest.mark.parametrize("formula", [None, 3, ["y ~ x"]])
def test_a_formula_is_text(formula):
    with pytest.raises(ValueError, match="it must be text such as"):
        FormulaColumns(formula).fit(X)


def test_tables_without_names_are_refused():
    for table in (X.to_numpy(), pd.DataFrame(np.ones((3, 2))), X[["x"]].to_numpy().tolist()):
        with pytest.raises(ValueError, match=r"a formula names columns, but X has no column names"):
            from_formula("y ~ x").fit(table, Y)
    with pytest.raises(ValueError, match='X has 2 columns of the name "x"'):
        from_formula("y ~ x", TABLE).predict(pd.concat([X, X[["x"]]], axis=1))


def test_a_missing_column_or_value_at_predict():
    said = from_formula("y ~ x + (1 | g)", TABLE)
    with pytest.raises(ValueError, match='"x" is not a column; there are'):
        said.predict(X.drop(columns="x"))
    with pytest.raises(ValueError, match='"g" is not a column; there are'):
        said.predict(X.drop(columns="g"))
    gap = X.copy()
    gap.iloc[7, gap.columns.get_loc("x")] = np.nan
    for work in (said.predict, lambda table: said.fit(table, Y)):
        with pytest.raises(ValueError, match='column "x" has no value in row 7: leave such rows'):
            work(gap)


@pytest.mark.filterwarnings("ignore:invalid value encountered in log")
def test_rows_without_a_logarithm_stay_and_are_refused_by_the_model():
    made = FormulaColumns("y ~ log(x) + (1 | g)").fit_transform(X)
    np.testing.assert_array_equal(made["log(x)"].isna(), X["x"] < 0)
    with pytest.raises(ValueError, match="contains NaN"):
        from_formula("y ~ log(x) + (1 | g)", TABLE)


@pytest.mark.parametrize(
    "term, column, level, knows",
    [
        ("f", "f", '"new"', '"q", "r", "s"'),
        ("o", "o", '"never"', '"low", "mid", "high"'),
        ("C(k)", "k", "9", "1, 2, 3"),
        ("factor(k) + k", "k", "9", "1, 2, 3"),
        ("(0 + f | g)", "f", '"new"', '"q", "r", "s"'),
    ],
)
def test_a_new_level_of_a_fixed_categorical(term, column, level, knows):
    said = from_formula(f"y ~ {term} + (1 | a)", TABLE)
    new = X.copy()
    new.iloc[4, new.columns.get_loc(column)] = level.strip('"') if '"' in level else int(level)
    with pytest.raises(ValueError) as raised:
        said.predict(new)
    assert str(raised.value) == (
        f'column "{column}" holds {level} in row 4, a level that fit has not seen; it knows {knows}'
    )


def test_a_new_level_inside_python():
    said = from_formula("y ~ C(k + 1) + (1 | a)", TABLE)
    with pytest.raises(ValueError, match="the formula cannot be read: Data has categories outside"):
        said.predict(X.assign(k=9))
    said = from_formula("y ~ C(k % 2) + (1 | a)", TABLE)
    assert np.isfinite(said.predict(X.assign(k=9))).all()


def test_dates_are_no_numbers():
    table = TABLE.assign(day=pd.Timestamp("2020-01-01") + pd.to_timedelta(TABLE["k"], "D"))
    message = raises("y ~ x + day + (1 | g)", table, at=8)
    assert message == (
        '"day" holds dates or times: make a number of it, such as {day.dt.day_of_year}'
    )
    said = from_formula("y ~ {day.dt.day_of_year} + (1 | g)", table)
    assert said[-1].fixed_names_ == ["day.dt.day_of_year"]


def test_text_where_numbers_belong():
    assert raises("y ~ x + offset(f + f)", at=8) == "an offset is one column of numbers"
    with pytest.raises(ValueError) as raised:
        from_formula("y ~ {f @ k} + (1 | g)", TABLE)
    assert str(raised.value) == 'the formula makes a column "f @ k" that holds no numbers'
    assert from_formula("y ~ {f + f}", TABLE)[-1].fixed_names_ == ["f + f[T.rr]", "f + f[T.ss]"]


def test_dots_inside_python():
    table = TABLE.rename(columns={"z": "z.1"})
    message = raises("y ~ log(z.1) + (1 | g)", table, at=8)
    assert message == "inside Python, write the column as `z.1`"
    message = raises("y ~ log(z.one) + (1 | g)", TABLE.rename(columns={"z": "z.one"}), at=8)
    assert message == "inside Python, write the column as `z.one`"
    assert from_formula("y ~ x.clip(0, 1)", TABLE)[-1].fixed_names_ == ["x.clip(0, 1)"]


def test_a_group_called_like_a_made_column():
    table = TABLE.rename(columns={"a": "f[T.r]"})
    with pytest.raises(ValueError, match="is called like a column that the formula makes: rename"):
        from_formula("y ~ f + (1 | `f[T.r]`)", table)


def test_an_estimator_without_random_effects():
    with pytest.raises(ValueError, match="LinearRegression has no random_effects: a formula needs"):
        from_formula("y ~ x", estimator=LinearRegression())


def test_formulaic_is_asked_for_once_it_is_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "formulaic", None)
    with pytest.raises(ImportError) as raised:
        from_formula("y ~ x + (1 | g)")
    assert str(raised.value) == (
        'formulas are read with the help of formulaic: pip install "sklme[formula]"'
    )
    with pytest.raises(ImportError, match="pip install"):
        FormulaColumns("y ~ x").fit(X)
