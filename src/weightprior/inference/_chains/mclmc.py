"""Microcanonical Langevin Monte Carlo without adjustment (blackjax's kernel): fast, not exact.

It moves at constant speed and never rejects, so the error of its steps stays in the draws. The step
is tuned to a variance of the energy so small that no bias was seen in the draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from blackjax.mcmc import mclmc
from blackjax.mcmc.integrators import IntegratorState

from weightprior.inference._chains import adaptation as _adaptation
from weightprior.inference._chains.adaptation import Adaptation

__all__ = ["MCLMC"]

# Variance of the energy's change in a step, per weight. At blackjax's default of 5e-4 the sds of a
# network of 1,441 weights came out 7 % too wide.
_ENERGY_VARIANCE = 1e-5
# The variance grows with this power of the step.
_ORDER = 6
# First step, as a share of the root of the number of weights.
_FIRST_STEP = 0.01
_GRADIENTS_PER_STEP = 2
_MAX_STEPS = 1000


class State(NamedTuple):
    """A chain between two iterations."""

    chain: IntegratorState
    adaptation: Adaptation


@dataclass(frozen=True)
class MCLMC:
    """The kernel. Its iteration has as many steps as the momentum needs to forget its direction."""

    exact = False
    collapses = True
    moves_to_begin = False

    def init(self, key: jax.Array, position: jax.Array, target, options: Any) -> State:
        """Begin a chain at a position."""
        first = jnp.asarray(_FIRST_STEP * position.size**0.5, position.dtype)
        chain = mclmc.init(position, target.log_density, key)
        return State(chain, _adaptation.begin(position, first))

    def step(
        self, key: jax.Array, state: State, target, options: Any, iteration: jax.Array
    ) -> tuple[State, dict[str, jax.Array], dict[str, jax.Array]]:
        """Move by one length of the momentum's memory; during the warm-up, learn from it."""
        adaptation, kernel = state.adaptation, mclmc.build_kernel()
        size, dtype = state.chain.position.size, state.chain.position.dtype
        step_size = jnp.exp(adaptation.log_step_size)
        # Lengths are sds of the posterior, so this is the size of the posterior.
        memory = jnp.asarray(size**0.5, dtype)
        num_steps = jnp.clip(jnp.ceil(memory / step_size), 1, _MAX_STEPS).astype(jnp.int32)

        def move(i, carry):
            chain, variance, failed = carry
            chain, info = kernel(
                jax.random.fold_in(key, i),
                chain,
                target.log_density,
                adaptation.inverse_mass,
                memory,
                step_size,
            )
            return chain, variance + info.energy_change**2 / size, failed | ~info.nonans

        start = (state.chain, jnp.zeros((), dtype), jnp.asarray(False))
        chain, variance, failed = jax.lax.fori_loop(0, num_steps, move, start)
        variance = variance / num_steps.astype(dtype)
        stats = {
            "diverging": failed,
            "energy_variance": variance,
            "n_steps": _GRADIENTS_PER_STEP * num_steps,
            "step_size": step_size,
        }
        # Zero on average at the wanted mean variance; clipped, since large variances must not
        # disturb it.
        excess = jnp.clip(1.0 - variance / _ENERGY_VARIANCE, -_ORDER, 1.0) / _ORDER
        excess = jnp.where(failed, -1.0, excess)
        warmup = (iteration, options["num_warmup"])
        adaptation = _adaptation.adapt_step_size(adaptation, excess, *warmup)
        adaptation = _adaptation.count(adaptation, chain.position, chain.logdensity_grad, *warmup)
        free = jax.random.normal(jax.random.fold_in(key, num_steps), (target.num_free,), dtype)
        return State(chain, adaptation), stats, target.complete(free, chain.position)

    def meetings(self, num_warmup: int) -> set[int]:
        """Return the iterations after which chains of one posterior learn from one another."""
        return {*_adaptation.meetings(num_warmup)}

    def learn(self, states: Sequence[State], iteration: int, num_warmup: int) -> list[State]:
        """Share among chains of one posterior what they have learned."""
        adaptations = _adaptation.learn([state.adaptation for state in states])
        both = zip(states, adaptations, strict=True)
        return [state._replace(adaptation=one) for state, one in both]

    def log_density(self, state: State) -> jax.Array:
        """Return the log density at the chain's position."""
        return state.chain.logdensity

    def with_log_density(self, state: State, value: jax.Array) -> State:
        """Return the state with its log density counted from another level."""
        return state._replace(chain=state.chain._replace(logdensity=value))
