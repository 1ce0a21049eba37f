"""
Stable features: does a retest table help at new hospitals?
===========================================================

Radiomic features are often chosen by a retest: a few patients are scanned twice, and features with
an intraclass correlation (ICC) above 0.75 are kept. Does a model of these features do better at a
hospital that it has never seen? Here all is simulated, so that the truth is known: 100 features of
the patients of ten hospitals. Every feature has noise, which differs from scan to scan; half of
them also shift from scanner to scanner. Three things matter:

1. Who scans: one scanner twice, or two scanners of different hospitals.
2. What is above 0.75: the ICC, or the lower limit of its interval, as 20 patients prove little.
3. What the features are: each has its own meaning, or there are ten of a kind, which measure the
   same and differ only in noise and shift.

The script prints its tables and saves a picture, ``stable_features.png``, in the current directory.
With the environment variable ``SKLME_FAST=1`` it simulates 2 studies instead of 20; the remarks
below are about the full run.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklme.evaluation import cross_site_validate
from sklme.reliability import ReliabilitySelector

N_STUDIES = 2 if os.environ.get("SKLME_FAST") == "1" else 20
N_FEATURES, N_SITES, N_PATIENTS, N_RETEST = 100, 10, 60, 20
NAMES = [f"feature {j}" for j in range(N_FEATURES)]
SCANNERS = {"one scanner": (-1, -1), "two scanners": (-2, -1)}

# %%
# The truth. What a feature measures has variance 1 in patients. By its noise alone it has an ICC
# between 0.4 and 0.99. The outcome depends on a fifth of what is measured. Scanners of the retest
# are none of the ten hospitals.


def simulate(of_a_kind, rng):
    def measure(traits, scanner):
        values = np.repeat(traits, of_a_kind, axis=1) + shifts[scanner]
        return pd.DataFrame(values + noise * rng.normal(size=values.shape), columns=NAMES)

    noise = np.sqrt(1 / rng.uniform(0.4, 0.99, N_FEATURES) - 1)
    shift = rng.choice([0.1, 1], N_FEATURES)
    shifts = shift * rng.normal(size=(N_SITES + 2, N_FEATURES))
    n_traits = N_FEATURES // of_a_kind
    effects = np.sqrt(12.5 / n_traits) * rng.choice([-1, 1], n_traits // 5)
    site = np.repeat(range(N_SITES), N_PATIENTS)
    traits = rng.normal(size=(len(site), n_traits))
    risk = 1 / (1 + np.exp(-traits[:, : len(effects)] @ effects))
    y = (rng.uniform(size=len(site)) < risk).astype(int)
    others, retests = rng.normal(size=(N_RETEST, n_traits)), {}
    for name, pair in SCANNERS.items():
        scans = [measure(others, scanner).rename_axis("patient") for scanner in pair]
        retests[name] = pd.concat(scans, keys=["test", "retest"], names=["scan"]).reset_index()
    return measure(traits, site), y, site, retests, shift


# %%
# A selector is fitted to the retest table and frozen; the rest of the pipeline is fitted to other
# hospitals. Beside it stand all features, also with a strong penalty, which knows of no retest.


def study(of_a_kind, seed):
    X, y, site, retests, shift = simulate(of_a_kind, np.random.default_rng(seed))
    every = pd.Series(True, index=NAMES)
    scaler = StandardScaler()
    models = {
        "all features": (every, make_pipeline(scaler, LogisticRegression())),
        "all, strong penalty": (every, make_pipeline(scaler, LogisticRegression(C=0.01))),
    }
    for name, retest in retests.items():
        for criterion, what in {"estimate": "ICC", "lower": "lower limit"}.items():
            selector = ReliabilitySelector("patient", "scan", criterion=criterion).fit(retest)
            model = make_pipeline(FrozenEstimator(selector), scaler, LogisticRegression())
            models[f"{name}, {what}"] = selector.reliability_["selected"], model
    rows = []
    for name, (kept, model) in models.items():
        found = cross_site_validate(model, X, y, site=site, random_state=0).pooled
        values = {"kept": kept.sum(), "that shift": (kept & (shift == 1)).sum()}
        values |= {"AUC": found["mean"]["roc_auc"], "Brier": found["mean"]["brier"]}
        values |= {"slope": found["mean"]["calibration_slope"]}
        values |= {"level": np.sqrt(found["tau2"]["calibration_intercept"])}
        rows.append({"features": of_a_kind, "model": name} | values)
    return rows


KINDS = {1: "each with its own meaning", 10: "ten of a kind"}
rows = pd.DataFrame([r for k in KINDS for s in range(N_STUDIES) for r in study(k, s)])
groups = rows.groupby(["features", "model"], sort=False)
means, errors = groups.mean(), groups.sem()
print(f"At new hospitals, mean of {N_STUDIES} studies. Level: standard deviation between hospitals")
print("of the calibration intercept (0 is best); slope: calibration slope (1 is best)")
for kind, name in KINDS.items():
    print(f"\n{name}\n{means.loc[kind].round(2).to_string()}")

# %%
# The picture: on the left what the two retests of one study say, on the right AUC and level.

*_, retests, shift = simulate(10, np.random.default_rng(0))
icc = {
    name: ReliabilitySelector("patient", "scan").fit(t).reliability_ for name, t in retests.items()
}
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11})
figure, (left, middle, right) = plt.subplots(
    1, 3, figsize=(12.5, 4.9), width_ratios=[1.15, 1, 1], layout="constrained"
)
blue, red = "#1f5fa8", "#c8553d"
for of, color, label in ((shift < 1, blue, "does not shift"), (shift == 1, red, "shifts")):
    left.scatter(*(table["icc"][of] for table in icc.values()), 26, color, label=label, alpha=0.8)
left.axvline(0.75, color="0.8", zorder=0)
left.axhline(0.75, color="0.8", zorder=0)
left.set(xlabel="ICC of two scans by one scanner", ylabel="ICC of scans by two scanners")
left.set_title("One scanner cannot see a shift", loc="left")
left.legend(loc="upper left", frameon=False)
for ax, metric in ((middle, "AUC"), (right, "level")):
    for kind, color in zip(KINDS, ("0.6", "black"), strict=True):
        value, error = means.loc[kind, metric], errors.loc[kind, metric]
        at = np.arange(len(value)) + (0.12 if kind == 1 else -0.12)
        ax.errorbar(value, at, xerr=2 * error, fmt="o", color=color, label=KINDS[kind])
    ax.set_yticks(range(len(value)), value.index if ax is middle else [])
    ax.invert_yaxis()
right.legend(loc="lower right", frameon=False)
middle.set_title("AUC at new hospitals", loc="left")
right.set_title("Differences of level between them (sd)", loc="left")
right.set_xlim(left=0)
figure.savefig("stable_features.png", dpi=100)
print(f"\nPicture: {os.path.abspath('stable_features.png')}")

# %%
# What the figures say
# --------------------
# - A retest on one scanner finds noise, not shifts: about half of what it keeps shifts, as of all.
#   Scans by two scanners leave 7 of 50 features that shift.
# - Fewer features that shift make new hospitals more alike: with ten of a kind the level differs by
#   0.58 between them instead of 1.57, and the Brier score falls from 0.25 to 0.20.
# - Selection costs what the dropped features alone knew. With ten of a kind that is little, and
#   the AUC rises from 0.75 to 0.78 as less noise is fitted. Where each has its own meaning it falls
#   from 0.69 to 0.61.
# - The lower limit is strict with 20 patients: of two scanners it keeps 8 or 9 features, and AUC is
#   lost in both cases. It guards against luck, and does not make up for a small retest.
# - A strong penalty on all features, without any retest, has the best AUC (0.69 and 0.80) and Brier
#   score in both cases, and levels that differ by 0.38 and 0.26. Performance at new sites does not
#   need a retest; what a feature means when it changes in a patient does.
