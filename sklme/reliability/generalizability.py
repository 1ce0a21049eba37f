"""Generalizability theory: which facets make the error, and how many conditions are enough."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from numbers import Integral

import numpy as np
import pandas as pd

from sklme._terms import columns_of, factor_label, show
from sklme.inference._access import Fitted, check_level, open_linear
from sklme.inference.variance import RESIDUAL
from sklme.reliability._component_limits import component_covariance, share_limits

UNIVERSE, RELATIVE, ABSOLUTE, NEITHER = (
    *("universe score", "relative error", "absolute error", "none"),
)
INSTEAD = "its variances are not those of a response; fit a LinearMixedModel to a continuous score"


def generalizability(
    model,
    object_of_measurement,
    facets,
    *,
    fixed=(),
    confidence_level=0.95,
    output=None,
):
    """Compute how reliable the mean over so many conditions is: a decision (D) study.

    Parameters
    ----------
    model : estimator object
        A fitted LinearMixedModel, or a pipeline, search or target wrapper around one, with a
        random intercept for the object of measurement and for facets and combinations, such as
        ``["subject", "rater", ("subject", "session")]``. No rows are needed.
    object_of_measurement : str, int or tuple
        The key of what is measured, such as ``"subject"``.
    facets : dict
        Facet -> number of its conditions in the D study, an integer or a list of them. All
        combinations of the numbers are tried. Facets are the columns of the keys besides those of
        the object, and those that only the rows of the data tell apart, such as ``"trial"``. For
        a facet nested in another it is the number within each condition of the other.
    fixed : tuple of str or int, default=()
        Facets whose conditions are all that there are: they are not generalised over.
    confidence_level : float, default=0.95
        Coverage of the intervals that is aimed at; None gives none.
    output : int, default=None
        Which output, for a model of several.

    Returns
    -------
    table : DataFrame
        One row for each combination of numbers, indexed by the facets. Columns:

        - universe: variance of universe scores, the means over all conditions there could be.
        - relative, absolute: error variance of a mean over the conditions of the row, for ranking
          objects and for their scores themselves.
        - g: generalizability coefficient ``E rho^2 = universe / (universe + relative)``.
        - phi: index of dependability ``universe / (universe + absolute)``.
        - sem_relative, sem_absolute: standard errors of measurement, roots of the error variances.
        - g_lower, g_upper, phi_lower, phi_upper: intervals, unless `confidence_level` is None.

        A coefficient of nothing in nothing is NaN.

    Raises
    ------
    ValueError
        If a key has slopes, a column is neither object nor facet, or the data could not tell one
        of the variances.
    TypeError
        If the model is not a linear one.

    See Also
    --------
    generalizability_components : The variances behind it, the G study.

    Notes
    -----
    The rules are those of Brennan [1]_. A component belongs to the universe score if it has no
    facet but fixed ones. It is error if it has a facet that is not fixed: relative error where it
    has the object too, and absolute error in any case. Each is divided by the numbers of
    conditions of all of its facets. The residual holds the object and all facets. With one facet
    of raters crossed with the objects, g and phi are ICC(C,k) and ICC(A,k) of k raters. What is in
    the fixed part of the model, or fixed, is no error: raters as fixed columns leave phi without
    them.

    Intervals are based on the expected information of the variances, from which the sum of the
    universe score with a part of the error, and the error, are found that are uncorrelated, and on
    the F distribution with Satterthwaite's degrees of freedom for their ratio. With one crossed
    facet and balanced data that of g is the exact one [2]_; else they are approximate, the more so
    the fewer conditions a facet has in the data.

    References
    ----------
    .. [1] R. L. Brennan, "Generalizability Theory", 2001, ch. 4 and 5.
    .. [2] P. E. Shrout and J. L. Fleiss, "Intraclass correlations: uses in assessing rater
       reliability", Psychol. Bull. 86, 1979.
    .. [3] R. J. Shavelson and N. M. Webb, "Generalizability Theory: A Primer", 1991.

    Examples
    --------
    >>> from sklme import LinearMixedModel
    >>> from sklme.datasets import load_penicillin
    >>> from sklme.reliability import generalizability
    >>> X, y = load_penicillin(return_X_y=True)
    >>> model = LinearMixedModel(["plate", "sample"]).fit(X, y)
    >>> table = generalizability(model, "sample", {"plate": [1, 4, 24]}, confidence_level=None)
    >>> print(table.round(3).to_string())
           universe  relative  absolute      g    phi  sem_relative  sem_absolute
    plate
    1         3.731     0.302     1.019  0.925  0.785         0.550         1.010
    4         3.731     0.076     0.255  0.980  0.936         0.275         0.505
    24        3.731     0.013     0.042  0.997  0.989         0.112         0.206
    """
    if confidence_level is not None:
        check_level(confidence_level)
    study = _Study.of(model, object_of_measurement, facets, fixed, output)
    grid = list(product(*study.facets.values()))
    parts = np.array([study.weights(dict(zip(study.facets, n, strict=True))) for n in grid])
    universe, relative, absolute = np.moveaxis(parts @ study.variances, 1, 0)
    table = _table(study, grid, universe, relative, absolute)
    if confidence_level is not None:
        W = component_covariance(study.fitted)
        for name, error in (("g", 1), ("phi", 2)):
            limits = [
                share_limits(p[0], p[error], study.variances, W, confidence_level) for p in parts
            ]
            table[f"{name}_lower"], table[f"{name}_upper"] = np.transpose(limits)
    return table


def generalizability_components(model, object_of_measurement, facets, *, fixed=(), output=None):
    """Compute the variance components by their role: the table of a generalizability (G) study.

    Parameters
    ----------
    model : estimator object
        As in `generalizability`.
    object_of_measurement : str, int or tuple
        The key of what is measured.
    facets : dict or list
        The facets; numbers of conditions are not used.
    fixed : tuple of str or int, default=()
        Facets that are not generalised over.
    output : int, default=None
        Which output, for a model of several.

    Returns
    -------
    table : DataFrame
        One row for each component, the residual last, indexed by component. Columns: `variance` of
        a single observation, its `share` of their sum, and the `role`: "universe score", "relative
        error" (which is absolute error too), "absolute error" (only), or "none" for what is the
        same in all observations.

    Raises
    ------
    ValueError
        As `generalizability`.

    Examples
    --------
    >>> from sklme import LinearMixedModel
    >>> from sklme.datasets import load_penicillin
    >>> from sklme.reliability import generalizability_components
    >>> X, y = load_penicillin(return_X_y=True)
    >>> model = LinearMixedModel(["plate", "sample"]).fit(X, y)
    >>> print(generalizability_components(model, "sample", ["plate"]).round(3).to_string())
               variance  share            role
    component
    plate         0.717  0.151  absolute error
    sample        3.731  0.785  universe score
    Residual      0.302  0.064  relative error
    """
    names = facets if isinstance(facets, Mapping) else dict.fromkeys(facets, 1)
    study = _Study.of(model, object_of_measurement, names, fixed, output)
    index = pd.Index([*map(factor_label, study.fitted.keys), RESIDUAL], name="component")
    total = study.variances.sum()
    share = study.variances / total if total > 0 else np.nan
    columns = {"variance": study.variances, "share": share, "role": study.roles}
    return pd.DataFrame(columns, index)


def _table(study, grid, universe, relative, absolute) -> pd.DataFrame:
    names = [str(name) for name in study.facets]
    index = pd.MultiIndex.from_tuples(grid, names=names)
    index = index.get_level_values(0) if len(names) == 1 else index
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = {
            "universe": universe,
            "relative": relative,
            "absolute": absolute,
            "g": universe / (universe + relative),
            "phi": universe / (universe + absolute),
            "sem_relative": np.sqrt(relative),
            "sem_absolute": np.sqrt(absolute),
        }
    return pd.DataFrame(columns, index)


@dataclass(frozen=True)
class _Study:
    """A model read as a study: each component, the residual last, has facets and a role.

    facets : facet -> numbers of conditions to try
    at : position of the object's factor
    of_component : facets of each component
    """

    fitted: Fitted
    facets: dict
    fixed: frozenset
    at: int
    of_component: list
    roles: list

    @classmethod
    def of(cls, model, object_of_measurement, facets, fixed, output):
        """Read and check what the user asks for."""
        fitted = open_linear(
            model, function="generalizability", instead=INSTEAD, needs_rows=None, output=output
        )
        objects = frozenset(columns_of(object_of_measurement))
        sets = [frozenset(columns_of(key)) for key in fitted.keys]
        if objects not in sets:
            known = ", ".join(map(show, fitted.keys)) or "none"
            raise ValueError(
                f"object_of_measurement is {show(object_of_measurement)}, which is no factor of "
                f"the model; its factors: {known}"
            )
        facets = _read_facets(facets, objects)
        fixed = _read_fixed(fixed, facets)
        _refuse_what_is_no_component(fitted, objects, facets)
        of_component = [*(s - objects for s in sets), frozenset(facets)]
        with_object = [*(objects <= s for s in sets), True]
        roles = [
            _role(own - fixed, own, has) for own, has in zip(of_component, with_object, strict=True)
        ]
        return cls(fitted, facets, fixed, sets.index(objects), of_component, roles)

    @property
    def variances(self) -> np.ndarray:
        """Of the components, in units of y squared."""
        fitted = self.fitted
        found = [fitted.of_output(fitted.model.covariance_[key]).item() for key in fitted.keys]
        return np.array([*found, fitted.residual_variance])

    def weights(self, n: dict) -> np.ndarray:
        """What each component counts in (universe, relative, absolute), (3, n_components)."""
        each = [1.0 / np.prod([n[f] for f in own]) for own in self.of_component]
        roles = ((UNIVERSE,), (RELATIVE,), (RELATIVE, ABSOLUTE))
        return np.array(
            [[w * (r in wanted) for w, r in zip(each, self.roles, strict=True)] for wanted in roles]
        )


def _role(random: frozenset, facets: frozenset, with_object: bool) -> str:
    """Brennan (2001), sec. 4.1 and 5.1: by the facets that are not fixed, and by the object.

    What has no facet is constant for an object: the object itself, or what it is nested in.
    """
    if random:
        return RELATIVE if with_object else ABSOLUTE
    return UNIVERSE if with_object or not facets else NEITHER


def _read_facets(facets, objects: frozenset) -> dict:
    if not isinstance(facets, Mapping) or not facets:
        raise ValueError(
            f"facets is {facets!r}; it must be a dict of facets and their numbers of conditions "
            'such as {"rater": 2, "session": [1, 2, 4]}'
        )
    for facet in facets:
        if facet in objects:
            raise ValueError(f"facets names {show(facet)}, which is the object of measurement")
    return {facet: _numbers(facet, n) for facet, n in facets.items()}


def _numbers(facet, n) -> list:
    numbers = np.atleast_1d(np.asarray(n))
    if numbers.dtype.kind not in "iu" or numbers.size == 0 or numbers.min() < 1:
        raise ValueError(
            f"facets gives {show(facet)} the number of conditions {n!r}; it must be an integer of "
            "at least 1, or a list of them"
        )
    return numbers.ravel().tolist()


def _read_fixed(fixed, facets: dict) -> frozenset:
    fixed = (fixed,) if isinstance(fixed, str | Integral) else tuple(fixed)
    for facet in fixed:
        if facet not in facets:
            raise ValueError(f"fixed names {show(facet)}, which is not one of the facets")
    if len(set(fixed)) == len(facets):
        raise ValueError("fixed names all facets: then there is nothing to generalise over")
    return frozenset(fixed)


def _refuse_what_is_no_component(fitted: Fitted, objects: frozenset, facets: dict) -> None:
    unidentified = {name[0] for name in fitted.model.optimization_.unidentified}
    for term in fitted.model._terms:
        if term.slopes != (None,):
            raise ValueError(
                f"{show(term.key)} has the coefficients {list(term.names)}: generalizability needs "
                'a random intercept alone, ["1"], for each factor'
            )
        for column in term.columns:
            if column not in objects and column not in facets:
                raise ValueError(
                    f"the factor {show(term.key)} has the column {show(column)}, which is neither "
                    f"the object of measurement nor one of the facets {list(facets)}"
                )
        if term.key in unidentified:
            raise ValueError(
                f"the data cannot tell the variance of {show(term.key)}, so that no coefficient "
                "can be computed: leave it out of random_effects, it is then part of the residual"
            )
