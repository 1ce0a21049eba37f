"""Pictures of generalised models: what is drawn are the numbers of the tables."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.stats import norm
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklme import (
    GeneralizedLinearMixedModel,
    LinearMixedModel,
    LogisticMixedModel,
    OrdinalMixedModel,
)
from sklme.datasets import load_cbpp, load_salamanders, load_wine_bitterness
from sklme.inference import (
    icc,
    marginal_means,
    quantile_residuals,
    r_squared,
    random_effects_table,
    variance_table,
)
from sklme.inspection import (
    MarginalMeansDisplay,
    PartialPoolingDisplay,
    QuantileResidualsDisplay,
    RandomEffectsDisplay,
    ResidualsDisplay,
    VariancePartitionDisplay,
)
from sklme.inspection._quantile_residuals import simultaneous_band

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.colors import to_rgba  # noqa: E402

RED = to_rgba("#d55e00")[:3]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def cbpp():
    X, y = load_cbpp(return_X_y=True, as_frame=True)
    return GeneralizedLinearMixedModel("herd", family="binomial", trials="size").fit(X, y), X, y


@pytest.fixture(scope="module")
def salamanders():
    data = load_salamanders().frame
    X, y = data[["site", "DOP"]], data["count"]
    return GeneralizedLinearMixedModel("site").fit(X, y), X, y


@pytest.fixture(scope="module")
def wine():
    X, y = load_wine_bitterness(return_X_y=True, as_frame=True)
    X = X.assign(warm=1.0 * (X["temp"] == "warm"))[["warm", "judge"]]
    return OrdinalMixedModel("judge").fit(X, y.astype(int)), X, y.astype(int)


def is_red(points):
    return (points.get_facecolors()[:, :3] == RED).all(axis=1)


def test_residuals_are_those_of_the_table(salamanders):
    model, X, y = salamanders
    display = QuantileResidualsDisplay.from_estimator(model, X, y, random_state=0)
    table = quantile_residuals(model, X, y, random_state=0)
    quantiles, cloud = display.ax_
    drawn = quantiles.collections[-1].get_offsets()
    n = len(table)
    assert_allclose(drawn[:, 1], np.sort(table["residual"]))
    assert_allclose(drawn[[0, n // 2], 0], norm.ppf([0.5 / n, (n // 2 + 0.5) / n]))
    assert_allclose(cloud.collections[0].get_offsets(), table[["fitted", "residual"]])
    assert cloud.get_xlabel() == "fitted count" and cloud.get_xscale() == "log"


def test_what_lies_off_the_band_is_red(salamanders):
    model, X, y = salamanders
    display = QuantileResidualsDisplay.from_estimator(model, X, y, random_state=0)
    ordered = np.sort(display.table["residual"])
    lower, upper = simultaneous_band(len(ordered))
    off = (ordered < lower) | (ordered > upper)
    assert 0.1 < off.mean() < 0.9
    assert (is_red(display.ax_[0].collections[-1]) == off).all()
    dots = [c for c in display.ax_[1].collections[1:] if len(c.get_offsets()) > 1]
    assert any(is_red(c).any() for c in dots)


def test_the_band_holds_95_of_100_samples():
    rng = np.random.default_rng(0)
    for n in (40, 700):  # one between two nodes each
        lower, upper = simultaneous_band(n)
        draws = np.sort(rng.standard_normal((4000, n)), axis=1)
        inside = ((draws > lower) & (draws < upper)).all(axis=1).mean()
        assert abs(inside - 0.95) < 0.012  # 3.5 standard errors


def test_quartiles_of_groups_of_rows(cbpp):
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"residual": rng.normal(size=2000), "fitted": np.arange(2000.0)})
    ax = QuantileResidualsDisplay(table).plot(kind="fitted").ax_
    dots = [c for c in ax.collections[1:] if len(c.get_offsets()) == 10]
    assert not any(is_red(c).any() for c in dots)
    first = table["residual"].iloc[:200]
    found = [c.get_offsets()[0, 1] for c in dots if len(c.get_offsets())]
    assert_allclose(found, first.quantile([0.25, 0.5, 0.75]))
    shifted = table.assign(residual=table["residual"] + (table["fitted"] < 200))
    ax = QuantileResidualsDisplay(shifted).plot(kind="fitted").ax_
    dots = [c for c in ax.collections[1:] if len(c.get_offsets()) == 10]
    assert [is_red(c).tolist() for c in dots] == [[True] + 9 * [False]] * 3


def test_rows_of_equal_fitted_values_are_one_group():
    rng = np.random.default_rng(2)
    table = pd.DataFrame({"residual": rng.normal(size=600), "fitted": np.repeat([1.0, 2.0], 300)})
    ax = QuantileResidualsDisplay(table).plot(kind="fitted").ax_
    middle = next(c for c in ax.collections[1:] if len(c.get_offsets()) == 2)
    assert_allclose(middle.get_offsets()[:, 0], [1, 2])


def test_one_panel_into_given_axes(cbpp):
    model, X, y = cbpp
    _, ax = plt.subplots()
    pipe = make_pipeline(FunctionTransformer(), model)
    display = QuantileResidualsDisplay.from_estimator(
        pipe, X, y, residuals="simulated", random_state=1, kind="quantiles", ax=ax
    )
    assert display.ax_ is ax
    table = quantile_residuals(model, X, y, kind="simulated", random_state=1)
    assert_allclose(display.table["residual"], table["residual"])
    with pytest.raises(ValueError, match="2 panels"):
        display.plot(ax)
    with pytest.raises(ValueError, match="kind"):
        display.plot(kind="group")


def test_residuals_of_each_kind_of_model_have_their_display(cbpp):
    model, X, y = cbpp
    with pytest.raises(TypeError, match="QuantileResidualsDisplay draws"):
        ResidualsDisplay.from_estimator(model, X, y)
    linear = LinearMixedModel("herd", fixed_effects=["period"]).fit(X, y)
    with pytest.raises(TypeError, match="ResidualsDisplay draws"):
        QuantileResidualsDisplay.from_estimator(linear, X, y)


def test_effects(cbpp):
    model, _, y = cbpp
    display = RandomEffectsDisplay.from_estimator(model, y=y)
    table = random_effects_table(model).sort_values("effect")
    assert_allclose(display.lines_[0][0].get_offsets()[:, 0], table["effect"])


def test_variance_shares(cbpp, salamanders):
    model, X, y = cbpp
    shares = VariancePartitionDisplay.from_estimator(model).shares
    latent = icc(model, X).loc[("latent", "herd"), "adjusted"]
    assert_allclose(shares.iloc[0], [latent, 1 - latent])
    assert list(shares) == ["herd", "Distribution"]
    fixed = VariancePartitionDisplay.from_estimator(model, X, y, fixed=True).shares.iloc[0]
    assert_allclose(fixed["fixed part"], r_squared(model, X).loc["latent", "marginal"])
    assert_allclose(fixed.sum(), 1)
    counts, X, y = salamanders
    with pytest.raises(ValueError, match="need rows: pass X and y"):
        VariancePartitionDisplay.from_estimator(counts)
    drawn = VariancePartitionDisplay.from_estimator(counts, X, y)
    assert_allclose(drawn.shares.iloc[0], variance_table(counts, X, y)["share"])
    linear = LinearMixedModel("site", fixed_effects=["DOP"]).fit(X, y)
    both = VariancePartitionDisplay.from_estimator({"a": linear, "b": counts}, X, y).shares
    assert list(both) == ["site", "Residual", "Distribution"]
    assert_allclose(both.sum(axis=1), 1)


@pytest.mark.parametrize(
    "options, label",
    [
        ({}, "share of incidence"),
        ({"effects": "marginal"}, "share of incidence"),
        ({"scale": "link"}, "linear predictor"),
        ({"response": "prevalence"}, "prevalence"),
    ],
)
def test_means(cbpp, options, label):
    model, X, y = cbpp
    display = MarginalMeansDisplay.from_estimator(model, X, y, of="period", **options)
    options = {k: v for k, v in options.items() if k != "response"}
    table = marginal_means(model, X, y, of="period", **options)
    pd.testing.assert_frame_equal(display.table, table)
    assert_allclose(display.lines_[0][0].get_ydata(), table["estimate"])
    assert display.ax_.get_ylabel() == label


def test_means_of_ordered_classes_have_a_line_each(wine):
    model, X, y = wine
    display = MarginalMeansDisplay.from_estimator(model, X, y, of="warm")
    assert len(display.lines_) == 5 and display.ax_.get_ylabel() == "probability"
    assert display.ax_.get_legend().get_title().get_text() == "class"


def test_pooling_of_shares(cbpp):
    model, X, y = cbpp
    display = PartialPoolingDisplay.from_estimator(model, X, y)
    sums = pd.DataFrame({"y": y, "size": X["size"], "expected": model.predict(X)})
    sums = sums.groupby(X["herd"]).sum().loc[display.lines.index]
    means = display.lines.xs("intercept", axis=1, level=1)
    assert_allclose(means["no pooling"], sums["y"] / sums["size"])
    assert_allclose(means["partial pooling"], sums["expected"] / sums["size"])
    assert_allclose(means["complete pooling"], y.sum() / X["size"].sum())
    assert display.ax_.get_ylabel() == "share of incidence"
    pulled = (means["partial pooling"] - means["complete pooling"]).abs()
    assert pulled.mean() < (means["no pooling"] - means["complete pooling"]).abs().mean()
    with pytest.raises(ValueError, match="slope is 'period', but lines of groups"):
        PartialPoolingDisplay.from_estimator(model, X, y, slope="period")


def test_pooling_of_classes(wine):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"g": rng.integers(0, 12, 300), "x": rng.normal(size=300)})
    y = pd.Series(np.where(rng.normal(size=12)[X["g"]] > rng.normal(size=300), "yes", "no"))
    model = LogisticMixedModel("g").fit(X, y)
    display = PartialPoolingDisplay.from_estimator(model, X, y.rename("answer"))
    assert display.ax_.get_ylabel() == "share of answer = yes"
    own = (y == "yes").groupby(X["g"]).mean()
    assert_allclose(display.lines[("no pooling", "intercept")], own[display.lines.index])
    model, X, y = wine
    display = PartialPoolingDisplay.from_estimator(model, X, y)
    assert display.ax_.get_ylabel() == "mean class number of rating"
    own = (y - 1).groupby(X["judge"]).mean()
    assert_allclose(display.lines[("no pooling", "intercept")], own[display.lines.index])
