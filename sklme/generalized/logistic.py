"""LogisticMixedModel: two classes."""

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from sklme._columns import read_columns
from sklme._engine import marginal
from sklme._engine.families import family_of
from sklme._fitted import present_rows
from sklme._rows import check_rows, read_weights
from sklme.generalized._base import GeneralizedBase, half_width
from sklme.generalized._labels import (
    class_factors,
    code_labels,
    learn_classes,
    read_labels,
    weigh_classes,
)


class LogisticMixedModel(ClassifierMixin, GeneralizedBase):
    """Classifier of two classes with random effects of grouping columns.

    The probability of the second class is ``g^-1(x_i' coef + z_i' b[g(i)])`` with the logit link g
    or another: what all rows share and what the level g(i) of a grouping column adds. The effects b
    of the levels of a factor are normal with mean zero and a covariance that is estimated by
    maximum likelihood with the effects integrated out. The grouping columns are columns of X.

    Parameters
    ----------
    random_effects : None, str, int, list, tuple or dict, default=None
        The grouping columns and what varies by level, see `LinearMixedModel`. None is logistic
        regression without a penalty.
    link : {"logit", "probit", "cloglog"}, default="logit"
        Link function.
    fixed_effects : list of str or int, default=None
        Columns with a fixed coefficient. None means all columns that are not keys of
        `random_effects` nor the offset.
    covariance_type : {"full", "diagonal", "spherical"} or dict, default="full"
        Covariance of the coefficients of one factor, see `LinearMixedModel`.
    fit_intercept : bool, default=True
        Whether the fixed effects have an intercept.
    offset : str or int, default=None
        Column that is added to the linear predictor with coefficient 1.
    class_weight : None, "balanced" or dict, default=None
        Weight of each class, which multiplies the weight of its rows. "balanced" gives both classes
        the same total. Probabilities are those of the weighted rows.
    n_quadrature : int, default=1
        Nodes of adaptive Gauss-Hermite quadrature for each random coefficient, for one factor; 1 is
        Laplace's approximation.
    handle_unknown : {"marginal", "population", "error"}, default="marginal"
        What predictions do with levels that `fit` has not seen: integrate the probability over
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
    classes_ : ndarray of shape (2,)
        The classes, sorted.
    coef_ : ndarray of shape (n_fixed,)
        Fixed coefficients in the order of `fixed_names_`; 0 for a column that was dropped because
        it depends on earlier ones.
    intercept_ : float
        Fixed intercept, 0 without one.
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
        Log-likelihood with all constants, as R's ``logLik``.
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
    GeneralizedLinearMixedModel : Successes of several trials, counts and more.
    OrdinalMixedModel : Ordered classes.
    sklearn.linear_model.LogisticRegression : Penalised, without random effects.

    Examples
    --------
    >>> from sklme import LogisticMixedModel
    >>> from sklme.datasets import load_verbagg
    >>> X, y = load_verbagg(return_X_y=True)  # do people say yes to an item?
    >>> model = LogisticMixedModel(["id", "item"], fixed_effects=["Anger"]).fit(X, y)
    >>> print(f"{model.score(X, y):.3f} of the answers")
    0.774 of the answers
    >>> stranger = X.head(1).assign(id=0)
    >>> print(model.predict_proba(X.head(1)).round(2), model.predict_proba(stranger).round(2))
    [[0.33 0.67]] [[0.3 0.7]]
    """

    def __init__(
        self,
        random_effects=None,
        *,
        link="logit",
        fixed_effects=None,
        covariance_type="full",
        fit_intercept=True,
        offset=None,
        class_weight=None,
        n_quadrature=1,
        handle_unknown="marginal",
        tol=1e-6,
        max_iter=100,
        verbose=0,
    ):
        self.random_effects = random_effects
        self.link = link
        self.fixed_effects = fixed_effects
        self.covariance_type = covariance_type
        self.fit_intercept = fit_intercept
        self.offset = offset
        self.class_weight = class_weight
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
            Labels of two classes.
        sample_weight : array-like of shape (n_samples,), default=None
            Frequencies: a row of weight 2 counts as two rows, one of weight 0 is absent.

        Returns
        -------
        self : LogisticMixedModel
            The fitted model.

        Raises
        ------
        ValueError
            If the specification names columns that X does not have, ids or numbers are missing, or
            y does not have two classes.
        """
        self._check_parameters()
        family = family_of("binomial", self.link)
        labels, weights = read_labels(self, y), read_weights(sample_weight, X)
        check_rows(X, labels, weights)
        X, labels, weights = present_rows(X, labels, weights)
        self.classes_ = learn_classes(self, labels)
        if len(self.classes_) > 2:
            raise ValueError(
                "Only binary classification is supported. The type of the target is multiclass: y "
                f"has {len(self.classes_)} classes; OrdinalMixedModel takes ordered ones"
            )
        codes = code_labels(labels, self.classes_)
        self._factors = class_factors(self.class_weight, self.classes_, codes, weights)
        weights = weigh_classes(weights, self._factors, codes)
        self._learn(X, codes, weights, family, fit_intercept=self.fit_intercept)
        self._report()
        return self

    def predict(self, X):
        """The more probable class.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows to predict. Levels that are not known follow `handle_unknown`.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Labels.
        """
        share = self.predict_proba(X)[:, 1]
        return self.classes_[(share > 0.5).astype(int)]

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
        probability : ndarray of shape (n_samples, 2)
            Probabilities in the order of `classes_`.
        std : ndarray of shape (n_samples,)
            Only with `return_std`: standard deviation of the probability, the same for both
            classes, for the normal linear predictor of `predict_linear`.
        """
        check_is_fitted(self)
        rows = self._read(X)
        shares = self._shares(self._effective(rows))
        if not return_std:
            return shares
        link = self._fit.family.link
        return shares, marginal.deviation(link, self._linear(rows), self._variance(rows))

    def decision_function(self, X):
        """Link of the probability of the second class.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows to predict. Levels that are not known follow `handle_unknown`.

        Returns
        -------
        score : ndarray of shape (n_samples,)
            It ranks rows as `predict_proba` does. For known levels this is the linear predictor.
        """
        check_is_fitted(self)
        return self._effective(self._read(X))

    def predict_population(self, X):
        """Probability of each class with all random effects at zero.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows to predict; their levels need not be known.

        Returns
        -------
        probability : ndarray of shape (n_samples, 2)
            The inverse link of the fixed part, in the order of `classes_`.
        """
        check_is_fitted(self)
        return self._shares(self._fixed(read_columns(self, X, self._columns)))

    def predict_interval(self, X, confidence_level=0.95):
        """Interval for the probability of the second class of each row.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows to predict.
        confidence_level : float, default=0.95
            Probability that the interval covers.

        Returns
        -------
        interval : ndarray of shape (n_samples, 2)
            The inverse link of the ends of a normal interval for the linear predictor; for a level
            not seen the interval spans what such levels are like.
        """
        check_is_fitted(self)
        half = half_width(confidence_level)
        rows = self._read(X)
        eta, sd = self._linear(rows), np.sqrt(self._variance(rows))
        return self._fit.family.link.mean(np.stack([eta - half * sd, eta + half * sd], axis=1))

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
            the estimated variances, effects of levels not seen from the prior, the same for all
            rows of a level.
        """
        codes = self._sample(X, n_samples, random_state)
        return self.classes_[codes.astype(int)]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def _read_y(self, y, weights):
        codes = code_labels(read_labels(self, y), self.classes_)
        return codes, weigh_classes(weights, self._factors, codes)

    def _shares(self, eta):
        link = self._fit.family.link
        rest = np.exp(link.log_rest(eta, 0)[0])
        return np.stack([rest, link.mean(eta)], axis=1)

    def _published(self):
        return {}
