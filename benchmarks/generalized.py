"""Time generalized linear mixed models of sklme and of other packages, side by side in one run.

    python benchmarks/generalized.py                       # everything; about an hour
    python benchmarks/generalized.py --quick               # small versions, a minute
    python benchmarks/generalized.py --only cbpp,bern100k --packages sklme,glmm

See README.md in this folder. Results go to `results/generalized.md` and
`results/generalized.json`.
"""

from _generalized_data import WORKLOADS
from _run import Race, run

RACE = Race(
    name="generalized",
    title="Generalized linear mixed models by the Laplace approximation",
    rules="Standard errors are not asked for where a package can leave them out.",
    workloads=WORKLOADS,
    peers="_generalized_peers",
)

if __name__ == "__main__":
    run(RACE, __doc__)
