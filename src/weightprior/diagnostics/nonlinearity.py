"""Nonlinearity: the distance of a network, and of its units, from linear functions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from weightprior.diagnostics._units import by_layer, lay_out_units
from weightprior.fits.evaluate import evaluate
from weightprior.fits.inputs import new_inputs
from weightprior.fits.reading import parts_of
from weightprior.model import density
from weightprior.model.activations import kinks, slopes
from weightprior.model.bnn import BNN
from weightprior.model.network import hidden_layers_of, input_columns, offset_of

__all__ = ["nonlinearity"]

_KINK_KINDS = ("kink_inside", "dead", "always_active")
# Number of rows with Jacobians held at once.
_ROWS_AT_ONCE = 512
# A number that varies by at most this share of its size is constant up to rounding.
_SPREAD_BY_ROUNDING = 1e-12


def nonlinearity(bnn: BNN, fit: xr.DataTree, x: Any) -> xr.Dataset:
    """Measure at the rows how nonlinear and how steep a network is, and where its kinks are.

    Small weights leave tanh and sigmoid units nearly linear. A relu unit bends only at its kink.
    The position of the kink relative to the data depends on the ratio of its bias to its weights.

    Parameters
    ----------
    bnn : BNN
        The model that was fitted. Without hidden layers, only results on the outputs.
    fit : DataTree
        The fit.
    x : array or data frame of shape (rows, features)
        Inputs to evaluate, those that were fitted or others. Every row counts once.

    Returns
    -------
    Dataset
        For every draw (dims `chain`, `draw`, and `prior` if the fit has it). For the network's
        outputs, before the likelihood turns them into probabilities or rates:

        - `nonlinear` (dim `output`): share of an output's variance over the rows that the best
          linear function of x, with an intercept, leaves unexplained: 0 for a linear function. NaN
          if the output does not vary, or if there are so few rows that a linear function goes
          through all of them;
        - `lipschitz`: the largest spectral norm over the rows of the Jacobian of the outputs with
          respect to x, in units of the outputs per unit of x. The Lipschitz constant of the
          function (Euclidean norms) is at least that, and equal to it if rows are dense enough;
        - `mean_jacobian_norm`: the mean of that norm over the rows.

        For the hidden units, by unit (``<name>.hidden_0`` with the dim `hidden_0`, and so on) and
        by layer (``<name>_by_layer``, dim `layer`; the share of its units):

        - ``nonlinear``: as above, for the output of a unit as a function of x. By layer: share of
          the variance of all its units together;
        - ``kink_inside``, ``dead``, ``always_active``: exactly one of them is 1 for a unit, and the
          others are 0. Kink inside: a kink of its activation lies inside the data, with rows on
          both sides. Dead: no kink does, and the unit is flat at all rows, such as a relu that is
          never above 0. Always active: for a relu, linear at all rows. NaN for an activation
          without a kink.

    Raises
    ------
    ValueError, TypeError
        If `x` does not suit the model, or the fit is of another model.

    Notes
    -----
    Slopes are per unit of x as it was passed. To compare different data, scale their features
    alike. At a kink the Jacobian is the one-sided derivative of JAX.

    A column that is the network's offset is not one of its inputs, and its contribution to the
    outputs is left out.

    Kinks are the jumps in the slope of an activation, for any activation: at 0 for relu.

    Draws by `fit_laplace` with the Gauss-Newton matrix are weights of the network linearised at
    the MAP: a linear function of the weights, but not of x. Its units have the kinks of the MAP.

    References
    ----------
    R. Novak et al., Sensitivity and generalization in neural networks: an empirical study, ICLR
    2018. :doi:`10.48550/arXiv.1802.08760`

    X. Glorot, A. Bordes and Y. Bengio, Deep sparse rectifier neural networks, AISTATS 2011,
    PMLR 15.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=(5,)), wp.Gaussian(noise=0.1))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> path = wp.stack_priors({s: wp.normal_prior(bnn, scale=s) for s in (0.1, 1.0)})
    >>> fit = wp.fit_map(bnn, x, np.sin(4 * x[:, 0]), prior=path)
    >>> found = wp.diagnostics.nonlinearity(bnn, fit, x).squeeze()
    >>> bool(found["nonlinear"][0] < 0.01 < 0.1 < found["nonlinear"][1])
    True
    >>> bool(found["lipschitz"][0] < found["lipschitz"][1])
    True
    """
    parts = parts_of(bnn, fit)
    inputs = new_inputs(bnn, fit, x)
    offset = offset_of(bnn.network)
    if offset is not None:
        inputs = np.where(np.arange(inputs.shape[1]) == offset, 0.0, inputs)
    basis = _linear_basis(inputs)
    determined = len(inputs) > basis.shape[1] + 1
    layers = hidden_layers_of(bnn.network) or ()
    bends = tuple(np.array(kinks(layer.activation)) for layer in layers)
    pieces = []
    for part in parts:
        found = evaluate(_of_draw, part.model, part.weights, inputs, basis, bends)
        if layers:
            shares = {f"{kind}_by_layer": by_layer(layers, kind, found) for kind in _KINK_KINDS}
            found = {**found, **shares}
        if not determined:
            linear = [name for name in found if name.startswith("nonlinear")]
            found |= {name: np.full_like(found[name], np.nan) for name in linear}
        pieces.append(found)
    return lay_out_units(pieces, fit["posterior"].coords, {"nonlinear": ("output",)})


def _linear_basis(x: np.ndarray) -> np.ndarray:
    """Compute orthonormal columns that span the inputs' deviations from means, (rows, rank)."""
    size = np.abs(x).max(axis=0)
    scaled = x / np.where(size > 0, size, 1.0)
    apart = scaled - scaled.mean(axis=0)
    spread = np.abs(apart).max(axis=0)
    varies = spread > 0  # a constant column is all ones here: its mean is exact
    left, values, _ = np.linalg.svd(apart[:, varies] / spread[varies], full_matrices=False)
    least = max(x.shape) * np.finfo(np.float64).eps * values.max(initial=0.0)
    return left[:, values > least]


def _of_draw(bnn: Any, weights, x, basis, bends) -> dict[str, Any]:
    norms = jax.lax.map(lambda row: _jacobian_norm(bnn, weights, row), x, batch_size=_ROWS_AT_ONCE)
    found = {
        "nonlinear": _unexplained(density.outputs(bnn, weights, x), basis),
        "lipschitz": norms.max(),
        "mean_jacobian_norm": norms.mean(),
    }
    layers = hidden_layers_of(bnn.network)
    if not layers:
        return found
    units = bnn.network.hidden_units(weights, x)
    together = [_unexplained(unit.post, basis, together=True) for unit in units.values()]
    found["nonlinear_by_layer"] = jnp.stack(together)
    for layer, bend in zip(layers, bends, strict=True):
        pre, post = units[layer.name]
        found[f"nonlinear.{layer.name}"] = _unexplained(post, basis)
        states = _states(layer.activation, pre, bend)
        named = zip(_KINK_KINDS, states, strict=True)
        found |= {f"{kind}.{layer.name}": state for kind, state in named}
    return found


def _jacobian_norm(bnn: BNN, weights, row: jax.Array) -> jax.Array:
    def outputs(row):
        return density.outputs(bnn, weights, row[None, :])[0]

    columns = input_columns(bnn.network)
    few_inputs = len(columns) < bnn.network.num_outputs
    jacobian = (jax.jacfwd if few_inputs else jax.jacrev)(outputs)(row)
    if offset_of(bnn.network) is not None:
        jacobian = jacobian[:, np.array(columns)]
    # The norm of a vector needs no decomposition. It is scaled so that no square overflows.
    largest = jnp.abs(jacobian).max()
    scaled = jacobian / jnp.where(largest > 0, largest, 1.0)
    if 1 in jacobian.shape:
        return largest * jnp.sqrt((scaled**2).sum())
    return largest * jnp.linalg.norm(scaled, ord=2)


def _unexplained(signal: jax.Array, basis: jax.Array, *, together: bool = False) -> jax.Array:
    """Compute the share of each column's variance, or of all together, outside of the basis."""
    axis = (0, 1) if together else 0
    apart = signal - signal.mean(axis=0)
    spread = jnp.abs(apart).max(axis=axis)
    varies = spread > _SPREAD_BY_ROUNDING * jnp.abs(signal).max(axis=axis)
    scaled = apart / jnp.where(varies, spread, 1.0)
    rest = scaled - basis @ (basis.T @ scaled)
    share = (rest**2).sum(axis=axis) / (scaled**2).sum(axis=axis)
    return jnp.where(varies, share, np.nan)


def _states(activation: Any, pre: jax.Array, bend: jax.Array) -> tuple[jax.Array, ...]:
    """Tell for each unit if a kink lies inside the data, if it is dead, or always active."""
    if not bend.size:
        return (jnp.full(pre.shape[1], np.nan),) * 3
    low, high = pre.min(axis=0), pre.max(axis=0)
    inside = ((low[:, None] < bend) & (bend < high[:, None])).any(axis=1)
    is_flat = (slopes(activation, pre) == 0).all(axis=0)
    states = (inside, ~inside & is_flat, ~inside & ~is_flat)
    return tuple(state.astype(pre.dtype) for state in states)
