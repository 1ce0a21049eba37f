"""A race: several packages fit the same models in turn, each fit in a process of its own.

What `linear.py` and `generalized.py` share: options, the order of the processes, and the files.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import scipy
from _data import formula
from _judge import judge
from _measure import measure, save_task
from _tables import markdown

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Race:
    """One comparison: name of its script and results, text of its report, models and packages."""

    name: str
    title: str
    rules: str
    workloads: dict
    peers: str  # module with PACKAGES and ADAPTERS
    reference_ml: str | None = None  # adapter, run untimed, to judge packages that have ML only

    @property
    def packages(self):
        return import_module(self.peers).PACKAGES


def run(race, description):
    """Read the command line, run what it asks for, and write after every workload."""
    options = read_options(race, description)
    stem = options.output / (f"{race.name}-quick" if options.quick else race.name)
    results = earlier_results(stem.with_suffix(".json"), options.quick)
    for name in options.only:
        done = results["workloads"].setdefault(name, {"packages": {}})
        new = run_workload(race, name, options)
        done.update(new, packages=done["packages"] | new["packages"])
        judge(done["packages"], done["reference_ml"])
        write(race, results, stem)


def read_options(race, description):
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--only", type=_names(race.workloads), default=list(race.workloads))
    add_common_options(parser, race.packages)
    parser.add_argument("--seconds", type=float, default=8, help="of fits for each package")
    parser.add_argument("--rounds", type=int, help="processes for each package (3; quick: 1)")
    return settle(parser.parse_args())


def add_common_options(parser, packages):
    """Options that `scaling.py` has as well."""
    parser.add_argument("--packages", type=_names(packages), default=list(packages))
    parser.add_argument("--limit", type=float, default=300, help="seconds of a process")
    parser.add_argument("--memory", type=float, default=12, help="GB of a process")
    if "lme4-blas" in packages:
        parser.add_argument("--blas", type=Path, help="shared library preloaded for lme4-blas")
    parser.add_argument("--quick", action="store_true", help="small versions")
    parser.add_argument("--output", type=Path, default=RESULTS)


def settle(options):
    """What follows from the other options."""
    options.blas = getattr(options, "blas", None)
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


def run_workload(race, name, options):
    """All packages in turn, several rounds, each round from another package on."""
    task = race.workloads[name].task(options.quick)
    outputs = 1 if task.y.ndim == 1 else task.y.shape[1]
    records, packages = {}, list(options.packages)
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder)
        save_task(task, files)
        for turn in range(options.rounds):
            for package in packages[turn:] + packages[:turn]:
                add_run(race, records, package, files, outputs, options)
            print(name, *(f"{p}: {r['status']}" for p, r in records.items()), sep="  ", flush=True)
        reference = _reference_ml(race, records, files, options)
    return {
        "title": race.workloads[name].title + (" (small version)" if options.quick else ""),
        "formula": formula(task),
        "rows": len(task.table),
        "packages": records,
        "reference_ml": reference,
    }


def add_run(race, records, package, files, outputs, options):
    """One more process, unless the first one failed or a fit is long."""
    before = records.get(package)
    share = options.seconds / options.rounds
    if before and (before["status"] != "ok" or before["runs"][0]["walls"][0] > share):
        return
    load = os.getloadavg()[0]
    new = one_run(race, package, files, options, seconds=share)
    fits = {"walls": new.pop("walls", []), "cpus": new.pop("cpus", []), "load": load}
    if before is None:
        common = {"criterion": race.packages[package].criterion, "outputs": outputs}
        records[package] = {**new, **common, "runs": [fits]}
    elif new["status"] == "ok":
        before["runs"].append(fits)


def one_run(race, package, files, options, seconds):
    record = measure(
        package,
        files,
        peers=race.peers,
        seconds=seconds,
        limit=options.limit,
        memory_gb=options.memory,
        blas=options.blas,
    )
    if package == "lme4-blas":
        record["note"] = "; ".join(filter(None, [options.blas.resolve().name, record["note"]]))
    return record


def _reference_ml(race, records, files, options):
    """The fit that packages with ML only are compared with, where one of them came through."""
    if not any(r["status"] == "ok" and r["criterion"] == "ML" for r in records.values()):
        return None
    found = one_run(race, race.reference_ml, files, options, seconds=0)
    return found if found["status"] == "ok" else None


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


def write(race, results, stem):
    """After every workload, so that nothing is lost when a run is stopped."""
    order = [name for name in race.workloads if name in results["workloads"]]
    results["workloads"] = {name: results["workloads"][name] for name in order}
    stem.with_suffix(".json").write_text(json.dumps(results) + "\n")
    stem.with_suffix(".md").write_text(markdown(results, race))
