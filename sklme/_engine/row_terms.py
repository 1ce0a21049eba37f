"""The terms of a family for all rows, worked out in blocks that stay in the cache."""

import numpy as np

BLOCK = 16_384  # rows; with more, temporary arrays leave the cache and cost three times as much


class RowTerms:
    """`family.terms` for one outcome, (n,) rows at a time."""

    def __init__(self, family, outcome):
        self.family, self.outcome = family, outcome
        n = len(outcome.y)
        self.blocks = [slice(i, min(i + BLOCK, n)) for i in range(0, n, BLOCK)]
        self.parts = []
        if len(self.blocks) > 1:  # a family may keep what only it can cut: it reads the rows anew
            given = outcome.y, outcome.trials, outcome.weights
            self.parts = [
                family.outcome(*(None if a is None else a[at] for a in given)) for at in self.blocks
            ]

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


def _joined(parts: list):
    return None if parts[0] is None else np.concatenate(parts, axis=-1)
