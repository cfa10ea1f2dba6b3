"""Noise of new targets, from random numbers that are drawn on the host.

JAX's generator takes as long to compile as a network. For normal targets, NumPy therefore draws
standard normals. For other targets it draws a key, and their distribution samples with that key.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from weightprior.fits.evaluate import key_of
from weightprior.model.bnn import BNN

__all__ = ["chances", "sampled"]


def chances(
    bnn: BNN, key: jax.Array, shape: Sequence[int], num_rows: int, block: int = 0
) -> np.ndarray:
    """Draw the random numbers for the targets of some rows.

    Parameters
    ----------
    bnn : BNN
        The model.
    key : JAX key
        Decides the noise.
    shape : sequence of int
        Samples: chains, draws, and perhaps copies of each.
    num_rows : int
        Rows of a sample.
    block : int
        Index of this block of rows; each block has its own random numbers.

    Returns
    -------
    array of shape (*shape, numbers)
        Random numbers. `sampled` takes those along the last axis for one sample.
    """
    entropy = np.asarray(jax.random.key_data(key)).ravel().tolist()
    seed = np.random.SeedSequence(entropy, spawn_key=(block,))
    if not bnn.likelihood.normal_outputs:
        return seed.generate_state(2 * int(np.prod(shape))).reshape(*shape, 2)
    rng = np.random.default_rng(seed)
    return rng.standard_normal((*shape, num_rows * bnn.network.num_outputs))


def sampled(bnn: BNN, law: Any, chance: jax.Array) -> jax.Array:
    """Sample targets from their distribution with the random numbers of `chances`."""
    if not bnn.likelihood.normal_outputs:
        return law.sample(key_of(chance))
    normal = getattr(law, "base_dist", law)  # several outputs are one event
    return normal.loc + normal.scale * chance.reshape(law.shape())
