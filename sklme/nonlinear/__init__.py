"""Nonlinear mixed-effects models: parameters of groups, of any structure."""

from sklme.nonlinear.model import NonlinearMixedModel
from sklme.nonlinear.parameters import Covariate, Parameter
from sklme.nonlinear.posterior import Posterior

__all__ = ["Covariate", "NonlinearMixedModel", "Parameter", "Posterior"]
