"""The parameters of subjects given their own rows."""

import numpy as np
from sklearn.utils import check_random_state

from sklme._engine.nlme.derivatives import jacobian
from sklme._engine.nlme.methods import Method
from sklme._engine.nlme.modes import find_modes
from sklme._engine.nlme.objective import Peak
from sklme._engine.nlme.parameters import Parameters
from sklme._engine.nlme.point import Point
from sklme._engine.nlme.quadrature import chunks
from sklme._rows import check_choice
from sklme.nonlinear._frames import frame
from sklme.nonlinear._known import roots

DEGREES = 5.0  # of the t distribution that draws are proposed from
PROPOSED = 10  # draws are picked from so many times as many


class Posterior:
    """What the rows of some subjects say about their random effects and parameters.

    Made by ``NonlinearMixedModel.condition``; the population is taken as known.

    Parameters
    ----------
    model : NonlinearMixedModel
        The fitted model.
    design : Design
        The rows that count.
    known : Known
        What they say.
    dosing : Dosing, default=None
        The doses given to ``condition``.

    Attributes
    ----------
    subjects : ndarray of shape (n_subjects,)
        The subjects.
    mode : DataFrame of shape (n_subjects, n_effects)
        The random effects where their density is highest.
    covariance : ndarray of shape (n_subjects, n_effects, n_effects)
        Their covariance around the mode, by the curvature there.
    individual_parameters : DataFrame of shape (n_subjects, n_parameters)
        The parameters at the mode, on the natural scale; with occasions a row for each occasion.

    See Also
    --------
    NonlinearMixedModel : The model that makes it.

    Examples
    --------
    >>> from sklme.datasets import load_orange
    >>> from sklme.nonlinear import NonlinearMixedModel, Parameter
    >>> import numpy as np
    >>> X, y = load_orange(return_X_y=True)
    >>> growth = lambda age, top, middle, pace: top / (1 + np.exp((middle - age) / pace))
    >>> start = {"top": 190, "middle": 700, "pace": Parameter(350, random=False)}
    >>> start["middle"] = Parameter(700, random=False)
    >>> known, new = X["Tree"] < 5, X["Tree"] == 5
    >>> model = NonlinearMixedModel(growth, start, group="Tree", time="age")
    >>> model = model.fit(X[known], y[known])
    >>> posterior = model.condition(X[new].head(4), y[new].head(4))
    >>> print(posterior.predict(X[new].tail(1)).round(), float(y[new].iloc[-1]))
    [159.] 177.0
    """

    def __init__(self, model, design, known, dosing=None):
        self._model, self._design, self._known = model, design, known
        self._dosing = dosing
        layout = design.layout
        names = [layout.names[k] for k in layout.random]
        E = len(names)
        self.subjects = design.groups.labels
        self.mode = frame(known.between, (design.groups.name or None, self.subjects), names)
        self.covariance = known.conditional.covariance[:, :E, :E]
        self.individual_parameters = individual_parameters(design, known)

    def draws(self, n_samples=1000, random_state=None, *, method="laplace"):
        """Draw random effects of the subjects from their posterior.

        Parameters
        ----------
        n_samples : int, default=1000
            Number of draws.
        random_state : int, RandomState instance or None, default=None
            Source of the draws.
        method : {"laplace", "importance"}, default="laplace"
            ``"laplace"`` draws from the normal distribution at the mode, ``"importance"`` from the
            exact posterior by sampling, importance weights and resampling.

        Returns
        -------
        effects : ndarray of shape (n_samples, n_subjects, n_effects)
            In the order of `mode`.
        """
        return self._draws(n_samples, random_state, method)[..., : self.mode.shape[1]]

    def sample_parameters(self, n_samples=1000, random_state=None, *, method="laplace"):
        """Draw parameters of the subjects from their posterior.

        Parameters
        ----------
        n_samples : int, default=1000
            Number of draws.
        random_state : int, RandomState instance or None, default=None
            Source of the draws.
        method : {"laplace", "importance"}, default="laplace"
            As in `draws`.

        Returns
        -------
        parameters : ndarray of shape (n_samples, n_rows, n_parameters)
            On the natural scale, in the order of `individual_parameters` and its rows.
        """
        eta = self._draws(n_samples, random_state, method)
        psi = self._design.natural(self._known.population.beta, eta)
        return parameters_of_first_rows(self._design, psi)

    def predict(self, X, dosing=None, return_std=False):
        """Predict rows of these subjects, at the mode of their random effects.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows to predict, such as later times. Other subjects follow ``handle_unknown`` of the
            model.
        dosing : Dosing, default=None
            Their doses; None: those given to ``condition``, or else of the model.
        return_std : bool, default=False
            Whether to return the standard deviation as well.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Predictions.
        std : ndarray of shape (n_samples,)
            Only with `return_std`: standard deviation that stems from the random effects not being
            known, to first order; residual error comes on top.
        """
        model = self._model
        design = model._new_design(X, dosing if dosing is not None else self._dosing, self._known)
        eta, covariance = self._known.place(design)
        beta = self._known.population.beta
        y = design.predict(beta, eta)
        if not return_std:
            return y
        a = by_effects(design, self._known.population, eta)
        variance = np.einsum("ijk,ikl,ijl->ij", a, covariance, a)
        return y, np.sqrt(np.maximum(design.to_rows(variance), 0.0))

    def _draws(self, n_samples, random_state, method):
        check_choice("method", method, ("laplace", "importance"))
        rng = check_random_state(random_state)
        if method == "importance":
            return self._importance(n_samples, rng)
        found = self._known.conditional
        z = rng.standard_normal((n_samples, *found.eta.shape))
        return found.eta + (roots(found.covariance) @ z[..., None])[..., 0]

    def _importance(self, n_samples, rng):
        design = self._design
        parameters = self._known.population.parameters(design.n_occasions)
        point = Method("focei").point(design.data(), parameters)
        modes = find_modes(point, thorough=True)
        D = roots(Peak(point, modes, exact=False).inverse)
        n = max(2000, PROPOSED * n_samples)
        z = rng.standard_normal((n, *modes.u.shape))
        z /= np.sqrt(rng.chisquare(DEGREES, (n, len(modes.u), 1)) / DEGREES)
        u = modes.u + (D @ z[..., None])[..., 0]
        height = np.concatenate([point.criterion(u[part]) for part in chunks(point, n)])
        Q = modes.u.shape[1]
        log_q = -0.5 * (DEGREES + Q) * np.log1p((z**2).sum(axis=2) / DEGREES)
        log_weight = -0.5 * height - log_q
        weight = np.exp(log_weight - log_weight.max(axis=0))
        weight /= weight.sum(axis=0)
        eta = u @ point.L.T
        return np.stack(
            [eta[rng.choice(n, n_samples, p=weight[:, i]), i] for i in range(len(modes.u))], axis=1
        )


def by_effects(design, population, eta):
    """df/deta (N, n, Q) of the structure."""
    data = design.data()
    alike = Parameters(population.beta, np.eye(eta.shape[1]), np.ones(1))
    point = Point(data, alike)
    phi = design.C @ population.beta + (design.B @ eta[:, None, :, None])[..., 0]
    along = point.along()
    return along.to_eta(jacobian(data, along, phi, point.scale)[1])


def parameters_of_first_rows(design, psi):
    """psi (..., N, m, q) -> (..., n_rows, q): of the first row of each group or occasion."""
    rows = design.first_rows
    place = design.groups.place[rows] if psi.shape[-2] > 1 else 0
    return psi[..., design.groups.codes[rows], place, :]


def individual_parameters(design, known):
    """The parameters of each group at its mode, with occasions of each occasion."""
    psi = design.natural(known.population.beta, known.conditional.eta)
    groups, rows = design.groups, design.first_rows
    index = groups.name or None, groups.labels[groups.codes[rows]]
    if design.pairs is not None:
        occasions = design.rows.occasions
        index = [index, (occasions.name, occasions.labels[occasions.codes[rows]])]
    return frame(parameters_of_first_rows(design, psi), index, design.layout.names)
