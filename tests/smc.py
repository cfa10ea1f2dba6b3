"""Evidence by sequential Monte Carlo, blackjax's: another estimator, for the tests of ours.

It shares the model's density with the package, and nothing else: particles instead of chains,
reweighted and resampled from one temperature to the next, whose mean weights multiply to the
evidence.
"""

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.smc import adaptive_tempered, resampling
from blackjax.smc.solver import dichotomy
from jax.flatten_util import ravel_pytree

# Of particles that a step may lose, moves of each that follow, and leapfrog steps of each of these.
_SHARE, _NUM_MOVES, _NUM_STEPS = 0.8, 5, 15


def log_evidence(bnn, x, y, prior, seed, num_particles=1000):
    """One estimate, in nats, of independent error for every seed."""
    with jax.enable_x64(True):
        zeros, unravel = ravel_pytree({n: jnp.zeros(s.shape) for n, s in bnn.sites.items()})
        weights = {n: (jnp.asarray(prior.loc[n]), jnp.asarray(prior.scale[n])) for n in bnn.sites}

        def log_likelihood(position):
            z = unravel(position)
            moved = {n: loc + scale * z[n] for n, (loc, scale) in weights.items()}
            return bnn.log_likelihood(moved, x, y)

        def log_prior(position):
            return -0.5 * jnp.sum(position**2) - 0.5 * position.size * jnp.log(2 * jnp.pi)

        kernel = adaptive_tempered.build_kernel(
            log_prior,
            log_likelihood,
            blackjax.hmc.build_kernel(),
            blackjax.hmc.init,
            resampling.systematic,
            _SHARE,
            dichotomy,
        )

        @jax.jit
        def advance(key, state, step_size):
            parameters = {
                "step_size": step_size[None],
                "inverse_mass_matrix": jnp.ones((1, zeros.size)),
                "num_integration_steps": jnp.array([_NUM_STEPS]),
            }
            state, info = kernel(key, state, _NUM_MOVES, parameters)
            return state, info.log_likelihood_increment, info.update_info.acceptance_rate.mean()

        key = jax.random.key(seed)
        particles = jax.random.normal(jax.random.fold_in(key, 0), (num_particles, zeros.size))
        state, total, step_size = adaptive_tempered.init(particles), 0.0, jnp.asarray(0.2)
        number = 0
        while float(state.tempering_param) < 1.0:
            number += 1
            state, more, accepted = advance(jax.random.fold_in(key, number), state, step_size)
            total += float(more)
            step_size = jnp.clip(step_size * jnp.exp(accepted - 0.8), 1e-3, 0.3)
        return np.float64(total)
