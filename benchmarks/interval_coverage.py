"""How often 95 % intervals of fixed effects cover the truth, by simulation.

    python benchmarks/interval_coverage.py            # 2000 data sets a design; 15 minutes
    python benchmarks/interval_coverage.py --quick    # 200 data sets, fewer bootstraps

Half of the groups are treated (a coefficient between groups) and every group has rows over time
(a coefficient within groups); the effects of groups are an intercept, or an intercept and a slope.
Every data set of a design is an output of one fit. The bootstrap is parametric, percentiles of 500
replicates, for a part of the data sets. Results go to `results/interval_coverage.md`. Where slopes
are weak their variance is often estimated at zero, and Kenward-Roger, which counts it all the same,
covers more than it should with few groups.
"""

import argparse
from itertools import product
from pathlib import Path
from time import perf_counter

import numpy as np
from scipy import stats

from sklme._engine import dof, lmm
from sklme._engine.covariance import Structure
from sklme._engine.design import Design, Factor
from sklme._engine.profile import deviance_at, find_ends
from sklme._engine.simulate import draw, draw_rows, kept_gram, refit
from sklme._engine.units import coefficient_map

GROUPS = (6, 10, 20, 50)
TRUTH = np.array([0.0, 0.5, 0.3])  # intercept, treated, time
EFFECTS = {  # Lambda of the effects of groups; the residual variance is 1
    "intercept": [[1.0]],
    "intercept, slope": [[1.0, 0.0], [0.3, 2.0]],  # about as large as in sleepstudy
    "intercept, weak slope": [[1.0, 0.0], [0.1, 0.4]],  # its variance is often estimated at zero
}
ASKED = ("treated", "time")
METHODS = ("Wald, normal", "Satterthwaite", "Kenward-Roger", "profile", "bootstrap")


def main():
    options = read_options()
    n, n_boot = (200, 50) if options.quick else (2000, 300)
    lines = []
    designs = product(EFFECTS.items(), ("balanced", "unbalanced"), GROUPS)
    for seed, ((what, Lambda), rows, groups) in enumerate(designs):
        start, rng = perf_counter(), np.random.RandomState(seed)
        Lambda = np.array(Lambda)
        design = make_design(groups, rows == "balanced", len(Lambda), rng)
        found = coverage(design, Lambda, n, n_boot, rng)
        for j, name in enumerate(ASKED):
            cells = [f"{100 * found[method][j]:.1f}" for method in METHODS]
            lines.append(f"| {' | '.join([what, rows, str(groups), name, *cells])} |")
            print(lines[-1], f"{perf_counter() - start:.1f} s", flush=True)
    options.output.mkdir(exist_ok=True)
    stem = "interval_coverage-quick" if options.quick else "interval_coverage"
    (options.output / f"{stem}.md").write_text(markdown(lines, n, n_boot))


def read_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    return parser.parse_args()


def make_design(groups, balanced, k, rng):
    """Six rows a group, or 2 to 12; time from 0 to 1 within each group."""
    sizes = np.full(groups, 6) if balanced else rng.randint(2, 13, groups)
    codes = np.repeat(np.arange(groups), sizes)
    time = np.concatenate([np.linspace(0.0, 1.0, size) for size in sizes])
    X = np.column_stack([codes % 2, time]).astype(float)
    z = np.column_stack([np.ones(len(codes)), time])[:, :k]
    return Design(X, (Factor(codes, groups, z),))


def coverage(design, Lambda, n, n_boot, rng):
    """{method: share of the data sets whose intervals cover, for each of ASKED}."""
    k = design.factors[0].k
    structures = (Structure(k, (tuple(range(k)),)),)
    fits = fit_all(design, structures, Lambda, n, rng)
    C = coefficient_map(fits)[1:]  # rows of ASKED
    estimate = fits.beta @ C.T * fits.frame.y_scale[:, None]
    half = np.array([half_widths(fits, r) for r in range(n)])  # (n, method, coefficient)
    truth = TRUTH[1:]
    out = {
        method: (np.abs(estimate - truth) <= half[:, i]).mean(axis=0)
        for i, method in enumerate(METHODS[:3])
    }
    ends = profile_ends(fits, C)
    out["profile"] = ((ends[0] <= truth) & (truth <= ends[1])).mean(axis=0)
    boot = np.array([bootstrap_covers(fits, r, C, rng) for r in range(n_boot)])
    out["bootstrap"] = boot.mean(axis=0)
    return out


def fit_all(design, structures, Lambda, n, rng):
    """One REML fit of n responses drawn at the truth."""
    plain = lmm.fit(design, rng.standard_normal((design.n_rows, 1)), structures)
    Lambda = np.linalg.solve(plain.frame.z_maps[0], Lambda)
    Y = draw_rows(design, [Lambda], plain.frame, n, rng)
    return lmm.fit(design, Y + (TRUTH[0] + design.X @ TRUTH[1:])[:, None], structures)


def half_widths(fits, r):
    """Half the width of the first three intervals, (3, 2)."""
    L = np.eye(3)[1:]
    out = []
    for kind in ("normal", "satterthwaite", "kenward-roger"):
        rows = dof.make_tests(fits, r, kind).rows(L)
        out.append(stats.t.ppf(0.975, np.maximum(rows.dof, 1e-3)) * rows.std_error)
    return np.array(out)


def profile_ends(fits, C):
    """Both ends for all data sets at once, (2, n, 2)."""
    best = refit(fits.gram, fits.structures, reml=False)
    height = stats.chi2.ppf(0.95, 1)
    ends = np.empty((2, len(best.s2), len(C)))
    for j, c in enumerate(C):

        def rise(values, c=c):
            return deviance_at(fits.gram, fits.structures, c, values) - best.criterion

        error = np.sqrt(best.s2 * np.einsum("a,rab,b->r", c, np.linalg.inv(best.xvx), c))
        for i, side in enumerate((-1, 1)):
            found = find_ends(rise, best.beta @ c, side * error, height)
            ends[i, :, j] = found * fits.frame.y_scale
    return ends


def bootstrap_covers(fits, r, C, rng, n_replicates=500):
    """Whether the percentiles of the parametric bootstrap cover, for each of ASKED."""
    statistics = kept_gram(fits, r)
    drawn = draw(statistics, [fits.Lambdas[0][r]], n_replicates, rng)
    found = refit(drawn, fits.structures, reml=True)
    sigma = np.sqrt(fits.s2[r])
    beta = (fits.beta[r] + sigma * found.beta) @ C.T * fits.frame.y_scale[r]
    low, high = np.quantile(beta, [0.025, 0.975], axis=0)
    return (low <= TRUTH[1:]) & (TRUTH[1:] <= high)


def markdown(lines, n, n_boot):
    error = 100 * np.sqrt(0.95 * 0.05 / np.array([n, n_boot]))
    head = ["effects by group", "rows", "groups", "coefficient", *METHODS]
    return "\n".join(
        [
            "# Coverage of 95 % intervals of fixed effects, in per cent",
            "",
            f"{n} data sets a design (standard error {error[0]:.1f}), {n_boot} for the bootstrap "
            f"({error[1]:.1f}). REML; the profile is on the ML criterion. Weak slopes are often "
            f"estimated without variance; Kenward-Roger then covers too much with few groups.",
            "",
            f"| {' | '.join(head)} |",
            "|---|---|--:|---|" + "--:|" * len(METHODS),
            *lines,
            "",
        ]
    )


if __name__ == "__main__":
    main()
