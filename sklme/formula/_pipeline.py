"""`from_formula`, and the pipeline that tells the model what the formula says."""

from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import Pipeline

from sklme.formula._bars import error, parse_formula
from sklme.formula._columns import FormulaColumns
from sklme.formula._formulaic import read_formulas
from sklme.formula._left_side import Transform, read_left_side
from sklme.formula._table import refuse_no_names, unknown_column
from sklme.linear import LinearMixedModel

SET_BY_FORMULA = ("random_effects", "fixed_effects", "covariance_type", "fit_intercept", "offset")


def from_formula(formula, data=None, estimator=None, **params):
    """Make a pipeline of a mixed-model formula as R's lme4 reads it.

    The pipeline encodes the columns (`FormulaColumns`) and fits a mixed model, whose
    `random_effects`, `fixed_effects`, `covariance_type`, `fit_intercept` and `offset` are set by
    each `fit` from the formula and the levels that the data have.

    Parameters
    ----------
    formula : str
        Left side, ``~`` and right side:

        - ``(1 | g)``: an intercept for each level of the column g.
        - ``(x | g)`` or ``(1 + x | g)``: intercept and slope, correlated; ``(0 + x | g)``: the
          slope alone; ``(f | g)``: the differences between the levels of a categorical column;
          ``(0 + f | g)``: an effect for each of them.
        - ``(x || g)``: the same, uncorrelated. All columns are, also those of one categorical
          column, which lme4 leaves correlated.
        - ``(1 | a/b)``: a, and the combinations of a and b; ``(1 | a:b)``: the combinations.
        - Several terms of one g: uncorrelated with each other.
        - ``offset(z)``: z is added with coefficient 1.
        - The rest, before the bars too, is read by formulaic: ``a + b``, ``a:b``, ``a * b``,
          ``(a + b)**2``, ``0 +``, ``- 1``, ``poly(x, 2)``, ``bs(x, df=5)``, ``scale(x)``,
          ``log(x)``, ``factor(k)``, ``C(f, contr.sum)``, ``{x / 2}``, ``I(x**2)``. Inside calls
          and braces stands Python, which is run: take no formulas from strangers. What functions
          learn of the data (a mean, knots) they learn in `fit`.

        Categorical columns are coded by treatment contrasts; the reference is the first level,
        in the order of a pandas Categorical (ordered or not), else sorted. Names that are no
        Python names stand in backticks.

        A left side such as ``log(y)``, ``sqrt(y)`` or ``-1000 / y`` transforms y in `fit`, and
        `predict` turns back, by `TransformedTargetRegressor`. Coefficients and `log_likelihood_`
        are those of the left side; a prediction is of y, for ``log(y)`` its median.
    data : dataframe of shape (n_samples, n_columns), default=None
        Table to fit the pipeline to; it has the left side as well. Without it the pipeline is
        not fitted: ``fit(X, y)`` takes the response apart, the left side only says how it is
        transformed.
    estimator : estimator object, default=None
        An estimator of this package with `random_effects`; a clone is used. None means
        `LinearMixedModel`.
    **params : dict
        Parameters of the estimator, such as ``method="ml"``.

    Returns
    -------
    pipeline : FormulaPipeline
        A scikit-learn pipeline; ``pipeline[-1]`` is the model.

    Raises
    ------
    ValueError
        If the formula cannot be read, with a caret at the place, names columns that the table
        does not have, or `params` name what the formula sets.
    ImportError
        If formulaic is not installed.

    See Also
    --------
    sklme.LinearMixedModel : Takes the columns by name, without a formula.

    Examples
    --------
    >>> from sklme.datasets import load_sleepstudy
    >>> from sklme.formula import from_formula
    >>> data = load_sleepstudy().frame
    >>> pipeline = from_formula("Reaction ~ Days + (Days | Subject)", data)
    >>> model = pipeline[-1]
    >>> print(f"{model.log_likelihood_:.4f}", model.random_effects, model.fixed_names_)
    -871.8141 {'Subject': ['1', 'Days']} ['Days']
    >>> print(pipeline.predict(data.head(2)).round(1))
    [253.7 273.3]
    """
    parsed, estimator = parse_formula(formula), _ready(estimator, params)
    read_formulas(parsed)  # Complains before there are data.
    name, transform = read_left_side(parsed)
    if transform is not None:
        back = Transform(transform.left, inverse=True)
        estimator = TransformedTargetRegressor(estimator, func=transform, inverse_func=back)
    steps = (FormulaColumns(formula), estimator)
    pipeline = FormulaPipeline([(type(step).__name__.lower(), step) for step in steps])
    if data is None:
        return pipeline
    if name is None:
        raise error('nothing stands before "~": name the response', parsed.text, 0)
    refuse_no_names(data)
    if name.text not in list(data.columns):
        raise error(unknown_column(name.text, data.columns), parsed.text, name.at)
    return pipeline.fit(data[[c for c in data.columns if c != name.text]], data[name.text])


def _ready(estimator, params):
    """A clone of the estimator with the parameters."""
    estimator = LinearMixedModel() if estimator is None else clone(estimator)
    has = estimator.get_params()
    missing = [name for name in SET_BY_FORMULA[:2] if name not in has]
    if missing:
        raise ValueError(
            f"{type(estimator).__name__} has no {missing[0]}: a formula needs an estimator of "
            "sklme such as LinearMixedModel()"
        )
    for name in SET_BY_FORMULA:
        if name in params:
            raise ValueError(f"{name} is set by the formula: say it there, not as a parameter")
    return estimator.set_params(**params)


class FormulaPipeline(Pipeline):
    """Pipeline of `FormulaColumns` and a mixed model that is told its columns in each fit.

    Made by `from_formula`. The columns of a categorical are known only with the data, so `fit`
    sets `random_effects`, `fixed_effects`, `covariance_type`, `fit_intercept` and `offset` of the
    model before it fits it. To compare models, search over
    ``formulacolumns__formula``; to set one of these parameters apart is an error.

    Parameters
    ----------
    steps : list of (str, estimator)
        As those of a `Pipeline`.
    transform_input : list of str, default=None
        As that of a `Pipeline`.
    memory : str or object with the joblib.Memory interface, default=None
        As that of a `Pipeline`.
    verbose : bool, default=False
        As that of a `Pipeline`.
    """

    def fit(self, X, y=None, **params):
        """Learn the columns, tell the model and fit it.

        Parameters
        ----------
        X : dataframe of shape (n_samples, n_columns)
            Has the columns of the formula; others do no harm.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Response before the transformation of the left side.
        **params : dict
            As for a `Pipeline`, for example ``linearmixedmodel__sample_weight``.

        Returns
        -------
        self : FormulaPipeline
            The fitted pipeline.
        """
        columns, model = self.steps[0][1], self.steps[-1][1]
        if len(self.steps) > 1:
            _refuse_other_left_side(columns, model)
            model = model.regressor if isinstance(model, TransformedTargetRegressor) else model
            asked = columns.fit(X).estimator_params_
            model.set_params(**_understood(model, asked))
        return super().fit(X, y, **params)

    def set_params(self, **params):
        """Set parameters of the steps, those that the formula does not set.

        Parameters
        ----------
        **params : dict
            As for a `Pipeline`.

        Returns
        -------
        self : FormulaPipeline
            The pipeline.
        """
        now = self.get_params()
        for key, value in params.items():
            name = key.rpartition("__")[2]
            if name in SET_BY_FORMULA and key in now and now[key] != value:
                raise ValueError(
                    f"{key} is set by the formula in fit: change formulacolumns__formula instead"
                )
        return super().set_params(**params)


def _refuse_other_left_side(columns, model):
    """A formula that was changed later cannot add or take away a TransformedTargetRegressor."""
    transform = read_left_side(parse_formula(columns.formula))[1]
    if transform != (model.func if isinstance(model, TransformedTargetRegressor) else None):
        raise ValueError(
            f"the left side of {columns.formula!r} transforms the response otherwise than that "
            "of the formula the pipeline was made of: call from_formula again"
        )


def _understood(model, asked):
    """Those of the parameters that the model has; the others must not matter."""
    has = model.get_params()
    neutral = {"covariance_type": "full", "offset": None, "fit_intercept": True}
    for name, value in asked.items():
        if name not in has and neutral.get(name) != value:
            raise ValueError(f"the formula needs {name}, which {type(model).__name__} has not")
    return {name: value for name, value in asked.items() if name in has}
