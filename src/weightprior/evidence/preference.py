"""Preferences of criteria among priors: the best, the priors close to it, and a verdict."""

from typing import Any

import numpy as np
import xarray as xr

from weightprior import _checks
from weightprior.fits.grid import Grid, open_ends
from weightprior.fits.rows import Rows

__all__ = ["agreement", "between_evidences", "between_rows", "open_grid", "verdict"]

# A prior is close to the best if the data make it less than _ODDS times less probable. By rows, it
# is close if its predictions fall short by less than _NUM_ERRORS standard errors, or by less than
# _FEW_NATS nats, since the error is not reliable there.
_ODDS, _NUM_ERRORS, _FEW_NATS = 20.0, 2.0, 4.0
_NAMES = {"evidence": "the evidence", "loo": "PSIS-LOO", "cv": "cross-validation"}


def between_evidences(value: np.ndarray, error: np.ndarray, reliable: np.ndarray) -> xr.Dataset:
    """Compute differences of independent estimates; tell which priors are nearly as probable."""
    best = _best(value, reliable)
    both = np.where(np.arange(len(value)) == best, 0.0, np.hypot(error, error[best]))
    short = np.log(_ODDS) + _NUM_ERRORS * both
    return _lay_out(best, value - value[best], both, reliable, short)


def between_rows(terms: np.ndarray, reliable: np.ndarray, rows: Rows) -> xr.Dataset:
    """Sum differences over rows, (prior, row), and tell which priors predict nearly as well."""
    best = _best(rows.total(terms), reliable)
    paired = terms - terms[best]
    error = np.array([rows.standard_error(row) for row in paired])
    short = np.fmax(_NUM_ERRORS * error, _FEW_NATS)
    return _lay_out(best, rows.total(paired), error, reliable, short)


def _best(values: np.ndarray, reliable: np.ndarray) -> int:
    """Return the index of the best prior among reliable ones, or among all if there are none."""
    return int(np.where(reliable | ~reliable.any(), values, -np.inf).argmax())


def _lay_out(
    best: int, difference: np.ndarray, error: np.ndarray, reliable: np.ndarray, short: np.ndarray
) -> xr.Dataset:
    of_priors = {
        "difference": difference,
        "difference_se": error,
        "close": reliable & (-difference <= short),
        "doubtful": ~reliable,
    }
    found = xr.Dataset({name: ("prior", array) for name, array in of_priors.items()})
    return found.assign(best=best)


def agreement(found: xr.Dataset) -> xr.DataArray:
    """Tell for each criterion if its best is close by all others."""
    close = found["close"].rename(criterion="other")
    return close.sel(prior=found["best"]).all("other").drop_vars("prior")


def verdict(found: xr.Dataset, fitted: str) -> str:
    """Say which prior each criterion prefers, and if they disagree; folds are fits by `fitted`."""
    names = _NAMES | {"cv": f"{_NAMES['cv']} of fits by {fitted}"}
    best = {c: found["best"].sel(criterion=c).item() for c in _judges(found)}
    if not best:
        return f"No prior is preferred: no criterion has a reliable estimate.{_caveats(found)}"
    if len(best) > 1 and len(set(best.values())) == 1:
        *others, last = (names[c] for c in best)
        said = f"{', '.join(others)} and {last} prefer {next(iter(best.values()))!r}."
    else:
        said = "; ".join(f"{names[c]} prefers {label!r}" for c, label in best.items())
        said += _disagreement(found, best, names) if len(best) > 1 else "."
    silent = [names[c] for c in found["criterion"].to_numpy() if c not in best]
    said += "".join(f" No estimate of {name} is reliable, so it prefers none." for name in silent)
    return said[0].upper() + said[1:] + _caveats(found)


def _judges(found: xr.Dataset) -> list[str]:
    """Return the criteria with a reliable estimate of some prior, which may prefer one."""
    doubtful = found["doubtful"].all("prior")
    return found["criterion"][~doubtful].to_numpy().tolist()


def _disagreement(found: xr.Dataset, best: dict[str, Any], names: dict[str, str]) -> str:
    short = [
        _falls_short(found.sel(criterion=by, prior=label), names[by])
        for by in best
        for label in dict.fromkeys(best.values())
        if not found["close"].sel(criterion=by, prior=label)
    ]
    if not short:
        return ". No criterion tells these apart."
    close = found["prior"][found["close"].all("criterion")].to_numpy().tolist()
    told = f"Close by all: {_checks.several(close)}" if close else "No prior is close by all"
    return f". They disagree: {'; '.join(short)}. {told}."


def _falls_short(one: xr.Dataset, by: str) -> str:
    nats, error = -one["difference"].item(), one["difference_se"].item()
    label = repr(one["prior"].item())
    if one["doubtful"]:
        return f"by {by} {label} cannot be judged"
    return f"by {by} {label} falls short by {nats:.1f} ± {error:.1f} nats"


def _caveats(found: xr.Dataset) -> str:
    told = [
        f"{_NAMES[criterion]} of {_checks.several(found['prior'][doubtful].to_numpy().tolist())}"
        for criterion in found["criterion"].to_numpy()
        if (doubtful := found["doubtful"].sel(criterion=criterion).to_numpy()).any()
    ]
    return f" Not reliable: {'; '.join(told)}." if told else ""


def open_grid(found: xr.Dataset, grid: Grid) -> str:
    """Say by which criteria the best prior is at an end of the grid: others may be better.

    Return a sentence to append to the verdict; empty if there is no such criterion.
    """
    labels = found["prior"].to_numpy().tolist()
    told: dict[str, list[str]] = {}
    for criterion in _judges(found):
        one = found.sel(criterion=criterion)
        shorts, errors = -one["difference"].to_numpy(), one["difference_se"].to_numpy()
        best = labels.index(one["best"].item())
        # All differences are from the best, which is one of the two.
        if ends := open_ends(grid, best, lambda _, other, d=shorts, e=errors: (d[other], e[other])):
            told.setdefault(ends, []).append(_NAMES[criterion])
    return "".join(
        f" By {' and '.join(criteria)} the best is at {ends}." for ends, criteria in told.items()
    )
