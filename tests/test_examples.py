"""The examples run from a terminal without a display and say what the README says they say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "plot_new_site.py"

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run the example in its fast mode; returns the finished process and its directory."""
    directory = tmp_path_factory.mktemp("example")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    env = os.environ | {"SKLME_FAST": "1", "MPLBACKEND": "Agg", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, EXAMPLE], cwd=directory, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done, directory


def numbers_after(text, label):
    """Numbers on the first line that starts with `label`, blanks aside."""
    line = re.search(rf"^[ ]*{re.escape(label)}[ ]+([-\d. ]+)$", text, flags=re.MULTILINE)
    assert line, f"no line {label!r} in\n{text}"
    return [float(number) for number in line[1].split()]


def part(text, number):
    """What the example prints from the heading of one part to the next."""
    return re.search(rf"^{number}\. .*?(?=^{number + 1}\. |\Z)", text, flags=re.M | re.S)[0]


def test_runs_without_warnings(run):
    assert "Warning" not in run[0].stderr


def test_scores_at_new_sites(run):
    known, new = part(run[0].stdout, 1).split("new sites", 1)
    r2 = {m: numbers_after(new, m)[0] for m in ("site ignored", "one-hot sites", "mixed model")}
    assert r2["mixed model"] > r2["site ignored"] > r2["one-hot sites"]
    assert numbers_after(known, "mixed model")[0] > r2["mixed model"]


def test_readme_quotes_the_scores(run):
    new = part(run[0].stdout, 1).split("new sites", 1)[1]
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"{numbers_after(new, 'mixed model')[0]} at new ones" in readme
    assert f"and {numbers_after(new, 'one-hot sites')[0]}" in readme


def test_every_site_has_its_row(run):
    table = re.findall(r"^[A-Z_]+ +(\d+)(?: +-?\d\.\d\d){4}$", run[0].stdout, flags=re.MULTILINE)
    assert len(table) == 17
    assert sum(map(int, table)) == 1101


def test_partial_pooling_is_nearer_the_truth(run):
    own, pooled = map(float, re.findall(r"\d\.\d\d", part(run[0].stdout, 2)))
    assert pooled < own


def test_all_metrics_are_compared_by_random_effects(run):
    few, many = (numbers_after(part(run[0].stdout, 3), k) for k in ("5", "20"))
    assert len(few) == len(many) == 6
    assert min(few[3:]) > max(few[1:3])  # new sites are harder


def test_adapting_helps_at_new_sites(run):
    text = part(run[0].stdout, 4)
    for n in (1, 2, 5, 10, 20):
        not_adapted, _, adapted = numbers_after(text, str(n))
        assert adapted < not_adapted
    not_adapted, own_mean, _ = numbers_after(text, "1")
    assert own_mean > not_adapted


def test_picture_lies_where_it_says(run):
    done, directory = run
    path = Path(re.search(r"^Picture: (.+)$", done.stdout, flags=re.MULTILINE)[1])
    assert path.samefile(directory / "new_site.png")
    picture = path.read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert 20_000 < len(picture) < 120_000
