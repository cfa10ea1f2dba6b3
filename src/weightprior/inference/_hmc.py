"""Hamiltonian Monte Carlo with jittered integration time and step size (blackjax's kernel).

The time of every trajectory is drawn anew, which keeps it from closing on itself, and so is its
step, around a size that dual averaging tunes during warm-up: with one size for all, a chain that
enters a narrow place may reject every proposal for thousands of iterations. The metric is the
identity, since positions are standardised.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from blackjax.adaptation.step_size import (
    DualAveragingAdaptationState,
    dual_averaging_adaptation,
    find_reasonable_step_size,
)
from blackjax.mcmc import hmc

__all__ = ["HMC"]

# Of the prior's sds: the range that served networks of 61 to 2,400 weights best.
_INTEGRATION_TIME = (0.5, 1.1)
# Of the tuned step size: small enough at times to leave places half as wide as most.
_STEP_SIZE = (0.4, 1.1)
# Bounds what one iteration can cost while the step size is still being found.
_MAX_STEPS = 1000


class State(NamedTuple):
    """A chain between two iterations."""

    chain: hmc.HMCState
    step_size: jax.Array
    tuner: DualAveragingAdaptationState


@dataclass(frozen=True)
class HMC:
    """The kernel; its options are traced numbers, so that changing them compiles nothing."""

    def init(self, key: jax.Array, position: jax.Array, log_density, options: Any) -> State:
        """Begin a chain at a position, with a step size that is not absurd there."""
        chain = hmc.init(position, log_density)
        kernel = hmc.build_kernel()
        metric = jnp.ones_like(position)
        target = options["target_accept_prob"].astype(position.dtype)
        step_size = find_reasonable_step_size(
            key,
            lambda size: lambda k, state: kernel(k, state, log_density, size, metric, 1),
            chain,
            jnp.asarray(0.1, position.dtype),
            target,
        )
        return State(chain, step_size, _strong(dual_averaging_adaptation(target)[0](step_size)))

    def step(
        self, key: jax.Array, state: State, log_density, options: Any, iteration: jax.Array
    ) -> tuple[State, dict[str, jax.Array]]:
        """Move once; during the warm-up the step size moves, too."""
        position = state.chain.position
        key_time, key_size, key_move = jax.random.split(key, 3)
        time = jax.random.uniform(key_time, (), position.dtype, *_INTEGRATION_TIME)
        share = jax.random.uniform(key_size, (), position.dtype, *_STEP_SIZE)
        step_size = share * state.step_size
        num_steps = jnp.clip(jnp.ceil(time / step_size), 1, _MAX_STEPS).astype(jnp.int32)
        chain, info = hmc.build_kernel()(
            key_move, state.chain, log_density, step_size, jnp.ones_like(position), num_steps
        )
        stats = {
            "acceptance_rate": info.acceptance_rate,
            "diverging": info.is_divergent,
            "energy": 0.5 * jnp.sum(info.momentum**2) - state.chain.logdensity,
            "n_steps": num_steps,
            "step_size": state.step_size,
        }
        return State(chain, *_tune(state, info.acceptance_rate, options, iteration)), stats

    def position(self, state: State) -> jax.Array:
        """Where a chain stands."""
        return state.chain.position

    def log_density(self, state: State) -> jax.Array:
        """The density there."""
        return state.chain.logdensity


def _tune(state: State, acceptance_rate, options, iteration):
    """Step size and tuner for the next iteration: after the warm-up, what they were."""
    target = options["target_accept_prob"].astype(state.step_size.dtype)
    _, update, final = dual_averaging_adaptation(target)
    tuner = _strong(update(state.tuner, acceptance_rate))
    last = iteration + 1 == options["num_warmup"]
    step_size = jnp.where(last, final(tuner), jnp.exp(tuner.log_step_size))

    def during_warmup(new, old):
        return jnp.where(iteration < options["num_warmup"], new, old)

    return jax.tree.map(during_warmup, (step_size, tuner), (state.step_size, state.tuner))


def _strong(tuner: DualAveragingAdaptationState) -> DualAveragingAdaptationState:
    """Give the tuner's Python numbers fixed dtypes, which a loop's state must have."""
    dtype = tuner.mu.dtype
    floats = {k: jnp.asarray(v, dtype) for k, v in tuner._asdict().items() if k != "step"}
    return DualAveragingAdaptationState(**floats, step=jnp.asarray(tuner.step, jnp.int32))
