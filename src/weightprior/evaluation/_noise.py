"""Noise of new targets, from chances that are drawn on the host.

JAX's generator takes as long to compile as a network. So where targets are normal, NumPy draws
standard normals for them; of others it draws the words of a key, and their law samples by that.
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
    """Chances of the targets of so many rows.

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
        Number of the block that these rows are; each has chances of its own.

    Returns
    -------
    array of shape (*shape, numbers)
        Random numbers that `sampled` takes for one sample on the last axis.
    """
    entropy = np.asarray(jax.random.key_data(key)).ravel().tolist()
    seed = np.random.SeedSequence(entropy, spawn_key=(block,))
    if not bnn.likelihood.normal_outputs:
        return seed.generate_state(2 * int(np.prod(shape))).reshape(*shape, 2)
    rng = np.random.default_rng(seed)
    return rng.standard_normal((*shape, num_rows * bnn.network.num_outputs))


def sampled(bnn: BNN, law: Any, chance: jax.Array) -> jax.Array:
    """Sample of a law of targets, from its chances."""
    if not bnn.likelihood.normal_outputs:
        return law.sample(key_of(chance))
    normal = getattr(law, "base_dist", law)  # of several outputs, whose event they are
    return normal.loc + normal.scale * chance.reshape(law.shape())
