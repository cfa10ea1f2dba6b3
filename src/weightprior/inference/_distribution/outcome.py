"""Outcome of a part on a worker."""

from concurrent.futures import Executor
from typing import NamedTuple

import xarray as xr

from weightprior.inference._distribution.recording import Warned

__all__ = ["Failed", "Finished", "Lost", "Outcome"]


class Finished(NamedTuple):
    """A part that was fitted, and the warnings of the fit."""

    fit: xr.DataTree
    warned: list[Warned]


class Failed(NamedTuple):
    """A part with an error in its fit function, and the traceback."""

    error: Exception
    where: str


class Lost(NamedTuple):
    """A part that lost its worker, stopped or gone; and the executor, if that broke with it."""

    reason: str
    broken: Executor | None = None


type Outcome = Finished | Failed | Lost
