"""The evidence by particles: blackjax's sequential Monte Carlo, a peer and an independent check.

It shares the model's density with the package, and nothing else: particles instead of chains, moved
by Hamiltonian Monte Carlo from one temperature to the next. Tempered ones are reweighted and
resampled there, and their mean weights multiply to the evidence; persistent ones keep those of all
temperatures before.
"""

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.smc import adaptive_persistent_sampling, adaptive_tempered, resampling
from blackjax.smc.solver import dichotomy
from jax.flatten_util import ravel_pytree

# Of particles that a step may lose, moves of each that follow, and leapfrog steps of each of these.
_SHARE, _NUM_MOVES, _NUM_STEPS = 0.8, 5, 15
# Effective particles of all temperatures for each that moves, and temperatures there is room for.
_PERSISTENT_SHARE, _MOST_TEMPERATURES = 3.0, 100


def log_evidence(bnn, x, y, prior, seed, num_particles=1000, persistent=False):
    """One estimate, in nats, of independent error for every seed."""
    with jax.enable_x64(True):
        size, log_prior, log_likelihood = _densities(bnn, x, y, prior)
        method = adaptive_persistent_sampling if persistent else adaptive_tempered
        kernel = method.build_kernel(
            log_prior,
            log_likelihood,
            blackjax.hmc.build_kernel(),
            blackjax.hmc.init,
            resampling.systematic,
            _PERSISTENT_SHARE if persistent else _SHARE,
            root_solver=dichotomy,
        )

        @jax.jit
        def advance(key, state, step_size):
            parameters = {
                "step_size": step_size[None],
                "inverse_mass_matrix": jnp.ones((1, size)),
                "num_integration_steps": jnp.array([_NUM_STEPS]),
            }
            state, info = kernel(key, state, _NUM_MOVES, parameters)
            gained = 0.0 if persistent else info.log_likelihood_increment
            return state, gained, info.update_info.acceptance_rate.mean()

        key = jax.random.key(seed)
        particles = jax.random.normal(jax.random.fold_in(key, 0), (num_particles, size))
        more = (log_likelihood, _MOST_TEMPERATURES) if persistent else ()
        state, total, step_size = method.init(particles, *more), 0.0, jnp.asarray(0.2)
        for number in range(1, _MOST_TEMPERATURES):
            state, gained, accepted = advance(jax.random.fold_in(key, number), state, step_size)
            total += float(gained)
            step_size = jnp.clip(step_size * jnp.exp(accepted - 0.8), 1e-3, 0.3)
            if float(state.tempering_param) >= 1.0:
                return np.float64(state.log_Z if persistent else total)
        raise RuntimeError(f"not through after {_MOST_TEMPERATURES} temperatures")


def _densities(bnn, x, y, prior):
    zeros, unravel = ravel_pytree({n: jnp.zeros(s.shape) for n, s in bnn.sites.items()})
    weights = {n: (jnp.asarray(prior.loc[n]), jnp.asarray(prior.scale[n])) for n in bnn.sites}

    def log_prior(position):
        return -0.5 * jnp.sum(position**2) - 0.5 * position.size * jnp.log(2 * jnp.pi)

    def log_likelihood(position):
        z = unravel(position)
        moved = {n: loc + scale * z[n] for n, (loc, scale) in weights.items()}
        return bnn.log_likelihood(moved, x, y)

    return zeros.size, log_prior, log_likelihood
