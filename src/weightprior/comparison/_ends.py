"""Notes on stacked priors: the best prior is at an end of the grid."""

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from weightprior.comparison._cells import Line, add_note
from weightprior.fits.grid import gain_of_rows, grid_of, open_ends
from weightprior.fits.reading import Part

__all__ = ["note_open_ends"]

_Gain = Callable[[int, int], tuple[float, float]]


def note_open_ends(fit: xr.DataTree, parts: Sequence[Part], lines: Sequence[Line]) -> None:
    """Add a note if the best prior of a fit is at an end of the grid.

    The best is that by held-out rows, if there are any, else by the evidence, else by LOO.
    """
    coords = fit["posterior"].coords.items()
    along = {str(n): c.to_numpy() for n, c in coords if c.dims == ("prior",) and n != "prior"}
    grid = grid_of([part.label for part in parts], along, [part.prior for part in parts])
    column = next((c for c in _GAINS if all(np.isfinite(_values(c, lines)))), None)
    if column is None:
        return
    best = int(_values(column, lines).argmax())
    if ends := open_ends(grid, best, _GAINS[column](lines)):
        add_note(lines[best], f"best {column} at {ends}")


def _values(column: str, lines: Sequence[Line]) -> np.ndarray:
    return np.array([line.cells.get(column, np.nan) for line in lines], float)


def _of_test(lines: Sequence[Line]) -> _Gain:
    return gain_of_rows(np.stack([line.elpd_i for line in lines]), lines[0].rows)


def _of_loo(lines: Sequence[Line]) -> _Gain:
    scores = [line.loo for line in lines if line.loo is not None]
    return gain_of_rows(np.stack([loo.elpd_i for loo in scores]), scores[0].rows)


def _of_evidence(lines: Sequence[Line]) -> _Gain:
    values, errors = _values("evidence", lines), _values("evidence_se", lines)

    def gain(one: int, other: int) -> tuple[float, float]:
        return values[one] - values[other], float(np.hypot(errors[one], errors[other]))

    return gain


_GAINS = {"lpd_test": _of_test, "evidence": _of_evidence, "elpd_loo": _of_loo}
