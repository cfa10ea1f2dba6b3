"""Saturation of units: on the flat part of an activation, inputs change the output little."""

from typing import Any

import jax.numpy as jnp
import xarray as xr

from weightprior import _checks
from weightprior.diagnostics._units import by_layer, checked_layers, lay_out_units
from weightprior.fits.evaluate import evaluate
from weightprior.fits.inputs import new_inputs
from weightprior.fits.reading import parts_of
from weightprior.model.activations import largest_slope, slopes
from weightprior.model.bnn import BNN
from weightprior.model.network import hidden_layers_of

__all__ = ["saturation"]

_KINDS = ("saturated", "linear_regime", "slope")


def saturation(
    bnn: BNN, fit: xr.DataTree, x: Any, *, flat: float = 0.05, steep: float = 0.95
) -> xr.Dataset:
    """Measure the saturation of hidden units by the slopes of their activations at the rows.

    Small weights keep a sigmoid or tanh unit around zero, where it is nearly linear. Large weights
    move it to its flat parts. It is then a step, and says little about the distance of a row from
    the step.

    Parameters
    ----------
    bnn : BNN
        The model that was fitted, with hidden layers.
    fit : DataTree
        The fit.
    x : array or data frame of shape (rows, features)
        Inputs to evaluate, those that were fitted or others. Every row counts once.
    flat, steep : float
        A unit is saturated at a row if the absolute slope of its activation is below `flat`
        times its largest slope anywhere, and nearly linear if it is above `steep` times that. For
        a tanh, the defaults are values beyond 0.975, with abs(z) > 2.18, and within 0.224, with
        abs(z) < 0.228. For a sigmoid, both limits of abs(z) are twice these.

    Returns
    -------
    Dataset
        For every draw (dims `chain`, `draw`, and `prior` if the fit has it), by unit
        (``<name>.hidden_0`` with the dim `hidden_0`, and so on) and as the mean over the units of
        a layer (``<name>_by_layer``, dim `layer`):

        - ``saturated``: share of rows on the flat part;
        - ``linear_regime``: share of rows on the steep part;
        - ``slope``: mean over rows of the absolute slope, as a share of the largest.

    Raises
    ------
    ValueError, TypeError
        If the model has no hidden layer, `x` does not suit it, the fit is of another model, or
        not ``0 < flat <= steep < 1``.

    Notes
    -----
    In the literature, a unit is saturated if its output is near an asymptote, without a definition
    of near: Glorot and Bengio look at the distribution of outputs, Rakitianskaia and Engelbrecht
    summarise it for bounded activations. Slopes measure the same, are the factors of a unit in the
    gradient, and exist for every activation.

    A relu has the slopes 0 and 1: it is "saturated" at the rows at which it is off, and linear at
    those at which it is on; see `nonlinearity` for its kink. The slope of silu and gelu exceeds 1,
    its value at large inputs. They count as nearly linear at their steepest, not their straightest
    part. If slopes grow without bound, all results are NaN; the largest slope is searched at inputs
    between -40 and 40.

    Draws by `fit_laplace` with the Gauss-Newton matrix are weights of the network linearised at
    the MAP. Its units have the slopes of the MAP.

    References
    ----------
    X. Glorot and Y. Bengio, Understanding the difficulty of training deep feedforward neural
    networks, AISTATS 2010, PMLR 9.

    A. Rakitianskaia and A. Engelbrecht, Measuring saturation in neural networks, IEEE Symposium
    Series on Computational Intelligence, 2015. :doi:`10.1109/SSCI.2015.202`

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=(5,)), wp.Gaussian(noise=0.1))
    >>> x = np.linspace(-2, 2, 20)[:, None]
    >>> path = wp.stack_priors({s: wp.normal_prior(bnn, scale=s) for s in (0.1, 1.0, 10.0)})
    >>> fit = wp.fit_map(bnn, x, np.sign(x[:, 0]), prior=path)
    >>> found = wp.diagnostics.saturation(bnn, fit, x)
    >>> shares = found["saturated_by_layer"].sel(layer="hidden_0").squeeze()
    >>> bool(shares[0] < shares[1] < shares[2])
    True
    """
    parts = parts_of(bnn, fit)
    inputs = new_inputs(bnn, fit, x)
    layers = checked_layers(bnn)
    limits = _checked_limits(flat, steep)
    largest = tuple(largest_slope(layer.activation) for layer in layers)
    pieces = []
    for part in parts:
        found = evaluate(_of_draw, part.model, part.weights, inputs, largest, limits)
        means = {f"{kind}_by_layer": by_layer(layers, kind, found) for kind in _KINDS}
        pieces.append({**means, **found})
    return lay_out_units(pieces, fit["posterior"].coords)


def _checked_limits(flat: Any, steep: Any) -> tuple[float, float]:
    low = _checks.number("flat", flat, above=0, below=1)
    high = _checks.number("steep", steep, above=0, below=1)
    if low > high:
        raise ValueError(f"steep: expected at least flat={low:g}; got {high:g}.")
    return low, high


def _of_draw(bnn: Any, weights, x, largest, limits) -> dict[str, Any]:
    flat, steep = limits
    found, network = {}, bnn.network
    units = network.hidden_units(weights, x)
    for layer, most in zip(hidden_layers_of(network) or (), largest, strict=True):
        slope = jnp.abs(slopes(layer.activation, units[layer.name].pre)) / most
        shares = {"saturated": slope < flat, "linear_regime": slope > steep}
        # Comparisons with NaN are false, which would look like a result.
        for kind, share in shares.items():
            known = jnp.where(jnp.isnan(slope), jnp.nan, share)
            found[f"{kind}.{layer.name}"] = known.mean(axis=0)
        found[f"slope.{layer.name}"] = slope.mean(axis=0)
    return found
