"""The results as Markdown."""

import numpy as np
from _judge import fastest_peer

HEAD = """\
| package | version | time | relative | peak MB | logLik - best | coef. | evals | remarks |
|---|---|--:|--:|--:|--:|--:|--:|---|
"""


def markdown(results, race):
    """The whole report: what was measured where, one summary, one table a workload."""
    workloads = results["workloads"].values()
    parts = [_preface(results, race), _summary(workloads, race.packages)]
    parts += [_workload(w, race.packages) for w in workloads]
    return "\n\n".join(parts) + "\n"


def _preface(results, race):
    machine = "; ".join(f"{key} {value}" for key, value in results["machine"].items())
    small = "**Small versions of the workloads: a trial, not a result.**\n\n"
    return (
        f"# {race.title}\n\n{small if results['quick'] else ''}"
        f"Written by `benchmarks/{race.name}.py`; the protocol is in `benchmarks/README.md`.\n\n"
        f"{machine}.\n\nTime: a fit, one thread. Relative: time over that of the fastest correct "
        "package other than sklme. Peak MB: resident memory above that before the fit. "
        "Coef.: largest difference of a fixed coefficient, in standard errors. "
        "Correct: log-likelihood within 1e-4 and coefficients within 1e-3 standard errors of the "
        f"best fit that two packages agree on. {race.rules}"
    )


def _summary(workloads, packages):
    lines = [
        "| workload | sklme | sklme[fast] | fastest correct peer | its time | peer / sklme "
        "| peer / sklme[fast] | memory, peer / sklme |",
        "|---|--:|--:|---|--:|--:|--:|--:|",
    ]
    for w in workloads:
        ours, name = w["packages"].get("sklme", {}), fastest_peer(w["packages"])
        fast = w["packages"].get("sklme-fast", {})
        if not ours.get("correct") or name is None:
            continue
        peer = w["packages"][name]
        lines.append(
            f"| {_cell(w['title'])} | {time(ours['seconds'])} "
            f"| {time(fast['seconds']) if fast.get('correct') else ''} "
            f"| {packages[name].label} | {time(peer['seconds'])} "
            f"| {_times(peer, ours)} | {_times(peer, fast) if fast.get('correct') else ''} "
            f"| {_ratio(peer['peak_mb'], ours['peak_mb'])} |"
        )
    return "\n".join(lines)


def _times(peer, ours):
    return f"{peer['seconds'] / ours['seconds']:.2g}x"


def _workload(w, packages):
    best = fastest_peer(w["packages"])
    base = w["packages"][best]["seconds"] if best else None
    order = sorted(w["packages"].items(), key=lambda item: item[1].get("seconds", np.inf))
    rows = [_row(packages[name].label, r, base) for name, r in order]
    text = f"{w['rows']} rows. `{w['formula']}`{_best_loglik(w['packages'])}"
    return f"## {w['title']}\n\n{text}\n\n{HEAD}" + "\n".join(rows)


def _best_loglik(packages):
    """The log-likelihood that differences are taken from; nothing for many responses."""
    for r in packages.values():
        if r.get("correct") and r["criterion"] != "ML" and r["outputs"] == 1:
            return f" Best log-likelihood: {r['fits'][0]['loglik'] - r['loglik_gap']:.6f}."
    return ""


def _row(label, r, base):
    if r["status"] != "ok":
        return f"| {label} | {r.get('version') or ''} | | | | | | | {_cell(r['note'])} |"
    relative = f"{r['seconds'] / base:.2f}" if base else ""
    coef = r["coefficient_gap"]
    count = max((fit["evaluations"] or 0 for fit in r["fits"]), default=0)
    return (
        f"| {label} | {r['version']} | {time(r['seconds'])} | {relative} | {r['peak_mb']:.0f} "
        f"| {_signed(r['loglik_gap'])} | {'' if coef is None else f'{coef:.0e}'} "
        f"| {count or ''} | {_remarks(r)} |"
    )


def _remarks(r):
    walls = [wall for run in r["runs"] for wall in run["walls"]]
    cpus = [cpu for run in r["runs"] for cpu in run["cpus"]]
    one_by_one = r["outputs"] > 1 and not r["joint"]
    threads = sum(cpus) / sum(walls)
    remarks = [
        "" if r["correct"] else _fault(r),
        "ML" if r["criterion"] == "ML" else "",
        "says: not converged" if r["fits"][0]["converged"] is False else "",
        f"{len(walls)} of {r['outputs']} responses timed" if one_by_one else "",
        "one fit" if len(walls) == 1 else "",
        f"{threads:.1f} CPU seconds a second" if threads > 1.2 and sum(walls) > 1 else "",
        _cell(r["note"]),
    ]
    return "; ".join(remark for remark in remarks if remark)


def _fault(r):
    """A criterion that no other package confirms, or a search that fell short."""
    if r["loglik_gap"] is None:
        fault = "not compared"
    elif r["loglik_gap"] > 0.01:
        fault = "**another criterion or model**"
    else:
        fault = "**not the optimum**"
    return f"{fault} ({r['n_wrong']} responses)" if r["outputs"] > 1 else fault


def time(seconds):
    """At most three digits, in ms below a second."""
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _signed(gap):
    return "" if gap is None else f"{gap:+.0e}"


def _cell(text):
    return text.replace("|", "\\|")


def _ratio(a, b):
    return f"{a / b:.2g}x" if b > 5 else ""  # a few MB are noise
