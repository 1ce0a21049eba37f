"""The examples on yes or no, counts and new sites print what their closing remarks claim."""

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = ("site_classifier", "item_responses", "overdispersed_counts", "marginal_conditional")

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run the examples in fast mode; returns the finished processes and their directory."""
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


def test_site_classifier_probabilities(runs):
    text, said = runs[0]["site_classifier"].stdout, remarks("site_classifier")
    names = ("AUC", "within", "Brier", "intercept", "slope", "off")
    ignored, mixed, adapted = (
        dict(zip(names, numbers_after(text, method), strict=True))
        for method in ("site ignored", "mixed model", "after 20 scans")
    )
    assert f"AUC {mixed['AUC']} over all scans, {mixed['within']} within sites" in said
    assert f"off by {mixed['off']}" in said
    assert ignored["slope"] < 0.8 < mixed["slope"] < 1.2
    assert f"too extreme ({ignored['slope']:.2f})" in said
    assert adapted["off"] < 0.6 * mixed["off"]
    assert f"20 to {adapted['off']}" in said
    assert adapted["Brier"] < mixed["Brier"] < ignored["Brier"]
    assert adapted["AUC"] > mixed["AUC"] + 0.03
    assert adapted["within"] == mixed["within"]  # one site's ranks stay


def test_site_classifier_every_site_has_its_row(runs):
    text = runs[0]["site_classifier"].stdout
    table = re.findall(r"^([A-Z_]+) +(\d\.\d\d) +(\d\.\d\d) +(\d\.\d\d) +(\d+)$", text, flags=re.M)
    assert len(table) == 17
    assert sum(int(row[-1]) for row in table) == 1101
    found, before, after = map(float, {row[0]: row[1:4] for row in table}["STANFORD"])
    assert found - before > 0.4
    assert before < after < found


def test_item_responses_people_and_items(runs):
    text, said = runs[0]["item_responses"].stdout, remarks("item_responses")
    # R: glmer(r2 ~ 1 + (1 | id) + (1 | item), VerbAgg, binomial)
    people, items = re.search(r"people (\d\.\d+), items (\d\.\d+); mean -0.16", text).groups()
    assert f"(sd {people}) than items ({items})" in said
    easiest, hardest = (numbers_after(text, item) for item in ("S2WantCurse", "S3DoShout"))
    assert f"{easiest[0]:.0%}".replace("%", " %") + " say yes to the easiest" in said
    assert f"{hardest[0]:.0%}".replace("%", " %") + " to the hardest" in said
    assert f"with {easiest[1]} and {hardest[1]}" in said
    for share, typical, low, high in (easiest, hardest):
        assert low < typical < high
        assert abs(typical - 0.5) > abs(share - 0.5)


def test_item_responses_design(runs):
    text, said = runs[0]["item_responses"].stdout, remarks("item_responses")
    # R: exp(fixef(glmer(r2 ~ mode + situ + btype + Anger + Gender + (1 | id) + (1 | item), ...)))
    odds = {"do": 0.49, "self_to_blame": 0.35, "scold": 0.35, "shout": 0.12, "Anger": 1.06}
    for name, value in odds.items():
        assert numbers_after(text, name) == [value]
    for what, sentence in (("items", "from {} to {}"), ("people", "({} before, {} after)")):
        before, after = re.search(rf"{what}: (\d\.\d\d) before, (\d\.\d\d) after", text).groups()
        assert sentence.format(before, after) in said


def test_item_responses_log_loss(runs):
    text, said = runs[0]["item_responses"].stdout, remarks("item_responses")
    known, _, item, both = (
        numbers_after(text, f"{a} person, {b} item")
        for b, a in (("known", "known"), ("known", "new"), ("new", "known"), ("new", "new"))
    )
    assert known[2] == pytest.approx(known[1], abs=0.003)
    assert item[2] < item[1] - 0.05
    assert f"log loss from 0.61 to {item[2]:.2f}" in said
    assert both[1] > both[0] - 0.01
    assert both[2] < both[0] - 0.05


def test_overdispersed_counts_fits(runs):
    text, said = runs[0]["overdispersed_counts"].stdout, remarks("overdispersed_counts")
    part = text.split("\n2. ")[0]
    # R: glmer(TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | LOCATION) + (1 | INDEX), poisson)
    chicks = numbers_after(part, "with chicks")
    assert chicks == [0.09, 1794.54, 0.75, 0.54, 0.53]
    nb2 = numbers_after(part, "nb2")
    assert f"(sd {chicks[3]}) or a dispersion of {nb2[2]:.2f}" in said
    assert f"nb2 is {chicks[1] - nb2[1]:.0f} lower in AIC" in said
    steps = [numbers_after(part, name)[1] for name in ("Poisson", "with broods", "with chicks")]
    assert min(a - b for a, b in pairwise(steps)) > 100


def test_overdispersed_counts_left_out(runs):
    text, said = runs[0]["overdispersed_counts"].stdout, remarks("overdispersed_counts")
    chicks, places = text.split("\n2. ")[1].split("new places")
    plain, broods, rows, nb2 = (
        numbers_after(chicks.replace("new chicks", ""), name)
        for name in ("Poisson", "with broods", "with chicks", "nb2")
    )
    assert f"right for {plain[0]:.0f} %" in said
    assert abs(broods[0] - 84) <= 2  # 84 in the remarks, of ten folds
    assert 94 <= min(rows[0], nb2[0]) <= max(rows[0], nb2[0]) <= 97
    assert plain[2] > 2 > broods[2] > 1.4 > 1.2 > max(rows[2], nb2[2]) > 0.9
    assert max(broods[1], rows[1], nb2[1]) - min(broods[1], rows[1], nb2[1]) < 0.15
    assert numbers_after(places, "with broods")[0] == pytest.approx(92, abs=2)


def test_marginal_conditional_slopes(runs):
    text, said = runs[0]["marginal_conditional"].stdout, remarks("marginal_conditional")
    ratios = [f"{(1 + 0.346 * sd**2) ** -0.5:.2f}" for sd in (0.3, 1.0, 3.0)]
    assert f"{ratios[0]}, {ratios[1]} and {ratios[2]}" in said
    for sd, ratio in zip((0.3, 1.0, 3.0), map(float, ratios), strict=True):
        found, slope, ignored = numbers_after(text, str(sd))
        assert found == pytest.approx(sd, rel=0.15)
        assert slope == pytest.approx(1, abs=0.08)
        assert ignored == pytest.approx(ratio, abs=0.08)


def test_marginal_conditional_calibration(runs):
    text = runs[0]["marginal_conditional"].stdout.split("\n2. ")[1]
    said = remarks("marginal_conditional")
    for sd, typical_slope in ((0.3, 0.97), (1.0, 0.85), (3.0, 0.47)):
        part = text[text.index(f"{sd} ") :]
        typical, average, known = (
            numbers_after(part.replace(f"{sd} ", "", 1), rows)
            for rows in ("new sites, as typical", "new sites, average", "known sites")
        )
        assert typical[2] == pytest.approx(typical_slope, abs=0.04)
        assert average[2] == pytest.approx(1, abs=0.06)
        assert average[0] == pytest.approx(average[1], abs=0.02)
        assert known[2] == pytest.approx(0.975, abs=0.03)
    assert typical[1] - typical[0] > 0.06  # at sd 3 too few are expected
    assert "with a slope of 0.85 and 0.47" in said


def test_readme_quotes_the_benchmark():
    table = (ROOT / "benchmarks" / "results" / "calibration.md").read_text(encoding="utf-8")
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    typical, average = (
        float(re.search(rf"sd 3 \| {prediction} \| (\d\.\d+) ", table)[1])
        for prediction in ("effect zero", "averaged")
    )
    assert f"its calibration slope is {typical:.2f}, that of the average {average:.2f}" in readme
