"""CrossSiteDisplay: how a model does at each site, on average, and at a site to come."""

from sklme.evaluation._draw import draw
from sklme.evaluation._given import evaluate_predictions
from sklme.evaluation.cross_site import cross_site_validate


class CrossSiteDisplay:
    """Results of a cross-site validation as a picture.

    A *forest* has a row for each site, with a square whose area is its weight in the mean, its
    confidence interval and its numbers; below are the mean of the sites as a diamond and the
    prediction interval, which says where the value of a site that was not seen will lie. Sites with
    few events are pale and not in the mean; those without an estimate say why.

    *calibration* shows what was observed against what was predicted, *net_benefit* what is gained
    by treating whoever is above a threshold, and *learning_curve* a metric by the number of rows of
    the site that were used: a thin line a site, and what holds for all of them in bold.

    Parameters
    ----------
    result : CrossSiteResult
        What `cross_site_validate` returned.
    metric : str, default=None
        Which metric, for a forest or a learning curve; None means the first.
    kind : {"forest", "calibration", "net_benefit", "learning_curve"}, default="forest"
        Which picture.
    n_target : int, default=None
        For which number of rows of the site, where several were tried; None means the smallest. A
        learning curve shows all.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The panel, after `plot`.
    figure_ : matplotlib Figure
        The figure that holds it, after `plot`.
    site_artists_ : dict
        Site -> its square or line, or the text that says why there is no estimate.
    diamond_ : matplotlib artist
        The mean over sites: a diamond, or the bold line of a curve. None where there is none.
    prediction_line_ : matplotlib artist
        The prediction interval of a new site, a line or a band (for calibration, the confidence
        band of the curve of all sites). None where there is none.

    See Also
    --------
    cross_site_validate : Makes the result.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklme.datasets import load_mriqc
    >>> from sklme.evaluation import CrossSiteDisplay, cross_site_validate
    >>> X, rating = load_mriqc(return_X_y=True)
    >>> X, bad, site = X[["snr_wm", "efc", "wm2max"]], rating < 0, X["site"]
    >>> logistic = make_pipeline(StandardScaler(), LogisticRegression())
    >>> result = cross_site_validate(logistic, X, bad, site=site)
    >>> display = CrossSiteDisplay.from_result(result, "roc_auc", sort_by="n")
    >>> display.ax_.get_xlabel()
    'AUC (higher is better)'
    """

    def __init__(self, result, metric=None, *, kind="forest", n_target=None):
        self.result = result
        self.metric = metric
        self.kind = kind
        self.n_target = n_target

    @classmethod
    def from_result(
        cls,
        result,
        metric=None,
        *,
        kind="forest",
        n_target=None,
        sort_by="estimate",
        thresholds=None,
        ax=None,
    ):
        """Draw a result.

        Parameters
        ----------
        result : CrossSiteResult
            What `cross_site_validate` returned.
        metric : str, default=None
            Which metric, for a forest or a learning curve; None means the first.
        kind : {"forest", "calibration", "net_benefit", "learning_curve"}, default="forest"
            Which picture.
        n_target : int, default=None
            For which number of rows of the site, where several were tried; None means the smallest.
        sort_by : {"estimate", "n", "name"}, default="estimate"
            Order of the sites in a forest, the largest on top.
        thresholds : array-like of shape (n_thresholds,), default=None
            Threshold probabilities of the net benefit; None means a fine grid.
        ax : matplotlib Axes, default=None
            Where to draw.

        Returns
        -------
        display : CrossSiteDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If `kind`, `metric`, `n_target` or `sort_by` is not there.
        """
        display = cls(result, metric, kind=kind, n_target=n_target)
        return display.plot(ax, sort_by=sort_by, thresholds=thresholds)

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y,
        *,
        site,
        metric=None,
        kind="forest",
        sort_by="estimate",
        ax=None,
        **options,
    ):
        """Validate an estimator across sites and draw the result.

        Parameters
        ----------
        estimator : estimator object
            The estimator; it is fitted anew for each site.
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            Their outcome.
        site : str, int or array-like of shape (n_samples,)
            The site of each row, or the column of X that holds it.
        metric : str, default=None
            Which metric, for a forest or a learning curve; None means the first.
        kind : {"forest", "calibration", "net_benefit", "learning_curve"}, default="forest"
            Which picture.
        sort_by : {"estimate", "n", "name"}, default="estimate"
            Order of the sites in a forest, the largest on top.
        ax : matplotlib Axes, default=None
            Where to draw.
        **options : dict
            Passed on to `cross_site_validate`.

        Returns
        -------
        display : CrossSiteDisplay
            The display, drawn; its `result` has all the numbers.
        """
        result = cross_site_validate(estimator, X, y, site=site, **options)
        return cls.from_result(result, metric, kind=kind, sort_by=sort_by, ax=ax)

    @classmethod
    def from_predictions(
        cls,
        y,
        prediction,
        *,
        site,
        metric=None,
        kind="forest",
        sort_by="estimate",
        ax=None,
        **options,
    ):
        """Draw predictions at hand, such as those of an external validation.

        Parameters
        ----------
        y : array-like of shape (n_samples,)
            Outcome. Of two classes, the second in sorted order is the event.
        prediction : array-like of shape (n_samples,) or (n_samples, n_classes)
            Probability of the event, of each of several classes, or predicted number; made without
            any row of the site.
        site : array-like of shape (n_samples,)
            The site of each row.
        metric : str, default=None
            Which metric, for a forest; None means the first.
        kind : {"forest", "calibration", "net_benefit"}, default="forest"
            Which picture.
        sort_by : {"estimate", "n", "name"}, default="estimate"
            Order of the sites in a forest, the largest on top.
        ax : matplotlib Axes, default=None
            Where to draw.
        **options : dict
            `scoring`, `thresholds`, `benchmark`, `min_events`, `confidence_level`, `pooling`, `ci`,
            `pi_method`, `pi_dof` and `random_state` as in `cross_site_validate`.

        Returns
        -------
        display : CrossSiteDisplay
            The display, drawn; its `result` has all the numbers.
        """
        result = evaluate_predictions(y, prediction, site=site, **options)
        return cls.from_result(result, metric, kind=kind, sort_by=sort_by, ax=ax)

    def plot(self, ax=None, *, sort_by="estimate", thresholds=None):
        """Draw the picture.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. A forest needs room for its numbers to the right.
        sort_by : {"estimate", "n", "name"}, default="estimate"
            Order of the sites in a forest, the largest on top.
        thresholds : array-like of shape (n_thresholds,), default=None
            Threshold probabilities of the net benefit; None means a fine grid.

        Returns
        -------
        display : CrossSiteDisplay
            The display itself.

        Raises
        ------
        ValueError
            If `kind`, `metric`, `n_target` or `sort_by` is not there.
        """
        drawn = draw(
            *(self.result, self.metric, self.kind),
            n_target=self.n_target,
            sort_by=sort_by,
            thresholds=thresholds,
            ax=ax,
        )
        self.figure_, self.ax_ = drawn.figure, drawn.ax
        self.site_artists_, self.diamond_ = drawn.sites, drawn.mean
        self.prediction_line_ = drawn.new_site
        return self
