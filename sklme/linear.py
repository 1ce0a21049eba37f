"""LinearMixedModel: linear regression with random effects of grouping columns."""

from copy import copy
from numbers import Integral, Real

import numpy as np
from scipy import stats
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sklme._columns import extend_columns, learn_columns, read_columns
from sklme._engine import lmm, units
from sklme._engine import predict as engine
from sklme._fitted import (
    codes_for_draws,
    first_output,
    make_design,
    named_record,
    no_optimum_message,
    present_rows,
    print_step,
    random_part,
    structures_of,
    unidentified_message,
    warn,
)
from sklme._rows import check_choice, check_number, check_rows, read_response, read_weights
from sklme._summary import summarize
from sklme._terms import parse_terms


class LinearMixedModel(RegressorMixin, BaseEstimator):
    """Linear model with random effects of grouping columns.

    The response of row i is ``x_i' coef + z_i' b[g(i)] + e_i``: what all rows share, what the level
    g(i) of a grouping column adds, and a residual. The effects b of the levels of a factor are
    normal with mean zero and a covariance that is estimated by (restricted) maximum likelihood, so
    that a level with few rows is pulled towards the rest (partial pooling). The grouping columns
    are columns of X. Without random effects this is (weighted) least squares.

    Parameters
    ----------
    random_effects : None, str, int, list, tuple or dict, default=None
        The grouping columns and what varies by level.

        - None: no random effects.
        - ``"site"`` (a column name) or ``0`` (a position): a random intercept per level.
        - ``["subject", "item"]``: crossed random intercepts.
        - ``("classroom", "child")``: the levels are the combinations of these columns.
        - ``{"subject": ["1", "day"]}``: random intercept and slope of `day`; ``"1"`` is the
          intercept. Keys by position take slopes by position, ``{0: ["1", 2]}``.
        - ``{"site": []}``: the column is left out of the model altogether.
    fixed_effects : list of str or int, default=None
        Columns with a fixed coefficient. None means all columns that are not keys of
        `random_effects` nor the offset.
    covariance_type : {"full", "diagonal", "spherical"} or dict, default="full"
        Covariance of the coefficients of one factor: correlated, uncorrelated, or uncorrelated
        with one variance for all. A dict gives it per factor, where blocks are allowed:
        ``{"g": [["1"], ["a", "b"]]}``.
    method : {"reml", "ml"}, default="reml"
        Restricted or full maximum likelihood.
    fit_intercept : bool, default=True
        Whether the fixed effects have an intercept.
    offset : str or int, default=None
        Column that is added to the linear predictor with coefficient 1.
    weight_type : {"frequency", "precision"}, default="frequency"
        Meaning of `sample_weight`. A frequency of 2 is the row twice and of 0 the row absent. A
        precision w says that the residual variance of the row is ``residual_variance_ / w``.
    handle_unknown : {"population", "error"}, default="population"
        What `predict` does with levels that `fit` has not seen: predict without their effect, or
        raise.
    solver : {"auto", "exact"}, default="auto"
        How several factors are eliminated. Both are exact block elimination.
    tol : float, default=1e-8
        The search ends when the Newton decrement, about the distance to the optimum in standard
        errors of the covariance parameters, is below this, or is bound to be after one more step.
    max_iter : int, default=100
        Most Newton steps.
    verbose : int, default=0
        1 prints a line for each step.

    Attributes
    ----------
    coef_ : ndarray of shape (n_fixed,) or (n_outputs, n_fixed)
        Fixed coefficients in the order of `fixed_names_`; 0 for a column that was dropped because
        it depends on earlier ones.
    intercept_ : float or ndarray of shape (n_outputs,)
        Fixed intercept, 0 without one.
    fixed_names_ : list of str
        Names of the columns with a fixed coefficient.
    random_effects_ : dict
        For each factor the effects of its levels, (n_levels, n_terms). With several outputs
        this and the following attributes lead with n_outputs.
    levels_ : dict
        For each factor its levels, (n_levels,), or (n_levels, n_columns) for combinations.
    covariance_ : dict
        For each factor the covariance of its coefficients, (n_terms, n_terms).
    theta_ : dict
        For each factor the lower Cholesky factor of ``covariance_ / residual_variance_`` with a
        diagonal that is not negative.
    residual_variance_ : float or ndarray of shape (n_outputs,)
        Variance of the residuals.
    log_likelihood_ : float or ndarray of shape (n_outputs,)
        Restricted or full log-likelihood with all constants, as R's ``logLik``.
    n_iter_ : int
        Evaluations of the criterion, the most of all outputs.
    converged_ : bool
        Whether the search reached `tol` for every output.
    optimization_ : Optimization
        How the search ended: `gradient_norm`, `decrement`, `n_evaluations`, `converged`,
        `at_zero` (variances estimated at zero, a proper optimum), `unidentified` (variances set to
        zero since the data cannot tell them), `columns_dropped`, `exact_fit`. Names are pairs of
        factor and coefficient.
    n_features_in_ : int
        Number of columns seen in fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns seen in fit, where X has names.

    See Also
    --------
    sklme.adapt : Teach a fitted pipeline the levels of new rows.
    sklearn.linear_model.LinearRegression : Without random effects.

    Notes
    -----
    The criterion is the profiled (restricted) likelihood of [1]_, minimised over the relative
    covariance factor theta by a Newton method with exact gradients and the average information of
    [2]_. The rows are read once; only cross-products by level are kept after `fit`.

    References
    ----------
    .. [1] D. Bates, M. Maechler, B. Bolker and S. Walker, "Fitting linear mixed-effects models
       using lme4", J. Stat. Softw. 67(1), 2015.
    .. [2] A. R. Gilmour, R. Thompson and B. R. Cullis, "Average information REML", Biometrics
       51, 1995.

    Examples
    --------
    >>> from sklme import LinearMixedModel
    >>> from sklme.datasets import load_sleepstudy
    >>> X, y = load_sleepstudy(return_X_y=True)
    >>> model = LinearMixedModel(random_effects={"Subject": ["1", "Days"]}).fit(X, y)
    >>> print(f"{model.intercept_:.1f} ms and {model.coef_[0]:.2f} ms a day")
    251.4 ms and 10.47 ms a day
    >>> print(model.covariance_["Subject"].round(1))
    [[612.1   9.6]
     [  9.6  35.1]]
    """

    def __init__(
        self,
        random_effects=None,
        *,
        fixed_effects=None,
        covariance_type="full",
        method="reml",
        fit_intercept=True,
        offset=None,
        weight_type="frequency",
        handle_unknown="population",
        solver="auto",
        tol=1e-8,
        max_iter=100,
        verbose=0,
    ):
        self.random_effects = random_effects
        self.fixed_effects = fixed_effects
        self.covariance_type = covariance_type
        self.method = method
        self.fit_intercept = fit_intercept
        self.offset = offset
        self.weight_type = weight_type
        self.handle_unknown = handle_unknown
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.verbose = verbose

    def fit(self, X, y, sample_weight=None):
        """Estimate fixed effects, variances and the effect of each level.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Features and grouping columns.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Response. Several outputs share X and are fitted together, each with its own variances.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights, see `weight_type`. Rows of weight 0 are absent.

        Returns
        -------
        self : LinearMixedModel
            The fitted model.

        Raises
        ------
        ValueError
            If the specification names columns that X does not have, ids or numbers are missing,
            or there are not more rows than fixed effects.
        """
        self._check_parameters()
        terms, ignored = parse_terms(self.random_effects, self.covariance_type)
        y, weights = read_response(self, y), read_weights(sample_weight, X)
        check_rows(X, y, weights)
        X, y, weights = present_rows(X, y, weights)
        columns, rows = learn_columns(
            self, X, terms, ignored=ignored, fixed_effects=self.fixed_effects, offset=self.offset
        )
        self._terms, self._columns, self._one_output = terms, columns, y.ndim == 1
        self._intercept = bool(self.fit_intercept)
        result = lmm.fit(
            self._design(rows, weights),
            _centred_on(rows, y),
            structures_of(terms),
            reml=self.method == "reml",
            precision=self.weight_type == "precision" and weights is not None,
            tol=self.tol,
            max_iter=self.max_iter,
            progress=print_step if self.verbose else None,
        )
        self._remember(result)
        self._report()
        return self

    def predict(self, X, return_std=False):
        """Expected response: conditional on the effects of known levels.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows to predict. Levels that are not known follow `handle_unknown`.
        return_std : bool, default=False
            Whether to return the standard deviation of the expected response as well.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Expected response.
        std : ndarray of the same shape
            Only with `return_std`: standard deviation due to what is not known of the coefficients
            and effects jointly; the prior variance of the effect for a level not seen. The
            variances themselves are taken as known.
        """
        check_is_fitted(self)
        rows = read_columns(self, X, self._columns, handle_unknown=self.handle_unknown)
        y = self._fixed_part(rows) + self._random_part(rows)
        return (
            (self._shaped(y), self._shaped(self._deviation(rows)))
            if return_std
            else (self._shaped(y))
        )

    def predict_population(self, X):
        """Expected response with all random effects at zero.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows to predict; their levels need not be known.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            The fixed part, with the offset.
        """
        check_is_fitted(self)
        return self._shaped(self._fixed_part(read_columns(self, X, self._columns)))

    def predict_interval(self, X, confidence_level=0.95):
        """Interval for a new observation of each row.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows to predict.
        confidence_level : float, default=0.95
            Probability that the interval covers a new observation.

        Returns
        -------
        interval : ndarray of shape (n_samples, 2) or (n_samples, 2, n_outputs)
            Lower and upper end: `predict` plus and minus the quantile of Student's t with N - p
            degrees of freedom times the standard deviation, residual variance included.
        """
        check_is_fitted(self)
        check_number("confidence_level", confidence_level, Real, 0, 1)
        rows = read_columns(self, X, self._columns, handle_unknown=self.handle_unknown)
        middle = self._fixed_part(rows) + self._random_part(rows)
        spread = np.sqrt(self._deviation(rows) ** 2 + np.atleast_1d(self.residual_variance_))
        dof = self._fit.gram.total - self._fit.columns.sum()
        if dof <= 0:
            raise ValueError(
                "predict_interval needs more rows in fit than fixed effects: nothing is left to "
                "tell the residual variance"
            )
        half = stats.t.ppf(0.5 + 0.5 * confidence_level, dof) * spread
        interval = np.stack([middle - half, middle + half], axis=1)
        return interval[..., 0] if self._one_output else interval

    def sample_y(self, X, n_samples=1, random_state=None):
        """Draw new observations of the rows of X.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows to draw for.
        n_samples : int, default=1
            Number of draws.
        random_state : int, RandomState instance or None, default=None
            Source of the draws.

        Returns
        -------
        y : ndarray of shape (n_rows, n_samples) or (n_rows, n_outputs, n_samples)
            New residuals; coefficients and effects of known levels from their joint posterior at
            the estimated variances, effects of levels not seen from the prior, the same for all
            rows of a level.
        """
        check_is_fitted(self)
        check_number("n_samples", n_samples, Integral, 1)
        rng = check_random_state(random_state)
        if self.handle_unknown == "error":
            read_columns(self, X, self._columns, handle_unknown="error")
        _, rows = extend_columns(self, X, self._columns)
        codes = codes_for_draws(rows.codes, self._columns.n_levels)
        new = engine.new_rows(self._fit, rows.X, codes, rows.slopes)
        draws = []
        for r, s2 in enumerate(np.atleast_1d(self.residual_variance_)):
            expected = engine.draw(self._fit, new, r, n_samples, rng)
            draws.append(expected + np.sqrt(s2) * rng.standard_normal(expected.shape))
        y = np.stack(draws, axis=1)
        if rows.offset is not None:
            y = y + rows.offset[:, None, None]
        return y[:, 0] if self._one_output else y

    def adapt(self, X, y, sample_weight=None):
        """Learn the levels of new rows; coefficients and variances stay.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows of new levels, or more rows of known ones.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Their responses.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights, see `weight_type`.

        Returns
        -------
        model : LinearMixedModel
            A fitted copy that knows these levels too; the model itself is not changed. Rows of
            known levels count together with those of `fit`.
        """
        check_is_fitted(self)
        y, weights = read_response(self, y, like=self), read_weights(sample_weight, X)
        check_rows(X, y, weights)
        X, y, weights = present_rows(X, y, weights)
        other = copy(self)
        other._columns, rows = extend_columns(self, X, self._columns)
        design = other._design(rows, weights)
        other._remember(lmm.adapt(self._fit, design, _centred_on(rows, y)))
        return other

    def summary(self):
        """Describe the fitted model as plain text.

        Returns
        -------
        text : str
            Method, criterion, random effects, how the factors are nested, fixed effects; 80
            columns wide. For several outputs, the first is described.
        """
        check_is_fitted(self)
        return summarize(self)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.input_tags.categorical = self.random_effects is not None
        return tags

    def _check_parameters(self):
        check_choice("method", self.method, ("reml", "ml"))
        check_choice("weight_type", self.weight_type, ("frequency", "precision"))
        check_choice("handle_unknown", self.handle_unknown, ("population", "error"))
        check_choice("solver", self.solver, ("auto", "exact"))
        check_number("tol", self.tol, Real, 0)
        check_number("max_iter", self.max_iter, Integral, 0)

    def _design(self, rows, weights):
        return make_design(rows, self._columns.n_levels, self._intercept, weights)

    def _remember(self, result):
        """The fitted attributes, in the units of the data."""
        self._fit = result
        keys = [term.key for term in self._terms]
        intercept, coef = units.coefficients(result)
        s2 = result.s2 * result.frame.y_scale**2
        factors = units.relative_factors(result)
        first = self._first
        self.coef_, self.intercept_ = first(coef), first(intercept)
        self.fixed_names_ = list(self._columns.fixed_names)
        self.residual_variance_ = first(s2)
        self.log_likelihood_ = first(-0.5 * result.criterion)
        self.theta_ = {key: first(L) for key, L in zip(keys, factors, strict=True)}
        self.covariance_ = {
            key: first(L @ L.swapaxes(1, 2) * s2[:, None, None])
            for key, L in zip(keys, factors, strict=True)
        }
        self.random_effects_ = {
            key: first(b) for key, b in zip(keys, units.level_effects(result), strict=True)
        }
        self.levels_ = {key: self._columns.labels(t) for t, key in enumerate(keys)}
        record = named_record(self._terms, self.fixed_names_, result, factors)
        self.optimization_ = first_output(record) if self._one_output else record
        self.n_iter_ = int(np.max(result.optimization.n_evaluations))
        self.converged_ = bool(np.all(result.optimization.converged))

    def _report(self):
        """At most one warning for each thing that a user should know."""
        record = self.optimization_
        if record.unidentified:
            warn(unidentified_message(record))
        if self._terms and np.any(record.exact_fit):
            warn(
                "the model reproduces y exactly: the log-likelihood has no bound and the "
                "residual variance is zero to rounding"
            )
        elif not self.converged_:
            warn(no_optimum_message(self))

    def _fixed_part(self, rows):
        y = rows.X @ np.atleast_2d(self.coef_).T + self.intercept_
        return y if rows.offset is None else y + rows.offset[:, None]

    def _random_part(self, rows):
        effects = [self.random_effects_[term.key] for term in self._terms]
        return random_part([b[None] if self._one_output else b for b in effects], rows)

    def _deviation(self, rows):
        new = engine.new_rows(self._fit, rows.X, rows.codes, rows.slopes)
        return np.sqrt(engine.variance(self._fit, new))

    def _first(self, values):
        """Drop the axis of outputs where there is one output; numbers become Python's."""
        if not self._one_output:
            return values
        one = values[0]
        return one.item() if one.ndim == 0 else one

    def _shaped(self, y):
        return y[:, 0] if self._one_output else y


def _centred_on(rows, y):
    """y without the offset, as (n, n_outputs)."""
    y = y.reshape(len(y), -1)
    return y if rows.offset is None else y - rows.offset[:, None]
