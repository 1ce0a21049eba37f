"""Parameters of estimators in a dict, under names such as ``parameters__CL__covariates``."""

from sklearn.base import BaseEstimator

from sklme.nonlinear.parameters import Parameter

PREFIX = "parameters__"


def get_nested(params, parameters, deep):
    """`params` with those of the entries of a dict."""
    if not deep or not isinstance(parameters, dict):
        return params
    params = dict(params)
    for name, value in parameters.items():
        params[f"{PREFIX}{name}"] = value
        if isinstance(value, BaseEstimator):
            for inner, of_it in value.get_params().items():
                params[f"{PREFIX}{name}__{inner}"] = of_it
    return params


def set_nested(parameters, values):
    """A dict of parameters with some entries, or parameters of them, set.

    Whole entries are set first. An entry that is a number becomes a Parameter that starts there.
    """
    parameters = dict(parameters) if isinstance(parameters, dict) else {}
    for key in sorted(values, key=lambda key: key.count("__")):
        name, _, inner = key.removeprefix(PREFIX).partition("__")
        if not inner:
            parameters[name] = values[key]
            continue
        if name not in parameters:
            raise ValueError(
                f"{key!r} is no parameter of the model: parameters names "
                f"{', '.join(map(repr, parameters)) or 'nothing'}"
            )
        if not isinstance(parameters[name], BaseEstimator):
            parameters[name] = Parameter(parameters[name])
        parameters[name].set_params(**{inner: values[key]})
    return parameters
