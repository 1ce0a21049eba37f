"""Displays of reliability: what is drawn are the numbers of the tables."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklme.reliability import (
    BlandAltmanDisplay,
    ReliabilityDisplay,
    ReliabilitySelector,
    agreement_limits,
    intraclass_correlation,
)

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def measurements():
    """Three replicates by two methods, and a third method for the first four subjects."""
    rng = np.random.default_rng(0)
    index = [range(10), ["A", "B", "C"], range(3)]
    data = pd.MultiIndex.from_product(index, names=["subject", "method", "replicate"])
    data = data.to_frame(index=False)
    data["y"] = 3 * rng.normal(size=10)[data["subject"]] + rng.normal(size=90)
    return data[(data["method"] != "C") | (data["subject"] < 4)]


def draw(data, **options):
    y = data["y"].rename("volume")
    return BlandAltmanDisplay.from_data(y, data["method"], data["subject"], **options)


def make_table(families, seed=0):
    """A table of intraclass correlations with the given numbers of features."""
    rng = np.random.default_rng(seed)
    names = [f"{family}_{i}" for family, n in families.items() for i in range(n)]
    icc = rng.uniform(0.3, 1.0, len(names))
    values = {"icc": icc, "lower": icc - 0.8 * (1 - icc), "upper": icc + 0.5 * (1 - icc)}
    return pd.DataFrame(values, pd.Index(names, name="feature"))


def texts(ax):
    return [t.get_text() for t in ax.texts]


def test_limits_are_those_of_the_table(measurements):
    two = measurements[measurements["method"] != "C"]
    display = draw(two)
    row = agreement_limits(two["y"], two["method"], two["subject"]).iloc[0]
    (lines,) = display.lines_
    for name, line in lines.items():
        assert_allclose(line.get_ydata(), row[name])
    bands = sorted((p.get_y(), p.get_y() + p.get_height()) for p in display.ax_.patches)
    ends = [f"{name}_{end}" for name in lines for end in ("lower", "upper")]
    assert_allclose(bands, np.sort(np.reshape(row[ends].to_numpy(float), (3, 2)), axis=0))
    said = next(t for t in texts(display.ax_) if t.startswith("bias"))
    assert f"{row['bias']:.2f}".replace("-", "−") in said


def test_exchangeable_replicates_are_means_of_subjects(measurements):
    two = measurements[measurements["method"] != "C"]
    display = draw(two)
    wide = two.groupby(["subject", "method"])["y"].mean().unstack()
    expected = np.column_stack([wide.mean(axis=1), wide["A"] - wide["B"]])
    assert_allclose(display.points_[0].get_offsets(), expected)
    assert display.ax_.get_ylabel() == "A − B, subjects' means"
    assert display.ax_.get_xlabel() == "mean of volume by A and B"


def test_linked_replicates_are_joined(measurements):
    two = measurements[measurements["method"] != "C"]
    display = draw(two, replicate=two["replicate"])
    wide = two.pivot(index=["subject", "replicate"], columns="method", values="y")
    expected = np.column_stack([wide.mean(axis=1), wide["A"] - wide["B"]])
    assert_allclose(display.points_[0].get_offsets(), expected)
    spokes = [line for line in display.ax_.lines if len(line.get_xdata()) == 2][-30:]
    middle = (wide["A"] - wide["B"]).groupby("subject").mean()
    assert_allclose([line.get_ydata()[1] for line in spokes], middle.repeat(3))


def test_one_panel_a_pair(measurements):
    display = draw(measurements)
    assert len(display.ax_) == 3
    assert [len(p.get_offsets()) for p in display.points_] == [10, 4, 4]
    figure, axes = plt.subplots(1, 3)
    assert draw(measurements, ax=axes).figure_ is figure
    with pytest.raises(ValueError, match="the picture has 3 panels, but ax holds 1"):
        draw(measurements, ax=axes[0])


def test_a_pair_that_is_not_estimable_says_why(measurements):
    data = measurements[(measurements["method"] != "C") | (measurements["subject"] == 0)]
    display = draw(data)
    assert any("at least 2 are needed" in text for text in texts(display.ax_[1]))


def test_few_features_are_named_and_sorted_within_families():
    table = make_table({"shape": 5, "glcm": 6})
    display = ReliabilityDisplay(table, family="_").plot()
    labels = [t.get_text() for t in display.ax_.get_yticklabels()]
    assert sorted(labels) == sorted(table.index)
    for family, points in display.points_.items():
        own = table[table.index.str.startswith(family)].sort_values("icc")
        assert_allclose(points.get_offsets()[:, 0], own["icc"])
        places = points.get_offsets()[:, 1]
        assert (np.diff(places) < 0).all()  # the axis points downwards: the best is on top
        by_place = dict(zip(display.ax_.get_yticks(), labels, strict=True))
        assert [by_place[p] for p in places] == own.index.tolist()
    assert display.ax_.yaxis_inverted()


def test_intervals_are_drawn():
    table = make_table({"shape": 5})
    display = ReliabilityDisplay(table).plot()
    (lines,) = (c for c in display.ax_.collections if hasattr(c, "get_segments"))
    ends = np.stack(lines.get_segments())[:, :, 0]
    assert_allclose(ends, table.sort_values("icc")[["lower", "upper"]])


def test_shares_above_the_threshold():
    table = make_table({"shape": 50, "glcm": 60})
    table.iloc[0] = np.nan
    display = ReliabilityDisplay(table, family="_", threshold=0.8).plot()
    shape = table.iloc[:50]
    assert display.shares_.loc["shape", "features"] == 50
    assert_allclose(display.shares_.loc["shape", "estimate"], (shape["icc"] >= 0.8).mean())
    assert_allclose(display.shares_.loc["shape", "lower"], (shape["lower"] >= 0.8).mean())
    share = f"{(shape['icc'] >= 0.8).mean():.0%} estimate"
    assert any(share in text and "50 features, above 0.8" in text for text in texts(display.ax_))
    assert len(display.points_["shape"].get_offsets()) == 49
    assert {"poor", "moderate", "good", "excellent"} <= set(texts(display.ax_))


@pytest.mark.parametrize(
    "family, expected",
    [
        (None, {"all"}),
        ("_", {"a_b", "c", "other"}),
        ({"a_b_1": "first"}, {"first", "other"}),
        (lambda name: name[0], {"a", "c", "d"}),
    ],
)
def test_families(family, expected):
    table = make_table({"x": 3}).set_axis(["a_b_1", "c_1", "d"])
    display = ReliabilityDisplay(table, family=family).plot()
    assert set(display.shares_.index) == expected
    with pytest.raises(ValueError, match="family is 3"):
        ReliabilityDisplay(table, family=3).plot()


def test_nothing_to_draw():
    table = make_table({"x": 3}) * np.nan
    with pytest.raises(ValueError, match="no feature of the table is estimable"):
        ReliabilityDisplay(table).plot()


def test_from_data_and_from_estimator():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(20, 2))[np.repeat(range(20), 2)], columns=["a", "b"])
    X = X + [0.1, 0.5] * rng.normal(size=(40, 2))
    X = X.assign(patient=np.repeat(range(20), 2), session=np.tile([0, 1], 20))
    table = intraclass_correlation(X, "patient", "session", form="ICC(C,1)")
    display = ReliabilityDisplay.from_data(X, "patient", "session", form="ICC(C,1)")
    assert_allclose(display.table["icc"], table["icc"])
    assert display.ax_.get_xlabel() == "ICC(C,1)"
    selector = ReliabilitySelector("patient", "session", threshold=0.6).fit(X)
    display = ReliabilityDisplay.from_estimator(selector)
    assert display.threshold == 0.6
    assert_array_equal(display.table["icc"], selector.reliability_["icc"])
    with pytest.raises(ValueError, match="subject=None"):
        ReliabilityDisplay.from_estimator(ReliabilitySelector().fit(X[["a", "b"]]))
