"""The example from R to Python runs without warnings and prints what R prints."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("formulaic")

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "plot_r_to_python.py"


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What the example prints, by the number of its part."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-W", "default", SCRIPT],
        cwd=tmp_path_factory.mktemp("example"),
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return dict(enumerate(re.split(r"^\d\. .+\n", done.stdout, flags=re.MULTILINE)))


def numbers(text):
    return [float(n) for n in re.findall(r"(?<![\w.(])-?\d+\.?\d*(?:e-?\d+)?(?![\w)])", text)]


def line(text, label):
    """Numbers behind a label on the first line that starts with it."""
    found = re.search(rf"^{re.escape(label)}(.*)$", text, flags=re.MULTILINE)
    assert found, f"no line {label!r} in\n{text}"
    return numbers(found[1])


# The numbers of R 4.2 with lme4 1.1-31, lmerTest 3.1-3 and performance 0.10.2, rounded as the
# example rounds them; m <- lmer(Reaction ~ Days + (Days | Subject), sleepstudy).
def test_the_model_is_that_of_r(printed):
    text = printed[3]
    assert line(text, "logLik(m):") == [-871.8141]
    assert line(text, "sigma(m):") == [25.5918]
    # as.data.frame(VarCorr(m)): vcov and sdcor
    assert line(text, "Subject  (Intercept)")[:2] == [612.090, 24.740]
    assert line(text, "         Days")[:2] == [35.072, 5.922]
    assert line(text, "                     (Intercept)")[:2] == [9.604, 0.066]
    assert line(text, "Residual")[:2] == [654.941, 25.592]
    # as.data.frame(ranef(m)): condval and condsd; coef(m)$Subject
    assert line(text, "309     (Intercept)")[:2] == [-40.399, 12.071]
    assert line(text.split("309 ")[1], "        Days")[:2] == [-8.620, 2.305]
    assert line(text.split("coef(m)$Subject")[1], "309") == [211.007, 1.848]


def test_shares_of_the_variance_are_those_of_r(printed):
    # performance::r2(m); performance::icc(m)
    assert line(printed[3], "marginal") == [0.2787]
    assert line(printed[3], "conditional") == [0.7992]
    assert line(printed[3].split("icc(m)")[1], "Subject ") == [0.7217, 0.5206]


def test_tests_of_coefficients_are_those_of_r(printed):
    # library(lmerTest); coef(summary(m))
    table, terms = printed[4].split("anova(m)")
    assert line(table, "(Intercept)") == [251.41, 6.8246, 17, 36.838, 1.1709e-17]
    assert line(table, "Days") == [10.467, 1.5458, 17, 6.7715, 3.2638e-06]
    # anova(m)
    assert line(terms, "sum_of_squares") == [30031]
    assert line(terms, "denominator_dof") == [17]
    assert line(terms, "statistic") == [45.853]
    assert line(terms, "p_value") == [3.2638e-06]


# confint(m, oldNames = FALSE), and bias and standard error of bootMer(m, ..., nsim = 1000)
@pytest.mark.parametrize(
    "name, interval, bias, error",
    [
        ("(Intercept)", [237.68, 265.13], -0.16, 6.79),
        ("Days", [7.36, 13.58], 0.04, 1.54),
        ("sd (Intercept)|Subject", [14.38, 37.72], -0.60, 6.03),
        ("sd Days|Subject", [3.80, 8.75], -0.14, 1.27),
        ("cor Days.(Intercept)|Subject", [-0.48, 0.69], 0.06, 0.35),
        ("sigma", [22.90, 28.86], 0.02, 1.45),
    ],
)
def test_intervals_are_those_of_r(printed, name, interval, bias, error):
    likelihood, drawn = printed[4].split("confint(m)")[1].split("bootMer(m)")
    assert line(likelihood, name)[1:] == interval
    _, found_bias, found_error, lower, upper = line(drawn, name)
    assert abs(found_bias - bias) < 4 * error * (1 / 200 + 1 / 1000) ** 0.5
    assert abs(found_error / error - 1) < 0.25  # five standard errors of a sd of 200 draws
    assert lower < upper


def test_predictions_are_those_of_r(printed):
    assert line(printed[6], "predict(m, new):") == [450.33, 356.08]
    assert line(printed[6], "re.form = NA:") == [356.08, 356.08]


def test_the_comparison_of_models_is_that_of_r(printed):
    # anova(lmer(Reaction ~ 1 + (Days | Subject), sleepstudy), m)
    text = printed[5]
    assert line(text, "n_parameters") == [5, 6]
    assert line(text, "aic") == [1785.48, 1763.94]
    assert line(text, "bic") == [1801.44, 1783.1]
    assert line(text, "log_likelihood") == [-887.738, -875.97]
    assert line(text, "statistic") == [23.5365]
    assert line(text, "p_value") == [1.22564e-06]  # R: 1.2256e-06


@pytest.mark.parametrize(
    "formula, expected",
    [
        ("Reaction ~ Days + (1 | Subject)", -897.0393),
        ("Reaction ~ Days + (Days || Subject)", -876.0016),
        ("Reaction ~ poly(Days, 2) + (Days | Subject)", -875.1408),
        ("Reaction ~ factor(Days) + (1 | Subject)", -895.1675),
        ("Reaction ~ I(Days**2) + Days + (1 | Subject)", -896.4719),
        ("log(Reaction) ~ Days + (Days | Subject)", 156.4109),
    ],
)
def test_other_formulas_give_what_r_gives(printed, formula, expected):
    assert line(printed[5], formula) == [expected]


def test_known_people_are_predicted_well(printed):
    assert 0.6 < line(printed[7], "other days of known people: R2")[0] < 0.8
    assert 35 < line(printed[7], "new people: mean absolute error")[0] < 42


def test_the_formula_is_no_other_model(printed):
    assert line(printed[8], "logLik") == [-871.8141]


def test_the_example_is_short():
    code = SCRIPT.read_text(encoding="utf-8").split('"""', 2)[2].splitlines()
    assert sum(bool(row.strip()) and not row.startswith("#") for row in code) < 80
