"""The tables of repeated measurements against published figures."""

import numpy as np
import pandas as pd
from numpy.testing import assert_allclose, assert_array_equal

from sklme.datasets import (
    load_indomethacin,
    load_orange,
    load_phenobarbital,
    load_theophylline,
)


def test_theophylline_has_one_dose_and_eleven_samples_of_each_person():
    people = load_theophylline().frame
    assert (people.groupby("Subject").size() == 11).all()
    assert (people.groupby("Subject")[["Wt", "Dose"]].nunique() == 1).all(axis=None)
    assert people["Dose"].agg(["min", "max"]).tolist() == [3.1, 5.86]
    first = people.groupby("Subject")["Dose"].first() * people.groupby("Subject")["Wt"].first()
    assert_allclose(first.loc[[1, 5, 12]], [319.992, 319.956, 320.65], atol=1e-9)  # mg


def test_orange_trees_are_measured_together():
    trees = load_orange().frame
    assert sorted(trees["age"].unique()) == [118, 484, 664, 1004, 1231, 1372, 1582]
    assert (pd.crosstab(trees["Tree"], trees["age"]) == 1).all(axis=None)
    final = trees[trees["age"] == 1582].set_index("Tree")["circumference"]
    assert final.tolist() == [145, 203, 140, 214, 177]


def test_indomethacin_decays_in_two_phases():
    people = load_indomethacin().frame
    assert (people.groupby("Subject").size() == 11).all()
    means = np.log(people.groupby("time")["conc"].mean())
    slope = lambda a, b: (means[a] - means[b]) / (b - a)
    assert slope(0.25, 1.0) > 5 * slope(3.0, 8.0) > 0


def test_phenobarbital_has_its_doses_beside_the_samples():
    infants = load_phenobarbital()
    assert infants.doses["subject"].nunique() == 59
    assert set(infants.doses["subject"]) == set(infants.data["Subject"])
    assert not infants.doses.isna().any(axis=None)
    assert_array_equal(infants.data["Apgar"] >= 5, infants.data["ApgarInd"] == ">= 5")
    first = infants.doses[infants.doses["subject"] == 1]
    assert first["amount"].tolist()[:3] == [25.0, 3.5, 3.5]
    arrays = load_phenobarbital(as_frame=False)
    assert_array_equal(arrays.doses["amount"], infants.doses["amount"])
    assert infants.data.groupby("Subject").size().between(1, 6).all()
