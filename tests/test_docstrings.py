"""Every public docstring says what the code does: parameters, fitted attributes, a run example.

The examples themselves are run by pytest's ``--doctest-modules``.
"""

import configparser
import inspect
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone, is_classifier

import sklme
import sklme.datasets
import sklme.evaluation
import sklme.nonlinear
import sklme.pharmacokinetics
import sklme.reliability

docscrape = pytest.importorskip("numpydoc.docscrape")
validate = pytest.importorskip("numpydoc.validate").validate

SETUP_CFG = Path(__file__).parents[1] / "setup.cfg"


def is_documented(thing):
    return inspect.isclass(thing) or inspect.isfunction(thing)


def public_objects(*modules):
    """Map the full name of every public class and function to the thing itself."""
    found = {f"{m.__name__}.{name}": getattr(m, name) for m in modules for name in m.__all__}
    return {name: thing for name, thing in found.items() if is_documented(thing)}


def public_methods(cls):
    """Map the name of every public method that a class of ours defines to its function."""
    found = {}
    for owner in reversed(cls.__mro__):
        if owner.__module__.partition(".")[0] == cls.__module__.partition(".")[0]:
            found.update(vars(owner))
    found = {name: getattr(member, "__func__", member) for name, member in found.items()}
    return {n: f for n, f in found.items() if inspect.isfunction(f) and not n.startswith("_")}


OBJECTS = public_objects(
    *(sklme, sklme.datasets, sklme.evaluation, sklme.nonlinear, sklme.pharmacokinetics),
    sklme.reliability,
)
METHODS = {
    f"{name}.{method}": function
    for name, thing in OBJECTS.items()
    if inspect.isclass(thing)
    for method, function in public_methods(thing).items()
}
ESTIMATORS = {
    name: thing
    for name, thing in OBJECTS.items()
    if inspect.isclass(thing) and issubclass(thing, BaseEstimator) and hasattr(thing, "fit")
}


def sections(thing):
    """Parse a docstring; numpydoc itself raises on an unknown or repeated section."""
    return docscrape.NumpyDocString(inspect.getdoc(thing) or "")


def names(entries):
    """The names of a section's entries; ``a, b : float`` are two."""
    return [name.strip() for entry in entries for name in entry.name.split(",")]


def real_parameters(thing):
    """The parameters of a signature as numpydoc writes them, without ``self`` and ``cls``."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    parameters = inspect.signature(thing).parameters.values()
    return [stars.get(p.kind, "") + p.name for p in parameters if p.name not in ("self", "cls")]


def documented_parameters(thing):
    """The names under Parameters, or under Attributes for a record that lists its fields there."""
    doc = sections(thing)
    is_record = inspect.isclass(thing) and not issubclass(thing, BaseEstimator)
    entries = doc["Parameters"] or (doc["Attributes"] if is_record else [])
    return names(entries + doc["Other Parameters"])


def fitted(estimator_class):
    """Fit an estimator on a small table, with its groups switched on."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"site": np.repeat(list("abcdef"), 10), "age": rng.normal(size=60)})
    counts = rng.poisson(3, size=60) + 2 * (X["site"] == "a").to_numpy()
    estimator = estimator_class()
    known = {"random_effects", "site", "subject", "group"} & set(estimator.get_params())
    estimator = clone(estimator).set_params(**dict.fromkeys(known, "site"))
    return estimator.fit(X, counts > 3 if is_classifier(estimator) else counts.astype(float))


def fitted_attributes(estimator):
    """The public names that end in an underscore, stored or computed by a property."""
    properties = [n for n, v in inspect.getmembers(type(estimator)) if isinstance(v, property)]
    public = [n for n in [*vars(estimator), *properties] if n.endswith("_") and n[0] != "_"]
    return {name for name in public if hasattr(estimator, name)}


def complaints(name, checks):
    """What numpydoc's own validation says, limited to the given checks."""
    return [f"{code}: {text}" for code, text in validate(name)["errors"] if code in checks]


@pytest.fixture(scope="module")
def checks():
    """The numpydoc checks that setup.cfg asks for."""
    config = configparser.ConfigParser()
    config.read(SETUP_CFG, encoding="utf-8")
    return set(config["tool:numpydoc_validation"]["checks"].split(","))


def test_the_public_names_are_found():
    assert "sklme.LinearMixedModel" in ESTIMATORS
    assert "sklme.LinearMixedModel.predict" in METHODS
    assert "sklme.datasets.load_sleepstudy" in OBJECTS


@pytest.mark.parametrize("name", [*OBJECTS, *METHODS])
def test_documented_parameters_are_the_real_ones(name):
    thing = {**OBJECTS, **METHODS}[name]
    assert documented_parameters(thing) == real_parameters(thing)


@pytest.mark.parametrize("name", [*OBJECTS, *METHODS])
def test_numpydoc_finds_no_fault(name, checks):
    assert complaints(name, checks) == []


@pytest.mark.parametrize("name", OBJECTS)
def test_an_example_runs_as_doctest(name):
    examples = "\n".join(sections(OBJECTS[name])["Examples"])
    assert ">>> " in examples, f"{name} has no example"


@pytest.mark.parametrize("name", ESTIMATORS)
def test_documented_attributes_are_the_fitted_ones(name):
    documented = names(sections(ESTIMATORS[name])["Attributes"])
    assert sorted(documented) == sorted(fitted_attributes(fitted(ESTIMATORS[name])))


class Wrong(BaseEstimator):
    """Do something, with faults that the tests of this file have to see.

    Parameters
    ----------
    beta : float
        The second one comes first.
    alpha : float
        The first one.

    Attributes
    ----------
    gone_ : float
        Not there after fit.
    """

    def __init__(self, alpha=0.0, beta=0.0, site=None):
        self.alpha = alpha
        self.beta = beta
        self.site = site

    def fit(self, X, y=None):
        self.kept_ = X.shape
        return self

    @property
    def computed_(self):
        return self.kept_[0]


def test_faults_are_seen(checks):
    assert documented_parameters(Wrong) == ["beta", "alpha"]
    assert real_parameters(Wrong) == ["alpha", "beta", "site"]
    assert fitted_attributes(fitted(Wrong)) == {"kept_", "computed_"}
    assert fitted(Wrong).site == "site"
    assert list(public_methods(Wrong)) == ["fit"]
    assert not sections(Wrong)["Examples"]
    codes = [text[:4] for text in complaints(f"{__name__}.Wrong", checks)]
    assert codes == ["PR01"]
