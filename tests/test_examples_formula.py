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


# The numbers of R 4.2 with lme4 1.1-31, rounded as the example rounds them.
def test_the_model_is_that_of_r(printed):
    text = printed[3]
    assert "{'(Intercept)': 251.405, 'Days': 10.467}" in text
    assert line(text, "logLik(m):")[0] == -871.8141
    assert text.splitlines()[2].endswith("sigma(m): 25.5918")
    assert line(text, "VarCorr(m)$Subject:") == [612.09, 9.604, 9.604, 35.072]
    ranef, coef = text.split("head(coef(m)$Subject, 3):")
    assert line(ranef, "309") == [-40.399, -8.620]
    assert line(coef, "309") == [211.007, 1.848]


def test_predictions_are_those_of_r(printed):
    assert line(printed[4], "predict(m, new):") == [450.33, 356.08]
    assert line(printed[4], "re.form = NA:") == [356.08, 356.08]
    known, new = line(printed[4], "standard deviation of 1000 draws:")
    assert known < 35 < 60 < new


def test_the_test_of_days_is_that_of_r(printed):
    assert line(printed[5], "anova(m0, m1):") == [23.537, 1, 1.23e-6]


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
    assert 0.6 < line(printed[6], "other days of known people: R2")[0] < 0.8
    assert 35 < line(printed[6], "new people: mean absolute error")[0] < 42


def test_the_formula_is_no_other_model(printed):
    assert line(printed[7], "logLik") == [-871.8141]


def test_the_example_is_short():
    code = SCRIPT.read_text(encoding="utf-8").split('"""')[2].splitlines()
    assert sum(bool(row.strip()) and not row.startswith("#") for row in code) < 80
