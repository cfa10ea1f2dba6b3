"""Hidden layers of a model, and the names of measurements of their units."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from weightprior.fits.layout import SAMPLE_DIMS, lay_out
from weightprior.model.bnn import BNN
from weightprior.model.network import HiddenLayer, hidden_layers_of

__all__ = ["by_layer", "checked_layers", "lay_out_units"]


def checked_layers(bnn: BNN) -> tuple[HiddenLayer, ...]:
    """Return a network's hidden layers; raise if it has none, or does not describe them."""
    layers = hidden_layers_of(bnn.network)
    if layers is None:
        raise ValueError(
            "bnn: expected a network that describes its hidden units; got "
            f"{type(bnn.network).__name__}, which does not. Give network(...) a function that "
            "returns them, hidden_units=..., or give a class of your own `hidden_layers`."
        )
    if not layers:
        raise ValueError(
            "bnn: expected a network with hidden layers; got a linear model, mlp(hidden=()), "
            "which has no units."
        )
    return layers


def by_layer(
    layers: Sequence[HiddenLayer], kind: str, found: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Compute the mean over the units of each hidden layer: shape (..., layers)."""
    return np.stack([found[f"{kind}.{layer.name}"].mean(axis=-1) for layer in layers], axis=-1)


def lay_out_units(
    pieces: Sequence[Mapping[str, Any]],
    coords: Mapping[Any, Any],
    dims: Mapping[str, tuple[str, ...]] | None = None,
) -> xr.Dataset:
    """Name the axes of results by draw.

    A result called ``<kind>.<layer>`` has the units of that layer last, one called
    ``<kind>_by_layer`` the hidden layers, and all others have the dims that are given.
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
