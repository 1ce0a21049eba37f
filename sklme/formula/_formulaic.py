"""All that calls formulaic, which encodes everything but the bars; it is imported when needed."""

import builtins
import warnings

import numpy as np

from sklme._terms import show
from sklme.formula._bars import error
from sklme.formula._left_side import power_of_ten

R_NAMES = {
    "as.factor": "factor(x)",
    "as.numeric": "x",
    "ns": "cs(x, df=3)",
    "rcs": "cs(x, df=3)",
    "s": "cs(x, df=3)",
    "cbind": "the columns one by one",
    "cut": "{x > 3} or a column made before",
    "ifelse": "{np.where(x > 3, 1, 0)}",
}


def import_formulaic():
    """The package.

    Raises
    ------
    ImportError
        With what to install.
    """
    try:
        import formulaic
    except ImportError:
        raise ImportError(
            'formulas are read with the help of formulaic: pip install "sklme[formula]"'
        ) from None
    return formulaic


def read_formulas(parsed):
    """Read the parts of a formula, before any data are seen.

    Parameters
    ----------
    parsed : ParsedFormula

    Returns
    -------
    list of formulaic.Formula
        The fixed part, the slopes of each bar and, if there are any, the sum of the offsets.

    Raises
    ------
    ValueError
        If formulaic cannot read a part, or it calls a function that formulas do not know.
    """
    Formula = import_formulaic().Formula
    _refuse_unknown_functions(parsed)
    texts = [parsed.fixed, *(bar.slopes for bar in parsed.bars)]
    if parsed.offsets:
        texts.append("0 + {" + " + ".join(f"({text})" for text in parsed.offsets) + "}")
    return [_call(parsed, Formula, text) for text in texts]


def make_matrices(parsed, parts, table):
    """Encode a table.

    Parameters
    ----------
    parsed : ParsedFormula
    parts : list of formulaic.Formula or formulaic.ModelSpec
        Formulas learn what they need of the table, specs apply what they have learned.
    table : DataFrame of shape (n_rows, n_used)

    Returns
    -------
    list of formulaic.ModelMatrix

    Raises
    ------
    ValueError
        If a part cannot be computed.
    """
    how = {"context": _context(), "output": "pandas", "na_action": "ignore"}
    return [_call(parsed, part.get_model_matrix, table, **how) for part in parts]


def function_names():
    """Names that formulas may use besides those of columns."""
    return {*import_formulaic().transforms.TRANSFORMS, *_context(), *dir(builtins), "offset"}


def _context():
    """Functions that R has and formulaic has not, or has otherwise."""
    encode = import_formulaic().transforms.C
    more = {f.__name__: f for f in (np.sqrt, np.log1p, np.expm1, np.sin, np.cos, np.tan)}
    return {"factor": encode, "exp10": power_of_ten, **more}


def _refuse_unknown_functions(parsed):
    known = function_names()
    for name in parsed.names:
        head, dot, _ = name.text.partition(".")
        method = dot and name.text not in R_NAMES  # x.clip(0, 1)
        if name.role == "function" and head not in known and not method:
            instead = R_NAMES.get(name.text)
            hint = f"; write {instead}" if instead else ": those of numpy are np.exp, np.abs, ..."
            raise error(
                f"{show(name.text)} is no function that formulas know{hint}", parsed.text, name.at
            )


def _call(parsed, function, *args, **kwargs):
    """Call formulaic; its complaints come back with the whole formula and a caret."""
    errors = import_formulaic().errors
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", errors.DataMismatchWarning)
            return function(*args, **kwargs)
    except (errors.FormulaicError, errors.DataMismatchWarning, SyntaxError) as problem:
        message, _, marked = str(problem).partition("\n")
        at = marked.strip("\n").find("\u29db")  # The sign before the place that is marked.
        at = _place(parsed, message) if at < 0 else at
        raise error(f"the formula cannot be read: {message}", parsed.text, at) from problem


def _place(parsed, message):
    """Where the expression that a message quotes begins, as far as its names tell."""
    quoted = message.partition("`")[2]
    begins = [name.at for name in parsed.names if quoted.startswith(name.text)]
    inside = [name.at for name in parsed.names if name.text in quoted]
    return min(begins or inside or [len(parsed.left)])
