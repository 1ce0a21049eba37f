"""How well do repeated measurements agree? Intraclass correlations and what follows from them."""

from sklme.reliability._bland_altman import BlandAltmanDisplay
from sklme.reliability._display import ReliabilityDisplay
from sklme.reliability.agreement import agreement_limits
from sklme.reliability.generalizability import generalizability, generalizability_components
from sklme.reliability.icc import intraclass_correlation
from sklme.reliability.selector import ReliabilitySelector

__all__ = [
    "BlandAltmanDisplay",
    "ReliabilityDisplay",
    "ReliabilitySelector",
    "agreement_limits",
    "generalizability",
    "generalizability_components",
    "intraclass_correlation",
]
