"""Time linear mixed models of sklme and of other packages, side by side in one run.

    python benchmarks/linear.py                       # everything; one to two hours
    python benchmarks/linear.py --quick               # small versions, a few minutes
    python benchmarks/linear.py --only chem97,pastes --packages sklme,glmm

See README.md in this folder. Results go to `results/linear.md` and `results/linear.json`.
"""

from _data import WORKLOADS
from _run import Race, run

RACE = Race(
    name="linear",
    title="Linear mixed models by REML",
    rules="gpboost has ML only and is compared with the ML fit of sklme, beside the race.",
    workloads=WORKLOADS,
    peers="_peers",
    reference_ml="sklme-ml",
)

if __name__ == "__main__":
    run(RACE, __doc__)
