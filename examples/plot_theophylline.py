"""
Theophylline: from data to the dose of a new patient
====================================================

Twelve people took one oral dose of theophylline and gave eleven samples each over 25 hours (the
data set ``Theoph``). The whole way, from the table to a dose:

1. The model: one compartment with first-order absorption, whose parameters differ between people.
2. Does it describe the data? New samples drawn from it are compared with those observed.
3. A patient whom the model has never seen gives two samples. What do they say about later ones, and
   about the dose? Each of the twelve is the new patient in turn.
4. For the person least like the others: the dose every eight hours that keeps concentrations
   between 5 and 15 mg/l.

The script prints its tables and saves a picture, ``theophylline.png``, in the current directory.
With the environment variable ``SKLME_FAST=1`` it draws less and takes three people in turn. It
shows a calculation and advises nobody: a dose is the decision of a physician.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.base import clone

from sklme.datasets import load_theophylline
from sklme.nonlinear import Covariate, NonlinearMixedModel, Parameter
from sklme.pharmacokinetics import Dosing, OneCompartment, recommend_dose

FAST = os.environ.get("SKLME_FAST") == "1"
N_DRAWS, IN_TURN = (400, (1, 6, 11)) if FAST else (4000, range(1, 13))
X, y = load_theophylline(return_X_y=True)
doses = Dosing.single(X["Subject"], X["Dose"] * X["Wt"])  # the table has mg/kg

# %%
# 1. Volume is proportional to weight, and clearance to its power 0.75,
# as usual: twelve people of 55 to 86 kg cannot tell these exponents.

by_weight = {"column": "Wt", "reference": 70, "fixed": True}
parameters = {
    "CL": Parameter(2.7, covariates=[Covariate(initial=0.75, **by_weight)]),
    "V": Parameter(30.0, covariates=[Covariate(initial=1.0, **by_weight)]),
    "KA": Parameter(1.5),
}
model = NonlinearMixedModel(
    OneCompartment("first-order"),
    parameters,
    **{"group": "Subject", "time": "Time", "error": "combined", "dosing": doses},
)
model.fit(X, y)
print(f"1. {model.summary()}")

# %%
# 2. Each row is drawn anew for others with the same weight and dose. Of the samples, 5 % should
# lie below the 5 % quantile of these draws, half of them below the median.

others = X.assign(Subject=X["Subject"] + 100)  # ids that fit has not seen
given = Dosing.single(others["Subject"], others["Dose"] * others["Wt"])
draws = model.sample_y(others, N_DRAWS, 0, given)
low, middle, high = np.quantile(draws, [0.05, 0.5, 0.95], axis=1)
beyond = {"below 5 %": y < low, "below median": y < middle, "above 95 %": y > high}
hours = pd.cut(X["Time"], [0, 1.5, 5.5, 13, 25])  # without the samples at time 0
by_time = pd.DataFrame(beyond).groupby(hours, observed=True)
print("\n2. Share of the samples beyond quantiles of the model, by time\n")
print(by_time.mean().assign(samples=by_time.size()).round(2).to_string())

# %%
# 3. The new patient gives samples after about one and nine hours; the last two, after 12 and 24
# hours, are forecast. The dose is that for an average of 10 mg/l in the median.

options = {"target": "average", "value": 10, "interval": 8, "random_state": 0}
known, rows = {}, {}
for subject in IN_TURN:
    new = X["Subject"] == subject
    own, seen = X[new], y[new]
    learned = clone(model).set_params(standard_errors=None).fit(X[~new], y[~new])
    posterior = learned.condition(own.iloc[[3, 8]], seen.iloc[[3, 8]])
    known[subject] = learned, posterior, learned.condition(own, seen)
    later, last = own.tail(2), seen.tail(2)
    asked = [recommend_dose(learned, own.head(1), **options)]
    asked += [recommend_dose(one, **options) for one in known[subject][1:]]
    doses = [one.dose["dose"].iloc[0] for one in asked]
    errors = [abs(learned.predict_population(later) - last), abs(posterior.predict(later) - last)]
    rows[subject] = [*(e.mean() for e in errors), *doses]
columns = ["error before", "after", "dose by weight", "two samples", "all samples"]
turns = pd.DataFrame(rows, index=columns).T.rename_axis("subject")
print("\n3. Error of later samples (mg/l) before and after two samples, and dose (mg)\n")
print(turns.round({"error before": 2, "after": 2, **dict.fromkeys(columns[2:], 0)}).to_string())
off = np.log(turns.iloc[:, 2:4].div(turns["all samples"], axis=0)).abs().mean()
before, after = turns[columns[:2]].mean()
print(f"\n   Mean error {before:.2f} and {after:.2f} mg/l;", end=" ")
print(f"doses off by {np.expm1(off.iloc[0]):.0%} and {np.expm1(off.iloc[1]):.0%}")

# %%
# 4. The same for subject 1, with a window for concentrations and tablets of 25 mg.

own, seen = X[X["Subject"] == 1], y[X["Subject"] == 1]
learned, posterior, complete = known[1]
options = {"target": "window", "bounds": (5, 15), "interval": 8, "choices": range(50, 401, 25)}
options |= {"n_draws": N_DRAWS, "random_state": 0}
found = {
    "weight alone": recommend_dose(learned, own.head(1), **options),
    "two samples": recommend_dose(posterior, **options),
    "all samples": recommend_dose(complete, **options),
}
table = pd.concat([one.dose.drop(columns="reason") for one in found.values()], keys=list(found))
print("\n4. Dose every 8 hours that keeps concentrations from 5 to 15 mg/l")
print("   (median, lower and upper: share of the time that they are there)\n")
print(table.droplevel(1).round(2).to_string())

# %%
# The picture.

plt.rcParams.update({"axes.titlesize": 10.5, "axes.titlelocation": "left", "font.size": 9})
plt.rc("axes.spines", top=False, right=False)
figure, (data, patient, probability) = plt.subplots(1, 3, figsize=(12, 3.9), layout="constrained")
grid = pd.DataFrame({"Subject": 0, "Wt": 70.0, "Dose": 0, "Time": np.linspace(0.05, 25, 120)})
band = np.quantile(model.sample_y(grid, N_DRAWS, 0, Dosing([0], amount=320.0)), [0.05, 0.95], 1)
data.fill_between(grid["Time"], *band, color="0.88", lw=0, label="90 % of new samples")
for _, person in X.groupby("Subject"):
    data.plot(person["Time"], y[person.index], "o-", lw=0.8, ms=3)
data.set(xlabel="hours since the dose", ylabel="concentration, mg/l")
data.set_title("Twelve people, a band for 70 kg and 320 mg")
data.legend(frameon=False)
grid = grid.assign(Subject=1, Wt=own["Wt"].iloc[0])
guess, std = posterior.predict(grid, return_std=True)
patient.plot(grid["Time"], learned.predict_population(grid), color="0.5", ls="--", label="before")
patient.fill_between(grid["Time"], guess - 1.64 * std, guess + 1.64 * std, alpha=0.25, lw=0)
patient.plot(grid["Time"], guess, color="#0072b2", label="after two samples")
patient.plot(own["Time"], seen, "o", color="#0072b2", mfc="white")
patient.plot(own["Time"].iloc[[3, 8]], seen.iloc[[3, 8]], "o", color="#0072b2", ms=7)
patient.set(xlabel="hours since the dose", title="Subject 1 as a new patient")
patient.legend(frameon=False)
for (name, one), color in zip(found.items(), ("0.5", "#0072b2", "#e69f00"), strict=True):
    part, best = one.table["probability"].droplevel(0), one.dose.iloc[0]
    probability.plot(part, ".-", color=color, label=name)
    probability.plot(best["dose"], best["probability"], "o", color=color, ms=9)
probability.set(xlabel="dose every 8 hours, mg", title="Probability of 5 to 15 mg/l throughout")
probability.legend(frameon=False, loc="center right")
figure.savefig("theophylline.png", dpi=100)
print(f"\nPicture: {os.path.abspath('theophylline.png')}")

# %%
# What the figures say
# --------------------
# - The model describes the samples: 6 to 8 % lie above the quantile of 95 %, at most 6 % below that
#   of 5 %, and about half below the median.
# - People differ most in absorption (standard deviation of its log 0.66), then in clearance (0.26)
#   and volume (0.12).
# - Two samples halve the error of later ones, from 0.64 to 0.33 mg/l on average over twelve people,
#   and bring the dose from 20 % to 8 % off that of all samples.
# - Subject 1 eliminates at about half the pace of the others. By weight alone the dose would be 250
#   mg, after two samples 200, and after all of them 150: the eleven others are so alike that the
#   model is slow to believe somebody who is not. The probability of 0.96 that goes with 200 mg is
#   too sure, as it takes what eleven people taught for certain.
