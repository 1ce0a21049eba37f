"""The examples on nonlinear models and doses print what their closing remarks claim."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
NAMES = ("theophylline", "phenobarbital", "warfarin_genotype", "orange_trees", "indomethacin")

pytest.importorskip("matplotlib")

pytestmark = pytest.mark.slow  # whole studies


def run_example(name, directory, fast="1"):
    """An example, by default in fast mode, every warning shown."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    env = os.environ | {"SKLME_FAST": fast, "MPLBACKEND": "Agg", "PYTHONPATH": path}
    command = [sys.executable, "-W", "default", ROOT / "examples" / f"plot_{name}.py"]
    return subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What the fast modes print, run when first asked for."""
    done = {}

    def ask(name):
        if name not in done:
            directory = tmp_path_factory.mktemp(name)
            done[name] = run_example(name, directory), directory / f"{name}.png"
        return done[name][0].stdout

    ask.done = done
    return ask


def remarks(name):
    """Closing remarks of an example as one line of text."""
    source = (ROOT / "examples" / f"plot_{name}.py").read_text(encoding="utf-8")
    return " ".join(source.split("# What the figures say")[1].replace("#", " ").split())


def row(text, label, nth=0):
    """The numbers of a line of a table."""
    lines = re.findall(rf"^ *{re.escape(label)} +(-?\d.*)$", text, flags=re.M)
    return [float(x) for x in re.findall(r"-?\d+\.?\d*", lines[nth])]


@pytest.mark.parametrize("name", NAMES)
def test_runs_without_warnings_and_saves_its_picture(printed, name):
    printed(name)
    done, picture = printed.done[name]
    assert (done.returncode, done.stderr) == (0, "")
    said = re.search(r"^Picture: (.+)$", done.stdout, flags=re.M)[1]
    assert Path(said).samefile(picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000


@pytest.mark.parametrize("name", ["theophylline", "warfarin_genotype"])
def test_picture_of_the_readme_is_small(name):
    path = ROOT / "examples" / "images" / f"{name}.png"
    assert 10_000 < path.stat().st_size <= 120_000


# Theophylline -----------------------------------------------------------------------------------


def test_theophylline_samples_bring_the_dose_closer(printed):
    text = printed("theophylline")
    for subject in (1, 6, 11):
        before, after, by_weight, two, every = row(text, str(subject))
        assert after < before
        assert abs(np.log(two / every)) < abs(np.log(by_weight / every))


def test_theophylline_variances(printed):
    said, text = remarks("theophylline"), printed("theophylline")
    sd = {name: row(text, name, 1)[2] for name in ("CL", "V", "KA")}
    assert f"standard deviation of its log {sd['KA']:.2f}), then in clearance" in said
    assert f"({sd['CL']:.2f}) and volume ({sd['V']:.2f})" in said


def test_theophylline_remarks_on_the_full_run(tmp_path):
    text, said = run_example("theophylline", tmp_path, "0").stdout, remarks("theophylline")
    before, after = re.search(r"Mean error (\S+) and (\S+) mg/l", text).groups()
    far, near = re.search(r"doses off by (\d+)% and (\d+)%", text).groups()
    assert f"from {before} to {after} mg/l" in said
    assert f"from {far} % to {near} % off" in said
    doses = [row(text, f"{name}")[0] for name in ("weight alone", "two samples", "all samples")]
    assert "dose would be {:.0f} mg, after two samples {:.0f}, and".format(*doses) in said
    assert f"and after all of them {doses[2]:.0f}" in said
    assert f"probability of {row(text, 'two samples')[2]} that goes" in said
    shares = np.array([[*map(float, line.split()[:3])] for line in re.findall(r"\] +(.+)", text)])
    assert f"{100 * shares[:, 2].min():.0f} to {100 * shares[:, 2].max():.0f} % lie above" in said
    assert f"at most {100 * shares[:, 0].max():.0f} % below" in said


# Phenobarbital ----------------------------------------------------------------------------------


def test_phenobarbital_objective_and_covariates(printed):
    text, said = printed("phenobarbital"), remarks("phenobarbital")
    none, weight, both = (row(text, name) for name in ("none", "weight", "weight, Apgar"))
    assert f"the objective is {both[0]:.3f}" in said
    assert f"clearance from {none[1]:.2f} to {weight[1]:.2f} and that of volume" in said
    assert f"from {none[2]:.2f} to {weight[2]:.2f}." in said
    effect = row(text, "V:low_apgar[True]")
    assert f"{100 * np.expm1(effect[0]):.0f} % more volume, exp({effect[0]})" in said
    low, high = 100 * np.expm1(effect[3:5])
    assert f"the interval, {low:.0f} % to {high:.0f} %" in said
    assert f"shrinkage is {row(text, 'CL', 1)[3]:.0f} %" in said


def test_phenobarbital_doses(printed):
    text, said = printed("phenobarbital"), remarks("phenobarbital")
    doses = np.array([row(text, w) for w in ("0.8", "1.2", "1.6", "2.0", "3.0")])
    ratio = doses[:, 0] / np.array([0.8, 1.2, 1.6, 2.0, 3.0])
    assert ratio == pytest.approx(ratio[0], rel=0.01)  # exponents are 1
    before, first = row(text, "covariates", 1), row(text, "first 1")
    assert f"rises from {before[0]:.0f} to {first[0]:.0f} mg" in said
    assert before[3] == first[3]
    assert np.log(first[2] / first[1]) < 0.7 * np.log(before[2] / before[1])


def test_phenobarbital_forecasts_on_the_full_run(tmp_path):
    text, said = run_example("phenobarbital", tmp_path, "0").stdout, remarks("phenobarbital")
    assert f"off by {100 * row(text, 'covariates')[1]:.0f} % on average" in said
    assert f"by {100 * row(text, 'sample')[1]:.0f} % once the first sample is known" in said


# Warfarin ---------------------------------------------------------------------------------------


def test_warfarin_truth_is_found(printed):
    text = printed("warfarin_genotype").split("\n2. ")[0]
    names = [re.match(r"(\S+) +\d", line) for line in text.splitlines()]
    rows = [row(text, match[1]) for match in names if match]
    assert len(rows) == 9
    inside = sum(lower <= truth <= upper for truth, _, lower, upper, *_ in rows)
    assert inside == 8
    assert "eight of the nine intervals hold the truth" in remarks("warfarin_genotype")


def test_warfarin_doses(printed):
    text, said = printed("warfarin_genotype"), remarks("warfarin_genotype")
    second, third = text.split("\n2. ")[1].split("\n3. ")
    table = np.array(
        [row(second, f"*{g}") for g in ("1/*1", "1/*2", "1/*3", "2/*2", "2/*3", "3/*3")]
    )
    assert np.abs(table[:, :3] - table[:, 3:]).max() < 0.35
    assert (np.diff(table[:, :3], axis=1) > 0).all()
    slow, common = row(third, "*3/*3"), row(third, "*1/*1")
    assert slow[3] < 0.02 < 0.7 < common[3]
    assert common[1] > 0.8 and slow[1] > 0.8
    far, near = (int(x) for x in re.findall(r"no sample +(\d+)%", third)[::-1])
    assert far > 2 * near
    assert "from 64 % off to 24 %" in said


def test_warfarin_remarks_on_the_full_run(tmp_path):
    text = run_example("warfarin_genotype", tmp_path, "0").stdout
    said = remarks("warfarin_genotype")
    third = text.split("\n3. ")[1]
    chance = {g: row(third, f"*{g}")[3] for g in ("1/*1", "1/*2", "2/*3", "3/*3")}
    assert f"probability of {chance['1/*1']:.2f} and {chance['1/*2']:.2f}" in said
    assert f"for *2/*3 with {chance['2/*3']:.2f}, and for *3/*3 never" in said
    assert chance["3/*3"] == 0
    near, far, *two = re.findall(r"samples? +(\d+)%", third)
    assert f"from {far} % off to {near} %" in said
    assert two == ["6", "6"]


# Orange trees and indomethacin ------------------------------------------------------------------


def test_orange_trees(printed):
    text, said = printed("orange_trees"), remarks("orange_trees")
    size, half = row(text, "final"), row(text, "half_age")
    assert f"ends at {size[0]:.0f} mm ({size[3]:.0f} to {size[4]:.0f})" in said
    assert f"after {half[0]:.0f} days" in said
    criteria = {name: row(text.split("\n2. ")[1], name) for name in ("no difference", "final")}
    none, one = criteria.values()
    assert f"the AIC from {none[1]} to {one[1]:.1f}" in said
    assert f"falls from {none[2]} to {one[2]} mm" in said
    third = text.split("\n3. ")[1]
    before, two, four = (row(third, n) for n in "024")
    assert four[0] < two[0] < before[0] and four[1] < two[1] < before[1]


def test_orange_trees_forecasts_on_the_full_run(tmp_path):
    text, said = run_example("orange_trees", tmp_path, "0").stdout, remarks("orange_trees")
    before, _, four = (row(text.split("\n3. ")[1], n) for n in "024")
    assert f"from {before[0]:.0f} to {four[0]:.0f} mm, and the interval" in said
    assert f"from {before[1]:.0f} to {four[1]:.0f} mm" in said
    assert f"in {100 * before[2]:.0f} to {100 * four[2]:.0f} %" in said


def test_indomethacin(printed):
    text, said = printed("indomethacin"), remarks("indomethacin")
    one, two = (row(text, "proportional", nth)[1] for nth in (0, 1))
    additive = row(text, "two compartments additive")[1]
    assert f"The AIC agrees: {two:.1f} instead of {one:.1f}" in said
    assert f"is higher by {additive - two:.0f}" in said
    fast, slow = re.search(r"from the compartments +(\S+) and (\S+)", text).groups()
    half = np.log(2) / np.array([float(fast), float(slow)])
    assert f"{half[0]:.1f} and {half[1]:.1f} hours" in said
    assert f"(shrinkage {row(text, 'V', 1)[3]:.0f} %)" in said
    likelihoods = re.search(r"log-likelihood +(\S+) and (\S+)", text).groups()
    assert float(likelihoods[1]) > float(likelihoods[0])
