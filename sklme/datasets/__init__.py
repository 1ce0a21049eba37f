"""Small classic tables with their provenance, one real multi-site table, and a simulator."""

from sklme.datasets._classic import (
    load_cake,
    load_chem97,
    load_dyestuff,
    load_dyestuff2,
    load_insteval,
    load_machines,
    load_orthodont,
    load_pastes,
    load_penicillin,
    load_sleepstudy,
)
from sklme.datasets._generalized import (
    load_cbpp,
    load_grouseticks,
    load_salamanders,
    load_verbagg,
    load_wine_bitterness,
)
from sklme.datasets._mriqc import load_mriqc
from sklme.datasets._pharmacokinetics import (
    load_indomethacin,
    load_orange,
    load_phenobarbital,
    load_theophylline,
)
from sklme.datasets._simulate import make_grouped_regression

__all__ = [
    "load_cake",
    "load_cbpp",
    "load_chem97",
    "load_dyestuff",
    "load_dyestuff2",
    "load_grouseticks",
    "load_indomethacin",
    "load_insteval",
    "load_machines",
    "load_mriqc",
    "load_orange",
    "load_orthodont",
    "load_pastes",
    "load_penicillin",
    "load_phenobarbital",
    "load_salamanders",
    "load_sleepstudy",
    "load_theophylline",
    "load_verbagg",
    "load_wine_bitterness",
    "make_grouped_regression",
]
