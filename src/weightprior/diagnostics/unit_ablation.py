"""Ablation of hidden units: the loss without each, and its correlation with their weights."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from scipy.stats import rankdata

from weightprior import _checks, _data
from weightprior.diagnostics._units import checked_layers, lay_out_units
from weightprior.fits.evaluate import evaluate
from weightprior.fits.inputs import new_inputs
from weightprior.fits.reading import Draws, parts_of
from weightprior.model import density
from weightprior.model.bnn import BNN
from weightprior.model.network import HiddenLayer, hidden_layers_of

__all__ = ["unit_ablation"]

_MEASURES = ("incoming", "outgoing", "both", "contribution")
# Numbers held at once for units that are removed in parallel.
_NUMBERS_AT_ONCE = 2**18
# Outputs that move by at most this share of their size are constant up to rounding.
_STILL = 1e-12
# Values closer than this share of the largest in a layer are ties, up to rounding of sums.
_TIE = 1e-9


def unit_ablation(
    bnn: BNN, fit: xr.DataTree, x: Any, y: Any, *, num_draws: int | None = None
) -> xr.Dataset:
    """Measure the loss without each hidden unit, its spread, and its correlation with weights.

    A network relies on a unit to the extent that its targets become less likely without it. Large
    weights are said to imply heavy reliance on single units, and penalties on weights to balance
    it. `effective_units_by_layer` counts the units that share the loss, and
    `rank_correlation_by_layer` tells if these are the units with large weights.

    Parameters
    ----------
    bnn : BNN
        The model that was fitted, with hidden layers.
    fit : DataTree
        The fit.
    x : array or data frame of shape (rows, features)
        Inputs, those that were fitted or others. Every row counts once.
    y : array of shape (rows,) or (rows, outputs)
        Their targets.
    num_draws : int, optional
        Number of draws of each chain to use, spread evenly; all by default. Each costs about as
        many evaluations of the network as it has hidden units.

    Returns
    -------
    Dataset
        For every draw (dims `chain`, `draw`, and `prior` if the fit has it), by hidden unit
        (``<name>.hidden_0`` with the dim `hidden_0`, and so on):

        - ``ablation_loss``: the loss without the unit, in nats: the log likelihood of all targets
          minus that with the unit held at its mean over the rows;
        - ``size`` (dim `measure`): the norm of its ``incoming`` weights (without biases), of its
          ``outgoing`` weights, of ``both`` together, which L2 shrinks, and its ``contribution``:
          the outgoing norm times the standard deviation over the rows of the unit's output;
        - ``effective_inputs``: participation ratio of the squared incoming weights, from 1, for a
          unit with a single input, to their number. NaN if all are zero.

        By layer (dim `layer`):

        - `largest_ablation_loss_by_layer`: the largest of its units, in nats;
        - `effective_units_by_layer`: participation ratio of the losses, from 1, if a single unit
          has all of the loss, to the number of units, if all have the same. A unit counts as zero
          if its removal changes nothing or helps. NaN if no removal has a loss, or if a loss is
          infinite;
        - `rank_correlation_by_layer` (dim `measure`): Spearman's, between the units' sizes and
          losses. NaN if one of them is the same for all units.

    Raises
    ------
    ValueError, TypeError
        If the model has no hidden layer, the data do not suit it, the fit is of another model,
        or `num_draws` is not positive.

    Notes
    -----
    The participation ratio of numbers c is (sum c)^2 / sum c^2. Units are removed one at a time,
    without another fit. Losses do not add up: units may replace one another, or be useful only
    together. A unit that does not vary over the rows has no loss.

    The incoming weights of a relu unit can be multiplied by a, and the outgoing weights by 1/a,
    without changing the function. Only `contribution` does not depend on that.

    A loss is infinite if the targets become impossible in double precision, and NaN if they are so
    already.

    Draws by `fit_laplace` with the Gauss-Newton matrix are weights of the network linearised at
    the MAP: a unit is removed from that network, and the rest linearised at the MAP.

    References
    ----------
    M. C. Mozer and P. Smolensky, Skeletonization: a technique for trimming the fat from a network
    via relevance assessment, NIPS 1988.

    A. S. Morcos, D. G. T. Barrett, N. C. Rabinowitz and M. Botvinick, On the importance of single
    directions for generalization, ICLR 2018. :doi:`10.48550/arXiv.1803.06959`

    R. J. Bell and P. Dean, Atomic vibrations in vitreous silica, Discussions of the Faraday Society
    50, 1970. :doi:`10.1039/DF9705000055` (The participation ratio.)

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=(5,)), wp.Gaussian(noise=0.1))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> y = np.sin(4 * x[:, 0])
    >>> fit = wp.fit_map(bnn, x, y, prior=wp.normal_prior(bnn))
    >>> found = wp.diagnostics.unit_ablation(bnn, fit, x, y).squeeze()
    >>> found["ablation_loss.hidden_0"].shape
    (5,)
    >>> bool(1 < found["effective_units_by_layer"] < 5)
    True
    >>> bool(found["rank_correlation_by_layer"].sel(measure="both") > 0.5)
    True
    """
    parts = parts_of(bnn, fit)
    new_inputs(bnn, fit, x)
    inputs, targets = _data.checked(bnn, x, y)
    layers = checked_layers(bnn)
    chosen = _spread(parts[0].weights.num_draws, num_draws)
    pieces = []
    for part in parts:
        looked_at = part.weights.take(chosen)
        found = evaluate(_of_draw, part.model, looked_at, inputs, targets, at_once=1)
        pieces.append(_summarise(layers, found, looked_at))
    posterior = fit["posterior"].dataset
    coords = {
        **posterior.coords,
        "draw": posterior["draw"].to_numpy()[chosen],
        "measure": list(_MEASURES),
    }
    dims = {f"size.{layer.name}": ("measure", layer.name) for layer in layers}
    return lay_out_units(pieces, coords, dims | {"rank_correlation_by_layer": ("measure", "layer")})


def _spread(available: int, num_draws: int | None) -> np.ndarray:
    if num_draws is None:
        return np.arange(available)
    wanted = min(_checks.integer("num_draws", num_draws, 1), available)
    return ((np.arange(wanted) + 0.5) * available / wanted).astype(int)


def _of_draw(bnn: Any, weights, x, y) -> dict[str, Any]:
    """Compute the loss without every unit, and the standard deviation of the unit over rows."""
    output, layers = density.outputs(bnn, weights, x), hidden_layers_of(bnn.network) or ()
    units = bnn.network.hidden_units(weights, x)
    widest = max(*(layer.num_units for layer in layers), output.shape[1])
    at_once = max(1, _NUMBERS_AT_ONCE // (len(x) * widest))
    found = {}
    for layer in layers:

        def loss(unit, layer=layer):
            without = bnn.network.apply_without(weights, x, layer.name, unit)
            moved = jnp.abs(without - output).max()
            known, left = (_log_density(bnn, out, weights, y) for out in (output, without))
            same = moved <= _STILL * jnp.abs(output).max()
            return jnp.where(same, 0.0, (known - left).sum())

        numbers = jnp.arange(layer.num_units)
        found[f"ablation_loss.{layer.name}"] = jax.lax.map(loss, numbers, batch_size=at_once)
        found[f"spread.{layer.name}"] = _sd(units[layer.name].post)
    return found


def _log_density(bnn: BNN, output, weights, y) -> jax.Array:
    """Compute the log density of every target, given the network's outputs."""
    law = bnn.likelihood.distribution(output, weights)
    return law.log_prob(bnn.likelihood.observed(y, output.dtype))


def _sd(signal: jax.Array) -> jax.Array:
    """Compute the standard deviation over the rows, scaled so that no square overflows."""
    apart = signal - signal.mean(axis=0)
    largest = jnp.abs(apart).max(axis=0)
    return largest * jnp.sqrt(((apart / jnp.where(largest > 0, largest, 1.0)) ** 2).mean(axis=0))


def _summarise(
    layers: Sequence[HiddenLayer], found: dict[str, Any], weights: Draws
) -> dict[str, Any]:
    by_unit, largest, effective, correlation = {}, [], [], []
    for layer in layers:
        loss, spread = found[f"ablation_loss.{layer.name}"], found[f"spread.{layer.name}"]
        incoming = layer.incoming_of(weights)
        known = layer.outgoing is not None
        outgoing = weights[layer.outgoing] if known else np.full((*incoming.shape[:-1], 1), np.nan)
        size = _sizes(incoming, outgoing, spread)
        by_unit[f"ablation_loss.{layer.name}"], by_unit[f"size.{layer.name}"] = loss, size
        by_unit[f"effective_inputs.{layer.name}"] = _participation(np.abs(incoming), power=2)
        largest.append(loss.max(axis=-1))
        effective.append(_participation(loss))
        correlation.append(_rank_correlation(size, loss[:, :, None]))
    return {
        **by_unit,
        "largest_ablation_loss_by_layer": np.stack(largest, -1),
        "effective_units_by_layer": np.stack(effective, -1),
        "rank_correlation_by_layer": np.stack(correlation, -1),
    }


def _sizes(incoming: np.ndarray, outgoing: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Compute every measure of the units' sizes: (chain, draw, measure, unit)."""
    both = np.concatenate([incoming, outgoing], axis=-1)
    norms = [_norm(weights) for weights in (incoming, outgoing, both)]
    return np.stack([*norms, norms[1] * spread], axis=2)


def _norm(vectors: np.ndarray) -> np.ndarray:
    largest = np.abs(vectors).max(axis=-1, keepdims=True)
    scaled = vectors / np.where(largest > 0, largest, 1.0)
    return largest[..., 0] * np.sqrt(np.square(scaled).sum(axis=-1))


def _participation(values: np.ndarray, power: int = 1) -> np.ndarray:
    """Compute the participation ratio of numbers; those below zero count as zero."""
    largest = values.max(axis=-1, keepdims=True)
    known = (largest > 0) & np.isfinite(largest)  # false for NaN
    shares = np.where(known, np.clip(values, 0.0, None), 0.0) / np.where(known, largest, 1.0)
    shares = shares**power
    squares = np.square(shares).sum(axis=-1)
    ratio = np.square(shares.sum(axis=-1)) / np.where(known[..., 0], squares, 1.0)
    return np.where(known[..., 0], ratio, np.nan)


def _rank_correlation(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Compute Spearman's correlation along the last axis; NaN if either does not vary."""
    ranks = [_ranks(values) for values in (some, others)]
    first, second = (r - r.mean(axis=-1, keepdims=True) for r in ranks)
    scale = np.sqrt(np.square(first).sum(axis=-1) * np.square(second).sum(axis=-1))
    shared = (first * second).sum(axis=-1)
    return np.where(scale > 0, shared / np.where(scale > 0, scale, 1.0), np.nan)


def _ranks(values: np.ndarray) -> np.ndarray:
    size = np.abs(values)
    largest = np.where(np.isinf(size), 0.0, size).max(axis=-1, keepdims=True)
    return rankdata(np.round(values / np.where(largest > 0, largest, 1.0) / _TIE), axis=-1)
