"""The posterior without the output layer: its weights are Gaussian given all others.

Under a Gaussian likelihood the output layer is a linear regression on the last hidden units. Given
the other weights, its posterior is normal, and its evidence has a closed form. Chains then sample
only the other weights, with that evidence as their density, and every draw is completed with an
exact draw of the output layer. Only the speed changes. The data determine the level and the slopes
of the function most, and the output layer can follow them. The steps of a chain may then be several
times longer.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightprior.fits.task import Task
from weightprior.inference._coordinates.regression import (
    Regression,
    draw,
    equations,
    log_integral,
    per_output,
    solve,
)
from weightprior.inference._coordinates.standardised import Standardised
from weightprior.model import density
from weightprior.model.blocks import fold_rows, rows_at_once
from weightprior.model.bnn import BNN
from weightprior.model.network import Head, head_of, offset_of
from weightprior.model.priors.base import Prior

__all__ = ["CollapsedOutput", "collapsible_sites", "is_normal"]

# The whole layer costs rows x columns^2. This pays if columns are few or the network is large
# beside them. Otherwise it is better to integrate out only the bias, which costs next to nothing.
_FEW_COLUMNS = 32


def collapsible_sites(bnn: BNN, prior: Prior) -> tuple[str, ...]:
    """Return the sites that are worth integrating out: the output layer, only its bias, or none."""
    head = head_of(bnn.network)
    if head is None or not (bnn.likelihood.normal_outputs and prior.fixed):
        return ()
    columns = bnn.sites[head.weight].shape[1 if head.output_first else 0] + 1
    num_weights = sum(np.prod(site.shape, dtype=int) for site in bnn.sites.values())
    cheap = columns <= _FEW_COLUMNS or columns**2 <= num_weights
    # A linear model is only an output layer, and some site must be left to sample.
    return head.sites if cheap and not _is_linear(bnn) else (head.bias,)


def is_normal(bnn: BNN) -> bool:
    """Tell if a model's posterior is a normal distribution, under a normal prior."""
    return bnn.likelihood.normal_outputs and not bnn.latents and _is_linear(bnn)


def _is_linear(bnn: BNN) -> bool:
    """Tell if a network is a last linear layer and nothing else."""
    head = head_of(bnn.network)
    return head is not None and {*bnn.network.sites} == {*head.sites}


class CollapsedOutput(Standardised):
    """A model's density with some sites of the output layer integrated out.

    Parameters
    ----------
    bnn, x, y
        The model, with targets that are normal around the outputs, and its data.
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
        self.rows = self.x, self.y, self.row_weights
        self.at_once = rows_at_once(bnn.network, len(self.x))
        # True if single precision would round the sum, even over one block.
        self.in_blocks = len(self.x) > min(self.at_once, density.FEW_ROWS)

    def log_density(self, position: jax.Array, less: jax.Array | None = None) -> jax.Array:
        """Compute the log density of the position's weights and the targets, with all constants.

        A number `less` is subtracted before the sum over rows is rounded.
        """
        z = self.unravel(position)
        weights = self.of_prior.weights(z)
        log_prior = self.of_prior.log_prior(z, weights)
        if self.in_blocks:
            return log_prior + self._integral_by_blocks(weights, less)
        regression, counts, noise = self._regression(weights, *self.rows)
        found = log_prior + per_output(log_integral, *regression).sum()
        found += self._log_flat() - (counts**2 * _log_factor(noise)).sum()
        return found if less is None else found - less

    @property
    def num_free(self) -> int:
        """Number of weights of the sites that were integrated out."""
        return sum(math.prod(self.bnn.sites[name].shape) for name in self.integrated)

    def complete(self, normals: jax.Array, position: jax.Array) -> dict[str, jax.Array]:
        """Return the weights at a position, and draw the others from the given standard normals."""
        weights = self.weights(position)
        gram, projection, *_ = self._sums(weights)
        prior = self._prior_of_columns()
        z = per_output(draw, normals.reshape(len(gram), -1), gram, projection, *prior)
        weight, bias = self.head.sites
        weights[bias] = self.unit[bias] * z[:, -1]
        if weight in self.integrated:
            weights[weight] = self.unit[weight] * self.head.oriented(z[:, :-1].T)
        return {name: weights[name] for name in self.bnn.sites}

    def quadratic(self, weights: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
        """Return the log likelihood as a quadratic form in the standardised integrated weights.

        Returns
        -------
        linear : array of shape ()
        eigenvalues, projections : array of shape (weights,)
            For some rotation z of them it is ``linear + projections z - eigenvalues z^2 / 2``. No
            prior of these weights may be flat.
        """
        gram, projection, squares, log_factor = self._sums(weights)
        center, _ = self._prior_of_columns()
        # Centred at the prior's centre instead of at 0.
        moved = jnp.einsum("ocd,od->oc", gram, center)
        squares += jnp.sum(center * (moved - 2 * projection))
        eigenvalues, vectors = jnp.linalg.eigh(gram)
        projections = jnp.einsum("ocd,oc->od", vectors, projection - moved)
        # Eigenvalues of rank-deficient columns may round below zero.
        eigenvalues = jnp.maximum(eigenvalues, 0.0)
        return -log_factor - 0.5 * squares, eigenvalues.ravel(), projections.ravel()

    def _regression(
        self, weights: dict[str, jax.Array], x: jax.Array, y: jax.Array, row_weights: jax.Array
    ) -> tuple[Regression, jax.Array, jax.Array]:
        """Set up the regression of the output layer, at some rows.

        It is relative to weights of 0, not to the layer's centre: at 0, outputs need no network.

        Returns
        -------
        regression : Regression
        counts : array of shape (rows, 1)
            Roots of the row weights.
        noise : array of shape (rows, outputs)
        """
        weights = weights | {n: jnp.zeros_like(self.prior.loc[n]) for n in self.integrated}
        location = self._rest(weights, x)
        noise = self.bnn.likelihood.noise_of(location, weights)
        counts = jnp.sqrt(row_weights)[:, None]
        residual = counts * (y.reshape(location.shape) - location) / noise
        signal = [jnp.ones((1, len(x)), self.dtype)]
        if self.head.weight in self.integrated:
            signal.insert(0, self.head.inputs(weights, x).T)
        signal = jnp.concatenate(signal)
        unit = self._by_column(self.unit)
        columns = unit[:, :, None] * signal[None, :, :] * (counts / noise).T[:, None, :]
        return Regression(columns, residual.T, *self._prior_of_columns()), counts, noise

    def _sums(self, weights: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
        """Compute the regression's sums over all rows; sums of blocks in double precision.

        Returns
        -------
        gram : array of shape (outputs, columns, columns)
        projection : array of shape (outputs, columns)
        squares : array of shape ()
            Sum of squared residuals.
        log_factor : array of shape ()
            Log of the normaliser of the density of the targets.
        """
        if not self.in_blocks:
            regression, counts, noise = self._regression(weights, *self.rows)
            columns, residual, *_ = regression
            sums = per_output(equations, columns, residual)
            return *sums, jnp.sum(residual**2), (counts**2 * _log_factor(noise)).sum()

        def add(total: Any, *rows: jax.Array) -> Any:
            columns, residual, log_factor = self._block(weights, *rows)
            columns, residual = (a.astype(jnp.float64) for a in (columns, residual))
            gram = jnp.einsum("ocr,odr->ocd", columns, columns)
            projection = jnp.einsum("ocr,or->oc", columns, residual)
            sums = gram, projection, jnp.sum(residual**2), log_factor
            return jax.tree.map(jnp.add, total, sums)

        shape = self._by_column(self.unit).shape
        with jax.enable_x64(True):
            shapes = (*shape, shape[-1]), shape, (), ()
            nothing = tuple(jnp.zeros(shape, jnp.float64) for shape in shapes)
        return fold_rows(add, nothing, self.rows, self.at_once)

    def _integral_by_blocks(
        self, weights: dict[str, jax.Array], less: jax.Array | None
    ) -> jax.Array:
        """Compute the log integral over the output layer, with its derivative in the same pass."""

        @jax.custom_vjp
        def integral(weights):
            return self._integrate(weights, less)[0]

        def backward(gradient, cotangent):
            return (jax.tree.map(lambda g: cotangent * g, gradient),)

        integral.defvjp(lambda weights: self._integrate(weights, less), backward)
        return integral(weights)

    def _integrate(self, weights: dict[str, jax.Array], less: jax.Array | None) -> tuple[Any, Any]:
        """Compute the log integral over the output layer, less a number; and its derivative."""
        center, precision = self._prior_of_columns()
        gram, projection, *_ = self._sums(weights)
        solved = per_output(solve, gram, projection, center, precision)
        mean, inverse_root, half_log_det = solved
        covariance = jnp.einsum("okc,okd->ocd", inverse_root, inverse_root)

        def add(total: Any, *rows: jax.Array) -> Any:
            block, pull = jax.vjp(lambda weights: self._block(weights, *rows), weights)
            columns, residual, log_factor = block
            rest = residual - jnp.einsum("oc,ocr->or", mean, columns)
            value = -0.5 * jnp.sum(rest.astype(jnp.float64) ** 2) - log_factor
            of_columns = mean[:, :, None] * rest[:, None, :]
            of_columns -= jnp.einsum("ocd,odr->ocr", covariance, columns)
            (gradient,) = pull((of_columns, -rest, -jnp.ones_like(log_factor)))
            return jax.tree.map(jnp.add, total, (value, _double(gradient)))

        with jax.enable_x64(True):
            nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, jnp.float64), weights)
            value, gradient = fold_rows(add, (jnp.float64(0), nothing), self.rows, self.at_once)
            value += self._log_flat() - half_log_det.sum()
            value -= 0.5 * jnp.sum(precision * (mean - center) ** 2)
            value = value if less is None else value - less.astype(value.dtype)
            return value.astype(self.dtype), jax.tree.map(
                lambda g, w: g.astype(w.dtype), gradient, weights
            )

    def _block(self, weights: dict[str, jax.Array], *rows: jax.Array) -> tuple[jax.Array, ...]:
        """Compute columns and residuals of some rows, and the log of their density's normaliser."""
        with jax.enable_x64(self.dtype == jnp.float64):
            (columns, residual, *_), counts, noise = self._regression(weights, *rows)
        # In double precision, since all rows may share one noise.
        counts, noise = (a.astype(jnp.float64) for a in (counts, noise))
        return columns, residual, (counts**2 * _log_factor(noise)).sum()

    def _rest(self, weights: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        """Compute outputs, (rows, outputs), at weights with integrated sites set to 0."""
        if self.head.weight not in self.integrated:
            return density.outputs(self.bnn, weights, x)
        network = self.bnn.network
        offset, rows = offset_of(network), jnp.zeros((len(x), network.num_outputs), self.dtype)
        return rows if offset is None else rows + x[:, offset, None]

    def _prior_of_columns(self) -> tuple[jax.Array, jax.Array]:
        """Return centre and precision of every column's coefficient, in units of its sd."""
        flat = self._by_column(self._flat())
        return self._by_column(self.prior.loc) / self._by_column(self.unit), 1.0 - flat.astype(
            self.dtype
        )

    def _log_flat(self) -> jax.Array:
        """Return the log of the factor between flat priors and standard normal densities."""
        unit, flat = self._by_column(self.unit), self._by_column(self._flat())
        improper = jnp.where(flat, jnp.log(unit) + 0.5 * jnp.log(2 * jnp.pi), 0.0)
        return improper.sum().astype(self.dtype)

    def _by_column(self, values: dict[str, jax.Array]) -> jax.Array:
        """Lay numbers of the integrated sites out as (outputs, columns)."""
        weight, _ = self.head.sites
        laid = (
            self.head.oriented(values[name]) if name == weight else jnp.atleast_2d(values[name])
            for name in self.integrated
        )
        return jnp.concatenate([*laid]).T

    def _flat(self) -> dict[str, jax.Array]:
        return {name: jnp.isinf(self.prior.scale[name]) for name in self.integrated}


def _double(tree: Any) -> Any:
    return jax.tree.map(lambda a: a.astype(jnp.float64), tree)


def _log_factor(noise: jax.Array) -> jax.Array:
    return jnp.log(noise) + 0.5 * jnp.log(2 * jnp.pi).astype(noise.dtype)
