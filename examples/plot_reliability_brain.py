"""
How many sessions does a brain metric need?
===========================================

A simulated test-retest study: 24 people come for three sessions of eight runs. Three metrics are
read from every run. They vary for different reasons: people differ, which is what a study of people
wants to see; a person differs from session to session; the scanner drifts from run to run in the
same way for all; the rest is noise.

It asks how much of each metric is the person (the G study of generalizability theory), how reliable
the mean over more or fewer sessions and runs is (the D study), and whether the intervals are true.
The script prints its tables and saves a picture, ``reliability_brain.png``, in the current
directory. With ``SKLME_FAST=1`` it repeats less; the remarks at the end are about the full run.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklme import LinearMixedModel
from sklme.reliability import generalizability, generalizability_components

REPEATS = 20 if os.environ.get("SKLME_FAST") == "1" else 300
PARTS = ["person", "person:session", "run", "Residual"]
TRUTH = {
    "thickness": [0.80, 0.02, 0.03, 0.15],  # Variances of a single run, with a total of 1.
    "alpha power": [0.45, 0.30, 0.05, 0.20],
    "connectivity": [0.20, 0.10, 0.05, 0.65],
}
TRUTH = pd.DataFrame(TRUTH, PARTS)
X = pd.MultiIndex.from_product([range(24), range(3), range(8)], names=["person", "session", "run"])
X = X.to_frame(index=False)


def study(metric, rng):
    """The mixed model of new people, sessions, runs and noise; sessions are nested in people."""
    person, session, run, noise = np.sqrt(TRUTH[metric])
    y = person * rng.normal(size=24)[X["person"]] + run * rng.normal(size=8)[X["run"]]
    y += session * rng.normal(size=(24, 3))[X["person"], X["session"]]
    y += noise * rng.normal(size=len(X))
    keys = ["person", ("person", "session"), "run"]
    return LinearMixedModel(keys, fixed_effects=[]).fit(X, y)


# %%
# 1. Who or what varies?
# ----------------------

rng, facets = np.random.default_rng(0), ["session", "run"]
models = {metric: study(metric, rng) for metric in TRUTH}
shares = {m: generalizability_components(f, "person", facets)["share"] for m, f in models.items()}
shares = pd.DataFrame(shares).loc[PARTS]
print("1. Shares of the variance of a single run: true, and estimated by one study\n")
print(pd.concat({"true": TRUTH, "estimated": shares}, axis=1).round(2).to_string())

# %%
# 2. How many sessions and runs?
# ------------------------------
# `phi` is the reliability of the value itself, `g` would be that of the order of people.

plans, phi = {"session": [1, 2, 3, 6, 12], "run": [2, 8, 24]}, ["phi", "phi_lower", "phi_upper"]
plans = {m: generalizability(model, "person", plans)[phi] for m, model in models.items()}
table = pd.concat({m: t.set_axis(["phi", "low", "high"], axis=1) for m, t in plans.items()}, axis=1)
print("\n2. Reliability (phi) of the mean of so many sessions, and runs in each\n")
print(table.loc[[(1, 8), (1, 24), (3, 8), (12, 2)]].round(2).to_string())

# %%
# 3. Three sessions of eight runs, in repeated studies
# ----------------------------------------------------

rows = []
for metric, (person, session, run, noise) in TRUTH.items():
    true = person / (person + session / 3 + run / 8 + noise / 24)
    for _ in range(REPEATS):
        table = generalizability(study(metric, rng), "person", {"session": 3, "run": 8})
        estimate, low, high = table[phi].iloc[0]
        rows.append([metric, true, estimate, high - low, low <= true <= high])
rows = pd.DataFrame(rows, columns=["metric", "true phi", "mean estimate", "width", "inside"])
print(f"\n3. {REPEATS} studies; inside: how often the 95% interval holds the true phi\n")
print(rows.groupby("metric", sort=False).mean().round(2).to_string())

# %%
# The picture: shares, and the way to a reliability of 0.8.

plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
figure, axes = plt.subplots(1, 4, figsize=(13, 4.2), width_ratios=[1.3, 1, 1, 1], layout="tight")
colors = ["#1f5fa8", "#c8553d", "#e0a526", "0.8"]
shares.T[::-1].plot.barh(stacked=True, ax=axes[0], color=colors, width=0.6)
axes[0].set(xlim=(0, 1), xlabel="share of the variance of a run")
axes[0].legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(-0.1, 1.0), fontsize=9)
for axis, (metric, table) in zip(axes[1:], plans.items(), strict=True):
    for runs, color in {2: "0.6", 8: "#1f5fa8", 24: "black"}.items():
        own = table.xs(runs, level="run")
        axis.plot(own["phi"], "o-", color=color, label=f"{runs} runs", ms=5)
    own = table.xs(8, level="run")
    axis.fill_between(own.index, own["phi_lower"], own["phi_upper"], color="#1f5fa8", alpha=0.15)
    axis.axhline(0.8, color="0.3", lw=0.8, ls=":")
    axis.set(ylim=(0, 1.02), xscale="log", xlabel="sessions", title=metric)
    axis.set_xticks([1, 2, 3, 6, 12], [1, 2, 3, 6, 12], minor=False)
    axis.minorticks_off()
axes[1].set_ylabel("reliability (phi); band: 95%, 8 runs")
axes[3].legend(frameon=False, loc="lower right")
figure.savefig("reliability_brain.png")
print(f"\nPicture: {os.path.abspath('reliability_brain.png')}")

# %%
# What the figures say
# --------------------
# - Thickness is the person: one session of eight runs has 0.93. Connectivity is mostly noise: runs
#   help it, and three sessions of eight runs have 0.72 [0.48, 0.87] in this study.
# - Alpha power changes from day to day: 24 runs of one session are no better than eight (0.55 and
#   0.54), whereas the same 24 runs in 12 sessions of two have 0.92.
# - With 24 people the intervals are wide, and they say so: of 300 studies 95% to 97% have the truth
#   inside. A point estimate of 0.78 may stand for 0.57 or 0.90.
