"""Pharmacokinetic models: what the body does with doses, and which dose reaches a target."""

from sklme.pharmacokinetics._dose_display import DoseDisplay
from sklme.pharmacokinetics.compartments import OneCompartment, ThreeCompartment, TwoCompartment
from sklme.pharmacokinetics.dosing import Dosing
from sklme.pharmacokinetics.ode import ODEModel
from sklme.pharmacokinetics.recommend import DoseRecommendation, recommend_dose

__all__ = [
    "DoseDisplay",
    "DoseRecommendation",
    "Dosing",
    "ODEModel",
    "OneCompartment",
    "ThreeCompartment",
    "TwoCompartment",
    "recommend_dose",
]
