"""Searches inside an estimator: they leave out whole sites too."""

import warnings
from functools import singledispatch

from sklearn import get_config
from sklearn.base import BaseEstimator
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._split import GroupsConsumerMixin
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import get_routing_for_object


def fit(estimator, X, y, sites):
    """Fit an estimator; a search in it gets the sites as its groups."""
    name = _groups_parameter(estimator)
    return estimator.fit(X, y) if name is None else estimator.fit(X, y, **{name: sites})


def warn_of_plain_search(estimator):
    """Say so where a search would choose by splits that tear sites apart."""
    search = _find(estimator)[0]
    if search is None or _knows_groups(search.cv):
        return
    warnings.warn(
        f"the search {type(search).__name__}(cv={search.cv!r}) splits rows, not sites, so that it "
        "chooses what is best at sites that it has seen; give it cv=GroupKFold(...) or "
        "cv=LeaveOneGroupOut(), which get the sites of the training rows",
        UserWarning,
        stacklevel=3,
    )


def _groups_parameter(estimator):
    """What `fit` calls the groups, None where nothing in it takes any."""
    if get_config()["enable_metadata_routing"]:
        routing = get_routing_for_object(estimator)
        return "groups" if routing.consumes("fit", {"groups"}) else None
    search, prefix = _find(estimator)
    return f"{prefix}groups" if search is not None and _knows_groups(search.cv) else None


def _knows_groups(cv):
    """Splitters of scikit-learn say what they use; those of others get groups in any case."""
    ours = type(cv).__module__.startswith("sklearn.")
    return isinstance(cv, GroupsConsumerMixin) or (hasattr(cv, "split") and not ours)


@singledispatch
def _find(estimator: BaseEstimator):
    """(The search at the end of an estimator, or None; what its parameters are prefixed by)."""
    return None, ""


@_find.register
def _(estimator: BaseSearchCV):
    return estimator, ""


@_find.register
def _(estimator: Pipeline):
    name, last = estimator.steps[-1]
    search, prefix = _find(last)
    return search, f"{name}__{prefix}"


@_find.register
def _(estimator: TransformedTargetRegressor):
    return _find(estimator.regressor)
