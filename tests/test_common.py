"""scikit-learn's own checks, on the default instance and on instances with random effects."""

import os
import subprocess
import sys

import pytest
from sklearn.linear_model import LinearRegression
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklme import (
    GeneralizedLinearMixedModel,
    LinearMixedModel,
    LogisticMixedModel,
    OrdinalMixedModel,
)
from sklme.evaluation import SiteRecalibrator

# One instance for each kind of specification; the checks feed arrays, so groups are positions.
ESTIMATORS = [
    LinearMixedModel(),
    LinearMixedModel(random_effects=0),
    LinearMixedModel(random_effects={0: ["1", 1]}),
    LinearMixedModel(random_effects=[0, -1]),
    LinearMixedModel(random_effects={0: []}),
    GeneralizedLinearMixedModel(),
    GeneralizedLinearMixedModel(random_effects=0),
    GeneralizedLinearMixedModel(random_effects={0: ["1", 1]}, handle_unknown="population"),
    GeneralizedLinearMixedModel(random_effects=0, family="gamma"),
    LogisticMixedModel(),
    LogisticMixedModel(random_effects=0),
    LogisticMixedModel(random_effects=[0, -1], link="probit"),
    OrdinalMixedModel(),
    OrdinalMixedModel(random_effects=0),
    SiteRecalibrator(),
    SiteRecalibrator(site=0, cv=5),
    SiteRecalibrator(LinearRegression(), site=0, method="slope", cv=5),
]

# Public checks that hold for any estimator but are not run by check_estimator in scikit-learn 1.9.
# (Left out: check_param_validation, which demands the private `_parameter_constraints`.)
MORE_CHECKS = [
    estimator_checks.check_dataframe_column_names_consistency,
    estimator_checks.check_inplace_ensure_writeable,
]

# The array API check is skipped unless scipy is imported under SCIPY_ARRAY_API=1.
# Only the default: for estimators of categories scikit-learn 1.9 makes X of integers and then asks
# for their floating-point precision.
ARRAY_API_SCRIPT = """
from sklearn.utils.estimator_checks import check_array_api_input
from test_common import ESTIMATORS

check_array_api_input(
    type(ESTIMATORS[0]).__name__,
    ESTIMATORS[0],
    array_namespace="numpy",
    check_values=True,
    check_sample_weight=True,
    expect_only_array_outputs=False,
)
print("checked")
"""


def parametrize_with_more_checks(estimators, checks):
    """Make a pytest case of every pair, named like those of scikit-learn's decorator."""
    cases = [
        pytest.param(estimator, check, id=f"{estimator}-{check.__name__}")
        for estimator in estimators
        for check in checks
    ]
    return pytest.mark.parametrize("estimator, check", cases)


@parametrize_with_checks(ESTIMATORS)
def test_sklearn_checks(estimator, check):
    check(estimator)


@parametrize_with_more_checks(ESTIMATORS, MORE_CHECKS)
def test_more_sklearn_checks(estimator, check):
    check(type(estimator).__name__, estimator)


def test_sklearn_array_api_check():
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    result = subprocess.run(
        [sys.executable, "-c", ARRAY_API_SCRIPT],
        env={**os.environ, "SCIPY_ARRAY_API": "1", "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert result.stdout == "checked\n", result.stderr
