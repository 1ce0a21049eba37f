"""One BLAS thread while calls are small: spinning threads cost more than they give."""

from contextlib import nullcontext
from functools import cache

from threadpoolctl import ThreadpoolController

SMALL = 1e7  # flop of the largest call below which BLAS does not start threads worth stopping
LARGE = 1e10  # above this a call gains from all threads


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def limited(flop: float):
    """A context for work whose largest BLAS call takes about `flop` operations."""
    if SMALL < flop < LARGE:
        return _controller().limit(limits=1, user_api="blas")
    return nullcontext()
