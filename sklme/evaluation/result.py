"""What validation across sites found: tables, a text and a page."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sklme.evaluation._report import write_html
from sklme.evaluation._text import summarize


@dataclass(frozen=True, eq=False, repr=False)
class CrossSiteResult:
    """How good the predictions are at each site, over sites, and at the next site.

    Parameters
    ----------
    table : DataFrame
        A row for each metric, site and number of rows that the site gave. Columns: `metric`,
        `site`, `n_target`; `estimate`, `lower` and `upper`; `std_error`, on the scale of pooling;
        `n` and `n_events`, rows that were predicted and those of the positive class; `n_train` and
        `n_train_sites`; `weight` in the mean over sites; `status`, "ok", "few events" (shown, not
        pooled) or "not estimable"; `reason`. With several draws estimates are means over the draws
        on the scale of pooling, with the mean of the variances; numbers of rows are means too.
    pooled : DataFrame
        A row for each metric, or each metric and `n_target` where there are several. Columns:
        `mean`, `lower` and `upper`; `prediction_lower` and `prediction_upper` for the true value at
        a new site; `tau2`, the variance between sites on the scale of pooling, with its interval
        `tau2_lower` and `tau2_upper`; `i2`, the share of the variance of estimates that it makes;
        `n_sites` pooled; `benchmark` and the `probability` that a new site is better; `scale` of
        pooling; `reason` for what is missing; `over_all_rows`, the metric on the rows of all sites
        together.
    predictions : DataFrame
        A row for each prediction: `site`, `row` (its position in X), `y`, `prediction` (probability
        of the positive class, or a number) or, of several classes, `prediction_<class>`, `fold`,
        `n_target` and `repeat`. Of two classes, `y` is 1 for the positive one.
    excluded : DataFrame
        Sites that were not evaluated: `site`, `n`, `reason`.
    task : {"binary", "classes", "regression"}
        Kind of outcome.
    classes : ndarray or None
        Labels of the classes; of two, the second is the positive one.
    metrics : tuple
        Records of the metrics: name, label, scale of pooling, reference value.
    settings : dict
        Arguments that were used, and numbers of rows and sites.
    estimators : dict or None
        Site -> the estimator fitted to the training sites, as it was before the site gave any rows;
        None for a site whose training rows have one class.

    See Also
    --------
    cross_site_validate : Makes the result.
    CrossSiteDisplay : Draws it.

    Examples
    --------
    >>> from sklearn.linear_model import LinearRegression
    >>> from sklme.datasets import load_mriqc
    >>> from sklme.evaluation import cross_site_validate
    >>> X, rating = load_mriqc(return_X_y=True)
    >>> columns = ["snr_wm", "efc", "fber", "cjv"]
    >>> result = cross_site_validate(LinearRegression(), X[columns], rating, site=X["site"],
    ...                              scoring="mae", random_state=0)
    >>> result.table["site"].nunique(), result.predictions.shape[0]
    (17, 1101)
    """

    table: pd.DataFrame
    pooled: pd.DataFrame
    predictions: pd.DataFrame
    excluded: pd.DataFrame
    task: str
    classes: np.ndarray | None
    metrics: tuple
    settings: dict
    estimators: dict | None = None

    def __repr__(self):
        sites, names = self.settings["n_sites"], [metric.name for metric in self.metrics]
        return f"CrossSiteResult({sites} sites, {self.task}, metrics {', '.join(names)})"

    def summary(self):
        """Text of at most 80 columns: what holds over sites, where it does not, what is left out.

        Returns
        -------
        text : str
            To be printed.
        """
        return summarize(self)

    def to_html(self, path, title=None):
        """Write one page with pictures and tables that needs nothing else.

        Parameters
        ----------
        path : str or path-like
            The file.
        title : str, default=None
            Its heading; None means the question whether the model holds at the next site.
        """
        write_html(self, path, title)
