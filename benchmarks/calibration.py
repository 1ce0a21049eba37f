"""Whether stated probabilities are right at sites that the fit has not seen, by simulation.

    python benchmarks/calibration.py            # 20 data sets a design; ten minutes
    python benchmarks/calibration.py --quick    # two small ones

Yes or no with random effects of sites: intercepts of standard deviation 0.3, 1 and 3; slopes that
differ too; and readers, known from the fit, who are crossed with sites that are not. A model is
fitted, and rows of new sites are predicted: with the probability averaged over what sites are like
(``handle_unknown="marginal"``, the default) and with the one of a site of effect zero
("population"). Outcomes are regressed on the logit of the prediction; a slope of 1 and a mean found
that equals the mean expected are right. Standard errors count sites, not rows. Results go to
`results/calibration.md`.
"""

import argparse
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from sklme import LogisticMixedModel

INTERCEPT, SLOPE, X_SD, ROWS = -1.0, 1.0, 1.5, 20  # ROWS of a site, in the fit and after it
READER_SD, N_READERS = 1.0, 30
SLOPES = np.array([[1.0, 0.0], [0.3, 0.7]])  # Lambda of intercept and slope
DESIGNS = {  # name: random effects, Lambda of sites, nodes of quadrature
    "sites, sd 0.3": ("site", [[0.3]], 9),
    "sites, sd 1": ("site", [[1.0]], 9),
    "sites, sd 3": ("site", [[3.0]], 9),
    "sites with slopes": ({"site": ["1", "x"]}, SLOPES, 5),
    "known readers, sites of sd 1": (["reader", "site"], [[1.0]], 1),
}


def main():
    options = read_options()
    n_sets, n_sites, n_new = (2, 500, 1000) if options.quick else (20, 5000, 10000)
    lines, off = [], []
    for seed, name in enumerate(DESIGNS):
        start = perf_counter()
        for prediction, found in study(name, n_sets, n_sites, n_new, seed).items():
            cells = [f"{value:.3f} ({error:.3f})" for value, error in found]
            lines.append(f"| {' | '.join([name, prediction, *cells])} |")
            print(lines[-1], f"{perf_counter() - start:.1f} s", flush=True)
            if prediction == "averaged":
                off.append(max(abs(value - 1) for value, _ in found))
    options.output.mkdir(exist_ok=True)
    stem = "calibration-quick" if options.quick else "calibration"
    text = markdown(lines, max(off), n_sets, n_sites, n_new)
    (options.output / f"{stem}.md").write_text(text)


def read_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    return parser.parse_args()


def study(name, n_sets, n_sites, n_new, seed):
    """{prediction: (calibration slope, its error), (mean found / expected, its error)}."""
    random_effects, Lambda, n_nodes = DESIGNS[name]
    rng = np.random.default_rng(seed)
    parts = {}
    for i in range(n_sets):
        readers = READER_SD * rng.standard_normal(N_READERS) * ("reader" in random_effects)
        X, y = simulate(np.array(Lambda), readers, n_sites, 0, rng)
        new, y_new = simulate(np.array(Lambda), readers, n_new, n_sites, rng)
        columns = X.columns.drop([] if "reader" in random_effects else "reader")
        for prediction, p in predictions(random_effects, n_nodes, X[columns], y, new[columns]):
            part = pd.DataFrame({"p": p, "y": y_new, "site": i * n_new + new["site"]})
            parts.setdefault(prediction, []).append(part)
    return {prediction: calibration(pd.concat(rows)) for prediction, rows in parts.items()}


def simulate(Lambda, readers, n_sites, first, rng):
    """Rows of sites that are numbered from `first`, and their outcomes."""
    site = np.repeat(np.arange(n_sites), ROWS)
    b = rng.standard_normal((n_sites, len(Lambda))) @ Lambda.T
    reader = rng.integers(len(readers), size=len(site))
    x = X_SD * rng.standard_normal(len(site))
    z = np.column_stack([np.ones(len(site)), x])[:, : len(Lambda)]
    eta = INTERCEPT + SLOPE * x + (z * b[site]).sum(axis=1) + readers[reader]
    X = pd.DataFrame({"site": first + site, "reader": reader, "x": x})
    return X, rng.binomial(1, expit(eta))


def predictions(random_effects, n_nodes, X, y, new):
    """Name and probabilities of each way to predict rows of new sites."""
    for nodes in sorted({n_nodes, 1}, reverse=True):
        model = LogisticMixedModel(random_effects, n_quadrature=nodes).fit(X, y)
        by_laplace = ", fit by Laplace" if nodes < n_nodes else ""
        yield f"averaged{by_laplace}", model.predict_proba(new)[:, 1]
        if nodes == n_nodes:
            model.handle_unknown = "population"
            yield "effect zero", model.predict_proba(new)[:, 1]


def calibration(rows):
    """Slope of y on logit p, and mean of y over mean of p, each with its error by sites."""
    Z = np.column_stack([np.ones(len(rows)), logit(rows["p"])])
    fit = LogisticMixedModel().fit(Z[:, 1:], rows["y"])
    p = fit.predict_proba(Z[:, 1:])[:, 1]
    bread = np.linalg.inv((Z * (p * (1 - p))[:, None]).T @ Z)
    score = Z * (rows["y"] - p).to_numpy()[:, None]
    scores = pd.DataFrame(score).groupby(rows["site"].to_numpy()).sum().to_numpy()
    error = np.sqrt((bread @ (scores.T @ scores) @ bread)[1, 1])
    gap = (rows["y"] - rows["p"]).groupby(rows["site"]).sum()
    total = rows["p"].sum()
    return (fit.coef_[0], error), (rows["y"].sum() / total, np.sqrt((gap**2).sum()) / total)


def markdown(lines, off, n_sets, n_sites, n_new):
    return "\n".join(
        [
            "# Calibration at new sites",
            "",
            f"Slope: of a logistic regression of the outcome on the logit of the prediction. Mean: "
            f"share found over share expected. Both are 1 if the probabilities are right; standard "
            f"errors, by the new sites, in brackets; they do not count that the fit has errors of "
            f"its own. {n_sets} data sets a design, each {n_sites} sites of "
            f"{ROWS} rows in the fit and {n_new} new sites of {ROWS} rows after it. Fits by "
            f"adaptive quadrature, with 9 nodes (slopes: 5 x 5), unless marked; with two factors "
            f"there is Laplace's approximation only.",
            "",
            f"Averaged over sites, slope and mean are within {off:.3f} of 1 in all designs.",
            "",
            "| random effects | prediction | slope | mean |",
            "|---|---|--:|--:|",
            *lines,
            "",
        ]
    )


if __name__ == "__main__":
    main()
