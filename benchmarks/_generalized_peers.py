"""How each package is asked for the same generalized model; the rules are those of `_peers.py`.

All maximise the Laplace approximation of the likelihood over coefficients and covariances at once.
Where a package computes standard errors or tests after the search, the call leaves out what it can.
"""

import numpy as np
from _data import formula
from _peers import Fitter, Package, block_numba, matrix, need_numba, read_glmm, record


def sklme(task):
    block_numba()
    return _sklme(task)


def sklme_fast(task):
    need_numba()
    return _sklme(task)


def _sklme(task):
    from sklme import GeneralizedLinearMixedModel, LogisticMixedModel

    factors = list(task.random)
    if task.family == "binomial" and task.trials is None:
        model = LogisticMixedModel(random_effects=factors)
    else:
        model = GeneralizedLinearMixedModel(
            random_effects=factors, family=task.family, trials=task.trials
        )

    def read(m):
        beta = [*np.ravel(m.intercept_), *np.ravel(m.coef_)]
        return [record(m.log_likelihood_, beta, None, m.optimization_.n_evaluations, m.converged_)]

    return Fitter(lambda k: model.fit(task.table, task.y), read)


def glmm(task):
    import glmm as package

    model, frame, weights = formula(task), task.table.assign(y=_share(task)), _trials(task)

    def fit(k):
        return package.fit(
            frame, model, task.family, weights=weights, wald_se="rx", anova_test="Wald"
        )

    return Fitter(fit, read_glmm)


def mixedlm(task):
    import mixedlm as package
    from mixedlm import families

    model, frame, weights = formula(task), task.table.assign(y=_share(task)), _trials(task)
    family = {"binomial": families.Binomial, "poisson": families.Poisson}[task.family]()

    def read(m):
        beta = m.fixef()
        beta = [beta[name] for name in ("(Intercept)", *task.fixed)]
        return [record(m.logLik().value, beta, np.sqrt(np.diag(m.vcov())), None, m.converged)]

    return Fitter(lambda k: package.glmer(model, frame, family, weights=weights), read)


def gpboost(task, inversion="cholesky"):
    import gpboost as package

    binary = "binomial_logit" if task.trials else "bernoulli_logit"
    y, weights = _share(task), _trials(task)

    def fit(k):
        m = package.GPModel(
            group_data=task.table[list(task.random)],
            likelihood={"binomial": binary, "poisson": "poisson"}[task.family],
            matrix_inversion_method=inversion,
            num_parallel_threads=1,
            weights=weights,
        )
        return m.fit(y=y, X=matrix(task, task.fixed))

    def read(m):
        beta = np.asarray(m.get_coef(format_pandas=False)).ravel()
        return [record(-m.get_current_neg_log_likelihood(), beta)]

    return Fitter(fit, read)


def _trials(task):
    return None if task.trials is None else task.table[task.trials].to_numpy(dtype=float)


def _share(task):
    """Successes as a share of the trials, which is how the peers take them, or y as it is."""
    return task.y if task.trials is None else task.y / _trials(task)


PACKAGES = {
    "sklme": Package("sklme", sklme, criterion="Laplace"),
    "sklme-fast": Package("sklme[fast]", sklme_fast, "sklme", "Laplace"),
    "glmm": Package("glmm", glmm, criterion="Laplace"),
    "mixedlm": Package("mixedlm", mixedlm, criterion="Laplace"),
    "gpboost": Package("gpboost, cholesky", gpboost, "gpboost", "Laplace"),
    "glmmTMB": Package("glmmTMB (R)", None, criterion="Laplace", script="generalized.R"),
    "lme4": Package("lme4 (R)", None, criterion="Laplace", script="generalized.R"),
}
ADAPTERS = {name: p.adapter for name, p in PACKAGES.items()}
