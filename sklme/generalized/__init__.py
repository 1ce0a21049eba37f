"""Generalised linear mixed models: counts, shares, positive measurements, classes."""

from sklme.generalized.logistic import LogisticMixedModel
from sklme.generalized.model import GeneralizedLinearMixedModel
from sklme.generalized.ordinal import OrdinalMixedModel

__all__ = ["GeneralizedLinearMixedModel", "LogisticMixedModel", "OrdinalMixedModel"]
