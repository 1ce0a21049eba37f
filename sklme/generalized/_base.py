"""What the generalised models share: from X to the engine's record and back to a predictor."""

from copy import copy
from dataclasses import replace
from numbers import Integral, Real

import numpy as np
from scipy.special import ndtri
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sklme._columns import extend_columns, learn_columns, read_columns
from sklme._engine import glmm, glmm_adapt, marginal, units
from sklme._engine import predict as engine
from sklme._engine.quadrature import check_quadrature
from sklme._fitted import (
    INTERCEPT,
    codes_for_draws,
    first_output,
    make_design,
    named_record,
    no_optimum_message,
    present_rows,
    print_step,
    random_part,
    structures_of,
    unidentified_message,
    warn,
)
from sklme._rows import check_choice, check_number, check_rows, read_weights
from sklme._terms import parse_terms
from sklme.generalized._summary import summarize

UNKNOWN = ("marginal", "population", "error")


class GeneralizedBase(BaseEstimator):
    """A generalised linear mixed model, whatever its outcome; a subclass says what y means.

    A subclass has the parameters of `random_effects` to `verbose`, calls `_learn` in its `fit`,
    and reads y by `_read_y`. `_fit` is the engine's record, `_terms` and `_columns` what was read
    of the specification and the table.
    """

    _one_output = True

    def predict_linear(self, X, return_std=False):
        """Linear predictor: conditional on the effects of known levels.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows to predict. The effect of a level that is not known is 0, or the row is refused
            where `handle_unknown` is "error".
        return_std : bool, default=False
            Whether to return the standard deviation of the linear predictor as well.

        Returns
        -------
        eta : ndarray of shape (n_samples,)
            Linear predictor, with the offset.
        std : ndarray of shape (n_samples,)
            Only with `return_std`: standard deviation due to what is not known of the coefficients
            and effects jointly; the prior variance of the effect for a level not seen. The
            variances themselves are taken as known.
        """
        check_is_fitted(self)
        rows = self._read(X)
        eta = self._linear(rows)
        return (eta, np.sqrt(self._variance(rows))) if return_std else eta

    def adapt(self, X, y, sample_weight=None):
        """Learn the levels of new rows; coefficients and variances stay.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows of new levels, or more rows of known ones.
        y : array-like of shape (n_samples,)
            Their responses.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights, as in `fit`.

        Returns
        -------
        model : estimator
            A fitted copy that knows these levels too; the model itself is not changed. What was
            known of a level counts as a normal distribution, the new rows with their exact
            likelihood.
        """
        check_is_fitted(self)
        weights = read_weights(sample_weight, X)
        y, weights = self._read_y(y, weights)
        check_rows(X, y, weights)
        X, y, weights = present_rows(X, y, weights)
        other = copy(self)
        other._columns, rows = extend_columns(self, X, self._columns)
        self._check_outcome(self._fit.family, y, rows)
        given = {"offset": rows.offset, "trials": rows.trials, "aux": self._aux_columns(rows)}
        if self._terms:
            design = other._design(rows, weights)
            other._remember(glmm_adapt.adapt(self._fit, design, y, **given))
        return other

    def summary(self):
        """Describe the fitted model as plain text.

        Returns
        -------
        text : str
            Family, criterion, random effects, how the factors are nested, fixed effects; 80 columns
            wide.
        """
        check_is_fitted(self)
        return summarize(self)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = self.random_effects is not None
        return tags

    # Fitting -----------------------------------------------------------------------------------

    def _check_parameters(self):
        check_choice("handle_unknown", self.handle_unknown, UNKNOWN)
        check_number("tol", self.tol, Real, 0)
        check_number("max_iter", self.max_iter, Integral, 0)

    def _learn(self, X, y, weights, family, *, fit_intercept, trials=None, zeros=None):
        """Read X, estimate everything and set the fitted attributes.

        zeros : columns of the auxiliary predictor that comes last, or None
        """
        terms, ignored = parse_terms(self.random_effects, self.covariance_type)
        check_quadrature(structures_of(terms), self.n_quadrature)
        check_rows(X, y, weights)
        X, y, weights = present_rows(X, y, weights)
        columns, rows = learn_columns(
            self,
            X,
            terms,
            ignored=ignored,
            fixed_effects=self.fixed_effects,
            offset=self.offset,
            trials=trials,
            zeros=zeros or (),
        )
        self._terms, self._columns, self._zero_inflated = terms, columns, zeros is not None
        self._intercept = bool(fit_intercept)
        self._center = self._find_center(rows, weights)
        self._check_outcome(family, y, rows)
        result = glmm.fit(
            self._design(rows, weights),
            y,
            family,
            structures_of(terms),
            offset=rows.offset,
            trials=rows.trials,
            aux=self._aux_columns(rows, family),
            n_quadrature=self.n_quadrature,
            tol=self.tol,
            max_iter=self.max_iter,
            progress=print_step if self.verbose else None,
        )
        self._remember(result)

    def _find_center(self, rows, weights):
        """What is taken off the fixed columns before the engine sees them; None for nothing."""
        return None

    def _centered(self, rows):
        return rows if self._center is None else replace(rows, X=rows.X - self._center)

    def _check_outcome(self, family, y, rows):
        """One sentence where the family does not know such a y."""
        message = family.check(y, rows.trials)
        if message:
            raise ValueError(message)

    def _aux_columns(self, rows, family=None):
        """The columns of each auxiliary predictor: those of extra zeros come last."""
        n_aux = len((family or self._fit.family).aux_names)
        columns = [None] * n_aux
        if self._zero_inflated:
            columns[-1] = rows.zeros
        return tuple(columns)

    def _design(self, rows, weights):
        rows = self._centered(rows)
        return make_design(rows, self._columns.n_levels, self._intercept, weights)

    def _remember(self, result):
        """The fitted attributes, in the units of the data."""
        self._fit, working = result, result.working
        keys = [term.key for term in self._terms]
        intercept, coef = units.coefficients(working)
        factors = units.relative_factors(working)
        effects = units.level_effects(working)
        self.coef_, self.intercept_ = coef[0], intercept[0].item()
        self.fixed_names_ = list(self._columns.fixed_names)
        self.log_likelihood_ = float(result.log_likelihood)
        self.theta_ = {key: L[0] for key, L in zip(keys, factors, strict=True)}
        self.covariance_ = {key: L @ L.T for key, L in self.theta_.items()}
        self.random_effects_ = {key: b[0] for key, b in zip(keys, effects, strict=True)}
        self.levels_ = {key: self._columns.labels(t) for t, key in enumerate(keys)}
        record = named_record(self._terms, self.fixed_names_, working, factors)
        self.optimization_ = first_output(record)
        self.n_iter_ = int(self.optimization_.n_evaluations)
        self.converged_ = bool(self.optimization_.converged)

    def _report(self):
        """At most one warning for each thing that a user should know."""
        if self.optimization_.unidentified:
            warn(unidentified_message(self.optimization_))
        fixed = [INTERCEPT] * self._intercept + self.fixed_names_
        endless = [(self._terms[t].key, self._terms[t].names[i]) for t, i in self._fit.unbounded]
        if self.optimization_.exact_fit:
            warn(
                "the model reproduces y exactly: the log-likelihood has no bound and the "
                "dispersion is zero to rounding"
            )
        elif self._fit.separated:
            warn(_separation_message([fixed[i] for i in self._fit.separated]))
        elif endless:
            warn(_unbounded_message(endless))
        elif not self.converged_:
            warn(no_optimum_message(self))

    # Rows of predictions -----------------------------------------------------------------------

    def _read(self, X):
        return read_columns(self, X, self._columns, handle_unknown=self.handle_unknown)

    def _fixed(self, rows):
        eta = rows.X @ self.coef_ + self.intercept_
        return eta if rows.offset is None else eta + rows.offset

    def _linear(self, rows):
        effects = [self.random_effects_[term.key][None] for term in self._terms]
        random = random_part(effects, rows)
        eta = self._fixed(rows)
        return eta + random[:, 0] if self._terms else eta

    def _prior_variance(self, rows):
        """Variance of the effects of levels that are not known, 0 where all are."""
        out = np.zeros(len(rows.X))
        for term, codes, z in zip(self._terms, rows.codes, rows.slopes, strict=True):
            unknown = np.flatnonzero(codes < 0)
            root = z[unknown] @ self.theta_[term.key]
            out[unknown] += np.einsum("nk,nk->n", root, root)
        return out

    def _variance(self, rows):
        """Of the linear predictor."""
        X = self._centered(rows).X
        new = engine.new_rows(self._fit.working, X, rows.codes, rows.slopes)
        return engine.variance(self._fit.working, new)[:, 0]

    def _effective(self, rows):
        """The linear predictor whose mean is what `predict` says.

        Under "marginal" the effects of unknown levels are integrated out.
        """
        eta = self._linear(rows)
        if self.handle_unknown != "marginal":
            return eta
        return marginal.equivalent(self._fit.family.link, eta, self._prior_variance(rows))

    def _aux(self, rows):
        """Auxiliary predictors, (n_aux, n_rows), or (n_aux, 1) where all are constant."""
        constants = self._aux_constants()[:, None]
        if rows.zeros is None or not self._zero_inflated:
            return constants
        aux = np.repeat(constants, len(rows.X), axis=1)
        aux[-1] += rows.zeros @ self._fit.aux[-1][1:]
        return aux

    def _aux_constants(self):
        """The intercept of each auxiliary predictor."""
        return np.array([a[0] for a in self._fit.aux])

    def _draws(self, X, n_samples, random_state):
        """Rows, draws of the linear predictor (n_rows, n_samples) and the source of more."""
        check_is_fitted(self)
        check_number("n_samples", n_samples, Integral, 1)
        rng = check_random_state(random_state)
        if self.handle_unknown == "error":
            self._read(X)
        _, rows = extend_columns(self, X, self._columns)
        codes = codes_for_draws(rows.codes, self._columns.n_levels)
        new = engine.new_rows(self._fit.working, self._centered(rows).X, codes, rows.slopes)
        eta = engine.draw(self._fit.working, new, 0, n_samples, rng)
        if self._center is not None:
            eta += self._center @ self.coef_
        return rows, eta if rows.offset is None else eta + rows.offset[:, None], rng

    def _sample(self, X, n_samples, random_state):
        rows, eta, rng = self._draws(X, n_samples, random_state)
        trials = None if rows.trials is None else rows.trials[:, None]
        return self._fit.family.sample(eta, self._aux(rows)[..., None], trials, rng)


def half_width(confidence_level):
    """The normal quantile of a two-sided interval."""
    check_number("confidence_level", confidence_level, Real, 0, 1)
    return ndtri(0.5 + 0.5 * confidence_level)


def _separation_message(names):
    which = ", ".join(repr(name) for name in names)
    has, coefficient = ("has", "coefficient") if len(names) == 1 else ("have", "coefficients")
    return (
        f"y is perfectly predicted by {which}: the {coefficient} of {which} {has} no finite "
        "estimate, and what is given is where the search stopped"
    )


def _unbounded_message(endless):
    which = ", ".join(f"{name} by {key!r}" for key, name in endless)
    return (
        f"y tells levels apart perfectly: the variance of {which} has no finite estimate, and what "
        "is given is where the search stopped"
    )
