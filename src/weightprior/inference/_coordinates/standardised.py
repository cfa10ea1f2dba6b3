"""A model's density as a function of one vector, and where runs begin in it.

Weights are counted from the prior's centre in units of its scale, so that every weight is of order
one whatever the prior, and a start is a standard normal vector.
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
        Sites that a position holds, besides hyperparameters; all by default.
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
        # Those of many rows as they are: a block is cast where it is used, and no copy is held.
        many = len(x) > rows_at_once(bnn.network, len(x))
        self.x = jnp.asarray(x) if many else jnp.asarray(x, dtype)
        self.dtype = jnp.dtype(dtype)
        self.unit = self.prior.length_scale(bnn.sites)
        held = {name: bnn.sites[name] for name in (bnn.sites if names is None else names)}
        self.of_prior = self.prior.coordinates(held, self.dtype)
        # What a draw holds, and what a position does.
        self.sites = {**self.prior.sites, **bnn.sites}
        zeros = {n: jnp.zeros(site.shape, self.dtype) for n, site in self.of_prior.sites.items()}
        vector, self.unravel = ravel_pytree(zeros)
        self.size = vector.size

    def weights(self, position: jax.Array) -> dict[str, jax.Array]:
        """Weights, and hyperparameters, that a position holds."""
        return self.of_prior.weights(self.unravel(position))

    def position(self, weights: Any) -> jax.Array:
        """Position of weights."""
        return _vector(self.of_prior.position(weights))

    @property
    def num_free(self) -> int:
        """Numbers that a position does not hold: weights that are drawn given all others."""
        return 0

    @property
    def is_rounded(self) -> bool:
        """Tell if its log density is so large a number that single precision loses digits."""
        return self.dtype == jnp.float32 and len(self.x) > density.FEW_ROWS

    def complete(self, normals: jax.Array, position: jax.Array) -> dict[str, jax.Array]:
        """Every site's weights at a position; what it does not hold is made of standard normals."""
        return self.weights(position)

    def log_density(self, position: jax.Array, less: jax.Array | None = None) -> jax.Array:
        """Log density of a position and the targets.

        A number `less` is taken off before the sum over rows is rounded.
        """
        z = self.unravel(position)
        weights = self.of_prior.weights(z)
        log_prior = self.of_prior.log_prior(z, weights)
        data = self.x, self.y, self.row_weights
        of_targets = density.log_likelihood(self.bnn, weights, *data, less=less)
        return log_prior + of_targets.astype(log_prior.dtype)

    def log_prior(self, position: jax.Array) -> jax.Array:
        """Log density of a position alone."""
        z = self.unravel(position)
        return self.of_prior.log_prior(z, self.of_prior.weights(z))

    def log_likelihood(self, position: jax.Array) -> jax.Array:
        """Log density of the targets at a position."""
        return density.log_likelihood(
            self.bnn, self.weights(position), self.x, self.y, self.row_weights
        )

    @classmethod
    def of_first_row(cls, bnn: BNN, x: Any, y: Any, task: Task, dtype: Any) -> Self:
        """Coordinates for what no row has a part in: positions, draws and weights."""
        return cls(bnn, x[:1], y[:1], Task(task.prior, task.row_weights[:1]), dtype)

    def precision(self, position: jax.Array) -> jax.Array:
        """Gauss-Newton matrix of minus the log density at a position."""
        return self.information(position) + self.prior_precision()

    def information(self, position: jax.Array) -> jax.Array:
        """Gauss-Newton matrix of minus the log likelihood at a position."""
        return gauss_newton(self.bnn, self.weights, position, self.x, self.y, self.row_weights)

    def prior_precision(self) -> jax.Array:
        """Matrix of the prior: its precision of each coordinate."""
        return jnp.diag(prior_precision(self.bnn, self.prior, self.dtype))

    def begin(self, start: Any) -> jax.Array:
        """Position of weights, or of the draw that a key and a number make."""
        if isinstance(start, Mapping):
            return self.position(start)
        return self.draw(jax.random.fold_in(*start))

    def draw(self, key: jax.Array) -> jax.Array:
        """Draw a position from the prior (where it is flat, from its unit)."""
        return jax.random.normal(key, (self.size,), self.dtype)

    def mask(self, sites: Collection[str]) -> jax.Array:
        """Mark the numbers of some sites in a position; none of those that the model lacks."""
        zeros = self.unravel(jnp.zeros(self.size, self.dtype))
        return _vector({n: jnp.full_like(z, n in sites, bool) for n, z in zeros.items()})

    def log_abs_det_jacobian(self, position: jax.Array) -> jax.Array:
        """Log of the volume that weights fill while a position fills one of 1."""
        return self.log_units(position).sum()

    def log_units(self, position: jax.Array) -> jax.Array:
        """Log of what each number of a draw changes by, per unit of its coordinate."""
        return _vector(self.of_prior.log_units(self.unravel(position)))


def _vector(z: dict[str, jax.Array]) -> jax.Array:
    return ravel_pytree(z)[0]
