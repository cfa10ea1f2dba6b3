"""Warnings of data far from the scale for which a prior on weights was made."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from weightprior.model.activations import activation_function
from weightprior.model.bnn import BNN
from weightprior.model.network import chained_layers_of, head_of, input_columns, offset_of
from weightprior.model.priors.base import Prior

__all__ = ["scale_doubt", "variation_of_outputs"]

# A unit that a column moves by this much is saturated at nearly all rows, and targets this many
# prior sds away are out of reach. Between 1 and this, a prior may be intended.
_FAR = 100.0
# For data of at most this size, only the prior can be extreme: that may be intended.
_USUAL = 10.0
# A column with less than this share of the largest effect of a column has none.
_NOTHING = 1e-6
# Prior sds of the noise's logarithm.
_FAR_NOISE = 8.0
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(40)


def scale_doubt(bnn: BNN, x: np.ndarray, y: np.ndarray, prior: Prior, names: Iterable[Any]) -> str:
    """Say if data are far from the scale for which a prior was made, and what to do.

    For a stacked prior this must hold for all parts: the ends of a sweep may well be extreme. A
    flat prior needs no scale.

    Parameters
    ----------
    bnn, x, y, prior
        The model, its rows, and a single or a stacked prior.
    names : iterable
        Names of the columns of x.

    Returns
    -------
    str
        Empty if there is no doubt.
    """
    if chained_layers_of(bnn.network) is None or head_of(bnn.network) is None:
        return ""  # a network that does not tell the order of its layers
    if not len(x):
        return ""
    columns = list(names)
    told = ""
    for part in prior.singles():
        with np.errstate(over="ignore", invalid="ignore"):  # beyond all scales
            both = _of_columns(bnn, x, part, columns), _of_targets(bnn, x, y, part)
        told = " ".join(filter(None, both))
        if not told:
            return ""
    return told


def variation_of_outputs(bnn: BNN, x: np.ndarray, prior: Any) -> float | None:
    """Return an output's largest sd over the rows under the prior; None if layers are not known.

    Biases, and the mean of the inputs, move all rows alike: they are left out.
    """
    layers, head = chained_layers_of(bnn.network), head_of(bnn.network)
    if layers is None or head is None:
        return None
    biases = dict.fromkeys([*(layer.bias for layer in layers), head.bias], 0.0)
    without = replace(prior, loc={**prior.loc, **biases}, scale={**prior.scale, **biases})
    return float(_reach(bnn, x - x.mean(axis=0), without).max())


def _of_columns(bnn: BNN, x: np.ndarray, prior: Any, names: list[Any]) -> str:
    hidden, columns = chained_layers_of(bnn.network), input_columns(bnn.network)
    site = hidden[0].incoming if hidden else head_of(bnn.network).weight  # pyright: ignore
    scale = np.median(np.asarray(prior.scale[site], np.float64), axis=1)
    # Column by column: with many rows, another copy would take too much memory.
    inputs = [x[:, column] for column in columns]
    size = np.array([max(abs(column.mean()), column.std()) for column in inputs])
    proper = np.isfinite(scale)
    reach = np.where(proper, scale, 0.0) * size
    moved = "hidden units" if hidden else "the outputs"
    large = (reach > _FAR) & (size > _USUAL)
    if large.any() and (hidden or not _is_location(bnn)):
        which = int(np.where(large, reach, 0.0).argmax())
        return (
            f"{_column(inputs[which], names[columns[which]])}, so that under the prior it moves "
            f"{moved} by about {reach[which]:.2g}, where 1 is much. Standardise x: "
            "(x - x.mean(axis=0)) / x.std(axis=0)."
        )
    ranges = np.array([np.ptp(column) for column in inputs])
    effect = np.where(proper, scale, 0.0) * ranges
    small = (
        (ranges < 1 / _USUAL)
        & proper
        & (effect > 0)
        & (effect < _NOTHING * max(1.0, effect.max(initial=0.0)))
    )
    if small.any():
        which = int(np.flatnonzero(small)[0])
        return (
            f"{_column(inputs[which], names[columns[which]])}, so that under the prior it moves "
            f"{moved} by no more than {effect[which]:.2g}. Standardise x: "
            "(x - x.mean(axis=0)) / x.std(axis=0)."
        )
    return ""


def _column(column: np.ndarray, name: Any) -> str:
    return f"x: the column {name!r} has mean {column.mean():.3g} and sd {column.std():.3g}"


def _of_targets(bnn: BNN, x: np.ndarray, y: np.ndarray, prior: Any) -> str:
    if not _is_location(bnn):
        return ""
    offset = offset_of(bnn.network)
    targets = y.reshape(len(y), -1)
    targets = targets if offset is None else targets - x[:, [offset]]
    mean, sd = targets.mean(axis=0), targets.std(axis=0)
    size = np.maximum(np.abs(mean), sd)
    if np.any(size > _USUAL):  # otherwise nothing needs to be compiled
        reach = _reach(bnn, x, prior)[: targets.shape[1]]  # locations come first
        far = (size > _USUAL) & ((size > _FAR * reach) | _given_up(bnn, mean, sd, reach, len(y)))
        if far.any():
            return (
                f"{_told(mean, sd, far.argmax())}, where the outputs reach about "
                f"{reach[far.argmax()]:.2g} under the prior. "
                "Standardise y: (y - y.mean(axis=0)) / y.std(axis=0)."
            )
    if _is_flat(bnn, prior):
        return ""
    for name in bnn.likelihood.noise_centers(1.0):
        with np.errstate(divide="ignore"):
            centers = np.log(sd)
        away = (prior.loc[name] - centers) / prior.scale[name]
        if np.any((away > _FAR_NOISE) & (sd > 0)):
            return (
                f"{_told(mean, sd, 0)}, which is {np.max(away):.2g} prior sds below the noise that "
                "is expected. Standardise y: (y - y.mean(axis=0)) / y.std(axis=0)."
            )
    return ""


def _told(mean: np.ndarray, sd: np.ndarray, index: Any) -> str:
    return f"y: mean {mean[index]:.3g} and sd {sd[index]:.3g}"


def _is_flat(bnn: BNN, prior: Any) -> bool:
    """Tell if the prior is flat on some weight of the network, so that outputs reach anywhere."""
    return any(np.isinf(np.asarray(prior.scale[name])).any() for name in bnn.network.sites)


def _given_up(bnn: BNN, mean: Any, sd: Any, reach: Any, num_rows: int) -> Any:
    """Tell for each target if taking it for noise is more probable than reaching its mean.

    In nats, reaching the mean costs half the squared distance in prior sds. Otherwise the noise
    must cover the mean as well, which lowers the log likelihood of all rows. A known noise cannot
    grow.
    """
    k = bnn.network.num_outputs
    if not bnn.likelihood.noise_centers(1.0) and bnn.likelihood.num_targets(k) == k:
        return False
    with np.errstate(divide="ignore", invalid="ignore"):
        there = np.square(mean / reach) / 2
        here = num_rows * np.log1p(np.square(mean / sd)) / 2
    return there > here


def _is_location(bnn: BNN) -> bool:
    """Tell if outputs are on the scale of the targets."""
    return not bnn.likelihood.discrete


def _reach(bnn: BNN, x: np.ndarray, prior: Any) -> np.ndarray:
    """Compute each output's root mean square under the prior, over the rows, by mean field."""
    network = bnn.network
    head, hidden = head_of(network), chained_layers_of(network) or ()
    squares = np.einsum("rc,rc->c", x, x)[input_columns(network)] / len(x)
    for layer in hidden:
        root = np.sqrt(_layer(prior, layer.incoming, layer.bias, squares))
        signal = np.where(np.isfinite(root), root, 0.0)[:, None] * _NODES
        response = np.asarray(activation_function(layer.activation)(jnp.asarray(signal)))
        squares = np.square(response) @ _WEIGHTS / _WEIGHTS.sum()
        squares = np.where(np.isfinite(root), squares, np.inf)
    return np.sqrt(_layer(prior, head.weight, head.bias, squares))  # pyright: ignore


def _layer(prior: Any, weight: str, bias: str, squares: np.ndarray) -> np.ndarray:
    """Compute the mean square of a layer's units from the mean squares of its inputs."""
    w, b = (
        np.square(np.asarray(prior.scale[n], float)) + np.square(np.asarray(prior.loc[n], float))
        for n in (weight, bias)
    )
    with np.errstate(invalid="ignore"):  # nothing, times a flat prior
        return np.nan_to_num(squares @ w, nan=np.inf, posinf=np.inf) + b
