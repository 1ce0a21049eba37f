"""The parametric bootstrap against a loop of fits.

    python benchmarks/bootstrap.py            # 1000 refits; a minute
    python benchmarks/bootstrap.py --quick    # 100 refits

The loop draws responses by row and calls `fit` for each; where it would take longer than
`--seconds`, a part of it is timed and the rest reckoned. Both give the same standard errors within
the error of simulation. Results go to `results/bootstrap.md`.
"""

import argparse
import warnings
from pathlib import Path
from time import perf_counter

import numpy as np
from _data import slopes

from sklme import LinearMixedModel
from sklme.datasets import load_penicillin, load_sleepstudy
from sklme.inference.resampling import bootstrap


def main():
    options = read_options()
    n = 100 if options.quick else 1000
    lines = []
    for name, model, X, y in workloads(options.quick):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            together, ours = batch(model, n)
            alone, loop = one_by_one(model, X, y, n, options.seconds)
        cells = [f"{together:.3f}", f"{alone:.2f}", f"{alone / together:.0f}", f"{ours:.4g}"]
        lines.append(f"| {name} | {' | '.join(cells)} | {loop:.4g} |")
        print(lines[-1], flush=True)
    options.output.mkdir(exist_ok=True)
    stem = "bootstrap-quick" if options.quick else "bootstrap"
    (options.output / f"{stem}.md").write_text(markdown(lines, n))


def read_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float, default=20, help="of the loop of each workload")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    return parser.parse_args()


def workloads(quick):
    """(name, fitted model, X, y)."""
    X, y = load_sleepstudy(return_X_y=True)
    yield "sleepstudy, slopes", fitted({"Subject": ["1", "Days"]}, X, y), X, y
    X, y = load_penicillin(return_X_y=True)
    yield "penicillin, crossed", fitted(["plate", "sample"], X, y), X, y
    task = slopes(rows=1000 if quick else 10_000)
    X, y = task.table, task.y
    random_effects = {key: list(terms) for key, terms in task.random.items()}
    name = f"{len(y)} rows, slopes by {X['g'].nunique()} groups"
    yield name, fitted(random_effects, X, y), X, y


def fitted(random_effects, X, y):
    return LinearMixedModel(random_effects=random_effects).fit(X, y)


def batch(model, n):
    """Median seconds of three calls, and the standard error of the last coefficient."""
    times = []
    for seed in range(3):
        start = perf_counter()
        result = bootstrap(model, n_bootstraps=n, random_state=seed)
        times.append(perf_counter() - start)
    return float(np.median(times)), result.table["std_error"].loc[last_coefficient(model)]


def last_coefficient(model):
    return (model.fixed_names_ or ["(Intercept)"])[-1]


def one_by_one(model, X, y, n, seconds):
    """Seconds of n fits to responses drawn by row, and the same standard error."""
    rng = np.random.RandomState(0)
    expected = model.predict_population(X)
    found, start = [], perf_counter()
    while len(found) < n and perf_counter() - start < seconds:
        new = LinearMixedModel(random_effects=model.random_effects)
        new.fit(X, expected + new_errors(model, X, rng))
        found.append(new.coef_[-1] if len(new.coef_) else new.intercept_)
    return (perf_counter() - start) * n / len(found), np.std(found, ddof=1)


def new_errors(model, X, rng):
    """New effects of the levels and new residuals."""
    out = np.sqrt(model.residual_variance_) * rng.standard_normal(len(X))
    for term in model._terms:
        codes = X[term.key].factorize()[0]
        root = np.linalg.cholesky(model.covariance_[term.key])
        b = rng.standard_normal((codes.max() + 1, len(root))) @ root.T
        for a, slope in enumerate(term.slopes):
            out += b[codes, a] * (1.0 if slope is None else X[slope].to_numpy())
    return out


def markdown(lines, n):
    return "\n".join(
        [
            f"# {n} refits of the parametric bootstrap, seconds",
            "",
            "| model | bootstrap | loop of fits | ratio | std. error | of the loop |",
            "|---|--:|--:|--:|--:|--:|",
            *lines,
            "",
        ]
    )


if __name__ == "__main__":
    main()
