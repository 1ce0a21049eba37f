"""Predictions and residuals of each observation, as pharmacometricians tabulate them."""

from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from sklme._engine.nlme.conditional import residuals
from sklme._engine.nlme.discrepancies import prediction_errors
from sklme._engine.nlme.simulate import simulate
from sklme._rows import check_number
from sklme.nonlinear._observed import observe


def residual_table(
    model, X=None, y=None, *, dosing=None, npde=False, n_simulations=1000, random_state=None
):
    """Tabulate predictions and residuals of each observation.

    Parameters
    ----------
    model : NonlinearMixedModel
        A fitted model, or a search that found one.
    X : {array-like, dataframe} of shape (n_samples, n_features), default=None
        Rows of some groups, all taken as new: their random effects are those that these rows speak
        for. None: the rows of fit.
    y : array-like of shape (n_samples,), default=None
        Their responses.
    dosing : Dosing, default=None
        Their doses; None: those of the model.
    npde : bool, default=False
        Whether to simulate the normalised prediction distribution errors.
    n_simulations : int, default=1000
        Draws of each group for these; more than any group has rows.
    random_state : int, RandomState instance or None, default=None
        Source of the draws.

    Returns
    -------
    table : DataFrame
        A row for each row of X, with its index. `subject`, `time` and `observed`, then

        - `PRED`, with the random effects at zero, and `IPRED`, at their mode; with a lognormal
          error these are medians;
        - `RES`, `observed` less `PRED`;
        - `IWRES`, what is left at the mode, over the standard deviation of the residual error;
        - `WRES`, what is left at zero effects, made uncorrelated within groups and of variance
          one by the covariance of the first-order approximation there;
        - `CWRES`, the same with the approximation at the mode [1]_;
        - `NPDE`, the share of simulated values below, as a normal quantile, after observed and
          simulated values were made uncorrelated within groups [2]_; with `npde` only.

        With a lognormal error the weighted residuals are those of log y. Where y is a limit of
        quantification only NPDE is known, from a value drawn below the limit.

    Notes
    -----
    Under the model `NPDE` is standard normal, and nearly so are `CWRES`; `IWRES` fall short of
    it where groups have few rows (shrinkage), `WRES` where the model is far from linear.

    References
    ----------
    .. [1] A. C. Hooker, C. E. Staatz and M. O. Karlsson, "Conditional weighted residuals (CWRES): a
       model diagnostic for the FOCE method", Pharm. Res. 24(12), 2007.
    .. [2] K. Brendel, E. Comets, C. Laffont, C. Laveille and F. Mentre, "Metrics for external
       model evaluation with an application to the population pharmacokinetics of gliclazide",
       Pharm. Res. 23(9), 2006.

    Examples
    --------
    >>> from sklme.datasets import load_orange
    >>> from sklme.nonlinear import NonlinearMixedModel, Parameter, residual_table
    >>> import numpy as np
    >>> X, y = load_orange(return_X_y=True)
    >>> growth = lambda age, top, middle, pace: top / (1 + np.exp((middle - age) / pace))
    >>> start = {"top": 190, "middle": Parameter(700, random=False)}
    >>> start["pace"] = Parameter(350, random=False)
    >>> model = NonlinearMixedModel(growth, start, group="Tree", time="age").fit(X, y)
    >>> table = residual_table(model)
    >>> print(table[["PRED", "IPRED", "CWRES"]].head(2).round(1).to_string())
       PRED  IPRED  CWRES
    0  28.0   24.0    0.7
    1  62.8   53.9    0.4
    """
    check_number("n_simulations", n_simulations, Integral, 2)
    found = observe(model, X, y, dosing)
    design, data = found.design, found.data
    at_mode, at_zero = _residuals(found)
    to_scale = np.exp if found.on_log else np.asarray
    blank = lambda values: np.where(found.censored, np.nan, values)
    population, individual = (
        to_scale(design.to_rows(f)) for f in (at_zero.population, at_mode.individual)
    )
    columns = {
        "subject": found.subject,
        "time": found.time,
        "observed": found.y,
        "PRED": population,
        "IPRED": individual,
        "RES": blank(found.y - population),
        "IWRES": design.to_rows(at_mode.weighted),
        "WRES": design.to_rows(at_zero.conditional),
        "CWRES": design.to_rows(at_mode.conditional),
    }
    if npde:
        _check_enough(n_simulations, data.y.shape[1])
        columns["NPDE"] = design.to_rows(_npde(found, n_simulations, random_state))
    known = {name: column for name, column in columns.items() if column is not None}
    return pd.DataFrame(known, index=getattr(X, "index", None))


def _residuals(found):
    """The engine's residuals at the modes and at zero effects."""
    eta = found.known.conditional.eta
    with np.errstate(all="ignore"):
        return [residuals(found.data, found.parameters, at) for at in (eta, np.zeros_like(eta))]


def _check_enough(n_simulations, longest):
    if n_simulations <= longest:
        raise ValueError(
            f"n_simulations={n_simulations} draws do not tell the covariance of the {longest} rows "
            "of a group: take more, such as 1000"
        )


def _npde(found, n_simulations, random_state):
    rng, data = check_random_state(random_state), found.data
    simulated = simulate(data, found.parameters, n_simulations, rng)
    return prediction_errors(data.y, simulated, data.mask, rng, censored=data.censored)
