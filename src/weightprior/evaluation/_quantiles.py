"""Predictions summarised row by row, in blocks of rows, without holding all draws."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightprior import _arrays
from weightprior._running.memory import memory
from weightprior.evaluation._blocks import collect
from weightprior.evaluation._noise import chances, sampled
from weightprior.fits.evaluate import evaluate
from weightprior.fits.reading import Draws, Part
from weightprior.model import density
from weightprior.model.bnn import BNN
from weightprior.model.trials import in_trials

__all__ = ["check_room", "checked_levels", "samples", "summed_up"]

# Minimum number of draws with noise for an estimate of a quantile. An sd is then off by one
# percent, and the probability below a quantile by less than 0.01.
_NUM_NOISY = 4000
# Numbers held at once for each quantity.
_NUMBERS_AT_ONCE = 4_000_000


def checked_levels(bnn: BNN, quantiles: Any) -> np.ndarray:
    """Return the levels of quantiles; raise if they are not levels or targets are classes."""
    if bnn.likelihood.has_classes:
        raise ValueError(
            "quantiles: expected None since targets are classes; got levels. Leave quantiles "
            "out: `mean` is the probability of every class."
        )
    levels = np.atleast_1d(_arrays.finite("quantiles", quantiles))
    if levels.ndim != 1 or not levels.size or np.any((levels <= 0) | (levels >= 1)):
        raise ValueError(
            f"quantiles: expected numbers between 0 and 1, such as (0.05, 0.95); got {quantiles!r}."
        )
    return levels


def check_room(number: int) -> None:
    """Raise if two copies of this many numbers of a prediction do not fit into memory."""
    needed, have = 16 * number, memory()
    if needed > have:
        raise MemoryError(
            f"predict: expected predictions that fit into {have / 1e9:.0f} GB of memory; got "
            f"{needed / 1e9:.0f} GB of them. Pass quantiles=(0.05, 0.95), which gives mean, sd and "
            "quantiles of every row without holding the draws, or fewer rows at a time."
        )


def summed_up(
    part: Part, x: np.ndarray, key: jax.Array, levels: np.ndarray, trials: Any
) -> dict[str, np.ndarray]:
    """Compute the mean, sd and quantiles of new targets in every row.

    Parameters
    ----------
    part : Part
        A fit of one prior.
    x : array of shape (rows, features)
        New inputs.
    key : JAX key
        Decides the noise.
    levels : array of shape (levels,)
        Levels of the quantiles.
    trials : array of shape (rows,), optional
        As a user passed them.
    """
    lead = part.weights.num_chains, part.weights.num_draws
    copies = -(-_NUM_NOISY // int(np.prod(lead)))
    size = min(len(x), max(1, _NUMBERS_AT_ONCE // (int(np.prod(lead)) * copies)))

    def of_block(block: int) -> dict[str, np.ndarray]:
        # The last block is padded with the last row: another shape would be compiled anew.
        rows = np.minimum(np.arange(block * size, (block + 1) * size), len(x) - 1)
        model = in_trials(part.model, None if trials is None else np.asarray(trials)[rows], size)
        draws = part.weights, chances(model, key, (*lead, copies), size, block)
        drawn = evaluate(_noisy, model, draws, x[rows])
        y = drawn["y"].reshape(-1, *drawn["y"].shape[3:])
        mean, quantiles = drawn["mean"].mean(axis=(0, 1)), np.quantile(y, levels, axis=0)
        return {"mean": mean, "sd": _sd(drawn, y), "quantiles": np.moveaxis(quantiles, 0, -1)}

    return collect(map(of_block, range(-(-len(x) // size))), len(x))


def _sd(drawn: dict[str, np.ndarray], y: np.ndarray) -> np.ndarray:
    """Compute the sd of new targets, from the variances of their distributions if finite."""
    means, variances = (drawn[name].reshape(-1, *y.shape[1:]) for name in ("mean", "variance"))
    total = variances.mean(axis=0) + means.var(axis=0, ddof=min(1, len(means) - 1))
    return np.where(np.isfinite(total), np.sqrt(total), y.std(axis=0, ddof=1))


def samples(part: Part, x: np.ndarray, key: jax.Array, chosen: np.ndarray) -> np.ndarray:
    """Draw new targets in every row, one sample for each chosen draw.

    Parameters
    ----------
    part : Part
        A fit of one prior.
    x : array of shape (rows, features)
        New inputs.
    key : JAX key
        Decides the noise.
    chosen : array of int of shape (samples,)
        Indices of draws, counted over all chains.

    Returns
    -------
    array of shape (samples, rows) or (samples, rows, targets)
    """
    taken = {
        name: values.reshape(-1, *values.shape[2:])[None, chosen]
        for name, values in part.weights.items()
    }
    draws = Draws(taken), chances(part.model, key, (1, len(chosen), 1), len(x))
    return evaluate(_noisy, part.model, draws, x)["y"][0, :, 0]


def _noisy(bnn: BNN, draw: Any, x: Any) -> dict[str, jax.Array]:
    weights, of_copies = draw
    law = density.targets(bnn, weights, x)
    y = jax.vmap(lambda chance: sampled(bnn, law, chance))(of_copies)
    mean = density.mean(bnn, weights, x)
    return {"mean": mean, "variance": _variance(law, mean), "y": y.astype(x.dtype)}


def _variance(law: Any, mean: jax.Array) -> jax.Array:
    """Return the variances of a distribution; NaN if it does not define them."""
    try:
        return jnp.broadcast_to(law.variance, mean.shape)
    except NotImplementedError:
        return jnp.full_like(mean, jnp.nan)
