"""The examples of nested and crossed data run without warnings and print what they claim."""

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ("neurons", "electrodes", "classrooms")
ANALYSES = ("all trials", "neuron averages", "animal averages", "nested model")

pytest.importorskip("matplotlib")


@cache
def run(name):
    """Output of an example in its fast mode, and the head and size of the picture it saves."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    env = os.environ | {"SKLME_FAST": "1", "MPLBACKEND": "Agg", "PYTHONPATH": path}
    script = ROOT / "examples" / f"plot_{name}.py"
    with TemporaryDirectory() as directory:
        done = subprocess.run(
            [sys.executable, script], cwd=directory, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
        said = Path(re.search(r"^Picture: (.+)$", done.stdout, flags=re.MULTILINE)[1])
        picture = said.read_bytes()
        assert said.samefile(Path(directory) / f"{name}.png")
    return done.stdout, picture[:4], len(picture)


def numbers(text, label):
    """Numbers on the first line that starts with `label`; percent signs do not matter."""
    line = re.search(rf"^ *{re.escape(label)} +([-\d. %]+)$", text, flags=re.MULTILINE)
    assert line, f"no line {label!r} in\n{text}"
    return [float(number) for number in line[1].replace("%", "").split()]


def remarks(name):
    """The closing comments of an example as one line of text."""
    text = (ROOT / "examples" / f"plot_{name}.py").read_text(encoding="utf-8")
    lines = text.split("# What the figures say")[1].splitlines()
    return " ".join(" ".join(line.lstrip("# ") for line in lines).split())


@pytest.mark.parametrize("name", EXAMPLES)
def test_runs_and_saves_its_picture(name):
    _, head, size = run(name)
    assert head == b"\x89PNG"
    assert 20_000 < size < 200_000


def test_neurons_variances_are_near_the_truth():
    text = run("neurons")[0]
    for level, truth, tolerance in (("animal", 1, 0.4), ("neuron", 4, 0.3), ("trial", 16, 0.3)):
        said, share, _, mean = numbers(text, level)
        assert said == truth
        assert share == round(100 * truth / 21)
        assert abs(mean - truth) < tolerance
    assert f"{numbers(text, 'animal')[2]} in the first" in remarks("neurons")


def test_neurons_only_some_intervals_hold():
    drug, arousal = run("neurons")[0].split("missed if normal")[1].split("arousal", 1)
    drug = {name: numbers(drug.replace("drug", ""), name) for name in ANALYSES}
    arousal = {name: numbers(arousal, name) for name in ANALYSES}
    assert drug["all trials"][2] > 55
    assert 20 < drug["neuron averages"][2] < 55
    for name in ANALYSES[2:]:
        error, said, missed, normal = drug[name]
        assert missed < 15
        assert normal >= missed
        assert abs(said / error - 1) < 0.25
    assert arousal["animal averages"][0] > 50 * arousal["nested model"][0]
    assert f"they say {drug['all trials'][1]} and" in remarks("neurons")


def test_electrodes_standard_deviations_are_near_the_truth():
    text = run("electrodes")[0]
    truths = {"subject": 2, "rare by subject": 1.5, "electrode": 1.5, "trial": 6}
    for label, truth in truths.items():
        said, mean = numbers(text, label)
        assert said == truth
        assert abs(mean / truth - 1) < 0.15


def test_electrodes_effect_needs_the_slope():
    text = run("electrodes")[0]
    said, error = numbers(text, "crossed intercepts")
    assert said < 0.7 * error
    assert f"a model says {said}" in remarks("electrodes")
    assert numbers(text, "and slope by subject")[0] == pytest.approx(0.38, abs=0.02)


def test_electrodes_with_few_trials_gain_from_pooling():
    text = run("electrodes")[0]
    raw, model, trials = numbers(text, "good")
    assert raw == pytest.approx(model, abs=0.05)
    assert trials == pytest.approx(190, abs=5)
    raw, model, trials = numbers(text, "most trials lost")
    assert raw > 1.5 > model
    assert trials == pytest.approx(10, abs=1)


def test_electrodes_new_subjects_are_learned():
    text = run("electrodes")[0].split("3. Typical")[1]
    last = None
    for n in (1, 2, 4, 8, 16, 32, 64):
        not_adapted, own_mean, adapted, said, inside = numbers(text, str(n))
        assert adapted < min(own_mean, not_adapted, last or not_adapted)
        assert said == pytest.approx(adapted, rel=0.1)
        assert inside == pytest.approx(0.95, abs=0.01)
        assert n == 8 or (own_mean > not_adapted) == (n < 8)
        last = adapted


def test_classrooms_share_of_each_level():
    text, said = run("classrooms")[0], remarks("classrooms")
    authority, school, pupil = (numbers(text, k) for k in ("authority", "school", "pupil"))
    assert f"({school[2]:.0f}%)" in said
    assert f"({authority[2]:.0f}%)" in said
    for level in (authority, school, pupil):
        assert f"{level[4]:.0f}%" in said
    together = numbers(text, "together")
    assert f"{school[1]} of {together[1]} or {school[3]:.0f}%" in said


def test_classrooms_trap_of_the_numbers():
    text, said = run("classrooms")[0], remarks("classrooms")
    assert "lea and number are partly crossed (2410 of 13100 pairs occur)" in text
    assert "lea:number is nested in lea" in text
    trap = numbers(text, "['lea', 'number']")
    right = numbers(text, "['lea', ('lea', 'number')]")
    assert f"finds {trap[1]} instead of {right[1]}" in said
    assert f"lower by {right[3] - trap[3]:.0f}" in said
    assert right[:3] == [numbers(text, k)[1] for k in ("authority", "school", "pupil")]


def test_classrooms_scores():
    text = run("classrooms")[0]
    ignored, mixed = numbers(text, "schools ignored"), numbers(text, "mixed model")
    assert mixed[0] == pytest.approx(0.504, abs=0.01)  # fewer folds leave fewer pupils to learn
    assert ignored[0] == pytest.approx(0.438, abs=0.003)
    assert 0 < ignored[1] - mixed[1] < 0.01


def test_classrooms_best_schools():
    text, said = run("classrooms")[0], remarks("classrooms")
    before, after = re.search(r"before: (\d+), also after: (\d+)", text).groups()
    assert f"of the {before} in the best tenth {after} remain" in said
