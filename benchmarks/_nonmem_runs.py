"""Runs of NONMEM as the folder of a validation keeps them: control streams and .ext files."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sklme.pharmacokinetics import OneCompartment, TwoCompartment

STRUCTURES = {
    "ADVAN1": OneCompartment(),
    "ADVAN2": OneCompartment("first-order"),
    "ADVAN3": TwoCompartment(),
    "ADVAN4": TwoCompartment("first-order"),
}
ESTIMATE, ERROR = -1000000000, -1000000001  # ITERATION of these rows of an .ext file


@dataclass(frozen=True)
class Run:
    """What a run was told and what it found.

    structure : of the model; its parameters are the first typical values, on the log scale
    columns : what the control stream calls the columns of the table
    left_out : value of the column SD whose rows it ignores, or None
    theta, omega, sigma : estimates, variances of the effects, and the proportional error
    errors : standard errors of theta
    """

    name: str
    structure: object
    table: str
    columns: list
    left_out: float | None
    objective: float
    theta: np.ndarray
    omega: np.ndarray
    sigma: float
    errors: np.ndarray

    def read_table(self, folder):
        """The rows as the run saw them: a column that it renamed to SSX is no SS."""
        path = next(p for p in folder.iterdir() if p.name.split(".")[0].upper() == self.table)
        table = pd.read_csv(path)
        table.columns = self.columns
        return table if self.left_out is None else table[table["SD"] != self.left_out]


def read_run(folder, name):
    """The Run of ``runNAME.ctl`` and ``runNAME.ext``."""
    control = (Path(folder) / f"run{name}.ctl").read_text()
    table = pd.read_csv(Path(folder) / f"run{name}.ext", sep=r"\s+", skiprows=1)
    table = table.set_index("ITERATION")
    estimate, error = table.loc[ESTIMATE], table.loc[ERROR]
    structure = STRUCTURES[re.search(r"\$SUBR\s+(\w+)", control)[1]]
    thetas = [f"THETA{k + 1}" for k in range(len(structure.parameter_names) + 1)]
    left_out = re.search(r"IGNORE\s*\(SD\.EQ\.(\d)\)", control)
    return Run(
        name,
        structure,
        re.search(r"\$DATA\s+(\w+)", control)[1].upper(),
        re.search(r"\$INPUT\s+(.+)", control)[1].split(),
        None if left_out is None else float(left_out[1]),
        float(estimate["OBJ"]),
        estimate[thetas[:-1]].to_numpy(),
        np.array([estimate[f"OMEGA({k},{k})"] for k in range(1, len(thetas))]),
        float(estimate[thetas[-1]]),
        error[thetas[:-1]].to_numpy(),
    )
