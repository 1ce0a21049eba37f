"""Generalizability: Brennan's tables, Shrout and Fleiss, brute force, and intervals that cover."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklme import LinearMixedModel, LogisticMixedModel
from sklme.inference import variance_table
from sklme.inference._access import open_model
from sklme.reliability import generalizability, generalizability_components
from sklme.reliability._component_limits import component_covariance


def rows(**sizes):
    """All combinations of the conditions of a balanced design."""
    levels = [range(n) for n in sizes.values()]
    return pd.MultiIndex.from_product(levels, names=list(sizes)).to_frame(index=False)


# Shrout and Fleiss (1979), table 2: six targets by four judges.
JUDGES = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
)
# Brennan (2001), synthetic data set No. 3: ten persons; for each of two occasions four items.
PERSON_ITEM_OCCASION = np.array(
    [
        [[2, 4, 5, 5, 4, 4, 2, 3, 0, 6], [6, 5, 5, 9, 3, 4, 6, 4, 5, 8]],
        [[7, 6, 4, 8, 5, 4, 6, 4, 4, 7], [5, 7, 6, 6, 6, 7, 5, 5, 5, 6]],
        [[2, 6, 5, 5, 4, 6, 2, 6, 5, 6], [5, 7, 4, 7, 5, 4, 7, 6, 5, 8]],
        [[5, 5, 5, 7, 6, 7, 7, 6, 5, 8], [5, 7, 5, 6, 4, 8, 5, 4, 3, 6]],
    ],
    float,
).reshape(2, 4, 10)
# Brennan (2001), table 3.2, synthetic data set No. 4: ten persons; three tasks of four raters each.
PERSON_RATER_IN_TASK = np.array(
    [
        [5, 9, 3, 7, 9, 3, 7, 5, 9, 4],
        [6, 3, 4, 5, 2, 4, 3, 8, 9, 4],
        [5, 7, 3, 5, 9, 3, 7, 5, 8, 4],
        [5, 7, 3, 3, 7, 5, 7, 7, 8, 3],
        [5, 7, 5, 3, 7, 3, 7, 7, 6, 3],
        [3, 5, 3, 1, 7, 3, 5, 5, 6, 5],
        [4, 5, 3, 4, 3, 6, 5, 5, 6, 6],
        [5, 5, 5, 3, 7, 3, 7, 4, 5, 5],
        [6, 7, 6, 5, 2, 4, 5, 3, 5, 5],
        [7, 7, 5, 3, 7, 5, 5, 2, 8, 7],
        [3, 5, 1, 3, 5, 1, 5, 1, 1, 1],
        [3, 2, 6, 5, 3, 2, 4, 1, 1, 1],
    ],
    float,
).reshape(3, 4, 10)


@pytest.fixture(scope="module")
def judged():
    return LinearMixedModel(["target", "judge"]).fit(rows(target=6, judge=4), JUDGES.ravel())


@pytest.fixture(scope="module")
def crossed():
    keys = ["o", "i", "p", ("p", "i"), ("p", "o"), ("i", "o")]
    return LinearMixedModel(keys).fit(rows(o=2, i=4, p=10), PERSON_ITEM_OCCASION.ravel())


@pytest.fixture(scope="module")
def nested():
    """Raters are numbered within their task."""
    keys = ["t", "p", ("t", "r"), ("p", "t")]
    return LinearMixedModel(keys).fit(rows(t=3, r=4, p=10), PERSON_RATER_IN_TASK.ravel())


def test_one_facet_is_shrout_and_fleiss(judged):
    """Their table 4; the intervals of consistency by R, psych::ICC."""
    table = generalizability(judged, "target", {"judge": [1, 4]})
    assert_allclose(table["g"], [0.7148, 0.9093], atol=5e-5)
    assert_allclose(table["phi"], [0.2898, 0.6201], atol=5e-5)
    assert_allclose(table.loc[1, ["g_lower", "g_upper"]].astype(float), [0.3425, 0.9459], atol=5e-5)
    assert_allclose(table.loc[4, ["g_lower", "g_upper"]].astype(float), [0.6757, 0.9859], atol=5e-5)
    # Satterthwaite of McGraw and Wong has [0.019, 0.761]; four judges say little of judges.
    low, high = table.loc[1, ["phi_lower", "phi_upper"]]
    assert 0.0 < low < 0.06 and 0.74 < high < 0.82


def test_two_crossed_facets_are_those_of_brennan(crossed):
    components = generalizability_components(crossed, "p", ["i", "o"])
    published = {"p": 0.5528, "i": 0.4417, "o": 0.0074, "p:i": 0.5750, "p:o": 0.1009}
    published |= {"i:o": 0.1565, "Residual": 0.9352}
    assert_allclose(components["variance"][list(published)], list(published.values()), atol=5e-5)
    table = generalizability(crossed, "p", {"i": 4, "o": 2})
    assert_allclose(table[["g", "phi"]].iloc[0], [0.64, 0.55], atol=0.005)
    table = generalizability(crossed, "p", {"i": 4, "o": 2}, fixed="i")
    assert_allclose(table[["g", "phi"]].iloc[0], [0.81, 0.79], atol=0.005)
    assert_allclose(table["universe"], 0.5528 + 0.5750 / 4, atol=1e-4)


def test_a_nested_facet_is_that_of_brennan(nested):
    components = generalizability_components(nested, "p", ["t", "r"])
    published = {"p": 0.4731, "t": 0.3252, "t:r": 0.6475, "p:t": 0.5596, "Residual": 2.3802}
    assert_allclose(components["variance"][list(published)], list(published.values()), atol=6e-5)
    table = generalizability(nested, "p", {"t": [3, 6], "r": [4, 2]})
    assert list(table.index) == [(3, 4), (3, 2), (6, 4), (6, 2)]
    assert_allclose(table.loc[(3, 4), ["g", "phi"]].astype(float), [0.55, 0.46], atol=0.005)
    relative = 0.5596 / 6 + 2.3802 / 12
    assert_allclose(table["relative"][6, 2], relative, atol=1e-4)
    assert_allclose(table["absolute"][6, 2], relative + 0.3252 / 6 + 0.6475 / 12, atol=1e-4)


def test_roles_and_shares(crossed):
    table = generalizability_components(crossed, "p", ["i", "o"], fixed=("i",))
    roles = {"p": "universe score", "p:i": "universe score", "i": "none", "o": "absolute error"}
    roles |= {"i:o": "absolute error", "p:o": "relative error", "Residual": "relative error"}
    assert table["role"].to_dict() == roles
    assert_allclose(table["share"].sum(), 1.0)
    shares = variance_table(crossed)["share"].droplevel(["term", "with_term"])
    assert_allclose(table["share"], shares[table.index])


def test_errors_are_those_of_simulated_means(crossed):
    """Brute force: score persons by means over new conditions, drawn with the estimates."""
    v = generalizability_components(crossed, "p", ["i", "o"])["variance"].to_dict()
    row = generalizability(crossed, "p", {"i": 3, "o": 2}, confidence_level=None).iloc[0]
    rng, n = np.random.default_rng(0), 40_000
    draw = lambda name, *shape: rng.normal(0, np.sqrt(v[name]), (n, *shape))
    p, q = draw("p", 2)[:, :, None, None], 0.0  # two persons under the same conditions
    common = draw("i", 1, 3, 1) + draw("o", 1, 1, 2) + draw("i:o", 1, 3, 2)
    own = draw("p:i", 2, 3, 1) + draw("p:o", 2, 1, 2) + draw("Residual", 2, 3, 2)
    score, q = (p + common + own).mean(axis=(2, 3)), p[:, :, 0, 0]
    error = score - q
    assert_allclose(error.var(), row["absolute"], rtol=0.03)
    assert_allclose((error[:, 0] - error[:, 1]).var() / 2, row["relative"], rtol=0.03)
    between = np.cov(score[:, 0], score[:, 1])[0, 1]
    assert_allclose(
        (score.var(axis=0).mean() - between), row["universe"] + row["relative"], rtol=0.03
    )


def test_a_facet_of_the_rows_alone_divides_the_residual():
    rng = np.random.default_rng(3)
    X = rows(subject=12, session=3, trial=5)
    y = rng.normal(size=12)[X["subject"]] + rng.normal(size=(12, 3))[X["subject"], X["session"]]
    y = y + rng.normal(size=len(X))
    keys = ["subject", ("subject", "session")]
    model = LinearMixedModel(keys, fixed_effects=[]).fit(X, y)
    table = generalizability(model, "subject", {"session": 2, "trial": 10}, confidence_level=None)
    within = model.covariance_["subject", "session"].item()
    assert_allclose(table["relative"], within / 2 + model.residual_variance_ / 20)
    assert_allclose(table["absolute"], table["relative"])
    again = generalizability(
        make_pipeline(FunctionTransformer(), model), "subject", {"session": 2, "trial": 10}
    )
    assert_allclose(again["g"], table["g"])


def test_what_an_object_is_nested_in_is_part_of_its_universe_score():
    rng = np.random.default_rng(4)
    X = rows(school=8, pupil=6, item=4)
    y = rng.normal(size=8)[X["school"]] + rng.normal(size=(8, 6))[X["school"], X["pupil"]]
    y = y + rng.normal(size=4)[X["item"]] + rng.normal(size=len(X))
    model = LinearMixedModel(["school", ("school", "pupil"), "item"]).fit(X, y)
    table = generalizability_components(model, ("pupil", "school"), ["item"])
    roles = ["universe score", "universe score", "absolute error", "relative error"]
    assert table["role"].tolist() == roles


def test_the_covariance_of_components_is_the_inverse_information():
    """By dense matrices, unbalanced, with one variance at zero."""
    rng = np.random.default_rng(5)
    X = (
        rows(a=9, b=4)
        .sample(28, random_state=0)
        .reset_index(drop=True)
        .assign(x=rng.normal(size=28))
    )
    y = 3 * (rng.normal(size=9)[X["a"]] + rng.normal(size=28)) + X["x"]
    for method in ("reml", "ml"):
        model = LinearMixedModel(["a", "b"], method=method).fit(X, y)
        Z = [pd.get_dummies(X[c]).to_numpy(float) for c in "ab"]
        U = [Z[0] @ Z[0].T, Z[1] @ Z[1].T, np.eye(28)]
        v = [*(model.covariance_[c].item() for c in "ab"), model.residual_variance_]
        P = np.linalg.inv(sum(s * u for s, u in zip(v, U, strict=True)))
        if method == "reml":
            F = np.column_stack([np.ones(28), X["x"]])
            P = P - P @ F @ np.linalg.solve(F.T @ P @ F, F.T @ P)
        information = 0.5 * np.array([[np.trace(P @ a @ P @ b) for a in U] for b in U])
        W = component_covariance(open_model(model))
        assert_allclose(W, np.linalg.inv(information), rtol=1e-6, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-3, 1e3), st.floats(-1e3, 1e3), st.integers(1, 50))
def test_coefficients_have_no_unit(scale, shift, n):
    X, y = rows(target=6, judge=4), JUDGES.ravel()
    names = ["g", "phi", "g_lower", "g_upper", "phi_lower", "phi_upper"]
    one, other = (
        generalizability(LinearMixedModel(["target", "judge"]).fit(X, z), "target", {"judge": n})
        for z in (y, shift + scale * y)
    )
    assert_allclose(one[names], other[names], rtol=1e-5)
    assert_allclose(one["sem_absolute"] * scale, other["sem_absolute"], rtol=1e-5)
    assert (one[["g_lower", "phi_lower"]].to_numpy() <= one[["g", "phi"]].to_numpy()).all()
    assert (one["phi"] <= one["g"]).all()


@pytest.mark.slow
def test_intervals_cover():
    rng, X = np.random.default_rng(6), rows(p=15, i=5, o=3)
    v = {"p": 0.6, "i": 0.4, "o": 0.1, "pi": 0.5, "po": 0.1, "io": 0.2, "e": 0.9}
    g = 0.6 / (0.6 + 0.5 / 5 + 0.1 / 3 + 0.9 / 15)
    keys = ["p", "i", "o", ("p", "i"), ("p", "o"), ("i", "o")]
    outside = np.zeros(2)
    for _ in range(300):
        a = {k: rng.normal(0, s**0.5, (15, 5, 3)) for k, s in v.items()}
        y = a["p"][:, :1, :1] + a["i"][:1, :, :1] + a["o"][:1, :1] + a["pi"][:, :, :1]
        y = y + a["po"][:, :1] + a["io"][:1] + a["e"]
        row = generalizability(LinearMixedModel(keys).fit(X, y.ravel()), "p", {"i": 5, "o": 3})
        outside += [row["g_lower"].item() > g, row["g_upper"].item() < g]
    assert (outside / 300 < 0.055).all()  # 0.025 and three standard errors


def test_zero_variances_have_limits():
    rng = np.random.default_rng(0)
    X = rows(p=10, r=3)
    y = rng.normal(size=30) - np.repeat(rng.normal(size=10), 3) * 0.0
    y = y - pd.Series(y).groupby(X["p"]).transform("mean").to_numpy()  # no subject differs
    row = generalizability(LinearMixedModel(["p", "r"]).fit(X, y), "p", {"r": 3}).iloc[0]
    assert row["g"] == row["phi"] == row["g_lower"] == 0.0
    assert 0.2 < row["g_upper"] < 0.9


@pytest.mark.parametrize(
    "options, message",
    [
        ({"object_of_measurement": "person"}, '"person", which is no factor of the model; its'),
        ({"facets": {"rater": 2}}, '"judge", which is neither the object'),
        ({"facets": {"judge": 0}}, 'facets gives "judge" the number of conditions 0'),
        ({"facets": {"judge": [1.5]}}, "must be an integer"),
        ({"facets": {}}, "it must be a dict"),
        ({"facets": {"target": 2}}, "which is the object of measurement"),
        ({"fixed": "rater"}, 'fixed names "rater", which is not one of the facets'),
        ({"fixed": "judge"}, "nothing to generalise over"),
        ({"confidence_level": 1.0}, "confidence_level is 1.0"),
    ],
)
def test_bad_input_is_named(judged, options, message):
    given = {"object_of_measurement": "target", "facets": {"judge": 2}, **options}
    with pytest.raises(ValueError, match=message):
        generalizability(judged, **given)


def test_models_that_are_no_study_are_refused():
    X = rows(p=6, r=4).assign(x=np.tile([0.0, 1.0], 12))
    sloped = LinearMixedModel({"p": ["1", "x"], "r": ["1"]}).fit(X, JUDGES.ravel())
    with pytest.raises(ValueError, match=r'"p" has the coefficients .*needs a random intercept'):
        generalizability(sloped, "p", {"r": 2})
    with pytest.warns(UserWarning, match="cannot tell"):
        confounded = LinearMixedModel(["p", "r", ("p", "r")]).fit(X[["p", "r"]], JUDGES.ravel())
    with pytest.raises(ValueError, match=r'cannot tell the variance of \("p", "r"\)'):
        generalizability(confounded, "p", {"r": 2})
    binary = LogisticMixedModel(["p", "r"]).fit(X[["p", "r"]], JUDGES.ravel() > 5)
    with pytest.raises(TypeError, match="generalizability takes linear mixed models"):
        generalizability(binary, "p", {"r": 2})
