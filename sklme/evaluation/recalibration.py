"""SiteRecalibrator: level and slope of any estimator's predictions, learned by site."""

from copy import copy
from numbers import Integral

import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut
from sklearn.utils import _safe_indexing, column_or_1d, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from sklme._ids import quote, read_ids
from sklme._layout import ColumnFinder
from sklme._rows import check_choice, check_number
from sklme._tables import open_table
from sklme.generalized import LogisticMixedModel
from sklme.linear import LinearMixedModel

# Probabilities are held this far from 0 and 1, where the logit has no end.
EDGE = 1e-6


class SiteRecalibrator(MetaEstimatorMixin, BaseEstimator):
    """Recalibrate an estimator at each site, pulled towards what holds at all sites.

    A model that ranks well at a new site often states wrong levels there. This wrapper predicts
    every site by the estimator fitted to the other sites, and then fits a mixed model to what was
    found given what was predicted: the level (and slope) of the calibration is the sum of what all
    sites share and of what a site adds, and the latter is shrunk by the variance between sites.
    `adapt` learns a new site from a few of its rows, however few.

    Parameters
    ----------
    estimator : estimator object, default=None
        Classifier of two classes with `predict_proba`, or a regressor. It does not see the column
        of sites. None is `LogisticRegression`.
    site : str or int, default=None
        Column of X that holds the site, by name or position. None means that there are no sites,
        and predictions stay as they are.
    method : {"intercept", "slope"}, default="intercept"
        Whether a site shifts the predictions (the logit of the probability for a classifier), or
        shifts and stretches them.
    cv : int, default=None
        Number of parts, of whole sites, in which sites are left out. None leaves out one at a time.

    Attributes
    ----------
    estimator_ : estimator object
        The estimator fitted to all rows.
    recalibration_ : LogisticMixedModel, LinearMixedModel or None
        The model of the outcome given the prediction. Its `covariance_` is the variance between
        sites. None without sites.
    classes_ : ndarray of shape (n_classes,)
        Labels of the classes, for a classifier.
    n_features_in_ : int
        Number of columns seen in fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns seen in fit, where X has names.

    See Also
    --------
    cross_site_validate : Measures what it is worth at sites that were left out.
    sklme.adapt : Teaches it a new site, also inside a pipeline.

    Notes
    -----
    The model of the outcome is that of [1]_, a regression on the logit of the predicted
    probability, with the coefficients of the sites random. At a site without rows the probability
    is averaged over what sites are like.

    References
    ----------
    .. [1] D. R. Cox, "Two further applications of a model for binary regression", Biometrika
       45(3/4), 1958.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklme import adapt
    >>> from sklme.datasets import load_mriqc
    >>> from sklme.evaluation import SiteRecalibrator
    >>> X, rating = load_mriqc(return_X_y=True)
    >>> X, bad = X[["site", "snr_wm", "efc", "wm2max"]], rating < 0
    >>> new = X["site"] == "YALE"
    >>> logistic = make_pipeline(StandardScaler(), LogisticRegression())
    >>> model = SiteRecalibrator(logistic, site="site").fit(X[~new], bad[~new])
    >>> few, rest = X[new].head(20), X[new].tail(36)
    >>> adapted = adapt(model, few, bad[few.index])
    >>> before, after = (m.predict_proba(rest)[:, 1].mean() for m in (model, adapted))
    >>> found = bad[rest.index].mean()
    >>> print(f"bad: {before:.2f} expected, {after:.2f} after 20 scans, {found:.2f} found")
    bad: 0.27 expected, 0.66 after 20 scans, 0.67 found
    """

    def __init__(self, estimator=None, *, site=None, method="intercept", cv=None):
        self.estimator = estimator
        self.site = site
        self.method = method
        self.cv = cv

    def fit(self, X, y):
        """Fit the estimator, and how its predictions at left-out sites compare with what was found.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Features and the column of sites.
        y : array-like of shape (n_samples,)
            Outcome.

        Returns
        -------
        self : SiteRecalibrator
            The fitted estimator.

        Raises
        ------
        ValueError
            If there is one site only, or the outcome has more than two classes.
        """
        check_choice("method", self.method, ("intercept", "slope"))
        if self.cv is not None:
            check_number("cv", self.cv, Integral, 2)
        features, sites = self._split(X, reset=True)
        inner = self._inner()
        if sites is not None:
            y = self._check_outcome(y)
        self.estimator_ = clone(inner).fit(features, y)
        self.recalibration_ = None
        if sites is not None:
            score = _left_out_scores(inner, features, y, sites, self.cv)
            self.recalibration_ = self._model().fit(_table(score, sites), self._outcome(y))
        return self

    def predict(self, X):
        """Predict the class, or the expected outcome.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows to predict. A site that is not known gets what holds for all sites.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Labels of the class with probability above a half, or expected outcome.
        """
        check_is_fitted(self)
        features, sites = self._split(X)
        if sites is None:
            return self.estimator_.predict(features)
        if self._classifies:
            return self.classes_[(self.predict_proba(X)[:, 1] > 0.5).astype(int)]
        return self.recalibration_.predict(_table(_scores(self.estimator_, features), sites))

    @available_if(lambda self: is_classifier(self._inner()))
    def predict_proba(self, X):
        """Recalibrated probabilities.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows to predict. At a site that is not known the probability is averaged over sites.

        Returns
        -------
        p : ndarray of shape (n_samples, n_classes)
            Probability of each class.
        """
        check_is_fitted(self)
        features, sites = self._split(X)
        if sites is None:
            return self.estimator_.predict_proba(features)
        return self.recalibration_.predict_proba(_table(_scores(self.estimator_, features), sites))

    def adapt(self, X, y):
        """Learn the calibration at new sites, or more of known ones; the estimator stays.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows of these sites.
        y : array-like of shape (n_samples,)
            Their outcome.

        Returns
        -------
        model : SiteRecalibrator
            A fitted copy that knows these sites too.
        """
        check_is_fitted(self)
        features, sites = self._split(X)
        if sites is None:
            raise ValueError("there are no sites to adapt to: name their column by `site`")
        other = copy(self)
        table = _table(_scores(self.estimator_, features), sites)
        other.recalibration_ = self.recalibration_.adapt(table, self._outcome(y))
        return other

    def score(self, X, y):
        """Accuracy of a classifier, R2 of a regressor.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows to predict.
        y : array-like of shape (n_samples,)
            Their outcome.

        Returns
        -------
        score : float
            The share of rows with the right class, or the coefficient of determination.
        """
        return (accuracy_score if self._classifies else r2_score)(y, self.predict(X))

    @property
    def classes_(self):
        """Labels of the classes."""
        return self.estimator_.classes_

    def __sklearn_tags__(self):
        tags, inner = super().__sklearn_tags__(), get_tags(self._inner())
        tags.estimator_type = inner.estimator_type
        tags.classifier_tags, tags.regressor_tags = inner.classifier_tags, inner.regressor_tags
        tags.input_tags, tags.target_tags = inner.input_tags, inner.target_tags
        if self.site is not None:
            tags.input_tags.sparse = tags.target_tags.multi_output = False
            if tags.classifier_tags is not None:
                tags.classifier_tags.multi_class = False
        return tags

    @property
    def _classifies(self):
        return is_classifier(self._inner())

    def _inner(self):
        return LogisticRegression() if self.estimator is None else self.estimator

    def _split(self, X, reset=False):
        """The columns that the estimator sees, and the labels of the sites."""
        if self.site is None:
            if reset:
                validate_data(self, X, skip_check_array=True)
            return X, None
        table = open_table(self, X, reset=reset)
        place = ColumnFinder.of(self)(self.site, "site")
        others = [j for j in range(self.n_features_in_) if j != place]
        if not others:
            raise ValueError(
                f"X has n_features={self.n_features_in_}: there is no feature besides the site"
            )
        sites = table.ids(place)
        read_ids(sites, table.name(place))  # refuses what is missing or no id
        return _safe_indexing(table.X, others, axis=1), sites

    def _check_outcome(self, y):
        y = column_or_1d(y, warn=True)
        if self._classifies:
            check_classification_targets(y)
            n = len(np.unique(y))
            if n > 2:
                raise ValueError(
                    f"Only binary classification is supported with sites; y has {n} classes: "
                    "recalibrate one of them against the rest"
                )
        return y

    def _model(self):
        """The mixed model of the outcome given the prediction."""
        kind = LogisticMixedModel if self._classifies else LinearMixedModel
        if self.method == "intercept":
            return kind({"site": ["1"]}, fixed_effects=[], offset="prediction")
        return kind({"site": ["1", "prediction"]}, fixed_effects=["prediction"])

    def _outcome(self, y):
        """0 and 1 for two classes, so that the second is what is predicted."""
        if not self._classifies:
            return np.asarray(y, dtype=np.float64)
        y = column_or_1d(y, warn=True)
        unknown = ~np.isin(y, self.classes_)
        if unknown.any():
            row = int(np.argmax(unknown))
            raise ValueError(
                f"y of row {row} is {quote(y[row])}, which is not among the classes seen in fit, "
                f"{' and '.join(map(quote, self.classes_))}"
            )
        return (y == self.classes_[-1]).astype(int)


def _left_out_scores(estimator, X, y, sites, cv):
    """Each site's predictions by the estimator fitted to other sites."""
    codes, labels = pd.factorize(sites)
    if len(labels) < 2:
        raise ValueError(
            f"recalibration needs at least two sites; all rows (n_samples={len(codes)}) are of "
            f"site {labels[0]}"
        )
    splitter = LeaveOneGroupOut() if cv is None else GroupKFold(min(cv, len(labels)))
    score = np.empty(len(codes))
    for train, test in splitter.split(codes, groups=codes):
        fitted = clone(estimator).fit(_safe_indexing(X, train), _safe_indexing(y, train))
        score[test] = _scores(fitted, _safe_indexing(X, test))
    return score


def _scores(estimator, X):
    """Prediction on the scale on which sites differ: the logit of the probability, or as it is."""
    if not is_classifier(estimator):
        return np.asarray(estimator.predict(X), dtype=np.float64)
    if not hasattr(estimator, "predict_proba"):
        raise TypeError(
            f"{type(estimator).__name__} has no predict_proba, whose probabilities are "
            "recalibrated: wrap it in sklearn.calibration.CalibratedClassifierCV"
        )
    p = estimator.predict_proba(X)
    p = p[:, 1] if p.shape[1] > 1 else np.zeros(len(p))
    return logit(np.clip(p, EDGE, 1.0 - EDGE))


def _table(score, sites):
    return pd.DataFrame({"prediction": score, "site": sites})
