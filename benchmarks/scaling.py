"""Cost of a fit against the number of rows, for sklme and the packages that can.

    python benchmarks/scaling.py            # 10^3 to 10^6 rows; half an hour to two hours
    python benchmarks/scaling.py --quick    # to 10^4 rows
    python benchmarks/scaling.py --draw     # the picture again, from scaling.json

A package leaves a curve after the first size whose process exceeds the limit. The exponent is the
slope of log time on log rows over the upper half of the sizes that a package reached. Results go
to `results/scaling.json`, `results/scaling.md` and `results/scaling.png`.
"""

import argparse
import json
import tempfile
from pathlib import Path

import matplotlib
import numpy as np
from _data import crossed, slopes
from _measure import measure, save_task
from _peers import PACKAGES
from _run import add_common_options, machine, settle

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FAMILIES = {
    "slopes": ("(1 + x | g), ten rows a group", slopes),
    "crossed": ("(1 | a) + (1 | b), levels grow with the root of the rows", crossed),
}
RACERS = ["sklme", "glmm", "mixedlm", "mixedlm-rs", "gpboost", "statsmodels", "lme4", "lme4-blas"]
STYLES = {  # colours that the colour-blind can tell apart, and a mark for print
    "sklme": ("#d55e00", "o"),
    "sklme-fast": ("#d55e00", "*"),
    "glmm": ("#0072b2", "s"),
    "mixedlm": ("#009e73", "^"),
    "mixedlm-rs": ("#56b4e9", "v"),
    "lme-python": ("#999999", "P"),
    "gpboost": ("#cc79a7", "D"),
    "gpboost-default": ("#cc79a7", "d"),
    "statsmodels": ("#e69f00", "X"),
    "lme4": ("#000000", "<"),
    "lme4-blas": ("#666666", ">"),
}


def main():
    options = read_options()
    stem = options.output / ("scaling-quick" if options.quick else "scaling")
    if not options.draw:
        top = 4 if options.quick else np.log10(options.most)
        sizes = np.unique(np.round(10 ** np.arange(3, top + 0.01, 0.5)).astype(int)).tolist()
        results = {"machine": machine(), "limit": options.limit, "curves": {}}
        for family in FAMILIES:
            results["curves"][family] = run_family(family, sizes, options)
            stem.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    results = json.loads(stem.with_suffix(".json").read_text())
    stem.with_suffix(".md").write_text(markdown(results))
    draw(results, stem.with_suffix(".png"))


def read_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_common_options(parser, PACKAGES)
    parser.set_defaults(packages=list(RACERS), limit=120)
    parser.add_argument("--seconds", type=float, default=4, help="of fits of each")
    parser.add_argument("--most", type=float, default=1e6, help="rows of the largest table")
    parser.add_argument("--draw", action="store_true", help="only draw what was measured before")
    return settle(parser.parse_args())


def run_family(family, sizes, options):
    """{package: [{"rows", "seconds", "peak_mb", ...}]}; a package that failed runs no further."""
    curves, racing = {}, list(options.packages)
    for turn, rows in enumerate(sizes):
        with tempfile.TemporaryDirectory() as folder:
            files = Path(folder)
            save_task(FAMILIES[family][1](rows=rows), files)
            at = turn % max(len(racing), 1)
            for package in racing[at:] + racing[:at]:
                point = one_point(package, files, options)
                print(family, rows, package, point.get("seconds", point.get("note")), flush=True)
                if "seconds" not in point:
                    racing.remove(package)
                    point = {"note": point["note"]}
                curves.setdefault(package, []).append({"rows": rows} | point)
    return curves


def one_point(package, files, options):
    r = measure(
        package,
        files,
        seconds=options.seconds,
        limit=options.limit,
        memory_gb=options.memory,
        blas=options.blas,
    )
    if r["status"] != "ok":
        return {"note": r["note"]}
    return {
        "seconds": float(np.median(r["walls"][1:] or r["walls"])),
        "peak_mb": r["peak_mb"],
        "loglik": r["fits"][0]["loglik"],
        "version": r["version"],
        "walls": r["walls"],
    }


def exponent(points):
    """Slope of log time on log rows, upper half of the sizes; None with fewer than three."""
    upper = points[len(points) // 2 :]
    if len(upper) < 3:
        return None
    rows, seconds = (np.log([p[key] for p in upper]) for key in ("rows", "seconds"))
    return float(np.polyfit(rows, seconds, 1)[0])


def measured(points):
    return [p for p in points if "seconds" in p]


def markdown(results):
    """Seconds by rows and package, with the exponent."""
    where = "; ".join(f"{key} {value}" for key, value in results["machine"].items())
    parts = [f"# Seconds of a fit by number of rows, one thread\n\n{where}.\n\n![](scaling.png)"]
    for family, curves in results["curves"].items():
        sizes = sorted({p["rows"] for points in curves.values() for p in points})
        head = [f"{rows:,}" for rows in sizes]
        lines = [f"## {FAMILIES[family][0]}", ""]
        lines += [f"| package | {' | '.join(head)} | exponent | ended by |"]
        lines += ["|---|" + "--:|" * (len(head) + 1) + "---|"]
        lines += [_row(name, points, sizes) for name, points in curves.items()]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _row(name, points, sizes):
    cells = {p["rows"]: f"{p['seconds']:.3g}" for p in measured(points)}
    slope = exponent(measured(points))
    slope = "" if slope is None else f"{slope:.2f}"
    note = next((p["note"] for p in points if "note" in p), "")
    cells = " | ".join(cells.get(rows, "") for rows in sizes)
    return f"| {PACKAGES[name].label} | {cells} | {slope} | {note} |"


def draw(results, path):
    """One panel a family, one curve a package, the exponent at the end of the curve."""
    style = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    with plt.rc_context(style):
        figure, axes = plt.subplots(1, len(FAMILIES), figsize=(10, 4.6), sharey=True)
        for ax, (family, curves) in zip(axes, results["curves"].items(), strict=True):
            draw_family(ax, curves)
            ax.set_title(FAMILIES[family][0], loc="left", fontsize=10)
            ax.set_xlabel("rows")
        axes[0].set_ylabel("seconds of a fit (REML, one thread)")
        handles = {line.get_label(): line for ax in axes for line in ax.get_lines()}
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False
        )
        figure.set_layout_engine("constrained")
        figure.savefig(path, dpi=200)
    plt.close(figure)


def draw_family(ax, curves):
    ends = []
    for name, points in curves.items():
        points = measured(points)
        if not points:
            continue
        color, mark = STYLES[name]
        ours = name == "sklme"
        rows, seconds = ([p[key] for p in points] for key in ("rows", "seconds"))
        label = PACKAGES[name].label + (", ML" if PACKAGES[name].criterion == "ML" else "")
        ax.loglog(
            rows,
            seconds,
            color=color,
            marker=mark,
            markersize=5 if ours else 4,
            linewidth=2.4 if ours else 1.2,
            zorder=3 if ours else 2,
            label=label,
        )
        if (slope := exponent(points)) is not None:
            ends.append((rows[-1], seconds[-1], color, slope))
    write_exponents(ax, ends)
    ax.grid(True, which="major", color="0.92", linewidth=0.8)
    ax.set_axisbelow(True)


def write_exponents(ax, ends):
    """The exponents right of the curves' ends, moved apart where they would overlap."""
    top = max(rows for rows, *_ in ends) if ends else 1
    ax.set_xlim(right=top * 2.6)
    lowest = 0.0
    for rows, seconds, color, slope in sorted(ends, key=lambda end: (end[0] < top, end[1])):
        at = seconds
        if rows == top:
            at = max(seconds, lowest)
            lowest = at * 1.55
        ax.annotate(
            f"n$^{{{slope:.2f}}}$",
            (rows * 1.18, at),
            color=color,
            va="center",
            annotation_clip=False,
        )


if __name__ == "__main__":
    main()
