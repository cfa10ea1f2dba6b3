"""Runs Markov chains in pieces: compiled chunks of draws, with a look at the clock in between.

What a chain does depends on its key and on the number of the iteration, never on where the chunks
were cut.
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from weightprior.inference import _batch
from weightprior.inference._optimise import minimise
from weightprior.inference._standardised import Standardised

__all__ = ["Kernel", "Plan", "begin", "sample"]

# Draws that one call of the compiled program can hold, and how long a call should take: long
# enough to cost nothing, short enough to show progress and to answer an interrupt.
_CHUNK = 100
_CHUNK_SECONDS = 0.5
# Starts are to be reasonable, not optimal: the sampler finds its way from there.
_START_ITERATIONS = 100
_START_TOLERANCE = 1e-1
_ONE = np.int32(1)


class Kernel(Protocol):
    """A hashable object that begins a chain at a position and moves it once."""

    def init(self, key, position, log_density, options) -> Any:
        """State of a chain that has not moved yet."""
        ...

    def step(self, key, state, log_density, options, iteration) -> tuple[Any, dict[str, jax.Array]]:
        """New state, and `acceptance_rate diverging energy n_steps step_size` of the move."""
        ...

    def position(self, state) -> jax.Array:
        """Where a chain stands."""
        ...

    def log_density(self, state) -> jax.Array:
        """The density there."""
        ...


class Plan(NamedTuple):
    """How long to run.

    Attributes
    ----------
    num_warmup, num_samples, thinning : int
        Iterations that are dropped, draws that are kept, and iterations per kept draw.
    target_accept_prob : float
        What the step size is tuned to.
    """

    num_warmup: int
    num_samples: int
    thinning: int
    target_accept_prob: float


class _Chain(NamedTuple):
    key: jax.Array
    iteration: jax.Array
    state: Any


def begin(
    kernel: Kernel, shared: Any, parts: Sequence[Any], keys: Sequence[Any], starts: Sequence[Any]
) -> list[Any]:
    """Begin one chain per part, which may come several times.

    It starts at the weights in `starts` or, where these are None, at the end of a short
    optimisation from a draw of the prior.
    """
    if starts[0] is None:
        task, items = _begin_at_draw, list(zip(parts, keys, strict=True))
    else:
        task, items = _begin_at_weights, list(zip(parts, keys, starts, strict=True))
    # What comes next compiles meanwhile.
    chain = _batch.prepare(task, kernel, shared, items[0], len(items))
    _batch.prepare(_advance, kernel, (*shared, _ONE), (parts[0], chain, _ONE), len(items))
    return _batch.run(task, kernel, shared, items)


def sample(
    kernel: Kernel, shared: Any, parts: Sequence[Any], chains: list[Any], plan: Plan, bar: tqdm
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Run all chains through warm-up and sampling.

    Returns
    -------
    weights, stats : dict of str to array
        Axes in front: chains (of all priors, in the order given) and draws.
    """
    bar.set_description("fit_mcmc compiling")
    _batch.run(_advance, kernel, (*shared, _ONE), _items(parts, chains, 0))  # waits for it
    bar.reset()  # so that its rate is that of the chains
    phases = (("warm-up", 1, plan.num_warmup), ("sampling", plan.thinning, plan.num_samples))
    pieces = []
    for phase, thinning, total in phases:
        bar.set_description(f"fit_mcmc {phase}")
        done, rate = 0, 1.0 / _CHUNK_SECONDS
        while done < total:
            size = int(np.clip(rate * _CHUNK_SECONDS, 1, min(_CHUNK, total - done)))
            clock = time.perf_counter()
            items = _items(parts, chains, size)
            ended = _batch.run(_advance, kernel, (*shared, np.int32(thinning)), items)
            rate = size / (time.perf_counter() - clock)
            chains = [chain for chain, *_ in ended]
            piece = [jax.tree.map(lambda a, n=size: a[:n], kept) for _, *kept in ended]
            if phase == "sampling":
                pieces.append(jax.tree.map(lambda *a: np.stack(a), *piece))
            done += size
            _report(bar, size * thinning, piece, pieces)
    return jax.tree.map(lambda *a: np.concatenate(a, axis=1), *pieces)


def _items(parts: Sequence[Any], chains: list[Any], size: int) -> list[Any]:
    return [(part, chain, np.int32(size)) for part, chain in zip(parts, chains, strict=True)]


def _report(bar: tqdm, iterations: int, latest: list[Any], pieces: list[Any]) -> None:
    acceptance = np.mean([stats["acceptance_rate"].mean() for _, stats in latest])
    divergences = sum(int(stats["diverging"].sum()) for _, stats in pieces)
    bar.set_postfix_str(f"acceptance {acceptance:.2f}, divergences {divergences}", refresh=False)
    bar.update(iterations)


def _begin_at_draw(kernel: Kernel, shared: Any, item: Any) -> _Chain:
    part, key = item
    space = _space(shared, part)
    key_draw, key_chain = jax.random.split(key)
    start = space.draw(key_draw)
    # The noise stays where it was drawn: fitting it together with the weights leads to the edge
    # of the space, where a flexible network meets every target and the noise vanishes.
    fixed = space.mask("log_noise")
    near = minimise(
        lambda z: -space.log_density(jnp.where(fixed, start, z)),
        start,
        _START_TOLERANCE,
        _START_ITERATIONS,
    )
    return _begin(kernel, shared, space, key_chain, near.position)


def _begin_at_weights(kernel: Kernel, shared: Any, item: Any) -> _Chain:
    part, key, weights = item
    space = _space(shared, part)
    position = space.position(jax.tree.map(lambda a: jnp.asarray(a, space.dtype), weights))
    return _begin(kernel, shared, space, jax.random.split(key)[1], position)


def _begin(kernel: Kernel, shared: Any, space: Standardised, key, position) -> _Chain:
    key_init, key_chain = jax.random.split(key)
    state = kernel.init(key_init, position, space.log_density, shared[3])
    return _Chain(key_chain, jnp.zeros((), jnp.int32), state)


def _advance(kernel: Kernel, shared: Any, item: Any):
    """Move a chain by `size` draws, at most a chunk; what stands behind them is not filled."""
    *shared, thinning = shared
    part, chain, size = item
    space = _space(shared, part)

    def iterate(_, carry):
        iteration, state, merged = carry
        step_key = jax.random.fold_in(chain.key, iteration)
        state, stats = kernel.step(step_key, state, space.log_density, shared[3], iteration)
        return iteration + 1, state, _merge(merged, stats, thinning)

    def draw(i, carry):
        iteration, state, positions, kept = carry
        empty = jax.tree.map(lambda a: jnp.zeros(a.shape[1:], a.dtype), kept)
        iteration, state, stats = jax.lax.fori_loop(0, thinning, iterate, (iteration, state, empty))
        positions = positions.at[i].set(kernel.position(state))
        kept = jax.tree.map(lambda a, v: a.at[i].set(v), kept, stats)
        return iteration, state, positions, kept

    positions = jnp.zeros((_CHUNK, space.size), space.dtype)
    first = (chain.iteration, chain.state, positions, _no_stats(space.dtype))
    iteration, state, positions, kept = jax.lax.fori_loop(0, size, draw, first)
    return _Chain(chain.key, iteration, state), jax.vmap(space.weights)(positions), kept


def _space(shared: Any, part: Any) -> Standardised:
    bnn, x, y, _ = shared
    return Standardised(bnn, x, y, part, jnp.result_type(float))


def _no_stats(dtype: Any) -> dict[str, jax.Array]:
    kinds = {
        "acceptance_rate": dtype,
        "diverging": bool,
        "energy": dtype,
        "n_steps": jnp.int32,
        "step_size": dtype,
    }
    return {name: jnp.zeros(_CHUNK, kind) for name, kind in kinds.items()}


def _merge(merged: dict, stats: dict, thinning) -> dict:
    """Statistics of all the moves behind one kept draw."""
    rate = merged["acceptance_rate"]
    return {
        "acceptance_rate": rate + stats["acceptance_rate"] / jnp.asarray(thinning, rate.dtype),
        "diverging": merged["diverging"] | stats["diverging"],
        "energy": stats["energy"],
        "n_steps": merged["n_steps"] + stats["n_steps"].astype(jnp.int32),
        "step_size": stats["step_size"],
    }
