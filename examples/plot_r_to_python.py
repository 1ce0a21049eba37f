"""
The sleep study from R to sklme, line by line
=============================================

Each block shows the call in R (packages lme4, lmerTest and performance) as a comment and the same
in Python below it. The formula is the one of R. What comes back is a scikit-learn pipeline: it
encodes the columns, then fits the model, so it can be cross-validated, searched over and saved like
any other.

Formulas need formulaic: ``pip install "sklme[formula]"``. The last block does without.
"""

import pandas as pd
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut, cross_val_score

from sklme import LinearMixedModel, from_formula
from sklme.datasets import load_sleepstudy
from sklme.inference import (
    anova,
    bootstrap,
    coefficient_table,
    compare_models,
    confidence_intervals,
    icc,
    r_squared,
    random_effects_table,
    variance_table,
)


def show(call, table, form=".5g"):
    """Print a call of R and what Python returns for it."""
    text = table.to_string(na_rep="", float_format=lambda number: format(number, form))
    print(f"{call}\n{text}\n")


# %%
# 1. Data
# -------

print("1. Data\n")
# R: data(sleepstudy); head(sleepstudy, 3)
sleepstudy = load_sleepstudy().frame
show("head(sleepstudy, 3)", sleepstudy.head(3))

# %%
# 2. Fit and summary
# ------------------
# The second step of the pipeline is the model. It is told by the formula which columns it gets.

# R: m <- lmer(Reaction ~ Days + (Days | Subject), sleepstudy); summary(m)
m = from_formula("Reaction ~ Days + (Days | Subject)", sleepstudy)
print("2. The model\n")
print(m[-1].summary())

# %%
# 3. What is in the model
# -----------------------
# The functions of `sklme.inference` take the pipeline and return tables of pandas.

print("\n3. What is in the model\n")
# R: logLik(m); sigma(m)
print(f"logLik(m): {m[-1].log_likelihood_:.4f}")
print(f"sigma(m): {m[-1].residual_variance_ ** 0.5:.4f}\n")
# R: as.data.frame(VarCorr(m)); in Python with the share of each in the variance of a reaction time
show("VarCorr(m)", variance_table(m), ".3f")
# R: head(as.data.frame(ranef(m)), 4), sorted by Subject
show("ranef(m)", random_effects_table(m).head(4), ".3f")
# R: head(coef(m)$Subject, 3)
coef = random_effects_table(m)["effect"].unstack() + coefficient_table(m)["estimate"]
show("coef(m)$Subject", coef.head(3), ".3f")
# R: performance::r2(m); performance::icc(m)
show("r2(m)", r_squared(m), ".4f")
show("icc(m)", icc(m), ".4f")

# %%
# 4. Tests and intervals
# ----------------------
# Degrees of freedom by Satterthwaite, as in lmerTest; ``dof="kenward-roger"`` is there too. The
# bootstrap draws and refits 200 sets of reaction times in one call.

print("4. Tests and intervals\n")
# R: coef(summary(m)) after library(lmerTest)
columns = ["estimate", "std_error", "dof", "statistic", "p_value"]
show("coef(summary(m))", coefficient_table(m)[columns])
# R: anova(m) after library(lmerTest)
show("anova(m)", anova(m).T)
# R: confint(m, oldNames = FALSE)
show("confint(m)", confidence_intervals(m, method="profile"), ".2f")
# R: bootMer(m, function(m) c(fixef(m), as.data.frame(VarCorr(m))$sdcor), nsim = 200)
show("bootMer(m)", bootstrap(m, n_bootstraps=200, random_state=0).table, ".2f")

# %%
# 5. Other models, compared
# -------------------------
# Models that differ in their fixed effects are refitted by maximum likelihood, as R does.

print("5. Other models\n")
# R: m0 <- lmer(Reaction ~ 1 + (Days | Subject), sleepstudy); anova(m0, m)
m0 = from_formula("Reaction ~ 1 + (Days | Subject)", sleepstudy)
show("anova(m0, m)", compare_models({"m0": m0, "m": m}).T, ".6g")
for formula in (
    "Reaction ~ Days + (1 | Subject)",  # R: the same
    "Reaction ~ Days + (Days || Subject)",  # R: the same
    "Reaction ~ poly(Days, 2) + (Days | Subject)",  # R: the same
    "Reaction ~ factor(Days) + (1 | Subject)",  # R: the same
    "Reaction ~ I(Days**2) + Days + (1 | Subject)",  # R: I(Days^2)
    "log(Reaction) ~ Days + (Days | Subject)",  # R: the same
):
    last = from_formula(formula, sleepstudy, method="ml")[-1]
    print(f"{formula:<46}logLik {getattr(last, 'regressor_', last).log_likelihood_:10.4f}")

# %%
# 6. Predictions
# --------------
# People who were not in the study are predicted by the fixed part; in R that has to be allowed.

print("\n6. Predictions for day 10\n")
new = pd.DataFrame({"Days": [10, 10], "Subject": [308, 999]})
# R: predict(m, new, allow.new.levels = TRUE)
print("predict(m, new):", m.predict(new).round(2))
# R: predict(m, new, re.form = NA)
print("re.form = NA:", m[-1].predict_population(m[:-1].transform(new)).round(2))

# %%
# 7. What R has no line for
# -------------------------
# The whole pipeline is fitted anew in each fold: first days of known people, then new people.

print("\n7. Cross-validation\n")
X, y = sleepstudy.drop(columns="Reaction"), sleepstudy["Reaction"]
by_day = cross_val_score(m, X, y, cv=GroupKFold(5), groups=X["Days"])
by_person = cross_val_score(
    m, X, y, cv=LeaveOneGroupOut(), groups=X["Subject"], scoring="neg_mean_absolute_error"
)
print(f"other days of known people: R2 {by_day.mean():.2f}")
print(f"new people: mean absolute error {-by_person.mean():.0f} ms")

# %%
# 8. Without a formula
# --------------------

print("\n8. Without a formula\n")
same = LinearMixedModel({"Subject": ["1", "Days"]}).fit(X, y)
print(f"logLik {same.log_likelihood_:.4f}")
