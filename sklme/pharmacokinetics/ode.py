"""Models that are given by differential equations."""

from numbers import Real

from sklearn.base import BaseEstimator

from sklme._rows import check_number
from sklme.pharmacokinetics._bound_ode import BoundODE, Description
from sklme.pharmacokinetics._integrate import Equations
from sklme.pharmacokinetics._records import build_records
from sklme.pharmacokinetics.compartments import check_dosing, sort_samples


class ODEModel(BaseEstimator):
    """A model given by differential equations for amounts, with doses as events.

    Predictions come with exact derivatives, by sensitivity equations. The functions are called for
    many subjects at once and with complex numbers, so that they must be written with numpy and
    without `abs`, `max` or comparisons of states and parameters; else give `derivatives`, and
    neither `output` nor `initial`.

    Parameters
    ----------
    rhs : callable, default=None
        ``rhs(time, state, parameter)`` returns the derivative of each state by time, a list.
        `state` has one array for each state, `parameter` one for each parameter.
    states : tuple of str, default=("central",)
        Names of the states.
    parameters : tuple of str, default=("CL", "V")
        Names of the parameters, all of them.
    output : callable, default=None
        ``output(state, parameter)`` is what is observed; None for the first state.
    initial : callable, default=None
        ``initial(parameter)`` returns each state before the first dose, a list; None for 0. A
        reset goes back to 0.
    dose_into : str, default=None
        The state that doses go into that name no compartment; None for the first.
    lag : str, default=None
        The parameter that is the lag time of these doses.
    bioavailability : str, default=None
        The parameter that is the share of these doses that arrives.
    derivatives : callable, default=None
        ``derivatives(time, state, parameter)`` returns the derivatives of `rhs` by the states, a
        list of lists, and by the parameters, likewise. None: they are found by themselves.
    stiff : bool, default=False
        Use LSODA, subject by subject; else the explicit method of order 8 by Dormand and Prince for
        all subjects together, which is quicker, and LSODA only where that takes too many steps.
    rtol : float, default=1e-9
        Relative tolerance of a step.
    atol : float, default=1e-10
        Absolute tolerance of a step, in the unit of the states.

    See Also
    --------
    OneCompartment : Closed forms, which are much quicker where they exist.

    Notes
    -----
    A series of doses for ever has no steady state where more is given than can be eliminated; then
    what 60 doses leave is taken.

    References
    ----------
    .. [1] E. Hairer, S. P. Norsett and G. Wanner, "Solving ordinary differential equations I",
           2nd ed. 1993, sections I.14 and II.5.
    .. [2] L. Petzold, "Automatic selection of methods for solving stiff and nonstiff systems of
           ordinary differential equations", SIAM J. Sci. Stat. Comput. 4 (1983), 136-148.

    Examples
    --------
    Elimination that saturates:

    >>> import numpy as np
    >>> from sklme.pharmacokinetics import Dosing, ODEModel
    >>> def michaelis_menten(time, state, parameter):
    ...     (amount,), (VM, KM, V) = state, parameter
    ...     concentration = amount / V
    ...     return [-VM * concentration / (KM + concentration)]
    >>> def concentration(state, parameter):
    ...     return state[0] / parameter[2]
    >>> model = ODEModel(
    ...     michaelis_menten, parameters=("VM", "KM", "V"), output=concentration
    ... )
    >>> bound = model.bind(["ann"], [[0.0, 4.0, 8.0]], Dosing.single(["ann"], 100.0))
    >>> bound(np.array([[[10.0, 2.0, 20.0]]])).round(3)
    array([[5.   , 3.637, 2.437]])
    """

    def __init__(
        self,
        rhs=None,
        *,
        states=("central",),
        parameters=("CL", "V"),
        output=None,
        initial=None,
        dose_into=None,
        lag=None,
        bioavailability=None,
        derivatives=None,
        stiff=False,
        rtol=1e-9,
        atol=1e-10,
    ):
        self.rhs = rhs
        self.states = states
        self.parameters = parameters
        self.output = output
        self.initial = initial
        self.dose_into = dose_into
        self.lag = lag
        self.bioavailability = bioavailability
        self.derivatives = derivatives
        self.stiff = stiff
        self.rtol = rtol
        self.atol = atol

    @property
    def parameter_names(self):
        """Names of the parameters in the order of psi."""
        return tuple(self.parameters)

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
            As from `OneCompartment.bind`, but psi must be real; ``structure.jacobian`` solves the
            sensitivity equations.
        """
        places = self._places()
        lag, share = (self._position(name) for name in ("lag", "bioavailability"))
        samples, order = sort_samples(time, mask)
        records = build_records(check_dosing(dosing), subjects, samples, places)
        equations = Equations(self.rhs, self.derivatives, self.stiff, self.rtol, self.atol)
        description = Description(
            equations, self.initial, self.output, lag, share, len(self.states)
        )
        return BoundODE(description, records, order)

    def _places(self):
        if not callable(self.rhs):
            raise ValueError(
                f"rhs must be a function of time, state, parameter: it is {self.rhs!r}"
            )
        for name in ("rtol", "atol"):
            check_number(name, getattr(self, name), Real, 0)
        names = list(self.states)
        main = names[0] if self.dose_into is None else self.dose_into
        if main not in names:
            raise ValueError(f"dose_into is {main!r}, which is none of the states {names}")
        places = {name: (at, name == main, False) for at, name in enumerate(names)}
        numbered = {str(at + 1): places[name] for at, name in enumerate(names)}
        return numbered | places | {"": places[main]}

    def _position(self, option):
        name = getattr(self, option)
        if name is None:
            return None
        if name not in self.parameters:
            raise ValueError(f"{option} is {name!r}, which is none of {list(self.parameters)}")
        return list(self.parameters).index(name)
