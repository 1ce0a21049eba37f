"""The frozen records that the engine returns."""

from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class Evaluation:
    """The criterion at theta and its derivatives; the first axis runs over responses.

    average : average information plus the exact second-order term, a good guide from far away
    observed : the exact Hessian, a good guide near the optimum; the average where it costs too much
    noise : rounding error of the value
    """

    value: np.ndarray  # (r,)
    gradient: np.ndarray  # (r, m)
    average: np.ndarray  # (r, m, m)
    observed: np.ndarray  # (r, m, m)
    noise: np.ndarray  # (r,)

    def take(self, which) -> "Evaluation":
        """The entries of some responses."""
        return Evaluation(*(getattr(self, f.name)[which] for f in fields(self)))

    def put(self, which, new: "Evaluation") -> None:
        """Overwrite the entries of some responses."""
        for f in fields(self):
            getattr(self, f.name)[which] = getattr(new, f.name)


@dataclass(frozen=True)
class Optimization:
    """How the search for theta ended; arrays with one entry a response.

    gradient_norm : largest absolute derivative of the criterion at the last point evaluated
    decrement : sqrt(g' H^-1 g), the certificate: about the distance to the optimum in units of
        the standard error of theta; after a last step that needed no evaluation, its bound
    n_evaluations : evaluations of the criterion with its derivatives
    converged : whether the decrement fell below the tolerance
    at_zero : names of the variances that were estimated at zero
    unidentified : names of the variances that the data cannot tell, set to zero
    columns_dropped : names of the fixed-effect columns that depend on earlier ones
    exact_fit : whether the residual variance is zero to rounding
    """

    gradient_norm: np.ndarray
    decrement: np.ndarray
    n_evaluations: np.ndarray
    converged: np.ndarray
    at_zero: tuple = ()
    unidentified: tuple = ()
    columns_dropped: tuple = ()
    exact_fit: bool = False


@dataclass(frozen=True)
class Solution:
    """What follows from theta in closed form, in the coordinates of the frame.

    beta (r, p), xvx = X'V^-1X (r, p, p) in units of the residual variance, rss (r,), log_det (r,)
    = log |V|, effects: one (k, r, n_levels) array a factor.
    """

    beta: np.ndarray
    xvx: np.ndarray
    rss: np.ndarray
    log_det: np.ndarray
    effects: tuple[np.ndarray, ...]

    @staticmethod
    def join(parts: list["Solution"]) -> "Solution":
        """The solutions of several groups of responses as one."""
        names = ("beta", "xvx", "rss", "log_det")
        beta, xvx, rss, log_det = (np.concatenate([getattr(p, n) for p in parts]) for n in names)
        effects = zip(*(p.effects for p in parts), strict=True)
        return Solution(beta, xvx, rss, log_det, tuple(np.concatenate(e, axis=1) for e in effects))
