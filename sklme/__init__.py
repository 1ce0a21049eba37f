"""Mixed-effects models for scikit-learn: groups are columns of X."""

from sklme._adapt import adapt
from sklme.formula import from_formula
from sklme.generalized import (
    GeneralizedLinearMixedModel,
    LogisticMixedModel,
    OrdinalMixedModel,
)
from sklme.linear import LinearMixedModel

__version__ = "0.1.0"

__all__ = [
    "GeneralizedLinearMixedModel",
    "LinearMixedModel",
    "LogisticMixedModel",
    "OrdinalMixedModel",
    "adapt",
    "from_formula",
]
