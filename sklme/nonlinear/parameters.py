"""What a user says of a parameter: its transform, start, random effect and covariates.

On the unbounded scale a parameter is phi = typical + covariate effects + random effect, and on the
natural scale psi = exp(phi), expit(phi) or phi. Every covariate effect is linear in phi, so that
all derivatives follow from those by phi.
"""

from dataclasses import dataclass
from numbers import Real

import numpy as np
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, clone

from sklme._rows import check_choice

LINKS = {"log": "exp", "logit": "expit", "identity": "identity"}
FORMS = {  # which forms are linear on the unbounded scale of a transform
    "log": ("power", "exponential", "categorical"),
    "logit": ("linear", "categorical"),
    "identity": ("linear", "categorical"),
}
WHY = {
    "linear": "1 + beta (x - reference) times a positive parameter may turn negative: use "
    "'exponential', whose beta means nearly the same for small effects",
    "power": "(x / reference) to a power multiplies a parameter with transform='log'",
    "exponential": "exp(beta (x - reference)) multiplies a parameter with transform='log'",
}


class Covariate(BaseEstimator):
    """How a column of X moves a parameter.

    Parameters
    ----------
    column : str or int, default=None
        The column of X.
    form : {"power", "linear", "exponential", "categorical"}, default="power"
        For parameters with ``transform="log"``: ``"power"`` multiplies by
        ``(x / reference) ** beta``, ``"exponential"`` by ``exp(beta * (x - reference))``. For the
        other transforms ``"linear"`` adds ``beta * (x - reference)``, on the logit scale where the
        transform is logit. ``"categorical"`` adds one beta for each level but the reference, on the
        transformed scale: with ``"log"`` the level multiplies by ``exp(beta)``.
    reference : "median", float or level, default="median"
        Where the effect is zero. ``"median"`` is the median over subjects, and of a
        categorical column the most frequent level over subjects, unless a level has that name.
    initial : float or dict, default=0.0
        Where the search for beta starts; for levels possibly a dict with a value for each.
    fixed : bool, default=False
        Whether beta stays at `initial`, such as 0.75 for the effect of weight on clearance.

    See Also
    --------
    Parameter : What has covariates.

    Examples
    --------
    >>> from sklme.nonlinear import Covariate
    >>> Covariate("weight", reference=70, initial=0.75, fixed=True)
    Covariate(column='weight', fixed=True, initial=0.75, reference=70)
    """

    def __init__(self, column=None, form="power", *, reference="median", initial=0.0, fixed=False):
        self.column = column
        self.form = form
        self.reference = reference
        self.initial = initial
        self.fixed = fixed


class Parameter(BaseEstimator):
    """A parameter of a structure: its transform, start, random effect and covariates.

    Parameters
    ----------
    initial : float, default=None
        Typical value, on the natural scale, from which the search starts; None: found by least
        squares over all subjects.
    transform : {"log", "logit", "identity"}, default="log"
        The scale on which effects add up. With ``"log"`` the parameter is positive, with
        ``"logit"`` between 0 and 1.
    random : bool, default=True
        Whether it differs between groups beyond what covariates say.
    covariates : sequence of Covariate, default=()
        What else it depends on.
    fixed : bool, default=False
        Whether the typical value stays at `initial`.

    See Also
    --------
    NonlinearMixedModel : The model that has parameters.

    Examples
    --------
    >>> from sklme.nonlinear import Covariate, Parameter
    >>> Parameter(2.7, covariates=[Covariate("weight", reference=70)])
    Parameter(covariates=[Covariate(column='weight', reference=70)], initial=2.7)
    """

    def __init__(self, initial=None, *, transform="log", random=True, covariates=(), fixed=False):
        self.initial = initial
        self.transform = transform
        self.random = random
        self.covariates = covariates
        self.fixed = fixed


def read_parameters(given, names, default):
    """Parameters by name in the order of the structure, checked.

    Parameters
    ----------
    given : dict of str to (Parameter, float or None), or None
    names : sequence of str
        The parameters of the structure.
    default : callable
        Makes the Parameter of a name that `given` leaves out; None where it must not.

    Raises
    ------
    ValueError
        If a name is unknown or left out, or a value is not possible.
    """
    given = {} if given is None else given
    refuse_no_dict(given)
    listed = ", ".join(map(repr, names))
    for name in given:
        if name not in names:
            raise ValueError(
                f"parameters names {name!r}, which is no parameter of the structure; it has "
                f"{listed}"
            )
    found = {}
    for name in names:
        if name not in given and default is None:
            raise ValueError(f"parameters does not name {name!r}; the structure has {listed}")
        value = given[name] if name in given else default(name)
        found[name] = clone(_check(name, as_parameter(name, value)))  # not the user's own
    return found


def refuse_no_dict(given):
    """Parameters are given by name."""
    if not isinstance(given, dict):
        raise ValueError(
            f"parameters is a {type(given).__name__}; it must be a dict such as "
            '{"CL": Parameter(2.0), "V": Parameter()}'
        )


def as_parameter(name, value):
    """A Parameter of whatever stands for one."""
    if isinstance(value, Parameter):
        return value
    if value is None or _is_number(value):
        return Parameter(value)
    raise ValueError(
        f"parameters[{name!r}] is {value!r}; it must be a Parameter, a number to start from or None"
    )


def to_unbounded(value, transform):
    """phi of a value on the natural scale."""
    return {"log": np.log, "logit": logit, "identity": np.asarray}[transform](value)


def to_natural(phi, transform):
    """The value on the natural scale of phi."""
    return {"log": np.exp, "logit": expit, "identity": np.asarray}[transform](phi)


def natural_slope(phi, transform):
    """d natural / d phi."""
    if transform == "identity":
        return np.ones_like(phi)
    value = to_natural(phi, transform)
    return value if transform == "log" else value * (1.0 - value)


def _is_number(value):
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


def _check(name, parameter):
    who = f"parameters[{name!r}]"
    check_choice(f"{who}.transform", parameter.transform, tuple(LINKS))
    _check_flag(f"{who}.random", parameter.random)
    _check_flag(f"{who}.fixed", parameter.fixed)
    _check_initial(who, parameter)
    covariates = parameter.covariates
    if isinstance(covariates, Covariate | str) or not np.iterable(covariates):
        raise ValueError(f"{who}.covariates is {covariates!r}; it must be a list of Covariate")
    for covariate in covariates:
        _check_covariate(who, parameter, covariate)
    return parameter


def _check_flag(who, value):
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{who} is {value!r}; it must be True or False")


def _check_initial(who, parameter):
    value, transform = parameter.initial, parameter.transform
    if value is None:
        if parameter.fixed:
            raise ValueError(f"{who} is fixed, so it needs initial, the value that it has")
        return
    if not _is_number(value) or not np.isfinite(value):
        raise ValueError(f"{who}.initial is {value!r}; it must be a number or None")
    inside = {"log": value > 0, "logit": 0 < value < 1, "identity": True}[transform]
    if not inside:
        where = "above 0" if transform == "log" else "between 0 and 1"
        raise ValueError(f"{who}.initial is {value!r}; with transform={transform!r} it is {where}")


def _check_covariate(who, parameter, covariate):
    if not isinstance(covariate, Covariate):
        raise ValueError(f"{who}.covariates holds {covariate!r}, which is no Covariate")
    if covariate.column is None:
        raise ValueError(f"{who}.covariates holds a Covariate without a column")
    who = f"{who}: Covariate({covariate.column!r})"
    check_choice(f"{who}.form", covariate.form, ("power", "linear", "exponential", "categorical"))
    _check_flag(f"{who}.fixed", covariate.fixed)
    possible = FORMS[parameter.transform]
    if covariate.form not in possible:
        raise ValueError(
            f"{who}.form is {covariate.form!r}, which is not possible with "
            f"transform={parameter.transform!r}: {WHY[covariate.form]}; possible are "
            f"{', '.join(map(repr, possible))}"
        )
    values = covariate.initial.values() if _of_levels(covariate) else [covariate.initial]
    if not all(_is_number(value) and np.isfinite(value) for value in values):
        raise ValueError(f"{who}.initial is {covariate.initial!r}; it must be a number")


def _of_levels(covariate):
    return isinstance(covariate.initial, dict) and covariate.form == "categorical"


@dataclass(frozen=True)
class Effect:
    """One entry of beta: which parameter it moves, its name, start, and whether it is fixed."""

    parameter: int
    name: str
    initial: float | None
    fixed: bool
