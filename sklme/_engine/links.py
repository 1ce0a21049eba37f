"""Links eta = g(mu) between the mean of an outcome and the linear predictor.

Families of positive means are written in log mu, families of shares in log mu and log(1 - mu):
these neither overflow nor cancel, however far out eta is (McCullagh and Nelder 1989, section 4.3
for shares, 2.2 and 8.3 for the others).
"""

import numpy as np
from scipy.special import erfcx, expit, log_expit, logit, ndtr, ndtri

HALF_LOG_2PI = 0.5 * np.log(2 * np.pi)
ROOT_2_OVER_PI = np.sqrt(2 / np.pi)
HALF_ROOT = 0.5 * ROOT_2_OVER_PI  # the normal density at 0
FAR = 30.0  # from here on the tail of probit is better summed than subtracted

Derivatives = tuple[np.ndarray, ...]  # a function of eta, its first, second and third derivative


class Link:
    """mu as a function of eta, on the open interval (low, high) of means."""

    name: str = ""
    low, high = -np.inf, np.inf

    def __repr__(self) -> str:
        return f"<link {self.name}>"

    def mean(self, eta) -> np.ndarray:
        """mu of eta."""
        raise NotImplementedError

    def eta(self, mu) -> np.ndarray:
        """eta of mu."""
        raise NotImplementedError

    def derivatives(self, eta) -> Derivatives:
        """mu and its first three derivatives with respect to eta."""
        raise NotImplementedError


# ------------------------------------------------------------------------- links of positive means


class PowerLink(Link):
    """mu = eta^power for eta > 0; families of positive means read it as power * log eta."""

    low = 0.0
    power = 1

    def mean(self, eta):
        return np.asarray(eta, float) ** self.power

    def eta(self, mu):
        return np.asarray(mu, float) ** (1 / self.power)

    def derivatives(self, eta):
        p = self.power
        slopes = np.cumprod([1, p, p - 1, p - 2]).tolist()
        return tuple(c * np.asarray(eta, float) ** (p - d) for d, c in enumerate(slopes))

    def log_mean(self, eta) -> Derivatives:
        """log mu and its derivatives; eta must be positive."""
        over = 1 / eta
        first = self.power * over
        return self.power * np.log(eta), first, -first * over, 2 * first * over**2


class Identity(PowerLink):
    """mu = eta, for means of either sign; a family of positive means takes eta > 0 only."""

    name = "identity"
    low = -np.inf

    def mean(self, eta):
        return np.asarray(eta, float)

    def eta(self, mu):
        return np.asarray(mu, float)

    def derivatives(self, eta):
        zero = np.zeros_like(eta, float)
        return np.asarray(eta, float), zero + 1, zero, zero


class Inverse(PowerLink):
    """mu = 1 / eta."""

    name = "inverse"
    power = -1


class Sqrt(PowerLink):
    """mu = eta^2."""

    name = "sqrt"
    power = 2


class Log(Link):
    """mu = exp(eta)."""

    name = "log"
    low = 0.0

    def mean(self, eta):
        return np.exp(eta)

    def eta(self, mu):
        return np.log(mu)

    def derivatives(self, eta):
        mu = np.exp(eta)
        return mu, mu, mu, mu

    def log_mean(self, eta) -> Derivatives:
        """log mu and its derivatives."""
        zero = np.zeros_like(eta, float)
        return eta, zero + 1, zero, zero


# ---------------------------------------------------------------------------------- links of shares


class ShareLink(Link):
    """A link onto (0, 1) that also knows log mu and log(1 - mu)."""

    low, high = 0.0, 1.0

    def log_share(self, eta, order: int) -> Derivatives:
        """log mu and its derivatives up to `order`."""
        raise NotImplementedError

    def log_rest(self, eta, order: int) -> Derivatives:
        """log(1 - mu) and its derivatives up to `order`; here for links with mu(-eta) = 1 - mu."""
        mirrored = self.log_share(-eta, order)
        return tuple(-d if k % 2 else d for k, d in enumerate(mirrored))

    def log_shares(self, eta, order: int) -> tuple[Derivatives, Derivatives]:
        """Both logarithms, each with its derivatives up to `order`."""
        return self.log_share(eta, order), self.log_rest(eta, order)


class Logit(ShareLink):
    """mu = 1 / (1 + exp(-eta))."""

    name = "logit"

    def mean(self, eta):
        return expit(eta)

    def eta(self, mu):
        return logit(mu)

    def derivatives(self, eta):
        mu, rest = expit(eta), expit(-eta)
        first = mu * rest
        return mu, first, first * (rest - mu), first * (1 - 6 * first)

    def log_share(self, eta, order):
        mu, rest = expit(eta), expit(-eta)
        second = -mu * rest
        return (log_expit(eta), rest, second, second * (rest - mu))[: order + 1]


class Probit(ShareLink):
    """mu = Phi(eta), the normal distribution function."""

    name = "probit"

    def mean(self, eta):
        return ndtr(eta)

    def eta(self, mu):
        return ndtri(mu)

    def derivatives(self, eta):
        density = np.exp(-0.5 * eta**2 - HALF_LOG_2PI)
        return ndtr(eta), density, -eta * density, (eta**2 - 1) * density

    def log_shares(self, eta, order):
        """One evaluation of erfcx(x) = exp(x^2) erfc(x) serves both tails."""
        down, x = eta < 0, np.abs(eta)
        tail = erfcx(np.sqrt(0.5) * x)
        density = np.exp(-0.5 * x * x)
        lost = 0.5 * density * tail  # Phi(-x)
        low = _log_phi(np.log(0.5 * tail) - 0.5 * x * x, ROOT_2_OVER_PI / tail, -x, order)
        high = _log_phi(np.log1p(-lost), HALF_ROOT * density / (1 - lost), x, order)
        share = tuple(np.where(down, a, b) for a, b in zip(low, high, strict=True))
        rest = tuple(np.where(down, b, a) for a, b in zip(low, high, strict=True))
        return share, tuple(-d if k % 2 else d for k, d in enumerate(rest))

    def log_share(self, eta, order):
        return self.log_shares(eta, order)[0]


class Cloglog(ShareLink):
    """mu = 1 - exp(-exp(eta)), the complementary log-log link."""

    name = "cloglog"

    def mean(self, eta):
        return -np.expm1(-np.exp(eta))

    def eta(self, mu):
        return np.log(-np.log1p(-np.asarray(mu, float)))

    def derivatives(self, eta):
        hazard = np.exp(eta)
        first = np.exp(eta - hazard)
        return -np.expm1(-hazard), first, first * (1 - hazard), first * (1 - 3 * hazard + hazard**2)

    def log_share(self, eta, order):
        """With x = exp(eta): q = x/(exp(x) - 1), q' = q(1 - x - q)."""
        x = np.exp(np.minimum(eta, 7.0))  # beyond it mu is 1 to the last bit
        value = np.where(
            x < 0.7, eta + np.log(-np.expm1(-x) / x), np.log1p(-np.exp(-np.maximum(x, 0.5)))
        )
        q = x / np.expm1(np.minimum(x, 700.0))
        bend = 1 - x - q
        slope = -x - q * bend  # d bend / d eta
        return (value, q, q * bend, q * (bend**2 + slope))[: order + 1]

    def log_rest(self, eta, order):
        x = np.exp(eta)
        return (-x,) * (order + 1)


def _log_phi(value, m, t, order: int) -> Derivatives:
    """log Phi(t) and its derivatives, from the inverse Mills ratio m = phi/Phi, m' = -m(m + t)."""
    above, slope = _above(t, m)
    return (value, m, -m * above, m * (above * above - slope))[: order + 1]


def _above(eta, m) -> tuple[np.ndarray, np.ndarray]:
    """m + eta and its derivative 1 - m(m + eta) for the inverse Mills ratio m.

    Far below zero both are small differences of large numbers, so there they follow the asymptotic
    expansion of Mills' ratio in 1/eta^2 (Abramowitz and Stegun 1964, 26.2.12).
    """
    above = m + eta
    slope = 1 - m * above
    far = eta < -FAR
    if far.any():
        x = 1 / np.where(far, eta, -FAR)
        z = x * x
        series = 1 + z * (-2 + z * (10 + z * (-74 + z * (706 - z * 8162))))
        its_slope = 1 + z * (-6 + z * (50 + z * (-518 + z * (6354 - z * 89782))))
        above, slope = np.where(far, -x * series, above), np.where(far, z * its_slope, slope)
    return above, slope


LINKS: dict[str, Link] = {
    link.name: link for link in (Logit(), Probit(), Cloglog(), Log(), Identity(), Inverse(), Sqrt())
}
