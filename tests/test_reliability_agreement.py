"""Limits of agreement: Bland and Altman's cardiac data, classical formulas, simulations."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats

from sklme import LinearMixedModel
from sklme.reliability import agreement_limits

# Bland and Altman (1999), table 4: cardiac output by radionuclide ventriculography and impedance
# cardiography, pairs of twelve subjects.
CARDIAC = """
1,7.83,6.57 1,7.42,5.62 1,7.89,6.9 1,7.12,6.57 1,7.88,6.35 2,6.16,4.06 2,7.26,4.29 2,6.71,4.26
2,6.54,4.09 3,4.75,4.71 3,5.24,5.5 3,4.86,5.08 3,4.78,5.02 3,6.05,6.01 3,5.42,5.67 4,4.21,4.14
4,3.61,4.2 4,3.72,4.61 4,3.87,4.68 4,3.92,5.04 5,3.13,3.03 5,2.98,2.86 5,2.85,2.77 5,3.17,2.46
5,3.09,2.32 5,3.12,2.43 6,5.92,5.9 6,6.42,5.81 6,5.92,5.7 6,6.27,5.76 7,7.13,5.09 7,6.62,4.63
7,6.58,4.61 7,6.93,5.09 8,4.54,4.72 8,4.81,4.61 8,5.11,4.36 8,5.29,4.2 8,5.39,4.36 8,5.57,4.2
9,4.48,3.17 9,4.92,3.12 9,3.97,2.96 10,4.22,4.35 10,4.65,4.62 10,4.74,3.16 10,4.44,3.53
10,4.5,3.53 11,6.78,7.2 11,6.07,6.09 11,6.52,7.0 11,6.42,7.1 11,6.41,7.4 11,5.76,6.8 12,5.06,4.5
12,4.72,4.2 12,4.9,3.8 12,4.8,3.8 12,4.9,4.2 12,5.1,4.5
"""


@pytest.fixture(scope="module")
def cardiac():
    wide = pd.DataFrame([r.split(",") for r in CARDIAC.split()], columns=["subject", "RV", "IC"])
    wide = wide.astype({"subject": int, "RV": float, "IC": float}).assign(occasion=range(60))
    return wide.melt(["subject", "occasion"], var_name="method", value_name="y")


def simulate(rng, n, sizes, tau=1.0, sds=(0.7, 0.4), occasion=0.0, bias=2.0):
    """Measurements of n subjects by methods A and B, `sizes` (low, high) replicates."""
    parts = []
    changes = rng.normal(0, occasion, (n, 10))
    count = rng.integers(sizes[0], sizes[1] + 1, n)
    a = rng.normal(10, 5, n)
    for method, sd, shift in zip("AB", sds, (bias, 0.0), strict=True):
        center = a + shift + rng.normal(0, tau / np.sqrt(2), n)
        s = np.repeat(np.arange(n), count)
        r = np.concatenate([np.arange(k) for k in count])
        y = center[s] + changes[s, r] + rng.normal(0, sd, len(s))
        parts.append(pd.DataFrame({"subject": s, "method": method, "replicate": r, "y": y}))
    return pd.concat(parts, ignore_index=True)


def limits(data, **options):
    return agreement_limits(data["y"], data["method"], data["subject"], **options)


def test_unequal_replicates_are_those_of_bland_and_altman(cardiac):
    """Their sec. 5.2: variances within subjects 0.1072 and 0.1379, bias 0.71, sd 1.05."""
    row = limits(cardiac).loc[("RV", "IC")]
    assert_allclose([row["sd_first"] ** 2, row["sd_second"] ** 2], [0.1072, 0.1379], atol=5e-5)
    assert_allclose([row["bias"], row["sd"]], [0.7092, 1.0519], atol=5e-5)
    assert_allclose([row["lower_limit"], row["upper_limit"]], [-1.35, 2.77], atol=0.005)
    assert (row["design"], row["n_subjects"], row["status"]) == ("exchangeable", 12, "ok")


def test_the_model_of_carstensen_finds_nearly_the_same(cardiac):
    """R, nlme 3.1: lme(y ~ subject + method, random = list(subject = pdIdent(~ method - 1)),
    weights = varIdent(form = ~ 1 | method)); REML and moments differ where data are unbalanced."""
    row = limits(cardiac).iloc[0]
    assert_allclose(row["bias"], 0.7025, atol=0.01)
    assert_allclose(row["sd_interaction"], np.sqrt(2 * 0.42773), rtol=0.01)
    assert_allclose([row["sd_first"], row["sd_second"]], [0.32751, 0.32751 * 1.13399], rtol=1e-3)


def test_linked_replicates_of_the_cardiac_data(cardiac):
    """The variance of pairs within subjects is 0.1707; Bland and Altman (2007) have the same."""
    row = limits(cardiac, replicate=cardiac["occasion"]).iloc[0]
    assert row["design"] == "linked"
    within = row["sd_first"] ** 2 + row["sd_second"] ** 2
    assert_allclose(within, 0.17071, atol=1e-5)
    assert_allclose(row["sd"] ** 2, within + row["sd_interaction"] ** 2)
    assert_allclose(row["sd_first"] ** 2 + row["sd_replicate"] ** 2, 0.1072, atol=5e-5)


def test_single_measurements_are_the_classical_analysis(cardiac):
    first = cardiac.drop_duplicates(["subject", "method"])
    row = limits(first).iloc[0]
    wide = first.pivot(index="subject", columns="method", values="y")
    d = wide["RV"] - wide["IC"]
    assert_allclose(row["bias"], d.mean())
    assert_allclose(
        [row["lower_limit"], row["upper_limit"]], d.mean() + np.array([-1, 1]) * d.std() * 1.959964
    )
    low, high = stats.t.interval(0.95, 11, d.mean(), d.std() / np.sqrt(12))
    assert_allclose([row["bias_lower"], row["bias_upper"]], [low, high])
    assert row[["sd_first", "sd_interaction", "repeatability_second"]].isna().all()
    line = stats.linregress(wide.mean(axis=1), d)
    assert_allclose([row["slope"], row["slope_pvalue"]], [line.slope, line.pvalue])


def test_exact_limits_are_tolerance_factors():
    """The outer end is a one-sided normal tolerance factor: k = 2.911, n = 10, 95 %, of 95 %."""
    rng = np.random.default_rng(0)
    data = simulate(rng, 10, (1, 1))
    row = limits(data, coverage=0.9, confidence_level=0.9).iloc[0]
    assert_allclose((row["upper_limit_upper"] - row["bias"]) / row["sd"], 2.911, atol=5e-4)
    assert_allclose((row["bias"] - row["lower_limit_lower"]) / row["sd"], 2.911, atol=5e-4)


def test_balanced_replicates_are_reml():
    """Of two methods with the same variance the mixed model has the same components."""
    data = simulate(np.random.default_rng(1), 30, (3, 3), sds=(0.5, 0.5))
    row = limits(data).iloc[0]
    X = data[["subject", "method"]].assign(A=(data["method"] == "A").astype(float))
    keys = ["subject", ("subject", "method")]
    model = LinearMixedModel(keys, fixed_effects=["A"]).fit(X, data["y"])
    assert_allclose(row["bias"], model.coef_[0], rtol=1e-8)
    interaction = model.covariance_["subject", "method"].item()
    assert_allclose(row["sd_interaction"] ** 2, 2 * interaction, rtol=1e-5)
    pooled = (row["sd_first"] ** 2 + row["sd_second"] ** 2) / 2
    assert_allclose(pooled, model.residual_variance_, rtol=1e-6)


def test_balanced_linked_replicates_are_reml_of_the_differences():
    data = simulate(np.random.default_rng(2), 25, (4, 4), occasion=2.0)
    row = limits(data, replicate=data["replicate"]).iloc[0]
    wide = data.pivot(index=["subject", "replicate"], columns="method", values="y").reset_index()
    model = LinearMixedModel("subject").fit(wide[["subject"]], wide["A"] - wide["B"])
    assert_allclose(row["bias"], model.intercept_)
    assert_allclose(row["sd_interaction"] ** 2, model.covariance_["subject"].item(), rtol=1e-5)
    assert_allclose(row["sd_first"] ** 2 + row["sd_second"] ** 2, model.residual_variance_)
    assert 1.5 < row["sd_replicate"] < 2.5
    assert limits(data)["sd_first"].item() > 1.5  # taken as exchangeable, occasions are noise


def test_truth_is_found():
    data = simulate(np.random.default_rng(3), 4000, (2, 4), tau=1.0, sds=(0.7, 0.4))
    row = limits(data).iloc[0]
    sd = np.sqrt(1.0 + 0.49 + 0.16)
    found = row[["bias", "sd", "sd_interaction", "sd_first", "sd_second", "upper_limit"]]
    assert_allclose(found.astype(float), [2.0, sd, 1.0, 0.7, 0.4, 2 + 1.96 * sd], rtol=0.03)
    assert_allclose(row["repeatability_first"], 1.96 * np.sqrt(2) * 0.7, rtol=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("sizes, linked", [((2, 4), False), ((2, 5), True), ((1, 1), False)])
def test_intervals_cover(sizes, linked):
    rng, n, sd = np.random.default_rng(4), 300, np.sqrt(1 + 0.49 + 0.16)
    truth = np.array([2.0, 2.0 - 1.959964 * sd, 2.0 + 1.959964 * sd])
    names = ["bias", "lower_limit", "upper_limit"]
    outside = np.zeros((2, 3))
    for _ in range(n):
        data = simulate(rng, 15, sizes, occasion=float(linked))
        row = limits(data, replicate=data["replicate"] if linked else None).iloc[0]
        outside[0] += row[[f"{name}_lower" for name in names]].to_numpy(float) > truth
        outside[1] += row[[f"{name}_upper" for name in names]].to_numpy(float) < truth
    assert (outside / n < 0.055).all()  # 0.025 and three standard errors


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 100), st.booleans(), st.floats(0.01, 100.0))
def test_order_and_unit_do_not_matter(seed, linked, scale):
    rng = np.random.default_rng(seed)
    data = simulate(rng, 8, (1, 3))
    options = {"replicate": data["replicate"]} if linked else {}
    row = limits(data, **options).iloc[0]
    mixed = data.iloc[rng.permutation(len(data))].assign(y=lambda t: 3.0 - scale * t["y"])
    options = {"replicate": mixed["replicate"]} if linked else {}
    other = limits(mixed, **options).iloc[0]
    sign = 1.0 if limits(mixed, **options).index[0] == ("A", "B") else -1.0
    assert_allclose(other["bias"], -sign * scale * row["bias"], atol=1e-9 * scale)
    assert_allclose(other["sd"], scale * row["sd"])
    width = "upper_limit_upper"
    ends = ["lower_limit_lower", width] if sign > 0 else [width, "lower_limit_lower"]
    mirrored = -sign * scale * row[width]
    assert_allclose(other[ends[0]], mirrored, rtol=1e-6, atol=1e-9 * scale)


def test_three_methods_make_three_pairs():
    data = simulate(np.random.default_rng(5), 10, (2, 2))
    third = data[data["method"] == "B"].assign(method="C", y=lambda t: t["y"] + 1)
    data = pd.concat([third, data], ignore_index=True)
    table = limits(data)
    assert list(table.index) == [("C", "A"), ("C", "B"), ("A", "B")]
    assert_allclose(table["bias"]["C", "B"], 1.0)
    pd.testing.assert_frame_equal(table.loc[[("A", "B")]], limits(data[data["method"] != "C"]))


def test_one_method_without_repeats():
    data = simulate(np.random.default_rng(6), 12, (3, 3))
    data = data[(data["method"] == "A") | (data["replicate"] == 0)]
    row = limits(data).iloc[0]
    assert row[["sd_second", "sd_interaction"]].isna().all()
    wide = data.groupby(["subject", "method"])["y"].mean().unstack()
    own = data[data["method"] == "A"].groupby("subject")["y"].var().mean()
    assert_allclose(row["sd"] ** 2, (wide["A"] - wide["B"]).var() + own * 2 / 3)


def test_what_is_not_used_is_counted():
    data = simulate(np.random.default_rng(7), 6, (2, 2))
    data = data.drop([0])  # one measurement of subject 0 by A
    assert limits(data)["n_left_out"].item() == 0
    assert limits(data, replicate=data["replicate"])["n_left_out"].item() == 1
    assert limits(data[(data["method"] == "B") | (data["subject"] < 4)])["n_left_out"].item() == 4


def test_too_few_subjects_are_a_row_with_a_reason():
    data = simulate(np.random.default_rng(8), 3, (2, 2))
    table = limits(data[(data["method"] == "A") | (data["subject"] == 0)])
    row = table.iloc[0]
    assert (row["status"], row["n_subjects"]) == ("not estimable", 1)
    assert row["reason"] == "1 subject measured by both methods, at least 2 are needed"
    assert np.isnan(row["bias"])


@pytest.mark.parametrize(
    "change, options, message",
    [
        ({"y": np.nan}, {}, "y is missing or infinite in row 3"),
        ({"subject": np.nan}, {}, "subject has a missing id .* in row 3"),
        ({}, {"replicates": "linked"}, "linked replicates need replicate"),
        ({}, {"replicate": "r", "replicates": "exchangeable"}, "replicate is given, but"),
        ({}, {"replicate": "zero"}, 'row 1 repeats method "A", subject 0, replicate 0'),
        ({}, {"coverage": 0.0}, "coverage is 0.0"),
        ({}, {"replicates": "paired"}, "replicates is 'paired'"),
    ],
)
def test_bad_input_is_named(change, options, message):
    data = simulate(np.random.default_rng(9), 5, (2, 2)).astype({"subject": float})
    for column, value in change.items():
        data.loc[3, column] = value
    replicate = {"r": data["replicate"], "zero": np.zeros(len(data), int)}
    if "replicate" in options:
        options = {**options, "replicate": replicate[options["replicate"]]}
    with pytest.raises(ValueError, match=message):
        limits(data, **options)


def test_one_method_is_refused():
    with pytest.raises(ValueError, match='method has one value, "A"'):
        agreement_limits([1.0, 2.0], ["A", "A"], [1, 2])
    with pytest.raises(ValueError, match=r"subject has the shape \(3,\), but y has 2 rows"):
        agreement_limits([1.0, 2.0], ["A", "B"], [1, 2, 3])
