"""The left side of a formula, "log(y + 1)": the response and the way there and back."""

import ast
import re
from dataclasses import dataclass
from functools import partial

import numpy as np

from sklme.formula._bars import Name, error


def power_of_ten(y):
    return np.power(10.0, y)


# Function -> its inverse.
INVERSES = {
    np.log: np.exp,
    np.log2: np.exp2,
    np.log10: power_of_ten,
    np.log1p: np.expm1,
    np.exp: np.log,
    np.expm1: np.log1p,
    np.sqrt: np.square,
    np.arcsin: np.sin,
    np.arctanh: np.tanh,
    np.arcsinh: np.sinh,
}
FUNCTIONS = {function.__name__: function for function in INVERSES}


@dataclass(frozen=True)
class Transform:
    """The function that a left side is of its response, or the inverse.

    Attributes
    ----------
    left : str
        The left side, which is known to have an inverse.
    inverse : bool
        Whether calls turn back.
    """

    left: str
    inverse: bool = False

    def __call__(self, y):
        _, steps = _read(self.left)
        for there, back in reversed(steps) if self.inverse else steps:
            y = back(y) if self.inverse else there(y)
        return y


def read_left_side(parsed):
    """Find the response and how it is transformed.

    Parameters
    ----------
    parsed : ParsedFormula

    Returns
    -------
    name : Name or None
        None if the left side is empty.
    transform : Transform or None
        None if the left side is a column as it is.

    Raises
    ------
    ValueError
        If the left side is not one column, or a function of it whose inverse is known.

    Examples
    --------
    >>> from sklme.formula._bars import parse_formula
    >>> name, transform = read_left_side(parse_formula("log(y + 1) ~ x"))
    >>> name.text, transform(np.array([0.0, 1.0])).round(3)
    ('y', array([0.   , 0.693]))
    """
    left = parsed.left.strip()
    if not left:
        return None, None
    start = len(parsed.left) - len(left)
    try:
        name, steps = _read(left)
    except _NotReadError as problem:
        raise error(str(problem), parsed.text, start + problem.at) from None
    name = Name(name.text, start + name.at, "column")
    return name, Transform(left) if steps else None


class _NotReadError(Exception):
    def __init__(self, message, at):
        super().__init__(message)
        self.at = at


def _read(left):
    """Name of the response and pairs of functions (there, back)."""
    quoted = re.findall(r"`[^`]*`", left)
    text = left
    for i, name in enumerate(quoted):  # As long as the name, so that places stay.
        text = text.replace(name, f"_{i}".ljust(len(name), "_"), 1)
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError as problem:
        at = max((problem.offset or 1) - 1, 0)
        raise _NotReadError("the left side cannot be read", min(at, len(left) - 1)) from None
    node, steps = tree, []
    while not isinstance(node, ast.Name):
        node, step = _peeled(node)
        steps = [*step, *steps]
    at = node.col_offset
    name = left[at : at + len(node.id)].strip("`")
    return Name(name, at, "column"), steps


def _peeled(node):
    """What an expression is of, and the step or no step from there to it."""
    match node:
        case ast.Set(elts=[inner]):  # {y / 1000}
            return inner, []
        case ast.Call(args=[inner], keywords=[]):
            function = ast.unparse(node.func).removeprefix("np.")
            if function == "I":
                return inner, []
            if function in FUNCTIONS:
                there = FUNCTIONS[function]
                return inner, [(there, INVERSES[there])]
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return inner, [(np.negative, np.negative)]
        case ast.BinOp():
            inner, step = _arithmetic(node)
            if step is not None:
                return inner, [step]
    raise _NotReadError(
        "the inverse of this left side is not known: it is one column, a function such as "
        f"{', '.join(sorted(FUNCTIONS))} of it, or arithmetic (+ - * /) with one number; else "
        "transform the column before and write its name",
        node.col_offset,
    )


def _arithmetic(node):
    """The operand that is no number, and the pair of functions; None if that cannot be."""
    left, right = _number(node.left), _number(node.right)
    inner = node.left if left is None else node.right
    match node.op, left, right:
        case ast.Add(), None, c if c is not None:
            return inner, (partial(np.add, c), partial(np.add, -c))
        case ast.Add(), c, None if c is not None:
            return inner, (partial(np.add, c), partial(np.add, -c))
        case ast.Sub(), None, c if c is not None:
            return inner, (partial(np.add, -c), partial(np.add, c))
        case ast.Sub(), c, None if c is not None:
            return inner, (partial(np.subtract, c), partial(np.subtract, c))
        case ast.Mult(), None, c if c:
            return inner, (partial(np.multiply, c), partial(np.multiply, 1 / c))
        case ast.Mult(), c, None if c:
            return inner, (partial(np.multiply, c), partial(np.multiply, 1 / c))
        case ast.Div(), None, c if c:
            return inner, (partial(np.multiply, 1 / c), partial(np.multiply, c))
        case ast.Div(), c, None if c:
            return inner, (partial(np.divide, c), partial(np.divide, c))
    return inner, None


def _number(node):
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    return value if isinstance(value, int | float) else None
