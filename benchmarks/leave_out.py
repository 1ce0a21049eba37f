"""Leaving every group out in turn: one call of sklme against the loop of fits.

    python benchmarks/leave_out.py            # a minute or two
    python benchmarks/leave_out.py --quick    # seconds, a trial

One thread, the median of three runs of each call; a loop of fits is run once, and where it would
take long a part of the folds stands for all. Both predict the rows of every group by a fit to the
others, and the largest difference between the two is printed.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy starts its threads

import numpy as np
import pandas as pd

from sklme import LinearMixedModel
from sklme.inference import group_influence, leave_one_group_out

SLOPES = {"g": ["1", "x"]}
LOOPED = 200  # folds of the loop that are timed at most


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a twentieth of the groups")
    share = 0.05 if parser.parse_args().quick else 1
    cases = {
        "1000 groups of 10 to 30 rows, slopes": (SLOPES, *by_group(int(1000 * share), False)),
        "1000 groups of 20 rows, slopes": (SLOPES, *by_group(int(1000 * share), True)),
        "200 x 100 crossed levels, 20 000 rows": (["g", "h"], *crossed(int(200 * share), 100)),
    }
    row = "{:<40}{:>9}{:>9}{:>9}{:>11}{:>10}{:>9}{:>12}"
    heads = ("seconds", "fit", "refit", "frozen", "influence", "loop", "factor", "difference")
    print(row.format(*heads))
    for name, case in cases.items():
        print(row.format(name, *map("{:.3g}".format, measure(*case))), flush=True)


def measure(random_effects, X, y):
    """Seconds of a fit, of the three calls and of the loop; loop over call; largest difference."""
    model = LinearMixedModel(random_effects)
    fit = seconds(lambda: model.fit(X, y))
    calls = [
        lambda: leave_one_group_out(model, "g", X, y),
        lambda: leave_one_group_out(model, "g", X, y, theta="frozen"),
        lambda: group_influence(model, "g", X, y),
    ]
    times = [seconds(call) for call in calls]
    found = leave_one_group_out(model, "g", X, y)["prediction"].to_numpy()
    looped, difference = loop(model, X, y, found)
    return fit, *times, looped, looped / times[0], difference


def loop(model, X, y, found):
    """Seconds of a fit for each fold, and how far its predictions are from those found."""
    levels = X["g"].unique()
    few, worst, start = levels[:LOOPED], 0.0, time.perf_counter()
    for level in few:
        own = (X["g"] == level).to_numpy()
        expected = LinearMixedModel(model.random_effects).fit(X[~own], y[~own]).predict(X[own])
        worst = max(worst, np.abs(found[own] - expected).max())
    return (time.perf_counter() - start) * len(levels) / len(few), worst


def seconds(call, times=3):
    """The median of a few runs."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def by_group(n_groups, balanced):
    rng = np.random.default_rng(0)
    sizes = np.full(n_groups, 20) if balanced else rng.integers(10, 31, n_groups)
    g = np.repeat(np.arange(n_groups), sizes)
    x = np.tile(np.linspace(0, 1, 20), n_groups) if balanced else rng.normal(size=len(g))
    b = rng.normal(size=(n_groups, 2)) @ np.array([[1.0, 0.3], [0, 0.6]])
    w = rng.normal(size=n_groups)[g]
    y = 1 + 2 * x + 0.5 * w + b[g, 0] + b[g, 1] * x + rng.normal(size=len(g))
    return pd.DataFrame({"g": g, "x": x, "w": w}), y


def crossed(n_g, n_h):
    rng = np.random.default_rng(1)
    n = 100 * n_g
    X = pd.DataFrame({"g": rng.integers(0, n_g, n), "h": rng.integers(0, n_h, n)})
    X["x"] = rng.normal(size=n)
    effects = rng.normal(size=n_g)[X["g"]] + 0.7 * rng.normal(size=n_h)[X["h"]]
    return X, (effects + X["x"] + rng.normal(size=n)).to_numpy()


if __name__ == "__main__":
    main()
