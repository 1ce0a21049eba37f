"""Who may import whom, read from the imports of every file of the package.

A *unit* is a file or a folder directly under ``sklme``; its files may always import one another.
To let a unit import something new, change the tables; they are meant to be changed on purpose.
"""

import ast
import graphlib
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ENGINE = {"_engine"}
INPUT = {"_terms", "_ids", "_layout", "_tables", "_columns", "_rows", "_compat"}
SHARED = {"_adapt", "_axes", "_fitted", "_summary", "families"}
MODELS = {
    *("linear", "generalized", "penalized", "hybrid", "nonlinear", "pharmacokinetics"),
    *("harmonization", "selection", "preprocessing"),
}
STUDIES = {"inference", "evaluation", "reliability", "inspection", "formula", "distributed"}
BELOW_MODELS = ENGINE | INPUT | SHARED
BELOW_STUDIES = BELOW_MODELS | MODELS | {"datasets"}
USUAL = {"numpy", "scipy", "sklearn", "joblib"}

# (units, what they may import of sklme, what they may import from outside the standard library)
LAYERS = [
    (ENGINE, set(), {"numpy", "scipy", "threadpoolctl"}),
    (INPUT, INPUT, {"numpy", "sklearn"}),
    (SHARED, BELOW_MODELS, USUAL),
    (MODELS, BELOW_MODELS, USUAL),
    ({"datasets"}, set(), USUAL | {"pandas"}),
    (STUDIES, BELOW_STUDIES, USUAL | {"pandas", "matplotlib"}),
]
# What a unit, or one file of it, may import besides.
ALSO = {
    "_axes": {"matplotlib"},
    "_columns": {"pandas"},
    "_ids": {"pandas"},
    "_tables": {"pandas"},
    "_summary": {"pandas"},
    "_engine.kernels": {"numba"},
    # Models with tables by name and pictures of their own.
    "nonlinear": {"pandas"},
    "pharmacokinetics": {"pandas", "sklme.nonlinear"},
    "formula": {"formulaic"},
    "distributed": {"dask", "pyarrow"},
    "inspection": {"sklme.inference"},
    "reliability": {"sklme.inference"},
}
# The engine reports in records; the estimator speaks.
NEVER = {"_engine": {"warnings"}}


def unit_of(module):
    """The unit of a module ``sklme.unit.file``; empty for ``sklme`` itself."""
    return module.partition(".")[2].partition(".")[0]


def allowed(module):
    """Everything that a module may import: units as ``sklme.unit``, packages by name."""
    unit = unit_of(module)
    for units, ours, outside in LAYERS:
        if unit in units:
            also = ALSO.get(unit, set()) | ALSO.get(module.removeprefix("sklme."), set())
            standard = set(sys.stdlib_module_names) - NEVER.get(unit, set())
            return standard | outside | also | {f"sklme.{name}" for name in ours | {unit}}
    raise KeyError(f"{module} is in no layer: add its unit to LAYERS in test_layers.py")


def modules(root):
    """Map the dotted name of each module of the package below ``root`` to its file."""
    names = {}
    for path in sorted((root / "sklme").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imports(path, known):
    """Yield (line, imported module) of a file; star and relative imports as ``*`` and ``.``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                found = inside if inside in known else node.module
                yield node.lineno, "." if node.level else "*" if alias.name == "*" else found


def violations(root):
    """List every import below ``root`` that the tables do not allow, as ``module:line name``."""
    known = modules(root)
    found = []
    for module, path in known.items():
        if module == "sklme":  # The list of public names may import all of its own package.
            permitted = {f"sklme.{unit_of(name)}" for name in known if name != "sklme"}
        else:
            permitted = allowed(module)
        for line, name in imports(path, known):
            ours = name == "sklme" or name.startswith("sklme.")
            key = f"sklme.{unit_of(name)}" if ours else name.split(".")[0] or "."
            if key not in permitted:
                found.append(f"{module}:{line} {name}")
    return found


def import_order(root):
    """Order the modules so that each stands after what it imports; a cycle raises CycleError."""
    known = modules(root)
    graph = {}
    for module, path in known.items():
        graph[module] = {name for _, name in imports(path, known) if name in known} - {module}
    return list(graphlib.TopologicalSorter(graph).static_order())


def test_every_import_is_allowed():
    assert violations(ROOT) == []


def test_no_module_imports_itself_in_a_circle():
    assert sorted(import_order(ROOT)) == sorted(modules(ROOT))


def test_every_package_is_installed():
    """The packages in pyproject.toml are listed by hand, so compare them with the folders."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = set(project["tool"]["setuptools"]["packages"])
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "sklme").rglob("*.py")}
    assert {".".join(folder.parts) for folder in folders} - listed == set()


def write_package(root, files):
    """Write a small package below ``root``: dotted module name -> source."""
    for module, source in files.items():
        path = root.joinpath(*module.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)


@pytest.mark.parametrize(
    "module, source, named",
    [
        ("sklme._engine.gram", "import warnings", "warnings"),
        ("sklme._engine.gram", "import pandas.api as api", "pandas.api"),
        ("sklme._engine.gram", "from sklearn.base import clone", "sklearn.base"),
        ("sklme._engine.gram", "from sklme import _columns", "sklme._columns"),
        ("sklme._engine.gram", "import numba", "numba"),
        ("sklme._engine.gram", "from sklme._engine.newton import *", "*"),
        ("sklme._engine.gram", "from . import newton", "."),
        ("sklme._columns", "from sklme._engine.gram import gram", "sklme._engine.gram"),
        ("sklme._terms", "import pandas", "pandas"),
        ("sklme.linear", "def f():\n    import sklme.hybrid", "sklme.hybrid"),
        ("sklme.linear", "from sklme import LinearMixedModel", "sklme"),
        ("sklme.linear", "import pandas as pd", "pandas"),
        ("sklme.nonlinear.model", "import sklme.pharmacokinetics", "sklme.pharmacokinetics"),
        ("sklme.evaluation.report", "import statsmodels", "statsmodels"),
        ("sklme.evaluation.report", "import sklme.inference", "sklme.inference"),
        ("sklme.datasets", "import sklme.linear", "sklme.linear"),
        ("sklme.__init__", "import numpy", "numpy"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path, module, source, named):
    write_package(tmp_path, {"sklme._columns": "", "sklme._engine.newton": "", module: source})
    line = source.count("\n") + 1
    assert violations(tmp_path) == [f"{module.removesuffix('.__init__')}:{line} {named}"]


def test_allowed_imports_are_let_through(tmp_path):
    files = {
        "sklme.__init__": "from sklme.linear import LinearMixedModel",
        "sklme.linear": "import warnings, numpy\nfrom sklme import _columns\nimport sklme._engine",
        "sklme._columns": "import pandas as pd\nfrom sklearn.utils import check_array",
        "sklme._engine.__init__": "",
        "sklme._engine.kernels": "import numba",
        "sklme._engine.gram": "import scipy.linalg\nfrom sklme._engine import kernels",
        "sklme.pharmacokinetics.dosing": "from sklme.nonlinear import NonlinearMixedModel",
        "sklme.evaluation.report": "import pandas\nfrom sklme.linear import LinearMixedModel",
    }
    write_package(tmp_path, files)
    assert violations(tmp_path) == []
    order = import_order(tmp_path)
    assert order.index("sklme._engine.kernels") < order.index("sklme._engine.gram")


def test_a_circle_is_found(tmp_path):
    files = {"sklme._terms": "import sklme._ids", "sklme._ids": "from sklme._terms import parse"}
    write_package(tmp_path, files)
    with pytest.raises(graphlib.CycleError):
        import_order(tmp_path)


def test_a_unit_in_no_layer_is_named(tmp_path):
    write_package(tmp_path, {"sklme.stray": "import numpy"})
    with pytest.raises(KeyError, match=r"sklme\.stray is in no layer"):
        violations(tmp_path)
