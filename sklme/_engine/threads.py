"""One BLAS thread while calls are small: spinning threads cost more than they give."""

from contextlib import nullcontext
from functools import cache, wraps

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


def careful(function):
    """For functions of a fit or a Gram: one BLAS thread unless its dense block is very large."""

    @wraps(function)
    def wrapped(fit, *args, **options):
        with limited(dense_block(getattr(fit, "gram", fit))):
            return function(fit, *args, **options)

    return wrapped


def dense_block(gram) -> float:
    """Operations of a Cholesky factor of the effects of all factors but the largest."""
    sizes = sorted(f.k * f.n_levels for f in gram.factors)
    return float(sum(sizes[:-1])) ** 3 / 3.0
