"""Cost of tests of fixed effects after a fit: Satterthwaite and Kenward-Roger.

    python benchmarks/dof.py            # about two minutes
    python benchmarks/dof.py --quick    # a trial

Every time is the best of some runs of a fit, or of the coefficient table of a fit that is already
there. The goals: Kenward-Roger on 45 000 rows of 3000 subjects with slopes below two seconds, fit
included, where R's pbkrtest needs matrices of 45 000 x 45 000; and the table of a million rows with
Satterthwaite below twice the time of its fit. Results go to `results/dof.md`.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from _data import crossed, insteval, maximal, slopes

from sklme import LinearMixedModel
from sklme.inference.coefficients import coefficient_table

CASES = {  # title: (make, arguments, those of a trial)
    "slopes, 3000 subjects": (
        slopes,
        {"rows": 45_000, "groups": 3000},
        {"rows": 4500, "groups": 300},
    ),
    "slopes, 100 000 subjects": (slopes, {"rows": 1_000_000}, {"rows": 20_000}),
    "maximal, 56 subjects x 32 items": (maximal, {}, {}),
    "crossed, 1581 x 632": (crossed, {"rows": 10_000}, {"rows": 2000}),
    "InstEval, 2972 x 1128 x 14": (insteval, {}, None),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small tables")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    lines = [
        "# Seconds of the coefficient table after a fit, one thread",
        "",
        "| model | rows | fit | Satterthwaite | Kenward-Roger | dof |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for title, (make, full, trial) in CASES.items():
        arguments = trial if options.quick else full
        if arguments is not None:
            lines.append(row(title, make(**arguments)))
            print(lines[-1], flush=True)
    options.output.mkdir(parents=True, exist_ok=True)
    name = "dof-quick.md" if options.quick else "dof.md"
    (options.output / name).write_text("\n".join(lines) + "\n")


def row(title, task):
    model = LinearMixedModel({key: list(terms) for key, terms in task.random.items()})
    seconds = [best(lambda: model.fit(task.table, task.y))]
    for dof in ("satterthwaite", "kenward-roger"):
        seconds.append(best(lambda dof=dof: coefficient_table(model, dof=dof)))
    found = coefficient_table(model)["dof"]
    cells = " | ".join(f"{s:.3g}" for s in seconds)
    return f"| {title} | {len(task.y):,} | {cells} | {found.min():.6g} to {found.max():.6g} |"


def best(function, most=3, enough=5.0):
    """The quickest of up to `most` runs, fewer where they take long."""
    times = []
    while len(times) < most and sum(times) < enough:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
