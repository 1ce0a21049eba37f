"""random_effects_meta and shrunken_estimates against metafor, a published review and pimeta."""

import numpy as np
import pandas as pd
import pytest
from reference_meta import (
    ABLAT,
    CNEG,
    CPOS,
    METAFOR,
    PAULE_MANDEL,
    TAU2_INTERVAL,
    TAU2_INTERVAL_ABLAT,
    TNEG,
    TPOS,
)

from sklme.evaluation.meta import random_effects_meta, shrunken_estimates

# Log risk ratios of the trials of the BCG vaccine, as escalc(measure = "RR") computes them.
a, b, c, d = (np.array(part, float) for part in (TPOS, TNEG, CPOS, CNEG))
BCG = np.log(a / (a + b)) - np.log(c / (c + d))
BCG_ERROR = np.sqrt(1 / a - 1 / (a + b) + 1 / c - 1 / (c + d))
NORMAL = {"ci": "normal", "prediction": "normal"}
HKSJ = {"ci": "hksj", "prediction": "hksj"}
WITH_ABLAT = {"moderators": pd.DataFrame({"ablat": ABLAT})}
AT = {"at": pd.DataFrame({"ablat": [10, 33, 55]})}
MODELS = {
    "reml": NORMAL,
    "reml_knha": HKSJ,
    "ml": {"method": "ml", **NORMAL},
    "dl": {"method": "dl", **NORMAL},
    "reml_ablat": WITH_ABLAT | NORMAL,
    "reml_ablat_knha": WITH_ABLAT | HKSJ,
}
OVER_ALL = ("tau2", "h2", "q", "q_p_value", "log_likelihood")


def about(value, rel=1e-6):
    return pytest.approx(value, rel=rel, abs=0.0)


@pytest.mark.parametrize("name", MODELS)
def test_pooled_equals_metafor(name):
    table, expected = random_effects_meta(BCG, BCG_ERROR, **MODELS[name]), METAFOR[name]
    for column in ("mean", "std_error", "lower", "upper"):
        assert table[column].to_list() == about(expected[column])
    for column in OVER_ALL:
        assert table[column].iloc[0] == about(expected[column])
    assert 100 * table["i2"].iloc[0] == about(expected["i2"])
    interval = TAU2_INTERVAL_ABLAT if "ablat" in name else TAU2_INTERVAL
    assert table[["tau2_lower", "tau2_upper"]].iloc[0].to_list() == about(interval, 1e-9)
    if "ablat" in name:
        assert table["p_value"].to_list() == about(expected["p_value"])
        assert table.index.to_list() == ["intercept", "ablat"]


@pytest.mark.parametrize("name", MODELS)
def test_new_sites_equal_metafor(name):
    at = AT if "ablat" in name else {}
    table = random_effects_meta(BCG, BCG_ERROR, **MODELS[name], **at)
    for column, expected in METAFOR[name]["new"].items():
        assert table[column].to_list() == about(expected)


@pytest.mark.parametrize("name", MODELS)
def test_shrunken_estimates_equal_metafor(name):
    how = {key: value for key, value in MODELS[name].items() if key != "prediction"}
    table = shrunken_estimates(BCG, BCG_ERROR, **how)
    for column, expected in METAFOR[name]["blup"].items():
        assert table[column].to_list() == about(expected)


def test_paule_and_mandel_equals_metafor():
    row = random_effects_meta(BCG, BCG_ERROR, method="pm", **NORMAL).iloc[0]
    assert (row["tau2"], row["mean"], row["std_error"]) == about(PAULE_MANDEL, 1e-9)


def test_factor_of_at_least_one_equals_metafor():
    """rma(y, v, test = "adhoc"): standard error and limits, here without heterogeneity."""
    y, v = [0.1, 0.12, 0.09, 0.3, 0.11], np.array([0.01, 0.02, 0.03, 0.04, 0.05])
    row = random_effects_meta(y, np.sqrt(v), ci="hksj-adhoc").iloc[0]
    expected = (0.06617825960083584, -0.05804687428231531, 0.30943373559618392)
    assert (row["std_error"], row["lower"], row["upper"]) == about(expected)
    assert row["prediction_upper"] == about(expected[2])
    plain = random_effects_meta(y, np.sqrt(v)).iloc[0]
    assert (plain["std_error"], plain["lower"], plain["upper"]) == about(
        (0.0309449453464634, 0.0397764886191329, 0.2116103726947358)
    )


# A published review -------------------------------------------------------------------------------

# External validations of EuroSCORE II with an error of the c-index (metamisc::EuroSCORE): Nashef,
# Biancari and Di Dedda give an interval, the other sixteen a standard error.
C_INDEX = [
    *(0.8095, 0.867, 0.81, 0.79, 0.808, 0.85, 0.72, 0.818, 0.72, 0.77, 0.72, 0.77, 0.642),
    *(0.8, 0.82, 0.83, 0.76, 0.856, 0.77),
]
INTERVALS = [(0.782, 0.836), (0.798, 0.936), (0.74, 0.88)]
STANDARD_ERRORS = [
    *(0.01, 0.008, 0.01, 0.051, 0.007, 0.015, 0.067, 0.034, 0.061, 0.071, 0.015, 0.02, 0.012),
    *(0.056, 0.033, 0.01),
]


def test_euroscore_2():
    """rma(qlogis(c), sei = se / (c (1 - c)), test = "knha"); predict(fit, transf = plogis)."""
    errors = [(u - low) / (2 * 1.959963984540054) for low, u in INTERVALS] + STANDARD_ERRORS
    row = random_effects_meta(C_INDEX, errors, scale="logit", names="c").loc["c"]
    assert row["tau2"] == about(0.0524732188234361)
    assert row[["mean", "lower", "upper"]].to_list() == about(
        [0.7947388191266683, 0.7709656833980072, 0.8166312663651983]
    )
    assert row[["prediction_lower", "prediction_upper"]].to_list() == about(
        [0.7010982842109064, 0.8647045926388239]
    )
    boot = random_effects_meta(C_INDEX, errors, scale="logit", prediction="bootstrap").iloc[0]
    ends = ["prediction_lower", "prediction_upper"]
    assert boot[ends].to_list() == pytest.approx(row[ends].to_list(), abs=0.01)


# pimeta -------------------------------------------------------------------------------------------


def cisapride():
    """Log odds ratios, 0.5 added to each cell, of 13 trials (Hartung and Knapp 2001)."""
    m1 = np.array([15, 12, 29, 42, 14, 44, 14, 29, 10, 17, 38, 19, 21]) + 0.5
    n1 = np.array([16, 16, 34, 56, 22, 54, 17, 58, 14, 26, 44, 29, 38]) + 1.0
    m2 = np.array([9, 1, 18, 31, 6, 17, 7, 23, 3, 6, 12, 22, 19]) + 0.5
    n2 = np.array([16, 16, 34, 56, 22, 55, 15, 58, 15, 27, 45, 30, 38]) + 1.0
    cells = np.array([m1, n1 - m1, m2, n2 - m2])
    return np.log(cells[0] * cells[3] / cells[1] / cells[2]), np.sqrt((1 / cells).sum(axis=0))


def test_bootstrap_agrees_with_pimeta():
    """The vignette of pimeta 1.1.4: pima(dat$y, dat$se, seed = 2236067), 25 000 draws.

    It prints 4.141 [0.533, 33.692], tau2 0.718, P(theta_new < 0) 0.075. A 2.5 % quantile of 25 000
    draws has the standard error sqrt(0.025 * 0.975 / 25 000) / density.
    """
    y, errors = cisapride()
    assert (y[0], errors[0]) == pytest.approx((2.098986, 0.9847737), rel=1e-6)
    how = {"method": "dl", "prediction": "bootstrap"}
    row = random_effects_meta(y, errors, benchmark=0.0, **how).iloc[0]
    assert np.exp(row["mean"]) == pytest.approx(4.141, abs=5e-4)
    assert row["tau2"] == pytest.approx(0.718, abs=5e-4)
    step = 0.01  # the density, from the levels of two intervals
    wider = random_effects_meta(y, errors, confidence_level=0.95 + 2 * step, **how).iloc[0]
    for end, printed in (("prediction_lower", 0.533), ("prediction_upper", 33.692)):
        density = step / abs(wider[end] - row[end])
        error = np.sqrt(0.025 * 0.975 / 25_000) / density
        assert abs(row[end] - np.log(printed)) < 3 * error < 0.1
    below = 1 - row["probability"]
    assert abs(below - 0.075) < 3 * np.sqrt(0.075 * 0.925 / 25_000) + 5e-4


# Tables -------------------------------------------------------------------------------------------


def sites(n_metrics=3):
    rng = np.random.default_rng(0)
    names = [f"site {i}" for i in range(8)]
    columns = ["auc", "slope", "ratio"][:n_metrics]
    values = pd.DataFrame(rng.uniform(0.6, 0.9, (8, n_metrics)), names, columns)
    return values, 0.0 * values + rng.uniform(0.02, 0.08, (8, n_metrics))


def test_many_metrics_each_on_its_scale():
    values, errors = sites()
    values.iloc[2, 0] = errors.iloc[5, 1] = np.nan
    scales, benchmark = ["logit", "identity", "log"], [0.7, 0.75, 0.8]
    table = random_effects_meta(values, errors, scale=scales, benchmark=benchmark)
    assert table.index.to_list() == ["auc", "slope", "ratio"]
    assert table["n_sites"].to_list() == [7, 7, 8]
    for name, scale, value in zip(values, scales, benchmark, strict=True):
        alone = random_effects_meta(values[name], errors[name], scale=scale, benchmark=value)
        assert alone.index.to_list() == [name]
        pd.testing.assert_frame_equal(table.loc[[name]], alone)


@pytest.mark.parametrize("prediction", ["hksj", "normal", "bootstrap"])
def test_probability_agrees_with_the_interval_on_the_natural_scale(prediction):
    values, errors = sites(1)
    how = {"scale": "logit", "prediction": prediction}
    first = random_effects_meta(values, errors, **how)
    for end, expected in (("prediction_lower", 0.975), ("prediction_upper", 0.025)):
        again = random_effects_meta(values, errors, benchmark=first[end].iloc[0], **how)
        assert again["probability"].iloc[0] == pytest.approx(expected, abs=1e-9)


def test_delta_method():
    values, errors = sites(1)
    p = values["auc"].to_numpy()
    by_hand = random_effects_meta(np.log(p / (1 - p)), errors["auc"] / (p * (1 - p)))
    table = random_effects_meta(values, errors, scale="logit")
    assert table["std_error"].iloc[0] == about(by_hand["std_error"].iloc[0])
    assert table["upper"].iloc[0] == about(1 / (1 + np.exp(-by_hand["upper"].iloc[0])))


def test_moderators_of_several_metrics():
    values, errors = sites(2)
    moderators = np.arange(8.0)
    table = random_effects_meta(values, errors, moderators=moderators)
    assert table.index.to_list() == [
        (name, term) for name in values for term in ("intercept", "x0")
    ]
    how = {"moderators": moderators, "scale": "logit"}
    new = random_effects_meta(values, errors, at=[2.5, 9.0], benchmark=0.7, **how)
    assert new.index.names == ["metric", "new_site"] and len(new) == 4
    alone = random_effects_meta(values["slope"], errors["slope"], at=[9.0], benchmark=0.7, **how)
    columns = ["mean", "prediction_lower", "probability", "tau2"]
    assert new.loc[("slope", 1), columns].to_list() == about(alone[columns].iloc[0].to_list())
    shrunken = shrunken_estimates(values, errors, **how)
    assert shrunken.loc[("auc", "site 3"), "raw"] == values.loc["site 3", "auc"]


def test_shrunken_estimates_lie_between_raw_ones_and_the_mean():
    values, errors = sites()
    values.iloc[4, 2] = np.nan
    table = shrunken_estimates(values, errors, scale="logit")
    mean = random_effects_meta(values, errors, scale="logit")["mean"]
    for name in values:
        part = table.loc[name].dropna(how="all")
        low, high = np.minimum(part["raw"], mean[name]), np.maximum(part["raw"], mean[name])
        assert part["estimate"].between(low - 1e-12, high + 1e-12).all()
        assert part.index.to_list() == values[name].dropna().index.to_list()


def test_reasons():
    values = pd.DataFrame(
        {"none": [np.nan] * 3, "one": [1, np.nan, np.nan], "two": [1, 2, np.nan], "equal": [1] * 3}
    )
    table = random_effects_meta(values, 0.0 * values.fillna(0) + 0.1)
    assert table["reason"].to_dict() == {
        "none": "no site has an estimate",
        "one": "1 site: the variance between sites needs 2",
        "two": "2 sites: a prediction interval needs 3",
        "equal": "all sites agree exactly: only ci 'hksj-adhoc' and 'normal' have a width",
    }
    assert table["prediction_lower"].isna().all()
    assert table["mean"].to_list()[1:] == pytest.approx([1.0, 1.5, 1.0])
    coefficients = random_effects_meta(values, 0.0 * values.fillna(0) + 0.1, moderators=[0, 1, 3])
    assert "cannot be told apart" in coefficients.loc[("one", "x0"), "reason"]


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"estimates": [1.0, np.inf, 2.0]}, "site 1 has an infinite estimate in the metric 0"),
        ({"standard_errors": [1.0, 1.0, 0.0]}, "site 2 has a standard error that is not positive"),
        ({"standard_errors": [1.0, 1.0]}, r"shape \(3,\), but standard_errors \(2,\)"),
        ({"scale": "logit"}, "site 0 has 1 in the metric 0: on the scale 'logit' it must be betw"),
        ({"scale": ["log", "log"]}, "scale has 2 values, but there are 1 metrics"),
        ({"scale": "probit"}, "scale is 'probit'; it must be one of"),
        ({"method": "hs"}, "method is 'hs'; it must be one of"),
        ({"ci": "t"}, "ci is 't'; it must be one of"),
        ({"prediction": "t"}, "prediction is 't'; it must be one of"),
        ({"prediction_dof": "k"}, "prediction_dof is 'k'; it must be one of"),
        ({"confidence_level": 95}, "confidence_level is 95"),
        ({"benchmark": "x"}, "benchmark of 0 is 'x'; it must be a number"),
        ({"benchmark": 0.0, "scale": "log"}, "benchmark of 0 is 0.0; it must be a number, above 0"),
        ({"names": ["a", "b"]}, "names has 2 values"),
        ({"at": [1.0]}, "pass moderators too"),
        ({"moderators": [1.0, 1.0, 1.0]}, "repeat each other or are constant"),
        ({"moderators": [1.0, np.nan, 2.0]}, "row 1 of moderators has a missing"),
        ({"moderators": [1.0, 2.0]}, "moderators has 2 rows, but there are 3 sites"),
        ({"moderators": ["a", "b", "c"]}, "moderators must be numbers"),
        ({"moderators": [1.0, 2.0, 4.0], "benchmark": 1.0}, "pass at too"),
        ({"moderators": [1.0, 2.0, 4.0], "prediction": "bootstrap"}, "without moderators only"),
        ({"moderators": [1.0, 2.0, 4.0], "at": [[1.0, 2.0]]}, "at has 2 columns, but mod"),
        ({"estimates": "abc"}, "estimates must be numbers"),
        ({"estimates": []}, "at least one row"),
    ],
)
def test_what_is_refused(change, sentence):
    given = {"estimates": [1.0, 3.0, 2.0], "standard_errors": [1.0, 2.0, 1.0]} | change
    with pytest.raises(ValueError, match=sentence):
        random_effects_meta(given.pop("estimates"), given.pop("standard_errors"), **given)


def test_an_error_names_the_site_of_a_table():
    values, errors = sites()
    errors.loc["site 6", "slope"] = -1.0
    with pytest.raises(ValueError, match=r"site 'site 6' has a standard error .* metric 'slope'"):
        random_effects_meta(values, errors)
