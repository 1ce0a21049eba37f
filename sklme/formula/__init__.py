"""The formula door: "Reaction ~ Days + (Days | Subject)" -> a ready pipeline."""

from sklme.formula._columns import FormulaColumns
from sklme.formula._pipeline import FormulaPipeline, from_formula

__all__ = ["FormulaColumns", "FormulaPipeline", "from_formula"]
