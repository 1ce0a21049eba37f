"""Concentrations of warfarin after one dose by mouth, as a record of the engine.

O'Reilly, Aggeler and Leong 1963, "Studies on the coumarin anticoagulant drugs: the pharmacodynamics
of warfarin in man", J. Clin. Invest. 42, and O'Reilly and Aggeler 1968, "Studies on coumarin
anticoagulant drugs: initiation of warfarin therapy without a loading dose", Circulation 38; 32
people, 247 rows. Each line: weight in kg, dose in mg, then time in h,concentration in mg/l.
"""

import numpy as np
from reference_nonlinear import (
    Structure,
    identity_design,
    oral,
    padded,
    pairs,
    records,
    rows_that_are,
)

from sklme._engine.nlme.data import Data

WARFARIN = """
66.7 100: 24,9.2 36,8.5 48,6.4 72,4.8 96,3.1 120,2.5
66.7 100: 0.5,0.02 2,8.4 3,9.7 6,9.8 12,11 24,8.3 36,7.7 48,6.3 72,4.1 96,3 120,1.4
80 120: 3,12 6,13.2 9,14.4 24,9.6 36,8.2 48,7.8 72,5.8 96,4.3 120,3
40 60: 3,11.1 6,11.9 9,9.8 12,11 24,8.5 36,7.6 48,5.4 72,4.5 96,3.3 120,2.3
75.3 113: 6,8.6 12,8.6 24,7 36,5.7 48,4.7 72,3.3 96,2.3 120,1.7
60 90: 3,13.4 6,12.4 9,12.7 12,8.8 24,6.1 36,3.5 48,1.8 72,1.5 96,1
90 135: 2,17.6 3,17.3 6,15 9,15 12,12.4 24,7.9 36,7.9 48,5.1 72,3.6 96,2.4 120,2
50 75: 0.5,0.01 1,1 2,4.6 3,8 6,11.5 9,11.4 12,11 24,9.1 36,8.2 48,5.9 72,3.6 96,1.7 120,1.1
70 105: 24,8.6 36,8 48,6 72,4.4 96,3.6 120,2.8
66.7 100: 0.5,0.01 1,1.9 2,3.3 3,6.6 6,9.1 9,10.8 12,8.6 24,5.6 36,4 48,2.7 72,0.8
82 123: 1.5,11.4 3,15.4 6,17.5 12,14 24,9 36,8.9 48,6.6 72,4.2 96,3.6 120,2.6
75.3 113: 1.5,0.6 3,2.8 6,13.8 9,15 24,10.5 36,9.1 48,6.6 72,4.9 96,2.4 120,1.9
75.3 113: 1.5,3.6 3,12.9 6,12.9 9,10.2 24,6.4 36,6.9 48,4.5 72,3.2 96,2.4 120,1.3
50 75: 0.5,0.02 1,2.7 2,11.6 3,11.6 6,11.3 9,9.7 24,6.5 36,5.2 48,3.6 72,2.4 96,0.9
56.7 85: 1,6.6 3,11.9 6,11.7 9,12.2 24,8.1 36,7.4 48,6.8 72,5.3 96,3 120,2
58 87: 24,10.4 36,8.9 48,7 72,4.4 96,3.2 120,2.4
78 117: 24,7.6 36,6.4 48,6 72,4 96,3.1 120,2
74.7 112: 24,7.6 36,6.6 48,5.4 72,3.4 96,1.2 120,0.9
63.7 95.5: 24,6.6 36,5.3 48,3.6 72,2.7 96,1.4 120,1.1
59 88.5: 24,9.6 36,8 48,6.6 72,5.6 96,3.5 120,2.3
62 93: 24,7.3 36,6.1 48,4.3 72,3.2 96,2.3 120,1.9
58 87: 24,8.9 36,8.4 48,8 72,4.4 96,3.2 120,1.7
73.3 110: 24,9.8 36,8.4 48,6.6 72,4.8 96,3.2 120,2.4
76.7 115: 24,8.2 36,7.5 48,6.8 72,5.5 96,4.5 120,3.7
74.7 112: 24,11 36,10 48,8.2 72,6 96,3.7 120,2.6
80 120: 24,10 36,9 48,7.3 72,5.2 96,3.7 120,2.7
80 120: 24,11.8 36,9.2 48,7.7 72,4.9 96,3.4 120,2.7
80 120: 24,10.1 36,8 48,6 72,4.9 96,3.4 120,2
102 153: 24,8.3 36,7 48,5.6 72,4.1 96,3.1 120,2.2
70 105: 24,9.9 36,7.5 48,6.5 72,4.1 96,2.9 120,2.3
83.3 125: 24,9.5 36,7.8 48,6.4 72,4.5 96,3.4 120,2.5
62 93: 24,8.9 36,7.7 48,6.9 72,4.4 96,3.5 120,2.5
"""


def lagged(psi, dose, time):
    """Absorption that begins after a lag: lag, ka, volume and clearance."""
    since = np.where(time > psi[0], time - psi[0], 0.0)
    return oral(dose, since, psi[1], psi[3] / psi[2], psi[2])


def warfarin(*, weight=False):
    """All lognormal with effects; optionally volume and clearance change with log(weight / 70)."""
    heads, rows = zip(*(line.split(": ") for line in records(WARFARIN)), strict=True)
    kg, dose = np.array([[float(x) for x in head.split()] for head in heads]).T
    seen = [pairs(row) for row in rows]
    time, y = (padded([x[k] for x in seen]) for k in (0, 1))
    N = len(y)
    B = identity_design(N, 4)
    C = np.zeros((N, 1, 4, 6 if weight else 4))
    C[..., :4] = B
    if weight:
        C[:, 0, 2, 4] = C[:, 0, 3, 5] = np.log(kg / 70.0)
    structure = Structure(lagged, dose[:, None], time)
    mask = rows_that_are([x[0] for x in seen])
    return Data(structure, y, mask, C, B, ("exp",) * 4, ("combined1",))
