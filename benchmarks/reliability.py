"""Intraclass correlations of 10 000 features against loops of other packages, one thread.

    python benchmarks/reliability.py                          # three minutes
    python benchmarks/reliability.py --quick                  # a trial, not a result
    python benchmarks/reliability.py --prostate TABLE.csv.gz  # and shares of a real retest table

Complete tables: ICC(A,1) with intervals, by sklme for all features and by pingouin for some.
Incomplete tables: subjects who lack a session, by sklme with likelihood intervals and by lme4 for
some features, without intervals. Then how often intervals of incomplete tables cover the truth.
Times of the others are reckoned for all features from those that were timed. TABLE has columns
patient, session, segmentedStructure, and features (QIN-PROSTATE-Repeatability, Schwier et al.
2019). Results go to `results/reliability.md`.
"""

import argparse
import os
import subprocess
import tempfile
import warnings
from pathlib import Path
from shutil import which
from time import perf_counter

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from sklme.reliability import intraclass_correlation

HERE = Path(__file__).parent
SUBJECTS, SESSIONS = 100, 2
LME4 = """\
suppressMessages(library(lme4))
Y <- as.matrix(read.csv("Y.csv"))
ids <- read.csv("ids.csv")
fit <- function(j) suppressMessages(
  lmer(y ~ 1 + (1 | subject) + (1 | session), data.frame(ids, y = Y[, j])))
invisible(fit(1))
start <- Sys.time()
found <- sapply(seq_len(ncol(Y)), function(j) {
  v <- as.data.frame(VarCorr(fit(j)))$vcov
  v[1] / sum(v)
})
cat(as.numeric(difftime(Sys.time(), start, units = "secs")), found, sep = "\\n")
"""
# (name, subjects, sessions, share of lost measurements, share of variance of subjects, of sessions)
DESIGNS = [
    ("15 subjects, 2 sessions", 15, 2, 0.15, 0.75, 0.02),
    ("15 subjects, 2 sessions that differ", 15, 2, 0.15, 0.75, 0.15),
    ("40 subjects, 2 sessions", 40, 2, 0.15, 0.90, 0.03),
    ("20 subjects, 4 raters", 20, 4, 0.25, 0.50, 0.10),
    ("20 subjects, 4 raters who differ", 20, 4, 0.25, 0.75, 0.15),
    ("10 subjects, 3 raters", 10, 3, 0.20, 0.90, 0.03),
]
FORMS = ("ICC(1,1)", "ICC(C,1)", "ICC(A,1)")


def main():
    options = read_options()
    p = 1000 if options.quick else 10_000
    X = simulate(SUBJECTS, SESSIONS, p, 0.7, 0.02, np.random.default_rng(0))
    lines = [complete(X, 20 if options.quick else 300)]
    print(lines[-1], flush=True)
    kept = np.random.default_rng(1).random(len(X)) > 0.1
    lines.append(incomplete(X[kept], 10 if options.quick else 50))
    print(lines[-1], flush=True)
    covers = [coverage(design, 200 if options.quick else 4000) for design in DESIGNS]
    print(*covers, sep="\n", flush=True)
    shares = prostate(options.prostate) if options.prostate else []
    print(*shares, sep="\n", flush=True)
    options.output.mkdir(exist_ok=True)
    stem = "reliability-quick" if options.quick else "reliability"
    (options.output / f"{stem}.md").write_text(markdown(lines, covers, shares, p))


def read_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--prostate", type=Path, help="a retest table with four regions")
    parser.add_argument("--output", type=Path, default=HERE / "results")
    return parser.parse_args()


def simulate(n, k, p, subjects, sessions, rng):
    """A table of features with these shares of variance, and means far from zero."""
    ids = pd.DataFrame({"subject": np.repeat(np.arange(n), k), "session": np.tile(np.arange(k), n)})
    Y = np.sqrt(subjects) * rng.standard_normal((n, p))[ids["subject"]]
    Y += np.sqrt(sessions) * rng.standard_normal((k, p))[ids["session"]]
    Y += np.sqrt(1 - subjects - sessions) * rng.standard_normal(Y.shape) + 10.0
    return pd.concat([ids, pd.DataFrame(Y, columns=[f"f{j}" for j in range(p)])], axis=1)


def ours(X, **options):
    """Median seconds of five calls, and the table."""
    times = []
    for _ in range(5):
        start = perf_counter()
        table = intraclass_correlation(X, "subject", "session", **options)
        times.append(perf_counter() - start)
    return float(np.median(times)), table


def complete(X, some):
    """One line: closed forms against the loop of pingouin."""
    import pingouin

    seconds, table = ours(X)
    columns = {"targets": "subject", "raters": "session"}
    found, start = [], perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in table.index[:some]:
            part = X[["subject", "session", name]]
            one = pingouin.intraclass_corr(part, ratings=name, **columns)
            found.append(one["ICC"].iloc[1])
    loop = (perf_counter() - start) / some * len(table)
    gap = np.abs(table["icc"].iloc[:some] - found).max()
    return line("complete", f"pingouin {pingouin.__version__}", seconds, loop, some, gap)


def incomplete(X, some):
    """One line: REML with intervals against the loop of lme4 without."""
    seconds, table = ours(X)
    assert (table["method"] == "reml").all()
    if which("Rscript") is None:
        return f"| incomplete | {seconds:.3g} s | lme4 | Rscript is not installed | | | |"
    with tempfile.TemporaryDirectory() as folder:
        X[["subject", "session"]].to_csv(f"{folder}/ids.csv", index=False)
        X.iloc[:, 2 : 2 + some].to_csv(f"{folder}/Y.csv", index=False)
        single = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        out = subprocess.run(
            ["Rscript", "-e", LME4],
            cwd=folder,
            env=single,
            capture_output=True,
            text=True,
            check=True,
        )
    loop, *found = (float(value) for value in out.stdout.split())
    gap = np.abs(table["icc"].iloc[:some] - found).max()
    return line("incomplete", "lme4", seconds, loop / some * len(table), some, gap)


def line(what, peer, seconds, loop, some, gap):
    cells = [what, f"{seconds:.3g} s", peer, f"{loop:.3g} s", str(some)]
    return f"| {' | '.join(cells)} | {loop / seconds:.0f}x | {gap:.0e} |"


def coverage(design, p):
    """One line: the share of intervals that hold the true correlation, by form."""
    name, n, k, lost, subjects, sessions = design
    cells = []
    for form in FORMS:
        rng = np.random.default_rng(2)
        between = 0.0 if form == "ICC(1,1)" else sessions  # measurements are exchangeable there
        X = simulate(n, k, p, subjects, between, rng)
        X = X[rng.random(len(X)) > lost]
        table = intraclass_correlation(X, "subject", "session", form=form, method="reml")
        truth = subjects if form != "ICC(C,1)" else subjects / (1 - sessions)
        held = (table["lower"] <= truth) & (truth <= table["upper"])
        cells.append(f"{held.mean():.3f}")
    return f"| {name} | {subjects:g} | {sessions:g} | {' | '.join(cells)} |"


def prostate(path):
    """Lines: shares of features above 0.75 by estimate and by lower limit, in each region."""
    data = pd.read_csv(path)
    lines = []
    for region, part in data.groupby("segmentedStructure"):
        X = part.drop(columns=["segmentedStructure", "canonicalType"], errors="ignore")
        paired = X.groupby("patient")["session"].transform("size") == 2
        tables = {"complete pairs": X[paired]} | ({} if paired.all() else {"all": X})
        for what, rows in tables.items():
            table = intraclass_correlation(rows, "patient", "session")
            over = [(table[c] > 0.75).mean() for c in ("icc", "lower")]
            cells = [region, what, str(rows["patient"].nunique()), str(len(table))]
            cells += [f"{100 * share:.1f} %" for share in over] + [table["method"].iloc[0]]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def markdown(lines, covers, shares, p):
    parts = [
        "# Intraclass correlations of many features",
        "",
        f"ICC(A,1) of {p} features, {SUBJECTS} subjects by {SESSIONS} sessions; incomplete: a "
        "tenth of the measurements lost. One thread, one run. sklme: all features with intervals, "
        "from the table to the table. pingouin: six forms with intervals, a feature a call. lme4: "
        "the fit of `lmer` alone, without an interval. Theirs are reckoned for all features from "
        "those that were timed. Difference: the largest of those.",
        "",
        "| table | sklme | other | its time | timed | ratio | difference |",
        "|---|--:|---|--:|--:|--:|--:|",
        *lines,
        "",
        "## Coverage of 95 % intervals of incomplete tables",
        "",
        "Limits are exact for the first two forms and those of the profiled likelihood for the "
        "third, which may cover more where raters are few. The one-way tables have no variance of "
        "sessions.",
        "",
        "| table | of subjects | of sessions | " + " | ".join(FORMS) + " |",
        "|---|--:|--:|--:|--:|--:|",
        *covers,
        "",
    ]
    if shares:
        parts += [
            "## Test and retest of prostate MRI",
            "",
            "Share of features whose ICC(A,1), or its lower limit, is above 0.75.",
            "",
            "| region | patients | number | features | estimate | lower limit | method |",
            "|---|---|--:|--:|--:|--:|---|",
            *shares,
            "",
        ]
    return "\n".join(parts)


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
