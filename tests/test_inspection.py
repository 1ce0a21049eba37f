"""Displays: what is drawn are the numbers of the tables; nothing of a picture is checked by eye."""

import sys

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.stats import norm
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklme import LinearMixedModel
from sklme.datasets import load_dyestuff, load_penicillin, load_sleepstudy
from sklme.formula import from_formula
from sklme.inference import (
    confidence_intervals,
    icc,
    marginal_means,
    r_squared,
    random_effects_table,
    variance_table,
)
from sklme.inspection import (
    MarginalMeansDisplay,
    PartialPoolingDisplay,
    ProfileDisplay,
    RandomEffectsDisplay,
    ResidualsDisplay,
    VariancePartitionDisplay,
)

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def sleep():
    X, y = load_sleepstudy(return_X_y=True, as_frame=True)
    return LinearMixedModel({"Subject": ["1", "Days"]}).fit(X, y), X, y


@pytest.fixture(scope="module")
def many():
    """More groups than can be named, of different sizes, with a column besides."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(40), rng.integers(1, 15, 40))
    X = pd.DataFrame({"g": g, "h": rng.integers(0, 4, len(g)), "x": rng.normal(size=len(g))})
    y = rng.normal(size=40)[g] + X["x"] + rng.normal(size=4)[X["h"]] + rng.normal(size=len(g))
    return LinearMixedModel(["g", "h"]).fit(X, y), X, y.rename("thickness")


def segments(lines):
    """Both ends of the lines of a collection, (n, 2, 2)."""
    return np.stack(lines.get_segments())


def test_effects_are_drawn_in_order(sleep):
    model, X, y = sleep
    display = RandomEffectsDisplay.from_estimator(model, X, y)
    table = random_effects_table(model)
    first = table.xs("(Intercept)", level="term").sort_values("effect")
    for term, (points, lines) in zip(["(Intercept)", "Days"], display.lines_, strict=True):
        part = table.xs(term, level="term").loc[first.index]
        assert_allclose(points.get_offsets(), np.column_stack([part["effect"], range(18)]))
        assert_allclose(segments(lines)[:, :, 0], part[["lower", "upper"]])
    assert [t.get_text() for t in display.ax_[0].get_yticklabels()] == [str(i) for i in first.index]
    assert display.ax_[0].get_xlabel() == "effect on Reaction"
    assert display.ax_[1].get_xlabel() == "effect on Reaction,\nper unit of Days"


def test_effects_sorted_by_another_coefficient(sleep):
    model = sleep[0]
    display = RandomEffectsDisplay.from_estimator(model, sort_by="Days", confidence_level=0.5)
    drawn = display.lines_[1][0].get_offsets()[:, 0]
    assert (np.diff(drawn) >= 0).all()
    table = random_effects_table(model, confidence_level=0.5).xs("Days", level="term")
    width = np.diff(segments(display.lines_[1][1])[:, :, 0]).ravel()
    assert_allclose(np.sort(width), np.sort(table["upper"] - table["lower"]))
    with pytest.raises(ValueError, match="sort_by is 'Weeks'"):
        display.plot(sort_by="Weeks")


def test_intervals_off_zero_have_another_colour(sleep):
    display = RandomEffectsDisplay.from_estimator(sleep[0])
    points, lines = display.lines_[0]
    ends = segments(lines)[:, :, 0]
    clear = (ends > 0).all(axis=1) | (ends < 0).all(axis=1)
    colors = points.get_facecolors()
    assert 0 < clear.sum() < len(clear)
    assert len(np.unique(colors[clear], axis=0)) == len(np.unique(colors[~clear], axis=0)) == 1
    assert not np.array_equal(colors[clear][0], colors[~clear][0])


def test_many_effects_are_counted_instead_of_named(many):
    display = RandomEffectsDisplay.from_estimator(many[0], factor="g")
    assert display.ax_.get_yticks().size == 0
    assert display.ax_.get_ylabel() == "40 levels of g, sorted"
    assert (np.diff(display.lines_[0][0].get_offsets()[:, 0]) >= 0).all()


def test_residuals_are_scaled(sleep):
    model, X, y = sleep
    display = ResidualsDisplay.from_estimator(model, X, y)
    expected = (y - model.predict(X)) / np.sqrt(model.residual_variance_)
    cloud, quantiles, _ = display.ax_
    assert_allclose(
        cloud.collections[0].get_offsets(), np.column_stack([model.predict(X), expected])
    )
    drawn = quantiles.collections[-1].get_offsets()
    assert_allclose(drawn[:, 1], np.sort(expected))
    assert_allclose(drawn[[0, 90], 0], norm.ppf([0.5 / 180, 90.5 / 180]))
    assert cloud.get_xlabel() == "fitted Reaction"


def test_the_trend_of_residuals_is_that_of_tenths(sleep):
    model, X, y = sleep
    display = ResidualsDisplay.from_estimator(model, X, y, kind="fitted")
    x, trend = display.ax_.lines[-1].get_data()
    order = np.argsort(display.fitted)[:18]
    assert len(x) == 10
    assert_allclose(
        [x[0], trend[0]], [display.fitted[order].mean(), display.residuals[order].mean()]
    )


def test_residuals_by_group_are_sorted_by_their_median(sleep, many):
    model, X, y = sleep
    display = ResidualsDisplay.from_estimator(model, X, y, kind="group")
    medians = pd.Series(display.residuals).groupby(X["Subject"].to_numpy()).median().sort_values()
    assert [t.get_text() for t in display.ax_.get_xticklabels()] == [str(i) for i in medians.index]
    assert display.ax_.get_xlabel() == "Subject"
    model, X, y = many
    display = ResidualsDisplay.from_estimator(model, X, y, kind="group")
    medians = pd.Series(display.residuals).groupby(X["g"].to_numpy()).median().sort_values()
    assert_allclose(display.ax_.collections[-1].get_offsets()[:, 1], medians)
    assert display.ax_.get_xlabel() == "40 levels of g, sorted: median and quartiles"


def test_residuals_of_new_levels_and_without_groups(sleep):
    model, X, y = sleep
    display = ResidualsDisplay.from_estimator(model, X.assign(Subject=1), y)
    assert set(display.groups) == {"not seen"}
    plain = LinearMixedModel().fit(X[["Days"]], y)
    display = ResidualsDisplay.from_estimator(plain, X[["Days"]], y)
    assert len(display.ax_) == 2
    with pytest.raises(ValueError, match="no groups"):
        display.plot(kind="group")
    with pytest.raises(ValueError, match="kind is 'qq'"):
        display.plot(kind="qq")


def test_residuals_of_precision_weights_are_weighted(sleep):
    _, X, y = sleep
    weights = np.arange(len(y)) % 3 + 1.0
    model = LinearMixedModel("Subject", weight_type="precision").fit(X, y, sample_weight=weights)
    display = ResidualsDisplay.from_estimator(model, X, y, sample_weight=weights, kind="fitted")
    expected = (y - model.predict(X)) * np.sqrt(weights / model.residual_variance_)
    assert_allclose(display.residuals, expected)


def test_partial_pooling_lies_on_the_lines_of_the_model(sleep):
    model, X, y = sleep
    display = PartialPoolingDisplay.from_estimator(model, X, y)
    lines, b = display.lines, model.random_effects_["Subject"]
    assert_allclose(lines["partial pooling", "intercept"], model.intercept_ + b[:, 0])
    assert_allclose(lines["partial pooling", "slope"], model.coef_[0] + b[:, 1])
    for level in (308, 335):
        own = X["Subject"] == level
        slope, intercept = np.polyfit(X["Days"][own], y[own], 1)
        assert_allclose(lines.loc[[level], "no pooling"].to_numpy()[0], [intercept, slope])
    slope, intercept = np.polyfit(X["Days"], y, 1)
    assert_allclose(lines["complete pooling"].to_numpy(), np.tile([intercept, slope], (18, 1)))


def test_panels_show_rows_and_three_lines(sleep):
    model, X, y = sleep
    display = PartialPoolingDisplay.from_estimator(model, X, y)
    assert len(display.ax_) == len(display.levels_) == 12
    slopes = display.lines["partial pooling", "slope"]
    assert display.levels_[0] == slopes.idxmin() and display.levels_[-1] == slopes.idxmax()
    for ax, level in zip(display.ax_, display.levels_, strict=True):
        own = X["Subject"] == level
        points = ax.collections[0].get_offsets()
        assert_allclose(points, np.column_stack([X["Days"][own], y[own]]))
        drawn = [line.get_ydata() for line in ax.lines]
        for (a, b), ends in zip(
            display.lines.loc[level].to_numpy().reshape(3, 2), drawn, strict=True
        ):
            assert_allclose(ends, [a, a + 9 * b])
    display.plot(levels=[309, 310])
    assert [ax.get_title() for ax in display.ax_] == ["309", "310"]
    with pytest.raises(ValueError, match="no rows of Subject 1"):
        display.plot(levels=[1])


def test_rows_are_adjusted_for_the_rest_of_the_model(many):
    model, X, y = many
    display = PartialPoolingDisplay.from_estimator(model, X, y, factor="g", slope="x")
    other = model.random_effects_["h"][X["h"], 0]
    assert_allclose(display.rows["y"], y - other + other.mean())
    assert_allclose(display.lines["partial pooling", "slope"], model.coef_[0])
    through = model.intercept_ + other.mean() + model.random_effects_["g"][:, 0]
    assert_allclose(display.lines["partial pooling", "intercept"], through)
    lone = display.lines.index[np.bincount(X["g"]) == 1]
    assert display.lines.loc[lone, "no pooling"].isna().all().all()


def test_without_a_slope_means_are_drawn(many):
    model, X, y = many
    display = PartialPoolingDisplay.from_estimator(model, X, y, factor="g")
    other = model.coef_[0] * X["x"] + model.random_effects_["h"][X["h"], 0]
    adjusted = y - other + other.mean()
    own = adjusted.groupby(X["g"]).mean()
    hollow, filled = display.ax_.collections[1:3]
    assert_allclose(hollow.get_offsets()[:, 1], own)
    model_means = model.intercept_ + model.random_effects_["g"][:, 0] + other.mean()
    assert_allclose(filled.get_offsets()[:, 1], model_means)
    assert_allclose(display.ax_.lines[0].get_ydata(), adjusted.mean())
    assert np.abs(filled.get_offsets()[:, 0] - np.bincount(X["g"])).max() < 0.5
    assert display.ax_.get_ylabel() == "mean thickness"


def test_means_of_equal_groups():
    X, y = load_dyestuff(return_X_y=True, as_frame=True)
    display = PartialPoolingDisplay.from_estimator(LinearMixedModel("Batch").fit(X, y), X, y)
    assert display.ax_.get_xlabel() == "6 levels of Batch, 5 rows each"


def test_a_slope_that_is_not_there_is_told(sleep):
    model, X, y = sleep
    with pytest.raises(ValueError, match=r"slope is 'Weeks'; the model has the columns \['Days'\]"):
        PartialPoolingDisplay.from_estimator(model, X, y, slope="Weeks")
    with pytest.raises(ValueError, match="PartialPoolingDisplay needs the rows"):
        PartialPoolingDisplay.from_estimator(model)
    with pytest.raises(ValueError, match="ResidualsDisplay needs the rows"):
        ResidualsDisplay.from_estimator(model)


def widths(display):
    return {part: [bar.get_width() for bar in bars] for part, bars in display.bars_.items()}


def test_bars_are_the_shares():
    X, y = load_penicillin(return_X_y=True)
    model = LinearMixedModel(["plate", "sample"]).fit(X, y)
    display = VariancePartitionDisplay.from_estimator(model)
    shares = variance_table(model)["share"].groupby("group").sum()
    drawn = widths(display)
    assert {part: w[0] for part, w in drawn.items()} == pytest.approx(shares.to_dict())
    assert [t.get_text() for t in display.ax_.texts] == ["15%", "79%", ""]
    legend = [t.get_text() for t in display.ax_.get_legend().get_texts()]
    assert legend == ["plate", "sample", "Residual"]


def test_the_fixed_part_counts_where_it_is_asked_for(sleep):
    model, X, y = sleep
    bare = LinearMixedModel("Subject").fit(X, y)
    models = {"bare": bare, "slopes": model}
    display = VariancePartitionDisplay.from_estimator(models, fixed=True)
    assert list(display.shares.index) == ["bare", "slopes"]
    for name, one in models.items():
        found = r_squared(one)
        assert_allclose(display.shares.loc[name, "fixed part"], found["marginal"])
        assert_allclose(display.shares.loc[name, "Subject"], icc(one).loc["all", "unadjusted"])
    assert_allclose(display.shares.sum(axis=1), 1)
    assert [t.get_text() for t in display.ax_.get_yticklabels()] == ["bare", "slopes"]


def test_every_output_has_a_bar(many):
    _, X, y = many
    rng = np.random.default_rng(0)
    Y = y.to_numpy()[:, None] * rng.uniform(0, 2, 40) + rng.normal(size=(len(y), 40))
    model = LinearMixedModel("g").fit(X, Y)
    few = VariancePartitionDisplay.from_estimator(model, output=[3, 5])
    assert list(few.shares.index) == ["output 3", "output 5"]
    assert_allclose(widths(few)["g"], [icc(model, output=r).loc["g", "adjusted"] for r in (3, 5)])
    display = VariancePartitionDisplay.from_estimator(model)
    assert display.ax_.get_ylabel() == "40 models or outputs"
    assert len(display.shares) == 40
    reach = display.bars_["g"].get_paths()[0].vertices[:, 0].max()
    assert_allclose(reach, display.shares["g"].max())


def test_profiles_are_the_curves_with_their_intervals(sleep):
    model = sleep[0]
    names = ["Days", "sd Days|Subject"]
    display = ProfileDisplay.from_estimator(model, names, confidence_levels=[0.95])
    for ax, name in zip(display.ax_, names, strict=True):
        curve = display.curves[name]
        assert_allclose(ax.lines[2].get_xydata(), curve[["value", "zeta"]])
        expected = confidence_intervals(model, method="profile", parameters=[name]).iloc[0]
        ends = display.intervals_[name][0.95]
        tolerance = 2e-3 * (expected["upper"] - expected["lower"])
        assert_allclose(ends, [expected["lower"], expected["upper"]], atol=tolerance)
        drawn = [line.get_xdata()[0] for line in ax.lines[3::2]]
        assert_allclose(drawn, ends)
        assert ax.get_xlabel() == name


def test_a_straight_line_touches_the_profile_at_the_estimate(sleep):
    display = ProfileDisplay.from_estimator(sleep[0], "sigma")
    x, y = display.ax_.lines[1].get_data()
    middle = np.argmin(np.abs(y))
    curve = display.curves["sigma"]
    assert_allclose(np.interp(x[middle], curve["value"], curve["zeta"]), y[middle], atol=0.01)


def test_the_rise_of_the_deviance(sleep):
    display = ProfileDisplay.from_estimator(sleep[0], ["sigma"])
    display.plot(kind="deviance", confidence_levels=[0.5, 0.95])
    curve = display.curves["sigma"]
    assert_allclose(
        display.ax_.lines[0].get_ydata(), curve["deviance"] - curve["deviance"].min(), atol=1e-6
    )
    heights = [line.get_ydata()[0] for line in display.ax_.lines[1:]]
    assert_allclose(heights, [0.4549364, 3.8414588], rtol=1e-6)
    with pytest.raises(ValueError, match="kind is 'root'"):
        display.plot(kind="root")
    with pytest.raises(ValueError, match="confidence_level"):
        display.plot(confidence_levels=[95])


def test_an_end_that_the_curve_does_not_reach_is_missing(sleep):
    curve = ProfileDisplay.from_estimator(sleep[0], "sigma").curves["sigma"]
    display = ProfileDisplay({"sigma": curve[curve["zeta"] > -1]}).plot(confidence_levels=[0.95])
    low, high = display.intervals_["sigma"][0.95]
    assert np.isnan(low) and np.isfinite(high)
    display.plot(kind="deviance")


@pytest.fixture(scope="module")
def machines():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"worker": np.repeat(np.arange(8), 18)})
    table["machine"] = np.tile(np.repeat(["A", "B", "C"], 6), 8)
    table["shift"] = np.tile(["day", "night"], 72)
    table["load"] = rng.normal(50, 10, 144)
    effect = table["machine"].map({"A": 0, "B": 5, "C": 9}) + 2 * (table["shift"] == "day")
    table["score"] = effect + rng.normal(size=8)[table["worker"]] + rng.normal(size=144)
    formula = "score ~ machine * shift + load + (1 | worker)"
    return from_formula(formula, table), table


def test_means_stand_with_their_intervals(machines):
    model, table = machines
    display = MarginalMeansDisplay.from_estimator(model, table, table["score"], of="machine")
    means = marginal_means(model, table, of="machine")
    (line,) = display.lines_
    assert_allclose(line.lines[0].get_ydata(), means["estimate"])
    ends = segments(line.lines[2][0])[:, :, 1]
    assert_allclose(ends, means[["lower", "upper"]])
    assert [t.get_text() for t in display.ax_.get_xticklabels()] == ["A", "B", "C"]
    assert display.ax_.get_xlabel() == "machine" and display.ax_.get_ylabel() == "score"
    assert display.ax_.get_legend() is None


def test_a_further_column_has_a_line_for_each_level(machines):
    model, table = machines
    display = MarginalMeansDisplay.from_estimator(model, table, of="machine", by="shift")
    means = marginal_means(model, table, of="machine", by="shift").set_index(["shift", "machine"])
    names = [t.get_text() for t in display.ax_.get_legend().get_texts()]
    assert sorted(names) == ["day", "night"]
    for name, line in zip(names, display.lines_, strict=True):
        assert_allclose(line.lines[0].get_ydata(), means.loc[name, "estimate"])
        assert_allclose(line.lines[0].get_xdata(), range(3), atol=0.2)
    apart = display.lines_[1].lines[0].get_xdata() - display.lines_[0].lines[0].get_xdata()
    assert (apart > 0).all()


def test_numbers_stand_at_their_place(machines):
    model, table = machines
    at = {"load": [40, 50, 70]}
    display = MarginalMeansDisplay.from_estimator(model, table, of="load", at=at)
    assert_allclose(display.lines_[0].lines[0].get_xdata(), [40, 50, 70])
    with pytest.raises(ValueError, match="no column 'estimate'"):
        MarginalMeansDisplay(display.table.drop(columns="estimate"), "load").plot()


def test_given_axes_are_drawn_into(sleep):
    model, X, y = sleep
    figure, axes = plt.subplots(1, 2)
    display = RandomEffectsDisplay.from_estimator(model, ax=axes)
    assert list(display.ax_) == list(axes) and display.figure_ is figure
    with pytest.raises(ValueError, match="2 panels, but ax holds 1 axes"):
        RandomEffectsDisplay.from_estimator(model, ax=axes[0])
    display = ResidualsDisplay.from_estimator(model, X, y, kind="fitted", ax=axes[0])
    assert display.ax_ is axes[0]
    display = PartialPoolingDisplay.from_estimator(model, X, y, levels=[308, 309], ax=axes)
    assert display.figure_ is figure and axes[0].get_xlabel() == "Days"


def test_a_pipeline_is_opened(sleep):
    _, X, y = sleep
    hours = FunctionTransformer(_hours)
    pipeline = make_pipeline(hours, LinearMixedModel({"Subject": ["1", "Days"]})).fit(X, y)
    display = PartialPoolingDisplay.from_estimator(pipeline, X, y)
    assert display.rows["x"].max() == 216
    assert len(RandomEffectsDisplay.from_estimator(pipeline).ax_) == 2
    residuals = ResidualsDisplay.from_estimator(pipeline, X, y).residuals
    assert_allclose(residuals * np.sqrt(pipeline[-1].residual_variance_), y - pipeline.predict(X))


def _hours(X):
    return X.assign(Days=24.0 * X["Days"])


def test_one_of_several_outputs(sleep):
    model, X, y = sleep
    both = LinearMixedModel({"Subject": ["1", "Days"]}).fit(X, np.column_stack([y**2, y]))
    Y = np.column_stack([y**2, y])
    display = PartialPoolingDisplay.from_estimator(both, X, Y, output=1)
    assert_allclose(
        display.lines, PartialPoolingDisplay.from_estimator(model, X, y).lines, rtol=1e-4
    )
    residuals = ResidualsDisplay.from_estimator(both, X, Y, output=1).residuals
    alone = ResidualsDisplay.from_estimator(model, X, y).residuals
    assert_allclose(residuals, alone, rtol=1e-3, atol=1e-4)


def test_without_matplotlib_the_way_to_get_it_is_told(sleep, monkeypatch):
    table = random_effects_table(sleep[0])
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install \"sklme\[plot\]\""):
        RandomEffectsDisplay(table).plot()
