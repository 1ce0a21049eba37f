"""Marginal means and their differences."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from reference_dof import MEANS, PAIRS
from reference_linear import CASES, training_data
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, PolynomialFeatures
from test_inference_contrasts import KINDS, two_way

from sklme import LinearMixedModel
from sklme.datasets import load_cake, load_machines, load_sleepstudy
from sklme.inference.coefficients import coefficient_table
from sklme.inference.contrasts import contrast
from sklme.inference.means import marginal_means


def cake_pipeline():
    """Recipe x temperature by dummies in a pipeline, products made by PolynomialFeatures."""
    encode = make_column_transformer(
        (OneHotEncoder(drop="first", sparse_output=False), ["recipe", "temperature"]),
        (
            FunctionTransformer(
                lambda t: t[["recipe"]].agg("-".join, axis=1).to_frame("r"),
                feature_names_out=lambda *_: ["r"],
            ),
            ["recipe"],
        ),
        ("passthrough", ["replicate"]),
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    products = make_column_transformer(
        (
            PolynomialFeatures(2, interaction_only=True, include_bias=False),
            lambda t: [c for c in t if c not in ("r", "replicate")],
        ),
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    return make_pipeline(encode, products, LinearMixedModel(("r", "replicate")))


def cake():
    frame = load_cake().frame.astype({"temperature": str})
    return frame[["recipe", "temperature", "replicate"]], frame["angle"]


def machines():
    frame = load_machines().frame
    return frame[["Machine", "Worker"]], frame["score"]


def machines_pipeline():
    encode = make_column_transformer(
        (OneHotEncoder(drop="first", sparse_output=False), ["Machine"]),
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    terms = {"Worker": ["1", "Machine_B", "Machine_C"]}
    return make_pipeline(encode, LinearMixedModel(terms))


def reference_models():
    X, y = cake()
    yield "cake_reml", cake_pipeline().fit(X, y), X
    X, y = machines()
    yield "machines_reml", machines_pipeline().fit(X, y), X


@pytest.fixture(scope="module")
def models():
    return {name: (model, X) for name, model, X in reference_models()}


MEAN_CASES = [key for key in MEANS if key[0] in ("cake_reml", "machines_reml")]


@KINDS
@pytest.mark.parametrize("name, columns", MEAN_CASES)
def test_means_are_those_of_emmeans(name, columns, dof, models):
    model, X = models[name]
    table = marginal_means(model, X, of=columns[0], by=columns[1:], dof=dof)
    found = table[["estimate", "std_error", "dof", "lower", "upper"]]
    assert_allclose(found, MEANS[name, columns][dof], rtol=1e-6)


@KINDS
@pytest.mark.parametrize("name, columns", MEAN_CASES)
def test_pairs_are_those_of_emmeans(name, columns, dof, models):
    model, X = models[name]
    method, rows = PAIRS[name, columns][dof]
    table = marginal_means(
        model, X, of=columns[0], by=columns[1:], dof=dof, pairs=True, adjust=method
    )
    expected = np.array(rows)
    found = table[["estimate", "std_error", "dof", "p_value"]]
    assert_allclose(found, expected[:, :4], rtol=1e-6, atol=1e-9)
    assert_allclose(table["p_adjusted"], expected[:, 4], rtol=1e-3)  # R's ptukey is rounded
    assert table["contrast"].iloc[0] == ("175 - 185" if columns[0] == "temperature" else "A - B")


def test_levels_of_by_stand_beside_the_means(models):
    model, X = models["cake_reml"]
    table = marginal_means(model, X, of="recipe", by="temperature")
    assert list(table.columns[:2]) == ["temperature", "recipe"]
    assert list(table["recipe"].iloc[:4]) == ["A", "B", "C", "A"]
    pairs = marginal_means(model, X, of="recipe", by="temperature", pairs=True)
    assert list(pairs["temperature"].iloc[:4]) == ["175", "175", "175", "185"]
    assert table.attrs["averaged_over"] == [] and table.attrs["of"] == ["recipe"]


def test_comparison_with_the_first_level(models):
    model, X = models["machines_reml"]
    table = marginal_means(model, X, of="Machine", pairs="control")
    assert list(table["contrast"]) == ["B - A", "C - A"]
    coefficients = coefficient_table(model)[1:]
    assert_allclose(table["estimate"], coefficients["estimate"])
    assert_allclose(table["p_adjusted"], np.minimum(1, 2 * coefficients["p_value"]), rtol=1e-6)


def mixed():
    """Text, a number, bool, a column that is not used, weights of the levels far from equal."""
    _, y, raw = two_way(n=200)
    raw = raw.assign(old=raw["x"] > 2.5, note=[f"n{i}" for i in range(200)])
    encode = make_column_transformer(
        (OneHotEncoder(drop="first", sparse_output=False), ["a", "b", "old"]),
        ("passthrough", ["x", "g"]),
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    return make_pipeline(encode, LinearMixedModel("g")).fit(raw, y), raw, y


def test_means_are_predictions_on_the_grid():
    model, X, _ = mixed()
    table = marginal_means(model, X, of="a")
    assert table.attrs["averaged_over"] == ["b", "old"]  # not the ids, nor what is not used
    assert_allclose(table.attrs["held"]["x"], X["x"].mean())
    coef = coefficient_table(model)["estimate"]
    rest = 0.5 * coef["b_V"] + 0.5 * coef["old_True"] + coef["x"] * X["x"].mean()
    expected = coef["(Intercept)"] + rest + np.array([0.0, coef["a_B"], coef["a_C"]])
    assert_allclose(table["estimate"], expected)


def test_values_of_at():
    model, X, _ = mixed()
    coef = coefficient_table(model)["estimate"]
    base = marginal_means(model, X, of="a", at={"x": 0.0, "b": "U", "old": False})
    assert_allclose(base["estimate"].iloc[0], coef["(Intercept)"])
    line = marginal_means(model, X, of="x", by="a", at={"x": [0.0, 1.0]})
    assert list(line["x"].iloc[:2]) == [0.0, 1.0]
    assert_allclose(line["estimate"].diff().iloc[1::2], coef["x"])
    spread = marginal_means(model, X, of="a", at={"b": ["U", "U", "U", "V"]})
    shift = spread["estimate"] - marginal_means(model, X, of="a")["estimate"]
    assert_allclose(shift, -0.25 * coef["b_V"])


def test_several_columns_are_compared_together():
    model, X, _ = mixed()
    table = marginal_means(model, X, of=["a", "b"])
    assert len(table) == 6
    pairs = marginal_means(model, X, of=["a", "b"], pairs=True, adjust="none")
    assert len(pairs) == 15 and pairs["contrast"].iloc[0] == "A, U - A, V"
    assert_allclose(pairs["p_adjusted"], pairs["p_value"])
    assert_allclose(pairs["estimate"].iloc[0], -coefficient_table(model)["estimate"]["b_V"])


def test_adjustment_by_hand():
    model, X, _ = mixed()
    p = marginal_means(model, X, of="a", pairs=True, adjust="none")["p_value"].to_numpy()
    bonferroni = marginal_means(model, X, of="a", pairs=True, adjust="bonferroni")
    holm = marginal_means(model, X, of="a", pairs=True, adjust="holm")
    assert_allclose(bonferroni["p_adjusted"], np.minimum(3 * p, 1))
    stepped = np.maximum.accumulate(np.sort(p) * [3, 2, 1])
    assert_allclose(np.sort(holm["p_adjusted"]), np.minimum(stepped, 1))
    two = marginal_means(model, X, of="b", pairs=True)
    assert_allclose(two["p_adjusted"], two["p_value"])


def test_tables_of_any_kind():
    model, X, y = mixed()
    polars = pytest.importorskip("polars")
    categories = X.assign(a=pd.Categorical(X["a"], categories=["C", "A", "B", "Z"]))
    expected = marginal_means(model, X, of="a")
    found = marginal_means(model, categories, of="a")
    assert list(found["a"]) == ["C", "A", "B"]
    assert_allclose(found["estimate"], expected["estimate"].iloc[[2, 0, 1]])
    X, y = load_sleepstudy(return_X_y=True, as_frame=True)
    table = polars.from_pandas(X)
    model = LinearMixedModel("Subject").fit(table, y)
    expected = contrast(model, [[1, 0], [1, 9]])
    found = marginal_means(model, table, of="Days", at={"Days": [0, 9]})
    assert_allclose(found[expected.columns], expected)
    array = X[["Days", "Subject"]].to_numpy(float)
    model = LinearMixedModel(1).fit(array, y)
    found = marginal_means(model, array, of=0, at={0: [0, 9]})
    assert_allclose(found[expected.columns], expected)


def test_an_offset_is_added():
    X, y, _ = training_data(CASES["offset_reml"])
    model = LinearMixedModel(**CASES["offset_reml"]["model"]).fit(X, y)
    found = marginal_means(model, X, of="Days", at={"Days": [0, 3], "off": 2.0})
    grid = X.iloc[[0, 0]].assign(Days=[0, 3], off=2.0)
    assert_allclose(found["estimate"], model.predict_population(grid))
    pair = marginal_means(model, X, of="Days", at={"Days": [0, 3], "off": 2.0}, pairs=True)
    assert_allclose(pair["estimate"], -3 * model.coef_[0])


def test_an_empty_combination_has_no_mean():
    X, y = cake()
    some = ~((X["recipe"] == "C") & (X["temperature"] == "225"))
    model = cake_pipeline().fit(X[some], y[some])
    with pytest.raises(ValueError, match=r"recipe_C temperature_225.*dropped"):
        marginal_means(model, X, of="recipe")
    table = marginal_means(model, X, of="recipe", at={"temperature": ["175", "185"]})
    assert table["estimate"].notna().all()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"of": "c"}, "X has no column 'c'; it has 'a', 'b'"),
        ({"of": "a", "by": "a"}, "names one column or more"),
        ({"of": []}, "names one column or more"),
        ({"of": "x"}, "'x' has 200 values"),
        ({"of": "a", "pairs": "every"}, "pairs is 'every'"),
        ({"of": "a", "adjust": "fdr"}, "adjust is 'fdr'"),
        ({"of": "a", "by": ["note", "g"], "at": {"x": list(range(99))}}, "too many combinations"),
    ],
)
def test_bad_arguments_of_means(arguments, message):
    model, X, _ = mixed()
    with pytest.raises(ValueError, match=message):
        marginal_means(model, X, **arguments)


def test_means_need_the_table():
    model, _, _ = mixed()
    with pytest.raises(ValueError, match="pass X"):
        marginal_means(model, of="a")


def test_a_product_made_by_hand_is_not_held_at_its_mean():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"age": rng.normal(size=60), "boy": np.tile([0.0, 1.0], 30)})
    X["both"], X["child"] = X["age"] * X["boy"], np.repeat(np.arange(12), 5)
    model = LinearMixedModel("child").fit(X, X["both"] + rng.normal(size=60))
    with pytest.raises(ValueError, match="'both' is the product of 'boy' and 'age'"):
        marginal_means(model, X, of="boy")
    table = marginal_means(model, X, of="boy", at={"age": 1.0, "both": 0.5})
    assert len(table) == 2
