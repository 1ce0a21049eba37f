"""The text of a mixed-model formula -> a ParsedFormula: left side, fixed part, bars, offsets.

Only the bars, ``offset`` and the left side are read here; what stands between ``+`` in the fixed
part and before a bar is left to formulaic. All parts keep their distance from the start of the
formula (blanks stand for what was taken out), so that any message can point at the place.
"""

import re
from dataclasses import dataclass
from itertools import pairwise
from keyword import iskeyword

TOKEN = re.compile(
    r"""(?P<quoted>'[^']*'|"[^"]*")|(?P<name>`[^`]*`|[^\W\d]\w*(?:\.\w+)*)"""
    r"""|(?P<number>\d[\w.]*|\.\d\w*)|(?P<other>\S)"""
)
CLOSING = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True)
class Token:
    """A word or sign; `depth` counts brackets around it, `python` says whether Python reads it."""

    text: str
    kind: str
    at: int
    depth: int
    python: bool

    @property
    def end(self):
        return self.at + len(self.text)

    def bar(self):
        return self.text == "|" and not self.python


@dataclass(frozen=True)
class Name:
    """A word of the formula: role is "column", "python" (a column inside Python) or "function"."""

    text: str
    at: int
    role: str


@dataclass(frozen=True)
class Bar:
    """One random term, ``(slopes | group)``.

    Attributes
    ----------
    slopes : str
        What stands before the bar, at its place in the formula.
    correlated : bool
        False for ``||``.
    factors : tuple of tuple of str
        Columns of each grouping factor; ``a/b`` has two, ``("a",)`` and ``("a", "b")``.
    groups : tuple of Name
        The grouping columns where they stand.
    at : int
        Place of the bar.
    """

    slopes: str
    correlated: bool
    factors: tuple
    groups: tuple
    at: int


@dataclass(frozen=True)
class ParsedFormula:
    """A formula in its parts.

    Attributes
    ----------
    text : str
        The formula on one line.
    left : str
        What stands before ``~``, at its place; empty if nothing does.
    fixed : str
        The right side without random terms and offsets, at its place.
    bars : tuple of Bar
    offsets : tuple of str
        What stands in each ``offset(...)``.
    names : tuple of Name
        The columns and functions of the right side, grouping columns aside.
    """

    text: str
    left: str
    fixed: str
    bars: tuple[Bar, ...]
    offsets: tuple[str, ...]
    names: tuple[Name, ...]


def parse_formula(formula):
    """Read a mixed-model formula.

    Parameters
    ----------
    formula : str
        As in R: ``"y ~ x * f + (x | g)"``.

    Returns
    -------
    ParsedFormula

    Raises
    ------
    ValueError
        If the brackets, the bars or the grouping sides cannot be read; with the formula and a
        caret below the place.

    Examples
    --------
    >>> parsed = parse_formula("y ~ x + (0 + x || a/b)")
    >>> parsed.fixed.strip(), [bar.slopes.strip() for bar in parsed.bars]
    ('x', ['0 + x'])
    >>> parsed.bars[0].factors, parsed.bars[0].correlated
    ((('a',), ('a', 'b')), False)
    """
    if not isinstance(formula, str):
        raise ValueError(f'formula is {formula!r}; it must be text such as "y ~ x + (1 + x | g)"')
    text = re.sub(r"\s", " ", formula).rstrip()
    tokens = _tokens(text)
    tilde = _tilde(text, tokens)
    right = [t for t in tokens if t.at > tilde.at]
    if not right:
        raise error('nothing stands after "~": write 1 for an intercept alone', text, tilde.at)
    fixed, bars, offsets = list(" " * tilde.end + text[tilde.end :]), [], []
    for sign, term in _terms(right):
        if any(t.bar() for t in term):
            bars.append(_bar(text, term))
        elif _is_offset(term):
            offsets.append(text[term[1].end : term[-1].at].strip())
        else:
            _refuse_inner_offset(text, term)
            continue
        if sign is not None and sign.text == "-":
            raise error("random terms and offsets are added, not subtracted", text, sign.at)
        start = term[0].at if sign is None else sign.at
        fixed[start : term[-1].end] = " " * (term[-1].end - start)
    elsewhere = {name.at for bar in bars for name in bar.groups}
    names = tuple(name for name in _names(text, right) if name.at not in elsewhere)
    left = text[: tilde.at].rstrip()
    return ParsedFormula(text, left, "".join(fixed), tuple(bars), tuple(offsets), names)


def error(message, text, at):
    """ValueError that shows the formula and a caret below the place."""
    return ValueError(f"{message}\n\n    {text}\n    {' ' * at}^")


def _tokens(text):
    """Words and signs; brackets are of the depth that is around them."""
    tokens, open_ = [], []
    for match in TOKEN.finditer(text):
        kind, word, at = match.lastgroup, match[0], match.start()
        if word in ("'", '"', "`"):
            raise error("this quote is never closed", text, at)
        if word in CLOSING.values():
            if not open_ or CLOSING[open_[-1].text] != word:
                raise error(f'this "{word}" closes nothing that is open', text, at)
            tokens.append(Token(word, "close", at, len(open_) - 1, open_.pop().python))
            continue
        inside = bool(open_) and open_[-1].python
        if word in CLOSING:
            # Only plain parentheses belong to the formula; calls, {...} and [...] are Python.
            called = bool(tokens) and tokens[-1].kind == "name" and tokens[-1].end == at
            inside = inside or word != "(" or called
            open_.append(Token(word, "open", at, len(open_), inside))
            tokens.append(open_[-1])
        elif word == "^" and inside:
            raise error('Python reads this part, where a power is "**" and not "^"', text, at)
        elif word == "." and not inside:
            raise error('"." does not stand for all columns here: name them', text, at)
        else:
            tokens.append(Token(word, kind, at, len(open_), inside))
    if open_:
        raise error(f'this "{open_[-1].text}" is never closed', text, open_[-1].at)
    return tokens


def _tilde(text, tokens):
    found = [t for t in tokens if t.text == "~" and not t.python]
    if not found:
        raise error('the formula has no "~": write the response and "~" first', text, 0)
    if len(found) > 1:
        raise error('a formula has one "~"', text, found[1].at)
    if found[0].depth:
        raise error('"~" stands outside all parentheses', text, found[0].at)
    return found[0]


def _terms(tokens):
    """Pairs (sign before it or None, tokens) of what stands between + and - outside brackets."""
    terms, sign, term = [], None, []
    for token in tokens:
        if token.depth == 0 and token.text in "+-":
            terms.append((sign, term))
            sign, term = token, []
        else:
            term.append(token)
    return [(sign, term) for sign, term in [*terms, (sign, term)] if term]


def _is_offset(term):
    outside = [t.text for t in term if t.depth == 0]
    return outside == ["offset", "(", ")"]


def _refuse_inner_offset(text, term):
    for token, follows in pairwise(term):
        if token.text == "offset" and follows.text == "(":
            raise error("offset(...) is a term of its own, added by +", text, token.at)


def _bar(text, term):
    """The random term that stands in one pair of parentheses."""
    bars = [t for t in term if t.bar()]
    if bars[0].depth == 0:
        wanted = text[term[0].at : term[-1].end]
        raise error(f"a random term stands in parentheses: write ({wanted})", text, bars[0].at)
    if [t.text for t in term if t.depth == 0] != ["(", ")"] or bars[0].depth > 1:
        raise error(
            "a random term stands alone, in one pair of parentheses, and is added by +: "
            "x + (1 | g)",
            text,
            bars[0].at,
        )
    double = len(bars) > 1 and bars[1].at == bars[0].end
    if len(bars) > 1 + double:
        raise error("one pair of parentheses has one bar", text, bars[1 + double].at)
    inside = term[1:-1]
    before = [t for t in inside if t.at < bars[0].at]
    after = [t for t in inside if t.at > bars[double].at]
    if not before:
        raise error('nothing stands before the bar: "1" is a random intercept', text, bars[0].at)
    if not after:
        raise error("nothing stands after the bar: name a grouping column", text, term[-1].at)
    slopes = " " * before[0].at + text[before[0].at : before[-1].end]
    return Bar(slopes, not double, *_grouping(text, after), bars[0].at)


def _grouping(text, tokens):
    """Factors of a grouping side such as ``a/b:c``, and its columns where they stand."""
    for i, token in enumerate(tokens):
        if token.kind != "name" if i % 2 == 0 else token.text not in ("/", ":"):
            raise error(
                'after the bar stand columns, joined by ":" for their combinations or by "/" if '
                "one is nested in the other; for crossed factors write two terms, "
                "(1 | a) + (1 | b)",
                text,
                token.at,
            )
    if len(tokens) % 2 == 0:
        raise error("a column is missing after this sign", text, tokens[-1].at)
    names = tuple(Name(t.text.strip("`"), t.at, "column") for t in tokens[::2])
    factors, columns = [], (names[0].text,)
    for sign, name in zip(tokens[1::2], names[1:], strict=True):
        if sign.text == "/":
            factors.append(columns)
        columns = (*columns, name.text)
    return (*factors, columns), names


def _names(text, tokens):
    """The columns and functions among the tokens."""
    for i, token in enumerate(tokens):
        if token.kind != "name" or iskeyword(token.text):
            continue
        follows = "".join(t.text for t in tokens[i + 1 : i + 3])
        if follows.startswith("("):
            role = "function"
        elif token.python and follows.startswith("=") and follows != "==":
            continue  # The name of an argument.
        else:
            role = "python" if token.python else "column"
        if role == "python" and re.search(r"\.\d", token.text) and token.text[0] != "`":
            raise error(f"inside Python, write the column as `{token.text}`", text, token.at)
        yield Name(token.text.strip("`"), token.at, role)
