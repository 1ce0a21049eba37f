"""
The sleep study from R to sklme, line by line
=============================================

Each block shows the call in R (packages lme4 and lmerTest) as a comment and the same in Python
below it. The formula is the one of R. What comes back is a scikit-learn pipeline: it encodes the
columns, then fits the model, so it can be cross-validated, searched over and saved like any other.

Formulas need formulaic: ``pip install "sklme[formula]"``. The last block does without.
"""

import pandas as pd
from scipy.stats import chi2
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut, cross_val_score

from sklme import LinearMixedModel
from sklme.datasets import load_sleepstudy
from sklme.formula import from_formula

# %%
# 1. Data
# -------

# R: data(sleepstudy); head(sleepstudy, 3)
sleepstudy = load_sleepstudy().frame
print("1. Data\n")
print(sleepstudy.head(3).to_string())

# %%
# 2. Fit and summary
# ------------------
# The second step of the pipeline is the model. It is told by the formula which columns it gets.

# R: m <- lmer(Reaction ~ Days + (Days | Subject), sleepstudy); summary(m)
pipeline = from_formula("Reaction ~ Days + (Days | Subject)", sleepstudy)
m = pipeline[-1]
print("\n2. The model\n")
print(m.summary())

# %%
# 3. What is in the model
# -----------------------

print("\n3. What is in the model\n")
# R: fixef(m)
fixef = pd.Series([m.intercept_, *m.coef_], ["(Intercept)", *m.fixed_names_])
print("fixef(m):", fixef.round(3).to_dict())
# R: logLik(m); sigma(m)
print(f"logLik(m): {m.log_likelihood_:.4f}   sigma(m): {m.residual_variance_**0.5:.4f}")
# R: VarCorr(m)$Subject
print("VarCorr(m)$Subject:", m.covariance_["Subject"].round(3).tolist())
# R: head(ranef(m)$Subject, 3)
ranef = pd.DataFrame(m.random_effects_["Subject"], m.levels_["Subject"], fixef.index)
print("head(ranef(m)$Subject, 3):")
print(ranef.head(3).round(3).to_string())
# R: head(coef(m)$Subject, 3)
print("head(coef(m)$Subject, 3):")
print((ranef + fixef).head(3).round(3).to_string())

# %%
# 4. Predictions
# --------------
# People who were not in the study are predicted by the fixed part; in R that has to be allowed.

print("\n4. Predictions for day 10\n")
new = pd.DataFrame({"Days": [10, 10], "Subject": [308, 999]})
# R: predict(m, new, allow.new.levels = TRUE)
print("predict(m, new):", pipeline.predict(new).round(2))
# R: predict(m, new, re.form = NA)
print("re.form = NA:", m.predict_population(pipeline[:-1].transform(new)).round(2))
# R: simulate(m, nsim = 1000) draws new effects for everybody; sample_y for levels not seen
draws = m.sample_y(pipeline[:-1].transform(new), 1000, random_state=0)
print("standard deviation of 1000 draws:", draws.std(axis=1).round(0))

# %%
# 5. Other models, compared
# -------------------------

print("\n5. Maximum likelihood\n")
# R: m1 <- lmer(..., REML = FALSE); anova(m0, m1) with m0 without Days among the fixed effects
m1 = from_formula("Reaction ~ Days + (Days | Subject)", sleepstudy, method="ml")[-1]
m0 = from_formula("Reaction ~ 1 + (Days | Subject)", sleepstudy, method="ml")[-1]
ratio = 2 * (m1.log_likelihood_ - m0.log_likelihood_)
print(f"anova(m0, m1): Chisq {ratio:.3f}, Df 1, Pr(>Chisq) {chi2.sf(ratio, 1):.3g}")
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
# 6. What R has no line for
# -------------------------
# The whole pipeline is fitted anew in each fold: first days of known people, then new people.

print("\n6. Cross-validation\n")
X, y = sleepstudy.drop(columns="Reaction"), sleepstudy["Reaction"]
by_day = cross_val_score(pipeline, X, y, cv=GroupKFold(5), groups=X["Days"])
by_person = cross_val_score(
    pipeline, X, y, cv=LeaveOneGroupOut(), groups=X["Subject"], scoring="neg_mean_absolute_error"
)
print(f"other days of known people: R2 {by_day.mean():.2f}")
print(f"new people: mean absolute error {-by_person.mean():.0f} ms")

# %%
# 7. Without a formula
# --------------------

print("\n7. Without a formula\n")
same = LinearMixedModel({"Subject": ["1", "Days"]}).fit(X, y)
print(f"logLik {same.log_likelihood_:.4f}")
