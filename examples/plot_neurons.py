"""
Trials of neurons of animals: what averages hide and what single rows pretend
=============================================================================

A simulated experiment. Half of 10 animals get a drug. In each animal some neurons are recorded, in
each neuron some trials; every trial has a response and a level of arousal, measured by the pupil.
Responses differ between animals, between neurons of an animal and from trial to trial. In truth the
drug does nothing, and arousal adds 0.5 to the response.

Four analyses of the same rows ask what the drug and arousal do: all trials as if independent, one
average for each neuron, one average for each animal, and the nested model. The experiment is
repeated with new animals, so that their answers can be held against the truth.

The script prints two tables and saves a picture, ``neurons.png``, in the current directory. With
the environment variable ``SKLME_FAST=1`` it repeats less; the remarks are about the full run.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import stats

from sklme import LinearMixedModel

REPEATS = 30 if os.environ.get("SKLME_FAST") == "1" else 200
SD = {"animal": 1.0, "neuron": 2.0, "trial": 4.0}
TRUTH = {"drug": 0.0, "arousal": 0.5}

# %%
# An experiment: 3 to 30 neurons an animal, 5 to 40 trials a neuron. Neurons are numbered from 1 in
# every animal, as they come from the recording.


def experiment(rng):
    neurons = rng.integers(3, 31, 10)
    X = pd.DataFrame({"animal": np.repeat(np.arange(10), neurons)})
    X["neuron"] = X.groupby("animal").cumcount() + 1
    X["drug"] = X["animal"] // 5
    y = SD["animal"] * rng.normal(size=10)[X["animal"]] + SD["neuron"] * rng.normal(size=len(X))
    rows = np.repeat(np.arange(len(X)), rng.integers(5, 41, len(X)))
    X = X.iloc[rows].reset_index(drop=True).assign(arousal=rng.normal(size=len(rows)))
    y = 10 + y[rows] + TRUTH["arousal"] * X["arousal"] + SD["trial"] * rng.normal(size=len(rows))
    return X, y.rename("response")


# %%
# The four analyses. Without random effects the model is least squares. The pair of columns
# ``("animal", "neuron")`` is the neuron: number 3 of one animal is not number 3 of another.
# Standard errors are read off the summary. Intervals take the degrees of freedom of a t-test: rows
# minus 3, and in the nested model, for the drug, animals minus 2, since animals got the drug.

ANIMAL, NEURON = "animal", ("animal", "neuron")
analyses = {"all trials": None, "neuron averages": NEURON, "animal averages": [ANIMAL]}
analyses["nested model"] = None  # Nothing is averaged here either.


def analyse(X, y, name):
    if by := analyses[name]:
        table = X.assign(response=y).groupby(list(by)).mean().reset_index()
        X, y = table.drop(columns="response"), table["response"]
    nested = name == "nested model"
    model = LinearMixedModel([ANIMAL, NEURON] if nested else None, fixed_effects=list(TRUTH))
    lines = [line.split() for line in model.fit(X, y).summary().splitlines() if line]
    found = [[name, *map(float, words[1:3])] for words in lines if (name := words[0]) in TRUTH]
    dof = {"drug": X["animal"].nunique() - 2 if nested else len(X) - 3, "arousal": len(X) - 3}
    return model, [[*values, dof[values[0]]] for values in found]


rows, variances = [], []
for seed in range(REPEATS):
    X, y = experiment(np.random.default_rng(seed))
    for name in analyses:
        model, found = analyse(X, y, name)
        rows += [[seed, name, *values] for values in found]
    parts = [model.covariance_[key].item() for key in (ANIMAL, NEURON)]
    spread = y.groupby([X["drug"], X["animal"]]).mean().groupby("drug").var().mean()
    variances.append([*parts, model.residual_variance_, spread])

# %%
# Where the variance is: animals, neurons, trials
# -----------------------------------------------

variances, truth = pd.DataFrame(variances, columns=[*SD, "averages"]), pd.Series(SD) ** 2
table = pd.DataFrame({"truth": truth, "% of all": (100 * truth / truth.sum()).round()})
table = table.assign(first=variances.iloc[0], mean=variances.mean()).round(2)
print(f"Simulated, {REPEATS} experiments. Variance by level: truth, estimate of the first")
print(f"experiment, mean of all estimates\n\n{table.to_string()}")
print(f"\nVariance of the averages of animals on the same drug: {variances['averages'].mean():.2f}")

# %%
# What is said of the drug and of arousal
# ---------------------------------------

found = pd.DataFrame(rows, columns=["seed", "analysis", "effect", "estimate", "error", "dof"])
found["off"] = found["estimate"] - found["effect"].map(TRUTH)
found["half"] = found["error"] * stats.t.ppf(0.975, found["dof"])
found["missed"] = found["off"].abs() > found["half"]
found["missed if normal"] = found["off"].abs() > 1.96 * found["error"]
by = found.groupby(["effect", "analysis"], sort=False)
report = pd.DataFrame({"error in fact": by["off"].agg(lambda off: (off**2).mean() ** 0.5)})
report["standard error said"] = by["error"].mean()
for name in ("missed", "missed if normal"):
    report[name] = (100 * by[name].mean()).map("{:.0f}%".format)
print("\nEffect of the drug (truth: 0) and of arousal (truth: 0.5); 95% intervals that miss it\n")
print(report.round(2).loc[list(TRUTH)].to_string())

# %%
# The picture: one experiment, and what the analyses say of the drug in the first 40.

X, y = experiment(np.random.default_rng(0))
one = X.assign(y=y).groupby([*NEURON, "drug"])["y"].agg(["mean", "size"]).reset_index()
figure, axes = plt.subplots(1, 5, figsize=(11, 5.4), width_ratios=[3, 1, 1, 1, 1], layout="tight")
for at, animal in one.groupby("animal"):
    x, color = at + np.linspace(-0.3, 0.3, len(animal)), "0.2" if at > 4 else "0.6"
    axes[0].scatter(x, animal["mean"], 2 * animal["size"], color, alpha=0.6, lw=0)
    axes[0].hlines(y[X["animal"] == at].mean(), at - 0.4, at + 0.4, color="#d98a00", lw=3)
axes[0].set_xticks([2, 7], ["5 animals without drug", "5 animals with drug"])
axes[0].set_title("One experiment, mean responses\ndots: neurons; lines: animals", size=10.5)
for axis, name in zip(axes[1:], analyses, strict=True):
    part = found.query("analysis == @name and effect == 'drug' and seed < 40")
    colors = np.where(part["missed"], "#c8553d", "#1f5fa8")
    axis.axvline(0, color="0.75", zorder=0)
    axis.errorbar(part["off"], part["seed"], None, part["half"], ".", ecolor=colors, ms=0, lw=2.2)
    axis.scatter(part["off"], part["seed"], 11, colors)
    axis.set(xlim=(-5, 5), xticks=[-3, 0, 3], yticks=[], xlabel="effect of the drug")
    axis.set_title(f"{name}\n{part['missed'].sum()} of {len(part)} miss 0", size=10.5)
figure.suptitle("The drug does nothing, but who forgets the animals finds an effect", weight="bold")
figure.savefig("neurons.png")
print(f"\nPicture: {os.path.abspath('neurons.png')}")

# %%
# What the figures say
# --------------------
# - Three quarters of the variance are noise from trial to trial, a fifth lies between neurons and
#   only 5% between animals. This 5% decides how sure the effect of the drug is: it is given to
#   animals, and there are ten.
# - All trials taken as independent find the drug effective in 73% of the experiments, neuron
#   averages in 36%; 5% are due. Their estimates are no worse than others. Their standard errors
#   are: they say 0.15 and 0.38 where the error in fact is 0.79.
# - Animal averages are honest about the drug (6%), and simple. But they know nothing of what
#   happens within an animal: for arousal their error is 7.6, about 100 times that of the nested
#   model (0.07). Their variance, 1.39, is no estimate of that between animals either (truth: 1),
#   since an average of few neurons varies more.
# - The nested model answers both questions with intervals that hold (5% and 5%), and its estimate
#   of the drug is a little better than that of the averages (0.74 against 0.82), since it gives an
#   animal with many neurons more weight. This gain is small.
# - All trials do well on arousal, here, since arousal does not differ between animals.
# - One experiment with ten animals tells the variance between them badly: 1.36 in the first.
# - These intervals take 8 degrees of freedom for the drug. ``summary()`` does not know that: its
#   test is normal, and with ten animals twice as many intervals miss (10%).
