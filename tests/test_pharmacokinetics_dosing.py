"""Tables of doses: what is read, what is refused, and that a table is a value."""

import pickle
import warnings
from copy import deepcopy

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GroupKFold, cross_validate

from sklme.pharmacokinetics import Dosing, OneCompartment


def events(**columns):
    table = {
        "ID": [1, 1, 1, 2, 2],
        "TIME": [0.0, 1.0, 8.0, 0.0, 4.0],
        "AMT": [100.0, 0.0, 0.0, 50.0, 0.0],
        "DV": [0.0, 5.0, 2.0, 0.0, 3.0],
        "WT": [70.0, 70.0, 70.0, 60.0, 60.0],
    }
    return pd.DataFrame(table | columns)


class Holder(BaseEstimator):
    """Keeps what it is given, and whether it came through whole."""

    def __init__(self, dosing=None):
        self.dosing = dosing

    def fit(self, X, y, dosing=None):
        self.seen_ = self.dosing
        return self

    def score(self, X, y):
        return float(self.seen_ is self.dosing)


def test_a_table_is_a_value():
    one = Dosing([1, 1, 2], [0, 12, 0], 100.0, rate=[0, 10, 0])
    same = Dosing([1, 1, 2], [0, 12, 0], [100, 100, 100], rate=[0, 10, 0])
    other = Dosing([1, 1, 2], [0, 12, 0], 100.0)
    assert one == same and hash(one) == hash(same) and one != other and one != 3
    assert pickle.loads(pickle.dumps(one)) == one
    assert deepcopy(one) is one
    assert repr(one) == "Dosing(3 doses of 2 subjects)"
    with pytest.raises(ValueError):
        one.column("amount")[0] = 1.0


def test_the_subject_is_part_of_the_value():
    assert Dosing([1], amount=1.0) != Dosing([2], amount=1.0)
    assert Dosing([1], amount=1.0) != Dosing(["1"], amount=1.0)


def test_sklearn_never_slices_it():
    X, y = np.zeros((6, 2)), np.arange(6.0)
    dosing = Dosing.single(np.arange(6), 100.0)
    holder = clone(Holder(dosing))
    assert holder.dosing is dosing
    groups = [0, 0, 1, 1, 2, 2]
    done = cross_validate(
        holder, X, y, groups=groups, cv=GroupKFold(3), return_estimator=True, error_score="raise"
    )
    assert all(fold.seen_ is dosing for fold in done["estimator"])
    assert not hasattr(dosing, "shape") and not hasattr(dosing, "__len__")


def test_rows_are_sorted_by_time_but_ties_stay():
    dosing = Dosing(["b", "a", "b", "b"], [5, 0, 1, 5], [1, 2, 3, 4])
    assert dosing.subjects == ["b", "a"]
    table = dosing.to_dict()
    assert table["amount"].tolist() == [3, 1, 4, 2]
    assert Dosing.from_table(table) == dosing
    assert Dosing.from_table(pd.DataFrame(table)) == dosing


def test_single_takes_a_column_of_rows():
    dosing = Dosing.single(pd.Series([3, 3, 7, 7, 7]), pd.Series([10.0, 10, 20, 20, 20]), 0.5)
    assert dosing == Dosing([3, 7], 0.5, [10.0, 20.0])


def test_numbers_find_their_subject_whatever_their_type():
    dosing = Dosing(np.array([1, 2]), amount=[5.0, 6.0])
    start, end = dosing.rows(np.array([2.0, 1.0]))
    assert start.tolist() == [1, 0] and end.tolist() == [2, 1]
    with pytest.raises(ValueError, match=r"subject '2' has no row .* which has 1, 2"):
        dosing.rows(["2"])


@pytest.mark.parametrize(
    ("details", "message"),
    [
        ({"amount": [-1.0]}, "amount is negative"),
        ({"rate": -1.0}, "rate is -1: a rate that the model estimates is not supported"),
        ({"rate": -3.0}, "rate is negative"),
        ({"rate": 1.0, "duration": 1.0}, "both a rate and a duration"),
        ({"duration": -1.0}, "duration is negative"),
        ({"amount": 0.0, "rate": 2.0}, "a rate or a duration but no amount"),
        ({"steady_state": 1}, "needs an interval above 0"),
        ({"steady_state": 3, "interval": 12.0}, "steady_state must be 0, 1 or 2"),
        ({"additional": 2}, "needs an interval above 0"),
        ({"additional": -1}, "additional is negative"),
        (
            {"amount": 0.0, "rate": 5.0, "steady_state": 1, "additional": 1},
            "needs an interval above 0",
        ),
    ],
)
def test_impossible_doses_name_subject_and_row(details, message):
    details = {"amount": 10.0} | details
    with pytest.raises(ValueError, match=f"subject 'ann' in row 0 .*{message}"):
        Dosing(["ann"], **details)


@pytest.mark.parametrize(
    ("details", "message"),
    [
        ({"amount": ["x"]}, "'amount' of the dosing table is 'x' in row 0, which is no number"),
        ({"amount": [np.inf]}, "'amount' of the dosing table is inf in row 0"),
        ({"amount": [1.0, 2.0]}, r"'amount' has the shape \(2,\), but there are 1 doses"),
        ({"additional": 1.5, "interval": 2.0}, "1.5 in row 0: it counts"),
    ],
)
def test_columns_must_be_numbers(details, message):
    with pytest.raises(ValueError, match=message):
        Dosing(["ann"], **details)


def test_from_table_knows_its_columns():
    with pytest.raises(ValueError, match="'amt' is no column of a dosing table"):
        Dosing.from_table({"subject": [1], "amt": [3]})
    with pytest.raises(ValueError, match="no column 'amount'"):
        Dosing.from_table({"subject": [1], "time": [3]})


def test_nonmem_is_split():
    X, y, dosing = Dosing.from_nonmem(events())
    assert X.columns.tolist() == ["ID", "TIME", "WT"] and X.index.tolist() == [1, 2, 4]
    assert y.tolist() == [5.0, 2.0, 3.0]
    assert dosing == Dosing([1, 2], 0.0, [100.0, 50.0])


def test_nonmem_in_other_words():
    table = events(EVID=[4, 0, 0, 1, 2], RATE=[".", ".", ".", "25", "."], MDV=[1, 0, 1, 1, 1])
    table = table.rename(columns={"AMT": "dose", "ID": "id", "DV": "Dv"})
    X, y, dosing = Dosing.from_nonmem(table, columns={"AMT": "dose"})
    assert X.columns.tolist() == ["id", "TIME", "WT"]
    assert y.tolist() == [5.0]
    assert dosing == Dosing([1, 2], 0.0, [100.0, 50.0], rate=[0, 25], reset=[True, False])


def test_nonmem_from_polars():
    X, y, dosing = Dosing.from_nonmem(pl.from_pandas(events()))
    assert isinstance(X, pl.DataFrame) and X.columns == ["ID", "TIME", "WT"] and len(X) == 3
    assert y.tolist() == [5.0, 2.0, 3.0] and dosing == Dosing.from_nonmem(events())[2]


def test_samples_at_the_time_of_a_dose_keep_their_order():
    """A low sample is drawn, the dose is given, and a further sample is drawn at once."""
    table = pd.DataFrame(
        {"ID": 1, "TIME": [0, 12, 12, 12, 13], "AMT": [100, 0, 100, 0, 0], "DV": 1.0}
    )
    X, _, dosing = Dosing.from_nonmem(table)
    assert dosing.column("samples_before").tolist() == [0, 1]
    bound = OneCompartment().bind([1], [X["TIME"]], dosing)
    low, peak, later = bound(np.array([[[2.0, 20.0]]]))[0]
    assert low == pytest.approx(5.0 * np.exp(-1.2), rel=1e-14)
    assert peak == pytest.approx(low + 5.0, rel=1e-14)
    assert later == pytest.approx(peak * np.exp(-0.1), rel=1e-14)


def test_order_of_samples_at_one_time_holds_where_parameters_vary():
    table = pd.DataFrame(
        {"ID": 1, "TIME": [0, 12, 12, 12, 13], "AMT": [100, 0, 100, 0, 0], "DV": 1.0}
    )
    X, _, dosing = Dosing.from_nonmem(table)
    bound = OneCompartment("first-order").bind([1], [X["TIME"]], dosing)
    psi = np.array([[[2.0, 20.0, 1.0]]])
    np.testing.assert_allclose(bound(np.repeat(psi, 3, axis=1)), bound(psi), rtol=1e-13)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"TIME": [0.0, 9.0, 8.0, 0.0, 4.0]}, "time of subject 1 goes back from 9 to 8 in row 2"),
        ({"ID": [1, 1, 2, 1, 1]}, "subject 1 comes again in row 3"),
        ({"EVID": [101, 0, 0, 1, 0]}, "subject 1 in row 0 has an EVID other than"),
        ({"EVID": [1, 0, 0, 0, 0]}, "subject 2 in row 3 has an amount although"),
        ({"TIME": [0.0, np.nan, 8.0, 0.0, 4.0]}, "subject 1 in row 1 has no time"),
        ({"DV": [0.0, 5.0, np.nan, 0.0, 1.0]}, "sample of subject 1 in row 2 has no DV"),
        ({"AMT": [100.0, 0.0, 0.0, 0.0, 0.0]}, "subject 2 has samples but no dose"),
        ({"RATE": [-1.0, 0, 0, 0, 0]}, "rate is -1"),
        ({"SS": [1, 0, 0, 0, 0]}, "needs an interval above 0"),
    ],
)
def test_impossible_events_name_subject_and_row(columns, message):
    with pytest.raises(ValueError, match=message):
        Dosing.from_nonmem(events(**columns))


def test_columns_that_are_not_there():
    with pytest.raises(ValueError, match="no column AMT"):
        Dosing.from_nonmem(events().drop(columns="AMT"))
    with pytest.raises(ValueError, match="'dose', which is not a column"):
        Dosing.from_nonmem(events(), columns={"AMT": "dose"})
    with pytest.raises(ValueError, match="'DOSE', which is none of"):
        Dosing.from_nonmem(events(), columns={"DOSE": "AMT"})
    with pytest.raises(ValueError, match="a table with named columns is needed"):
        Dosing.from_nonmem(np.zeros((3, 3)))


def test_a_dose_after_the_last_sample_is_worth_one_warning():
    table = pd.DataFrame({"ID": 1, "TIME": [0, 1, 5, 6], "AMT": [9, 0, 9, 9], "DV": 1.0})
    message = "dose of subject 1 at time 5 comes after its last sample .* 1 more such"
    with pytest.warns(UserWarning, match=message) as seen:
        Dosing.from_nonmem(table)
    assert len(seen) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Dosing.from_nonmem(table.iloc[:2])


def test_a_subject_without_samples_is_named():
    table = pd.DataFrame({"ID": [1, 1, 7], "TIME": [0, 1, 0], "AMT": [9, 0, 9], "DV": [0, 2, 0]})
    with pytest.warns(UserWarning, match="subject 7, from row 2 on, has doses but no sample"):
        Dosing.from_nonmem(table)
