"""Progress of a run of chains, in plain arrays: its draws, and the state from which to continue."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightprior.fits.evaluate import key_of

__all__ = ["Chunk", "Piece", "Plan", "Run", "next_chunk", "pack", "unpack"]

Piece = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


class Plan(NamedTuple):
    """Length of a run.

    Attributes
    ----------
    num_warmup, num_samples, thinning : int
        Numbers of iterations that are dropped, draws that are kept, and iterations per kept draw.
    target_accept_prob : float
        Acceptance probability to which the step size is tuned.
    """

    num_warmup: int
    num_samples: int
    thinning: int
    target_accept_prob: float


class Run(NamedTuple):
    """A run between two chunks of draws.

    Attributes
    ----------
    chains : list of dict of str to array
        State from which each chain continues, for all priors, in their order.
    pieces : tuple of (weights, stats)
        Draws kept so far, in pieces: dicts of arrays with the axes chain and draw in front.
    seconds : float
        Time taken so far.
    num_draws, num_divergences : int
        Draws kept of every chain, and divergences of all chains.
    """

    chains: list[dict[str, np.ndarray]]
    pieces: tuple[Piece, ...] = ()
    seconds: float = 0.0
    num_draws: int = 0
    num_divergences: int = 0

    @property
    def iteration(self) -> int:
        """Number of iterations of every chain, with the warm-up."""
        return int(self.chains[0]["iteration"])

    def with_draws(self, *pieces: Piece) -> "Run":
        """Return the run with further draws."""
        diverging = [stats["diverging"] for _, stats in pieces]
        return self._replace(
            pieces=(*self.pieces, *pieces),
            num_draws=self.num_draws + sum(d.shape[1] for d in diverging),
            num_divergences=self.num_divergences + sum(int(d.sum()) for d in diverging),
        )

    def draws(self, since: int = 0) -> Piece:
        """Join the pieces from number `since` on."""
        return jax.tree.map(lambda *a: np.concatenate(a, axis=1), *self.pieces[since:])


class Chunk(NamedTuple):
    """The next call: number of draws, iterations of each, and True if they are kept."""

    size: int
    thinning: int
    kept: bool


def next_chunk(
    plan: Plan, run: Run, affordable: float, capacity: int, until_meeting: float
) -> Chunk | None:
    """Choose the affordable iterations, and draws that the program can hold; None at the end."""
    warmup, draws = plan.num_warmup - run.iteration, plan.num_samples - run.num_draws
    if warmup > 0:
        # One draw behind all of them: it is dropped, and no other draw needs to be completed.
        most = min(warmup, until_meeting)
        return Chunk(1, int(np.clip(affordable, 1, most)), False)
    size = int(np.clip(affordable / plan.thinning, 1, min(draws, capacity)))
    return Chunk(size, plan.thinning, True) if draws > 0 else None


def pack(chain: Any) -> dict[str, np.ndarray]:
    """Return a chain's arrays by name; a random key as its words."""
    leaves = jax.tree_util.tree_flatten_with_path(chain)[0]
    return {
        _name(path): np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        for path, leaf in leaves
    }


def unpack(like: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Restore a chain with the structure, shapes and dtypes of `like` from the arrays of `pack`.

    Raises
    ------
    ValueError
        If the arrays are not those of such a chain.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    found = {name: (np.shape(a), a.dtype) for name, a in arrays.items()}
    expected = {
        _name(path): (found.get(_name(path)) if _is_key(leaf) else (leaf.shape, leaf.dtype))
        for path, leaf in leaves
    }
    if found != expected:
        raise ValueError(f"chains: expected the arrays {expected}; got {found}.")

    def restored(name: str, leaf: Any) -> Any:
        array = np.asarray(arrays[name])
        if _is_key(leaf):
            return key_of(jnp.asarray(array))
        return array

    return structure.unflatten([restored(_name(path), leaf) for path, leaf in leaves])


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
