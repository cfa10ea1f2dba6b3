"""The No-U-Turn sampler: NumPyro's, with its own warm-up of step size and diagonal metric."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from numpyro.infer.hmc import HMCState, hmc

__all__ = ["NUTS"]


@dataclass(frozen=True)
class NUTS:
    """The kernel. NumPyro plans its warm-up ahead, so its length is compiled in."""

    exact = True
    # The reference: it moves through all weights.
    collapses = False
    moves_to_begin = False

    num_warmup: int

    def init(self, key: jax.Array, position: jax.Array, target, options: Any) -> HMCState:
        """Begin a chain at a position."""
        return self._kernel(key, position, target, options)[0]

    def step(
        self, key: jax.Array, state: HMCState, target, options: Any, iteration: jax.Array
    ) -> tuple[HMCState, dict[str, jax.Array], dict[str, jax.Array]]:
        """Move once; the state itself counts the warm-up."""
        _, sample = self._kernel(key, state.z, target, options)
        new = sample(state._replace(rng_key=key))
        stats = {
            "acceptance_rate": new.accept_prob,
            "diverging": new.diverging,
            "energy": new.energy,
            "n_steps": new.num_steps,
            "step_size": state.adapt_state.step_size,
        }
        return new, stats, target.complete(jnp.zeros(target.num_free), new.z)

    def meetings(self, num_warmup: int) -> set[int]:
        """Return no iterations: every chain learns by itself."""
        return set()

    def log_density(self, state: HMCState) -> jax.Array:
        """Return the log density at the chain's position."""
        return -state.potential_energy

    def with_log_density(self, state: HMCState, value: jax.Array) -> HMCState:
        """Return the state with its log density counted from another level."""
        return state._replace(potential_energy=-value)

    def _kernel(self, key, position, target, options):
        # NumPyro's second function works only after its first has been called. The compiler drops
        # the results of the first that are not used.
        begin, sample = hmc(potential_fn=lambda z: -target.log_density(z), algo="NUTS")
        state = begin(
            position,
            num_warmup=self.num_warmup,
            target_accept_prob=options["target_accept_prob"],
            rng_key=key,
        )
        return state, sample
