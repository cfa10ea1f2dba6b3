"""Summary of draws by a point and an interval."""

import numpy as np
import xarray as xr

from weightprior.fits.layout import SAMPLE_DIMS

__all__ = ["INTERVAL", "SPREAD", "interval"]

# Central interval over draws: the probabilities of its ends, and its name.
INTERVAL, SPREAD = (0.05, 0.95), "90 %"


def interval(values: xr.DataArray) -> np.ndarray:
    """Compute the median over draws and the interval's ends, by all other dims: (3, ...).

    NaN draws are left out. If all draws are NaN, so is the result.
    """
    draws = values.stack(sample=SAMPLE_DIMS).transpose("sample", ...).to_numpy()
    found = np.full((3, *draws.shape[1:]), np.nan)
    known = ~np.isnan(draws).all(axis=0)
    found[:, known] = np.nanquantile(draws[:, known], [0.5, *INTERVAL], axis=0)
    return found
