"""Does a model hold at the next site? Cross-site validation, pooled over sites."""

from sklme.evaluation.recalibration import SiteRecalibrator

__all__ = ["SiteRecalibrator"]
