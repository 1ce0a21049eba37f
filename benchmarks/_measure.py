"""One measurement: a fresh process with one thread, a time limit and a memory limit.

As a script this file is that process: ``python _measure.py PACKAGE TASK SECONDS RESULT PEERS``.
"""

import gc
import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from importlib import import_module
from pathlib import Path

THREADS = ("OMP", "OPENBLAS", "MKL", "BLIS", "RAYON", "NUMBA", "VECLIB_MAXIMUM", "NUMEXPR")
HERE = Path(__file__).resolve().parent
MOST_FITS = 1000  # of one process
KEPT = 50  # responses whose estimates are compared


def measure(package, files, *, seconds, limit, memory_gb, blas=None, peers="_peers"):
    """Fit `files` with `package` for about `seconds`; a record with "status" in any case.

    `peers` is the module that knows how the package is called.
    """
    result = files / f"{package}.json"
    result.unlink(missing_ok=True)
    known = import_module(peers).PACKAGES.get(package)
    if known and known.script:
        command = ["Rscript", str(HERE / known.script)]
    else:
        command = [sys.executable, "-W", "ignore", str(HERE / "_measure.py")]
    command += [package, str(files), str(seconds), str(result), peers]
    environment = os.environ | {f"{name}_NUM_THREADS": "1" for name in THREADS}
    environment |= {"POLARS_MAX_THREADS": "1", "VECLIB_MAXIMUM_THREADS": "1"}
    if package == "lme4-blas":
        environment["LD_PRELOAD"] = str(blas)
    error = _run(command, environment, limit, memory_gb)
    if error is None and result.exists():
        return json.loads(result.read_text())
    return {"status": "failed", "note": error or "ended without a result"}


def _run(command, environment, limit, memory_gb):
    """None if the process ended well, else one line that says how it ended."""
    if shutil.which(command[0]) is None:
        return f"{command[0]} is not installed"
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (int(memory_gb * 2**30),) * 2),
    )
    try:
        _, errors = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"not done in {limit:g} s"
    if process.returncode == 0:
        return None
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return (lines[-1] if lines else f"ended by signal {-process.returncode}")[:160]


def save_task(task, files):
    """The task for Python (pickle) and for R (binary columns, and a text that lists them)."""
    from _data import formula

    (files / "task.pickle").write_bytes(pickle.dumps(task, protocol=5))
    lines = [str(len(task.table)), str(task.y.size // len(task.table)), formula(task)]
    lines.append(" ".join([task.family, task.trials or ""]).strip())
    for name in task.table:
        column = task.table[name]
        kind = "factor" if name in task.random else "numeric"
        column = column.factorize()[0].astype("int32") if kind == "factor" else column
        (files / name).write_bytes(
            column.astype("f8").to_numpy().tobytes() if kind == "numeric" else column.tobytes()
        )
        lines.append(f"{kind} {name}")
    (files / "response").write_bytes(task.y.tobytes(order="F"))
    (files / "spec.txt").write_text("\n".join(lines) + "\n")


def _memory(field):
    """A line of the status of this process in MB, NaN where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def _forget_peak():
    """Let the peak of the resident memory begin again (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def _timed(call, argument):
    cpu, wall = time.process_time(), time.perf_counter()
    value = call(argument)
    return value, time.perf_counter() - wall, time.process_time() - cpu


def _fit_repeatedly(make, outputs, seconds):
    """The first fit with its peak of memory, then more until the time is used.

    Responses that are fitted one by one get a fit to warm up, since their first fit counts.
    """
    fitter = make()
    many = outputs > 1 and not fitter.joint
    gc.collect()
    _forget_peak()
    base = _memory("VmRSS")
    if many:
        fitter.fit(0)
        fitter = make()
    start = time.perf_counter()
    value, wall, cpu = _timed(fitter.fit, 0)
    peak, walls, cpus, kept = _memory("VmHWM"), [wall], [cpu], [value]
    most = min(outputs, MOST_FITS) if many else MOST_FITS
    while len(walls) < most and time.perf_counter() - start + walls[-1] < seconds:
        value, wall, cpu = _timed(fitter.fit, len(walls))
        walls.append(wall)
        cpus.append(cpu)
        if many and len(kept) < KEPT:
            kept.append(value)
    peak = max(peak, _memory("VmHWM")) if many else peak
    fits = [fit for value in kept for fit in fitter.read(value)][:KEPT]
    return {
        "walls": [round(wall, 7) for wall in walls],
        "cpus": [round(cpu, 7) for cpu in cpus],
        "base_mb": base,
        "peak_mb": peak - base,
        "joint": fitter.joint,
        "fits": fits,
    }


def main(package, files, seconds, result, peers):
    warnings.simplefilter("ignore")
    calls = import_module(peers)
    task = pickle.loads((Path(files) / "task.pickle").read_bytes())
    outputs = 1 if task.y.ndim == 1 else task.y.shape[1]
    try:
        known = calls.PACKAGES.get(package)
        out = {"version": known.version() if known else None}
        out |= _fit_repeatedly(lambda: calls.ADAPTERS[package](task), outputs, float(seconds))
        out |= {"status": "ok", "note": ""}
    except (ImportError, NotImplementedError) as error:
        missing = isinstance(error, ImportError)
        note = "not installed" if missing else f"cannot: {error}"
        out = {"status": "missing" if missing else "unable", "note": note}
    except Exception as error:
        out |= {"status": "failed", "note": f"{type(error).__name__}: {error}"[:160]}
    Path(result).write_text(json.dumps(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
