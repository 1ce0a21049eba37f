"""What a generalised model estimates beside coefficients and variances, by name.

Dispersions, the power of tweedie, the model of further zeros, thresholds. Each has a link scale, on
which its estimate is about normal, and a natural one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from sklme._engine import glmm_parameters as engine
from sklme.inference._generalized import GeneralizedFitted

Scale = Callable[[float], float]


def _same(x):
    return x


# Name on the link scale -> name on the natural scale, and the maps to it and back.
SCALES: dict[str, tuple[str, Scale, Scale]] = {
    "log dispersion": ("dispersion", np.exp, np.log),
    "logit(power - 1)": ("power", lambda x: 1.0 + expit(x), lambda x: logit(x - 1.0)),
}


@dataclass(frozen=True)
class Auxiliary:
    """One further parameter.

    link_name, name : on the link and on the natural scale; natural, link : from one to the other
    value : on the link scale; functional : the same as a function of the engine's parameters
    tested : whether zero on the link scale is a hypothesis
    """

    link_name: str
    name: str
    natural: Scale
    link: Scale
    value: float
    functional: engine.Functional
    tested: bool


def auxiliaries(fitted: GeneralizedFitted) -> list[Auxiliary]:
    """Thresholds; or dispersions and the coefficients of the logit of further zeros."""
    return _thresholds(fitted) if hasattr(fitted.model, "thresholds_") else _constants(fitted)


def _thresholds(fitted: GeneralizedFitted) -> list[Auxiliary]:
    model, out = fitted.model, []
    classes = [str(label) for label in model.classes_.tolist()]
    for k, value in enumerate(model.thresholds_):
        name = f"{classes[k]}|{classes[k + 1]}"
        functional = engine.Threshold(k, model._center)
        out.append(Auxiliary(name, name, _same, _same, float(value), functional, True))
    return out


def _constants(fitted: GeneralizedFitted) -> list[Auxiliary]:
    fit, out = fitted.fit, []
    for j, (name, values) in enumerate(zip(fit.family.aux_names, fit.aux, strict=True)):
        zeros = name == "logit zero share"
        columns = ["(Intercept)", *map(str, (fitted.model.zero_inflation or []) if zeros else [])]
        for i, (column, value) in enumerate(zip(columns, values, strict=True)):
            label = f"logit of further zeros: {column}" if zeros else name
            natural = SCALES.get(name, (label, _same, _same))
            functional = engine.Coefficient(j, i)
            out.append(Auxiliary(label, *natural, float(value), functional, zeros))
    return out
