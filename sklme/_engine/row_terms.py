"""The terms of a family for all rows, worked out in blocks that stay in the cache."""

from dataclasses import replace

import numpy as np

BLOCK = 16_384  # rows; with more, temporary arrays leave the cache and cost three times as much


class RowTerms:
    """`family.terms` for one outcome, (n,) rows at a time."""

    def __init__(self, family, outcome):
        self.family, self.outcome = family, outcome
        n = len(outcome.y)
        self.blocks = [slice(i, min(i + BLOCK, n)) for i in range(0, n, BLOCK)]
        self.parts = [_rows_of(outcome, at) for at in self.blocks] if len(self.blocks) > 1 else []

    def __call__(self, eta: np.ndarray, tau: np.ndarray, order: int):
        """Terms of every row; tau is (n_aux, n) or (n_aux, 1)."""
        if not self.parts:
            return self.family.terms(self.outcome, eta, tau, order)
        found = [
            self.family.terms(part, eta[at], tau if tau.shape[1] == 1 else tau[:, at], order)
            for at, part in zip(self.blocks, self.parts, strict=True)
        ]
        return type(found[0])(
            *(_joined([getattr(f, name) for f in found]) for name in found[0].__dataclass_fields__)
        )


def _rows_of(outcome, at: slice):
    """The outcome of some rows; a family may keep arrays, or further outcomes, in `extra`."""
    n = len(outcome.y)

    def some(a):
        if isinstance(a, type(outcome)):
            return _rows_of(a, at)
        return a[at] if isinstance(a, np.ndarray) and len(a) == n else a

    return replace(
        outcome,
        y=some(outcome.y),
        trials=some(outcome.trials),
        weights=some(outcome.weights),
        extra=tuple(some(a) for a in outcome.extra),
        constant=0.0,
    )


def _joined(parts: list):
    return None if parts[0] is None else np.concatenate(parts, axis=-1)
