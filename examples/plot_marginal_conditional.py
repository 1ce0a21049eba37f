"""
A typical site is not the average over sites: what to predict where nothing is known
====================================================================================

In a model of yes or no with random effects, two probabilities answer "what is to be expected at a
new site?". The *typical* site has effect zero; its probability is the inverse logit of the fixed
part. The *average over sites* weighs the probabilities of all the sites that there might be. Since
the inverse logit is not a straight line the two differ, and the more so the more sites differ. For
rows of new sites only one of them is right. The data are simulated, so that the truth is known:

1. How far apart are the two, and what becomes of the coefficient?
2. Which of them is calibrated at new sites?
3. And at a site that is known?

The script prints two tables and saves a picture, ``marginal_conditional.png``, in the current
directory. With the environment variable ``SKLME_FAST=1`` it simulates less; the remarks below are
about the full run.
"""

import os
from copy import deepcopy

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.special import expit, logit
from sklearn.metrics import log_loss

from sklme import LogisticMixedModel

N_SITES, N_NEW = (400, 2000) if os.environ.get("SKLME_FAST") == "1" else (2000, 10000)
INTERCEPT, SLOPE, PER_SITE = -1.0, 1.0, 20


def simulate(effects, first, rng):
    """Rows of sites, numbered from `first`, with these effects: X and y."""
    site = np.repeat(np.arange(len(effects)), PER_SITE)
    X = pd.DataFrame({"site": first + site, "x": rng.normal(scale=1.5, size=len(site))})
    return X, rng.binomial(1, expit(INTERCEPT + SLOPE * X["x"] + effects[site]))


# %%
# One model, two predictions for a new site: `predict_proba` averages over sites (this is
# ``handle_unknown="marginal"``, the default); with ``handle_unknown="population"`` it takes the
# site for the typical one. Nine nodes of quadrature integrate over the effects in the fit; with one
# node, the default, large variances come out a little too small where sites have few rows.

found, scores, curves = {}, {}, {}
at = pd.DataFrame({"site": -1, "x": np.linspace(-4, 6, 101)})
for sd in (0.3, 1.0, 3.0):
    rng = np.random.default_rng(0)
    known, new = (sd * rng.standard_normal(n) for n in (N_SITES, N_NEW))
    (X, y), (X_more, y_more) = simulate(known, 0, rng), simulate(known, 0, rng)
    X_new, y_new = simulate(new, N_SITES, rng)
    model = LogisticMixedModel("site", n_quadrature=9).fit(X, y)
    typical = deepcopy(model).set_params(handle_unknown="population")
    ignored = LogisticMixedModel({"site": []}).fit(X, y)
    found[sd] = {
        "sd of sites": model.theta_["site"].item(),
        "slope at a site": model.coef_[0],
        "slope, sites ignored": ignored.coef_[0],
    }
    for name, fitted, X_test, y_test in (
        ("new sites, as typical", typical, X_new, y_new),
        ("new sites, average", model, X_new, y_new),
        ("known sites", model, X_more, y_more),
    ):
        p = fitted.predict_proba(X_test)[:, 1]
        recalibrated = LogisticMixedModel().fit(pd.DataFrame({"logit": logit(p)}), y_test)
        scores[sd, name] = {
            "share expected": p.mean(),
            "share found": y_test.mean(),
            "slope": recalibrated.coef_[0],
            "log loss": log_loss(y_test, p),
        }
        curves[sd, name] = fitted.predict_proba(at)[:, 1], p, y_test
print("1. What the fit finds (true slope at a site: 1)\n")
print(pd.DataFrame(found).T.rename_axis("true sd").round(2).to_string())
print("\n2. and 3. Predictions of new rows; a slope below 1: probabilities too extreme\n")
print(pd.DataFrame(scores).T.rename_axis(["true sd", "rows of"]).round(2).to_string())

# %%
# The picture: above, what is drawn from the model; below, how it does at new sites.

plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11})
figure, axes = plt.subplots(2, 3, figsize=(11, 7), dpi=100, sharey=True, layout="constrained")
looks = {
    "new sites, as typical": ("#c8553d", "typical site"),
    "new sites, average": ("#1f5fa8", "average over sites"),
}
for sd, (above, below) in zip(found, axes.T, strict=True):
    for effect in np.random.default_rng(0).normal(scale=sd, size=40):
        above.plot(at["x"], expit(INTERCEPT + SLOPE * at["x"] + effect), color="0.88", lw=1)
    below.plot([0, 1], [0, 1], color="0.85", zorder=0)
    for name, (color, label) in looks.items():
        curve, p, y_test = curves[sd, name]
        above.plot(at["x"], curve, color=color, lw=2.5, label=label)
        groups = pd.DataFrame({"p": p, "y": y_test}).groupby(pd.qcut(p, 12)).mean()
        below.plot(groups["p"], groups["y"], "o-", color=color, label=label)
    above.set(title=f"sites differ with sd {sd:g}", xlabel="x")
    below.set(xlabel="probability expected")
axes[0, 0].set_ylabel("probability (grey: single sites)")
axes[1, 0].set_ylabel("share found at new sites")
axes[0, 0].legend(frameon=False, loc="upper left")
figure.suptitle(
    "The typical site is not the average over sites", x=0.012, ha="left", weight="bold", size=13
)
figure.savefig("marginal_conditional.png")
print(f"\nPicture: {os.path.abspath('marginal_conditional.png')}")

# %%
# What the figures say
# --------------------
# - With a standard deviation of 0.3 between sites the two hardly differ. With 3 the curve of the
#   average is half as steep: a coefficient is 1 at every single site, and 0.47 for a model that
#   ignores sites. Neither is wrong; they answer different questions. The ratio is about
#   ``1 / sqrt(1 + 0.346 sd^2)``, that is 0.98, 0.86 and 0.49.
# - For rows of new sites only the average is calibrated: its slope is 0.99 to 1.01 throughout. To
#   predict as for the typical site states probabilities that are too extreme, with a slope of 0.85
#   and 0.47, and expects 32 % where 40 % are found. The order of the rows does not change.
# - At known sites both predictions are the same. Their slope is 0.97 to 0.98: the effect of a site
#   is known from 20 rows only, and the mode is used as if it were the truth.
