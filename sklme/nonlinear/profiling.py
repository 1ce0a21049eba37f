"""The profiled likelihood of a coefficient and the interval that follows from it."""

from dataclasses import dataclass, replace
from numbers import Real

import numpy as np
import pandas as pd
from scipy import stats

from sklme._rows import check_number
from sklme.nonlinear._observed import rows_of_fit
from sklme.nonlinear._refit import SEARCHED, Refit
from sklme.nonlinear._results import error_of
from sklme.nonlinear.parameters import to_natural

FARTHEST = 10.0  # how far an end is looked for, in times the distance of the Wald interval
STEPS = 20  # fits for an end
STUCK = 1e-2  # decrease of the objective that a search which got stuck may have left
LOST = 3  # fits without an end that make a side hopeless
CLOSE = 1e-3  # how closely the signed root must be met
NARROW = 1e-4  # a bracket, as a share of that distance, in which the objective jumps
APART = 1e-2  # objectives that differ by more are of other rows
SAME = 1e-4  # a deviance below minus this is of a better optimum


@dataclass(frozen=True, eq=False)
class LikelihoodProfile:
    """A curve of the profiled likelihood.

    Parameters
    ----------
    parameter : str
        The coefficient.
    curve : DataFrame
        `value` of the coefficient on the natural scale, `deviance`, the rise of the objective with
        the coefficient held there and all else fitted, and `zeta`, its signed root.
    estimate : float
        The value with deviance 0.
    lower, upper : float
        Ends of the interval, NaN where none was found.
    confidence_level : float
        Of the interval.
    message : str
        Empty, or why an end is missing or where the objective jumps, as it may with lag times.

    See Also
    --------
    profile : What makes it.

    Examples
    --------
    >>> from sklme.datasets import load_orange
    >>> from sklme.nonlinear import NonlinearMixedModel, profile
    >>> X, y = load_orange(return_X_y=True)
    >>> line = lambda age, rate, start: start + rate * age
    >>> model = NonlinearMixedModel(line, group="Tree", time="age").fit(X, y)
    >>> result = profile(model, X, y, "rate")
    >>> bool(result.curve["deviance"].min() == 0)
    True
    """

    parameter: str
    curve: pd.DataFrame
    estimate: float
    lower: float
    upper: float
    confidence_level: float = 0.95
    message: str = ""


def profile(model, X, y, parameter, *, dosing=None, confidence_level=0.95):
    """Find the interval of a coefficient by the likelihood ratio.

    Parameters
    ----------
    model : NonlinearMixedModel
        A fitted model, or a search that found one.
    X : {array-like, dataframe} of shape (n_samples, n_features)
        The rows that it was fitted to.
    y : array-like of shape (n_samples,)
        Their responses.
    parameter : str
        A typical value or covariate effect, as in ``coef_``.
    dosing : Dosing, default=None
        Their doses; None: those of the model.
    confidence_level : float, default=0.95
        Coverage that is aimed at.

    Returns
    -------
    profile : LikelihoodProfile
        `lower` and `upper`, and the `curve` of the values that were tried.

    Raises
    ------
    ValueError
        If the coefficient is unknown or fixed, X and y are not those of the fit, or the method has
        no objective to minimise, as "saem" and "lindstrom-bates".

    Notes
    -----
    The ends are where the objective rises by the quantile of chi-squared with one degree of
    freedom; all other parameters are fitted anew at each value that is tried.

    Examples
    --------
    >>> from sklme.datasets import load_orange
    >>> from sklme.nonlinear import NonlinearMixedModel, profile
    >>> X, y = load_orange(return_X_y=True)
    >>> line = lambda age, rate, start: start + rate * age
    >>> model = NonlinearMixedModel(line, group="Tree", time="age").fit(X, y)
    >>> result = profile(model, X, y, "rate")
    >>> print(f"{result.lower:.3f} to {result.upper:.3f}")
    0.085 to 0.129
    """
    check_number("confidence_level", confidence_level, Real, 0, 1)
    found = rows_of_fit(model, X, y, dosing, "profile")
    k = _find(found.model, parameter)
    searched = _Profiler(found, k)
    target = stats.norm.isf(0.5 - 0.5 * confidence_level)
    ends, messages = zip(*(searched.end(side, target) for side in (-1.0, 1.0)), strict=True)
    table = pd.DataFrame(sorted(searched.points), columns=["value", "deviance", "zeta"])
    table["value"] = searched.natural(table["value"].to_numpy())
    low, high = (float(searched.natural(end)) for end in ends)
    estimate = float(searched.natural(searched.centre))
    message = "; ".join(text for text in messages if text)
    return LikelihoodProfile(parameter, table, estimate, low, high, confidence_level, message)


def _find(model, parameter):
    """The number of a coefficient that was estimated by a search."""
    names = list(model.coef_.index)
    if parameter not in names:
        raise ValueError(
            f"parameter is {parameter!r}, which is no coefficient of the model; it has "
            f"{', '.join(map(repr, names))}"
        )
    k = names.index(parameter)
    if model._layout.effects[k].fixed:
        raise ValueError(f"{parameter!r} is fixed: it has no interval")
    if model.method not in SEARCHED:
        raise ValueError(
            f"method={model.method!r} has no objective whose rise could be followed: fit with one "
            f"of {', '.join(map(repr, SEARCHED))} to profile"
        )
    return k


class _Profiler:
    """Fits with one coefficient held; points : (value, deviance, zeta) on the transformed scale."""

    def __init__(self, found, k):
        self.refit, self.data, self.k = Refit(found), found.data, k
        self.held = self.refit.held.copy()
        best, message = self.refit.attempt(self.data, nearly=STUCK)
        if best is None:
            raise ValueError(f"the model itself could not be fitted again: {message}")
        if abs(best.value - found.model.objective_) > APART:
            raise ValueError(
                f"profile needs the rows that the model was fitted to: its objective is "
                f"{found.model.objective_:.3f}, and {best.value:.3f} with these"
            )
        self.held[k] = True
        self.lowest, self.centre = best.value, float(best.parameters.beta[k])
        self.best = best.parameters
        self.step = self._wald(found.model)
        self.points = [(self.centre, 0.0, 0.0)]

    def _wald(self, model):
        error = error_of(model._errors, "beta", self.k)
        return error if np.isfinite(error) and error > 0 else 0.1 * max(abs(self.centre), 1.0)

    def natural(self, value):
        """A value, or values, on the natural scale."""
        parameters = list(self.refit.layout.parameters.values())
        transform = parameters[self.k].transform if self.k < len(parameters) else "identity"
        return to_natural(np.asarray(value, float), transform)

    def look(self, distance, side, start):
        """The root (nan without a fit) and the parameters of a fit at a distance on a side."""
        beta = start.beta.copy()
        value = beta[self.k] = self.centre + side * distance
        start = replace(start, beta=beta)
        fit, _ = self.refit.attempt(self.data, start, held=self.held, nearly=STUCK)
        if fit is None:
            return np.nan, start
        deviance = fit.value - self.lowest
        if deviance < -SAME:
            raise ValueError(
                f"with the coefficient held at {float(self.natural(value)):g} the objective is "
                f"lower, by {-deviance:.3g}, than the model found: fit it again with n_starts=5"
            )
        root = np.sqrt(max(deviance, 0.0))
        self.points.append((value, max(deviance, 0.0), side * root))
        return root, fit.parameters

    def end(self, side, target):
        """Where the root reaches the target on a side, and why it was not found."""
        near, lost, reach = self.best, 0, target * self.step
        inner, outer, at = (0.0, 0.0), None, reach
        for _ in range(STEPS):
            root, found = self.look(at, side, near)
            if abs(root - target) < CLOSE:
                return self.centre + side * at, ""
            if root < target:
                inner, near = (at, root), found
            else:
                outer = at, root
            lost += not np.isfinite(root)
            if lost == LOST or (outer is None and at >= FARTHEST * reach):
                break
            if outer is not None and outer[0] - inner[0] < NARROW * reach:
                return self.centre + side * at, self._jump(side, at)
            at = _next(inner, outer, target, at, FARTHEST * reach)
        return np.nan, self._nowhere(side, at, lost)

    def _jump(self, side, at):
        value = float(self.natural(self.centre + side * at))
        return f"the {_end(side)} end is where the objective jumps, at {value:.4g}"

    def _nowhere(self, side, at, lost):
        value = float(self.natural(self.centre + side * at))
        why = f", where {lost} fits did not converge" if lost else ""
        return f"no {_end(side)} end was found up to {value:.4g}{why}"


def _end(side):
    return "lower" if side < 0 else "upper"


def _next(inner, outer, target, at, farthest):
    """The next distance: by the straight line through two roots, or by halves."""
    if outer is None:
        grown = at * (target / inner[1] if inner[1] > 0.3 * target else 2.0)
        return min(max(grown, 1.05 * at), farthest)
    if not np.isfinite(outer[1]):
        return 0.5 * (inner[0] + outer[0])
    share = (target - inner[1]) / (outer[1] - inner[1])
    return inner[0] + np.clip(share, 0.05, 0.95) * (outer[0] - inner[0])
