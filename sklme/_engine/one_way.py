"""The share of variance between groups, for many responses at once."""

from dataclasses import dataclass

import numpy as np

from sklme._engine.intraclass import Form
from sklme._engine.intraclass_fit import incomplete


@dataclass(frozen=True)
class OneWay:
    """y = mean + group + error by REML; every field is (p,), variances in units of the data.

    share, lower, upper : between / (between + within), with exact limits (Wald 1940)
    f, df_between, df_within, p_value : the F test of no variance between groups
    at_zero : whether the variance between groups was estimated at zero
    """

    share: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    between: np.ndarray
    within: np.ndarray
    f: np.ndarray
    df_between: np.ndarray
    df_within: np.ndarray
    p_value: np.ndarray
    n_groups: np.ndarray
    n: np.ndarray
    at_zero: np.ndarray


def one_way(Y: np.ndarray, codes: np.ndarray, confidence_level: float = 0.95) -> OneWay:
    """The shares of the columns of Y (n, p), NaN where one was not measured; codes (n,) >= 0.

    The share is NaN for a constant column, for one of a single group, and where no group has two
    rows.
    """
    found = incomplete(Y, codes, None, Form("one-way", False), confidence_level)
    return OneWay(
        found.icc,
        found.lower,
        found.upper,
        found.subject,
        found.residual,
        found.f,
        found.df_subjects,
        found.df_error,
        found.p_value,
        found.n_subjects,
        found.n_measurements,
        found.at_zero,
    )
