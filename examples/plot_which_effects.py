"""
Which random effects do I need?
===============================

Should people differ in level only, or in slope too, and may both be correlated? Several answers are
on the market: likelihood, intervals, prediction, and what a wrong choice does to the test of a
fixed effect. This script asks all of them, of two real tables:

- `sleepstudy`: reaction times of 18 people over ten days of little sleep (Belenky et al. 2003).
- `pastes`: strength of a paste, two assays of each of three casks in ten batches (Davies and
  Goldsmith 1972). Casks are nested in batches.

It prints its tables and saves a picture, ``which_effects.png``, in the current directory. With the
environment variable ``SKLME_FAST=1`` it simulates fewer data sets.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.model_selection import GridSearchCV, GroupKFold

from sklme import LinearMixedModel
from sklme.datasets import load_pastes, load_sleepstudy
from sklme.inference import coefficient_table, compare_models, confidence_intervals, variance_test
from sklme.inspection import ProfileDisplay

FAST = os.environ.get("SKLME_FAST") == "1"

# %%
# 1. The candidates
# -----------------
# All candidates of a table have the same fixed effects, so their restricted likelihoods compare.

sleepstudy, pastes = load_sleepstudy().frame, load_pastes().frame
X, y = sleepstudy[["Days", "Subject"]], sleepstudy["Reaction"]
both, cask = {"Subject": ["1", "Days"]}, ("batch", "cask")
forms = {
    "none": {"random_effects": {"Subject": []}},
    "level": {"random_effects": "Subject"},
    "level, slope": {"random_effects": both, "covariance_type": "diagonal"},
    "correlated": {"random_effects": both},
}
nested = {
    "none": {"batch": [], "cask": []},
    "batch": {"batch": ["1"], "cask": []},
    "cask": {cask: ["1"]},
    "batch, cask": {"batch": ["1"], cask: ["1"]},
}
people = {name: LinearMixedModel(**form).fit(X, y) for name, form in forms.items()}
table, strength = pastes[["batch", "cask"]], pastes["strength"]
paste = {name: LinearMixedModel(form).fit(table, strength) for name, form in nested.items()}
views = {"sleepstudy": compare_models(people), "pastes": compare_models(paste)}
print("1. The candidates\n")
columns = ["n_parameters", "log_likelihood", "aic"]
print(pd.concat(views)[columns].round(2).to_string())

# %%
# 2. Is a variance zero?
# ----------------------
# A variance cannot be negative. Where it is zero in truth, its estimate is zero in about half of
# all data sets if groups are many, and the p value of chi-square is twice too large: it is halved.
# For the only variance of a model `variance_test` draws from the exact distribution (10 000 draws,
# so p is at least 0.0001). A correlation of zero is no boundary: chi-square is right for it.


def test(small, large, **variance):
    """Likelihood ratio, with p of chi-square and p that knows of the boundary."""
    plain = compare_models(small, large).iloc[1]
    right = variance_test(large, random_state=0, **variance).iloc[0] if variance else plain
    return plain["statistic"], plain["p_value"], right["p_value"], right.get("null", "chi-square")


level, slope, full = (people[name] for name in ("level", "level, slope", "correlated"))
last = paste["batch, cask"]
questions = {
    "people: level": test(people["none"], level, factor="Subject"),
    "people: slope": test(level, slope, coefficient="Days"),
    "people: correlation": test(slope, full),
    "pastes: batch": test(paste["cask"], last, factor="batch"),
    "pastes: cask": test(paste["batch"], last, factor=cask),
}
columns = ["ratio", "p of chi-square", "p", "distribution"]
print("\n2. Is a variance (or the correlation) zero?\n")
tests = pd.DataFrame.from_dict(questions, orient="index", columns=columns)
print(tests.to_string(float_format="{:.3g}".format))

# %%
# 3. What the data know of a variance
# -----------------------------------

intervals = {"sleepstudy": full, "pastes": last}
intervals = {name: confidence_intervals(m, method="profile") for name, m in intervals.items()}
print("\n3. Profile intervals of 95%\n")
print(pd.concat(intervals).round(2).to_string())

# %%
# 4. What predicts best?
# ----------------------
# That depends on what is to be predicted: the next day of people whose days so far are known, the
# last three days at once, or people who are new.

day = X["Days"].to_numpy()
folds = {
    "next day": [np.nonzero(day < d) + np.nonzero(day == d) for d in range(3, 10)],
    "last 3 days": [np.nonzero(day < 7) + np.nonzero(day >= 7)],
    "new people": list(GroupKFold(9).split(X, groups=X["Subject"])),
}
grid = [{key: [value] for key, value in form.items()} for form in forms.values()]
errors = pd.DataFrame(index=list(forms))
for question, cv in folds.items():
    search = GridSearchCV(LinearMixedModel(), grid, cv=cv, scoring="neg_mean_absolute_error")
    errors[question] = -search.fit(X, y).cv_results_["mean_test_score"]
print("\n4. Mean absolute error (ms) of the candidates, by question\n")
print(errors.round(1).to_string())

# %%
# 5. What does the wrong choice cost?
# -----------------------------------
# Simulated: people and days as in the sleep study, reaction times on which the days have *no*
# effect in the mean. How often does a test at 5% find one? All data sets are outputs of one fit.

n_sets, rng, rows = 60 if FAST else 400, np.random.default_rng(1), {}
person = pd.factorize(X["Subject"])[0]
for truth, sd in {"slopes differ": 6.0, "slopes alike": 0.0}.items():
    start, own = (rng.normal(0, scale, (18, n_sets))[person] for scale in (25.0, sd))
    times = 250 + start + own * day[:, None] + rng.normal(0, 25, (180, n_sets))
    for name, form in forms.items():
        fitted = LinearMixedModel(**form).fit(X, times)
        tables = [coefficient_table(fitted, output=r).loc["Days"] for r in range(n_sets)]
        rows[truth, name] = pd.DataFrame(tables)
found = {key: (table["p_value"] < 0.05).mean() for key, table in rows.items()}
cost = pd.DataFrame({"false positives": found})
cost["std_error"] = {key: table["std_error"].mean() for key, table in rows.items()}
cost["spread"] = {key: table["estimate"].std() for key, table in rows.items()}
print(f"\n5. Tests of days without effect in {n_sets} simulated data sets")
print("   (spread: standard deviation of the estimates; std_error should tell it)\n")
print(cost.round(3).to_string())

# %%
# All views in one table: the mean absolute errors (ms) of part 4 and the false positives of part 5.

summary = views["sleepstudy"][["n_parameters", "aic"]].round(1).join(errors.round(1))
rates = cost["false positives"].unstack(0).loc[list(forms)]  # unstack sorts
summary = summary.join(rates.map("{:.1%}".format))
print("\nAll views of the sleep study: AIC, errors (ms) by question, false positives\n")
print(summary.to_string())

# %%
# The picture: what the data know of two variances, and what the choice does.

plt.rc("axes", titlelocation="left", titlesize=10.5)
plt.rc("axes.spines", top=False, right=False)
figure, axes = plt.subplots(2, 2, figsize=(9.6, 7.6), layout="constrained")
names = {"sd Days|Subject": full, "sd (Intercept)|batch": last}
for axis, (name, model) in zip(axes[0], names.items(), strict=True):
    ProfileDisplay.from_estimator(model, name, ax=axis, kind="deviance")
axes[0, 0].set_title("Sleep study, slopes of people: 3.8 to 8.8 ms a day")
axes[0, 1].set_title("Pastes, batches: anything from 0 to 2.9")
panels = {"mean absolute error, ms": errors, "false positives of a test at 5%": rates}
for axis, (label, values) in zip(axes[1], panels.items(), strict=True):
    for name, marker, color in zip(values, "osD", ("#0072b2", "#e69f00", "#009e73"), strict=False):
        axis.plot(values[name], list(forms), marker, color=color, ms=8, label=name)
    axis.set(xlabel=label, ylim=(3.5, -0.5))
    axis.grid(axis="y", color="0.9")
    axis.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.16))
axes[1, 0].set_title("Errors: the best depends on the question")
axes[1, 1].set_title(f"Slopes left out: {rates.max(axis=None):.0%} false positives")
axes[1, 1].axvline(0.05, color="0.3", lw=1, ls="--", zorder=0)
axes[1, 1].xaxis.set_major_formatter("{x:.0%}")
figure.savefig("which_effects.png")
print(f"\nPicture: {os.path.abspath('which_effects.png')}")

# %%
# What the figures say
# --------------------
# - Sleep study: AIC and the test want a level and a slope for each person. Of their correlation the
#   data know little: anything from -0.48 to 0.69, p = 0.839. Leaving it out is safe only where zero
#   of the column means something, as the first day does here: without it, another zero is another
#   model.
# - Pastes: the test does not find the batches (p = 0.209, twice that if nobody halves it), AIC
#   would drop them, and yet their standard deviation may be anything from 0 to 2.95, as large as
#   that of the casks. Not found is not absent. The study drew batches, so the model keeps them.
# - Tomorrow is predicted best with slopes (24.0 against 28.3 ms). Over three days they gain nothing
#   (32.7 against 32.6): a line is extrapolated further than it is known. New people get the fixed
#   part, which is the same in all models since all people have the same days: 38.2 ms.
# - A test of the days is wrong without the slopes: 33.0% false positives at 5%, for the standard
#   error is 0.79 where estimates spread by 1.54. Slopes that nobody needs cost little: a standard
#   error of 0.68 instead of 0.65, and 5.0% false positives. (Chance moves these rates by 1%.)
# - So choose by the question: for a test, all that the design lets differ between groups; for a
#   prediction, what wins where the folds are those of the question.
