"""The examples on new sites and stable features print what their closing remarks claim."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]

pytest.importorskip("matplotlib")

pytestmark = pytest.mark.slow  # whole studies; the first command of the README runs one of them


def run_example(name, directory, *arguments, fast="1"):
    """An example, by default in fast mode, every warning shown."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    env = os.environ | {"SKLME_FAST": fast, "MPLBACKEND": "Agg", "PYTHONPATH": path}
    command = [sys.executable, "-W", "default", ROOT / "examples" / f"plot_{name}.py", *arguments]
    return subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True)


def fixture_of(name):
    @pytest.fixture(scope="module")
    def run(tmp_path_factory):
        directory = tmp_path_factory.mktemp(name)
        done = run_example(name, directory)
        assert done.returncode == 0, done.stderr
        return done, directory

    return run


brain = fixture_of("cross_site")
stable = fixture_of("stable_features")


def part(text, number):
    """What is printed from the heading of one part to the next."""
    return re.search(rf"^{number}\. .*?(?=^{number + 1}\. |\Z)", text, flags=re.M | re.S)[0]


def cells(text, label):
    """Rows (mean, lower, upper) of the cells of a line, "0.77 [0.39, 0.95]"."""
    line = re.search(rf"^{re.escape(label)} +(.+)$", text, flags=re.M)[1]
    number = r"(-?\d+\.\d+)"
    found = re.findall(rf"{number} \[{number}, {number}\]", line)
    return np.array(found, dtype=float)


def remarks(name):
    """Closing remarks of an example as one line of text."""
    source = (ROOT / "examples" / f"plot_{name}.py").read_text(encoding="utf-8")
    return " ".join(source.split("# What the figures say")[1].replace("#", " ").split())


def check_picture(done, path):
    said = re.search(r"^Picture: ([^,\n]+)", done.stdout, flags=re.M)[1]
    assert Path(said).samefile(path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 20_000


@pytest.mark.parametrize("name", ["cross_site", "stable_features"])
def test_picture_of_the_readme_is_small(name):
    path = ROOT / "examples" / "images" / f"{name}.png"
    assert 10_000 < path.stat().st_size <= 120_000


# The multi-site study ---------------------------------------------------------------------------


def test_cross_site_runs_without_warnings(brain):
    assert brain[0].stderr == ""


def test_cross_site_random_folds_and_new_sites(brain):
    text, said = part(brain[0].stdout, 1), remarks("cross_site")
    all_rows = re.search(r"^roc_auc, all rows +(.+)$", text, flags=re.M)[1].split()
    _, random, plain, mixed = all_rows
    assert f"promise an AUC of {random}" in said
    assert f"over all rows {mixed}, that of the plain one {plain}" in said
    assert float(random) > float(mixed) > float(plain)
    _, within_random, _, within = cells(text, "roc_auc")
    assert f"Within a site it is {within_random[0]} there and {within[0]} at new sites" in said
    assert f"anything from {within[1]} to {within[2]}" in said
    _, random, plain, mixed = cells(text, "calibration_intercept")
    assert f"intercepts of {random[1]} to {random[2]}" in said
    assert f"they lie between {mixed[1]} and {mixed[2]}" in said
    odds = np.exp(np.abs(mixed[1:])).round().astype(int)
    assert f"off by a factor of {odds[0]} one way, {odds[1]} the other" in said
    assert np.ptp(mixed[1:]) < np.ptp(plain[1:])


def test_cross_site_summary(brain):
    text = part(brain[0].stdout, 2)
    assert re.search(r"^  AUC +0\.77 +0\.67 to 0\.85 +0\.39 to 0\.95 .*13/17$", text, flags=re.M)
    assert "CALTECH (2), CMU (4), OHSU (1)" in text


def test_cross_site_cases_of_the_new_site(brain):
    text = part(brain[0].stdout, 3)
    for model in ("plain, recalibrated", "mixed, adapted"):
        table = text[text.index(model) :]
        ratio = cells(table, "oe_ratio")
        width = np.log(ratio[:, 2] / ratio[:, 1])
        assert width[1] < 0.8 * width[0]
        brier = cells(table, "brier")
        assert brier[2, 0] < brier[0, 0]
        auc = cells(table, "roc_auc")
        assert (auc[0] == auc[1]).all()


def test_cross_site_remarks_on_the_full_run(tmp_path):
    done, said = run_example("cross_site", tmp_path, fast="0"), remarks("cross_site")
    ratio = cells(part(done.stdout, 3).split("mixed, adapted")[1], "oe_ratio")
    none, ten = ratio[0], ratio[1]
    assert f"expected from {none[1]} to {none[2]} down to {ten[1]} to {ten[2]}" in said


def test_cross_site_told_by_the_features(brain):
    share, chance = re.findall(r"(\d+)%", part(brain[0].stdout, 4))
    assert f"give away the site in {share} % of the rows" in remarks("cross_site")
    assert int(chance) == round(100 / 17)


def test_cross_site_picture_and_pages(brain):
    done, directory = brain
    check_picture(done, directory / "cross_site.png")
    for name in ("cross_site", "cross_site_local"):
        page = (directory / f"{name}.html").read_text(encoding="utf-8")
        assert page.lower().startswith("<!doctype html>")
        assert "STANFORD" in page and "new site" in page


@pytest.fixture(scope="module")
def hospitals():
    """Two visits of 240 patients at six hospitals; what a and b say, and noise."""
    rng = np.random.default_rng(5)
    patient = np.repeat(np.arange(240), 2)
    hospital = np.repeat(rng.integers(1, 7, 240), 2)
    X = rng.normal(size=(480, 3)) + rng.normal(size=(7, 3))[hospital] / 2
    risk = X[:, 0] - X[:, 1] + rng.normal(size=7)[hospital]
    died = rng.uniform(size=480) < 1 / (1 + np.exp(-risk))
    table = pd.DataFrame(X, columns=["a", "b", "c"])
    table["ward"], table["version"] = np.where(X[:, 2] > 0, "x", "y"), 3
    table["death"], table["days"] = np.where(died, "yes", "no"), 20 - risk + rng.normal(size=480)
    table = table.assign(hospital=hospital, patient=patient)
    table.loc[7, "a"] = np.nan
    table.loc[[1, 2], "death"] = None
    return table


def test_own_table_with_two_classes(hospitals, tmp_path):
    hospitals.to_csv(tmp_path / "table.csv", index=False)
    options = ["--site", "hospital", "--outcome", "death", "--patient", "patient"]
    done = run_example("cross_site", tmp_path, "table.csv", *options, "--without", "days")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("478 rows of 6 sites, 3 features\nLeft out: 2 rows without ")
    unused = re.search(r"^Columns not used .*: (.+)$", done.stdout, flags=re.M)[1]
    assert unused.split(", ") == ["ward", "version", "days"]
    assert len(cells(part(done.stdout, 1), "roc_auc")) == 4
    check_picture(done, tmp_path / "cross_site.png")
    assert (tmp_path / "cross_site.html").exists()


def test_own_table_with_a_number_and_small_sites(hospitals, tmp_path):
    small = hospitals.groupby("hospital").head(18).drop(columns=["death", "patient"])
    small.to_csv(tmp_path / "table.csv", index=False)
    done = run_example("cross_site", tmp_path, "table.csv", "--site", "hospital", "--outcome=days")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(cells(part(done.stdout, 1), "r2")) == 4
    assert len(cells(part(done.stdout, 3), "rmse")) == 1  # no site can give 10 of its rows
    check_picture(done, tmp_path / "cross_site.png")


def test_own_table_with_a_wrong_column(hospitals, tmp_path):
    hospitals.head(9).to_csv(tmp_path / "table.csv", index=False)
    done = run_example("cross_site", tmp_path, "table.csv", "--outcome", "death")
    assert done.returncode == 2
    assert "the table has no column 'site', but a, b, c, ward" in done.stderr


# Stable features --------------------------------------------------------------------------------


def rows_of(text, kind):
    """Model -> its numbers, in the part of one kind of features."""
    found = re.findall(r"^(\w[\w, ]+?) +((?:-?\d+\.\d+ *){6})$", text.split(kind)[1], flags=re.M)
    names = ("kept", "shifting", "auc", "brier", "slope", "level")
    return {
        model: dict(zip(names, map(float, numbers.split()), strict=True))
        for model, numbers in found[:6]
    }


def test_stable_features_runs_without_warnings(stable):
    assert stable[0].stderr == ""


def test_stable_features_what_a_retest_sees(stable):
    for kind in ("each with its own meaning", "ten of a kind"):
        rows = rows_of(stable[0].stdout, kind)
        assert len(rows) == 6
        one, two = rows["one scanner, ICC"], rows["two scanners, ICC"]
        assert 0.35 < one["shifting"] / one["kept"] < 0.65
        assert two["shifting"] / two["kept"] < 0.35
        for scanners in ("one scanner", "two scanners"):
            strict = rows[f"{scanners}, lower limit"]
            assert strict["kept"] < 0.6 * rows[f"{scanners}, ICC"]["kept"]


def test_stable_features_performance(stable):
    alone, alike = (rows_of(stable[0].stdout, k) for k in ("own meaning", "ten of a kind"))
    assert alone["two scanners, ICC"]["auc"] < alone["all features"]["auc"] - 0.04
    assert alike["two scanners, ICC"]["brier"] < alike["all features"]["brier"] - 0.02
    for rows in (alone, alike):
        assert rows["two scanners, ICC"]["level"] < 0.7 * rows["all features"]["level"]
        best = rows["all, strong penalty"]
        assert best["auc"] >= max(r["auc"] for r in rows.values()) - 0.01
        assert best["brier"] == min(r["brier"] for r in rows.values())


def test_stable_features_picture(stable):
    check_picture(stable[0], stable[1] / "stable_features.png")


def test_stable_features_remarks_on_the_full_run(tmp_path):
    done, said = run_example("stable_features", tmp_path, fast="0"), remarks("stable_features")
    alone, alike = (rows_of(done.stdout, kind) for kind in ("own meaning", "ten of a kind"))
    two, every, best = "two scanners, ICC", "all features", "all, strong penalty"
    assert f"by {alike[two]['level']} between them instead of {alike[every]['level']}" in said
    assert f"falls from {alike[every]['brier']:.2f} to {alike[two]['brier']:.2f}" in said
    assert f"rises from {alike[every]['auc']} to {alike[two]['auc']}" in said
    assert f"falls from {alone[every]['auc']} to {alone[two]['auc']}" in said
    assert f"({alone[best]['auc']:.2f} and {alike[best]['auc']:.2f})" in said
    assert f"differ by {alone[best]['level']} and {alike[best]['level']}" in said
