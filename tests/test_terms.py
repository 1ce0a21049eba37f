"""random_effects and covariance_type: what each spelling means, and what is refused."""

import pickle
from copy import deepcopy

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone

from sklme._layout import ColumnFinder, find_layout
from sklme._terms import RandomTerm, parse_terms


def intercept(key, columns):
    return RandomTerm(key, columns, (None,), ((0,),), False)


@pytest.mark.parametrize(
    ("given", "terms"),
    [
        (None, ()),
        ("site", (intercept("site", ("site",)),)),
        (0, (intercept(0, (0,)),)),
        (-1, (intercept(-1, (-1,)),)),
        (np.int32(2), (intercept(2, (2,)),)),
        (["a", "b"], (intercept("a", ("a",)), intercept("b", ("b",)))),
        (("a", "b"), (intercept(("a", "b"), ("a", "b")),)),
        ((0, 1), (intercept((0, 1), (0, 1)),)),
        (("a",), (intercept("a", ("a",)),)),
        (["a", ("a", "b")], (intercept("a", ("a",)), intercept(("a", "b"), ("a", "b")))),
        ({"a": ["1"]}, (intercept("a", ("a",)),)),
        ({("a", "b"): ["1"]}, (intercept(("a", "b"), ("a", "b")),)),
        ({"s": ["1", "day"]}, (RandomTerm("s", ("s",), (None, "day"), ((0, 1),), False),)),
        ({"s": ["day"]}, (RandomTerm("s", ("s",), ("day",), ((0,),), False),)),
        ({0: ["1", 1]}, (RandomTerm(0, (0,), (None, 1), ((0, 1),), False),)),
        ({"1": ["1"]}, (intercept("1", ("1",)),)),
    ],
)
def test_every_spelling(given, terms):
    assert parse_terms(given) == (terms, ())


def test_names_of_the_coefficients():
    (term,), _ = parse_terms({0: ["1", 3]})
    assert term.names == ("(Intercept)", "3")


@pytest.mark.parametrize(
    ("given", "keys", "ignored"),
    [
        ({"site": []}, [], ("site",)),
        ({0: []}, [], (0,)),
        ({"site": [], "subject": ["1"]}, ["subject"], ("site",)),
        ({("a", "b"): []}, [], ("a", "b")),
        ({"a": ["1"], ("a", "b"): []}, ["a"], ("b",)),
        ({"a": [], ("a", "b"): ["1"]}, [("a", "b")], ()),
    ],
)
def test_factors_without_terms_are_ignored(given, keys, ignored):
    terms, found = parse_terms(given)
    assert [term.key for term in terms] == keys
    assert found == ignored


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "empty list: write None"),
        ({}, "empty dict: write None"),
        ((), "empty tuple"),
        ({"a", "b"}, "a set, which has no order: write a list"),
        (True, "cannot be read at True"),
        (np.bool_(False), "cannot be read at"),
        (1.5, r"cannot be read at 1.5: it may be None"),
        ([["a"]], r"cannot be read at \['a'\]"),
        ([None], "cannot be read at None"),
        ((("a", "b"), "c"), r"columns are names \(str\) or positions \(int\)"),
        (("a", True), "holds True: columns are names"),
        (("a", "a"), r'\("a", "a"\) names a column twice'),
        (["a", "a"], 'one factor twice, "a" and "a"'),
        ([("a", "b"), ("b", "a")], r'one factor twice, \("a", "b"\) and \("b", "a"\)'),
        (["a", ("a",)], "one factor twice"),
        (["a", 0], r'mixes names \("a"\) and positions \(0\)'),
        (("a", 0), "mixes names"),
        ({"a": "day"}, r"'day'; they must be a list"),
        ({"a": {"day"}}, "they must be a list"),
        ({"a": ("1", "day")}, "they must be a list"),
        ({"a": None}, "they must be a list"),
        ({"a": ["1", "1"]}, 'the term "1" twice'),
        ({"a": ["x", "x"]}, 'the term "x" twice'),
        ({0: [2, 2]}, "the term 2 twice"),
        ({"a": [("x", "y")]}, 'write "1" for the intercept, or one column'),
        ({"a": [None]}, 'write "1" for the intercept'),
        ({"a": [1.0]}, "holds 1.0: columns are names"),
        ({"subject": [1, "day"]}, 'holds the integer 1.*write "1" for the intercept'),
        ({0: ["1", "day"]}, 'holds the name "day" although the key is a position'),
    ],
)
def test_specifications_without_one_meaning_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        parse_terms(given)


SLOPES = {"g": ["1", "a", "b"], "h": ["1"]}


@pytest.mark.parametrize(
    ("kind", "blocks", "spherical"),
    [
        ("full", ((0, 1, 2),), False),
        ("diagonal", ((0,), (1,), (2,)), False),
        ("spherical", ((0,), (1,), (2,)), True),
        ({}, ((0, 1, 2),), False),
        ({"h": "diagonal"}, ((0, 1, 2),), False),
        ({"g": "spherical"}, ((0,), (1,), (2,)), True),
        ({"g": [["1"], ["a", "b"]]}, ((0,), (1, 2)), False),
        ({"g": [["b", "1"], ["a"]]}, ((0, 2), (1,)), False),
    ],
)
def test_covariance_types(kind, blocks, spherical):
    (term, _), _ = parse_terms(SLOPES, kind)
    assert (term.blocks, term.spherical) == (blocks, spherical)


def test_blocks_by_position_tell_the_intercept_from_column_1():
    (term,), _ = parse_terms({0: ["1", 1]}, {0: [["1"], [1]]})
    assert term.blocks == ((0,), (1,))
    with pytest.raises(ValueError, match="hold each of the terms"):
        parse_terms({0: ["1", 1]}, {0: [["1"], ["1"]]})


def test_covariance_type_may_name_a_combination_in_any_order():
    (term,), _ = parse_terms({("a", "b"): ["1", "x"]}, {("b", "a"): "diagonal"})
    assert term.blocks == ((0,), (1,))


def test_covariance_type_may_name_an_ignored_factor():
    assert parse_terms({"g": []}, {"g": "diagonal"}) == ((), ("g",))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("diag", 'it may be "full", "diagonal", "spherical"'),
        (None, "it may be"),
        ([["1"]], "together they must hold"),
        ({"x": "full"}, 'names the factor "x".*its factors: "g", "h"'),
        ({"g": "ar1"}, "'ar1' for \"g\""),
        ({"g": [["1"], ["a"]]}, r"each of the terms \['1', 'a', 'b'\] once"),
        ({"g": [["1", "a"], ["a", "b"]]}, "once"),
        ({"g": [["1"], ["a", "c"]]}, "once"),
        ({"g": ["1", "a", "b"]}, "blocks are lists of terms"),
        ({"g": [["1", "a", "b"], []]}, "blocks are lists of terms"),
    ],
)
def test_covariance_types_without_meaning_are_refused(kind, message):
    with pytest.raises(ValueError, match=message):
        parse_terms(SLOPES, kind)


def test_one_factor_twice_in_covariance_type_is_refused():
    kind = {("a", "b"): "full", ("b", "a"): "diagonal"}
    with pytest.raises(ValueError, match="twice"):
        parse_terms(("a", "b"), kind)


class Holder(BaseEstimator):
    def __init__(self, random_effects=None):
        self.random_effects = random_effects


@pytest.mark.parametrize("given", [{"g": ["1", "x"]}, ["a", ("a", "b")], {0: ["1", -1], 1: []}])
def test_terms_are_values(given):
    before = deepcopy(given)
    terms, ignored = parse_terms(given)
    assert given == before
    assert hash(terms) == hash(parse_terms(deepcopy(given))[0])
    assert pickle.loads(pickle.dumps((terms, ignored))) == (terms, ignored)
    assert parse_terms(clone(Holder(given)).random_effects) == (terms, ignored)


NAMES = ColumnFinder(["a", "b", "c"], 3)
POSITIONS = ColumnFinder(None, 3)


def layout(find, random_effects, fixed_effects=None, offset=None):
    return find_layout(find, *parse_terms(random_effects), fixed_effects, offset)


def test_layout_by_name_equals_layout_by_position():
    by_name = layout(NAMES, {"a": ["1", "c"]}, offset="b")
    assert by_name == layout(NAMES, {0: ["1", 2]}, offset=1)
    assert by_name == layout(NAMES, {-3: ["1", -1]}, offset=-2)
    assert by_name.numbers == (2, 1)
    assert by_name.fixed_names == ("c",)
    assert by_name.slopes == ((None, 0),)
    assert (by_name.offset, by_name.keys, by_name.factors) == (1, (0,), ((0,),))


def test_columns_without_names_are_called_x():
    assert layout(POSITIONS, 1).fixed_names == ("x0", "x2")


def test_a_column_of_two_factors_is_one_key():
    found = layout(NAMES, ["a", ("b", "a")])
    assert found.keys == (0, 1)
    assert found.factors == ((0,), (1, 0))


def test_fixed_effects_may_leave_out_a_slope_and_repeat_a_key():
    found = layout(NAMES, {"a": ["1", "c"]}, fixed_effects=["b", "a"])
    assert found.fixed_names == ("b", "a")
    assert found.numbers == (1, 0, 2)
    assert found.slopes == ((None, 2),)
    assert layout(NAMES, "a", fixed_effects=[]).numbers == ()


@pytest.mark.parametrize(
    ("find", "random_effects", "options", "message"),
    [
        (NAMES, "d", {}, r'random_effects names "d", which is not a column of X; X has \[.a'),
        (POSITIONS, "a", {}, "X has no column names: write positions from 0 to 2"),
        (NAMES, 3, {}, "position 3, but X has n_features=3: positions go from 0 to 2"),
        (NAMES, -4, {}, "position -4"),
        (NAMES, [0, -3], {}, "one column of X twice .*n_features=3"),
        (NAMES, [(0, 1), (1, -3)], {}, "one column of X twice"),
        (NAMES, (0, -3), {}, "one column of X twice"),
        (NAMES, {0: ["1"], -3: []}, {}, "one column of X twice"),
        (NAMES, {0: [], -3: []}, {}, "one column of X twice"),
        (NAMES, {0: ["1", 1, -2]}, {}, "term list of 0 names one column"),
        (NAMES, {"a": ["1", "a"]}, {}, "constant within its levels"),
        (NAMES, {"a": ["1", "b"], "b": []}, {}, r"leaves out by \[\]"),
        (NAMES, "a", {"offset": "a"}, 'offset names "a", which random_effects uses as ids'),
        (NAMES, "a", {"offset": "z"}, 'offset names "z", which is not a column'),
        (NAMES, "a", {"offset": True}, "offset holds True"),
        (NAMES, "a", {"fixed_effects": "b"}, "it must be a list of columns"),
        (NAMES, "a", {"fixed_effects": ["b", "b"]}, 'the column "b" twice'),
        (NAMES, "a", {"fixed_effects": ["b", 1]}, "the column 1 twice"),
        (NAMES, "a", {"fixed_effects": ["z"]}, 'fixed_effects names "z", which is not a column'),
        (NAMES, "a", {"fixed_effects": [True, False]}, "fixed_effects holds True"),
        (NAMES, {"a": []}, {"fixed_effects": ["a"]}, r"leaves out by \[\]"),
        (ColumnFinder(["a", "b", "b"], 3), "b", {}, "X has 2 columns of that name"),
        (ColumnFinder(["a", "1"], 2), {"a": ["1", "1x"]}, {}, '"1x", which is not a column'),
        (ColumnFinder(["a", "1", "x"], 3), {"a": ["1", "x"]}, {}, 'X has a column "1"'),
    ],
)
def test_columns_that_cannot_be_found_are_refused(find, random_effects, options, message):
    with pytest.raises(ValueError, match=message):
        layout(find, random_effects, **options)


def test_a_near_miss_is_suggested():
    find = ColumnFinder(["scanner", "age"], 2)
    message = (
        r'random_effects names "scaner", which is not a column of X; X has \[.scanner., .age.\]; '
        'did you mean "scanner"'
    )
    with pytest.raises(ValueError, match=message):
        layout(find, "scaner")


def test_long_tables_are_not_listed_in_full():
    find = ColumnFinder([f"feature{i}" for i in range(2000)], 2000)
    with pytest.raises(ValueError, match="2000 columns") as caught:
        layout(find, "site")
    assert len(str(caught.value)) < 500
