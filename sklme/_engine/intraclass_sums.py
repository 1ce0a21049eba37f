"""What subjects and raters have to say of many features at once: sums over subjects of one size.

y = mu + subject + rater + error. For a subject with s measurements, n_j of them by rater j and with
the total t, let a = (n_1, ..., n_k, t). With lambda = var(subject) / var(error) the subjects leave

    A(lambda) = W + sum over s of a a' / (s (1 + s lambda))

of the cross-products of [raters, y]: W holds those within subjects (Woodbury's identity). So the
subjects of each size s count by the sum of their a a' alone, and a table of any length becomes a
few matrices of k + 1 rows a feature. The raters are turned by an orthogonal matrix, so that the
first is the mean of all and the rest are contrasts.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg, sparse

TINY = 1e-300


@dataclass(frozen=True)
class Sums:
    """Sums of p features; y is centred and scaled.

    sizes : (S,) numbers of measurements a subject has
    counts : (S, p) subjects of each size
    between : (S, d, d, p) sums of a a'; within : (d, d, p) = W; the last row is that of y
    total : (p,) measurements
    shift, scale : (p,) y in units of the data is shift + scale times y here
    """

    sizes: np.ndarray
    counts: np.ndarray
    between: np.ndarray
    within: np.ndarray
    total: np.ndarray
    shift: np.ndarray
    scale: np.ndarray

    @property
    def n_raters(self) -> int:
        return len(self.within) - 1

    @property
    def n_subjects(self) -> np.ndarray:
        return self.counts.sum(axis=0)

    def take(self, which: np.ndarray) -> "Sums":
        """The sums of some features."""
        if len(which) == len(self.total) and np.array_equal(which, np.arange(len(which))):
            return self
        return replace(
            self,
            counts=self.counts[:, which],
            between=self.between[..., which],
            within=self.within[..., which],
            total=self.total[which],
            shift=self.shift[which],
            scale=self.scale[which],
        )

    def at(self, ratio: np.ndarray, order: int = 0) -> list[np.ndarray]:
        """A and its derivatives up to `order` (at most 2) in the ratio lambda, (d, d, p) each."""
        s = self.sizes[:, None]
        grown = 1.0 + s * ratio
        weights = [1.0 / (s * grown), -1.0 / grown**2, 2.0 * s / grown**3][: order + 1]
        out = [np.einsum("sp,sabp->abp", h, self.between) for h in weights]
        out[0] += self.within
        return out


def sums(Y: np.ndarray, subject: np.ndarray, rater: np.ndarray | None = None) -> Sums:
    """The sums of the columns of Y (n, p), NaN where a feature was not measured.

    subject, rater : (n,) codes; every feature has measurements by every rater.
    """
    rater = np.zeros(len(Y), int) if rater is None else rater
    order = np.argsort(subject, kind="stable")
    Y, subject, rater = Y[order], subject[order], rater[order]
    present = ~np.isnan(Y)
    if (present == present[:, :1]).all():
        rows = present[:, 0]
        Y, shift, scale = _standardised(Y[rows], None)
        return _of_one_pattern(Y, _dense(subject[rows]), _dense(rater[rows]), shift, scale)
    Y, shift, scale = _standardised(Y, present)
    return _of_many_patterns(Y, present.astype(float), _dense(subject), _dense(rater), shift, scale)


def contrasts(k: int) -> np.ndarray:
    """An orthogonal matrix whose first column is constant (Helmert's)."""
    return np.concatenate([np.full((1, k), k**-0.5), linalg.helmert(k)]).T


def _dense(codes: np.ndarray) -> np.ndarray:
    return np.unique(codes, return_inverse=True)[1]


def _standardised(Y: np.ndarray, present: np.ndarray | None):
    """Y about its mean over its largest distance from it, with zero where it is absent."""
    if present is None:
        first, n = Y[0], len(Y)
        shifted = Y - first  # a mean of large equal numbers would round
    else:
        first, n = Y[present.argmax(axis=0), np.arange(Y.shape[1])], present.sum(axis=0)
        shifted = np.where(present, Y - first, 0.0)
    mean = shifted.sum(axis=0) / n
    shifted -= mean
    if present is not None:
        shifted *= present
    scale = np.abs(shifted).max(axis=0)
    scale = np.where(scale > 0.0, scale, 1.0)
    shifted /= scale
    return shifted, first + mean, scale


def _of_one_pattern(Y, subject, rater, shift, scale) -> Sums:
    """Every feature has the same cells: counts are numbers, totals are vectors."""
    a, k, p = subject[-1] + 1, rater.max() + 1, Y.shape[1]
    n = np.zeros((a, k))
    np.add.at(n, (subject, rater), 1.0)
    size = n.sum(axis=1)
    totals = np.add.reduceat(Y, np.searchsorted(subject, np.arange(a)), axis=0)
    inner = Y - (totals / size[:, None])[subject]
    turn = contrasts(k)
    turned = n @ turn
    sizes = np.unique(size)
    between = np.empty((len(sizes), k + 1, k + 1, p))
    for one, out in zip(sizes, between, strict=True):
        own, t = turned[size == one], totals[size == one]
        out[:k, :k] = (own.T @ own)[:, :, None]
        out[:k, k] = out[k, :k] = own.T @ t
        out[k, k] = np.einsum("ap,ap->p", t, t)
    within = np.empty((k + 1, k + 1, p))
    within[:k, :k] = (turn.T @ (np.diag(n.sum(axis=0)) - (n / size[:, None]).T @ n) @ turn)[
        ..., None
    ]
    within[:k, k] = within[k, :k] = turn.T @ (_indicator(rater, k) @ inner)
    within[k, k] = np.einsum("np,np->p", inner, inner)
    counts = np.array([(size == one).sum() for one in sizes], float)
    every = np.ones(p)
    return Sums(sizes, np.outer(counts, every), between, within, len(Y) * every, shift, scale)


def _of_many_patterns(Y, present, subject, rater, shift, scale) -> Sums:
    """Every feature has cells of its own: counts are vectors too."""
    a, k, p = subject[-1] + 1, rater.max() + 1, Y.shape[1]
    cells = _indicator(subject * k + rater, a * k)
    n = (cells @ present).reshape(a, k, p)
    size = n.sum(axis=1)
    totals = np.add.reduceat(Y, np.searchsorted(subject, np.arange(a)), axis=0)
    over = 1.0 / np.maximum(size, 1.0)
    inner = (Y - (totals * over)[subject]) * present
    turn = contrasts(k)
    rows = np.empty((k + 1, a, p))  # the vectors a of all subjects
    np.einsum("akp,kj->jap", n, turn, out=rows[:k])
    rows[k] = totals
    sizes = np.unique(size)
    sizes = sizes[sizes > 0]
    masks = [size == one for one in sizes]
    between = np.stack([_squares(rows, mask) for mask in masks])
    within = -_squares(rows, over)
    within[:k, :k] += np.einsum("kp,ki,kj->ijp", n.sum(axis=0), turn, turn)
    within[:k, k] = within[k, :k] = turn.T @ (_indicator(rater, k) @ inner)
    within[k, k] = np.einsum("np,np->p", inner, inner)
    counts = np.array([mask.sum(axis=0) for mask in masks], float)
    return Sums(sizes, counts, between, within, present.sum(axis=0), shift, scale)


def _squares(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """sum over subjects of weight times a a', for rows (d, a, p) and weights (a, p)."""
    d, _, p = rows.shape
    out = np.empty((d, d, p))
    for i in range(d):
        weighted = rows[i] * weights
        for j in range(i, d):
            out[i, j] = out[j, i] = np.einsum("ap,ap->p", weighted, rows[j])
    return out


def _indicator(codes: np.ndarray, n_levels: int) -> sparse.csr_array:
    ones = np.ones(len(codes))
    return sparse.csr_array((ones, (codes, np.arange(len(codes)))), (n_levels, len(codes)))
