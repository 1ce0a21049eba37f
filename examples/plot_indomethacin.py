"""
Indomethacin: one phase of decay or two?
========================================

Six people got a rapid injection of indomethacin, and eleven samples each over eight hours (Kwan et
al. 1976, the data set ``Indometh``). The drug is distributed into the body while it is eliminated,
so that concentrations fall in two phases. The table does not hold the dose; 25 mg is assumed, and
with another one clearances and volumes change in proportion, nothing else does.

1. One compartment or two, and which residual error?
2. The two-compartment model: clearances, volumes, and the half-lives that follow from them.
3. The same curve as a sum of two exponentials, given as a Python function.

The script prints its tables and saves a picture, ``indomethacin.png``, in the current directory.
With the environment variable ``SKLME_FAST=1`` it draws fewer people for the band.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklme.datasets import load_indomethacin
from sklme.nonlinear import NonlinearMixedModel
from sklme.pharmacokinetics import Dosing, OneCompartment, TwoCompartment

N_DRAWS = 300 if os.environ.get("SKLME_FAST") == "1" else 3000
X, y = load_indomethacin(return_X_y=True)
doses = Dosing.single(X["Subject"], 25.0)

# %%
# 1. All four models with a random effect of every parameter, by their criteria.

data = {"group": "Subject", "time": "time", "dosing": doses}
structures = {
    "one compartment": (OneCompartment(), {"CL": 8.0, "V": 10.0}),
    "two compartments": (TwoCompartment(), {"CL": 8.0, "V": 8.0, "Q": 6.0, "V2": 20.0}),
}
models, rows = {}, {}
for name, (structure, start) in structures.items():
    for error in ("additive", "proportional"):
        model = NonlinearMixedModel(structure, start, error=error, **data).fit(X, y)
        models[name, error] = model
        k = 2 * len(start) + 1  # typical values, variances, residual error
        aic = 2 * k - 2 * model.log_likelihood_
        rows[name, error] = [model.log_likelihood_, aic, model.error_[error]]
table = pd.DataFrame(rows, index=["log-likelihood", "AIC", "residual sd"]).T
print(f"1. Compartments and residual errors\n\n{table.round(3).to_string()}")

# %%
# 2. Half-lives of a person follow from the parameters: those of the two exponentials that solve the
# equations of the compartments.

best = models["two compartments", "proportional"]
print(f"\n2. {best.summary()}")


def rates(parameters):
    out, to, back = (
        parameters["CL"] / parameters["V"],
        parameters["Q"] / parameters["V"],
        parameters["Q"] / parameters["V2"],
    )
    half = (out + to + back) / 2
    root = np.sqrt(half**2 - out * back)
    return half + root, half - root


fast, slow = rates(best.individual_parameters_)
lives = np.log(2) / pd.DataFrame({"distribution": fast, "elimination": slow})
print("\n   Half-lives of each person, hours\n")
print(lives.round(2).to_string())

# %%
# 3. The typical curve as a sum of two exponentials, and a model of its four coefficients. These are
# another way to say how people differ, so that the likelihood is not quite the same.


def biexponential(time, high, fast, low, slow):
    return high * np.exp(-fast * time) + low * np.exp(-slow * time)


start = {"high": 2.0, "fast": 2.0, "low": 0.6, "slow": 0.2}
data = {"group": "Subject", "time": "time", "error": "proportional"}
curves = NonlinearMixedModel(biexponential, start, **data).fit(X, y)
fast, slow = rates(best.parameters_["estimate"])
print("\n3. Rates of the typical person, 1/h\n")
print(f"   from the compartments   {fast:.2f} and {slow:.3f}")
print(f"   of the exponentials     {curves.parameters_.estimate['fast']:.2f} and", end=" ")
print(f"{curves.parameters_.estimate['slow']:.3f}")
print(f"   log-likelihood          {best.log_likelihood_:.2f} and {curves.log_likelihood_:.2f}")

# %%
# The picture: what people to come may have, and the residuals of both structures.

plt.rcParams.update({"axes.titlesize": 10.5, "axes.titlelocation": "left", "font.size": 9})
plt.rc("axes.spines", top=False, right=False)
figure, (left, *panels) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
panels[1].sharey(panels[0])
new = pd.DataFrame({"Subject": 0, "time": np.linspace(0.1, 8.5, 120)})
draws = best.sample_y(new, N_DRAWS, 0, Dosing([0], amount=25.0))
low, middle, high = np.quantile(draws, [0.05, 0.5, 0.95], axis=1)
left.fill_between(new["time"], low, high, color="0.88", lw=0, label="90 % of new samples")
for subject, own in X.groupby("Subject"):
    times = pd.DataFrame({"Subject": subject, "time": new["time"]})
    (line,) = left.plot(times["time"], best.predict(times), lw=1)
    left.plot(own["time"], y[own.index], "o", ms=3.5, color=line.get_color())
left.set(yscale="log", xlabel="hours since the injection", ylabel="concentration, mg/l")
left.set_title("Six people, two compartments")
left.legend(frameon=False)
for axis, name in zip(panels, structures, strict=True):
    predicted = models[name, "proportional"].predict(X)
    axis.axhline(0, color="0.6", lw=0.8)
    axis.plot(X["time"], 100 * (y / predicted - 1), "o", ms=4, alpha=0.7)
    axis.plot((100 * (y / predicted - 1)).groupby(X["time"]).mean(), color="#d55e00", lw=2)
    axis.set(xlabel="hours since the injection", title=f"Residuals, {name}")
panels[0].set_ylabel("observed beyond predicted, %")
figure.savefig("indomethacin.png", dpi=100)
print(f"\nPicture: {os.path.abspath('indomethacin.png')}")

# %%
# What the figures say
# --------------------
# - One compartment is wrong by up to 88 % on average, too low at both ends; with two, the means of
#   residuals stay within 10 %. The AIC agrees: -158.8 instead of -29.9.
# - The error is proportional: concentrations fall by a factor of 30, and the AIC of the additive
#   error is higher by 61.
# - The typical half-lives are 0.4 and 4.5 hours. Five samples in 75 minutes catch the first; eight
#   hours are less than two of the second, which therefore is uncertain.
# - The central volume hardly differs between people, and the samples tell little of how much it
#   does (shrinkage 59 %).
# - The sum of exponentials has nearly the same rates. Its likelihood is a little higher, since what
#   differs between people is said in other parameters.
