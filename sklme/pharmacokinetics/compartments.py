"""Linear compartment models: which parameters they have and what these mean."""

from functools import partial

import numpy as np
from sklearn.base import BaseEstimator

from sklme._rows import check_choice
from sklme.pharmacokinetics._linear import BoundCompartments
from sklme.pharmacokinetics._modes import solve_system
from sklme.pharmacokinetics._records import build_records
from sklme.pharmacokinetics._walk import Individual
from sklme.pharmacokinetics.dosing import Dosing

PERIPHERALS = ("peripheral", "second peripheral")


class _Compartments(BaseEstimator):
    """Options, parameters and binding of the models with one to three compartments."""

    _n_compartments = 1

    def __init__(
        self,
        absorption=None,
        *,
        lag=False,
        bioavailability=False,
        parametrization="clearance",
        output="concentration",
    ):
        self.absorption = absorption
        self.lag = lag
        self.bioavailability = bioavailability
        self.parametrization = parametrization
        self.output = output

    @property
    def parameter_names(self):
        """Names of the parameters in the order of psi."""
        self._check_options()
        by_clearance = [("CL", "V"), ("Q", "V2"), ("Q3", "V3")]
        by_rate = [("K", "V"), ("K12", "K21"), ("K13", "K31")]
        pairs = by_clearance if self.parametrization == "clearance" else by_rate
        names = [name for pair in pairs[: self._n_compartments] for name in pair]
        further = {
            "KA": self.absorption == "first-order",
            "D": self.absorption == "zero-order",
            "TLAG": self.lag,
            "F": self.bioavailability,
        }
        return (*names, *(name for name, there in further.items() if there))

    @property
    def compartment_names(self):
        """Names of the compartments, in the order of the numbers that NONMEM gives them."""
        depot = ("depot",) if self.absorption == "first-order" else ()
        return (*depot, "central", *PERIPHERALS[: self._n_compartments - 1])

    def bind(self, subjects, time, dosing, mask=None):
        """Prepare the model for the samples of some subjects.

        Parameters
        ----------
        subjects : array-like of shape (n_subjects,)
            Their ids in `dosing`.
        time : array-like of shape (n_subjects, n_max)
            Times of their samples, in any order, padded.
        dosing : Dosing
            The doses.
        mask : array-like of shape (n_subjects, n_max), default=None
            Which samples are there; None for all.

        Returns
        -------
        structure : callable
            ``structure(psi, subjects=None)`` with psi of shape (..., n_subjects, m, n_parameters)
            gives predictions (..., n_subjects, n_max), for m = 1 or for m = n_max, where the
            parameters of a sample rule since the sample before it. psi may be complex.
            ``structure.jacobian`` gives the derivatives too, for m = 1.
        """
        self._check_options()
        samples, order = sort_samples(time, mask)
        last = self.compartment_names.index("central")
        records = build_records(check_dosing(dosing), subjects, samples, self._places(), last)
        simple = (records.target[records.amount > 0] <= last).all()
        read = partial(self._read, self.parameter_names)
        return BoundCompartments(read, records, order, simple)

    def _places(self):
        """For build_records: place in the state, lag and bioavailability, modelled duration."""
        names = self.compartment_names
        main = self._main(names)
        zero_order = self.absorption == "zero-order"
        places = {
            name: (at, name == main, zero_order and name == "central")
            for at, name in enumerate(names)
        }
        numbered = {str(at + 1): places[name] for at, name in enumerate(names)}
        return places | numbered | {"": places[names[0]]}

    def _main(self, names):
        """The compartment whose doses have the lag time and the bioavailability."""
        chosen = {
            option: names[0] if value is True else value
            for option, value in (("lag", self.lag), ("bioavailability", self.bioavailability))
            if value
        }
        if len(set(chosen.values())) > 1:
            raise ValueError(
                f"lag is for doses into the compartment {chosen['lag']!r} and bioavailability for "
                f"those into {chosen['bioavailability']!r}: they must be for the same"
            )
        return next(iter(chosen.values()), names[0])

    def _read(self, names, psi):
        if psi.shape[-1] != len(names):
            raise ValueError(
                f"psi has {psi.shape[-1]} parameters, but the model has {len(names)}: {names}"
            )
        value = {name: psi[..., k] for k, name in enumerate(names)}
        pairs = self._n_compartments - 1
        if self.parametrization == "clearance":
            K, V = value["CL"] / value["V"], value["V"]
            flows = (("Q", "V2"), ("Q3", "V3"))[:pairs]
            exchange = [(value[q] / V, value[q] / value[v]) for q, v in flows]
        else:
            K, V = value["K"], value["V"]
            exchange = [(value[a], value[b]) for a, b in (("K12", "K21"), ("K13", "K31"))[:pairs]]
        system = solve_system(K, exchange, value.get("KA"))
        scale = V if self.output == "concentration" else None
        return Individual(system, scale, value.get("F"), value.get("TLAG"), value.get("D"))

    def _check_options(self):
        if self.absorption is not None:
            check_choice("absorption", self.absorption, ("first-order", "zero-order"))
        check_choice("parametrization", self.parametrization, ("clearance", "rate"))
        check_choice("output", self.output, ("concentration", "amount"))
        for name in ("lag", "bioavailability"):
            value = getattr(self, name)
            if value not in (False, True, *self.compartment_names):
                raise ValueError(
                    f"{name} is {value!r}; it must be True, False or the compartment whose doses "
                    f"it is for: {', '.join(map(repr, self.compartment_names))}"
                )


class OneCompartment(_Compartments):
    """One compartment that a drug enters and leaves.

    The parameters are all positive, in any consistent units. Predictions have exact derivatives
    and a closed form where parameters are constant within a subject.

    Parameters
    ----------
    absorption : {"first-order", "zero-order"} or None, default=None
        "first-order": doses go into a depot that empties at the rate KA. "zero-order": doses into
        the central compartment that have no rate or duration of their own, or the rate -2, go in
        at a constant rate over the duration D. None: at once.
    lag : bool or str, default=False
        Whether doses come by TLAG later: those into the depot, or into the central compartment if
        there is none; or those into the compartment that is named.
    bioavailability : bool or str, default=False
        Whether only the share F of the same doses arrives.
    parametrization : {"clearance", "rate"}, default="clearance"
        Whether parameters are the clearance CL and the volume V, or the rate K = CL / V and V.
    output : {"concentration", "amount"}, default="concentration"
        What is predicted: the amount in the central compartment divided by V, or that amount.

    See Also
    --------
    Dosing : The doses.
    ODEModel : Models given by differential equations.

    References
    ----------
    .. [1] J. G. Wagner, "Fundamentals of clinical pharmacokinetics", 1975.
    .. [2] J. A. Jacquez, "Compartmental analysis in biology and medicine", 2nd ed. 1985.

    Examples
    --------
    >>> import numpy as np
    >>> from sklme.pharmacokinetics import Dosing, OneCompartment
    >>> model = OneCompartment("first-order")
    >>> model.parameter_names
    ('CL', 'V', 'KA')
    >>> bound = model.bind(["ann"], [[1.0, 6.0, 24.0]], Dosing.single(["ann"], 320.0))
    >>> bound(np.array([[[2.8, 32.0, 1.5]]])).round(2)
    array([[7.36, 6.28, 1.3 ]])
    """

    _n_compartments = 1


class TwoCompartment(_Compartments):
    """A central compartment in exchange with a peripheral one.

    The parameters are all positive, in any consistent units. Predictions have exact derivatives
    and a closed form where parameters are constant within a subject.

    Parameters
    ----------
    absorption : {"first-order", "zero-order"} or None, default=None
        "first-order": doses go into a depot that empties at the rate KA. "zero-order": doses into
        the central compartment that have no rate or duration of their own, or the rate -2, go in
        at a constant rate over the duration D. None: at once.
    lag : bool or str, default=False
        Whether doses come by TLAG later: those into the depot, or into the central compartment if
        there is none; or those into the compartment that is named.
    bioavailability : bool or str, default=False
        Whether only the share F of the same doses arrives.
    parametrization : {"clearance", "rate"}, default="clearance"
        CL, V, Q and V2, where Q is the clearance between the two and V2 the volume of the other;
        or the rates K, K12 and K21 and V.
    output : {"concentration", "amount"}, default="concentration"
        What is predicted: the amount in the central compartment divided by V, or that amount.

    See Also
    --------
    Dosing : The doses.
    ODEModel : Models given by differential equations.

    References
    ----------
    .. [1] J. G. Wagner, "Fundamentals of clinical pharmacokinetics", 1975.
    .. [2] J. A. Jacquez, "Compartmental analysis in biology and medicine", 2nd ed. 1985.

    Examples
    --------
    >>> import numpy as np
    >>> from sklme.pharmacokinetics import Dosing, TwoCompartment
    >>> model = TwoCompartment()
    >>> model.parameter_names
    ('CL', 'V', 'Q', 'V2')
    >>> daily = Dosing(["ann"], amount=100.0, duration=1.0, interval=24.0, steady_state=1)
    >>> bound = model.bind(["ann"], [[0.0, 1.0, 12.0]], daily)
    >>> bound(np.array([[[4.0, 20.0, 5.0, 60.0]]])).round(2)
    array([[0.44, 4.47, 0.68]])
    """

    _n_compartments = 2


class ThreeCompartment(_Compartments):
    """A central compartment in exchange with two peripheral ones.

    The parameters are all positive, in any consistent units. Predictions have exact derivatives
    and a closed form where parameters are constant within a subject.

    Parameters
    ----------
    absorption : {"first-order", "zero-order"} or None, default=None
        "first-order": doses go into a depot that empties at the rate KA. "zero-order": doses into
        the central compartment that have no rate or duration of their own, or the rate -2, go in
        at a constant rate over the duration D. None: at once.
    lag : bool or str, default=False
        Whether doses come by TLAG later: those into the depot, or into the central compartment if
        there is none; or those into the compartment that is named.
    bioavailability : bool or str, default=False
        Whether only the share F of the same doses arrives.
    parametrization : {"clearance", "rate"}, default="clearance"
        CL, V, Q, V2, Q3 and V3, where Q and Q3 are the clearances between the central and each
        other one; or the rates K, K12, K21, K13 and K31 and V.
    output : {"concentration", "amount"}, default="concentration"
        What is predicted: the amount in the central compartment divided by V, or that amount.

    See Also
    --------
    Dosing : The doses.
    ODEModel : Models given by differential equations.

    References
    ----------
    .. [1] J. G. Wagner, "Fundamentals of clinical pharmacokinetics", 1975.
    .. [2] J. A. Jacquez, "Compartmental analysis in biology and medicine", 2nd ed. 1985.

    Examples
    --------
    >>> from sklme.pharmacokinetics import ThreeCompartment
    >>> ThreeCompartment().parameter_names
    ('CL', 'V', 'Q', 'V2', 'Q3', 'V3')
    >>> ThreeCompartment("first-order", parametrization="rate", lag=True).parameter_names
    ('K', 'V', 'K12', 'K21', 'K13', 'K31', 'KA', 'TLAG')
    """

    _n_compartments = 3


def sort_samples(time, mask=None):
    """Times (n_subjects, n_max) in order and the positions that they come from."""
    time = np.asarray(time, float)
    if time.ndim != 2:
        raise ValueError(f"time must be of shape (n_subjects, n_max): it is {time.shape}")
    if mask is not None:
        mask = np.asarray(mask, bool)
        last = np.where(mask, time, -np.inf).max(axis=1, keepdims=True)
        time = np.where(mask, time, last)
    if not np.isfinite(time).all():
        subject, row = np.argwhere(~np.isfinite(time))[0]
        raise ValueError(f"time of subject number {subject} is {time[subject, row]} in row {row}")
    order = np.argsort(time, axis=1, kind="stable")
    return np.take_along_axis(time, order, axis=1), order


def check_dosing(dosing):
    """A Dosing, or a sentence."""
    if not isinstance(dosing, Dosing):
        raise ValueError(
            f"dosing must be a Dosing, see Dosing.from_table and Dosing.from_nonmem: it is a "
            f"{type(dosing).__name__}"
        )
    return dosing
