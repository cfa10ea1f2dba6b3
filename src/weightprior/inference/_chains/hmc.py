"""Hamiltonian Monte Carlo with jittered integration time and step size (blackjax's kernel).

The time of every trajectory is drawn anew, which keeps it from closing on itself, and so is its
step, around a size that is tuned during warm-up: with one size for all, a chain that enters a
narrow place may reject every proposal for thousands of iterations.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from blackjax.adaptation.step_size import find_reasonable_step_size
from blackjax.mcmc import hmc

from weightprior.inference._chains import adaptation as _adaptation
from weightprior.inference._chains import trajectory as _trajectory
from weightprior.inference._chains.adaptation import Adaptation
from weightprior.inference._chains.trajectory import Trajectory

__all__ = ["HMC"]

# Of the mean time of a trajectory.
_INTEGRATION_TIME = (0.6, 1.4)
# Of the tuned step size: small enough at times to leave places narrower than most.
_STEP_SIZE = (0.6, 1.1)
# Bounds what one iteration can cost; less while the chain's lengths are those of the prior, beside
# which a posterior of very many rows is so narrow that its steps are thousands to a trajectory.
_MAX_STEPS, _MAX_STEPS_AT_FIRST = 1000, 100


class State(NamedTuple):
    """A chain between two iterations."""

    chain: hmc.HMCState
    adaptation: Adaptation
    trajectory: Trajectory


@dataclass(frozen=True)
class HMC:
    """The kernel; its options are traced numbers, so that changing them compiles nothing.

    Attributes
    ----------
    longest : float
        Mean time that no trajectory exceeds, in sds of the posterior.
    """

    longest: float = math.inf
    exact = True
    # The output layer may be integrated out.
    collapses = True

    def init(self, key: jax.Array, position: jax.Array, target, options: Any) -> State:
        """Begin a chain at a position, with a step size that is not absurd there."""
        log_density = target.log_density
        chain = hmc.init(position, log_density)
        kernel = hmc.build_kernel()
        metric = jnp.ones_like(position)
        step_size = find_reasonable_step_size(
            key,
            lambda size: lambda k, state: kernel(k, state, log_density, size, metric, 1),
            chain,
            jnp.asarray(0.1, position.dtype),
            options["target_accept_prob"].astype(position.dtype),
        )
        like = jax.eval_shape(target.outputs, key, position)
        trajectory = _trajectory.begin(jnp.zeros(like.shape, like.dtype))
        return State(chain, _adaptation.begin(position, step_size), trajectory)

    def step(
        self, key: jax.Array, state: State, target, options: Any, iteration: jax.Array
    ) -> tuple[State, dict[str, jax.Array]]:
        """Move once; during the warm-up, learn from it."""
        adaptation = state.adaptation
        dtype, metric = state.chain.position.dtype, adaptation.inverse_mass
        tuned = jnp.exp(adaptation.log_step_size)
        key_time, key_size, key_move, key_outputs = jax.random.split(key, 4)
        mean_time = jnp.minimum(state.trajectory.time, self.longest)
        time = mean_time * jax.random.uniform(key_time, (), dtype, *_INTEGRATION_TIME)
        step_size = tuned * jax.random.uniform(key_size, (), dtype, *_STEP_SIZE)
        at_first = iteration < _adaptation.first_lengths(options["num_warmup"])
        most = jnp.where(at_first, _MAX_STEPS_AT_FIRST, _MAX_STEPS)
        num_steps = jnp.clip(jnp.ceil(time / step_size), 1, most).astype(jnp.int32)
        chain, info = hmc.build_kernel()(
            key_move, state.chain, target.log_density, step_size, metric, num_steps
        )
        stats = {
            "acceptance_rate": info.acceptance_rate,
            "diverging": info.is_divergent,
            "energy": 0.5 * jnp.sum(metric * info.momentum**2) - state.chain.logdensity,
            "n_steps": num_steps,
            "step_size": tuned,
        }
        warmup = (iteration, options["num_warmup"])
        excess = info.acceptance_rate - options["target_accept_prob"]
        adaptation = _adaptation.adapt_step_size(adaptation, excess, *warmup)
        adaptation = _adaptation.adapt_metric(
            adaptation, chain.position, chain.logdensity_grad, *warmup
        )
        trajectory = _trajectory.adapt_trajectory_length(
            state.trajectory, lambda: target.outputs(key_outputs, chain.position), *warmup
        )
        return State(chain, adaptation, trajectory), stats

    def with_target(self, state: State, target) -> State:
        """The same chain, with all that it has learned, before another density."""
        return state._replace(chain=hmc.init(state.chain.position, target.log_density))

    def position(self, state: State) -> jax.Array:
        """Position of a chain."""
        return state.chain.position

    def log_density(self, state: State) -> jax.Array:
        """The density there."""
        return state.chain.logdensity
