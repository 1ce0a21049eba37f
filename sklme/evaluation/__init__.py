"""Does a model hold at the next site? Cross-site validation, pooled over sites."""

from sklme.evaluation._display import CrossSiteDisplay
from sklme.evaluation.cross_site import cross_site_validate
from sklme.evaluation.meta import random_effects_meta, shrunken_estimates
from sklme.evaluation.recalibration import SiteRecalibrator
from sklme.evaluation.result import CrossSiteResult
from sklme.evaluation.site_effects import site_separability, variance_by_site

__all__ = [
    "CrossSiteDisplay",
    "CrossSiteResult",
    "SiteRecalibrator",
    "cross_site_validate",
    "random_effects_meta",
    "shrunken_estimates",
    "site_separability",
    "variance_by_site",
]
