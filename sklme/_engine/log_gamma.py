"""What the logarithm of the gamma function leaves after Stirling's formula.

  log Gamma(z) = (z - 1/2) log z - z + log(2 pi)/2 + S(z),   S(z) = 1/(12 z) - 1/(360 z^3) + ...

(Abramowitz and Stegun 1964, 6.1.40). Differences of log Gamma at large arguments, as in a negative
binomial distribution that is nearly Poisson, cancel unless they are written in S.
"""

import numpy as np

from sklme._engine.links import HALF_LOG_2PI

# Coefficients of 1/z, 1/z^3, ...: from z = LARGE on they are exact to rounding.
SERIES = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400)
LARGE = 10
BLOCK = 8192  # rows that are worked on at once, so that they stay in cache


def stirling(z, order: int) -> list[np.ndarray]:
    """z^d times the d-th derivative of S at z > 0, for d up to `order` (at most 3)."""
    z = np.asarray(z, float)
    flat, out = z.ravel(), np.empty((order + 1, z.size))
    for i in range(0, z.size, BLOCK):
        here = flat[i : i + BLOCK]
        near = here < LARGE
        up = here + LARGE * near
        tail = _tail(up, order)
        if near.any():
            tail[:, near] = _down(here[near], up[near], tail[:, near])
        out[:, i : i + BLOCK] = tail
    return [a.reshape(z.shape) for a in out]


def _tail(z, order: int) -> np.ndarray:
    """The asymptotic series; its d-th derivative multiplies z^-m by -m (-m - 1) ..."""
    over = 1 / z
    square, out = over * over, np.zeros((order + 1, len(z)))
    for j in reversed(range(len(SERIES))):
        out *= square
        factor = SERIES[j]
        for d in range(order + 1):
            out[d] += factor
            factor *= -(2 * j + 1 + d)
    return out * over


def _down(z, up, T) -> list[np.ndarray]:
    """From `up` = z + LARGE to z by Gamma(z + 1) = z Gamma(z), and its logarithmic derivatives."""
    shares = [z / (z + i) for i in range(LARGE)]
    product = z.copy()
    for i in range(1, LARGE):
        product *= z + i
    log_z, log_up = np.log(z), np.log(up)
    out = [T[0] + (up - 0.5) * log_up - (z - 0.5) * log_z - LARGE - np.log(product)]
    x = z / up
    if len(T) > 1:
        out.append(x * (T[1] - 0.5) + z * (log_up - log_z) + 0.5 - sum(shares))
    if len(T) > 2:
        out.append(sum(a * a for a in shares) + x * (z + x * (0.5 + T[2])) - z - 0.5)
    if len(T) > 3:
        cubes = sum(a * a * a for a in shares)
        out.append(x * x * (x * (T[3] - 1) - z) - 2 * cubes + z + 1)
    return out


def log_gamma(z, order: int) -> list[np.ndarray]:
    """log Gamma at z > 0, and its derivatives times z, z^2 and z^3, up to `order`."""
    S, log = stirling(z, order), np.log(z)
    rest = [(z - 0.5) * log - z + HALF_LOG_2PI, z * log - 0.5, z + 0.5, -z - 1]
    return [s + r for s, r in zip(S, rest, strict=False)]


def rising(y, log_k, order: int) -> tuple[np.ndarray, ...]:
    """rho = log Gamma(y + k) - log Gamma(k) - y log k, and its derivatives by log k up to `order`.

    For counts y it is the sum of log(1 + j/k) over j < y, so it vanishes as k grows.
    """
    k = np.exp(log_k)
    u = y / k
    w, z = 1 / (1 + u), u / (1 + u)
    far, near = stirling(y + k, order), stirling(k, order)
    S = [far[d] * w**d - near[d] for d in range(order + 1)]
    excess = log1p_minus(u)
    out = [(y + k - 0.5) * excess + (y - 0.5) * u + S[0]]
    if order > 0:  # D1, D2, D3: k, k^2 and k^3 times the derivatives by k
        D1 = k * excess + 0.5 * z + S[1]
        out.append(D1)
    if order > 1:
        D2 = y * z - 0.5 * z * (1 + w) + S[2]
        out.append(D1 + D2)
    if order > 2:
        D3 = -y * z * (2 + w) + z * (1 + w + w * w) + S[3]
        out.append(D1 + 3 * D2 + D3)
    return tuple(out)


def log1p_minus(x) -> np.ndarray:
    """log(1 + x) - x for x >= 0 to full relative precision.

    With r = x/(2 + x) the logarithm is 2 atanh(r), and x - 2r = x r.
    """
    small = x < 0.05
    r = np.where(small, x, 0.0)
    r = r / (2 + r)
    s = r * r
    series = 1 / 3 + s * (1 / 5 + s * (1 / 7 + s * (1 / 9 + s * (1 / 11 + s / 13))))
    return np.where(small, 2 * r * s * series - x * r, np.log1p(x) - x)
