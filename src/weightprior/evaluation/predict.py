"""Predictions at new inputs, one for every draw of a fit."""

from typing import Any

import jax
import numpy as np
import xarray as xr

from weightprior import _checks
from weightprior._options import names_its_options
from weightprior.fits.evaluate import evaluate, numbered
from weightprior.fits.layout import SAMPLE_DIMS, lay_out, row_coords, target_dims
from weightprior.fits.reading import Draws, new_inputs, parts_of
from weightprior.model import density
from weightprior.model.bnn import BNN
from weightprior.model.trials import in_trials

__all__ = ["predict"]


@names_its_options
def predict(
    bnn: BNN, fit: xr.DataTree, x: Any, *, rng_key: Any = 0, trials: Any = None
) -> xr.Dataset:
    """Predict at new inputs with every draw of a fit.

    Draws by `fit_laplace` with the Gauss-Newton matrix are weights of the network linearised at the
    MAP, and so are their predictions.

    Parameters
    ----------
    bnn : BNN
        The model that was fitted.
    fit : DataTree
        The fit, perhaps read back from disk.
    x : array or data frame of shape (rows, features)
        New inputs, prepared like those that were fitted.
    rng_key : int or JAX key
        Decides the noise of `y`.
    trials : array of shape (rows,), optional
        Trials of every row, for `Binomial` alone; one by default.

    Returns
    -------
    Dataset
        `mean`, E[y | weights, x]: the location, the rate, the probability, or (dim `output`) the
        probability of every class; and `y`, a draw with noise. With `trials`, numbers of successes:
        `mean` the expected one. In the units of the y that was
        fitted, with dims chain, draw, (prior,) obs_id(, output).

    Raises
    ------
    ValueError, TypeError
        Where `x` or `trials` do not suit the model, or the fit is another model's.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> fit = wp.fit_map(bnn, x, 2 * x[:, 0], prior=wp.normal_prior(bnn, scale=100.0))
    >>> float(wp.predict(bnn, fit, [[10.0]])["mean"].mean().round(2))
    20.0
    """
    key = _checks.random_key(rng_key)
    parts = parts_of(bnn, fit)
    inputs = new_inputs(bnn, fit, x)
    models = [in_trials(part.model, trials, len(inputs)) for part in parts]
    pieces = [
        evaluate(_predict_draw, model, (part.weights, _numbers(part.weights)), inputs, key)
        for model, part in zip(models, parts, strict=True)
    ]
    coords = {**fit["posterior"].coords, **row_coords(x)}
    return lay_out(pieces, SAMPLE_DIMS, target_dims(pieces[0]), coords)


def _predict_draw(bnn: BNN, draw: Any, x: Any, key: jax.Array) -> dict[str, jax.Array]:
    weights, number = draw
    key = jax.random.fold_in(key, number)
    law = density.targets(bnn, weights, x)
    return {"mean": density.mean(bnn, weights, x), "y": law.sample(key)}


def _numbers(weights: Draws) -> np.ndarray:
    return numbered(weights.num_chains, weights.num_draws)
