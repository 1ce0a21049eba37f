"""Pharmacokinetic models: what the body does with doses, and the doses."""

from sklme.pharmacokinetics.compartments import OneCompartment, ThreeCompartment, TwoCompartment
from sklme.pharmacokinetics.dosing import Dosing
from sklme.pharmacokinetics.ode import ODEModel

__all__ = ["Dosing", "ODEModel", "OneCompartment", "ThreeCompartment", "TwoCompartment"]
