"""Mixed-effects models for scikit-learn: groups are columns of X."""

from sklme._adapt import adapt
from sklme.formula import from_formula
from sklme.linear import LinearMixedModel

__version__ = "0.1.0"

__all__ = ["LinearMixedModel", "adapt", "from_formula"]
