"""The nonlinear mixed model."""

import warnings
from copy import copy
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, column_or_1d

from sklme._engine.nlme.errors import variance
from sklme._engine.nlme.kinds import KINDS as ERRORS
from sklme._engine.nlme.sampling import importance_sampling
from sklme._rows import check_choice, check_number, check_rows, read_response
from sklme.nonlinear import _results as results
from sklme.nonlinear._checks import check_rows_of_fit, read_layout, warn_of_late_doses
from sklme.nonlinear._design import Design, read_rows
from sklme.nonlinear._estimate import METHODS, engine_method, estimate, read_omega
from sklme.nonlinear._frames import frame
from sklme.nonlinear._known import learn_effects, refuse_unknown, roots
from sklme.nonlinear._nested import get_nested, set_nested
from sklme.nonlinear._probe import probe
from sklme.nonlinear._start import find_start
from sklme.nonlinear._summary import summarize
from sklme.nonlinear._table import Table
from sklme.nonlinear.posterior import Posterior, individual_parameters

DRAWS = 1000  # of importance sampling in score, with fixed random numbers
KINDS = ("sandwich", "hessian", "score")
LOOK_AROUND = ("focei", "foce", "laplace", "agq")  # methods that end with a look for lower modes


class NonlinearMixedModel(RegressorMixin, BaseEstimator):
    """Nonlinear mixed-effects model: a structure whose parameters differ between groups.

    The parameters of a group are, on a transformed scale, a typical value plus effects of
    covariates plus random effects of the group (and, if wanted, of each of its occasions). Without
    a group it is nonlinear regression. Without a structure it is a linear predictor of all columns
    that have no other role, with an intercept that differs between groups.

    Parameters
    ----------
    structure : callable or compartment model, default=None
        What is expected of a row. A function such as ``f(time, ka, CL, V)`` of numpy arrays, whose
        arguments are matched by name with `parameters`, then with columns of X; a first argument
        that is neither is the column `time`. It must work element by element. Or a model of
        ``sklme.pharmacokinetics``, which reads `time` and `dosing`. None: intercept plus slopes
        of all columns, parameters "intercept" and the names of the columns.
    parameters : dict of str to (Parameter, float or None), default=None
        The parameters of the structure; a number is a `Parameter` that starts there. None: each
        argument of the structure that is no column is a ``Parameter()``.
    group : str or int, default=None
        Column of X that says which group (subject) a row belongs to. None: all rows are one
        group without random effects.
    time : str or int, default=None
        Column of X that is the first argument of `structure`.
    omega : {"diagonal", "full"} or list of lists of str, default="diagonal"
        Which random effects covary: none, all, or those in blocks such as
        ``[["CL", "V"], ["KA"]]``; what the blocks do not name varies by itself.
    error : {"additive", "proportional", "combined", "combined1", "lognormal"}, \
default="additive"
        The residual error. With prediction f, its variance is a^2, (b f)^2, a^2 + (b f)^2 or
        (a + b f)^2; "lognormal" is an additive error of log y.
    method : {"focei", "foce", "fo", "laplace", "agq", "saem", "lindstrom-bates"}, \
default="focei"
        How the likelihood is approximated. "saem" maximises it without an approximation; its value
        then is by importance sampling, and standard errors are those of "focei" at the estimate.
        "lindstrom-bates" alternates least squares and linear mixed models as R's nlme does; its
        likelihood and its standard errors, of coefficients only, are those of the last of these.
    occasion : str or int, default=None
        Column of X that divides the rows of a group into occasions.
    occasion_parameters : list of str, default=None
        Parameters with a further random effect for each occasion; None: all random ones.
    dosing : Dosing, default=None
        The doses of compartment models.
    censored : str or int, default=None
        Column of X, true where y is a limit that the observation lies below. Read with y only.
    n_quadrature : int, default=5
        Nodes for each random effect with ``method="agq"``.
    n_starts : int, default=1
        With more, the search is repeated from places scattered around the first.
    handle_unknown : {"population", "error"}, default="population"
        What `predict` does with groups that `fit` has not seen.
    standard_errors : {"sandwich", "hessian", "score"}, default="sandwich"
        By the second derivative of the log-likelihood, by the gradients of the groups ("score"), or
        by both; with a single group always by the second derivative. None: not at all.
    tol : float, default=1e-8
        The search ends when the decrease of the objective that is still expected is below this.
    max_iter : int, default=200
        Most steps of the search; "saem" finds its own number.
    random_state : int, RandomState instance or None, default=None
        Source of scattered starts and of stochastic methods.
    verbose : int, default=0
        1 prints a line for each step.

    Attributes
    ----------
    parameters_ : DataFrame
        Typical values on the natural scale and covariate effects: `estimate`, `std_error`, `rse`
        (std_error / estimate), `lower` and `upper` end of the 95 % interval, which is
        symmetric on the transformed scale. NaN where a value is fixed.
    coef_ : Series
        Typical values on the transformed scale and covariate effects.
    omega_ : DataFrame
        Covariance of the random effects, on the transformed scale; effects of occasions, called
        ``"CL (occasion)"``, stand behind those of the groups.
    error_ : dict
        Standard deviations "additive" (a) and "proportional" (b), as far as `error` has them.
    random_effects_ : DataFrame
        Mode of the random effects of each group.
    individual_parameters_ : DataFrame
        Parameters of each group at its mode, on the natural scale, at its first row; with
        occasions at the first row of each occasion.
    levels_ : dict
        The groups, by the name of their column as given; empty without one.
    shrinkage_ : Series
        ``1 - sd(mode) / sd`` for each random effect of the groups, and ``1 - sd`` of the weighted
        residuals.
    log_likelihood_ : float
        With all constants, as the method approximates it.
    objective_ : float
        -2 log-likelihood without ``n log(2 pi)``: NONMEM's objective function value.
    n_iter_ : int
        Steps of the search.
    converged_ : bool
        Whether it reached `tol`.
    optimization_ : Optimization
        How the search ended: `gradient_norm`, `decrement`, `n_evaluations`, `converged`,
        `message`, `at_zero`, `exact_fit`, `monte_carlo_error`.
    n_features_in_ : int
        Number of columns seen in fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns seen in fit, where X has names.

    See Also
    --------
    Parameter : The transform, start, random effect and covariates of a parameter.
    sklme.LinearMixedModel : Where everything is linear.

    Notes
    -----
    The conditional methods expand the log-likelihood of each group around the mode of its random
    effects, "foce" with the error variance of the typical group, "focei" with that at the mode
    [1]_, "laplace" with the exact curvature; "agq" integrates around it [2]_. Gradients are
    exact [3]_. After "fo", "saem" and "lindstrom-bates" the effects of groups are the modes of
    "focei", "focei" and "foce" at the estimated population.

    Where a Parameter has no `initial`, least squares over all rows finds it, from many values.
    Where several are as good, as for two rates that can be exchanged, the search is made from each
    and the best end counts; with a compartment model, only from those that absorb faster than they
    eliminate.

    A covariate may vary within a group; the parameters then vary by row. In a compartment model
    those of a row rule from the row before it. Columns of X that nothing names are not read.

    References
    ----------
    .. [1] M. J. Lindstrom and D. M. Bates, "Nonlinear mixed effects models for repeated measures
       data", Biometrics 46, 1990.
    .. [2] J. C. Pinheiro and D. M. Bates, "Approximations to the log-likelihood function in the
       nonlinear mixed-effects model", J. Comput. Graph. Stat. 4(1), 1995.
    .. [3] J. Almquist, J. Leander and M. Jirstrand, "Using sensitivity equations for computing
       gradients of the FOCE and FOCEI approximations to the population likelihood", J.
       Pharmacokinet. Pharmacodyn. 42, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from sklme.datasets import load_theophylline
    >>> from sklme.nonlinear import NonlinearMixedModel
    >>> X, y = load_theophylline(return_X_y=True)
    >>> X["dose"] = X["Dose"] * X["Wt"]
    >>> def oral(time, ka, CL, V, dose):
    ...     k = CL / V
    ...     return dose * ka / V / (ka - k) * (np.exp(-k * time) - np.exp(-ka * time))
    >>> start = {"ka": 1.5, "CL": 2.7, "V": 30.0}
    >>> model = NonlinearMixedModel(oral, start, group="Subject", time="Time").fit(X, y)
    >>> print(model.parameters_["estimate"].round(2).to_dict())
    {'ka': 1.59, 'CL': 2.75, 'V': 31.81}
    >>> print(f"{model.objective_:.4f}")
    116.8034
    """

    def __init__(
        self,
        structure=None,
        parameters=None,
        *,
        group=None,
        time=None,
        omega="diagonal",
        error="additive",
        method="focei",
        occasion=None,
        occasion_parameters=None,
        dosing=None,
        censored=None,
        n_quadrature=5,
        n_starts=1,
        handle_unknown="population",
        standard_errors="sandwich",
        tol=1e-8,
        max_iter=200,
        random_state=None,
        verbose=0,
    ):
        self.structure = structure
        self.parameters = parameters
        self.group = group
        self.time = time
        self.omega = omega
        self.error = error
        self.method = method
        self.occasion = occasion
        self.occasion_parameters = occasion_parameters
        self.dosing = dosing
        self.censored = censored
        self.n_quadrature = n_quadrature
        self.n_starts = n_starts
        self.handle_unknown = handle_unknown
        self.standard_errors = standard_errors
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.verbose = verbose

    def get_params(self, deep=True):
        """Get the parameters of the estimator.

        Parameters
        ----------
        deep : bool, default=True
            Whether to add those of `structure` and of each entry of `parameters`, as
            ``parameters__CL`` and ``parameters__CL__covariates``.

        Returns
        -------
        params : dict
            Names and values.
        """
        return get_nested(super().get_params(deep), self.parameters, deep)

    def set_params(self, **params):
        """Set parameters of the estimator, as `get_params` names them.

        Parameters
        ----------
        **params : dict
            Names and values.

        Returns
        -------
        self : NonlinearMixedModel
            The estimator.
        """
        nested = {k: v for k, v in params.items() if k.startswith("parameters__")}
        super().set_params(**{k: v for k, v in params.items() if k not in nested})
        if nested:
            self.parameters = set_nested(self.parameters, nested)
        return self

    def fit(self, X, y):
        """Estimate typical values, covariate effects, variances and the effects of each group.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Groups, times, covariates and whatever else the structure reads.
        y : array-like of shape (n_samples,)
            Response.

        Returns
        -------
        self : NonlinearMixedModel
            The fitted model.

        Raises
        ------
        ValueError
            If the specification names columns that X does not have, values are missing or not
            possible, or the structure gives no numbers at the start.

        Warns
        -----
        ConvergenceWarning
            If no optimum was found or there are no standard errors.
        UserWarning
            If a subject has a dose after its last sample.
        """
        self._check_parameters()
        y = self._read_y(X, y)
        table = Table(self, X, reset=True)
        layout, rows = read_layout(self, table, y)
        check_rows_of_fit(layout, rows)
        blocks = read_omega(self.omega, [layout.names[k] for k in layout.random])
        design = Design(layout, rows, self.dosing)
        warn_of_late_doses(layout, rows, self.dosing)
        rng = check_random_state(0 if self.random_state is None else self.random_state)
        start = find_start(layout, design, y, rng)
        self._try_out(layout, design, start)
        found = estimate(self, design, start, blocks, int(rng.randint(2**31 - 1)))
        self._layout, self._rows, self._adapted = layout, rows, False
        self._dosing_of_fit = self.dosing
        self._population = results.population_of(layout, found.fit)
        method = engine_method(self.method, self.n_quadrature)
        looked = found.fit.converged and self.method in LOOK_AROUND
        known = learn_effects(design, self._population, method, found.fit.u, not looked)
        self._remember(design, known)
        self._record(found, start.unidentified)
        return self

    def predict(self, X, dosing=None):
        """Predict with the random effects of known groups.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows to predict. Groups that are not known follow `handle_unknown`; occasions that are
            not known have no effect.
        dosing : Dosing, default=None
            Doses; None: those of the model.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            The structure at the modes of the random effects; with a lognormal error that is the
            median.
        """
        design = self._new_design(X, dosing, self._known_effects())
        eta, _ = self._known.place(design)
        return design.predict(self._population.beta, eta)

    def predict_population(self, X, dosing=None):
        """Predict with all random effects at zero.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows to predict; their groups need not be known.
        dosing : Dosing, default=None
            Doses; None: those of the model.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            The structure at the typical values and covariate effects.
        """
        check_is_fitted(self)
        design = self._new_design(X, dosing)
        return design.predict(self._population.beta, np.zeros(design.B.shape[::3]))

    def adapt(self, X, y, dosing=None):
        """Learn the random effects of new groups; the population stays.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows of new groups, or more rows of known ones.
        y : array-like of shape (n_samples,)
            Their responses.
        dosing : Dosing, default=None
            Doses of all groups, known and new; None: those of the model.

        Returns
        -------
        model : NonlinearMixedModel
            A fitted copy that knows these groups too; the model itself is not changed. Rows of
            known groups count together with those of `fit`.
        """
        check_is_fitted(self)
        y = self._read_y(X, y)
        rows = read_rows(self._layout, Table(self, X, reset=False), y)
        other = copy(self)
        check_rows_of_fit(self._layout, rows, more=True)
        other._rows, other._adapted = self._rows.joined(rows), True
        other._dosing_of_fit = self._dosing_of_fit if dosing is None else dosing
        design = Design(self._layout, other._rows, other._dosing_of_fit)
        method = engine_method(self.method, self.n_quadrature)
        other._remember(design, learn_effects(design, self._population, method))
        return other

    def condition(self, X, y, dosing=None):
        """Find what rows of some groups say about their random effects, as if all were new.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows of these groups; what fit saw of them does not count.
        y : array-like of shape (n_samples,)
            Their responses.
        dosing : Dosing, default=None
            Their doses; None: those of the model.

        Returns
        -------
        posterior : Posterior
            Mode and covariance of the random effects, individual parameters, draws, predictions.
        """
        check_is_fitted(self)
        design = self._observed_design(X, y, dosing)
        method = engine_method(self.method, self.n_quadrature)
        return Posterior(self, design, learn_effects(design, self._population, method), dosing)

    def sample_y(self, X, n_samples=1, random_state=None, dosing=None):
        """Draw new observations of the rows of X.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows to draw for.
        n_samples : int, default=1
            Number of draws.
        random_state : int, RandomState instance or None, default=None
            Source of the draws.
        dosing : Dosing, default=None
            Doses; None: those of the model.

        Returns
        -------
        y : ndarray of shape (n_rows, n_samples)
            Random effects of known groups from their posterior (normal, at the mode), others from
            the population, and new residual errors; typical values and variances as estimated.
        """
        check_number("n_samples", n_samples, Integral, 1)
        design = self._new_design(X, dosing, self._known_effects())
        rng = check_random_state(random_state)
        mean, covariance = self._known.place(design)
        z = rng.standard_normal((n_samples, *mean.shape))
        f = design.predict(self._population.beta, mean + (roots(covariance) @ z[..., None])[..., 0])
        noise = rng.standard_normal(f.shape)
        if self._layout.error == "lognormal":
            return (f * np.exp(self._population.sigma[0] * noise)).T
        data = design.data(self._layout.error)
        R = variance(data, self._population.sigma, f).R
        return (f + np.sqrt(R) * noise).T

    def score(self, X, y, dosing=None):
        """Mean marginal log-density per observation, all groups taken as new.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows of groups that were held out.
        y : array-like of shape (n_samples,)
            Their responses.
        dosing : Dosing, default=None
            Their doses; None: those of the model.

        Returns
        -------
        score : float
            Log-density of the responses of each group with its random effects integrated out by
            importance sampling with fixed random numbers, summed and divided by the number of
            rows. Higher is better; it is no R2. Censored rows count with their probability.
        """
        check_is_fitted(self)
        design = self._observed_design(X, y, dosing)
        data = design.data()
        parameters = self._population.parameters(design.n_occasions)
        found = importance_sampling(data, parameters, n_draws=DRAWS, seed=0)
        uncensored = data.n_observations - (0 if data.censored is None else data.censored.sum())
        return float(-0.5 * (found.value + uncensored * np.log(2.0 * np.pi)) / data.n_observations)

    def summary(self):
        """Describe the fitted model as plain text.

        Returns
        -------
        text : str
            Method, criteria, typical values, covariate effects, variances, shrinkage and residual
            error; 80 columns wide.
        """
        check_is_fitted(self)
        return summarize(self)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # the score is a log-density, no R2
        tags.input_tags.categorical = self.group is not None
        return tags

    def _check_parameters(self):
        check_choice("error", self.error, tuple(ERRORS))
        check_choice("method", self.method, METHODS)
        check_choice("handle_unknown", self.handle_unknown, ("population", "error"))
        if self.standard_errors is not None:
            check_choice("standard_errors", self.standard_errors, KINDS)
        for name, least in (("n_quadrature", 1), ("n_starts", 1), ("max_iter", 1)):
            check_number(name, getattr(self, name), Integral, least)
        check_number("tol", self.tol, Real, 0)

    def _read_y(self, X, y):
        y = read_response(self, y)
        check_rows(X, y, None)
        return column_or_1d(y, warn=True)

    def _try_out(self, layout, design, start):
        E = len(layout.random) + design.n_occasions * len(layout.varying)
        psi = design.natural(start.beta, np.zeros((design.groups.n, E)))
        probe(layout.specification, design, psi, self.error)

    def _new_design(self, X, dosing, known=None):
        """Rows to predict."""
        rows = read_rows(self._layout, Table(self, X, reset=False))
        if known is not None and self.handle_unknown == "error":
            refuse_unknown(known, rows.groups)
        return Design(self._layout, rows, self._dosing_of_fit if dosing is None else dosing)

    def _observed_design(self, X, y, dosing):
        y = self._read_y(X, y)
        rows = read_rows(self._layout, Table(self, X, reset=False), y)
        check_rows_of_fit(self._layout, rows, more=True)
        return Design(self._layout, rows, self._dosing_of_fit if dosing is None else dosing)

    def _known_effects(self):
        check_is_fitted(self)
        return self._known

    def _remember(self, design, known):
        """What is known of the groups."""
        layout, groups = self._layout, design.groups
        self._known, self._design = known, design
        names = [layout.names[k] for k in layout.random]
        self.random_effects_ = frame(known.between, (groups.name or None, groups.labels), names)
        self.individual_parameters_ = individual_parameters(design, known)
        self.levels_ = {} if groups.table is None else {self.group: groups.labels}
        if design.rows.occasions is not None:
            self.levels_[self.occasion] = design.rows.occasions.labels

    def _record(self, estimate, unidentified):
        """What the search found, and warnings where it found less than hoped."""
        layout, rows, found = self._layout, self._rows, estimate.fit
        self._mixed = bool(layout.random or layout.varying)
        self._n_searched = found.n_parameters
        self._errors = results.find_errors(estimate, self.standard_errors, rows.groups.n)
        self.parameters_ = results.parameter_table(layout, self._population.beta, self._errors)
        self.coef_ = results.coefficient_series(layout, self._population.beta)
        self.omega_ = results.omega_table(layout, self._population)
        self.error_ = results.error_dict(layout, self._population.sigma)
        self.shrinkage_ = results.shrinkage_series(layout, self._design, self._known)
        self.log_likelihood_ = -0.5 * float(found.minus2_log_likelihood)
        self.objective_ = float(found.value)
        self.n_iter_ = max(1, int(found.n_iterations))
        self.converged_ = bool(found.converged)
        self.optimization_ = results.optimization_of(layout, estimate)
        if unidentified:
            _warn(
                "no group has more than one row, so that random effects cannot be told from "
                "residual error: their variances are set to 0"
            )
        if estimate.exact and not unidentified:
            _warn(
                "the structure, with the random effects, meets every observation: a residual error "
                f"of {self._population.sigma.max():.1e} is assumed"
            )
        elif not self.converged_:
            _warn(f"no optimum after {self.n_iter_} steps: {_why(found, self.tol)}")
        if self._errors is not None and self._errors.message:
            _warn(f"there are no standard errors: {self._errors.message}")


def _why(found, tol):
    """Why a search has not converged."""
    if np.isnan(found.decrement):
        return found.message
    return (
        f"{found.message}, and the objective may still fall by {found.decrement:.1e} (tol is "
        f"{tol:g}): increase max_iter, give other initial values, or simplify omega"
    )


def _warn(message):
    """Warn from the line that called fit."""
    warnings.warn(message, ConvergenceWarning, stacklevel=4)
