"""The text of summary(): what it says, how wide it is, how it tells nested from crossed."""

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from sklme import LinearMixedModel, _summary
from sklme.datasets import load_dyestuff2, load_pastes, load_penicillin, load_sleepstudy
from sklme.inference.coefficients import coefficient_table

SLEEP = load_sleepstudy(return_X_y=True)
BY_SUBJECT = {"Subject": ["1", "Days"]}


def fit(random_effects, X, y, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LinearMixedModel(random_effects, **options).fit(X, y)


def fields(text, start):
    """The words of the one line that begins with `start`."""
    lines = [line for line in text.splitlines() if line.strip().startswith(start)]
    assert len(lines) == 1, text
    return lines[0].strip()[len(start) :].split()


def simulate(n_samples=120, n_sites=6, n_raters=5, seed=0):
    rng = np.random.default_rng(seed)
    site, rater = rng.integers(n_sites, size=n_samples), rng.integers(n_raters, size=n_samples)
    X = pd.DataFrame({"site": site, "rater": rater, "x": rng.normal(size=n_samples)})
    X["site"], X["rater"] = "s" + X["site"].astype(str), "r" + X["rater"].astype(str)
    effects = rng.normal(size=n_sites)[site] + rng.normal(size=n_raters)[rater]
    return X, X["x"] + effects + rng.normal(size=n_samples)


def test_sleepstudy_as_r_has_it():
    """summary(lmer(Reaction ~ Days + (Days | Subject), sleepstudy)), AIC and BIC of R."""
    text = fit(BY_SUBJECT, *SLEEP).summary()
    assert "restricted maximum likelihood" in text and "Rows: 180\n" in text
    line = next(line for line in text.splitlines() if "AIC" in line)
    words = dict(zip(line.replace(":", "").split()[::2], line.split()[1::2], strict=True))
    assert float(words["log-likelihood"]) == -871.81
    assert_allclose(float(words["AIC"]), 1755.628, atol=0.006)
    assert_allclose(float(words["BIC"]), 1774.786, atol=0.006)
    assert words["parameters"] == "6"
    assert fields(text, "Subject: (Intercept)") == ["18", "612.09", "24.74"]
    assert fields(text, "Subject: Days") == ["35.072", "5.9221", "0.07"]
    assert fields(text, "Residual") == ["654.94", "25.592"]
    assert "Fixed effects (Satterthwaite)" in text
    assert fields(text, "(Intercept)") == ["251.41", "6.8246", "17.0", "36.84", "<", "0.0001"]
    assert fields(text, "Days") == ["10.467", "1.5458", "17.0", "6.77", "<", "0.0001"]
    assert "How the factors meet" not in text


def test_maximum_likelihood_says_so():
    """AIC(lmer(..., REML = FALSE)) is 1763.939."""
    text = fit(BY_SUBJECT, *SLEEP, method="ml").summary()
    assert "fitted by maximum likelihood" in text and "AIC: 1763.94" in text


def test_p_values_are_those_of_t():
    X, y = simulate()
    X["useless"] = np.sin(np.arange(len(y)))
    model = fit(["site", "rater"], X, y)
    b, se, dof, t, p = map(float, fields(model.summary(), "useless"))
    assert_allclose(b, model.coef_[1], rtol=1e-4)
    assert_allclose(t, b / se, atol=0.006)
    assert_allclose(p, 2 * stats.t.sf(abs(b / se), dof), atol=1e-4)
    assert_allclose(dof, coefficient_table(model).dof["useless"], atol=0.06)


def test_many_crossed_effects_have_the_normal(monkeypatch):
    monkeypatch.setattr(_summary, "DEAR", 3)
    X, y = simulate()
    text = fit(["site", "rater"], X, y).summary()
    assert "Fixed effects (Normal)" in text and "dof" not in text
    b, se, z, *p = fields(text, "x")
    assert_allclose(float(z), float(b) / float(se), atol=0.006)
    assert p == ["<", "0.0001"]


def test_without_an_intercept_or_random_effects():
    X, y = SLEEP
    text = fit({"Subject": []}, X, y, fit_intercept=False).summary()
    assert "(Intercept)" not in text and fields(text, "Days") and fields(text, "Residual")


def test_frequencies_count_as_rows():
    X, y = SLEEP
    model = LinearMixedModel(BY_SUBJECT).fit(X, y, sample_weight=np.full(180, 2.0))
    twice = LinearMixedModel(BY_SUBJECT).fit(pd.concat([X, X]), np.tile(y, 2))
    text, expected = model.summary(), twice.summary()
    assert "Rows: 180 (sum of weights 360)" in text
    assert text.splitlines()[2:] == expected.splitlines()[2:]


def test_adapting_changes_no_criterion():
    """AIC and BIC belong to the rows of fit, as the log-likelihood does."""
    X, y = SLEEP
    known = X["Subject"] < 350
    model = LinearMixedModel(BY_SUBJECT).fit(X[known], y[known])
    adapted = model.adapt(X[~known], y[~known]).summary()
    before = model.summary()
    for line in before.splitlines():
        if "AIC" in line or line.strip().startswith(("Residual", "Rows")):
            assert line in adapted.splitlines()
    for name in ("Days", "(Intercept)"):
        assert fields(adapted, name)[0] == fields(before, name)[0]
    assert "Fixed effects (Normal)" in adapted  # dof belong to the rows of fit, which are gone


# How factors meet ------------------------------------------------------------------------------


def meeting(random_effects, X, y):
    text = fit(random_effects, X, y).summary()
    part = text.split("How the factors meet\n")[1].split("\n\n")[0]
    return [line.strip() for line in part.splitlines()]


def test_crossed_factors():
    X, y = load_penicillin(return_X_y=True)
    assert meeting(["plate", "sample"], X, y) == [
        "plate and sample are crossed (144 of 144 pairs occur)"
    ]


def test_partly_crossed_factors():
    X, y = simulate()
    X, y = X[~((X["site"] == "s0") & (X["rater"] > "r1"))], y
    X = X.reset_index(drop=True)
    pairs = len(X[["site", "rater"]].drop_duplicates())
    assert pairs == 27
    assert meeting(["site", "rater"], X, y[: len(X)]) == [
        "site and rater are partly crossed (27 of 30 pairs occur)"
    ]


@pytest.mark.parametrize("order", [["batch", "sample"], ["sample", "batch"]])
def test_nested_factors_in_either_order(order):
    X, y = load_pastes(return_X_y=True)
    X = X[["batch", "sample"]]
    assert meeting(order, X, y) == ["sample is nested in batch"]


def test_a_combination_is_nested_in_its_columns():
    X, y = simulate()
    assert meeting({"site": ["1"], ("site", "rater"): ["1"]}, X, y) == [
        "site:rater is nested in site"
    ]


def test_every_pair_of_three_factors():
    X, y = simulate()
    lines = meeting({"site": ["1"], "rater": ["1"], ("site", "rater"): ["1"]}, X, y)
    assert lines == [
        "site and rater are crossed (30 of 30 pairs occur)",
        "site:rater is nested in site",
        "site:rater is nested in rater",
    ]


def classrooms(numbering):
    """Five classrooms of four children with three tests each."""
    rng = np.random.default_rng(0)
    room, child = np.repeat(np.arange(5), 12), np.tile(np.repeat(np.arange(4), 3), 5)
    names = {"anew": child, "on": 4 * room + child, "some": np.where(room == 0, child % 2, child)}
    X = pd.DataFrame({"classroom": room, "child": names[numbering] + 1})
    return X, rng.normal(size=5)[room] + rng.normal(size=(5, 4))[room, child] + rng.normal(size=60)


@pytest.mark.parametrize(
    "numbering, line",
    [
        ("on", "child is nested in classroom"),
        ("anew", "child and classroom are crossed (20 of 20 pairs occur)"),
        ("some", "child and classroom are partly crossed (18 of 20 pairs occur)"),
    ],
)
def test_children_numbered_from_one_in_every_classroom(numbering, line):
    """The classic trap: child 1 of one room is taken for child 1 of the next."""
    X, y = classrooms(numbering)
    found = meeting(["classroom", "child"], X, y)
    assert found in ([line], [line.replace("child and classroom", "classroom and child")])


def test_the_trap_is_avoided_by_a_combination():
    X, y = classrooms("anew")
    assert meeting({"classroom": ["1"], ("classroom", "child"): ["1"]}, X, y) == [
        "classroom:child is nested in classroom"
    ]


# Notes -----------------------------------------------------------------------------------------


def test_dropped_columns_are_named():
    X, y = SLEEP
    text = fit(BY_SUBJECT, X.assign(twice=2 * X["Days"], same=1.0), y).summary()
    assert fields(text, "twice") == ["dropped"] == fields(text, "same")
    assert "Dropped, as they depend on earlier columns: twice, same" in text


def test_a_variance_at_zero_is_named():
    text = fit("Batch", *load_dyestuff2(return_X_y=True)).summary()
    assert "Estimated at zero: (Intercept) by Batch" in text
    assert fields(text, "Batch: (Intercept)") == ["6", "0", "0"]
    assert "not converge" not in text and "Not identified" not in text


def test_a_variance_that_is_not_zero_is_not_said_to_be():
    """With a correlation of one the slope still has a variance."""
    rng = np.random.default_rng(0)
    code = np.repeat(np.arange(10), 6)
    X = pd.DataFrame({"g": code.astype(str), "x": rng.normal(size=60)})
    y = rng.normal(size=10)[code] * (1 + X["x"]) + 2 * rng.normal(size=60)
    model = fit({"g": ["1", "x"]}, X, y)
    text = model.summary()
    assert fields(text, "g: x")[-1] == "1.00" and model.covariance_["g"][1, 1] > 1
    assert "Estimated at zero" not in text


def test_a_correlation_with_a_variance_of_zero_is_a_dash():
    X, y = SLEEP
    X = X.assign(flat=np.sin(np.arange(180.0)))
    text = fit({"Subject": ["1", "flat", "Days"]}, X, y, covariance_type="diagonal").summary()
    assert "nan" not in text


def test_a_variance_that_nothing_can_tell_is_named():
    X, y = SLEEP
    text = fit("Subject", X.assign(Subject=1), y).summary()
    assert "Not identified, set to zero: (Intercept) by Subject" in text
    assert "Estimated at zero" not in text


def test_an_unfinished_search_is_named():
    X, y = SLEEP
    keep = np.random.default_rng(0).random(len(y)) < 0.6
    assert "did not converge" in fit(BY_SUBJECT, X[keep], y[keep], max_iter=1).summary()
    assert "converge" not in fit(BY_SUBJECT, *SLEEP).summary()


def test_several_outputs_show_the_first():
    X, y = SLEEP
    Y = np.column_stack([y, np.random.default_rng(0).normal(size=180)])
    one, many = fit(BY_SUBJECT, X, y).summary(), fit(BY_SUBJECT, X, Y).summary()
    assert "Outputs: 2, all fitted alike; the first is shown" in many
    assert [
        line for line in many.splitlines() if not line.startswith("Outputs")
    ] == one.splitlines()


# Width -----------------------------------------------------------------------------------------

LONG = "a column whose name its author found too good to be cut short anywhere"


def long_slope():
    X, y = SLEEP
    X = X.rename(columns={"Days": LONG})
    return fit({"Subject": ["1", LONG]}, X, y)


def long_factors():
    X, y = simulate()
    names = {"site": LONG, "rater": "the other " + LONG}
    return fit(list(names.values()), X.rename(columns=names), y)


def long_notes():
    X, y = simulate()
    copies = {f"{LONG} {i}": X["x"] for i in range(4)}
    return fit("site", X.drop(columns="rater").assign(**copies), y)


def long_combination():
    X, y = simulate()
    names = {"site": LONG, "rater": "the other " + LONG}
    keys = {LONG: ["1"], (LONG, "the other " + LONG): ["1"]}
    return fit(keys, X.rename(columns=names), y)


def many_slopes(n_slopes):
    X, y = simulate(400)
    rng = np.random.default_rng(0)
    X = X.drop(columns="rater")
    slopes = {f"slope {i}": rng.normal(size=400) for i in range(n_slopes)}
    return fit({"site": ["1", *slopes]}, X.assign(**slopes), y, max_iter=3)


def many_notes():
    X, y = simulate(400)
    zeros = {f"useless {i}": 0.0 for i in range(12)}
    X = X.drop(columns="rater").assign(**zeros)
    return fit({"site": ["1", *zeros]}, X, y, covariance_type="diagonal")


@pytest.mark.parametrize(
    "made",
    [
        long_slope,
        long_factors,
        long_notes,
        long_combination,
        lambda: many_slopes(5),
        lambda: many_slopes(8),
        lambda: many_slopes(13),
        many_notes,
    ],
    ids=[
        "slope",
        "factors",
        "notes",
        "combination",
        "5 slopes",
        "8 slopes",
        "13 slopes",
        "many notes",
    ],
)
def test_no_line_is_wider_than_80_characters(made):
    text = made().summary()
    assert max(map(len, text.splitlines())) <= 80
    assert text == "\n".join(line.rstrip() for line in text.splitlines())


@pytest.mark.parametrize("n_slopes", [5, 8, 13])
def test_names_of_terms_stay_readable_beside_many_correlations(n_slopes):
    text = many_slopes(n_slopes).summary()
    for i in range(n_slopes):
        assert text.count(f"slope {i}\n") + text.count(f"slope {i} ") == 2  # random and fixed


def test_extreme_numbers_do_not_break_the_columns():
    X, y = SLEEP
    for scale in (1e-70, 1e-7, 1e9, 1e70):
        text = fit(BY_SUBJECT, X.assign(Days=X["Days"] / scale), y * scale).summary()
        assert max(map(len, text.splitlines())) <= 80 and "nan" not in text
        assert float(fields(text, "Subject: (Intercept)")[2]) == pytest.approx(24.74 * scale)


def test_summaries_are_text_of_the_same_bits():
    assert fit(BY_SUBJECT, *SLEEP).summary() == fit(BY_SUBJECT, *SLEEP).summary()
    assert isinstance(fit(BY_SUBJECT, *SLEEP).summary(), str)
