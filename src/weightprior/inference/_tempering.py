"""Chains that climb from the prior to the posterior, temperature by temperature."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from weightprior.draws import double, evaluate
from weightprior.free_energy import Curve
from weightprior.hierarchy import HierarchicalPrior
from weightprior.inference import _batch, _chains
from weightprior.inference._hmc import HMC
from weightprior.inference._marginal import Marginal, output_sites
from weightprior.inference._standardised import Part
from weightprior.model import BNN, Prior

__all__ = ["ACCEPT", "Choice", "Rung", "Sampler"]

# The log likelihood turns within a quarter of an average weight's period, 1.6 sds; that of a slow
# output, which the data leave open, may take ten times as long, and the evidence need not wait.
_KERNEL = HMC(longest=2.4)
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
    curve : Curve
        Of its draws, (chain, draw); where the output layer is integrated out, of the other weights.
    chains : list
        Where they stand; of the prior itself, weights.
    draws : tuple of dict of str to array
        Weights and statistics, (chain, draw, ...); only at 1, where they are the posterior's.
    """

    beta: float
    curve: Curve
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

    def extend(self, tops: Sequence[Rung], num_samples: int, num_warmup: int) -> list[Any]:
        """The posterior's draws of every prior, so many: those on top of its ladder, and more."""
        chains = [chain for top in tops for chain in top.chains]
        parts = [part for part in self.fits for _ in self.keys]
        shared = self._shared(num_warmup)
        missing = num_samples - tops[0].curve.linear.shape[1]
        _, more = self._draws(shared, parts, chains, missing)
        both = jax.tree.map(lambda *a: np.concatenate(a), *(top.draws for top in tops))
        if more is not None:
            both = jax.tree.map(lambda *a: np.concatenate(a, axis=1), both, more)
        both = jax.tree.map(lambda a: a[:, :num_samples], both)
        return [jax.tree.map(lambda a, own=own: a[own], both) for own in self._slices(len(tops))]

    def _prior(self, part: Part, num_samples: int, run: int) -> Rung:
        keys = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, run), num_samples))(
            jnp.stack(self.keys)
        )
        weights = evaluate(_draw, self.bnn, keys, part.prior)
        starts = [{n: w[i, -1] for n, w in weights.items()} for i in range(len(self.keys))]
        return Rung(0.0, self._curve(part, weights), starts)

    def _curve(self, part: Part, weights: Any) -> Curve:
        sites = double({name: weights[name] for name in self.bnn.sites})
        learned = isinstance(part.prior, HierarchicalPrior)
        log_likelihood = _plain if learned or not output_sites(self.bnn) else _integrated
        curve = Curve(*evaluate(log_likelihood, self.bnn, sites, self.x, self.y, part))
        if np.isnan(curve.at(1.0)).any():
            raise FloatingPointError(
                "fit_tempered: the log likelihood of some draws is NaN. Standardise x and y, or "
                "give the prior smaller scales."
            )
        return curve._replace(linear=np.maximum(curve.linear, _IMPOSSIBLE))

    def _move(
        self, steps: list[tuple[int, Rung, float]], run: int, num_warmup: int, num_samples: int
    ) -> list[Rung]:
        """Take chains of a prior from a rung to another temperature, and draw there."""
        shared = self._shared(num_warmup)
        cooled = [
            self.fits[i]._replace(row_weights=beta * self.fits[i].row_weights)
            for i, _, beta in steps
            for _ in self.keys
        ]
        starts = [start for _, rung, _ in steps for start in rung.chains]
        chains = _started(shared, cooled, self.keys * len(steps), starts, run)
        chains, _ = _chains.move(_KERNEL, shared, cooled, chains, 1, num_warmup)
        chains, draws = self._draws(shared, cooled, chains, num_samples)
        rungs = []
        for (i, _, beta), own in zip(steps, self._slices(len(steps)), strict=True):
            weights, stats = jax.tree.map(lambda a, own=own: a[own], draws)
            kept = (weights, stats) if beta == 1 else None
            rungs.append(Rung(beta, self._curve(self.fits[i], weights), chains[own], kept))
        return rungs

    def _shared(self, num_warmup: int) -> Any:
        options = {
            "target_accept_prob": np.asarray(ACCEPT),
            "num_warmup": np.asarray(num_warmup),
        }
        return self.bnn, self.x, self.y, options

    def _draws(self, shared: Any, parts: list[Part], chains: list[Any], num_samples: int) -> Any:
        """Chains so many draws further, and the draws; None where there are to be none."""
        pieces, most = [], _chains.capacity(self.bnn)
        for begin in range(0, num_samples, most):
            size = min(most, num_samples - begin)
            chains, piece = _chains.move(_KERNEL, shared, parts, chains, size)
            pieces.append(piece)
        draws = jax.tree.map(lambda *a: np.concatenate(a, axis=1), *pieces) if pieces else None
        return chains, draws

    def _slices(self, count: int) -> list[slice]:
        """Where the chains of each of so many steps stand among those of all."""
        size = len(self.keys)
        return [slice(i * size, (i + 1) * size) for i in range(count)]


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
        iteration=jnp.zeros_like(chain.iteration),
        state=kernel.take_on(chain.state, target),
    )


def _draw(bnn: BNN, key: jax.Array, prior: Prior) -> dict[str, jax.Array]:
    return bnn.draw(key, prior, np.float64)


def _plain(bnn: BNN, weights, x, y, part: Part) -> tuple[jax.Array, ...]:
    none = jnp.zeros(0)
    return bnn.log_likelihood(weights, x, y, part.row_weights), none, none


def _integrated(bnn: BNN, weights, x, y, part: Part) -> tuple[jax.Array, ...]:
    space = Marginal(bnn, x, y, part, jnp.float64, output_sites(bnn))
    return space.quadratic(weights)


def _between(low: float, high: float) -> float:
    return float(np.sqrt(low * high)) if low > 0 else high / 2
