"""The example on the choice of random effects prints what R prints and what its remarks claim."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "plot_which_effects.py"
CHANCE = 4 * (0.05 * 0.95 / 60) ** 0.5  # four standard errors of a rate of 5% in 60 data sets


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What the example prints in fast mode, and its directory."""
    directory = tmp_path_factory.mktemp("example")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-W", "default", SCRIPT],
        cwd=directory,
        env=os.environ | {"SKLME_FAST": "1", "MPLBACKEND": "Agg", "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return done.stdout, directory


@pytest.fixture(scope="module")
def printed(run):
    """The tables by the number of their part; the last one is 6."""
    return dict(enumerate(re.split(r"^(?:\d\. |All views ).+\n", run[0], flags=re.MULTILINE)))


@pytest.fixture(scope="module")
def said():
    text = SCRIPT.read_text(encoding="utf-8").split("# What the figures say")[1]
    return " ".join(text.replace("#", " ").split())


def numbers(text, label, after=""):
    """Numbers of the first line that begins with a label, behind some other text."""
    text = text[text.index(after) :]
    found = re.search(rf"^ *{re.escape(label)}  +(.+)$", text, flags=re.MULTILINE)
    assert found, f"no line {label!r} in\n{text}"
    return [float(n) for n in re.findall(r"(?<![\w.])-?\d+\.?\d*(?:e-?\d+)?", found[1])]


# R 4.2 with lme4 1.1-31: logLik(lm(...), REML = TRUE) for "none" and AIC of lmer of
# Reaction ~ Days with (1|Subject), (Days||Subject), (Days|Subject); strength ~ 1 with (1|batch),
# (1|sample), (1|batch) + (1|sample), where a sample is a cask of a batch
@pytest.mark.parametrize(
    "table, name, expected",
    [
        ("sleepstudy", "sleepstudy none", [3, -946.83, 1899.66]),
        ("sleepstudy", "level", [4, -893.23, 1794.47]),
        ("sleepstudy", "level, slope", [5, -871.83, 1753.67]),
        ("sleepstudy", "correlated", [6, -871.81, 1755.63]),
        ("pastes", "pastes     none", [2, -155.09, 314.18]),
        ("pastes", "batch", [3, -150.80, 307.60]),
        ("pastes", "cask", [3, -123.82, 253.65]),
        ("pastes", "batch, cask", [4, -123.50, 254.99]),
    ],
)
def test_likelihoods_are_those_of_r(printed, table, name, expected):
    assert numbers(printed[1], name, after=table) == expected


# R: anova(small, large, refit = FALSE): Chisq and Pr(>Chisq)
@pytest.mark.parametrize(
    "question, ratio, p",
    [
        ("people: slope", 42.8, 6.08e-11),
        ("people: correlation", 0.041, 0.839),
        ("pastes: batch", 0.658, 0.417),
        ("pastes: cask", 54.6, 1.47e-13),
    ],
)
def test_likelihood_ratios_are_those_of_r(printed, question, ratio, p):
    found = numbers(printed[2], question)
    assert found[:2] == [ratio, p]
    half = 1.0 if question == "people: correlation" else 0.5
    assert found[2] == pytest.approx(half * p, rel=0.01)


def test_the_exact_test_is_used_where_it_exists(printed):
    assert numbers(printed[2], "people: level")[2] == 0.0001
    assert re.search(r"people: level .* exact$", printed[2], flags=re.MULTILINE)


# R: confint(m, oldNames = FALSE)
@pytest.mark.parametrize(
    "table, name, interval",
    [
        ("sleepstudy", "sd Days|Subject", [3.80, 8.75]),
        ("sleepstudy", "cor Days.(Intercept)|Subject", [-0.48, 0.69]),
        ("pastes", "sd (Intercept)|batch", [0.00, 2.95]),
        ("pastes", "sd (Intercept)|batch:cask", [2.16, 4.05]),
        ("pastes", "sigma", [0.65, 1.09]),
    ],
)
def test_intervals_are_those_of_r(printed, table, name, interval):
    assert numbers(printed[3], name, after=table)[1:] == interval


def test_remarks_on_tests_and_intervals(printed, said):
    low, high = numbers(printed[3], "cor Days.(Intercept)|Subject")[1:]
    assert f"from {low} to {high}, p = {numbers(printed[2], 'people: correlation')[2]}" in said
    assert f"(p = {numbers(printed[2], 'pastes: batch')[2]}" in said
    assert f"from 0 to {numbers(printed[3], 'sd (Intercept)|batch')[2]}" in said


def test_the_best_prediction_depends_on_the_question(printed, said):
    names = ("none", "level", "level, slope", "correlated")
    day, three, new = zip(*(numbers(printed[4], name) for name in names), strict=True)
    assert f"({day[2]} against {day[1]} ms)" in said
    assert f"({three[2]} against {three[1]})" in said
    assert min(day) == day[2]
    assert min(three) == three[1]
    assert set(new) == {38.2}
    assert numbers(printed[6], "level, slope")[1:5] == [1753.7, day[2], three[2], new[2]]
    assert f"{new[0]} ms" in said


def test_a_slope_that_is_left_out_makes_tests_wrong(printed):
    rate, error, spread = numbers(printed[5], "level")
    assert rate > 0.2  # 0.33 in 400 data sets
    assert error == pytest.approx(0.79, abs=0.02)
    assert spread > 1.25
    for truth, name in (("differ", "level, slope"), ("alike", "level"), ("alike", "level, slope")):
        rate, error, spread = numbers(printed[5], name, after=f"slopes {truth}")
        assert abs(rate - 0.05) < CHANCE
        assert abs(error / spread - 1) < 4 / (2 * 60) ** 0.5


def test_picture_lies_where_it_says(run):
    path = Path(re.search(r"^Picture: (.+)$", run[0], flags=re.MULTILINE)[1])
    assert path.samefile(run[1] / "which_effects.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 20_000


def test_the_example_is_short():
    code = SCRIPT.read_text(encoding="utf-8").split('"""', 2)[2].splitlines()
    assert sum(bool(row.strip()) and not row.startswith("#") for row in code) <= 110
