"""GeneralizedLinearMixedModel: counts, shares of trials and positive measurements."""

import numpy as np
from scipy.special import expit
from sklearn.base import RegressorMixin
from sklearn.utils import column_or_1d
from sklearn.utils.validation import check_is_fitted

from sklme._columns import read_columns
from sklme._engine import marginal
from sklme._engine.families import ZeroInflated, family_of
from sklme._engine.family import times
from sklme._rows import check_rows, read_response, read_weights
from sklme.generalized._base import GeneralizedBase, half_width

COUNTS = ("poisson", "nb1", "nb2")
LARGEST = 700.0  # linear predictor of a constant mean of 0 or 1


class GeneralizedLinearMixedModel(RegressorMixin, GeneralizedBase):
    """Generalised linear model with random effects of grouping columns.

    The mean of row i is ``g^-1(x_i' coef + z_i' b[g(i)])``: a link function g of what all rows
    share and of what the level g(i) of a grouping column adds. The effects b of the levels of a
    factor are normal with mean zero and a covariance that is estimated by maximum likelihood with
    the effects integrated out. The grouping columns are columns of X.

    Parameters
    ----------
    random_effects : None, str, int, list, tuple or dict, default=None
        The grouping columns and what varies by level, see `LinearMixedModel`. None is a generalised
        linear model.
    family : str or family object, default="poisson"
        Distribution of the response.

        - ``"poisson"``: counts or rates.
        - ``"nb1"``, ``"nb2"``: counts of variance ``mu (1 + dispersion)`` and
          ``mu + dispersion mu^2`` (negative binomial).
        - ``"binomial"``: 0 or 1, or successes of `trials`.
        - ``"gamma"``, ``"inverse gaussian"``: positive numbers of variance ``dispersion mu^2`` and
          ``dispersion mu^3``.
        - ``"beta"``: shares between 0 and 1, of variance ``dispersion mu (1 - mu)``.
        - ``"tweedie"``: positive numbers and zeros, of variance ``dispersion mu^power``.
        - An object of a class of your own, derived from `sklme.families.Family`.
    link : str, default=None
        Link function: "log", "sqrt" or "identity" for counts, "logit", "probit" or "cloglog" for
        shares, "log", "inverse" or "identity" for gamma and inverse gaussian, "log" for tweedie.
        None is the first.
    fixed_effects : list of str or int, default=None
        Columns with a fixed coefficient. None means all columns that are not keys of
        `random_effects`, the offset or the trials.
    covariance_type : {"full", "diagonal", "spherical"} or dict, default="full"
        Covariance of the coefficients of one factor, see `LinearMixedModel`.
    fit_intercept : bool, default=True
        Whether the fixed effects have an intercept.
    offset : str or int, default=None
        Column that is added to the linear predictor with coefficient 1, such as the logarithm of
        an exposure.
    trials : str or int, default=None
        Column with the number of trials of each row, for the binomial family: y counts successes
        and `predict` returns expected successes.
    zero_inflation : list of str or int, default=None
        Columns that the share of further zeros depends on, by a logit; an empty list makes it the
        same in all rows. None: no further zeros. For counts.
    n_quadrature : int, default=1
        Nodes of adaptive Gauss-Hermite quadrature for each random coefficient, for one factor; 1 is
        Laplace's approximation.
    handle_unknown : {"marginal", "population", "error"}, default="marginal"
        What `predict` does with levels that `fit` has not seen: integrate the mean over their
        effects, predict with effects of zero, or raise.
    tol : float, default=1e-6
        The search ends when the Newton decrement, about the distance to the optimum in standard
        errors, is below this.
    max_iter : int, default=100
        Most Newton steps.
    verbose : int, default=0
        1 prints a line for each step.

    Attributes
    ----------
    coef_ : ndarray of shape (n_fixed,)
        Fixed coefficients in the order of `fixed_names_`; 0 for a column that was dropped because
        it depends on earlier ones.
    intercept_ : float
        Fixed intercept, 0 without one.
    fixed_names_ : list of str
        Names of the columns with a fixed coefficient.
    dispersion_ : float
        Dispersion of the family, 1 where it has none.
    power_ : float or None
        Power of the variance of the tweedie family, None for others.
    zero_intercept_ : float or None
        Intercept of the logit of the share of further zeros; None without `zero_inflation`.
    zero_coef_ : ndarray of shape (n_zero_inflation,) or None
        Its coefficients.
    random_effects_ : dict
        For each factor the conditional modes of the effects of its levels, (n_levels, n_terms).
    levels_ : dict
        For each factor its levels, (n_levels,), or (n_levels, n_columns) for combinations.
    covariance_ : dict
        For each factor the covariance of its coefficients, (n_terms, n_terms).
    theta_ : dict
        For each factor the lower Cholesky factor of `covariance_` with a diagonal that is not
        negative.
    log_likelihood_ : float
        Log-likelihood with all constants, as R's ``logLik``.
    n_iter_ : int
        Evaluations of the criterion.
    converged_ : bool
        Whether the search reached `tol`.
    optimization_ : Optimization
        How the search ended: `gradient_norm`, `decrement`, `n_evaluations`, `converged`,
        `at_zero` (variances estimated at zero, a proper optimum), `unidentified` (variances set to
        zero since the data cannot tell them), `columns_dropped`. Names are pairs of factor and
        coefficient.
    n_features_in_ : int
        Number of columns seen in fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns seen in fit, where X has names.

    See Also
    --------
    LogisticMixedModel : Two classes.
    OrdinalMixedModel : Ordered classes.
    LinearMixedModel : Normal responses.
    sklearn.linear_model.PoissonRegressor : Penalised, without random effects.

    Notes
    -----
    The likelihood integrates over the effects by Laplace's approximation [1]_ or by adaptive
    Gauss-Hermite quadrature [2]_, maximised jointly over all parameters by Newton steps with
    exact gradients.

    References
    ----------
    .. [1] L. Tierney and J. B. Kadane, "Accurate approximations for posterior moments and marginal
       densities", J. Am. Stat. Assoc. 81, 1986.
    .. [2] J. C. Pinheiro and D. M. Bates, "Approximations to the log-likelihood function in the
       nonlinear mixed-effects model", J. Comput. Graph. Stat. 4(1), 1995.

    Examples
    --------
    >>> from sklme import GeneralizedLinearMixedModel
    >>> from sklme.datasets import load_cbpp
    >>> X, y = load_cbpp(return_X_y=True)  # y cases among `size` animals of a herd, by quarter
    >>> model = GeneralizedLinearMixedModel("herd", family="binomial", trials="size").fit(X, y)
    >>> print(f"logit {model.coef_[0]:.2f} a quarter, herds {model.theta_['herd'][0, 0]:.2f}")
    logit -0.56 a quarter, herds 0.66

    Of a herd that was not seen, the mean over all herds is expected; a herd without any effect has
    fewer cases.

    >>> new = X.head(2).assign(herd=99)
    >>> print(model.predict(new).round(2), model.predict_population(new).round(2))
    [2.84 1.57] [2.57 1.37]
    """

    def __init__(
        self,
        random_effects=None,
        *,
        family="poisson",
        link=None,
        fixed_effects=None,
        covariance_type="full",
        fit_intercept=True,
        offset=None,
        trials=None,
        zero_inflation=None,
        n_quadrature=1,
        handle_unknown="marginal",
        tol=1e-6,
        max_iter=100,
        verbose=0,
    ):
        self.random_effects = random_effects
        self.family = family
        self.link = link
        self.fixed_effects = fixed_effects
        self.covariance_type = covariance_type
        self.fit_intercept = fit_intercept
        self.offset = offset
        self.trials = trials
        self.zero_inflation = zero_inflation
        self.n_quadrature = n_quadrature
        self.handle_unknown = handle_unknown
        self.tol = tol
        self.max_iter = max_iter
        self.verbose = verbose

    def fit(self, X, y, sample_weight=None):
        """Estimate fixed effects, variances and the effect of each level.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Features and grouping columns.
        y : array-like of shape (n_samples,)
            Response; successes where there are `trials`.
        sample_weight : array-like of shape (n_samples,), default=None
            Frequencies: a row of weight 2 counts as two rows, one of weight 0 is absent.

        Returns
        -------
        self : GeneralizedLinearMixedModel
            The fitted model.

        Raises
        ------
        ValueError
            If the specification names columns that X does not have, ids or numbers are missing, or
            y is outside of what the family can be.
        """
        self._check_parameters()
        family = self._family()
        weights = read_weights(sample_weight, X)
        y, weights = self._read_y(y, weights)
        self._learn(
            X,
            y,
            weights,
            family,
            fit_intercept=self.fit_intercept,
            trials=self.trials,
            zeros=self.zero_inflation,
        )
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
        y : ndarray of shape (n_samples,)
            Expected response; expected successes where there are `trials`.
        std : ndarray of shape (n_samples,)
            Only with `return_std`: standard deviation of the expected response for the normal
            linear predictor of `predict_linear`.
        """
        check_is_fitted(self)
        rows = self._read(X)
        y = self._mean(self._effective(rows), rows)
        return (y, self._deviation(rows)) if return_std else y

    def predict_population(self, X):
        """Expected response with all random effects at zero.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows to predict; their levels need not be known.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            The inverse link of the fixed part, with the offset; times the `trials`.
        """
        check_is_fitted(self)
        rows = read_columns(self, X, self._columns)
        return self._mean(self._fixed(rows), rows)

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
        interval : ndarray of shape (n_samples, 2)
            Quantiles of the family's distribution mixed over the normal linear predictor of
            `predict_linear`. An interval of counts covers at least `confidence_level`.
        """
        check_is_fitted(self)
        half_width(confidence_level)
        rows = self._read(X)
        eta, sd = self._linear(rows), np.sqrt(self._variance(rows))
        family, aux = self._fit.family, self._aux(rows)
        whole = family.check(np.array([0.5]), np.ones(1)) is not None
        cdf = lambda y, e: family.cdf(y, e, aux, rows.trials)
        ends = 0.5 - 0.5 * confidence_level, 0.5 + 0.5 * confidence_level
        return np.stack([marginal.quantile(cdf, p, eta, sd, whole) for p in ends], axis=1)

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
        y : ndarray of shape (n_rows, n_samples)
            New outcomes; coefficients and effects of known levels from their joint normal
            posterior at the estimated variances, effects of levels not seen from the prior, the
            same for all rows of a level.
        """
        return self._sample(X, n_samples, random_state)

    def score(self, X, y, sample_weight=None):
        """Share of the deviance that the model explains, D^2.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows to predict.
        y : array-like of shape (n_samples,)
            Their responses.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights.

        Returns
        -------
        score : float
            1 minus the deviance of `predict` over that of the best constant mean (of the best
            constant share where there are `trials`). At most 1; 0 for a model that knows nothing,
            less for one that misleads.
        """
        check_is_fitted(self)
        weights = read_weights(sample_weight, X)
        y, weights = self._read_y(y, weights)
        check_rows(X, y, weights)
        rows = self._read(X)
        self._check_outcome(self._fit.family, y, rows)
        outcome = self._fit.family.outcome(y, rows.trials, weights)
        constant = self._constant_predictor(y, rows, weights)
        found, worst = (
            self._fit.family.deviance(outcome, eta, self._aux(rows)).sum()
            for eta in (self._effective(rows), constant)
        )
        return 1.0 - found / worst if worst > 0 else float(found <= 0)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        try:
            refused = self._family().check(np.array([-1.0]), np.ones(1))
            tags.target_tags.positive_only = refused is not None
        except (ValueError, AttributeError, TypeError):
            pass  # parameters that fit will refuse
        return tags

    def _family(self):
        family = family_of(self.family, self.link)
        if self.trials is not None and family.name != "binomial":
            raise ValueError(
                f"trials names {self.trials!r}, but the {family.name} family has no trials: "
                'family="binomial" has'
            )
        if self.zero_inflation is None:
            return family
        if not isinstance(self.zero_inflation, list | tuple):
            raise ValueError(
                f"zero_inflation is {self.zero_inflation!r}; it must be a list of columns, [] for "
                "a share of zeros that is the same in all rows, or None"
            )
        if family.name not in COUNTS:
            raise ValueError(
                f"zero_inflation is for counts, not for the {family.name} family: possible are "
                f"{', '.join(map(repr, COUNTS))}"
            )
        return ZeroInflated(family)

    def _read_y(self, y, weights):
        kind = getattr(getattr(y, "dtype", None), "kind", "")  # an array or column of numbers
        plain = kind in ("f", "i", "u", "b") and y.ndim == 1
        y = y if y is None or plain else column_or_1d(y, warn=True)
        return read_response(self, y), weights

    def _check_outcome(self, family, y, rows):
        """Rates are welcome to Poisson: the likelihood of the mean is the same."""
        if family.name == "poisson" and (y >= 0).all():
            return
        super()._check_outcome(family, y, rows)

    def _remember(self, result):
        super()._remember(result)
        published = result.family.dispersion(result.aux)
        self.dispersion_ = published.get("dispersion", 1.0)
        self.power_ = published.get("power")
        zeros = result.aux[-1] if self._zero_inflated else None
        self.zero_intercept_ = None if zeros is None else float(zeros[0])
        self.zero_coef_ = None if zeros is None else zeros[1:]

    def _published(self):
        out = self._fit.family.dispersion(self._fit.aux)
        if self._zero_inflated:
            out.pop("zero_share")
            out["logit of further zeros: (Intercept)"] = self.zero_intercept_
            for column, value in zip(self.zero_inflation, self.zero_coef_, strict=True):
                out[f"logit of further zeros: {column}"] = value
        return out

    def _mean(self, eta, rows):
        return times(self._fit.family.mean(eta, self._aux(rows)), rows.trials)

    def _deviation(self, rows):
        family = self._fit.family
        std = marginal.deviation(family.link, self._linear(rows), self._variance(rows))
        if isinstance(family, ZeroInflated):
            std = std * expit(-self._aux(rows)[-1])
        return times(std, rows.trials)

    def _constant_predictor(self, y, rows, weights):
        """The linear predictor of the same mean in every row."""
        size = times(np.ones(len(y)) if weights is None else weights, rows.trials)
        total = (y if weights is None else weights * y).sum()
        mean = np.full(len(y), total / size.sum())
        if isinstance(self._fit.family, ZeroInflated):
            mean = mean / expit(-self._aux(rows)[-1])
        with np.errstate(divide="ignore"):
            return np.clip(self._fit.family.link.eta(mean), -LARGEST, LARGEST)
