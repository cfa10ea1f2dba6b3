"""Starts of runs at a place that a user names."""

from collections.abc import Mapping
from typing import Any

import xarray as xr

from weightprior import _arrays
from weightprior.fits.reading import starts_of
from weightprior.model.bnn import BNN
from weightprior.model.priors.base import Prior

__all__ = ["kind_of", "starts_of_chains"]


def kind_of(init: Any) -> str:
    """Name the kind of start in a word."""
    return "prior" if init is None else "fit" if isinstance(init, xr.DataTree) else "weights"


def starts_of_chains(bnn: BNN, init: Any, prior: Prior, num_chains: int) -> list[Any]:
    """Weights for every chain of every prior, or None for a draw."""
    num_parts = len(prior.singles())
    if init is None:
        return [None] * (num_chains * num_parts)
    if isinstance(init, Mapping) and not isinstance(init, xr.DataTree):
        _arrays.weights("init", init, bnn.sites)
        return [dict(init)] * (num_chains * num_parts)
    draws = starts_of(bnn, init)
    if len(draws) not in (1, num_parts):
        raise ValueError(
            f"init: expected a fit of one prior or of as many as are sampled, {num_parts}; "
            f"got one of {len(draws)}."
        )
    found = len(next(iter(draws[0].values())))
    if found < num_chains:
        raise ValueError(
            f"init: expected a start for each of num_chains={num_chains} chains; got a fit with "
            f"{found}. Lower num_chains or fit with as many restarts."
        )
    return [
        {name: values[chain] for name, values in draws[part % len(draws)].items()}
        for part in range(num_parts)
        for chain in range(num_chains)
    ]
