"""Linear compartment systems: rates of decay, projections on them, and one step in time.

x' = -M x + input for the amounts x in the central compartment and in the peripheral ones, each
connected with the central one alone; then e^-Mt = sum_k e^-rate_k t P_k. Optionally a depot in
front: d' = -ka d, which feeds the central compartment. The state is (depot, central, peripheral..).
Jacquez, "Compartmental analysis in biology and medicine" (1985), has the theory.
"""

from dataclasses import dataclass

import numpy as np

from sklme.pharmacokinetics._exponentials import convolve, decay

NEAR = 1e-5  # rates closer than this, relative to their sum, are moved apart


@dataclass(frozen=True)
class System:
    """Systems of any leading shape.

    rates : (..., K), positive
    projections : (..., K, K, K), P_k[i, j] is the part in rate k of compartment i after a unit in j
    absorption : (...,) ka; None without a depot
    """

    rates: np.ndarray
    projections: np.ndarray
    absorption: np.ndarray | None = None

    @property
    def n_states(self):
        """Compartments and the depot."""
        return self.rates.shape[-1] + (self.absorption is not None)

    def at(self, index):
        """The systems `index` (..., m) of the last leading axis."""
        pick = lambda x, n: np.take_along_axis(x, index[(...,) + (None,) * n], axis=-1 - n)
        ka = None if self.absorption is None else pick(self.absorption, 0)
        return System(pick(self.rates, 1), pick(self.projections, 3), ka)


def solve_system(elimination, exchange=(), absorption=None):
    """The System with this rate of elimination and (to, from) rates of each peripheral one."""
    K = 1 + len(exchange)
    if K == 1:
        rates = elimination[..., None]
        return System(rates, np.ones((*rates.shape, 1, 1), rates.dtype), absorption)
    # A rate of 0 would keep for ever what never comes back.
    least = 1e-12 * (elimination + sum(to + back for to, back in exchange)).real
    exchange = [
        (to, np.where(back == 0, (1.0 + n) * least, back)) for n, (to, back) in enumerate(exchange)
    ]
    with np.errstate(all="ignore"):
        rates = _rates(elimination, exchange)
        close = ~(_closest(rates) > NEAR)
    if close.any():
        # Rates can only meet where a peripheral compartment takes up next to nothing: then its
        # own rate may be moved without any change of the central one.
        exchange = [
            (to, np.where(close, back * (1.0 + (4.0 + 3.0 * n) * NEAR), back))
            for n, (to, back) in enumerate(exchange)
        ]
        rates = _rates(elimination, exchange)
    return System(rates, _projections(rates, elimination, exchange), absorption)


def _rates(elimination, exchange):
    if len(exchange) == 1:
        ((to, back),) = exchange
        total = elimination + to + back
        root = np.sqrt((elimination + to - back) ** 2 + 4.0 * to * back)
        fast = 0.5 * (total + root)
        return np.stack([fast, elimination * back / fast], axis=-1)
    (k12, k21), (k13, k31) = exchange
    trace = elimination + k12 + k13 + k21 + k31
    ratios = [k / trace for k in (elimination, k12, k21, k13, k31)]
    k10, k12, k21, k13, k31 = ratios
    b = k10 * (k21 + k31) + k12 * k31 + k13 * k21 + k21 * k31
    c = k10 * k21 * k31
    x = _cubic_roots(b.real, c.real)
    close = ~(x[..., 0] - x[..., 1] > 0.01 * x[..., 0])
    if close.any():
        x[close] = _symmetric_roots(*(k.real[close] for k in ratios))
    if np.iscomplexobj(b):  # carry the complex step of the coefficients into the roots
        gaps = (x[..., :, None] - x[..., None, :] + np.eye(3)).prod(axis=-1)
        gaps = np.where(gaps == 0.0, 1.0, gaps)
        x = x - 1j * (b.imag[..., None] * x - c.imag[..., None]) / gaps
    return x * trace[..., None]


def _cubic_roots(b, c):
    """Roots of x^3 - x^2 + b x - c, all positive: the largest by the cosine formula.

    The other two solve the quadratic equation that is left; all keep their relative precision.
    """
    p = np.maximum(1.0 / 3.0 - b, 1e-40) / 3.0
    q = 1.0 / 27.0 - b / 6.0 + 0.5 * c
    angle = np.arccos(np.clip(q / p**1.5, -1.0, 1.0)) / 3.0
    fast = 1.0 / 3.0 + 2.0 * np.sqrt(p) * np.cos(angle)
    for _ in range(2):
        slope = (3.0 * fast - 2.0) * fast + b
        fast = fast - (((fast - 1.0) * fast + b) * fast - c) / np.maximum(slope, 1e-6)
    product = c / fast
    total = (b - product) / fast
    middle = 0.5 * (total + np.sqrt(np.maximum(total**2 - 4.0 * product, 0.0)))
    return np.stack([fast, middle, product / np.where(middle == 0, 1.0, middle)], axis=-1)


def _symmetric_roots(k10, k12, k21, k13, k31):
    """The same roots as eigenvalues of a symmetric matrix, which may meet without harm."""
    M = np.zeros((len(k10), 3, 3))
    M[:, 0, 0], M[:, 1, 1], M[:, 2, 2] = k10 + k12 + k13, k21, k31
    M[:, 1, 0], M[:, 2, 0] = np.sqrt(k12 * k21), np.sqrt(k13 * k31)
    x = np.linalg.eigvalsh(M)[:, ::-1]
    x[:, 2] = k10 * k21 * k31 / x[:, 0] / x[:, 1]
    return x


def _closest(rates):
    """The smallest distance of two rates, relative to their sum."""
    ordered = np.sort(rates.real, axis=-1)
    low, high = ordered[..., :-1], ordered[..., 1:]
    return ((high - low) / (high + low + 1e-300)).min(axis=-1)


def _projections(rates, elimination, exchange):
    """adj(M - rate_k I) / prod_(j != k) (rate_j - rate_k)."""
    K = rates.shape[-1]
    gaps = rates[..., None, :] - rates[..., :, None] + np.eye(K)
    scale = 1.0 / gaps.prod(axis=-1)
    P = np.empty((*rates.shape, K, K), rates.dtype)
    leaves = (elimination + sum(to for to, _ in exchange))[..., None] - rates
    back = [b[..., None] - rates for _, b in exchange]
    if K == 2:
        ((to, b),) = exchange
        P[..., 0, 0], P[..., 1, 1] = back[0], leaves
        P[..., 0, 1], P[..., 1, 0] = b[..., None], to[..., None]
        return P * scale[..., None, None]
    P[..., 0, 0] = back[0] * back[1]
    for i, j in ((0, 1), (1, 0)):
        (to, b), (to_other, b_other) = exchange[i], exchange[j]
        P[..., 0, i + 1] = b[..., None] * back[j]
        P[..., i + 1, 0] = to[..., None] * back[j]
        P[..., i + 1, i + 1] = leaves * back[j] - (to_other * b_other)[..., None]
        P[..., j + 1, i + 1] = (to_other * b)[..., None]
    return P * scale[..., None, None]


def step(system, time, with_input=True):
    """How the state moves in `time`: T (..., S, S) and the effect of unit inputs, (..., S, 2).

    The inputs are the rates of infusions into the central compartment and into the depot.
    """
    rates, P, ka = system.rates, system.projections, system.absorption
    time = np.asarray(time)[..., None]
    e, u, _ = decay(rates * time)
    S, o = system.n_states, system.n_states - rates.shape[-1]
    T = np.zeros((*e.shape[:-1], S, S), np.result_type(e, P))
    T[..., o:, o:] = np.einsum("...k,...kij->...ij", e, P)
    enter = P[..., 0]
    if ka is not None:
        e_depot, u_depot, _ = decay(ka * time[..., 0])
        phi, _, _ = convolve(rates, ka[..., None], time)
        T[..., 0, 0] = e_depot
        T[..., 1:, 0] = ka[..., None] * np.einsum("...k,...ki->...i", phi, enter)
    if not with_input:
        return T, None
    inputs = np.zeros((*T.shape[:-1], 2), T.dtype)
    inputs[..., o:, 0] = np.einsum("...k,...ki->...i", u * time, enter)
    if ka is not None:
        inputs[..., 0, 1] = u_depot * time[..., 0]
        inputs[..., 1:, 1] = np.einsum("...k,...ki->...i", u * time - phi, enter)
    return T, inputs


def move(system, state, time, inputs=None):
    """The state (..., S) after `time` with constant inputs (..., 2)."""
    T, effect = step(system, time, inputs is not None)
    state = np.einsum("...ij,...j->...i", T, state)
    return state if inputs is None else state + np.einsum("...ij,...j->...i", effect, inputs)


def solve_periodic(system, interval, load):
    """The state x with x = T(interval) x + load: a steady state that one period reproduces."""
    rates, P, ka = system.rates, system.projections, system.absorption
    interval = interval[..., None]
    returns = lambda k, t: 1.0 / (k * t * decay(k * t)[1])  # 1 / (1 - e^-kt)
    x, o = np.empty_like(load), load.shape[-1] - rates.shape[-1]
    rest = load[..., o:]
    if ka is not None:
        x[..., 0] = load[..., 0] * returns(ka, interval[..., 0])
        phi, _, _ = convolve(rates, ka[..., None], interval)
        enter = np.einsum("...k,...ki->...i", phi, P[..., 0])
        rest = rest + (ka * x[..., 0])[..., None] * enter
    x[..., o:] = np.einsum("...k,...kij,...j->...i", returns(rates, interval), P, rest)
    return x


def solve_constant(system, inputs):
    """The state under infusions (..., 2) that never end."""
    rates, P, ka = system.rates, system.projections, system.absorption
    central = np.einsum("...k,...ki->...i", 1.0 / rates, P[..., 0])
    central = central * inputs.sum(axis=-1)[..., None]
    if ka is None:
        return central
    depot = np.broadcast_to((inputs[..., 1] / ka)[..., None], (*central.shape[:-1], 1))
    return np.concatenate([depot, central], axis=-1)
