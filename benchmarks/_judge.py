"""Which packages found the same optimum of the same model, and how long they took."""

import numpy as np
from _peers import OURS

LOGLIK_TOLERANCE = 1e-4
COEFFICIENT_TOLERANCE = 1e-3  # in standard errors


def judge(packages, reference_ml=None):
    """Add seconds, logLik difference, coefficient difference and verdict to every record, in place.

    The reference is the highest log-likelihood that a second package confirms: a package that
    drops a constant, or fits another model, may well report a higher one.
    """
    fitted = {name: r for name, r in packages.items() if r["status"] == "ok"}
    racing = {name: r for name, r in fitted.items() if r["criterion"] != "ML"}
    reference = _reference(racing)
    se = _standard_errors(racing, reference)
    for r in fitted.values():
        truth = reference_ml if r["criterion"] == "ML" else reference
        r["seconds"] = seconds(r)
        loglik = _loglik_gaps(r, truth) if truth else None
        beta = _coefficient_gaps(r, truth, se) if truth and se is not None else None
        r["loglik_gap"], r["coefficient_gap"] = _furthest(loglik), _furthest(beta)
        r["n_wrong"] = _n_wrong(loglik, beta)
        r["correct"] = loglik is not None and r["n_wrong"] == 0


def seconds(r):
    """Median without the first fit of each process; one fit alone when it is long.

    For responses fitted one by one: the first, and the median of the rest times their number.
    """
    first = [run["walls"][0] for run in r["runs"]]
    rest = [wall for run in r["runs"] for wall in run["walls"][1:]]
    one = float(np.median(rest or first))
    if r["joint"] or r["outputs"] == 1:
        return one
    return float(np.median(first)) + (r["outputs"] - 1) * one


def fastest_peer(packages):
    """Name of the fastest correct package in the race other than sklme, or None."""
    peers = {
        name: r["seconds"]
        for name, r in packages.items()
        if name not in OURS and r.get("correct") and r["criterion"] != "ML"
    }
    return min(peers, key=peers.get) if peers else None


def _reference(fitted):
    """The record with the highest log-likelihood that another one confirms, else the highest."""
    best = sorted(fitted.values(), key=lambda r: -np.nan_to_num(_column(r, "loglik")[0], nan=-1e99))
    for r in best:
        gaps = (_furthest(_loglik_gaps(other, r)) for other in best if other is not r)
        if any(abs(gap) < LOGLIK_TOLERANCE for gap in gaps):
            return r
    return best[0] if best else None


def _standard_errors(fitted, reference):
    """Those of the package nearest to the reference that reports them, or None."""
    known = [r for r in fitted.values() if r["fits"][0]["se"]]
    nearest = min(known, key=lambda r: abs(_furthest(_loglik_gaps(r, reference))), default=None)
    return None if nearest is None else _column(nearest, "se")


def _column(r, name):
    return np.array([fit[name] for fit in r["fits"]], dtype=float)


def _loglik_gaps(r, truth):
    """Log-likelihood minus the reference, for the responses that both kept."""
    a, b = _column(r, "loglik"), _column(truth, "loglik")
    n = min(len(a), len(b))
    return a[:n] - b[:n]


def _coefficient_gaps(r, truth, se):
    """Largest distance of a coefficient from the reference in standard errors, by response."""
    a, b = _column(r, "beta"), _column(truth, "beta")
    n = min(len(a), len(b), len(se))
    return (np.abs(a[:n] - b[:n]) / se[:n]).max(axis=1)


def _furthest(gaps):
    """The gap of largest size with its sign; infinity for one that is not a number."""
    if gaps is None:
        return None
    gaps = np.where(np.isnan(gaps), -np.inf, gaps)
    return float(gaps[np.argmax(np.abs(gaps))])


def _n_wrong(loglik, beta):
    """Responses whose fit is not the reference's; without standard errors logLik alone decides."""
    if loglik is None:
        return 0
    wrong = ~(np.abs(loglik) < LOGLIK_TOLERANCE)
    if beta is not None:
        wrong[: len(beta)] |= ~(beta < COEFFICIENT_TOLERANCE)
    return int(wrong.sum())
