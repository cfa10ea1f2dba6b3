"""Runs of Markov chains in pieces: compiled chunks of draws, with a look at the clock between them.

A move of a chain depends on its key and on the number of the iteration, never on the cuts between
chunks.
"""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.random import SeedSequence

from weightprior._running.interrupts import held_back
from weightprior._running.progress import Count
from weightprior.fits.evaluate import key_of
from weightprior.fits.programs import tracing
from weightprior.fits.task import Task
from weightprior.inference import _batch
from weightprior.inference._chains.chain import Chain, with_own_level
from weightprior.inference._chains.kernel import Kernel, target_of
from weightprior.inference._chains.meetings import meet, until_meeting
from weightprior.inference._chains.run import Plan, Run, next_chunk, pack, unpack
from weightprior.inference._coordinates.choose import all_coordinates, coordinates_of
from weightprior.inference._optima import near
from weightprior.model.bnn import BNN

__all__ = ["begin", "capacity", "evaluate", "move", "resume", "sample"]

# Seconds that a call of the compiled program should take: long enough to cost nothing, short enough
# to show progress and to answer an interrupt. Below, the weights and draws that one call can hold.
_CHUNK_SECONDS = 0.5
# Draws of a call if several processes must make the same calls.
_DRAWS_OF_ALL = 10
_CHUNK_WEIGHTS = 2**18
_MAX_DRAWS_PER_CALL = 1000
_ONE = np.int32(1)
# Factors of two by which a first step may be wrong.
_MAX_TRIALS = 20
# Number of keys of a chain (one to begin it, one to move it), and of words of each.
_KEYS = (2, 2)


def begin(
    kernel: Kernel,
    shared: Any,
    tasks: Sequence[Task],
    seeds: Sequence[SeedSequence],
    starts: Sequence[Any],
    meanwhile: Callable[[], Any] = lambda: None,
) -> list[Any]:
    """Begin one chain per task; a task may come several times.

    A chain starts at the weights in `starts` or, if these are None, at the end of a short
    optimisation from a draw of the prior. `meanwhile` is called once the programs have begun to
    compile.
    """
    program, keys = _begin_at_weights, [_branch(seed, 1).generate_state(4) for seed in seeds]
    items = [(task, key.reshape(_KEYS)) for task, key in zip(tasks, keys, strict=True)]
    like = starts[0]
    if starts[0] is None:
        program, like = _begin_at_position, near.position(shared, tasks[0])
    # The longest to compile first; the others compile beside it.
    chain = _batch.prepare(program, kernel, shared, (*items[0], like), len(items))
    _batch.prepare(_advance, kernel, (*shared, _ONE), (tasks[0], chain, _ONE), len(items))
    if starts[0] is None:
        near.prepare(shared, tasks[0])
    meanwhile()
    if starts[0] is None:
        starts = near.find(shared, tasks, [_branch(seed, 0) for seed in seeds])
    started = [(*item, start) for item, start in zip(items, starts, strict=True)]
    chains = _batch.run(program, kernel, shared, started)
    return _with_first_steps(kernel, shared, tasks, chains) if kernel.moves_to_begin else chains


def _branch(seed: SeedSequence, number: int) -> SeedSequence:
    return SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, number))


def evaluate(kernel: Kernel, shared: Any, tasks: Sequence[Task], chains: list[Any]) -> list[Any]:
    """Evaluate the density at the chains' positions, by a move of no length before iteration 0.

    So only the program of the moves contains the density, and it is compiled once.
    """
    return move(kernel, shared, tasks, _at_iteration(chains, -1), 1)[0]


def _with_first_steps(
    kernel: Any, shared: Any, tasks: Sequence[Task], chains: list[Any]
) -> list[Any]:
    """Double or halve the step of every chain until its acceptance crosses the target.

    M. D. Hoffman and A. Gelman, The No-U-Turn sampler, JMLR 15, 2014, algorithm 4.
    """
    chains = evaluate(kernel, shared, tasks, chains)
    going, first = np.ones(len(chains), bool), None
    for trial in range(_MAX_TRIALS):
        # All chains every time: an accelerator would compile anew for another number of chains.
        _, (_, stats) = move(kernel, shared, tasks, _at_iteration(chains, -2 - trial), 1)
        accepted = stats["acceptance_rate"][:, 0] > shared[3]["target_accept_prob"]
        first = accepted if first is None else first
        going &= accepted == first
        for i in np.flatnonzero(going):
            state = kernel.with_step(chains[i].state, 2.0 if first[i] else 0.5)
            chains[i] = chains[i]._replace(state=state)
        if not going.any():
            break
    return chains


def _at_iteration(chains: list[Any], number: int) -> list[Any]:
    return [chain._replace(iteration=np.int32(number)) for chain in chains]


def resume(kernel: Kernel, shared: Any, tasks: Sequence[Task], run: Run) -> list[Any]:
    """Restore the chains of a run at their last state."""
    keys = np.zeros(_KEYS, np.uint32)
    zeros = {name: np.zeros(site.shape, np.float32) for name, site in shared[0].sites.items()}
    with held_back(), tracing:
        like = jax.eval_shape(partial(_begin_at_weights, kernel), shared, (tasks[0], keys, zeros))
    return [unpack(like, arrays) for arrays in run.chains]


def sample(
    kernel: Kernel,
    shared: Any,
    tasks: Sequence[Task],
    chains: list[Any],
    run: Run,
    plan: Plan,
    count: Count,
    keep: Callable[[Run], Any],
) -> Run:
    """Take all chains through the rest of warm-up and sampling.

    Parameters
    ----------
    kernel, shared, tasks, chains
        As for `begin`, and the chains that it returned.
    run : Run
        Progress of the chains so far.
    plan : Plan
        Number of iterations and draws to reach.
    count : Count
        Counter of iterations.
    keep : callable
        Called with the run after every chunk.

    Returns
    -------
    Run
        The complete run, or the run before an interrupt; the interrupted chunk is dropped.

    Raises
    ------
    KeyboardInterrupt
        If it came before the first draw.
    """
    try:
        move(kernel, shared, tasks, chains, 0)  # waits for the compiler
        rate = (1.0 if _batch.is_alone() else _DRAWS_OF_ALL) / _CHUNK_SECONDS
        meetings, most = kernel.meetings(plan.num_warmup), capacity(shared[0])
        while chunk := next_chunk(
            plan, run, rate * _CHUNK_SECONDS, most, until_meeting(run.iteration, meetings)
        ):
            count.doing = "sampling" if chunk.kept else "warm-up"
            clock = time.perf_counter()
            chains, piece = move(kernel, shared, tasks, chains, chunk.size, chunk.thinning)
            if _batch.is_alone():
                rate = chunk.size * chunk.thinning / (time.perf_counter() - clock)
            chains = meet(kernel, shared, tasks, chains)
            moved = run._replace(chains=[pack(chain) for chain in chains])
            # In one assignment, so that an interrupt finds either run whole.
            run = moved.with_draws(piece) if chunk.kept else moved
            keep(run)
            _report(count, run, piece[1])
    except KeyboardInterrupt:
        if not run.pieces:
            raise
    return run


def move(
    kernel: Kernel,
    shared: Any,
    tasks: Sequence[Task],
    chains: list[Any],
    num_draws: int,
    thinning: int = 1,
) -> tuple[list[Any], Any]:
    """Move chains on by `num_draws` draws, at most their `capacity`.

    Returns
    -------
    chains : list
    draws : tuple of dict of str to array
        Weights and statistics, (chain, draw, ...).
    """
    items = [(task, chain, np.int32(num_draws)) for task, chain in zip(tasks, chains, strict=True)]
    ended = _batch.run(_advance, kernel, (*shared, np.int32(thinning)), items)
    # The rows behind the draws were not filled.
    kept = [jax.tree.map(lambda a: a[:num_draws], rest) for _, *rest in ended]
    stats, weights = jax.tree.map(lambda *a: np.stack(a), *kept)
    return [chain for chain, *_ in ended], (_by_site(tasks[0], shared[0], weights), stats)


def capacity(bnn: BNN) -> int:
    """Return the number of draws that one call of the compiled program can hold."""
    num_weights = sum(math.prod(site.shape) for site in bnn.sites.values())
    return int(np.clip(_CHUNK_WEIGHTS // num_weights, 1, _MAX_DRAWS_PER_CALL))


def _report(count: Count, run: Run, latest: dict[str, np.ndarray]) -> None:
    told = [f"divergences {run.num_divergences}"]
    if "acceptance_rate" in latest:
        told.insert(0, f"acceptance {latest['acceptance_rate'].mean():.2f}")
    count.beside, count.done = ", ".join(told), run.iteration


def _begin_at_position(kernel: Kernel, shared: Any, item: Any) -> Chain:
    # In all coordinates, whichever the kernel uses: the simplest density compiles fastest.
    task, keys, position = item
    weights = all_coordinates(shared, task).weights(position)
    return _begin_at_weights(kernel, shared, (task, keys, weights))


def _begin_at_weights(kernel: Kernel, shared: Any, item: Any) -> Chain:
    task, keys, weights = item
    coordinates = coordinates_of(kernel.collapses, shared, task)
    position = coordinates.position(
        jax.tree.map(lambda a: jnp.asarray(a, coordinates.dtype), weights)
    )
    level = jnp.zeros((), coordinates.dtype) if coordinates.is_rounded else None
    state = kernel.init(key_of(keys[0]), position, target_of(coordinates, level), shared[3])
    return Chain(key_of(keys[1]), jnp.zeros((), jnp.int32), state, level)


def _advance(kernel: Kernel, shared: Any, item: Any):
    """Move a chain by `size` draws, at most its capacity; rows behind them are not filled."""
    *shared, thinning = shared
    task, chain, size = item
    coordinates = coordinates_of(kernel.collapses, shared, task)

    def move(iteration: jax.Array, stands: Any) -> tuple[Any, dict, jax.Array]:
        state, level = stands
        key, target = jax.random.fold_in(chain.key, iteration), target_of(coordinates, level)
        state, stats, draw = kernel.step(key, state, target, shared[3], iteration)
        weights = jnp.concatenate([draw[name].ravel() for name in coordinates.sites])
        if level is None:
            return (state, level), stats, weights
        whole = {name: a - level if name == "energy" else a for name, a in stats.items()}
        return with_own_level(kernel, state, level), whole, weights

    _, *like = jax.eval_shape(move, chain.iteration, (chain.state, chain.level))

    def iterate(_, carry):
        iteration, stands, merged, _ = carry
        stands, stats, weights = move(iteration, stands)
        return iteration + 1, stands, _merge(merged, stats, thinning), weights

    def draw(i, carry):
        iteration, stands, *kept = carry
        empty = jax.tree.map(lambda one: jnp.zeros(one.shape, one.dtype), like)
        begun = (iteration, stands, *empty)
        iteration, stands, *new = jax.lax.fori_loop(0, thinning, iterate, begun)
        return iteration, stands, *jax.tree.map(lambda a, v: a.at[i].set(v), kept, new)

    most = capacity(coordinates.bnn)
    kept = jax.tree.map(lambda one: jnp.zeros((most, *one.shape), one.dtype), like)
    first = (chain.iteration, (chain.state, chain.level), *kept)
    iteration, stands, *kept = jax.lax.fori_loop(0, size, draw, first)
    return Chain(chain.key, iteration, *stands), *kept


def _by_site(task: Task, bnn: BNN, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Split weights of draws, (..., weight), by site."""
    sites = {**task.prior.sites, **bnn.sites}
    ends = np.cumsum([math.prod(site.shape) for site in sites.values()])[:-1]
    pieces = zip(sites.items(), np.split(weights, ends, axis=-1), strict=True)
    return {name: a.reshape(*weights.shape[:-1], *site.shape) for (name, site), a in pieces}


def _merge(merged: dict, stats: dict, thinning) -> dict:
    """Add the statistics of a move to those of all moves behind one kept draw."""
    with_all = {"diverging": jnp.logical_or, "n_steps": jnp.add}
    means = {"acceptance_rate", "energy_variance"}

    def merge(name: str, value: jax.Array) -> jax.Array:
        if name in means:
            return merged[name] + value / jnp.asarray(thinning, value.dtype)
        return with_all[name](merged[name], value) if name in with_all else value

    return {name: merge(name, value) for name, value in stats.items()}
