"""Chains that climb from the prior to the posterior, temperature by temperature."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.random import SeedSequence

from weightprior.fits.evaluate import evaluate, numbered
from weightprior.fits.problem import Problem
from weightprior.fits.task import Task
from weightprior.inference import _batch
from weightprior.inference._chains.chains import begin, capacity, move
from weightprior.inference._chains.chains import evaluate as evaluate_chains
from weightprior.inference._chains.hmc import HMC
from weightprior.inference._chains.meetings import meet, until_meeting
from weightprior.inference._coordinates.collapsed import CollapsedOutput, collapsible_sites
from weightprior.inference.free_energy import Curve
from weightprior.model import density
from weightprior.model.bnn import BNN
from weightprior.model.priors.base import Prior

__all__ = ["ACCEPT", "Choice", "Sampler", "TemperedSample"]

# The log likelihood turns within a quarter of an average weight's period, 1.6 sds. A slow output,
# which the data leave open, may take ten times as long, but the evidence need not wait for it.
_KERNEL = HMC(longest=2.4)
# Replaces a log likelihood of minus infinity by a number for calculations.
_IMPOSSIBLE = -1e30
# Acceptance probability to which step sizes are tuned.
ACCEPT = 0.8


class TemperedSample(NamedTuple):
    """Chains at one temperature of one prior.

    Attributes
    ----------
    beta : float
        Inverse temperature.
    curve : Curve
        Curve of its draws, (chain, draw). If the output layer is integrated out, of the draws of
        the other weights.
    chains : list
        State of each chain; for the prior itself, weights.
    draws : tuple of dict of str to array
        Weights and statistics, (chain, draw, ...); only at 1, for the posterior.
    """

    beta: float
    curve: Curve
    chains: list[Any]
    draws: Any = None


# Function that chooses the next rung of each ladder, given all rungs: None if a ladder is complete.
Choice = Callable[[Sequence[list[TemperedSample]]], list[float | None]]


class Sampler:
    """Chains of all priors, with methods that move them."""

    def __init__(self, problem: Problem, num_chains: int) -> None:
        self.problem, self.num_chains = problem, num_chains
        self._pace = _batch.Pace()

    def run_ladder(
        self,
        choose: Choice,
        num_warmup: int,
        num_samples: int,
        run: int,
        *,
        on_rung: Callable[[], Any] = lambda: None,
    ) -> list[list[TemperedSample]]:
        """Climb ladders from the prior, one per prior; each rung begins at the one before."""
        ladders = [[self._prior(task, num_samples, run)] for task in self.problem.tasks]
        while going := {i: beta for i, beta in enumerate(choose(ladders)) if beta is not None}:
            steps = [(i, ladders[i][-1], beta) for i, beta in going.items()]
            for i, rung in zip(going, self._move(steps, run, num_warmup, num_samples), strict=True):
                ladders[i].append(rung)
            on_rung()
        return ladders

    def refine(
        self, part: int, ladder: list[TemperedSample], num_warmup: int, num_samples: int, run: int
    ) -> list[TemperedSample]:
        """Add a rung between every two rungs of one prior; it begins at the lower."""
        pairs = itertools.pairwise(ladder)
        steps = [(part, low, _between(low.beta, high.beta)) for low, high in pairs]
        moved = self._move(steps, run, num_warmup, num_samples)
        return sorted([*ladder, *moved], key=lambda rung: rung.beta)

    def extend(
        self, tops: Sequence[TemperedSample], num_samples: int, num_warmup: int
    ) -> list[Any]:
        """Return `num_samples` posterior draws per prior: those on top of its ladder, and more."""
        chains = [chain for top in tops for chain in top.chains]
        tasks = [task for task in self.problem.tasks for _ in range(self.num_chains)]
        shared = self._shared(num_warmup)
        missing = num_samples - tops[0].curve.linear.shape[1]
        _, more = self._draws(shared, tasks, chains, missing)
        both = jax.tree.map(lambda *a: np.concatenate(a), *(top.draws for top in tops))
        if more is not None:
            both = jax.tree.map(lambda *a: np.concatenate(a, axis=1), both, more)
        both = jax.tree.map(lambda a: a[:, :num_samples], both)
        return [jax.tree.map(lambda a, own=own: a[own], both) for own in self._slices(len(tops))]

    def _prior(self, task: Task, num_samples: int, run: int) -> TemperedSample:
        # Chain by chain, so that another number of chains compiles nothing.
        numbers, bnn = numbered(1, num_samples), self.problem.bnn
        of_chains = [
            evaluate(
                _draw,
                bnn,
                numbers,
                task.prior,
                jax.random.fold_in(jax.random.fold_in(self.problem.key, i), run),
            )
            for i in range(self.num_chains)
        ]
        weights = jax.tree.map(lambda *chains: np.concatenate(chains), *of_chains)
        starts = [{n: w[i, -1] for n, w in weights.items()} for i in range(self.num_chains)]
        return TemperedSample(0.0, self._curve(task, weights), starts)

    def _curve(self, task: Task, weights: Any) -> Curve:
        bnn = self.problem.bnn
        sites = {name: np.asarray(weights[name], np.float64) for name in bnn.sites}
        collapsible = collapsible_sites(bnn, task.prior)
        log_likelihood = _integrated if collapsible else _plain
        curve = Curve(*evaluate(log_likelihood, self.problem.bnn, sites, *self.problem.rows, task))
        if np.isnan(curve.at(1.0)).any():
            raise FloatingPointError(
                "fit_tempered: the log likelihood of some draws is NaN. Standardise x and y, or "
                "give the prior smaller scales."
            )
        return curve._replace(linear=np.maximum(curve.linear, _IMPOSSIBLE))

    def _move(
        self,
        steps: list[tuple[int, TemperedSample, float]],
        run: int,
        num_warmup: int,
        num_samples: int,
    ) -> list[TemperedSample]:
        """Take chains of a prior from a rung to another temperature, and draw there."""
        shared = self._shared(num_warmup)
        tasks = self.problem.tasks
        of_steps = [
            tasks[i]._replace(row_weights=beta * tasks[i].row_weights) for i, _, beta in steps
        ]
        cooled = [task for task in of_steps for _ in range(self.num_chains)]
        starts = [start for _, rung, _ in steps for start in rung.chains]
        seeds = [
            SeedSequence(self.problem.seed, spawn_key=(i, run)) for i in range(self.num_chains)
        ]
        chains = _started(shared, cooled, seeds * len(steps), starts, run)
        chains = self._settle(shared, cooled, chains, num_warmup)
        chains, draws = self._draws(shared, cooled, chains, num_samples)
        rungs = []
        for (i, _, beta), own in zip(steps, self._slices(len(steps)), strict=True):
            weights, stats = jax.tree.map(lambda a, own=own: a[own], draws)
            kept = (weights, stats) if beta == 1 else None
            rungs.append(
                TemperedSample(beta, self._curve(self.problem.tasks[i], weights), chains[own], kept)
            )
        return rungs

    def _shared(self, num_warmup: int) -> Any:
        options = {
            "target_accept_prob": np.asarray(ACCEPT),
            "num_warmup": np.asarray(num_warmup),
        }
        return *self.problem.data, options

    def _settle(self, shared: Any, tasks: list[Task], chains: list[Any], count: int) -> list[Any]:
        """Move chains by `count` iterations, and keep no draw."""
        meetings, total = _KERNEL.meetings(count), count
        while count > 0:
            far = until_meeting(total - count, meetings)
            size = int(min(self._pace.num_steps, count, far))
            with self._pace.measured(size):
                # One draw behind all of them: it is dropped.
                chains, _ = move(_KERNEL, shared, tasks, chains, 1, size)
            chains = meet(_KERNEL, shared, tasks, chains)
            count -= size
        return chains

    def _draws(self, shared: Any, tasks: list[Task], chains: list[Any], num_samples: int) -> Any:
        """Move chains by `num_samples` draws; return chains and draws, None for no draws."""
        pieces, most, missing = [], capacity(self.problem.bnn), num_samples
        while missing > 0:
            size = min(self._pace.num_steps, most, missing)
            with self._pace.measured(size):
                chains, piece = move(_KERNEL, shared, tasks, chains, size)
            pieces.append(piece)
            missing -= size
        draws = jax.tree.map(lambda *a: np.concatenate(a, axis=1), *pieces) if pieces else None
        return chains, draws

    def _slices(self, count: int) -> list[slice]:
        """Return a slice per step: the places of its chains among all chains."""
        size = self.num_chains
        return [slice(i * size, (i + 1) * size) for i in range(count)]


def _started(shared, cooled, seeds, starts, run: int) -> list[Any]:
    """Begin chains at new temperatures from draws of the prior, or continue existing chains."""
    chains: list[Any] = [None] * len(starts)
    fresh = [i for i, start in enumerate(starts) if isinstance(start, dict)]
    if fresh:
        tasks, own, places = ([of[i] for i in fresh] for of in (cooled, seeds, starts))
        begun = begin(_KERNEL, shared, tasks, own, places)
        for i, chain in zip(fresh, begun, strict=True):
            chains[i] = chain
    others = [i for i, chain in enumerate(chains) if chain is None]
    if others:
        items = [(starts[i], np.int32(run)) for i in others]
        moved = _batch.run(_with_target, _KERNEL, None, items)
        moved = evaluate_chains(_KERNEL, shared, [cooled[i] for i in others], moved)
        for i, chain in zip(others, moved, strict=True):
            chains[i] = chain
    return chains


def _with_target(kernel: HMC, shared: None, item: Any) -> Any:
    """Return a chain at another temperature, with iterations counted from 0."""
    chain, run = item
    return chain._replace(
        key=jax.random.fold_in(chain.key, run),
        iteration=jnp.zeros_like(chain.iteration),
        state=kernel.with_target(chain.state),
    )


def _draw(bnn: BNN, number: Any, prior: Prior, key: jax.Array) -> dict[str, jax.Array]:
    return density.draw(bnn, jax.random.fold_in(key, number), prior, np.float64)


def _plain(bnn: BNN, weights, x, y, task: Task) -> tuple[jax.Array, ...]:
    none = jnp.zeros(0)
    return density.log_likelihood(bnn, weights, x, y, task.row_weights), none, none


def _integrated(bnn: BNN, weights, x, y, task: Task) -> tuple[jax.Array, ...]:
    integrated = collapsible_sites(bnn, task.prior)
    return CollapsedOutput(bnn, x, y, task, jnp.float64, integrated).quadratic(weights)


def _between(low: float, high: float) -> float:
    return float(np.sqrt(low * high)) if low > 0 else high / 2
