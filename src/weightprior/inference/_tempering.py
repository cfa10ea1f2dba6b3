"""Chains that climb from the prior to the posterior, temperature by temperature."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm.auto import tqdm

from weightprior.draws import double, evaluate
from weightprior.inference import _batch, _chains
from weightprior.inference._hmc import HMC
from weightprior.inference._standardised import Part
from weightprior.model import BNN, Prior

__all__ = ["ACCEPT", "Choice", "Rung", "Sampler"]

_KERNEL = HMC()
# What stands for a log likelihood of minus infinity, with which one can still calculate.
_IMPOSSIBLE = -1e30
# What step sizes are tuned to.
ACCEPT = 0.8


class Rung(NamedTuple):
    """Chains at one temperature of one prior.

    Attributes
    ----------
    beta : float
        Inverse temperature.
    energies : array of shape (chain, draw)
        Log likelihood of every draw.
    chains : list
        Where they stand; of the prior itself, weights.
    draws : tuple of dict of str to array
        Weights and statistics, (chain, draw, ...); only at 1, where they are the posterior's.
    """

    beta: float
    energies: np.ndarray
    chains: list[Any]
    draws: Any = None


# What comes next on each ladder, given the rungs of all: None where one is complete.
Choice = Callable[[Sequence[list[Rung]]], list[float | None]]


class Sampler(NamedTuple):
    """Chains of all priors, and how they are moved."""

    bnn: BNN
    x: np.ndarray
    y: np.ndarray
    fits: list[Part]
    keys: list[jax.Array]

    def climb(
        self, choose: Choice, num_warmup: int, num_samples: int, run: int, bar: tqdm
    ) -> list[list[Rung]]:
        """Ladders from the prior upwards, one per prior, each of whose rungs begins at the last."""
        ladders = [[self._prior(part, num_samples, run)] for part in self.fits]
        while going := {i: beta for i, beta in enumerate(choose(ladders)) if beta is not None}:
            steps = [(i, ladders[i][-1], beta) for i, beta in going.items()]
            for i, rung in zip(going, self._move(steps, run, num_warmup, num_samples), strict=True):
                ladders[i].append(rung)
            bar.update()
        return ladders

    def refine(
        self, part: int, ladder: list[Rung], num_warmup: int, num_samples: int, run: int
    ) -> list[Rung]:
        """A rung more between every two of one prior's, which begins at the lower."""
        pairs = itertools.pairwise(ladder)
        steps = [(part, low, _between(low.beta, high.beta)) for low, high in pairs]
        moved = self._move(steps, run, num_warmup, num_samples)
        return sorted([*ladder, *moved], key=lambda rung: rung.beta)

    def _prior(self, part: Part, num_samples: int, run: int) -> Rung:
        keys = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, run), num_samples))(
            jax.numpy.stack(self.keys)
        )
        weights = evaluate(_draw, self.bnn, keys, part.prior)
        starts = [{n: w[i, -1] for n, w in weights.items()} for i in range(len(self.keys))]
        return Rung(0.0, self._energies(part, weights), starts)

    def _energies(self, part: Part, weights: Any) -> np.ndarray:
        sites = double({name: weights[name] for name in self.bnn.sites})
        energies = evaluate(_energy, self.bnn, sites, self.x, self.y, part.row_weights)
        if np.isnan(energies).any():
            raise FloatingPointError(
                "fit_tempered: the log likelihood of some draws is NaN. Standardise x and y, or "
                "give the prior smaller scales."
            )
        return np.maximum(energies, _IMPOSSIBLE)

    def _move(
        self, steps: list[tuple[int, Rung, float]], run: int, num_warmup: int, num_samples: int
    ) -> list[Rung]:
        """Take chains of a prior from a rung to another temperature, and draw there."""
        options = {
            "target_accept_prob": np.asarray(ACCEPT),
            "num_warmup": np.asarray(num_warmup),
        }
        shared = (self.bnn, self.x, self.y, options)
        cooled = [
            self.fits[i]._replace(row_weights=beta * self.fits[i].row_weights)
            for i, _, beta in steps
            for _ in self.keys
        ]
        starts = [start for _, rung, _ in steps for start in rung.chains]
        chains = _started(shared, cooled, self.keys * len(steps), starts, run)
        chains, _ = _chains.move(_KERNEL, shared, cooled, chains, 1, num_warmup)
        pieces, most = [], _chains.capacity(self.bnn)
        for begin in range(0, num_samples, most):
            size = min(most, num_samples - begin)
            chains, piece = _chains.move(_KERNEL, shared, cooled, chains, size)
            pieces.append(piece)
        draws = jax.tree.map(lambda *a: np.concatenate(a, axis=1), *pieces)
        rungs = []
        for number, (i, _, beta) in enumerate(steps):
            own = slice(number * len(self.keys), (number + 1) * len(self.keys))
            weights, stats = jax.tree.map(lambda a, own=own: a[own], draws)
            energies = self._energies(self.fits[i], weights)
            rungs.append(Rung(beta, energies, chains[own], (weights, stats) if beta == 1 else None))
        return rungs


def _started(shared, cooled, keys, starts, run: int) -> list[Any]:
    """Chains at new temperatures: begun where they are draws of the prior, otherwise taken on."""
    chains: list[Any] = [None] * len(starts)
    fresh = [i for i, start in enumerate(starts) if isinstance(start, dict)]
    if fresh:
        own_keys = [jax.random.fold_in(keys[i], run) for i in fresh]
        begun = _chains.begin(
            _KERNEL, shared, [cooled[i] for i in fresh], own_keys, [starts[i] for i in fresh]
        )
        for i, chain in zip(fresh, begun, strict=True):
            chains[i] = chain
    others = [i for i, chain in enumerate(chains) if chain is None]
    if others:
        items = [(cooled[i], starts[i], np.int32(run)) for i in others]
        for i, chain in zip(others, _batch.run(_take_on, _KERNEL, shared, items), strict=True):
            chains[i] = chain
    return chains


def _take_on(kernel: HMC, shared: Any, item: Any) -> Any:
    """A chain at another temperature, its iterations counted anew."""
    part, chain, run = item
    target = _chains.target_of(_chains.space_of(kernel, shared, part))
    return chain._replace(
        key=jax.random.fold_in(chain.key, run),
        iteration=jax.numpy.zeros_like(chain.iteration),
        state=kernel.take_on(chain.state, target),
    )


def _draw(bnn: BNN, key: jax.Array, prior: Prior) -> dict[str, jax.Array]:
    return bnn.draw(key, prior, np.float64)


def _energy(bnn: BNN, weights, x, y, row_weights) -> jax.Array:
    return bnn.log_likelihood(weights, x, y, row_weights)


def _between(low: float, high: float) -> float:
    return float(np.sqrt(low * high)) if low > 0 else high / 2
