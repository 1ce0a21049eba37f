"""Nonlinear mixed models against NONMEM, Monolix and pynlme, one thread.

    python benchmarks/nonlinear.py                                    # classic tables; two minutes
    python benchmarks/nonlinear.py --runs FOLDER --tables FOLDER      # and runs of NONMEM
    python benchmarks/nonlinear.py --warfarin TABLE                   # and warfarin by SAEM
    python benchmarks/nonlinear.py --quick                            # few repetitions: a trial

`--runs` has runN001.ctl and runN001.ext and so on (nlmixr2test, NONMEM 7.4.3), `--tables` their
tables (package nlmixr2data of R); TABLE is warfarin as Monolix ships it (id, time, amt, dv, dvid,
wt, sex, age). Estimates of Monolix 2023R1 and of NONMEM 7.5.1 are written below. pynlme is timed
where it is installed, with all its rows in one call of the model. Results go to
`results/nonlinear.md`.
"""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy is imported

import argparse  # noqa: E402
import warnings  # noqa: E402
from pathlib import Path  # noqa: E402
from time import perf_counter  # noqa: E402

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from _nonmem_runs import read_run  # noqa: E402

from sklme.datasets import load_phenobarbital, load_theophylline  # noqa: E402
from sklme.nonlinear import Covariate, NonlinearMixedModel, Parameter  # noqa: E402
from sklme.nonlinear.resampling import bootstrap  # noqa: E402
from sklme.pharmacokinetics import Dosing, OneCompartment  # noqa: E402

HERE = Path(__file__).parent
RUNS = ("N001", "N002", "N004", "N012", "N023", "N026", "N032")
START = {"KA": 1.5, "CL": 2.7, "V": 31.0}  # of theophylline
# NONMEM 7.5.1, FOCEI: objective; CL, V, Apgar below 5; their standard errors; omega^2; sigma^2
PHENOBARBITAL = (
    586.27605628,
    (0.00469555, 0.984258, 0.158920),
    (2.09967e-4, 0.0268946, 0.0837555),
    (0.0293508, 0.0279060),
    0.0132410,
)
# Monolix 2023R1: TLAG, KA, V, CL; standard errors; omega; a, b; -2 log L by importance sampling
WARFARIN = {
    "base": (
        (0.764, 1.46, 7.96, 0.132),
        (0.42, 0.57, 0.33, 0.0069),
        (0.605, 1.08, 0.223, 0.286),
        (0.247, 0.0503),
        657.36,
    ),
    "weight on V and CL": (
        (0.780, 1.36, 8.06, 0.134),
        (0.178, 0.41, 0.22, 0.0064),
        (0.542, 0.850, 0.137, 0.264),
        (0.239, 0.0527),
        None,
    ),
    "sex on V and CL": (
        (0.771, 1.43, 8.47, 0.134),
        (0.264, 0.44, 0.30, 0.0075),
        (0.619, 0.993, 0.167, 0.285),
        (0.248, 0.0509),
        641.68,
    ),
}


def main():
    options = read_options()
    n = 3 if options.quick else 15
    sections = [times(n, 20 if options.quick else 500), phenobarbital()]
    if options.runs:
        sections.append(nonmem(options.runs, options.tables, 1 if options.quick else 3))
    if options.warfarin:
        sections.append(warfarin(pd.read_csv(options.warfarin, na_values=".")))
    options.output.mkdir(exist_ok=True)
    stem = "nonlinear-quick" if options.quick else "nonlinear"
    text = "\n".join(["# Nonlinear mixed models", "", *(line for s in sections for line in s)])
    (options.output / f"{stem}.md").write_text(text + "\n")
    print(text)


def read_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, help="folder of control streams and .ext files")
    parser.add_argument("--tables", type=Path, help="folder of their tables")
    parser.add_argument("--warfarin", type=Path, help="the table")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path, default=HERE / "results")
    return parser.parse_args()


def median_time(call, n):
    """The median of n calls after a first one, and what the last gave."""
    result, walls = call(), []
    for _ in range(n):
        begin = perf_counter()
        result = call()
        walls.append(perf_counter() - begin)
    return float(np.median(walls)), result


# Theophylline: who is how fast ------------------------------------------------------------------


def times(n, n_bootstraps):
    """Rows of packages and methods, with what they find."""
    X, y = load_theophylline(return_X_y=True)
    given, plain = {"parameters": START}, {"standard_errors": None}
    fits = {
        "FOCEI, found start, standard errors": {},
        "FOCEI, given start, standard errors": given,
        "FOCEI, given start": given | plain,
        "Laplace, given start": given | plain | {"method": "laplace"},
        "Lindstrom-Bates, given start, standard errors": given | {"method": "lindstrom-bates"},
        "SAEM, given start, standard errors, likelihood": given | {"method": "saem"},
    }
    calls = {f"sklme, {what}": ours(X, y, options) for what, options in fits.items()}
    walls, found = take_turns(calls | peers(X, y), n)
    base = walls["sklme, FOCEI, given start, standard errors"]
    lines = [
        "## Theophylline, 12 subjects, 132 rows",
        "",
        f"Median of {n} fits from the table on, one of each in turn; log-normal KA, CL and V,",
        "additive error. Ratio: to FOCEI of sklme from the same start, with standard errors, which",
        "pynlme's FOCE gives too.",
        "",
        "| fit | seconds | ratio | log KA | log CL | log V | objective |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for what, wall in walls.items():
        ka, cl, v, objective = found[what]
        numbers = f"{ka:.5f} | {cl:.5f} | {v:.5f} | {objective}"
        lines.append(f"| {what} | {wall:.3f} | {wall / base:.1f} | {numbers} |")
    return [*lines, "", *bootstraps(X, y, n_bootstraps)]


def take_turns(calls, n):
    """The median time of each of some calls after a first one, and what they gave."""
    found, walls = {name: call() for name, call in calls.items()}, {name: [] for name in calls}
    for _ in range(n):
        for name, call in calls.items():
            begin = perf_counter()
            call()
            walls[name].append(perf_counter() - begin)
    return {name: float(np.median(times)) for name, times in walls.items()}, found


def ours(X, y, options):
    """A fit that gives log KA, CL, V and the objective."""
    model = theophylline(X, **options)

    def call():
        model.fit(X, y)
        linear = options.get("method") == "lindstrom-bates"  # of another objective
        objective = "" if linear else f"{model.objective_:.4f}"
        return (*np.log(model.parameters_["estimate"][list(START)]), objective)

    return call


def theophylline(X, parameters=None, **options):
    first = X.drop_duplicates("Subject")
    dosing = Dosing.single(first["Subject"], first["Dose"] * first["Wt"])
    structure = OneCompartment("first-order")
    roles = {"group": "Subject", "time": "Time", "dosing": dosing}
    return NonlinearMixedModel(structure, parameters, random_state=0, **roles, **options)


def peers(X, y):
    """pynlme, with the rows of all subjects in one call of the model."""
    try:
        import pynlme
    except ImportError:
        return {}
    subject = X["Subject"].to_numpy()
    given = (X["Dose"] * X["Wt"]).to_numpy()
    dose = np.array([[given[subject == one][0]] for one in dict.fromkeys(subject)])
    time = X["Time"].to_numpy(float)[:, None]

    def oral(phi, x, v):
        ka, cl, volume = phi[..., 0], phi[..., 1], phi[..., 2]
        k, t = cl / volume, x[:, 0]
        return v[..., 0] * ka / volume / (ka - k) * (np.exp(-k * t) - np.exp(-ka * t))

    common = (time, y, subject, dose, oral, np.log(list(START.values())))
    options = {"ParamTransform": [1, 1, 1], "Vectorization": "Full"}

    def foce():
        beta, _, stats, _ = pynlme.nlmefit(*common, ApproximationType="FOCE", **options)
        return (*beta, f"{-2.0 * stats.logl - len(y) * np.log(2.0 * np.pi):.4f}")

    def saem():
        return (*pynlme.nlmefitsa(*common, random_state=0, **options)[0], "")

    name = f"pynlme {pynlme.__version__}"
    return {
        f"{name}, FOCE, given start, standard errors": foce,
        f"{name}, SAEM, given start": saem,
    }


def bootstraps(X, y, n):
    """The time of a bootstrap of subjects."""
    model = theophylline(X).fit(X, y)
    begin = perf_counter()
    result = bootstrap(model, X, y, n_bootstraps=n, random_state=0)
    wall = perf_counter() - begin
    table = result.table
    share = (table["std_error"] / table["estimate"]).iloc[:3]
    own = model.parameters_["rse"].iloc[:3]
    shares = ", ".join(f"{k} {share[k]:.3f} ({own[k]:.3f})" for k in share.index)
    return [
        f"{n} bootstraps of subjects: {wall:.1f} s, {1000 * wall / n:.0f} ms each; "
        f"{result.n_failed} failed. Relative standard errors (those of the fit): {shares}.",
        "",
    ]


# References -------------------------------------------------------------------------------------


def phenobarbital():
    """59 infants, FOCEI, sandwich standard errors."""
    infants = load_phenobarbital()
    weight = Covariate("Wt", reference=1.0, initial=1.0, fixed=True)
    apgar = Covariate("ApgarInd", "categorical", reference=">= 5")
    model = NonlinearMixedModel(
        OneCompartment(),
        {"CL": Parameter(covariates=[weight]), "V": Parameter(covariates=[weight, apgar])},
        group="Subject",
        time="time",
        error="proportional",
        dosing=Dosing.from_table(infants.doses),
    )
    time, _ = median_time(lambda: model.fit(infants.data, infants.target), 3)
    objective, theta, errors, omega, sigma2 = PHENOBARBITAL
    table, level = model.parameters_, float(np.exp(model.coef_["V:ApgarInd[< 5]"]))
    found = [*table["estimate"].iloc[:2], level - 1.0]
    own = [*table["std_error"].iloc[:2], level * table["std_error"].iloc[-1]]
    values = [
        ("objective", objective, model.objective_),
        *zip(("CL", "V", "Apgar < 5"), theta, found, strict=True),
        *zip(("SE CL", "SE V", "SE Apgar < 5"), errors, own, strict=True),
        *zip(("omega^2 CL", "omega^2 V"), omega, np.diag(model.omega_), strict=True),
        ("sigma^2", sigma2, model.error_["proportional"] ** 2),
    ]
    lines = [
        "## Phenobarbital, 59 infants, 155 rows",
        "",
        f"NONMEM 7.5.1, FOCEI, standard errors of the sandwich. sklme: {time:.2f} s.",
        "",
        "| | NONMEM | sklme | relative difference |",
        "|---|--:|--:|--:|",
    ]
    for name, theirs, ours in values:
        lines.append(f"| {name} | {theirs:.9g} | {ours:.9g} | {abs(ours / theirs - 1):.1e} |")
    return [*lines, ""]


def nonmem(runs, tables, n):
    """Runs of NONMEM: estimates, objective, standard errors, time."""
    lines = [
        "## Simulated tables of 120 subjects, FOCEI",
        "",
        "NONMEM 7.4.3 and, from its own start and with standard errors, sklme. Differences: of",
        "typical values on the log scale, also in standard errors; relative, of variances and of",
        "standard errors. A negative difference of the objective is a lower one of sklme.",
        "",
        "| run | rows | NONMEM | sklme | difference | theta | in SE | omega^2 | sigma | SE | s |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name in RUNS:
        run = read_run(runs, name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # doses after the last sample
            X, y, dosing = Dosing.from_nonmem(run.read_table(tables))
        model = NonlinearMixedModel(
            run.structure, group="ID", time="TIME", error="proportional", dosing=dosing
        )
        time, _ = median_time(lambda model=model, X=X, y=y: model.fit(X, y), n)
        theta = np.abs(model.coef_.to_numpy() - run.theta)
        omega = np.abs(np.diag(model.omega_) / run.omega - 1.0).max()
        sigma = abs(model.error_["proportional"] / run.sigma - 1.0)
        errors = np.abs(model.parameters_["rse"].to_numpy() / run.errors - 1.0).max()
        cells = [
            f"{len(y)} | {run.objective:.4f} | {model.objective_:.4f}",
            f"{model.objective_ - run.objective:+.4f} | {theta.max():.1e}",
            f"{(theta / run.errors).max():.3f} | {omega:.1e} | {sigma:.1e} | {errors:.1e}",
        ]
        lines.append(f"| {name} | {' | '.join(cells)} | {time:.2f} |")
        print(lines[-1], flush=True)
    return [*lines, ""]


def warfarin(table):
    """Concentrations of warfarin after one dose, lag time, error (a + b f)^2, by SAEM."""
    samples = table[(table["dvid"] == 1) & table["dv"].notna()]
    doses = table[table["amt"].notna()]
    dosing = Dosing(doses["id"], amount=doses["amt"], time=doses["time"])
    X, y = samples[["id", "time", "wt", "sex"]], samples["dv"].to_numpy(float)
    covariates = {
        "base": [],
        "weight on V and CL": [Covariate("wt", reference=70.0)],
        "sex on V and CL": [Covariate("sex", "categorical", reference=1)],
    }
    lines = [
        "## Warfarin, 32 subjects, 251 rows, SAEM",
        "",
        "Monolix 2023R1 above sklme; standard errors in brackets, of Monolix by linearisation.",
        "",
        "| | TLAG | KA | V | CL | omega TLAG | KA | V | CL | a | b | -2 log L | s |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, (theta, errors, omega, ab, likelihood) in WARFARIN.items():
        parameters = {key: Parameter() for key in ("TLAG", "KA")} | {
            key: Parameter(covariates=covariates[name]) for key in ("V", "CL")
        }
        model = NonlinearMixedModel(
            OneCompartment("first-order", lag=True),
            parameters,
            group="id",
            time="time",
            error="combined1",
            method="saem",
            dosing=dosing,
            random_state=0,
        )
        begin = perf_counter()
        model.fit(X, y)
        wall = perf_counter() - begin
        found, order = model.parameters_.loc[["TLAG", "KA", "V", "CL"]], ["TLAG", "KA", "V", "CL"]
        sd = np.sqrt(pd.Series(np.diag(model.omega_), list(model.omega_)))[order]
        reference = "" if likelihood is None else f"{likelihood:.2f}"
        own = f"{-2.0 * model.log_likelihood_:.2f}"
        rows = [
            ("Monolix", theta, errors, omega, ab, reference, ""),
            (
                "sklme",
                found["estimate"],
                found["std_error"],
                sd,
                (model.error_["additive"], model.error_["proportional"]),
                own,
                f"{wall:.1f}",
            ),
        ]
        for who, values, se, omegas, sigmas, minus2, time in rows:
            pairs = [f"{v:.3g} ({s:.2g})" for v, s in zip(values, se, strict=True)]
            numbers = [f"{v:.3f}" for v in omegas] + [f"{v:.3g}" for v in sigmas]
            lines.append(f"| {name}, {who} | {' | '.join([*pairs, *numbers, minus2, time])} |")
        print(*lines[-2:], sep="\n", flush=True)
    return [*lines, ""]


if __name__ == "__main__":
    main()
