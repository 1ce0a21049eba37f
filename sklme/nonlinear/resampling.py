"""The bootstrap: the model fitted again to groups that are drawn with replacement."""

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import pandas as pd
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.utils import check_random_state

from sklme._rows import check_number
from sklme.nonlinear._observed import column_of, rows_of_fit
from sklme.nonlinear._refit import Refit

TOLERANCE = 1e-5  # of the objective of a replicate, far below its standard deviation
STUCK = 1e-2  # the same where the search gets stuck: a tenth of a standard error


@dataclass(frozen=True, eq=False)
class NonlinearBootstrap:
    """Estimates from resampled groups, and what they say of each parameter.

    Parameters
    ----------
    replicates : DataFrame
        A row for each replicate, a column for each parameter: typical values on the natural scale,
        covariate effects, ``"sd CL"`` and ``"cor CL.V"`` of the random effects on the transformed
        scale, "additive" and "proportional" of the residual error. NaN where a fit failed.
    estimates : Series
        What the model itself estimates.
    messages : Series
        Why fits failed, by replicate; empty where none did.
    confidence_level : float
        Of the intervals in `table`.

    See Also
    --------
    bootstrap : What makes it.

    Examples
    --------
    >>> from sklme.datasets import load_orange
    >>> from sklme.nonlinear import NonlinearMixedModel, bootstrap
    >>> X, y = load_orange(return_X_y=True)
    >>> line = lambda age, rate, start: start + rate * age
    >>> model = NonlinearMixedModel(line, group="Tree", time="age").fit(X, y)
    >>> result = bootstrap(model, X, y, n_bootstraps=20, random_state=0)
    >>> len(result.replicates), list(result.replicates)
    (20, ['rate', 'start', 'sd rate', 'sd start', 'additive'])
    """

    replicates: pd.DataFrame
    estimates: pd.Series
    messages: pd.Series
    confidence_level: float = 0.95

    @property
    def n_failed(self):
        """Replicates whose fit failed or did not converge; the table leaves them out.

        Returns
        -------
        n : int
            How many.
        """
        return len(self.messages)

    @property
    def table(self):
        """Estimate, bias, standard error and interval of every parameter.

        Returns
        -------
        table : DataFrame
            Index: the parameters. `estimate` of the model; `bias`, mean of the replicates less
            the estimate; `std_error`, their standard deviation; `lower` and `upper`, their
            quantiles; `n`, how many replicates count.
        """
        used, tail = self.replicates, 0.5 * (1.0 - self.confidence_level)
        columns = {
            "estimate": self.estimates,
            "bias": used.mean() - self.estimates,
            "std_error": used.std(ddof=1),
            "lower": used.quantile(tail),
            "upper": used.quantile(1.0 - tail),
            "n": used.count(),
        }
        return pd.DataFrame(columns).loc[self.estimates.index]


def bootstrap(
    model,
    X,
    y,
    *,
    dosing=None,
    n_bootstraps=500,
    stratify=None,
    confidence_level=0.95,
    random_state=None,
    n_jobs=None,
):
    """Fit a model again to groups drawn with replacement.

    Parameters
    ----------
    model : NonlinearMixedModel
        A fitted model, or a search that found one.
    X : {array-like, dataframe} of shape (n_samples, n_features)
        The rows that it was fitted to.
    y : array-like of shape (n_samples,)
        Their responses.
    dosing : Dosing, default=None
        Their doses; None: those of the model.
    n_bootstraps : int, default=500
        Number of replicates.
    stratify : str or int, default=None
        Column of X, constant within groups, such as the arm of a trial: as many groups of each of
        its values are drawn as there are.
    confidence_level : float, default=0.95
        Of the intervals.
    random_state : int, RandomState instance or None, default=None
        Source of the draws; equal results whatever `n_jobs`.
    n_jobs : int, default=None
        Processes, as in joblib.

    Returns
    -------
    result : NonlinearBootstrap
        `replicates`, `estimates`, `messages` of failed fits, and `table`.

    Raises
    ------
    ValueError
        If X and y are not those of the fit, there are less than two groups, or `stratify` varies
        within a group.

    Notes
    -----
    Each search starts at the estimate of the model, with the references of its covariates, and
    ends when the objective may fall by no more than 1e-5. One that gets stuck, as with lag times,
    counts if no more than 0.01 was to gain, which moves no estimate by more than a tenth of its
    standard error.

    References
    ----------
    .. [1] H.-T. Thai, F. Mentre, N. H. G. Holford, C. Veyrat-Follet and E. Comets, "A comparison of
       bootstrap approaches for estimating uncertainty of parameters in linear mixed-effects
       models", Pharm. Stat. 12(3), 2013.

    Examples
    --------
    >>> from sklme.datasets import load_orange
    >>> from sklme.nonlinear import NonlinearMixedModel, bootstrap
    >>> X, y = load_orange(return_X_y=True)
    >>> line = lambda age, rate, start: start + rate * age
    >>> model = NonlinearMixedModel(line, group="Tree", time="age").fit(X, y)
    >>> table = bootstrap(model, X, y, n_bootstraps=50, random_state=0).table
    >>> bool(table.loc["rate", "lower"] < table.loc["rate", "estimate"])
    True
    """
    check_number("n_bootstraps", n_bootstraps, Integral, 2)
    check_number("confidence_level", confidence_level, Real, 0, 1)
    found = rows_of_fit(model, X, y, dosing, "bootstrap")
    strata = _strata(found, X, stratify)
    rng = check_random_state(random_state)
    drawn = [_draw(strata, rng) for _ in range(n_bootstraps)]
    seeds = rng.randint(2**31 - 1, size=n_bootstraps)
    refit, data = Refit(found), found.data
    jobs = np.array_split(np.arange(n_bootstraps), min(n_bootstraps, 4 * effective_n_jobs(n_jobs)))
    ends = Parallel(n_jobs=n_jobs)(
        delayed(_replicates)(refit, data, [drawn[b] for b in part], seeds[part]) for part in jobs
    )
    values, messages = zip(*(end for part in ends for end in part), strict=True)
    replicates = pd.DataFrame(np.array(values), columns=refit.names)
    estimates = pd.Series(refit.values(found.parameters), index=refit.names)
    failed = pd.Series({b: text for b, text in enumerate(messages) if text}, dtype=object)
    return NonlinearBootstrap(replicates, estimates, failed, confidence_level)


def _strata(found, X, stratify):
    """The numbers of the groups of each stratum."""
    groups = found.design.groups
    if groups.n < 2:
        raise ValueError("bootstrap draws groups: there must be at least two")
    if stratify is None:
        return [np.arange(groups.n)]
    _, codes = np.unique(column_of(found.model, X, stratify, "stratify"), return_inverse=True)
    first = codes[[rows[0] for rows in groups.rows]]
    if (codes != first[groups.codes]).any():
        row = int(np.argmax(codes != first[groups.codes]))
        raise ValueError(
            f"stratify names {stratify!r}, which varies within {groups.describe(row)}: groups are "
            "drawn as a whole"
        )
    return [np.flatnonzero(first == code) for code in np.unique(first)]


def _draw(strata, rng):
    return np.concatenate([rng.choice(groups, len(groups)) for groups in strata])


def _replicates(refit, data, drawn, seeds):
    """The estimates of some replicates, NaN and a message where there are none."""
    out = []
    for groups, seed in zip(drawn, seeds, strict=True):
        tol = max(refit.model.tol, TOLERANCE)
        fit, message = refit.attempt(data.take(groups), tol=tol, nearly=STUCK, seed=int(seed))
        values = np.full(len(refit.names), np.nan) if fit is None else refit.values(fit.parameters)
        out.append((values, message))
    return out
