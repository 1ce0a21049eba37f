"""OrdinalMixedModel: ordered classes."""

import numpy as np
from scipy.special import expit
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from sklme._columns import read_columns
from sklme._engine import marginal
from sklme._engine.families import CumulativeLogit
from sklme._fitted import present_rows
from sklme._rows import check_rows, read_weights
from sklme.generalized._base import GeneralizedBase, half_width
from sklme.generalized._labels import code_labels, learn_classes, ordered_categories, read_labels


class OrdinalMixedModel(ClassifierMixin, GeneralizedBase):
    """Classifier of ordered classes with random effects of grouping columns.

    The probability that row i is of class j or lower is
    ``expit(thresholds_[j] - x_i' coef - z_i' b[g(i)])`` (cumulative logit, proportional odds): what
    all rows share, and what the level g(i) of a grouping column adds, moves a row up or down the
    classes. The effects b of the levels of a factor are normal with mean zero and a covariance that
    is estimated by maximum likelihood with the effects integrated out. The grouping columns are
    columns of X. There is no intercept, as the thresholds are.

    Parameters
    ----------
    random_effects : None, str, int, list, tuple or dict, default=None
        The grouping columns and what varies by level, see `LinearMixedModel`. None is the
        proportional-odds model.
    fixed_effects : list of str or int, default=None
        Columns with a fixed coefficient. None means all columns that are not keys of
        `random_effects` nor the offset.
    covariance_type : {"full", "diagonal", "spherical"} or dict, default="full"
        Covariance of the coefficients of one factor, see `LinearMixedModel`.
    offset : str or int, default=None
        Column that is added to the linear predictor with coefficient 1.
    n_quadrature : int, default=1
        Nodes of adaptive Gauss-Hermite quadrature for each random coefficient, for one factor; 1 is
        Laplace's approximation.
    handle_unknown : {"marginal", "population", "error"}, default="marginal"
        What predictions do with levels that `fit` has not seen: integrate the probabilities over
        their effects, predict with effects of zero, or raise.
    tol : float, default=1e-6
        The search ends when the Newton decrement, about the distance to the optimum in standard
        errors, is below this.
    max_iter : int, default=100
        Most Newton steps.
    verbose : int, default=0
        1 prints a line for each step.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes from low to high: sorted, or in the order of an ordered categorical y.
    thresholds_ : ndarray of shape (n_classes - 1,)
        Increasing thresholds between the classes.
    coef_ : ndarray of shape (n_fixed,)
        Fixed coefficients in the order of `fixed_names_`; a positive one moves rows to higher
        classes. 0 for a column that was dropped because it depends on earlier ones.
    intercept_ : float
        Always 0.
    fixed_names_ : list of str
        Names of the columns with a fixed coefficient.
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
        Log-likelihood, as R's ``logLik``.
    n_iter_ : int
        Evaluations of the criterion.
    converged_ : bool
        Whether the search reached `tol`.
    optimization_ : Optimization
        How the search ended, see `GeneralizedLinearMixedModel`.
    n_features_in_ : int
        Number of columns seen in fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns seen in fit, where X has names.

    See Also
    --------
    LogisticMixedModel : Two classes.

    References
    ----------
    .. [1] P. McCullagh and J. A. Nelder, "Generalized Linear Models", 2nd ed., section 5.2.2, 1989.

    Examples
    --------
    >>> from sklme import OrdinalMixedModel
    >>> from sklme.datasets import load_wine_bitterness
    >>> X, y = load_wine_bitterness(return_X_y=True)  # judges grade bitterness from 1 to 5
    >>> X["warm"], X["contact"] = 1.0 * (X["temp"] == "warm"), 1.0 * (X["contact"] == "yes")
    >>> model = OrdinalMixedModel("judge", fixed_effects=["warm", "contact"])
    >>> model = model.fit(X.drop(columns="temp"), y.astype(int))
    >>> print(model.coef_.round(2), model.thresholds_.round(2))
    [3.06 1.83] [-1.62  1.51  4.23  6.09]
    """

    def __init__(
        self,
        random_effects=None,
        *,
        fixed_effects=None,
        covariance_type="full",
        offset=None,
        n_quadrature=1,
        handle_unknown="marginal",
        tol=1e-6,
        max_iter=100,
        verbose=0,
    ):
        self.random_effects = random_effects
        self.fixed_effects = fixed_effects
        self.covariance_type = covariance_type
        self.offset = offset
        self.n_quadrature = n_quadrature
        self.handle_unknown = handle_unknown
        self.tol = tol
        self.max_iter = max_iter
        self.verbose = verbose

    def fit(self, X, y, sample_weight=None):
        """Estimate thresholds, fixed effects, variances and the effect of each level.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Features and grouping columns.
        y : array-like of shape (n_samples,)
            Labels of two or more classes, ordered by size or alphabet; an ordered categorical
            column keeps its order.
        sample_weight : array-like of shape (n_samples,), default=None
            Frequencies: a row of weight 2 counts as two rows, one of weight 0 is absent.

        Returns
        -------
        self : OrdinalMixedModel
            The fitted model.

        Raises
        ------
        ValueError
            If the specification names columns that X does not have, ids or numbers are missing, or
            y has only one class.
        """
        self._check_parameters()
        labels, weights = read_labels(self, y), read_weights(sample_weight, X)
        check_rows(X, labels, weights)
        X, labels, weights = present_rows(X, labels, weights)
        self.classes_ = learn_classes(self, labels, ordered_categories(y))
        codes = code_labels(labels, self.classes_)
        family = CumulativeLogit(len(self.classes_))
        self._learn(X, codes, weights, family, fit_intercept=False)
        self._report()
        return self

    def predict(self, X):
        """The most probable class.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows to predict. Levels that are not known follow `handle_unknown`.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Labels.
        """
        codes = self.predict_proba(X).argmax(axis=1)
        return self.classes_[codes]

    def predict_proba(self, X, return_std=False):
        """Probability of each class: conditional on the effects of known levels.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows to predict. Levels that are not known follow `handle_unknown`.
        return_std : bool, default=False
            Whether to return the standard deviation of the probabilities as well.

        Returns
        -------
        probability : ndarray of shape (n_samples, n_classes)
            Probabilities in the order of `classes_`.
        std : ndarray of shape (n_samples, n_classes)
            Only with `return_std`: standard deviation of each probability for the normal linear
            predictor of `predict_linear`, with the thresholds taken as known.
        """
        check_is_fitted(self)
        rows = self._read(X)
        eta = self._linear(rows)
        shares = self._shares(eta)
        if self.handle_unknown == "marginal":
            variance = self._prior_variance(rows)
            new = np.flatnonzero(variance > 0)
            if len(new):
                sd = np.sqrt(variance[new])
                shares[new] = marginal.expectation(self._by_class, eta[new], sd).T
        if not return_std:
            return shares
        return shares, marginal.spread_of(self._by_class, eta, np.sqrt(self._variance(rows))).T

    def predict_population(self, X):
        """Probability of each class with all random effects at zero.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows to predict; their levels need not be known.

        Returns
        -------
        probability : ndarray of shape (n_samples, n_classes)
            Probabilities in the order of `classes_`.
        """
        check_is_fitted(self)
        return self._shares(self._fixed(read_columns(self, X, self._columns)))

    def predict_interval(self, X, confidence_level=0.95):
        """Interval for the probability of each class of each row.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows to predict.
        confidence_level : float, default=0.95
            Probability that an interval covers.

        Returns
        -------
        interval : ndarray of shape (n_samples, 2, n_classes)
            Quantiles of each probability for the normal linear predictor of `predict_linear`, with
            the thresholds taken as known; for a level not seen they span what such levels are like.
        """
        check_is_fitted(self)
        half = half_width(confidence_level)
        rows = self._read(X)
        eta, sd = self._linear(rows), np.sqrt(self._variance(rows))
        kappa = self.thresholds_
        out = np.empty((len(eta), 2, len(self.classes_)))
        for side, sign in enumerate((-1, 1)):
            out[:, side, 0] = expit(kappa[0] - eta + sign * half * sd)
            out[:, side, -1] = expit(eta - kappa[-1] + sign * half * sd)
        # A class between falls off on both sides of its middle, alike: |eta - middle| decides.
        tail = 0.5 - 0.5 * confidence_level
        for j in range(1, len(kappa)):
            middle, reach = 0.5 * (kappa[j] + kappa[j - 1]), 0.5 * (kappa[j] - kappa[j - 1])
            for side, probability in enumerate((1 - tail, tail)):
                far = marginal.folded_quantile(eta - middle, sd, probability)
                out[:, side, j] = expit(reach - far) - expit(-reach - far)
        return out

    def sample_y(self, X, n_samples=1, random_state=None):
        """Draw new labels of the rows of X.

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
            Labels; coefficients and effects of known levels from their joint normal posterior at
            the estimated variances and thresholds, effects of levels not seen from the prior, the
            same for all rows of a level.
        """
        codes = self._sample(X, n_samples, random_state)
        return self.classes_[codes.astype(int)]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # The classes that scikit-learn's checks draw lie around three points, in no order.
        tags.classifier_tags.poor_score = True
        return tags

    def _read_y(self, y, weights):
        return code_labels(read_labels(self, y), self.classes_), weights

    def _find_center(self, rows, weights):
        """The thresholds take up what the columns are shifted by, as an intercept would."""
        share = np.ones(len(rows.X)) if weights is None else weights
        return share @ rows.X / share.sum()

    def _aux_constants(self):
        aux = super()._aux_constants()
        aux[0] += self._center @ self.coef_
        return aux

    def _remember(self, result):
        super()._remember(result)
        self.thresholds_ = result.family.thresholds(self._aux_constants())

    def _shares(self, eta):
        return self._fit.family.probabilities(eta, self._aux_constants())

    def _by_class(self, eta):
        return self._shares(eta).T

    def _published(self):
        return {
            f"threshold {low!r} | {high!r}": value
            for low, high, value in zip(
                self.classes_[:-1].tolist(),
                self.classes_[1:].tolist(),
                self.thresholds_,
                strict=True,
            )
        }
