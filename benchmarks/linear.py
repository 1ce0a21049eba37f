"""Time linear mixed models of sklme and of other packages, side by side in one run.

    python benchmarks/linear.py                       # everything; one to two hours
    python benchmarks/linear.py --quick               # small versions, a few minutes
    python benchmarks/linear.py --only chem97,pastes --packages sklme,glmm

See README.md in this folder. Results go to `results/linear.md` and `results/linear.json`.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy
from _data import WORKLOADS, formula
from _judge import judge
from _measure import measure, save_task
from _peers import PACKAGES, REFERENCE_ML
from _tables import markdown

RESULTS = Path(__file__).resolve().parent / "results"


def main():
    options = read_options()
    stem = options.output / ("linear-quick" if options.quick else "linear")
    results = earlier_results(stem.with_suffix(".json"), options.quick)
    for name in options.only:
        done = results["workloads"].setdefault(name, {"packages": {}})
        run = run_workload(name, options)
        done.update(run, packages=done["packages"] | run["packages"])
        judge(done["packages"], done["reference_ml"])
        write(results, stem)


def read_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=_names(WORKLOADS), default=list(WORKLOADS))
    add_common_options(parser)
    parser.add_argument("--seconds", type=float, default=8, help="of fits for each package")
    parser.add_argument("--rounds", type=int, help="processes for each package (3; quick: 1)")
    return settle(parser.parse_args())


def add_common_options(parser):
    """Options that `scaling.py` has as well."""
    parser.add_argument("--packages", type=_names(PACKAGES), default=list(PACKAGES))
    parser.add_argument("--limit", type=float, default=300, help="seconds of a process")
    parser.add_argument("--memory", type=float, default=12, help="GB of a process")
    parser.add_argument("--blas", type=Path, help="shared library preloaded for lme4-blas")
    parser.add_argument("--quick", action="store_true", help="small versions")
    parser.add_argument("--output", type=Path, default=RESULTS)


def settle(options):
    """What follows from the other options."""
    if options.blas is None and "lme4-blas" in options.packages:
        options.packages.remove("lme4-blas")
    if "rounds" in options and options.rounds is None:
        options.rounds = 1 if options.quick else 3
    options.output.mkdir(parents=True, exist_ok=True)
    return options


def _names(known):
    def read(text):
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"no {unknown[0]!r}; there are {', '.join(known)}")
        return names

    return read


def run_workload(name, options):
    """All packages in turn, several rounds, each round from another package on."""
    task = WORKLOADS[name].task(options.quick)
    outputs = 1 if task.y.ndim == 1 else task.y.shape[1]
    records, packages = {}, list(options.packages)
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder)
        save_task(task, files)
        for turn in range(options.rounds):
            for package in packages[turn:] + packages[:turn]:
                add_run(records, package, files, outputs, options)
            print(name, *(f"{p}: {r['status']}" for p, r in records.items()), sep="  ", flush=True)
        with_ml = any(r["status"] == "ok" and r["criterion"] == "ML" for r in records.values())
        reference = one_run(REFERENCE_ML, files, options, seconds=0) if with_ml else None
    return {
        "title": WORKLOADS[name].title + (" (small version)" if options.quick else ""),
        "formula": formula(task),
        "rows": len(task.table),
        "packages": records,
        "reference_ml": reference if reference and reference["status"] == "ok" else None,
    }


def add_run(records, package, files, outputs, options):
    """One more process, unless the first one failed or a fit is long."""
    before = records.get(package)
    share = options.seconds / options.rounds
    if before and (before["status"] != "ok" or before["runs"][0]["walls"][0] > share):
        return
    load = os.getloadavg()[0]
    new = one_run(package, files, options, seconds=share)
    run = {"walls": new.pop("walls", []), "cpus": new.pop("cpus", []), "load": load}
    if before is None:
        common = {"criterion": PACKAGES[package].criterion, "outputs": outputs}
        records[package] = {**new, **common, "runs": [run]}
    elif new["status"] == "ok":
        before["runs"].append(run)


def one_run(package, files, options, seconds):
    record = measure(
        package,
        files,
        seconds=seconds,
        limit=options.limit,
        memory_gb=options.memory,
        blas=options.blas,
    )
    if package == "lme4-blas":
        record["note"] = "; ".join(filter(None, [options.blas.resolve().name, record["note"]]))
    return record


def earlier_results(path, quick):
    """What an earlier run on this machine wrote, so that parts can be run again."""
    here = {"quick": quick, "machine": machine(), "workloads": {}}
    if not path.exists():
        return here
    old = json.loads(path.read_text())
    same = old["machine"] | {"date": ""} == here["machine"] | {"date": ""}
    return old | {"machine": here["machine"]} if same else here


def machine():
    """Where this runs: processor, memory, system and the versions that all packages share."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GB",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "BLAS": f"{blas['name']} {blas['version']}",
    }


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")


def write(results, stem):
    """After every workload, so that nothing is lost when a run is stopped."""
    order = [name for name in WORKLOADS if name in results["workloads"]]
    results["workloads"] = {name: results["workloads"][name] for name in order}
    stem.with_suffix(".json").write_text(json.dumps(results) + "\n")
    stem.with_suffix(".md").write_text(markdown(results))


if __name__ == "__main__":
    main()
