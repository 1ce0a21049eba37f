"""y, weights and parameters: what every model checks before it reads its columns."""

from numbers import Integral

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import _check_sample_weight, _num_samples


def read_response(estimator, y, *, like=None):
    """y as float64, (n,) or (n, n_outputs); with `like`, as many outputs as that model has."""
    if y is None:
        raise ValueError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is None"
        )
    y = _numbers(y)
    if like is not None:
        _check_outputs(y, like)
    return y


def _numbers(y):
    array = np.asarray(y) if hasattr(y, "__array__") else y
    plain = isinstance(array, np.ndarray) and array.dtype.kind in "fiub" and array.ndim in (1, 2)
    with np.errstate(invalid="ignore", over="ignore"):  # inf - inf in a sum over y
        if plain and array.size and np.isfinite(array.sum(dtype=np.float64)):
            return array.astype(np.float64, copy=False)
        return check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")


def _check_outputs(y, like):
    fitted = "(n_samples,)" if like.coef_.ndim == 1 else f"(n_samples, {len(like.coef_)})"
    given = "(n_samples,)" if y.ndim == 1 else f"(n_samples, {y.shape[1]})"
    if fitted != given:
        raise ValueError(f"y has the shape {given}, but the model was fitted with y of {fitted}")


def read_weights(sample_weight, X):
    """Row weights as float64, or None."""
    if sample_weight is None:
        return None
    weights = _check_sample_weight(
        sample_weight, X, dtype=np.float64, ensure_non_negative=True, copy=False
    )
    if not weights.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weights


def check_rows(X, y, weights):
    """X, y and the weights have as many rows as one another."""
    n = X.shape[0] if len(getattr(X, "shape", ())) == 2 else _num_samples(X)
    if n != len(y):
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: [{n}, {len(y)}]: "
            "X and y differ"
        )


def check_choice(name, value, choices):
    """A parameter is one of a few words."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, choices))}")


def check_number(name, value, kind, least, most=np.inf):
    """A parameter is a number of this kind, least < value < most; an integer may be the least."""
    what = "an integer" if kind is Integral else "a number"
    if isinstance(value, bool) or not isinstance(value, kind):
        raise ValueError(f"{name} is {value!r}; it must be {what}")
    if not least < value < most and not (kind is Integral and value == least):
        bounds = f"of at least {least}" if kind is Integral else f"above {least}"
        bounds += f" and below {most}" if most < np.inf else ""
        raise ValueError(f"{name} is {value!r}; it must be {what} {bounds}")
