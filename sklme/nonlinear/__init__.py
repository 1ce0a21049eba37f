"""Nonlinear mixed-effects models: parameters of groups, of any structure."""

from sklme.nonlinear._goodness_of_fit import GoodnessOfFitDisplay
from sklme.nonlinear._individual_fits import IndividualFitsDisplay
from sklme.nonlinear._predictive_display import VisualPredictiveCheckDisplay
from sklme.nonlinear.forecasting import ForecastValidation, forecast_validate
from sklme.nonlinear.model import NonlinearMixedModel
from sklme.nonlinear.parameters import Covariate, Parameter
from sklme.nonlinear.posterior import Posterior
from sklme.nonlinear.predictive_check import VisualPredictiveCheck, visual_predictive_check
from sklme.nonlinear.profiling import LikelihoodProfile, profile
from sklme.nonlinear.resampling import NonlinearBootstrap, bootstrap
from sklme.nonlinear.residuals import residual_table
from sklme.nonlinear.selection import CovariateSearch, covariate_search

__all__ = [
    "Covariate",
    "CovariateSearch",
    "ForecastValidation",
    "GoodnessOfFitDisplay",
    "IndividualFitsDisplay",
    "LikelihoodProfile",
    "NonlinearBootstrap",
    "NonlinearMixedModel",
    "Parameter",
    "Posterior",
    "VisualPredictiveCheck",
    "VisualPredictiveCheckDisplay",
    "bootstrap",
    "covariate_search",
    "forecast_validate",
    "profile",
    "residual_table",
    "visual_predictive_check",
]
