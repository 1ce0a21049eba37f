"""What a statistician asks of a fitted model: coefficients, tests, intervals, influence.

Every function takes the fitted model, or a pipeline, search or target wrapper around it, and
returns a pandas table with documented columns.
"""

from sklme.inference.coefficients import coefficient_table, vcov
from sklme.inference.comparison import compare_models, variance_test
from sklme.inference.contrasts import anova, contrast
from sklme.inference.effects import implied_correlation, random_effects_table
from sklme.inference.influence import group_influence, leave_one_group_out
from sklme.inference.intervals import confidence_intervals, profile
from sklme.inference.means import marginal_means
from sklme.inference.resampling import BootstrapResult, bootstrap
from sklme.inference.residuals import quantile_residuals
from sklme.inference.variance import icc, r_squared, variance_table

__all__ = [
    "BootstrapResult",
    "anova",
    "bootstrap",
    "coefficient_table",
    "compare_models",
    "confidence_intervals",
    "contrast",
    "group_influence",
    "icc",
    "implied_correlation",
    "leave_one_group_out",
    "marginal_means",
    "profile",
    "quantile_residuals",
    "r_squared",
    "random_effects_table",
    "variance_table",
    "variance_test",
    "vcov",
]
