"""The examples on slopes, growth and many features print what their closing remarks claim."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = ("sleepstudy", "growth", "many_features")

pytest.importorskip("matplotlib")
pytest.importorskip("formulaic")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run the three examples in fast mode; returns the finished processes and their directory."""
    directory = tmp_path_factory.mktemp("examples")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    env = os.environ | {"SKLME_FAST": "1", "MPLBACKEND": "Agg", "PYTHONPATH": path}
    done = {}
    for name in NAMES:
        script = ROOT / "examples" / f"plot_{name}.py"
        command = [sys.executable, "-W", "default", script]
        done[name] = subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True)
        assert done[name].returncode == 0, done[name].stderr
    return done, directory


def numbers_after(text, label):
    """Numbers on the first line that starts with `label`, blanks aside."""
    line = re.search(rf"^[ ]*{re.escape(label)}[ ]+(.+)$", text, flags=re.MULTILINE)
    assert line, f"no line {label!r} in\n{text}"
    return [float(number) for number in re.findall(r"(?<![\w.])-?\d+\.?\d*", line[1])]


def remarks(name):
    """Closing remarks of an example as one line of text."""
    source = (ROOT / "examples" / f"plot_{name}.py").read_text(encoding="utf-8")
    return " ".join(source.split("# What the figures say")[1].replace("#", " ").split())


@pytest.mark.parametrize("name", NAMES)
def test_runs_without_warnings(runs, name):
    assert "Warning" not in runs[0][name].stderr


@pytest.mark.parametrize("name", NAMES)
def test_picture_lies_where_it_says(runs, name):
    path = Path(re.search(r"^Picture: (.+)$", runs[0][name].stdout, flags=re.MULTILINE)[1])
    assert path.samefile(runs[1] / f"{name}.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 20_000


def test_sleepstudy_differences_of_people(runs):
    text, said = runs[0]["sleepstudy"].stdout, remarks("sleepstudy")
    *_, sd, correlation = numbers_after(text, "Subject: Days")
    assert f"deviation of {sd:.1f} ms a day" in said
    assert f"(correlation {correlation})" in said
    assert f"mean of {numbers_after(text, 'Days')[0]:.1f}" in said


def test_sleepstudy_correlations(runs):
    text, said = runs[0]["sleepstudy"].stdout, remarks("sleepstudy")
    late, early, far = (numbers_after(text, pair) for pair in ("(8, 9)", "(0, 1)", "(0, 9)"))
    assert late[1] > early[1] > far[1]
    assert late[2] == early[2] == far[2]
    assert f"says {early[2]} for every pair" in said
    assert f"({early[0]} against {early[1]} for days 0 and 1)" in " ".join(said.split())
    first, last = re.search(r"(\d+) and (\d+) ms observed", text).groups()
    assert f"{last} ms between people on day 9, {first} on day 0" in said


def test_sleepstudy_partial_pooling_is_best_for_new_people(runs):
    text, said = runs[0]["sleepstudy"].stdout, remarks("sleepstudy")
    errors = {n: numbers_after(text.split("\n3. ")[1], str(n)) for n in (2, 3, 4, 5, 6, 8)}
    assert all(partial < min(none, complete) for none, complete, partial in errors.values())
    none, _, partial = errors[2]
    assert f"({none:.0f} ms against {partial:.0f})" in said
    none, complete, partial = errors[6]
    assert none < complete
    assert f"({none:.0f} against {complete:.0f}), and partial pooling ({partial:.0f})" in said


def test_growth_of_jaws(runs):
    text, said = runs[0]["growth"].stdout, remarks("growth")
    # R: lmer(distance ~ age * Sex + (age | Subject), Orthodont), lmerTest
    found = numbers_after(text, "age:Sex[T.Male]")
    assert found == [0.305, 0.135, 25.0, 0.033, 0.027, 0.582]
    assert "by 0.30 mm a year more" in said  # 0.3048
    assert f"standard error of 0.13: p = {found[3]}" in said  # 0.1347
    ratio, p = re.search(
        r"Likelihood ratio of the interaction: ([\d.]+), p = ([\d.]+)", text
    ).groups()
    assert (ratio, p) == ("5.03", "0.025")  # R: anova(m0, m)
    assert f"{ratio}, p = {p}" in said


def test_growth_marginal_means(runs):
    text, said = runs[0]["growth"].stdout, remarks("growth")
    # R: L %*% fixef(m) and sqrt(diag(L %*% vcov(m) %*% t(L))) with rows (1, age, male, age * male)
    means = {"Female": [21.21, 0.63, 24.09, 0.69], "Male": [22.62, 0.53, 27.32, 0.57]}
    for sex, (young, young_error, old, old_error) in means.items():
        assert numbers_after(text, f"{sex}    8")[:2] == [young, young_error]
        assert numbers_after(text, f"{sex}   14")[:2] == [old, old_error]
    young, old = (numbers_after(text, f"{age} Female - Male") for age in (8, 14))
    assert young[:2] == [-1.407, 0.825]
    assert old[:2] == [-3.236, 0.898]
    assert f"{-young[0]:.1f} mm ahead at age 8" in said
    assert f"(p = {young[3]}), and {-old[0]:.1f} mm at 14" in said


def test_growth_gives_back_the_truth(runs):
    text = runs[0]["growth"].stdout.split("\n2. ")[1]
    names = ("years", "disorder", "disorder x years", "variance of levels", "variance of slopes")
    for name in (*names, "residual variance"):
        truth, mean, spread = numbers_after(text, name)
        assert abs(mean - truth) < 4 * spread / 60**0.5, name


def test_growth_standard_error_without_the_slope(runs):
    text, said = runs[0]["growth"].stdout, remarks("growth")
    plain = numbers_after(text, "intercept only")
    slope = numbers_after(text, "random slope")
    assert plain[:2] == slope[:2]  # estimates and their spread
    assert abs(plain[2] - 0.53) <= 0.01  # of 60 studies here, of 400 in the remarks
    assert "0.53 where the estimates spread by 0.76" in said
    assert abs(slope[2] - slope[1]) < 0.1
    assert plain[3] > 10 > slope[3]


def test_many_features_shares(runs):
    text, said = runs[0]["many_features"].stdout, remarks("many_features")
    assert re.search(r"(\d+ of 65 metrics vary more between sites than within)", text)[1] in said
    snrd = [numbers_after(text, f"snrd_{part}") for part in ("gm", "wm", "csf", "total")]
    assert f"have {min(s[0] for s in snrd)} to {max(s[0] for s in snrd)} between" in said
    assert f"and {min(s[1] for s in snrd)} to {max(s[2] for s in snrd):.2f} when any" in said
    assert min(s[3] for s in snrd) > 0.99
    fwhm = [numbers_after(text, f"fwhm_{part}")[0] for part in ("x", "y", "z", "avg")]
    assert f"{min(fwhm)} to {max(fwhm)}" in said


def test_many_features_voxels_and_one_site(runs):
    text, said = runs[0]["many_features"].stdout, remarks("many_features")
    white, grey = (numbers_after(text, f"summary_{m}_n")[3] for m in ("wm", "gm"))
    assert f"{white:.0%} of the variance between sites remains for white" in said
    assert f"and {grey:.0%} for grey" in said
    median = numbers_after(text, "summary_bg_median")
    assert re.search(r"summary_bg_median.* UM ", text)
    assert f"has {median[0]} with UM and {median[2]} without" in said


def test_many_features_one_call_against_a_loop(runs):
    text, said = runs[0]["many_features"].stdout, remarks("many_features")
    times, apart = re.search(r"more than (\d+) times .*at most ([\d.e-]+)", text).groups()
    assert int(times) >= 2  # 50 on a quiet machine; 1 if the call were a loop inside
    assert float(apart) < 1e-8
    spreads = [
        numbers_after(text, f"(0.{a}, 0.{a + 2}]" if a else "(0.0, 0.2]") for a in (0, 2, 4, 6)
    ]
    for true, mean, spread in spreads:
        assert abs(mean - true) < 0.03
        assert 0.04 <= spread <= 0.09
    assert "error of 0.04 to 0.09" in said
