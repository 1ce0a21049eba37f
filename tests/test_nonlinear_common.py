"""scikit-learn's own checks on nonlinear models, with and without random effects."""

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklme.nonlinear import NonlinearMixedModel, Parameter


class Line:
    """A straight line, with a name that is the same in every process that collects the tests."""

    def __call__(self, x, level, slope):
        return level + slope * x

    def __repr__(self):
        return "line"


LINE = {
    "level": Parameter(transform="identity"),
    "slope": Parameter(transform="identity", random=False),
}

# The checks feed arrays, so groups are positions.
ESTIMATORS = [
    NonlinearMixedModel(),
    NonlinearMixedModel(group=0),
    NonlinearMixedModel(Line(), LINE, group=0, time=-1, standard_errors="hessian"),
]

MORE_CHECKS = [
    estimator_checks.check_dataframe_column_names_consistency,
    estimator_checks.check_inplace_ensure_writeable,
]

# Data of integers are often met by the groups alone, or leave something unidentified.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@parametrize_with_checks(ESTIMATORS)
def test_sklearn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("check", MORE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_more_sklearn_checks(estimator, check):
    check(type(estimator).__name__, estimator)
