"""What diagnostics of hidden units share: which layers there are, and how results are named."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from weightprior.draws import SAMPLE_DIMS, lay_out
from weightprior.model import BNN

__all__ = ["by_layer", "check_hidden", "lay_out_units"]


def check_hidden(bnn: BNN) -> None:
    """Raise where a model has no hidden units to look at."""
    if not bnn.network.hidden:
        raise ValueError(
            "bnn: expected a network with hidden layers; got a linear model, mlp(hidden=()), "
            "which has no units."
        )


def by_layer(bnn: BNN, kind: str, found: Mapping[str, np.ndarray]) -> np.ndarray:
    """Mean over the units of each hidden layer: shape (..., layers)."""
    layers = bnn.network.layers[:-1]
    return np.stack([found[f"{kind}.{layer}"].mean(axis=-1) for layer in layers], axis=-1)


def lay_out_units(
    pieces: Sequence[Mapping[str, Any]],
    coords: Mapping[Any, Any],
    dims: Mapping[str, tuple[str, ...]] | None = None,
) -> xr.Dataset:
    """Name the axes of results by draw.

    What is called ``<kind>.<layer>`` has the units of that layer last, what is called
    ``<kind>_by_layer`` the hidden layers, and all else has the dims that are given.
    """
    named = {}
    layers = []
    for name in pieces[0]:
        kind, _, layer = name.partition(".")
        if layer:
            named[name] = (layer,)
            layers += [layer] if layer not in layers else []
        elif kind.endswith("_by_layer"):
            named[name] = ("layer",)
    return lay_out(pieces, SAMPLE_DIMS, {**named, **(dims or {})}, {**coords, "layer": layers})
