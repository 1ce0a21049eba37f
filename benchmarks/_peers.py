"""How each package is asked for the same model: one adapter a package.

An adapter takes a task and returns a Fitter. Its imports and the conversion of data that a package
cannot read at all (text columns) are not timed; reading columns and formulas is. Every package gets
the fastest public call that we found, without extras that others do not compute.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from _data import formula


class Unable(NotImplementedError):
    """The package does not offer this model; the message says why."""


@dataclass(frozen=True)
class Fitter:
    """`fit(k)` fits response k, or all if `joint`; `read(result)` gives a list of records."""

    fit: Callable
    read: Callable
    joint: bool = False


def record(loglik, beta, se=None, evaluations=None, converged=None):
    """What is compared: R's logLik, coefficients with the intercept first, standard errors."""
    plain = lambda v: None if v is None else [float(x) for x in v]
    return {
        "loglik": float(loglik),
        "beta": plain(beta),
        "se": plain(se),
        "evaluations": None if evaluations is None else int(evaluations),
        "converged": None if converged is None else bool(converged),
    }


def sklme(task, method="reml", compiled=False):
    if not compiled:
        block_numba()
    from sklme import LinearMixedModel

    random = {factor: list(terms) for factor, terms in task.random.items()}
    model = LinearMixedModel(random, fixed_effects=list(task.fixed), method=method)

    def read(m):
        count = np.atleast_1d(m.optimization_.n_evaluations)
        fits = zip(
            np.atleast_1d(m.log_likelihood_),
            np.atleast_1d(m.intercept_),
            np.atleast_2d(m.coef_),
            np.broadcast_to(count, len(np.atleast_1d(m.log_likelihood_))),
            strict=True,
        )
        return [record(ll, [a, *b], None, n, m.converged_) for ll, a, b, n in fits]

    return Fitter(lambda k: model.fit(task.table, task.y), read, joint=True)


def sklme_fast(task):
    need_numba()
    return sklme(task, compiled=True)


def block_numba():
    """As if it were not installed."""
    sys.modules["numba"] = None


def need_numba():
    try:
        import numba  # noqa: F401
    except ImportError:
        raise Unable("numba is not installed") from None


def sklme_ml(task):
    return sklme(task, method="ml")


def glmm(task):
    import glmm as package

    model, frame = formula(task), task.table.assign(y=_first(task))
    if task.y.ndim == 2:  # arrays are quicker to read than a table, which matters a thousand times
        frame = {name: frame[name].to_numpy() for name in frame}

    def fit(k):
        data = {**frame, "y": _response(task, k)} if task.y.ndim == 2 else frame
        return package.fit(data, model, satterthwaite=False)

    return Fitter(fit, read_glmm)


def read_glmm(m):
    return [record(m.loglik, m.beta, m.se, m.n_eval + m.n_grad, m.converged)]


def mixedlm(task):
    import mixedlm as package

    model, frame, before = formula(task), task.table.assign(y=_first(task)), []

    def fit(k):
        if before:
            return before[0].refit(_response(task, k))
        m = package.lmer(model, frame)
        if task.y.ndim == 2:
            before.append(m)
        return m

    def read(m):
        beta = m.fixef()
        beta = [beta[name] for name in ("(Intercept)", *task.fixed)]
        se = np.sqrt(np.diag(m.vcov()))
        return [record(m.logLik().value, beta, se, m.function_evals, m.converged)]

    return Fitter(fit, read)


def mixedlm_rs(task):
    from mixedlm_rs import MixedLM

    return _grouped(task, MixedLM)


def statsmodels(task):
    import statsmodels.api as sm

    if len(task.random) == 1:
        return _grouped(task, sm.MixedLM)
    return _variance_components(task, sm.MixedLM)


def gpboost(task, inversion="cholesky"):
    import gpboost as package

    if any(terms != ("1",) for terms in task.random.values()):
        raise Unable("no REML, no correlated random slopes")
    if inversion == "default" and len(task.random) == 1:
        raise Unable("same as gpboost with one factor")

    def fit(k):
        m = package.GPModel(
            group_data=task.table[list(task.random)],
            likelihood="gaussian",
            matrix_inversion_method=inversion,
            num_parallel_threads=1,
        )
        return m.fit(y=_response(task, k), X=matrix(task, task.fixed))

    def read(m):
        beta = np.asarray(m.get_coef(format_pandas=False)).ravel()
        return [record(-m.get_current_neg_log_likelihood(), beta)]

    return Fitter(fit, read)


def gpboost_default(task):
    return gpboost(task, inversion="default")


def lme_python(task):
    import lme_python as package

    model, frame, before = formula(task), _coded(task.table).assign(y=_first(task)), []

    def fit(k):
        if task.y.ndim == 1:
            return package.lmer(model, frame)
        if not before:
            before.append(package.prepare_lmer(model, frame))
        return before[0].fit(y=_response(task, k))

    def read(m):
        return [record(m.log_likelihood, m.coefficients, m.std_errors, m.iterations, m.converged)]

    return Fitter(fit, read)


def _grouped(task, model):
    """MixedLM as statsmodels has it, also offered by mixedlm-rs: one grouping factor, arrays."""
    if len(task.random) > 1:
        raise Unable("one grouping factor only")
    [(factor, terms)] = task.random.items()

    def fit(k):
        exog, exog_re = matrix(task, task.fixed), matrix(task, terms[1:])
        groups = task.table[factor].to_numpy()
        return model(_response(task, k), exog, groups, exog_re=exog_re).fit(reml=True)

    return Fitter(fit, _read_statsmodels)


def _variance_components(task, model):
    """statsmodels: the inner of two nested factors as variance components, else one dense group."""
    if any(terms != ("1",) for terms in task.random.values()):
        raise Unable("no correlated slopes of crossed factors")
    table, (outer, *rest) = task.table, task.random
    nested = len(rest) == 1 and table.groupby(rest[0])[outer].nunique().max() == 1
    if not nested and len(table) * sum(table[f].nunique() for f in task.random) > 1e7:
        raise Unable("crossed factors only as one dense group of all rows")
    inner = rest if nested else list(task.random)
    frame = table.assign(y=task.y, all_rows=1)

    def fit(k):
        return model.from_formula(
            " + ".join(["y ~ 1", *task.fixed]),
            frame,
            groups=outer if nested else "all_rows",
            re_formula="1" if nested else "0",
            vc_formula={factor: f"0 + C({factor})" for factor in inner},
        ).fit(reml=True)

    return Fitter(fit, _read_statsmodels)


def _read_statsmodels(m):
    return [record(m.llf, m.fe_params, m.bse_fe, None, m.converged)]


def _first(task):
    return task.y if task.y.ndim == 1 else task.y[:, 0]


def _response(task, k):
    """Contiguous: gpboost reads on from the address of the first value."""
    return task.y if task.y.ndim == 1 else np.ascontiguousarray(task.y[:, k])


def matrix(task, names):
    columns = [np.ones(len(task.table)), *(task.table[name].to_numpy() for name in names)]
    return np.column_stack(columns).astype(float)


def _coded(table):
    """Text as numbers, for a package that cannot read text columns of recent pandas."""
    text = table.select_dtypes(exclude="number").columns
    return table.assign(**{name: table[name].factorize()[0] for name in text})


@dataclass(frozen=True)
class Package:
    """A row of the tables: label, adapter or else an R script, distribution, criterion.

    A package that maximises "ML" runs beside a race of another criterion.
    """

    label: str
    adapter: Callable | None
    distribution: str = ""
    criterion: str = "REML"
    script: str = ""

    def version(self):
        """As installed, or as a checkout on the path says; ImportError without either."""
        name = self.distribution or self.label
        try:
            return version(name)
        except PackageNotFoundError:
            return import_module(name).__version__


PACKAGES = {
    "sklme": Package("sklme", sklme),
    "sklme-fast": Package("sklme[fast]", sklme_fast, "sklme"),
    "glmm": Package("glmm", glmm),
    "mixedlm": Package("mixedlm", mixedlm),
    "mixedlm-rs": Package("mixedlm-rs", mixedlm_rs),
    "lme-python": Package("lme-python", lme_python),
    "gpboost": Package("gpboost, cholesky", gpboost, "gpboost", "ML"),
    "gpboost-default": Package("gpboost, default", gpboost_default, "gpboost", "ML"),
    "statsmodels": Package("statsmodels", statsmodels),
    "lme4": Package("lme4 (R)", None, script="lme4.R"),
    "lme4-blas": Package("lme4 (R), fast BLAS", None, script="lme4.R"),
}
OURS = ("sklme", "sklme-fast")
ADAPTERS = {name: p.adapter for name, p in PACKAGES.items()} | {"sklme-ml": sklme_ml}
