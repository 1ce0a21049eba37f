"""Keep the features that a retest table says are reliable."""

from numbers import Real
from warnings import warn

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SelectorMixin
from sklearn.utils import _safe_indexing, check_array
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import check_is_fitted, validate_data

from sklme._columns import is_frame
from sklme._layout import ColumnFinder
from sklme._rows import check_choice, check_number
from sklme._tables import open_table
from sklme._terms import show
from sklme.inference._access import check_level
from sklme.reliability.icc import intraclass_correlation

CRITERIA = {"lower": "lower", "estimate": "icc"}


class ReliabilitySelector(SelectorMixin, BaseEstimator):
    """Select features by their intraclass correlation in repeated measurements.

    It is fitted to a retest table, where subjects are measured several times, and then keeps the
    same features of any table. Subjects of the retest table should not be among those that a model
    is tested on.

    Parameters
    ----------
    subject : str or int, default=None
        Column of the retest table that says who was measured. None means that there are no
        repeated measurements: nothing is known of the reliability, and all features are kept.
    rater : str or int, default=None
        Column that says by whom, on which scanner or in which session; needed by the forms "A"
        and "C". None takes the measurements of a subject as exchangeable.
    threshold : float, default=0.75
        Least value of a feature that is kept.
    criterion : {"lower", "estimate"}, default="lower"
        What is compared with the threshold: the lower limit of the interval, so that few subjects
        prove little (Koo and Li 2016), or the estimate.
    form : str, default=None
        Form of the intraclass correlation, see `intraclass_correlation`. None means "ICC(A,1)" with
        raters, absolute agreement of single measurements, and "ICC(1,1)" without.
    confidence_level : float, default=0.95
        Coverage of the interval whose lower limit counts.

    Attributes
    ----------
    reliability_ : DataFrame
        What `intraclass_correlation` returns, one row a feature, and `selected`.
    n_features_in_ : int
        Number of columns of the retest table, those of ids included.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, where the table has names.

    See Also
    --------
    intraclass_correlation : The table behind it.
    ReliabilityDisplay : The picture.

    Notes
    -----
    The columns of ids are not among the output. A table with names may come to `transform` with
    them or without, which is how a training table is reduced; an array always has all columns of
    the retest table. A feature whose reliability is not estimable is not kept.

    References
    ----------
    .. [1] T. K. Koo and M. Y. Li, "A guideline of selecting and reporting intraclass correlation
       coefficients for reliability research", J. Chiropr. Med. 15, 2016.

    Examples
    --------
    Two of three features repeat well. The selector is fitted to the retest table and frozen, so
    that fitting the pipeline to the training table leaves it as it is.

    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn.frozen import FrozenEstimator
    >>> from sklearn.linear_model import LinearRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklme.reliability import ReliabilitySelector
    >>> rng = np.random.default_rng(0)
    >>> patient, session = np.repeat(range(30), 2), np.tile(["test", "retest"], 30)
    >>> values = rng.normal(size=(30, 3))[patient] + rng.normal(size=(60, 3)) * [0.1, 0.2, 1.0]
    >>> retest = pd.DataFrame(values, columns=["volume", "entropy", "busyness"])
    >>> retest = retest.assign(patient=patient, session=session)
    >>> selector = ReliabilitySelector("patient", "session").fit(retest)
    >>> print(selector.reliability_[["icc", "lower", "selected"]].round(2).to_string())
               icc  lower  selected
    feature
    volume    0.99   0.99      True
    entropy   0.94   0.86      True
    busyness  0.36   0.01     False

    >>> training = pd.DataFrame(rng.normal(size=(50, 3)), columns=selector.reliability_.index)
    >>> model = make_pipeline(FrozenEstimator(selector), LinearRegression())
    >>> model.fit(training, training["volume"])[-1].n_features_in_
    2
    """

    def __init__(
        self,
        subject=None,
        rater=None,
        threshold=0.75,
        criterion="lower",
        form=None,
        confidence_level=0.95,
    ):
        self.subject = subject
        self.rater = rater
        self.threshold = threshold
        self.criterion = criterion
        self.form = form
        self.confidence_level = confidence_level

    def fit(self, X, y=None):
        """Estimate the reliability of the features in a retest table.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_columns)
            The retest table: columns of ids, and features.
        y : None
            Not used.

        Returns
        -------
        self : ReliabilitySelector
            The selector itself.

        Raises
        ------
        ValueError
            If a column of ids is not in X, or a parameter is out of range.
        """
        check_number("threshold", self.threshold, Real, -np.inf)
        check_choice("criterion", self.criterion, tuple(CRITERIA))
        check_level(self.confidence_level)
        if self.subject is None:
            self._fit_without_repeats(X)
            return self
        table = self._correlate(X)
        value = table[CRITERIA[self.criterion]].to_numpy(dtype=float)
        selected = np.nan_to_num(value, nan=-np.inf) >= self.threshold
        self.reliability_ = table.assign(selected=selected)
        if not selected.any():
            self._warn(table, value)
        return self

    def _correlate(self, X):
        """The table of the features; ids go apart, as forms without raters know no such column."""
        table = open_table(self, X, reset=True)
        find = ColumnFinder.of(self)
        ids = {"subject": self.subject, "rater": self.rater}
        at = {who: find(column, who) for who, column in ids.items() if column is not None}
        if len(set(at.values())) < len(at):
            raise ValueError(f"subject and rater are both {table.name(at['rater'])}")
        self._ids = tuple(at.values())
        features = [j for j in range(self.n_features_in_) if j not in self._ids]
        found = intraclass_correlation(
            _safe_indexing(X if is_frame(X) else np.asarray(X), features, axis=1),
            **{who: table.ids(j) for who, j in at.items()},
            form=self.form or ("ICC(1,1)" if self.rater is None else "ICC(A,1)"),
            confidence_level=self.confidence_level,
        )
        return found.set_axis(pd.Index(map(find.name, features), name="feature"))

    def _fit_without_repeats(self, X):
        if self.rater is not None:
            raise ValueError(
                f"rater names {show(self.rater)}, but subject is None: name the column of the "
                "subjects too"
            )
        validate_data(self, X, dtype="numeric", ensure_all_finite="allow-nan")
        names = map(ColumnFinder.of(self).name, range(self.n_features_in_))
        nothing = {"icc": np.nan, "lower": np.nan, "upper": np.nan, "status": "not estimable"}
        nothing |= {"reason": "subject is None: no repeated measurements", "selected": True}
        self._ids = ()
        self.reliability_ = pd.DataFrame(nothing, index=pd.Index(names, name="feature"))

    def _warn(self, table, value):
        what = "lower limit" if self.criterion == "lower" else "estimate"
        if np.isnan(value).all():
            best = f"the reliability of none is estimable ({table['reason'].iloc[0]})"
        else:
            at = int(np.nanargmax(value))
            best = f"the best is {show(table.index[at])} with the {what} {value[at]:.2f}"
        warn(f"No features were selected: {best}, threshold={self.threshold}", stacklevel=3)

    def _get_support_mask(self):
        check_is_fitted(self)
        mask = np.ones(self.n_features_in_, bool)
        mask[list(self._ids)] = False
        mask[mask] = self.reliability_["selected"]
        return mask

    def transform(self, X):
        """Keep the reliable features.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_columns)
            A table with the columns of the retest table; one with names may leave out those of
            ids.

        Returns
        -------
        X_selected : {ndarray, dataframe} of shape (n_samples, n_selected)
            The features that are kept.

        Raises
        ------
        ValueError
            If X has other columns, or a feature that is kept holds text or is missing.
        """
        check_is_fitted(self)
        if not self._ids:
            return super().transform(X)
        chosen = np.flatnonzero(self._get_support_mask())
        if self._lacks_ids(X):
            chosen = np.array([j - sum(i < j for i in self._ids) for j in chosen], dtype=int)
        else:
            open_table(self, X, reset=False)
        return self._keep(X, chosen)

    def _lacks_ids(self, X) -> bool:
        """Whether X is the table of fit without its ids, by name and in this order."""
        if not is_frame(X) or not hasattr(self, "feature_names_in_"):
            return False
        return list(X.columns) == self._features

    def _keep(self, X, chosen):
        part = _safe_indexing(X if is_frame(X) else np.asarray(X), chosen, axis=1)
        options = {"dtype": "numeric", "ensure_all_finite": "allow-nan", "input_name": "X"}
        checked = check_array(part, estimator=self, **options) if len(chosen) else np.array(part)
        as_frame = _get_output_config("transform", estimator=self)["dense"] != "default"
        return part if as_frame and isinstance(X, pd.DataFrame) else checked

    def get_feature_names_out(self, input_features=None):
        """Name the features that are kept.

        Parameters
        ----------
        input_features : array-like of str, default=None
            The names of the columns of the retest table, with or without those of ids; None means
            those seen in fit.

        Returns
        -------
        names : ndarray of str
            Their names.
        """
        check_is_fitted(self)
        if self._ids and input_features is not None and hasattr(self, "feature_names_in_"):
            input_features = None if list(input_features) == self._features else input_features
        return super().get_feature_names_out(input_features)

    @property
    def _features(self) -> list:
        """Names of the columns that are not ids."""
        return [name for j, name in enumerate(self.feature_names_in_) if j not in self._ids]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
