"""Standard errors of the fixed effects. Degrees of freedom will stand here too."""

import numpy as np

from sklme._engine.lmm import LinearFit
from sklme._engine.units import coefficient_map


def coefficient_covariance(fit: LinearFit, r: int = 0) -> np.ndarray:
    """s2 (X'V^-1X)^-1 of output r in the units of the data (Bates et al. 2015, eq. 54).

    The intercept comes first where there is one; a dropped column has zeros.
    """
    C = coefficient_map(fit)
    scale = fit.s2[r] * fit.frame.y_scale[r] ** 2
    return C @ np.linalg.solve(fit.xvx[r], C.T) * scale
