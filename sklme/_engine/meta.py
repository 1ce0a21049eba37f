"""Random-effects meta-analysis of the same metrics at several sites, for many metrics at once.

estimate_i ~ N(x_i' coef, std_error_i^2 + tau2). All numbers are on the scale of pooling.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from sklme._engine.heterogeneity import estimate_tau2, likelihood, tau2_interval
from sklme._engine.meta_regression import Regression, arrange, regress
from sklme._engine.new_site import EQUAL, BootstrapNewSite, StudentNewSite, bootstrap

INTERVALS = ("hksj", "hksj-adhoc", "normal")
PREDICTIONS = ("hksj", "normal", "bootstrap")


@dataclass(frozen=True)
class Settings:
    """What was asked for; see `pool`."""

    ci: str
    prediction: str
    prediction_dof: str
    confidence_level: float


@dataclass(frozen=True)
class Coefficients:
    """Coefficients of the moderators as they were given, and their quantiles."""

    coef: np.ndarray  # (m, p)
    covariance: np.ndarray  # (m, p, p)
    dof: np.ndarray  # (m,)

    def std_error(self, rows: np.ndarray) -> np.ndarray:
        """Of the means at (n, p) rows of moderators, (m, n)."""
        variance = np.einsum("np,mpq,nq->mn", rows, self.covariance, rows)
        return np.sqrt(np.maximum(variance, 0.0))

    def half_width(self, std_error: np.ndarray, confidence_level: float) -> np.ndarray:
        quantile = stats.t.ppf(0.5 + 0.5 * confidence_level, self.dof)
        return quantile[:, None] * std_error


@dataclass(frozen=True)
class Meta:
    """Pooled metrics, the first axis; NaN where something cannot be computed.

    With moderators `mean`, `std_error`, `lower` and `upper` are those of the coefficients, (m, p);
    else (m,). `i2` is a share.
    """

    mean: np.ndarray
    std_error: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    prediction_lower: np.ndarray  # (m,); NaN with moderators, see `predict`
    prediction_upper: np.ndarray
    tau2: np.ndarray  # (m,)
    tau2_lower: np.ndarray
    tau2_upper: np.ndarray
    i2: np.ndarray
    h2: np.ndarray
    q: np.ndarray
    q_p_value: np.ndarray
    n_sites: np.ndarray
    dof: np.ndarray  # of t for `lower` and `upper`; infinite for the normal distribution
    log_likelihood: np.ndarray
    new_site: StudentNewSite | BootstrapNewSite | None  # None with moderators
    coefficients: Coefficients
    at: Regression
    settings: Settings


@dataclass(frozen=True)
class Predictions:
    """Means at rows of moderators and the true values of new sites there, (m, n)."""

    mean: np.ndarray
    std_error: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    prediction_lower: np.ndarray
    prediction_upper: np.ndarray
    new_site: StudentNewSite


@dataclass(frozen=True)
class Shrunken:
    """Estimates of the sites drawn towards their mean, (k, m)."""

    estimate: np.ndarray
    std_error: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    weight: np.ndarray  # of the own estimate, 0 to 1


def check_estimates(estimates, std_errors, sites=None, metrics=None) -> None:
    """Refuse infinite estimates and standard errors that are not positive, naming the site.

    Raises
    ------
    ValueError
        With one sentence.
    """
    with np.errstate(invalid="ignore"):
        wrong = {
            "an infinite estimate": np.isinf(estimates),
            "an infinite standard error": np.isinf(std_errors),
            "a standard error that is not positive": std_errors <= 0.0,
        }
    for what, where in wrong.items():
        if where.any():
            i, j = np.argwhere(where)[0]
            site = int(i) if sites is None else sites[i]
            metric = "" if metrics is None else f" in the metric {metrics[j]!r}"
            raise ValueError(
                f"site {site!r} has {what}{metric}: give NaN where a site has no estimate"
            )


def pool(
    estimates,
    std_errors,
    *,
    moderators=None,
    method: str = "reml",
    ci: str = "hksj",
    prediction: str = "hksj",
    prediction_dof: str = "k-1",
    confidence_level: float = 0.95,
) -> Meta:
    """Pool (k,) or (k, m) estimates of k sites; NaN = the site is absent for that metric.

    `moderators` are (k, p) and hold the constant where it is wanted. `method` is "reml", "ml", "dl"
    or "pm". `ci` is "hksj" (Hartung-Knapp-Sidik-Jonkman, not truncated), "hksj-adhoc" (its
    factor at least 1) or "normal". `prediction` is "hksj" (t with as many degrees of freedom as
    the mean, or one less for "k-2"), "normal", or "bootstrap", which does not depend on `method`.
    """
    estimates, std_errors = _columns(estimates), _columns(std_errors)
    check_estimates(estimates, std_errors)
    plain = moderators is None
    if not plain and prediction == "bootstrap":
        raise ValueError('prediction="bootstrap" is possible without moderators only')
    sites = arrange(estimates, std_errors, np.ones((len(estimates), 1)) if plain else moderators)
    at = regress(sites, estimate_tau2(sites, method))
    found = _coefficients(at, ci)
    std_error = found.std_error(np.eye(found.coef.shape[1]))
    half = found.half_width(std_error, confidence_level)
    heterogeneity = _heterogeneity(at, method, confidence_level)
    settings = Settings(ci, prediction, prediction_dof, confidence_level)
    new_site = _new_site(at, heterogeneity["tau2"], settings) if plain else None
    low, high = _limits(new_site, confidence_level, np.full(len(half), np.nan))
    shape = (-1,) if plain else half.shape
    return Meta(
        mean=found.coef.reshape(shape),
        std_error=std_error.reshape(shape),
        lower=(found.coef - half).reshape(shape),
        upper=(found.coef + half).reshape(shape),
        prediction_lower=low,
        prediction_upper=high,
        **heterogeneity,
        n_sites=sites.n_sites,
        dof=found.dof,
        new_site=new_site,
        coefficients=found,
        at=at,
        settings=settings,
    )


def _heterogeneity(at: Regression, method: str, confidence_level: float) -> dict[str, np.ndarray]:
    """tau2 and what goes with it; NaN where as many coefficients as sites leave nothing over."""
    sites = at.sites
    enough = sites.estimable & (sites.n_sites > sites.basis.shape[1])
    at_zero = regress(sites, np.zeros(len(at.tau2)))
    # The variance within a typical site (Higgins and Thompson 2002, Stat. Med. 21:1539-1558).
    typical = sites.dof / np.where(enough, at_zero.trace, 1.0)
    tau2_lower, tau2_upper = tau2_interval(sites, confidence_level)
    parts = {
        "tau2": at.tau2,
        "tau2_lower": tau2_lower,
        "tau2_upper": tau2_upper,
        "i2": at.tau2 / (at.tau2 + typical),
        "h2": at.tau2 / typical + 1.0,
        "q": at_zero.q,
        "q_p_value": stats.chi2.sf(at_zero.q, sites.dof),
        "log_likelihood": likelihood(at, reml=method == "reml").value,
    }
    return {name: np.where(enough, part, np.nan) for name, part in parts.items()}


def probability_above(meta: Meta, benchmark) -> np.ndarray:
    """P(the true value at a new site > benchmark), of the distribution of the interval, (m,)."""
    if meta.new_site is None:
        raise ValueError("with moderators a new site has a row of them: see predict")
    benchmark = np.broadcast_to(np.asarray(benchmark, float), meta.tau2.shape)
    return meta.new_site.above(benchmark)


def predict(meta: Meta, rows: np.ndarray) -> Predictions:
    """Means at (n, p) rows of moderators, and intervals of new sites there."""
    settings, found = meta.settings, meta.coefficients
    mean, std_error = found.coef @ rows.T, found.std_error(rows)
    half = found.half_width(std_error, settings.confidence_level)
    new_site = _student(meta.at, meta.tau2, settings, rows)
    low, high = _limits(new_site, settings.confidence_level, np.full(mean.shape, np.nan))
    return Predictions(mean, std_error, mean - half, mean + half, low, high, new_site)


def shrink(meta: Meta) -> Shrunken:
    """Best linear unbiased predictions of the true values at the sites that were seen."""
    sites, found = meta.at.sites, meta.coefficients
    rows = sites.basis @ sites.triangle
    mean, std_error = found.coef @ rows.T, found.std_error(rows)
    tau2 = meta.tau2[:, None]
    weight = tau2 / (tau2 + sites.variances)
    estimate = weight * sites.estimates + (1.0 - weight) * mean
    error = np.sqrt(weight * sites.variances + ((1.0 - weight) * std_error) ** 2)
    half = found.half_width(error, meta.settings.confidence_level)
    parts = (estimate, error, estimate - half, estimate + half, weight)
    return Shrunken(*(np.where(sites.present > 0.0, part, np.nan).T for part in parts))


def _columns(array) -> np.ndarray:
    array = np.asarray(array, float)
    return array[:, None] if array.ndim == 1 else array


def _coefficients(at: Regression, kind: str) -> Coefficients:
    """Coefficients with the model's covariance, or with that of Knapp and Hartung (2003).

    A metric of one site has that site's estimate and standard error, and no degrees of freedom.
    Where all sites agree exactly Knapp and Hartung's interval would have no width: it is NaN.
    """
    sites = at.sites
    back = np.linalg.inv(sites.triangle)
    coef, covariance = at.coef @ back.T, back @ at.covariance @ back.T
    coef = np.where(sites.estimable[:, None], coef, np.nan)
    covariance = np.where(sites.estimable[:, None, None], covariance, np.nan)
    if kind == "normal":
        return Coefficients(coef, covariance, np.full(len(coef), np.inf))
    left = (sites.n_sites - coef.shape[1]).astype(float)
    factor = np.where(left > 0, at.q / sites.dof, 1.0)
    factor = np.maximum(factor, 1.0) if kind == "hksj-adhoc" else factor
    dof = np.where((left > 0) & (factor > EQUAL), left, np.nan)
    return Coefficients(coef, covariance * factor[:, None, None], dof)


def _new_site(at: Regression, tau2: np.ndarray, settings: Settings):
    if settings.prediction == "bootstrap":
        return bootstrap(at.sites)
    return _student(at, tau2, settings, np.ones((1, 1)))


def _student(at: Regression, tau2: np.ndarray, settings: Settings, rows) -> StudentNewSite:
    """Of new sites at rows of moderators; (m,) for a single row without moderators."""
    kind = settings.prediction
    kind = settings.ci if kind == "hksj" and settings.ci != "normal" else kind
    found = _coefficients(at, kind)
    mean, std_error = found.coef @ rows.T, found.std_error(rows)
    less = 1.0 if settings.prediction_dof == "k-2" else 0.0
    enough = at.sites.n_sites >= 2 + rows.shape[1]
    dof = np.where(enough, found.dof - less * np.isfinite(found.dof), np.nan)
    scale = np.sqrt(tau2 + np.where(np.isnan(dof), np.nan, std_error.T**2)).T
    if rows.shape == (1, 1):
        return StudentNewSite(mean[:, 0], scale[:, 0], dof)
    return StudentNewSite(mean, scale, np.broadcast_to(dof[:, None], mean.shape))


def _limits(new_site, confidence_level: float, nothing: np.ndarray):
    if new_site is None:
        return nothing, nothing
    tail = 0.5 * (1.0 - confidence_level)
    return new_site.quantile(tail), new_site.quantile(1.0 - tail)
