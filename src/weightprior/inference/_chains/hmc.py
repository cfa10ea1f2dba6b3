"""Hamiltonian Monte Carlo with jittered integration time and step size (blackjax's kernel).

The time of every trajectory is drawn at random, which prevents closed orbits. Its step size is
drawn around a size that is tuned during warm-up. With one size for all, a chain that enters a
narrow region may reject every proposal for thousands of iterations.

A part of the momentum is kept for the next trajectory. So trajectories may be half as long, or
less, and the chain still goes far before it turns.

References
----------
A. M. Horowitz, A generalized guided Monte Carlo algorithm, Physics Letters B 268, 1991.
doi:10.1016/0370-2693(91)90812-5
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.mcmc import hmc
from blackjax.mcmc.metrics import gaussian_euclidean

from weightprior.inference._chains import adaptation as _adaptation
from weightprior.inference._chains import trajectory as _trajectory
from weightprior.inference._chains.adaptation import Adaptation
from weightprior.inference._chains.trajectory import Trajectory

__all__ = ["HMC"]

# Range of a trajectory's time, in units of the mean time.
_INTEGRATION_TIME = (0.6, 1.4)
# Range of the step size, in units of the tuned one: at times small enough to leave narrow regions.
_STEP_SIZE = (0.6, 1.1)
_FIRST_STEP_SIZE = 0.5
# Part of a momentum that is kept for the next trajectory. From 0.5 to 0.7, effective draws cost
# equally many gradients; without it, 1.2 to 1.9 times as many.
_KEPT = 0.6
# Bounds on the cost of one iteration. The bound is lower while the chain's lengths are those of the
# prior: with very many rows the posterior is so narrow beside it that a trajectory would take
# thousands of steps.
_MAX_STEPS, _MAX_STEPS_AT_FIRST = 1000, 100


class State(NamedTuple):
    """A chain between two iterations; its momentum in units that make it standard normal."""

    chain: hmc.HMCState
    momentum: jax.Array
    adaptation: Adaptation
    trajectory: Trajectory


@dataclass(frozen=True)
class HMC:
    """The kernel; its options are traced numbers, so that changing them compiles nothing.

    Attributes
    ----------
    longest : float
        Upper bound on the mean time of trajectories, in sds of the posterior.
    """

    longest: float = math.inf
    exact = True
    # The output layer may be integrated out.
    collapses = True
    moves_to_begin = True

    def init(self, key: jax.Array, position: jax.Array, target, options: Any) -> State:
        """Begin a chain at a position."""
        step_size = jnp.asarray(_FIRST_STEP_SIZE, position.dtype)
        free = jnp.zeros(target.num_free, position.dtype)
        like = jax.eval_shape(lambda: target.outputs(target.complete(free, position)))
        trajectory = _trajectory.begin(jnp.zeros(like.shape, like.dtype))
        adaptation = _adaptation.begin(position, step_size)
        return State(_unevaluated(position), jnp.zeros_like(position), adaptation, trajectory)

    def step(
        self, key: jax.Array, state: State, target, options: Any, iteration: jax.Array
    ) -> tuple[State, dict[str, jax.Array], dict[str, jax.Array]]:
        """Move once; during the warm-up, learn from it."""
        adaptation, before = state.adaptation, state.chain
        size, dtype = before.position.size, before.position.dtype
        normals, (of_time, of_size, of_acceptance) = _chances(key, size + target.num_free, 3, dtype)
        fresh, free = jnp.split(normals, [size])

        tuned = jnp.exp(adaptation.log_step_size)
        mean_time = jnp.minimum(state.trajectory.time, self.longest)
        time = mean_time * _between(*_INTEGRATION_TIME, of_time)
        step_size = tuned * _between(*_STEP_SIZE, of_size)
        at_first = iteration < _adaptation.meetings(options["num_warmup"])[0]
        most = jnp.where(at_first, _MAX_STEPS_AT_FIRST, _MAX_STEPS)
        num_steps = jnp.clip(jnp.ceil(time / step_size), 1, most).astype(jnp.int32)
        # If the density has not been evaluated yet, a move of no length does that.
        begins = jnp.isneginf(before.logdensity)
        num_steps, step_size = jnp.where(begins, 1, num_steps), jnp.where(begins, 0.0, step_size)

        lengths, kept = jnp.sqrt(adaptation.inverse_mass), jnp.where(begins, 0.0, _KEPT)
        momentum = kept * state.momentum + jnp.sqrt(1 - kept**2) * fresh
        metric = gaussian_euclidean(adaptation.inverse_mass)._replace(
            sample_momentum=lambda key, position: momentum / lengths
        )
        proposal = partial(hmc.hmc_proposal, sample_proposal=partial(_choose, of_acceptance))
        chain, info = hmc.build_kernel(build_proposal=proposal)(
            key, before, target.log_density, step_size, metric, num_steps
        )
        # If a proposal is rejected, the chain reverses its momentum: otherwise this would not be
        # exact.
        ended = jnp.where(info.is_accepted, -info.proposal.momentum * lengths, -momentum)
        density = jnp.where(begins, chain.logdensity, before.logdensity)
        stats = {
            "acceptance_rate": info.acceptance_rate,
            "diverging": info.is_divergent,
            "energy": metric.kinetic_energy(info.momentum) - density,
            "n_steps": num_steps,
            "step_size": tuned,
        }
        warmup = (iteration, options["num_warmup"])
        excess = info.acceptance_rate - options["target_accept_prob"]
        adaptation = _adaptation.adapt_step_size(adaptation, excess, *warmup)
        adaptation = _adaptation.count(adaptation, chain.position, chain.logdensity_grad, *warmup)
        draw = target.complete(free, chain.position)
        trajectory = _trajectory.count(state.trajectory, lambda: target.outputs(draw), *warmup)
        return State(chain, ended, adaptation, trajectory), stats, draw

    def meetings(self, num_warmup: int) -> set[int]:
        """Return the iterations after which chains of one posterior learn from one another."""
        return {*_adaptation.meetings(num_warmup), *_trajectory.meetings(num_warmup)}

    def learn(self, states: Sequence[State], iteration: int, num_warmup: int) -> list[State]:
        """Share among chains of one posterior what they have learned."""
        states = list(states)
        if iteration in _adaptation.meetings(num_warmup):
            adaptations = _adaptation.learn([state.adaptation for state in states])
            both = zip(states, adaptations, strict=True)
            states = [state._replace(adaptation=one) for state, one in both]
        trajectories = _trajectory.learn([state.trajectory for state in states])
        both = zip(states, trajectories, strict=True)
        return [state._replace(trajectory=one) for state, one in both]

    def with_step(self, state: State, factor: float) -> State:
        """Return the chain with a longer or shorter step."""
        adaptation = state.adaptation
        log_step_size = (adaptation.log_step_size + np.log(factor)).astype(adaptation.mean.dtype)
        return state._replace(adaptation=adaptation._replace(log_step_size=log_step_size))

    def with_target(self, state: State) -> State:
        """Return the chain, with its adaptation, for another density."""
        return state._replace(chain=_unevaluated(state.chain.position))

    def log_density(self, state: State) -> jax.Array:
        """Return the log density at the chain's position."""
        return state.chain.logdensity

    def with_log_density(self, state: State, value: jax.Array) -> State:
        """Return the state with its log density counted from another level."""
        return state._replace(chain=state.chain._replace(logdensity=value))


def _unevaluated(position: jax.Array) -> hmc.HMCState:
    nothing = jnp.asarray(-jnp.inf, position.dtype)
    return hmc.HMCState(position, nothing, jnp.zeros_like(position))


def _chances(
    key: jax.Array, num_normals: int, num_uniforms: int, dtype: Any
) -> tuple[jax.Array, jax.Array]:
    """Draw normals and uniforms at once, since every call of a generator is compiled anew."""
    above = np.nextafter(np.asarray(-1, dtype), np.asarray(0, dtype))
    drawn = jax.random.uniform(key, (num_normals + num_uniforms,), dtype, above, 1.0)
    normals, rest = jnp.split(drawn, [num_normals])
    return np.sqrt(2).astype(dtype) * jax.lax.erf_inv(normals), (rest + 1) / 2


def _between(low: float, high: float, share: jax.Array) -> jax.Array:
    return low + (high - low) * share


def _choose(chance: jax.Array, key, log_ratio: jax.Array, old: Any, new: Any) -> Any:
    """Accept or reject as blackjax does, by a uniform number that has been drawn before."""
    probability = jnp.clip(jnp.exp(log_ratio), max=1.0)
    accepted = chance < probability
    chosen = jax.tree.map(partial(jnp.where, accepted), new, old)
    return chosen, (accepted, probability, None)
