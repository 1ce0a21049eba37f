"""Does a model hold at the next site? Cross-site validation, pooled over sites."""
