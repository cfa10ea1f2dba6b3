"""The posterior without the output layer, whose weights are Gaussian given all others.

Under a Gaussian likelihood the output layer is a linear regression on the last hidden units: given
the other weights its posterior is normal, and its evidence has a closed form. Chains then move
through the other weights alone, along that evidence, and every draw is completed with an exact one
of the output layer. Nothing changes but the speed: what pulls hardest on a network, the level and
the slopes of its function, is what the output layer can follow, so that the steps of a chain may be
several times longer.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightprior.fits.task import Task
from weightprior.inference._coordinates.standardised import Standardised
from weightprior.model import density
from weightprior.model.bnn import BNN
from weightprior.model.network import Head, head_of, offset_of
from weightprior.model.priors.base import Prior

__all__ = ["CollapsedOutput", "collapsible_sites", "is_normal"]

# The whole layer costs rows x columns^2, which shortens a run where columns are few or the network
# is large beside them; otherwise its bias alone is better, which costs next to nothing.
_FEW_COLUMNS = 32
# Signal to noise up to which single precision serves: there a log determinant is right to 0.01.
_SINGLE_LIMIT = 1e5
_SUM_OVER_LAST = (((1,), (1,)), ((), ()))
_SUM_OVER_LAST_AND_FIRST = (((1,), (0,)), ((), ()))


def collapsible_sites(bnn: BNN, prior: Prior) -> tuple[str, ...]:
    """Sites that can be integrated out at a profit: the output layer, its bias alone, or none."""
    head = head_of(bnn.network)
    if head is None or not (bnn.likelihood.normal_outputs and prior.fixed):
        return ()
    columns = bnn.sites[head.weight].shape[1 if head.output_first else 0] + 1
    num_weights = sum(np.prod(site.shape, dtype=int) for site in bnn.sites.values())
    cheap = columns <= _FEW_COLUMNS or columns**2 <= num_weights
    # A linear model is nothing but its output layer, and something has to be left to move.
    return head.sites if cheap and not _is_linear(bnn) else (head.bias,)


def is_normal(bnn: BNN) -> bool:
    """Tell whether a model's posterior is a normal distribution, under a normal prior."""
    return bnn.likelihood.normal_outputs and not bnn.latents and _is_linear(bnn)


def _is_linear(bnn: BNN) -> bool:
    """Tell whether a network is a last linear layer and nothing else."""
    head = head_of(bnn.network)
    return head is not None and {*bnn.network.sites} == {*head.sites}


class _Regression(NamedTuple):
    """Regression of the targets on the last hidden units, in units of noise and prior.

    Attributes
    ----------
    columns : array of shape (outputs, columns, rows)
    residual : array of shape (outputs, rows)
        Targets less what the network says with the output layer at 0.
    center : array of shape (outputs, columns)
        Of the prior.
    precision : array of shape (outputs, columns)
        Of the prior: 1, or 0 where it is flat.
    """

    columns: jax.Array
    residual: jax.Array
    center: jax.Array
    precision: jax.Array


class CollapsedOutput(Standardised):
    """A model's density, some sites of the output layer integrated out of it.

    Parameters
    ----------
    bnn, x, y
        The model, whose targets are normal around the outputs, and its data.
    task : Task
        A single prior, and how often each row counts.
    dtype : dtype
        Precision of the computation.
    integrated : tuple of str
        From `collapsible_sites`.
    """

    def __init__(
        self, bnn: BNN, x: Any, y: Any, task: Task, dtype: Any, integrated: tuple[str, ...]
    ) -> None:
        names = tuple(name for name in bnn.sites if name not in integrated)
        super().__init__(bnn, x, y, task, dtype, names)
        head = head_of(bnn.network)
        assert head is not None, "from collapsible_sites"
        self.head: Head = head
        self.integrated = integrated

    def log_density(self, position: jax.Array) -> jax.Array:
        """Log density of the position's weights and the targets, all constants included."""
        z = self.unravel(position)
        weights = self.of_prior.weights(z)
        log_prior = self.of_prior.log_prior(z, weights)
        regression, log_scale = self._regression(weights)
        log_integral = _per_output(_log_integral, *regression)
        return log_prior + log_integral.sum() + log_scale

    @property
    def num_free(self) -> int:
        """Numbers of the sites that were integrated out."""
        return sum(math.prod(self.bnn.sites[name].shape) for name in self.integrated)

    def complete(self, normals: jax.Array, position: jax.Array) -> dict[str, jax.Array]:
        """Weights at a position, and those that were integrated out, made of standard normals."""
        weights = self.weights(position)
        regression, _ = self._regression(weights)
        of_outputs = normals.reshape(len(regression.columns), -1)
        z = _per_output(_conditional, of_outputs, *regression)
        weight, bias = self.head.sites
        weights[bias] = self.unit[bias] * z[:, -1]
        if weight in self.integrated:
            weights[weight] = self.unit[weight] * self.head.oriented(z[:, :-1].T)
        return {name: weights[name] for name in self.bnn.sites}

    def quadratic(self, weights: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
        """The log likelihood as a function of standardised integrated weights, none of them flat.

        Returns
        -------
        linear : array of shape ()
        eigenvalues, projections : array of shape (weights,)
            For some rotation z of them it is ``linear + projections z - eigenvalues z^2 / 2``.
        """
        (columns, residual, center, _), log_scale = self._regression(weights)
        residual = residual - jnp.einsum("oc,ocr->or", center, columns)

        def diagonalised(columns, residual):
            eigenvalues, vectors = jnp.linalg.eigh(_gram(columns))
            # Those of rank-deficient columns may round below zero.
            return jnp.maximum(eigenvalues, 0.0), vectors.T @ (columns @ residual)

        eigenvalues, projections = jax.vmap(diagonalised)(columns, residual)
        linear = log_scale - 0.5 * jnp.sum(residual**2)
        return linear, eigenvalues.ravel(), projections.ravel()

    def _regression(self, weights: dict[str, jax.Array]) -> tuple[_Regression, jax.Array]:
        """Regression on the output layer that is left, and the log factor to the targets' density.

        It begins at 0, where outputs need no network, and not at the layer's centre.
        """
        weights = weights | {n: jnp.zeros_like(self.prior.loc[n]) for n in self.integrated}
        location = self._rest(weights)
        noise = self.bnn.likelihood.noise_of(location, weights)
        counts = jnp.sqrt(self.row_weights)[:, None]
        residual = counts * (self.y.reshape(location.shape) - location) / noise
        signal = [jnp.ones((1, len(self.x)), self.dtype)]
        if self.head.weight in self.integrated:
            signal.insert(0, self.head.inputs(weights, self.x).T)
        signal = jnp.concatenate(signal)
        unit, flat, loc = (
            jnp.concatenate([self._by_column(name, values[name]) for name in self.integrated]).T
            for values in (self.unit, self._flat(), self.prior.loc)
        )
        columns = unit[:, :, None] * signal[None, :, :] * (counts / noise).T[:, None, :]
        log_noise = jnp.log(noise) + 0.5 * jnp.log(2 * jnp.pi).astype(self.dtype)
        improper = jnp.where(flat, jnp.log(unit) + 0.5 * jnp.log(2 * jnp.pi), 0.0)
        log_scale = improper.sum().astype(self.dtype) - (counts**2 * log_noise).sum()
        regression = _Regression(columns, residual.T, loc / unit, 1.0 - flat.astype(self.dtype))
        return regression, log_scale

    def _rest(self, weights: dict[str, jax.Array]) -> jax.Array:
        """Outputs, of shape (rows, outputs), at weights whose sites integrated out are 0."""
        if self.head.weight not in self.integrated:
            return density.outputs(self.bnn, weights, self.x)
        network = self.bnn.network
        offset, rows = offset_of(network), jnp.zeros((len(self.x), network.num_outputs), self.dtype)
        return rows if offset is None else rows + self.x[:, offset, None]

    def _by_column(self, name: str, values: jax.Array) -> jax.Array:
        """Lay numbers of a site of the head out as (columns, outputs)."""
        is_weight = name == self.head.weight
        return self.head.oriented(values) if is_weight else jnp.atleast_2d(values)

    def _flat(self) -> dict[str, jax.Array]:
        return {name: jnp.isinf(self.prior.scale[name]) for name in self.integrated}


def _per_output(function, *arrays):
    """Results for every output in turn; a loop over a single one would be compiled as well."""
    if len(arrays[0]) == 1:
        return function(*(array[0] for array in arrays))[None]
    return jax.lax.map(lambda args: function(*args), arrays)


@jax.custom_vjp
def _log_integral(
    columns: jax.Array, residual: jax.Array, center: jax.Array, precision: jax.Array
) -> jax.Array:
    """Log of the integral over z of ``exp(-|residual - columns' z|^2 / 2)`` times the prior of z.

    Its derivative is written out because that of the factorisation would cost several times more.
    """
    return _forward(columns, residual, center, precision)[0]


def _forward(columns, residual, center, precision):
    mean, inverse_root, half_log_det = _solve(columns, residual, center, precision)
    rest, away = residual - mean @ columns, mean - center
    # The minimum of the exponent, where an error of the mean does not matter to first order.
    value = -0.5 * (rest @ rest + away @ (precision * away)) - half_log_det
    return value, (columns, rest, mean, inverse_root.T @ inverse_root, precision)


def _backward(saved, cotangent):
    columns, rest, mean, covariance, precision = saved
    of_columns = mean[:, None] * rest[None, :] - covariance @ columns
    nothing = jnp.zeros_like(precision)  # centre and precision are given
    return cotangent * of_columns, -cotangent * rest, nothing, nothing


_log_integral.defvjp(_forward, _backward)


def _conditional(normals, columns, residual, center, precision):
    """Draw of z, given everything else."""
    mean, inverse_root, _ = _solve(columns, residual, center, precision)
    return mean + normals @ inverse_root


def _solve(columns, residual, center, precision):
    """Mean of z, inverse of the root of its precision, and half the log of its determinant.

    Computed in double precision, whatever JAX's setting: the matrix has signal to noise as its
    condition. The products are lax's own, since NumPy's refuse to be vectorised beyond the setting.
    """
    dtype = columns.dtype
    with jax.enable_x64(True):
        matrix = _gram(columns) + jnp.diag(precision.astype(jnp.float64))
        root = jax.lax.linalg.cholesky(matrix, symmetrize_input=False)
        identity = jnp.eye(len(root), dtype=root.dtype)
        inverse_root = jax.lax.linalg.triangular_solve(root, identity, left_side=True, lower=True)
        projection = jax.lax.dot_general(columns, residual, _SUM_OVER_LAST_AND_FIRST)
        projection = (projection + precision * center).astype(root.dtype)
        scaled = jax.lax.dot_general(inverse_root, projection, _SUM_OVER_LAST_AND_FIRST)
        mean = jax.lax.dot_general(scaled, inverse_root, (((0,), (0,)), ((), ())))
        half_log_det = jnp.log(jnp.diagonal(root)).sum()
        return mean.astype(dtype), inverse_root.astype(dtype), half_log_det.astype(dtype)


def _gram(columns):
    """Products of the columns with one another, as exact as the signal asks for."""

    def product(columns):
        return jax.lax.dot_general(columns, columns, _SUM_OVER_LAST).astype(jnp.float64)

    largest = jnp.max(jnp.sum(columns * columns, axis=1))
    return jax.lax.cond(
        largest < _SINGLE_LIMIT, product, lambda c: product(c.astype(jnp.float64)), columns
    )
