"""Outcome of a part that a worker was given."""

from concurrent.futures import Executor
from typing import NamedTuple

import xarray as xr

from weightprior.inference._distribution.recording import Warned

__all__ = ["Failed", "Finished", "Lost", "Outcome"]


class Finished(NamedTuple):
    """A part that was fitted, and what the fit warned of."""

    fit: xr.DataTree
    warned: list[Warned]


class Failed(NamedTuple):
    """A part whose fit function raised an error, and where that was."""

    error: Exception
    where: str


class Lost(NamedTuple):
    """A part whose worker was stopped, or is gone; and the executor, where that broke with it."""

    reason: str
    broken: Executor | None = None


type Outcome = Finished | Failed | Lost
