"""CrossSiteDisplay: what is drawn are the numbers of the result, and its curves are right."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LinearRegression, LogisticRegression

from sklme.evaluation._curves import (
    _Basis,
    calibration_curve,
    net_benefit,
    net_benefit_curves,
)
from sklme.evaluation._display import CrossSiteDisplay
from sklme.evaluation._draw import KINDS
from sklme.evaluation._views import (
    decimals_of,
    interval,
    number,
    predictions_of,
    short_name,
)
from sklme.evaluation.cross_site import cross_site_validate

matplotlib = pytest.importorskip("matplotlib")
import matplotlib.pyplot as plt  # noqa: E402


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def simulate(n_sites=8, seed=0, n=70, slope=1.0):
    """Sites with levels of their own; the second has no event, the third has two."""
    rng = np.random.default_rng(seed)
    site = np.repeat([f"clinic {s}" for s in range(n_sites)], n)
    X = pd.DataFrame({"a": rng.normal(size=len(site)), "b": rng.normal(size=len(site))})
    level = np.repeat(rng.normal(-0.5, 0.6, n_sites), n)
    y = np.array(rng.random(len(site)) < expit(level + slope * X["a"]), dtype=int)
    y[site == "clinic 1"] = 0
    third = np.flatnonzero(site == "clinic 2")
    y[third] = 0
    y[third[[3, 40]]] = 1
    return X, y, site


@pytest.fixture(scope="module")
def result():
    X, y, site = simulate()
    return cross_site_validate(
        LogisticRegression(), X, y, site=site, thresholds=[0.2, 0.4], random_state=0
    )


@pytest.fixture(scope="module")
def updated():
    X, y, site = simulate()
    return cross_site_validate(
        *(LogisticRegression(), X, y),
        **{"site": site, "target": "updated", "n_target": [0, 10, 20], "n_repeats": 2},
        random_state=0,
    )


def texts(ax):
    return [text.get_text() for text in ax.texts]


def centre(square):
    return square.get_offsets()[0]


# Every picture -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_draws(updated, kind):
    display = CrossSiteDisplay.from_result(updated, kind=kind)
    display.figure_.canvas.draw()
    assert display.ax_.figure is display.figure_
    assert set(display.site_artists_) <= set(updated.table["site"])
    assert len(display.site_artists_) >= 6
    assert display.diamond_ is not None
    assert display.ax_.get_xlabel()


@pytest.mark.parametrize("kind", KINDS)
def test_given_axes_are_drawn_into(updated, kind):
    _, ax = plt.subplots()
    assert CrossSiteDisplay.from_result(updated, kind=kind, ax=ax).ax_ is ax


def test_plot_returns_itself(result):
    display = CrossSiteDisplay(result, "brier")
    assert display.plot() is display


def test_unknown_names_are_refused(result):
    with pytest.raises(ValueError, match="kind is 'tree'; it must be one of 'forest'"):
        CrossSiteDisplay.from_result(result, kind="tree")
    with pytest.raises(ValueError, match=r"metric 'auc' was not evaluated; .*roc_auc"):
        CrossSiteDisplay.from_result(result, "auc")
    with pytest.raises(ValueError, match="sort_by is 'size'"):
        CrossSiteDisplay.from_result(result, sort_by="size")
    with pytest.raises(ValueError, match=r"n_target 7 was not evaluated; the result has \[0\]"):
        CrossSiteDisplay.from_result(result, n_target=7)
    with pytest.raises(ValueError, match="a learning curve needs several n_target"):
        CrossSiteDisplay.from_result(result, kind="learning_curve")


def test_kinds_of_other_tasks_are_refused():
    X, _, site = simulate()
    regression = cross_site_validate(LinearRegression(), X[["a"]], X["b"], site=site)
    assert CrossSiteDisplay.from_result(regression, kind="calibration").site_artists_
    with pytest.raises(ValueError, match="of two classes; the result is of a regression"):
        CrossSiteDisplay.from_result(regression, kind="net_benefit")
    three = np.digitize(X["a"] + X["b"], [-0.5, 0.5])
    classes = cross_site_validate(LogisticRegression(), X, three, site=site)
    assert CrossSiteDisplay.from_result(classes).diamond_ is not None
    with pytest.raises(ValueError, match="or a regression; the result is of several classes"):
        CrossSiteDisplay.from_result(classes, kind="calibration")


# Forest ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["roc_auc", "calibration_intercept", "oe_ratio", "brier"])
def test_forest_draws_the_numbers_of_the_table(result, name):
    display = CrossSiteDisplay.from_result(result, name)
    table = result.table[result.table["metric"] == name].set_index("site")
    pooled = result.pooled.loc[name]
    kept = table[table["weight"] > 0]
    for site in kept.index:
        assert_allclose(centre(display.site_artists_[site])[0], kept.loc[site, "estimate"])
    sizes = [display.site_artists_[site].get_sizes()[0] for site in kept.index]
    assert_allclose(sizes / np.sum(sizes), kept["weight"] / kept["weight"].sum())
    corners = display.diamond_.get_xy()[:4, 0]
    assert_allclose(corners, pooled[["lower", "mean", "upper", "mean"]].astype(float))
    left, right = display.ax_.get_xlim()
    ends = pooled[["prediction_lower", "prediction_upper"]].astype(float)
    assert_allclose(display.prediction_line_.get_xdata(), np.clip(ends, left, right))


def test_intervals_of_sites_lie_behind_their_squares(result):
    display = CrossSiteDisplay.from_result(result, "roc_auc")
    table = result.table[result.table["metric"] == "roc_auc"].set_index("site")
    lines = {line.get_ydata()[0]: line for line in display.ax_.lines if len(line.get_xdata()) == 2}
    for site in table.index[table["status"] == "ok"]:
        line = lines[centre(display.site_artists_[site])[1]]
        assert_allclose(line.get_xdata(), table.loc[site, ["lower", "upper"]].astype(float))


def test_numbers_stand_to_the_right(result):
    display = CrossSiteDisplay.from_result(result, "roc_auc")
    row = result.table.query("metric == 'roc_auc' and site == 'clinic 0'").iloc[0]
    said = texts(display.ax_)
    expected = f"{row['estimate']:.2f} [{row['lower']:.2f}, {row['upper']:.2f}]"
    assert expected in said
    assert f"{row['n_events']:.0f}/{row['n']}" in said
    assert "AUC [95 % CI]" in said


def test_sites_without_an_estimate_say_why(result):
    display = CrossSiteDisplay.from_result(result, "roc_auc")
    reason = result.table.query("metric == 'roc_auc' and site == 'clinic 1'")["reason"].iloc[0]
    assert display.site_artists_["clinic 1"].get_text() == reason
    assert "not estimable" in texts(display.ax_)
    few = display.site_artists_["clinic 2"]
    assert_allclose(few.get_facecolor()[0], matplotlib.colors.to_rgba("white"))
    assert any("pale: few events" in text for text in texts(display.ax_))


def test_order_of_sites(result):
    def order(sort_by):
        display = CrossSiteDisplay.from_result(result, "roc_auc", sort_by=sort_by)
        return [label.get_text() for label in display.ax_.get_yticklabels()][:8]

    table = result.table[result.table["metric"] == "roc_auc"].set_index("site")
    best_first = table["estimate"].sort_values(ascending=False, na_position="last")
    assert order("estimate") == list(best_first.index)
    assert order("name") == [f"clinic {s}" for s in range(8)]
    assert order("estimate")[-1] == "clinic 1"


def test_sites_are_ordered_by_size_and_numbers_by_value():
    rng = np.random.default_rng(0)
    site = np.repeat([10, 9, 100], [20, 50, 30])
    y, p = rng.integers(0, 2, 100), rng.random(100)
    display = CrossSiteDisplay.from_predictions(y, p, site=site, sort_by="name")
    assert [t.get_text() for t in display.ax_.get_yticklabels()][:3] == ["9", "10", "100"]
    display = CrossSiteDisplay.from_predictions(y, p, site=site, sort_by="n")
    assert [t.get_text() for t in display.ax_.get_yticklabels()][:3] == ["9", "100", "10"]


@pytest.mark.parametrize("n_sites", [3, 17, 60])
@pytest.mark.parametrize("name", ["{}", "Hôpital $a_{} & $ of <b>the</b> very long name, ward {}"])
def test_nothing_overlaps_or_is_cut(n_sites, name):
    rng = np.random.default_rng(n_sites)
    site = np.repeat([name.format(s, s) for s in range(n_sites)], 30)
    p = rng.random(len(site))
    y = (rng.random(len(site)) < p).astype(int)
    display = CrossSiteDisplay.from_predictions(y, p, site=site)
    figure, ax = display.figure_, display.ax_
    figure.canvas.draw()
    boxes = [t.get_window_extent() for t in [*ax.texts, *ax.get_yticklabels()] if t.get_text()]
    for box in boxes:
        assert box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1
        assert box.y0 >= -1 and box.y1 <= figure.bbox.y1 + 1
    small = [b.padded(-0.5) for b in boxes]
    pairs = [(i, j) for i in range(len(small)) for j in range(i) if small[i].overlaps(small[j])]
    assert pairs == []


def test_an_interval_that_leaves_the_panel_ends_in_an_arrow():
    rng = np.random.default_rng(1)
    site = np.repeat(list("abcdef"), [80, 80, 80, 80, 80, 12])
    p = np.clip(rng.normal(0.5, 0.02, len(site)), 0.01, 0.99)
    y = rng.integers(0, 2, len(site))
    p[site != "f"] = np.clip(rng.random((site != "f").sum()), 0.05, 0.95)
    y[site != "f"] = rng.random((site != "f").sum()) < p[site != "f"]
    display = CrossSiteDisplay.from_predictions(y, p, site=site, metric="calibration_slope")
    row = display.result.table.query("metric == 'calibration_slope' and site == 'f'").iloc[0]
    left, right = display.ax_.get_xlim()
    assert row["lower"] < left and row["upper"] > right
    markers = [line.get_marker() for line in display.ax_.lines]
    assert "<" in markers and ">" in markers


# Curves ------------------------------------------------------------------------------------------


def test_calibration_lines_are_those_of_the_predictions(result):
    display = CrossSiteDisplay.from_result(result, kind="calibration")
    rows = result.predictions[result.predictions["site"] == "clinic 0"]
    curve = calibration_curve(rows["y"], rows["prediction"])
    assert_allclose(display.site_artists_["clinic 0"].get_xdata(), curve.x)
    assert_allclose(display.site_artists_["clinic 0"].get_ydata(), curve.y)
    assert {"clinic 1", "clinic 2"}.isdisjoint(display.site_artists_)
    pooled = calibration_curve(
        *(result.predictions[c] for c in ("y", "prediction")), site=result.predictions["site"]
    )
    assert_allclose(display.diamond_.get_ydata(), pooled.y)


def test_net_benefit_lines_average_over_sites(result):
    thresholds = [0.1, 0.2, 0.4]
    display = CrossSiteDisplay.from_result(result, kind="net_benefit", thresholds=thresholds)
    lines = [line.get_ydata() for line in display.site_artists_.values()]
    assert len(lines) == 8
    assert_allclose(display.diamond_.get_ydata(), np.mean(lines, axis=0))
    table = result.table[result.table["metric"] == "net_benefit@0.2"].set_index("site")
    found = display.site_artists_["clinic 0"].get_ydata()[1]
    assert_allclose(found, table.loc["clinic 0", "estimate"], rtol=1e-12)


def test_learning_curve_joins_the_pooled_means(updated):
    display = CrossSiteDisplay.from_result(updated, "brier", kind="learning_curve")
    assert_allclose(display.diamond_.get_xdata(), [0, 10, 20])
    assert_allclose(display.diamond_.get_ydata(), updated.pooled.loc["brier", "mean"])
    line = display.site_artists_["clinic 0"]
    table = updated.table.query("metric == 'brier' and site == 'clinic 0'")
    assert_allclose(line.get_ydata(), table.sort_values("n_target")["estimate"])


def test_each_row_counts_once_whatever_the_number_of_draws(updated):
    rows = predictions_of(updated, 10)
    assert set(rows["n_target"]) == {10}
    assert_allclose(rows.groupby("row")["weight"].sum(), 1.0)


# From an estimator and from predictions ----------------------------------------------------------


def test_from_estimator_validates(result):
    X, y, site = simulate()
    display = CrossSiteDisplay.from_estimator(
        *(LogisticRegression(), X, y), site=site, metric="brier", thresholds=0.2
    )
    assert_allclose(display.result.pooled.loc["brier", "mean"], result.pooled.loc["brier", "mean"])


def test_from_predictions_agrees_with_the_validation(result):
    rows = result.predictions
    display = CrossSiteDisplay.from_predictions(
        rows["y"], rows["prediction"], site=rows["site"], thresholds=[0.2, 0.4], random_state=0
    )
    columns = ["estimate", "std_error", "lower", "upper", "n", "n_events", "weight"]
    ours, theirs = (
        r.table.set_index(["metric", "site"])[columns] for r in (display.result, result)
    )
    pd.testing.assert_frame_equal(ours, theirs.loc[ours.index], check_dtype=False)
    assert display.result.summary().startswith("Cross-site validation of predictions at hand")


def test_from_predictions_reads_the_task():
    rng = np.random.default_rng(0)
    site = np.repeat(list("abc"), 30)
    value = rng.normal(size=90)
    found = CrossSiteDisplay.from_predictions(value, value + rng.normal(size=90), site=site)
    assert found.result.task == "regression"
    p = rng.dirichlet(np.ones(3), 90)
    found = CrossSiteDisplay.from_predictions(rng.choice(list("xyz"), 90), p, site=site)
    assert found.result.task == "classes"
    assert list(found.result.classes) == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("y", "prediction", "message"),
    [
        ([0, 1, 1, 0], [0.1, 1.2, 0.3, 0.4], "row 1 is 1.2, which is no probability"),
        ([0, 1, 1, 0], [0.1, np.nan, 0.3, 0.4], "row 1 is not a finite number"),
        ([0, 1, 1, 0], [0.1, 0.3, 0.4], "y has the shape"),
        ([0, 1, np.nan, 0], [0.1, 0.3, 0.4, 0.2], "y of row 2 is missing"),
        ([0, 1, 2, 0], np.full((4, 2), 0.5), "2 columns, but y has 3 classes"),
        ([0, 1, 1, 0], np.full((4, 2), 0.5), "probability of the second alone"),
    ],
)
def test_predictions_that_are_none_are_refused(y, prediction, message):
    with pytest.raises(ValueError, match=message):
        CrossSiteDisplay.from_predictions(y, prediction, site=list("aabb"))


# The curves themselves ---------------------------------------------------------------------------


def test_a_curve_of_many_rows_finds_the_truth():
    rng = np.random.default_rng(0)
    x = rng.normal(size=100_000)
    truth = expit(0.4 + 0.7 * x - 0.25 * np.maximum(x, 0) ** 2)
    y = rng.random(len(x)) < truth
    curve = calibration_curve(y, expit(x))
    expected = np.interp(curve.x, expit(np.sort(x)), truth[np.argsort(x)])
    assert np.abs(curve.y - expected).max() < 0.02


def test_few_events_give_the_line_of_the_penalised_logistic_regression():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.05, 0.6, 60)
    y = (np.arange(60) % 5 == 0).astype(float)  # 12 events
    x = logit(p)
    z = (x - x.mean()) / x.std()

    def loss(c):
        eta = x + c[0] + c[1] * z
        return np.logaddexp(0, eta).sum() - y @ eta + 0.125 * c[1] ** 2

    a, b = minimize(loss, np.zeros(2), tol=1e-12).x
    curve = calibration_curve(y, p)
    at = logit(curve.x)
    assert_allclose(curve.y, expit(at + a + b * (at - x.mean()) / x.std()), rtol=1e-5)


@pytest.mark.parametrize("flip", [False, True])
def test_separated_and_extreme_predictions_stay_finite(flip):
    y = np.repeat([0, 1], 12)
    p = np.concatenate([np.linspace(0.0, 0.3, 12), np.linspace(0.4, 1.0, 12)])
    curve = calibration_curve(y, 1 - p if flip else p)
    assert np.isfinite(curve.y).all()
    steps = np.diff(curve.y) * (-1 if flip else 1)
    assert (steps >= 0).all() and steps.sum() > 0.9


def test_sites_that_determine_no_curve_have_none():
    rng = np.random.default_rng(0)
    assert calibration_curve(np.r_[np.ones(4), np.zeros(50)], rng.random(54)) is None
    assert calibration_curve(np.r_[np.ones(20), np.zeros(20)], np.full(40, 0.3)) is None
    assert calibration_curve([], []) is None


def test_regression_curve_is_least_squares():
    rng = np.random.default_rng(0)
    x = rng.normal(size=30)  # too few rows for a spline
    y = 1.0 + 2.0 * x + rng.normal(size=30)
    curve = calibration_curve(y, x, task="regression")
    line = LinearRegression().fit(x[:, None], y)
    assert_allclose(curve.y, line.predict(curve.x[:, None]), rtol=1e-9)


def test_the_spline_is_linear_beyond_its_outer_knots():
    rng = np.random.default_rng(0)
    basis = _Basis(rng.normal(size=500), np.array([-1.5, -0.4, 0.3, 1.4]))
    for tail in (np.linspace(-6, -1.5, 20), np.linspace(1.4, 6, 20)):
        assert_allclose(np.diff(basis(tail), n=2, axis=0), 0.0, atol=1e-9)
    inside = np.diff(basis(np.linspace(-1.5, 1.4, 60)), n=2, axis=0)
    assert np.abs(inside).max() > 1e-4


def test_a_row_of_weight_two_is_two_rows():
    rng = np.random.default_rng(0)
    p = rng.random(200)
    y = (rng.random(200) < p).astype(float)
    once = calibration_curve(y, p, weight=np.full(200, 2.0))
    twice = calibration_curve(np.tile(y, 2), np.tile(p, 2))
    assert_allclose(once.y, twice.y, atol=0.02)  # quantiles of the knots differ a little


def test_the_band_covers_the_spread_of_sites():
    """Its width is that of curves of new samples of sites."""
    rng = np.random.default_rng(0)
    curves, halves = [], []
    for _ in range(60):
        level = np.repeat(rng.normal(0, 0.8, 25), 40)
        x = rng.normal(size=1000)
        y = rng.random(1000) < expit(level + x)
        site = np.repeat(np.arange(25), 40)
        curve = calibration_curve(y, expit(x), site=site, n_points=3)
        curves.append(curve.y[1])
        halves.append(0.5 * (curve.upper[1] - curve.lower[1]))
    assert_allclose(np.mean(halves), 2.064 * np.std(curves), rtol=0.25)


def test_few_sites_have_no_band():
    rng = np.random.default_rng(0)
    p = rng.random(200)
    y = rng.random(200) < p
    assert calibration_curve(y, p, site=np.repeat(np.arange(4), 50)).lower is None
    assert calibration_curve(y, p, site=np.repeat(np.arange(5), 40)).lower is not None


@given(
    st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=30),
    st.floats(0.01, 0.99),
)
def test_net_benefit_counts(rows, threshold):
    y, p = map(np.array, zip(*rows, strict=True))
    true = sum(a == 1 and b >= threshold for a, b in rows)
    false = sum(a == 0 and b >= threshold for a, b in rows)
    expected = (true - false * threshold / (1 - threshold)) / len(rows)
    assert_allclose(net_benefit(y, p, [threshold]), [expected], atol=1e-12)


def test_net_benefit_curves_of_sites_and_their_mean():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"site": np.repeat(["a", "b"], [10, 90]), "prediction": rng.random(100)})
    frame = frame.assign(y=rng.integers(0, 2, 100), weight=1.0)
    curves = net_benefit_curves(frame, np.array([0.2, 0.5]))
    assert set(curves) == {"a", "b", None}
    assert_allclose(curves[None], (curves["a"] + curves["b"]) / 2)
    prevalence = frame.loc[frame["site"] == "a", "y"].mean()
    assert_allclose(curves["a"].loc[0.5, "treat_all"], 2 * prevalence - 1)


# Numbers as text ---------------------------------------------------------------------------------


def test_numbers_as_text():
    assert number(-0.004) == "0.00"
    assert number(-0.5) == "−0.50"
    assert number(np.nan) == number(None) == "–"
    assert number(1e6) == "> 9,999"
    assert number(-1e6) == "< −9,999"
    assert interval(0.1, np.inf) == "–"
    rows = pd.DataFrame({"estimate": [0.7, 0.8], "lower": [0.6, 0.7], "upper": [0.8, 0.9]})
    assert decimals_of(rows) == 2
    assert decimals_of(rows / 100) == 4
    assert decimals_of(rows * 1000) == 0


def test_names_of_sites_are_short_and_plain():
    assert short_name("Basel", 10) == "Basel"
    assert short_name("a very long name of ward 17", 14) == "a very…ard 17"
    assert short_name("$x$", 10) == r"\$x\$"
    assert short_name("_hidden", 10)[1:] == "_hidden"


class Fixed(ClassifierMixin, BaseEstimator):
    """Predicts a column of X."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        p = np.asarray(X)[:, 0]
        return np.column_stack([1 - p, p])


def test_nothing_to_pool_is_drawn_too():
    site = np.repeat(list("ab"), 6)
    y = np.tile([0, 0, 0, 0, 1, 0], 2)
    p = np.linspace(0.1, 0.9, 12)[:, None]
    result = cross_site_validate(Fixed(), p, y, site=site, scoring="roc_auc")
    display = CrossSiteDisplay.from_result(result)
    display.figure_.canvas.draw()
    assert display.diamond_ is None and display.prediction_line_ is None
    assert "Mean of 0 sites" in [t.get_text() for t in display.ax_.get_yticklabels()]
