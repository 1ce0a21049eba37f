"""Pictures of fitted models, as scikit-learn's Displays."""

from sklme.inspection._means import MarginalMeansDisplay
from sklme.inspection._partition import VariancePartitionDisplay
from sklme.inspection._pooling import PartialPoolingDisplay
from sklme.inspection._profile import ProfileDisplay
from sklme.inspection._quantile_residuals import QuantileResidualsDisplay
from sklme.inspection._random_effects import RandomEffectsDisplay
from sklme.inspection._residuals import ResidualsDisplay

__all__ = [
    "MarginalMeansDisplay",
    "PartialPoolingDisplay",
    "ProfileDisplay",
    "QuantileResidualsDisplay",
    "RandomEffectsDisplay",
    "ResidualsDisplay",
    "VariancePartitionDisplay",
]
