"""A model's density as a function of one vector, and starts of runs as such vectors.

Weights are relative to the prior's centre, in units of its scale. So every weight is of order one
whatever the prior, and a start is a standard normal vector.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from weightprior import _arrays
from weightprior.fits.task import Task
from weightprior.model import density
from weightprior.model.blocks import rows_at_once
from weightprior.model.bnn import BNN
from weightprior.model.curvature import gauss_newton, prior_precision

__all__ = ["Standardised"]


class Standardised:
    """A model's density as a function of one flat vector, in the coordinates of its prior.

    Parameters
    ----------
    bnn, x, y
        The model and its data.
    task : Task
        A single prior, and how often each row counts.
    dtype : dtype
        Precision of the computation.
    names : sequence of str, optional
        Sites in a position, besides hyperparameters; all by default.
    """

    def __init__(
        self,
        bnn: BNN,
        x: Any,
        y: Any,
        task: Task,
        dtype: Any,
        names: Sequence[str] | None = None,
    ) -> None:
        # A network may hold whole numbers, such as indices of columns.
        self.bnn = jax.tree.map(lambda a: _arrays.in_precision(a, dtype), bnn)
        cast = jax.tree.map(lambda a: jnp.asarray(a, dtype), (y, *task))
        self.y, self.prior, self.row_weights = cast
        # Many rows stay as they are: a block is cast when it is used, and no copy is held.
        many = len(x) > rows_at_once(bnn.network, len(x))
        self.x = jnp.asarray(x) if many else jnp.asarray(x, dtype)
        self.dtype = jnp.dtype(dtype)
        self.unit = self.prior.length_scale(bnn.sites)
        held = {name: bnn.sites[name] for name in (bnn.sites if names is None else names)}
        self.of_prior = self.prior.coordinates(held, self.dtype)
        # Sites of a draw, and below those of a position.
        self.sites = {**self.prior.sites, **bnn.sites}
        zeros = {n: jnp.zeros(site.shape, self.dtype) for n, site in self.of_prior.sites.items()}
        vector, self.unravel = ravel_pytree(zeros)
        self.size = vector.size

    def weights(self, position: jax.Array) -> dict[str, jax.Array]:
        """Return the weights and hyperparameters at a position."""
        return self.of_prior.weights(self.unravel(position))

    def position(self, weights: Any) -> jax.Array:
        """Return the position of weights."""
        return _vector(self.of_prior.position(weights))

    @property
    def num_free(self) -> int:
        """Number of weights that are not in a position: they are drawn given all others."""
        return 0

    @property
    def is_rounded(self) -> bool:
        """True if its log density is so large that single precision loses digits."""
        return self.dtype == jnp.float32 and len(self.x) > density.FEW_ROWS

    def complete(self, normals: jax.Array, position: jax.Array) -> dict[str, jax.Array]:
        """Return every site's weights at a position; others are drawn from standard normals."""
        return self.weights(position)

    def log_density(self, position: jax.Array, less: jax.Array | None = None) -> jax.Array:
        """Compute the log density of a position and the targets.

        A number `less` is subtracted before the sum over rows is rounded.
        """
        z = self.unravel(position)
        weights = self.of_prior.weights(z)
        log_prior = self.of_prior.log_prior(z, weights)
        data = self.x, self.y, self.row_weights
        of_targets = density.log_likelihood(self.bnn, weights, *data, less=less)
        return log_prior + of_targets.astype(log_prior.dtype)

    def log_prior(self, position: jax.Array) -> jax.Array:
        """Compute the log density of a position alone."""
        z = self.unravel(position)
        return self.of_prior.log_prior(z, self.of_prior.weights(z))

    def log_likelihood(self, position: jax.Array) -> jax.Array:
        """Compute the log density of the targets at a position."""
        return density.log_likelihood(
            self.bnn, self.weights(position), self.x, self.y, self.row_weights
        )

    @classmethod
    def of_first_row(cls, bnn: BNN, x: Any, y: Any, task: Task, dtype: Any) -> Self:
        """Make coordinates for positions, draws and weights alone, which need no rows."""
        return cls(bnn, x[:1], y[:1], Task(task.prior, task.row_weights[:1]), dtype)

    def precision(self, position: jax.Array) -> jax.Array:
        """Compute the Gauss-Newton matrix of minus the log density at a position."""
        return self.information(position) + self.prior_precision()

    def information(self, position: jax.Array) -> jax.Array:
        """Compute the Gauss-Newton matrix of minus the log likelihood at a position."""
        return gauss_newton(self.bnn, self.weights, position, self.x, self.y, self.row_weights)

    def prior_precision(self) -> jax.Array:
        """Return the matrix of the prior: its precision of each coordinate."""
        return jnp.diag(prior_precision(self.bnn, self.prior, self.dtype))

    def begin(self, start: Any) -> jax.Array:
        """Return the position of weights, or of the draw of a key and a number."""
        if isinstance(start, Mapping):
            return self.position(start)
        return self.draw(jax.random.fold_in(*start))

    def draw(self, key: jax.Array) -> jax.Array:
        """Draw a position from the prior (if it is flat, from a normal with its unit)."""
        return jax.random.normal(key, (self.size,), self.dtype)

    def mask(self, sites: Collection[str]) -> jax.Array:
        """Mark the numbers of some sites in a position; sites that the model lacks are ignored."""
        zeros = self.unravel(jnp.zeros(self.size, self.dtype))
        return _vector({n: jnp.full_like(z, n in sites, bool) for n, z in zeros.items()})

    def log_abs_det_jacobian(self, position: jax.Array) -> jax.Array:
        """Compute the log volume that weights fill per unit volume of positions."""
        return self.log_units(position).sum()

    def log_units(self, position: jax.Array) -> jax.Array:
        """Compute the log of each number's change in a draw, per unit of its coordinate."""
        return _vector(self.of_prior.log_units(self.unravel(position)))


def _vector(z: dict[str, jax.Array]) -> jax.Array:
    return ravel_pytree(z)[0]
