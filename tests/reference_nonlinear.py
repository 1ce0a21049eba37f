# Data, hence longer than other files.
"""Classic pharmacokinetic tables and what NONMEM answers for them, as records of the engine.

- Theophylline: Boeckmann, Sheiner and Beal 1994, "NONMEM Users Guide, Part V", 12 subjects; the
  table is R's `datasets::Theoph`. Each line: weight in kg, dose in mg/kg, then time,concentration.
- Phenobarbital: Grasela and Donn 1985, "Neonatal population pharmacokinetics of phenobarbital
  derived from routine clinical data", Dev. Pharmacol. Ther. 8, 59 infants; the table is R's
  `nlme::Phenobarb`. Each line: weight in kg, Apgar score, then time,dose and time,concentration.
- Exponential decay: the simulated rows of Wang 2007, "Derivation of various NONMEM estimation
  methods", J. Pharmacokinet. Pharmacodyn. 34(5), 10 subjects at times 0 and 1.
"""

import numpy as np

from sklme._engine.nlme.data import Data
from sklme._engine.nlme.parameters import Parameters, Pattern

THEOPHYLLINE = """
79.6 4.02: 0,0.74 0.25,2.84 0.57,6.57 1.12,10.5 2.02,9.66 3.82,8.58 5.1,8.36 7.03,7.47 9.05,6.89
  12.12,5.94 24.37,3.28
72.4 4.4: 0,0 0.27,1.72 0.52,7.91 1,8.31 1.92,8.33 3.5,6.85 5.02,6.08 7.03,5.4 9,4.55 12,3.01
  24.3,0.9
70.5 4.53: 0,0 0.27,4.4 0.58,6.9 1.02,8.2 2.02,7.8 3.62,7.5 5.08,6.2 7.07,5.3 9,4.9 12.15,3.7
  24.17,1.05
72.7 4.4: 0,0 0.35,1.89 0.6,4.6 1.07,8.6 2.13,8.38 3.5,7.54 5.02,6.88 7.02,5.78 9.02,5.33
  11.98,4.19 24.65,1.15
54.6 5.86: 0,0 0.3,2.02 0.52,5.63 1,11.4 2.02,9.33 3.5,8.74 5.02,7.56 7.02,7.09 9.1,5.9 12,4.37
  24.35,1.57
80 4: 0,0 0.27,1.29 0.58,3.08 1.15,6.44 2.03,6.32 3.57,5.53 5,4.94 7,4.02 9.22,3.46 12.1,2.78
  23.85,0.92
64.6 4.95: 0,0.15 0.25,0.85 0.5,2.35 1.02,5.02 2.02,6.58 3.48,7.09 5,6.66 6.98,5.25 9,4.39
  12.05,3.53 24.22,1.15
70.5 4.53: 0,0 0.25,3.05 0.52,3.05 0.98,7.31 2.02,7.56 3.53,6.59 5.05,5.88 7.15,4.73 9.07,4.57
  12.1,3 24.12,1.25
86.4 3.1: 0,0 0.3,7.37 0.63,9.03 1.05,7.14 2.02,6.33 3.53,5.66 5.02,5.67 7.17,4.24 8.8,4.11
  11.6,3.16 24.43,1.12
58.2 5.5: 0,0.24 0.37,2.89 0.77,5.22 1.02,6.41 2.05,7.83 3.55,10.21 5.05,9.18 7.08,8.02 9.38,7.14
  12.1,5.68 23.7,2.42
65 4.92: 0,0 0.25,4.86 0.5,7.24 0.98,8 1.98,6.81 3.6,5.87 5.02,5.22 7.03,4.45 9.03,3.62 12.12,2.69
  24.08,0.86
60.5 5.3: 0,0 0.25,1.25 0.5,3.96 1,7.82 2,9.72 3.52,9.75 5.07,8.57 7.07,6.59 9.03,6.11 12.05,4.57
  24.15,1.17
"""
PHENOBARBITAL = """
1.4 7: 0,25 12.5,3.5 24.5,3.5 37,3.5 48,3.5 60.5,3.5 72.5,3.5 85.3,3.5 96.5,3.5 108.5,3.5 : 2,17.3
  112.5,31
1.5 9: 0,15 4,3.8 16,3.8 27.8,3.8 40,3.8 52,3.8 64,3.8 76,3.8 88,3.8 100,3.8 112,3.8 124,3.8 :
  2,9.7 63.5,24.6 135.5,33
1.5 6: 0,30 11.5,3.7 23.5,3.7 35.5,3.7 47.5,3.7 59.3,3.7 73,3.7 84,3.7 96.5,3.7 108.5,3.7 120,3.7
  132,3.7 : 1.5,18 83.5,23.8 134.3,24.3
0.9 6: 0,18.6 12,2.3 24.3,2.3 35.8,2.3 48.1,2.3 59.8,2.3 71.8,2.3 83.8,2.3 95.8,2.3 107.8,2.3
  119.8,2.3 : 1.8,20.8 59.3,23.9 130.8,31.7
1.4 7: 0,27 12,3.4 24,3.4 36,3.4 48,3.4 60,3.4 72,3.4 84,3.4 96,3.4 108,3.4 120,3.4 : 2,14.2
  59.5,18.2 132,20.3
1.2 5: 0,24 11.8,3 23.8,3 35.8,3 47.8,3 59.8,3 71.8,3 83.8,3 95.8,3 107.8,3 120.1,3 131.8,3 :
  1.8,19 59.3,17.3 142.8,32.5
1 5: 0,19 11.3,2.4 23.3,2.4 36.5,2.4 48.2,2.4 60.3,2.4 75.8,2.4 84.3,2.4 96.3,2.4 108.3,2.4
  120.3,2.4 132.3,2.4 144.5,2.4 : 2,17.9 73.8,23.4 165.3,25.8
1.2 7: 0,24 11.8,3 23.7,3 35.7,3 47.7,3 59.7,3 71.7,3 83.7,3 95.7,3 107.7,3 119.7,3 131.7,3
  143.7,3 : 1.7,25.8 73.7,34.2 146.7,36.1
1.4 8: 0,27 11.1,3.2 22.3,3.2 34.6,3.2 46.6,3.2 58.7,3.2 70.9,3.2 83.2,3.2 94.6,3.2 106.6,3.2
  118.6,3.2 130.6,3.2 142.6,3.2 : 1.1,22.1 82.7,29.2 142.1,34.2 312.6,19.6
1.4 7: 0,27 11.2,3.5 23.2,3.5 35.3,3.5 47.2,3.5 59.2,3.5 71.2,3.5 83.2,3.5 95.2,3.5 107.2,3.5
  119.2,3.5 131.2,3.5 : 1.2,19.9 70.7,23.4 142.2,30.9
1.2 7: 0,24 11.5,24 23.5,3 35.5,3 47.5,3 : 57.5,24.3
1.3 6: 0,26 12,3.3 13,5 24.5,3.3 36,3.3 48.5,3.3 60,3.3 72,3.3 84,3.3 96,3.3 108,3.3 120,3.3
  132.5,3.3 : 2,17 132.2,34.1 302.5,16
1.1 6: 0,11 12,11 25,2.8 37,2.8 49,2.8 61,2.8 74,2.8 85,2.8 98,2.8 110,2.8 121.3,2.8 134,2.8
  145,2.8 157,2.8 : 36.5,24.1 169,38.2
1.1 7: 0,22 11.8,2.8 23.8,2.8 35.8,2.8 47.8,2.8 59.8,2.8 71.8,2.8 83.8,2.8 95.8,2.8 107.3,2.8
  119.8,2.8 131.8,2.8 143.8,2.8 : 2.3,25.6 59.3,25.6 131.5,25.7 303.3,14.3
1.3 7: 0,26 12.2,3.3 24.2,3.3 36.2,3.3 47.8,3.3 70.2,3.3 85.6,3.3 96.2,3.3 108.2,3.3 120.2,3.3
  132.2,3.3 143.7,3.3 : 22.2,19.3 145.7,29.7
1.2 9: 0,12 9,12 15.4,4 21.3,3 33,3 45,3 57,3 69,3 81,3 93,3 105,3 117,3 129.5,3 141.5,3 152.8,3 :
  12,17.3 56,26.8 153.5,38.4
1.1 5: 0,22 12,2.8 24,2.8 35.5,2.8 48,2.8 60,2.8 72.3,2.8 84.3,2.8 95.8,2.8 108,2.8 120,2.8
  132,2.8 144,2.8 : 32,21.3 72,28.8 155,34.9
1 5: 0,20 11.8,20 23.8,2.5 35.8,2.5 48.1,2.5 59.3,2.5 71.8,2.5 82.8,2.5 95.8,2.5 107.8,2.5
  119.8,2.5 131.8,2.5 : 2.8,21.9 71.3,25.9 143.8,28.9 389.8,6.7
1 1: 0,10 4,10 13,2.5 24,2.5 35.9,3 48,3 59.9,3 72,3 84.3,3 96,3 108.3,3 120,3 132,3 144,3 :
  9.5,18.9 83.5,23.2 158,32.9
1.2 6: 0,24 12,3 24,3 36,3 48,3 60.5,3 72,3 84,3 95.5,3 108,3 120,3 132,3 : 2,23.1 62.5,27.8
  134,34
1.8 7: 0,17.5 4.2,17.5 15.8,4.5 28,4.5 39.8,4.5 51.8,4.5 63.8,4.5 76.8,4.5 88.3,4.5 100.8,4.5
  112.8,4.5 124.3,4.5 136.3,4.5 148.8,4.5 : 8.3,21.1 112.3,29.1 260.6,21.1
1.5 8: 0,15 4,15 16,4 28,4 40,4 : 6,21.8 51,25
3.1 3: 0,60 11.5,7.5 24,7.5 35.5,7.5 47,7.5 59.5,7.5 71.5,7.5 84,7.5 95.8,7.5 107.5,7.5 120,7.5
  132.5,7.5 : 11,22.3 70.5,26.6 140,27.7
3.2 2: 0,63 0.7,63 6.5,32 16,10 28,10 40,10 52.7,10 64,10 76,10 88,10 100,10 112,10 124,10 136,10
  147.5,10 : 2,37.3 79,41.7 176,38.1
0.7 1: 0,15 12,1.9 18.5,7.5 23.7,1.5 35.8,1.5 48.3,1.5 60.5,1.5 70.7,5 72,2 84,2 95.8,2 108,2
  120,2 132,2 : 2,13.7 21,21.8 61.5,16.7 90.5,29.8 121.5,38 138,31.3
3.5 9: 0,70 11.5,9 23.5,9 35.5,9 47.5,9 59.5,9 71.5,9 83.5,9 95.5,9 107.5,9 : 37.5,28.6 110.5,34.9
1.9 5: 0,35 12.4,5 23.7,5 35.2,5 48,5 59.7,5 71.7,5 : 1.7,26.4 83.2,33.3
3.2 9: 0,60 : 2,16.9
1 7: 0,20 12,2.5 23.5,2.5 36.5,2.5 : 47.5,22.9
1.8 8: 0,18 2.2,18 15.3,3.5 26.3,3.5 38.8,3.5 50.8,3.5 62.8,3.5 75.3,3.5 87.3,3.5 98.8,3.5
  110.8,3.5 123.3,3.5 134.8,3.5 : 6.3,17.9 226.3,16.5
1.4 8: 0,30 : 1,25.3
3.6 9: 0,70 12,7.5 21.6,35 24.3,7.5 35.6,7.5 48,7.5 61,7.5 72,7.5 : 6.5,12.7 24,22.1 83.5,21.2
1.7 8: 0,17 4,17 16,4.3 28,4.3 40.3,4.3 52,4.3 : 5.5,21.2 65,27.4
1.7 4: 0,34 11.8,4.3 23.8,4.3 47.8,4.3 59.8,4 71.8,4 83.8,4 : 1.8,22.1 86.8,28.7
2.5 5: 0,25 3.5,25 15,6 27,6 39,6 51,6 63,6 75,6 87,6 : 19,25.2 99,38
1.5 5: 0,30 12,4 23.5,4 36,4 48,4 60,4 72,4 85,4 96,4 108,4 120,4 132,4 : 2,23.2 134,28.9 304,12.7
1.2 9: 0,24 11.8,3 24.3,3 36.3,3 48.3,3 60.3,3 72.8,3 84.3,3 96.3,3 108.3,3 119.8,3 132.3,3
  144.3,3 156.3,3 : 2.3,19.5 159.8,33.4
1.3 8: 0,26 11.6,3 23.3,3 35.3,3 47.3,3 59.3,3 71.3,3 83.3,3 95.3,3 107.3,3 119.3,3 131.3,3
  143.3,3 155.3,3 167.3,3 : 1.8,17.9 118.8,21.6 183.3,30.5 310.3,13
1.9 10: 0,56 12.7,5 24.4,5 36.4,5 48.4,5 60.4,5 72.3,5 84.8,5 96.4,5 108.4,5 120.4,5 132.4,5 :
  1.4,30 110.4,37.7 260.4,18.4
1.1 3: 0,19 2,3 3.8,12 : 1,13.7 4,25
1.7 7: 0,34 7.3,4 12,4 24.8,4 33.9,4 48.3,4 58.7,4 : 2,18.6 36,21 59,26.4
2.8 9: 0,28 12,28 23.7,7 36.2,7 47.8,7 60,7 72,7 84,7 : 14,13.3 95.5,13.9
0.9 1: 0,18 : 2,22.3
1.4 7: 0,14 5,14 17,3.5 29,3.5 41,3.5 54.5,3.5 65,3.5 77.5,3.5 89,3.5 101,3.5 113,3.5 125.5,3.5 :
  11,17.8 125,27.6 292,13.5
0.8 2: 0,16 12.5,2 24.5,2 36.5,2 48.5,2 60.5,2 72.5,2 84.5,2 96.5,2 : 4.5,16.6 48.3,20.2
  106.5,24.5
1.1 8: 0,11 0.5,11 : 2,20.1
2.6 9: 0,40 9.3,6.7 19.3,6.7 33.3,6.7 36.3,6.7 : 38.3,25.1
0.7 8: 0,14 11.3,1.7 23.3,1.7 28.8,10 35.3,1.7 47.5,1.7 59.3,1.7 71.8,1.7 : 2.8,12.9 65.8,41.1
  84.8,40.3 112.3,36.8 137.9,35.8
1.3 8: 0,26 12,4 24,4 36,4 48,4 60.5,4 72,4 84,4 96,4 108.5,4 120,4 132,4 144,4 : 2,18.8 74,25.1
  150,37.2
1.1 6: 0,20 12.5,2.5 24.5,2.5 36.5,2.5 48,2.5 60.5,2.5 72.5,2.5 84.5,2.5 88,30 96.5,2.5 108.5,2.5
  120.5,3.5 132.5,3.5 144.5,3.5 157,3.5 : 3,22.2 81,30.5 89,67.9 162,58.7
0.9 9: 0,18 11.5,2.5 12.5,9 24.5,2.5 36.5,2.5 49,2.5 60.5,2.5 72.5,2.5 84.5,2.5 96.5,2.5 108.5,2.5
  120.5,2.5 : 3,12.7 60,31.3 132,31.1
0.9 7: 0,9.5 4,9.5 12.5,9 35.5,2.5 37.5,2.5 59.5,2.5 71.5,2.5 83.5,2.5 95.5,2.5 107.5,2.5
  119.5,2.5 131.5,2.5 143.5,2.5 : 2,14.3 83,38.1 155,31.2
1.7 8: 0,17 4,17 23.8,4 27,7.5 28,4 39.5,4 : 6,19.1 47,33.3
1.8 8: 0,18 3.7,18 15.7,4.4 27.7,4.4 39.7,4.4 51.7,4.4 63.7,4.4 75.7,4.4 87.7,4.4 99.7,4.4 :
  9.7,25.5 29.7,29.4 63.2,29.5 111.3,37.9
1.1 4: 0,25 12,3 24,3 36,3 48,3 60,3 72,3 : 74,20.8
0.6 4: 0,12 12.7,1.5 : 20,18.8
2.1 6: 0,20 0.5,20 12.2,5 24.7,5 37.2,5 47.8,5 60.2,5 72.2,6 84.2,6 96.2,6 : 1.7,20.2 109,27.8
1.4 8: 0,14 0.5,14 12,3.5 24.3,3.5 35.8,3.5 48,3.5 59.5,3.5 72,3.5 84,3.5 96.3,3.5 107,3.5
  120.3,3.5 : 8.5,22.4 47.5,27.9 131.8,31
1.1 6: 0,22.8 12.5,3 24.3,3 36.3,3 48.8,3 60.3,3 72.3,3 84.3,3 96,3 108.3,3 120.5,3 132.3,3
  144.8,3 : 1.8,22.6 73.8,34.3 146.8,40.2
"""
DECAY = [
    (10.68, 3.6837),
    (10.402, 6.454),
    (9.8814, 5.8565),
    (9.3408, 5.6209),
    (10.082, 6.7583),
    (9.8938, 6.5049),
    (9.8908, 6.9557),
    (10.234, 6.4488),
    (9.9882, 6.7112),
    (9.6736, 6.6402),
]


def records(text):
    """The lines of a table, those that are continued joined."""
    return text.strip().replace("\n  ", " ").splitlines()


def pairs(text):
    """Two columns of numbers from "a,b c,d"."""
    return np.array([[float(x) for x in pair.split(",")] for pair in text.split()]).T


def padded(columns, *, fill=None):
    """Rows of unequal length as one array, the last value repeated, or `fill`."""
    n = max(map(len, columns))
    ends = [[c[-1] if fill is None else fill] * (n - len(c)) for c in columns]
    return np.array([[*c, *end] for c, end in zip(columns, ends, strict=True)])


def rows_that_are(columns):
    """Where a padded row is one."""
    n = max(map(len, columns))
    return np.array([[j < len(c) for j in range(n)] for c in columns])


def oral(dose, time, ka, k, volume):
    """One compartment with absorption; ka = k is no exception. Works for complex parameters."""
    x = (ka - k) * time
    small = np.abs(x) < 1e-5
    safe = np.where(small, 1.0, x)
    share = np.where(small, 1.0 - x / 2.0 + x * x / 6.0, (1.0 - np.exp(-safe)) / safe)
    return dose * ka / volume * np.exp(-k * time) * time * share


class Structure:
    """A closed form f(psi, *arrays), where the arrays have a row for each subject."""

    def __init__(self, formula, *arrays, **attributes):
        self.formula, self.arrays = formula, arrays
        self.__dict__.update(attributes)

    def __call__(self, psi, subjects=None):
        pick = slice(None) if subjects is None else subjects
        return self.formula(np.moveaxis(psi, -1, 0), *(a[pick] for a in self.arrays))


def identity_design(n_subjects, n):
    """Each parameter has its own coefficient or effect."""
    return np.tile(np.eye(n), (n_subjects, 1, 1, 1))


def theophylline_rows():
    """weight (12, 1), dose in mg (12, 1), time and concentration (12, 11)."""
    lines = [line.split(": ") for line in records(THEOPHYLLINE)]
    weight, relative = np.array([[float(x) for x in head.split()] for head, _ in lines]).T
    time, concentration = np.moveaxis(np.array([pairs(rest) for _, rest in lines]), 1, 0)
    return weight[:, None], (weight * relative)[:, None], time, concentration


def theophylline(error="additive", *, without_start=False, **attributes):
    """ka, clearance and volume, all lognormal; optionally without the rows at time 0."""
    _, dose, time, y = theophylline_rows()
    formula = lambda psi, dose, time: oral(dose, time, psi[0], psi[1] / psi[2], psi[2])
    one, mask = identity_design(12, 3), np.ones(y.shape, bool)
    mask[:, 0] = not without_start
    structure = Structure(formula, dose, time, **attributes)
    return Data(structure, y, mask, one, one.copy(), ("exp",) * 3, (error,))


def theophylline_nonmem(error="additive", *, n_effects=2):
    """ka by sex, elimination rate and clearance by weight, all with additive effects (2: not the
    rate)."""
    weight, dose, time, y = theophylline_rows()
    formula = lambda psi, dose, time: oral(dose, time, psi[0], psi[1], psi[2] / psi[1])
    C, B = np.zeros((12, 1, 3, 4)), identity_design(12, 3)
    C[:6, 0, 0, 0] = C[6:, 0, 0, 3] = C[:, 0, 1, 1] = 1.0
    C[:, 0, 2, 2] = weight[:, 0]
    B = B if n_effects == 3 else B[..., [0, 2]]
    links = ("identity",) * 3
    return Data(Structure(formula, dose, time), y, np.ones(y.shape, bool), C, B, links, (error,))


def phenobarbital():
    """Clearance and volume proportional to weight, volume also by a low Apgar score.

    beta: log clearance, log volume, log of the change of volume, 1 (fixed, of the log of weight).
    """
    parts = [line.split(" : ") for line in records(PHENOBARBITAL)]
    heads, doses = zip(*(left.split(": ") for left, _ in parts), strict=True)
    weight, apgar = np.array([[float(x) for x in head.split()] for head in heads]).T
    given, seen = [pairs(x) for x in doses], [pairs(x) for _, x in parts]
    time, y = (padded([x[k] for x in seen]) for k in (0, 1))
    since = time[:, :, None] - padded([x[0] for x in given], fill=np.inf)[:, None]
    amount = np.where(since >= 0, padded([x[1] for x in given], fill=0.0)[:, None], 0.0)

    def formula(psi, amount, since):
        rate = (psi[0] / psi[1])[..., None]
        return (amount * np.exp(-rate * since)).sum(axis=-1) / psi[1]

    C = np.zeros((59, 1, 2, 4))
    C[:, 0, 0, 0] = C[:, 0, 1, 1] = 1.0
    C[:, 0, 1, 2] = apgar < 5
    C[:, 0, :, 3] = np.log(weight)[:, None]
    structure = Structure(formula, amount, np.where(since >= 0, since, 0.0))
    mask = rows_that_are([x[0] for x in seen])
    return Data(structure, y, mask, C, identity_design(59, 2), ("exp",) * 2, ("proportional",))


def decay(error):
    """10 exp(-k t) with a lognormal k, at the parameters of the paper."""
    time = np.tile([0.0, 1.0], (10, 1))
    structure = Structure(lambda psi, time: 10.0 * np.exp(-psi[0] * time), time)
    one = identity_design(10, 1)
    data = Data(structure, np.array(DECAY), np.ones((10, 2), bool), one, one, ("exp",), (error,))
    n_sigma = 2 if error.startswith("combined") else 1
    return data, parameters([np.log(0.5)], [0.04], [0.1**0.5] * n_sigma)


def parameters(beta, variances, sigma):
    """With a diagonal Omega, or a full one if that is given."""
    Omega = np.array(variances, float)
    Omega = np.diag(Omega) if Omega.ndim == 1 else Omega
    return Parameters(np.array(beta, float), Omega, np.array(sigma, float))


# OFV at the parameters of `decay`, (FOCEI, FOCE, FO): NONMEM as nlmixr2est 7.0.2 tests it
# (tests/testthat/test-focei-wang2007-*.R). Below: exact by dense quadrature, and Laplace.
DECAY_VALUES = {
    "proportional": (39.458, 39.207, 39.213),
    "additive": (-2.059, -2.059, 0.026),
    "combined": (39.735, 39.499, 39.505),
    "combined1": (43.554, 43.394, 43.398),
    "lognormal": (40.039, 40.039, 40.055),
}
DECAY_EXACT = {
    "proportional": (39.3548, 39.227),
    "additive": (-1.9896, -1.936),
    "combined": (39.6354, 39.516),
    "combined1": (43.4425, 43.359),
}

START = [2.77, 0.0781, 0.0363, 1.5]
# What NONMEM answers for `theophylline_nonmem` from START: OFV there and at the optimum, theta,
# Omega (lower triangle or diagonal), sigma^2 and standard errors of theta.
NONMEM = {
    "fo": {
        "error": "additive",
        "pattern": Pattern.full(3),
        "start": parameters(START, [5.55, 0.0024, 0.515], [0.388**0.5]),
        "first": 137.16573310,
        "value": 71.97997530,
        "beta": [4.20241, 0.0725283, 0.0357499, 2.12401],
        "Omega": [18.1195, -0.0112474, 2.25098e-4, -0.0305266, 0.0104586, 0.59985],
        "variance": [0.266533],
        "errors": [0.447, 0.00681, 0.00493, 0.352],
    },
    "foce": {
        "error": "additive",
        "pattern": Pattern.diagonal(2),
        "start": parameters(START, [5.55, 0.515], [0.388**0.5]),
        "first": 138.90111321,
        "value": 121.89849119,
        "beta": [1.67977, 0.0849011, 0.0393898, 2.10668],
        "Omega": [1.62087, 0.0, 0.226449],
        "variance": [0.514069],
        "errors": [0.184, 0.00543, 0.00342, 0.956],
    },
    "focei": {
        "error": "combined",
        "pattern": Pattern.diagonal(2),
        "start": parameters(START, [5.55, 0.515], [0.388**0.5, 0.3**0.5]),
        "first": 287.08854689,
        "value": 115.40505380,
        "beta": [1.58896, 0.0852144, 0.0397132, 2.03889],
        "Omega": [1.49637, 0.0, 0.262862],
        "variance": [0.209834, 0.0113479],
        "errors": [0.211, 0.00498, 0.00353, 0.881],
    },
    "laplace": {
        "error": "additive",
        "pattern": Pattern.diagonal(2),
        "start": parameters(START, [5.55, 0.515], [0.388**0.5]),
        "first": 141.296,
        "value": 123.76439574,
        "beta": [1.68975, 0.0854637, 0.0395757, 2.11952],
        "Omega": [1.596, 0.0, 0.227638],
        "variance": [0.514457],
        "errors": None,
    },
}
NONMEM_EFFECTS = [  # the modes of `focei` at its optimum
    (-0.38581, -1.06806), (0.52706, 0.05923), (0.67239, 0.06985), (-0.46906, -0.19029),
    (-0.21521, 0.14683), (-0.40690, 0.51160), (-1.30578, 0.46295), (-0.56773, 0.34091),
    (2.62534, -0.67532), (-1.39161, -0.25535), (1.46302, 0.73726), (-1.12603, -0.08769),
]  # fmt: skip
