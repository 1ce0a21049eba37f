"""Which covariates move which parameters, by adding and removing them one at a time."""

from dataclasses import dataclass
from numbers import Real

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import stats
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, check_cv
from sklearn.utils.metaestimators import _safe_split

from sklme._rows import check_choice, check_number
from sklme.nonlinear._warm import attempt_from, fit_from
from sklme.nonlinear.parameters import Covariate

CRITERIA = ("likelihood", "cross-validation")
COLUMNS = (
    *("step", "action", "parameter", "covariate", "form", "objective", "change", "dof", "p_value"),
    *("score", "converged", "chosen"),
)


@dataclass(frozen=True, eq=False)
class CovariateSearch:
    """The model that a search ended with, and its steps.

    Parameters
    ----------
    model : NonlinearMixedModel
        Fitted to all rows, with the covariates that were kept.
    steps : DataFrame
        A row for each covariate that was tried in each step: `action`, "add" or "remove";
        `parameter`, `covariate` and `form`; the `objective` of the fit, its `change` from that of
        the step before; `dof`, `p_value` of the likelihood ratio, or `score`, the mean
        cross-validated log-density per row; whether the fit `converged`, and whether it was
        `chosen`.
    selected : list of tuple
        The (parameter, column) that were kept of the candidates.

    See Also
    --------
    covariate_search : What makes it.

    Examples
    --------
    >>> from sklme.datasets import load_theophylline
    >>> from sklme.nonlinear import Covariate, NonlinearMixedModel, covariate_search
    >>> import numpy as np
    >>> X, y = load_theophylline(return_X_y=True)
    >>> late = X["Time"] > 5
    >>> line = lambda time, level, k, dose: dose * level * np.exp(-k * time)
    >>> X = X.rename(columns={"Dose": "dose"})[late]
    >>> model = NonlinearMixedModel(line, {"level": 2.0, "k": 0.1}, group="Subject", time="Time")
    >>> found = covariate_search(model, X, y[late], {"level": [Covariate("Wt")]})
    >>> found.steps.columns[:4].tolist()
    ['step', 'action', 'parameter', 'covariate']
    """

    model: object
    steps: pd.DataFrame
    selected: list


def covariate_search(
    model,
    X,
    y,
    candidates,
    *,
    criterion="likelihood",
    p_enter=0.05,
    p_remove=0.01,
    min_gain=0.0,
    cv=None,
    n_jobs=None,
    verbose=0,
):
    """Add the covariates that help most one at a time, then remove those that do not.

    Parameters
    ----------
    model : NonlinearMixedModel
        The model to start from, fitted or not; covariates that it has are kept.
    X : {array-like, dataframe} of shape (n_samples, n_features)
        Rows.
    y : array-like of shape (n_samples,)
        Their responses.
    candidates : dict of str to list of Covariate
        By parameter what may be added; a name stands for ``Covariate(name)``.
    criterion : {"likelihood", "cross-validation"}, default="likelihood"
        "likelihood" adds while the likelihood ratio test has a p-value below `p_enter`, and then
        removes while the largest is above `p_remove`. "cross-validation" adds while the score of
        groups that were held out rises by more than `min_gain`, and removes while it does not fall.
    p_enter : float, default=0.05
        For "likelihood".
    p_remove : float, default=0.01
        For "likelihood".
    min_gain : float, default=0.0
        For "cross-validation": rise of the mean log-density per row.
    cv : int or splitter, default=None
        For "cross-validation": how groups are held out; None: ``GroupKFold(5)``.
    n_jobs : int, default=None
        Processes that fit the models of a step, as in joblib.
    verbose : int, default=0
        1 prints the steps.

    Returns
    -------
    search : CovariateSearch
        The final `model`, the table of `steps`, what was `selected`.

    Raises
    ------
    ValueError
        If a candidate names no parameter or is in the model already, or no model could be fitted.

    Notes
    -----
    The p-values are those of one test, not of the best of many: a search of many candidates finds
    some by chance, and estimates of what was found are too large on average. Cross-validation of
    the search as a whole is honest about both.

    References
    ----------
    .. [1] E. N. Jonsson and M. O. Karlsson, "Automated covariate model building within NONMEM",
       Pharm. Res. 15(9), 1998.

    Examples
    --------
    >>> from sklme.datasets import load_theophylline
    >>> from sklme.nonlinear import NonlinearMixedModel, covariate_search
    >>> import numpy as np
    >>> X, y = load_theophylline(return_X_y=True)
    >>> late = X["Time"] > 5
    >>> line = lambda time, level, k, dose: dose * level * np.exp(-k * time)
    >>> X = X.rename(columns={"Dose": "dose"})[late]
    >>> model = NonlinearMixedModel(line, {"level": 2.0, "k": 0.1}, group="Subject", time="Time")
    >>> found = covariate_search(model, X, y[late], {"level": ["Wt"], "k": ["Wt"]})
    >>> found.selected
    []
    """
    check_choice("criterion", criterion, CRITERIA)
    for name, value in (("p_enter", p_enter), ("p_remove", p_remove)):
        check_number(name, value, Real, 0, 1)
    check_number("min_gain", min_gain, Real, -np.inf)
    rule = _Likelihood(p_enter, p_remove) if criterion == "likelihood" else _Held(min_gain)
    search = _Search(model, X, y, _read(candidates), rule, cv, n_jobs, verbose)
    search.forward()
    search.backward()
    return search.result()


def _read(candidates):
    """(parameter, Covariate) of each candidate."""
    if not isinstance(candidates, dict):
        raise ValueError(
            f"candidates is {candidates!r}; it must be a dict such as "
            '{"CL": [Covariate("weight")]}'
        )
    out = []
    for name, covariates in candidates.items():
        listed = [covariates] if isinstance(covariates, Covariate | str) else list(covariates)
        out += [(name, c if isinstance(c, Covariate) else Covariate(c)) for c in listed]
    return out


class _Likelihood:
    """By the likelihood ratio test."""

    scores = False

    def __init__(self, p_enter, p_remove):
        self.p_enter, self.p_remove = p_enter, p_remove

    def best(self, action, rows, score):
        """The row to take, or None."""
        tried = [row for row in rows if row["converged"] and np.isfinite(row["p_value"])]
        if action == "add":
            good = [row for row in tried if row["p_value"] < self.p_enter]
            return min(good, key=lambda row: (row["p_value"], row["change"]), default=None)
        good = [row for row in tried if row["p_value"] > self.p_remove]
        return max(good, key=lambda row: row["p_value"], default=None)


class _Held:
    """By the log-density of groups that were held out."""

    scores = True

    def __init__(self, min_gain):
        self.min_gain = min_gain

    def best(self, action, rows, score):
        """The row to take, or None."""
        least = score + (self.min_gain if action == "add" else 0.0)
        tried = [row for row in rows if row["converged"] and np.isfinite(row["score"])]
        enough = np.greater if action == "add" else np.greater_equal
        good = [row for row in tried if enough(row["score"], least)]
        return max(good, key=lambda row: row["score"], default=None)


class _Search:
    """The state of a search: the model as it is, and what was tried.

    known : the fitted model and its score, by the candidates that it has
    """

    def __init__(self, model, X, y, candidates, rule, cv, n_jobs, verbose):
        self.X, self.y, self.rule, self.verbose = X, y, rule, verbose
        self.run, self.rows, self.kept, self.n = Parallel(n_jobs=n_jobs), [], [], 0
        self.errors = model.standard_errors
        first = clone(model).set_params(standard_errors=None)
        fitted, message = attempt_from(first, X, y, model if hasattr(model, "_layout") else None)
        if fitted is None:
            raise ValueError(f"the model to start from could not be fitted: {message}")
        self.splits = _splits(fitted, X, y, cv) if rule.scores else None
        self.known = {frozenset(): (fitted, _score(fitted, X, y, self.splits), message)}
        self.candidates = candidates
        for name, covariate in candidates:
            _check_candidate(fitted, name, covariate)

    @property
    def model(self):
        """The model as it is."""
        return self.known[frozenset(self.kept)][0]

    @property
    def score(self):
        """Its score."""
        return self.known[frozenset(self.kept)][1]

    def forward(self):
        """Add what helps most, until nothing does."""
        while True:
            have = {self._place(c) for c in self.kept}
            left = [c for c in range(len(self.candidates)) if self._place(c) not in have]
            chosen = self._step("add", left) if left else None
            if chosen is None:
                return
            self.kept.append(chosen)

    def backward(self):
        """Remove what helps least, until everything helps."""
        while self.kept:
            chosen = self._step("remove", self.kept)
            if chosen is None:
                return
            self.kept = [c for c in self.kept if c != chosen]

    def _place(self, c):
        """A covariate enters a parameter in one form alone."""
        name, covariate = self.candidates[c]
        return name, covariate.column

    def _step(self, action, tried):
        """Fit the models of a step; the candidate that was taken, or None."""
        self.n += 1
        change = _with if action == "add" else _without
        after = [frozenset({*self.kept} ^ {c}) for c in tried]
        new = [k for k, have in enumerate(after) if have not in self.known]
        jobs = [change(self.model, *self.candidates[tried[k]]) for k in new]
        ends = self.run(delayed(_try)(job, self.X, self.y, self.splits, self.model) for job in jobs)
        self.known |= {after[k]: end for k, end in zip(new, ends, strict=True)}
        rows = [
            self._row(action, self.candidates[c], *self.known[have])
            for c, have in zip(tried, after, strict=True)
        ]
        best = self.rule.best(action, rows, self.score)
        for row in rows:
            row["chosen"] = row is best
        self.rows += rows
        if self.verbose:
            print(_line(action, best))
        return None if best is None else tried[rows.index(best)]

    def _row(self, action, candidate, fitted, score, message):
        name, covariate = candidate
        row = {"step": self.n, "action": action, "parameter": name, "covariate": covariate.column}
        row |= {"form": covariate.form, "score": score, "message": message}
        row |= {"objective": np.nan, "change": np.nan, "dof": 0, "p_value": np.nan}
        row["converged"] = fitted is not None and fitted.converged_
        if fitted is not None:
            change = fitted.objective_ - self.model.objective_
            dof = abs(fitted._n_searched - self.model._n_searched)
            ratio = -change if action == "add" else change
            p = float(stats.chi2.sf(max(ratio, 0.0), dof)) if dof else np.nan
            row |= {"objective": fitted.objective_, "change": change, "dof": dof, "p_value": p}
        return row

    def result(self):
        """The final model with its standard errors, and the table."""
        table = pd.DataFrame(self.rows, columns=[*COLUMNS, "message"])
        if not self.rule.scores:
            table = table.drop(columns="score")
        final = clone(self.model).set_params(standard_errors=self.errors)
        final = fit_from(final, self.X, self.y, self.model)
        return CovariateSearch(final, table, [self._place(c) for c in self.kept])


def _check_candidate(model, name, covariate):
    parameters = model._layout.parameters
    if name not in parameters:
        raise ValueError(
            f"candidates names {name!r}, which is no parameter of the structure; it has "
            f"{', '.join(map(repr, parameters))}"
        )
    if any(c.column == covariate.column for c in parameters[name].covariates):
        raise ValueError(f"{name!r} has the covariate {covariate.column!r} already")


def _line(action, best):
    if best is None:
        return f"{action}: nothing"
    return f"{action} {best['covariate']} of {best['parameter']}: objective {best['objective']:.3f}"


def _try(model, X, y, splits, other):
    """A model fitted from the estimates of another, its score, and why there is none."""
    fitted, message = attempt_from(model, X, y, other)
    if fitted is None:
        return None, np.nan, message
    return fitted, _score(fitted, X, y, splits), message


def _splits(model, X, y, cv):
    """The rows to fit and to score, with whole groups held out."""
    groups = model._rows.groups
    if groups.n < 2:
        raise ValueError("cross-validation holds groups out: there must be at least two")
    cv = GroupKFold(min(5, groups.n)) if cv is None else GroupKFold(cv) if np.isscalar(cv) else cv
    return list(check_cv(cv).split(X, y, groups.codes))


def _score(model, X, y, splits):
    """Mean log-density of the rows that were held out, nan if a fold could not be fitted."""
    if splits is None:
        return np.nan
    total = count = 0.0
    for train, test in splits:
        X_train, y_train = _safe_split(model, X, y, train)
        X_test, y_test = _safe_split(model, X, y, test, train)
        fitted, _ = attempt_from(clone(model), X_train, y_train, model)
        if fitted is None:
            return np.nan
        total += len(test) * fitted.score(X_test, y_test)
        count += len(test)
    return total / count


def _with(model, name, covariate):
    """The model, not fitted, with a further covariate."""
    return _changed(model, name, lambda given: [*given, clone(covariate)])


def _without(model, name, covariate):
    return _changed(model, name, lambda given: [c for c in given if c.column != covariate.column])


def _changed(model, name, change):
    parameters = {key: clone(given) for key, given in model._layout.parameters.items()}
    parameters[name].set_params(covariates=change(list(parameters[name].covariates)))
    return clone(model).set_params(parameters=parameters)
