"""Predictions at new inputs, one for every draw of a fit."""

from typing import Any

import jax
import numpy as np
import xarray as xr

from weightprior import _checks
from weightprior._checks.options import names_its_options
from weightprior._running.progress import shows_progress
from weightprior.evaluation._noise import chances, sampled
from weightprior.evaluation._quantiles import check_room, checked_levels, summed_up
from weightprior.fits.evaluate import evaluate
from weightprior.fits.inputs import new_inputs, new_rows
from weightprior.fits.layout import (
    SAMPLE_DIMS,
    lay_out,
    lay_out_targets,
    prediction_coords,
)
from weightprior.fits.reading import Draws, parts_of
from weightprior.model import density
from weightprior.model.bnn import BNN
from weightprior.model.trials import in_trials

__all__ = ["predict"]


@names_its_options
@shows_progress
def predict(
    bnn: BNN,
    fit: xr.DataTree,
    x: Any,
    *,
    rng_key: Any = 0,
    trials: Any = None,
    quantiles: Any = None,
) -> xr.Dataset:
    """Predict at new inputs with every draw of a fit, or summarise all draws.

    Draws by `fit_laplace` with the Gauss-Newton matrix are weights of the network linearised at the
    MAP. Their predictions are those of the linearised network.

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
    quantiles : sequence of float, optional
        Levels between 0 and 1, such as ``(0.05, 0.95)``, of quantiles of new targets. Draws are
        then neither returned nor held: any number of rows is predicted block by block, and `x` may
        be a memory map, a Zarr or dask array, or an HDF5 dataset.

    Returns
    -------
    Dataset
        `mean`, E[y | weights, x]: the location, the rate, the probability, or (dim `output`) the
        probability of every class; and `y`, a draw with noise. With `trials`, both are numbers of
        successes, and `mean` is the expected number. In the units of the y that was fitted, with
        dims chain, draw, (prior,) obs_id(, output). Classes are numbers;
        ``bnn.likelihood.decode`` turns them into labels.

        With `quantiles`, instead: `mean`, the mean over draws; `sd`, the standard deviation of a
        new target, noise included; and `quantiles` (dim `quantile`) of new targets, with dims
        (prior,) obs_id(, output). Quantiles are estimated from at least 4,000 targets drawn per
        row, and so is `sd` if the likelihood's distribution does not define its variance.

    Raises
    ------
    ValueError, TypeError
        If `x`, `trials` or `quantiles` do not suit the model, or the fit is another model's.
    MemoryError
        If the predictions of all draws would not fit into memory.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> fit = wp.fit_map(bnn, x, 2 * x[:, 0], prior=wp.normal_prior(bnn, scale=100.0))
    >>> float(wp.predict(bnn, fit, [[10.0]])["mean"].mean().round(2))
    20.0
    >>> found = wp.predict(bnn, fit, [[10.0]], quantiles=(0.05, 0.95))
    >>> found["quantiles"].round(0).to_numpy()
    array([[18., 22.]])
    """
    key = _checks.random_key(rng_key)
    parts = parts_of(bnn, fit)
    elsewhere = any(not part.model.likelihood.is_known for part in parts)
    if elsewhere and quantiles is not None:
        raise ValueError(
            f"quantiles: expected None for a fit whose targets follow a NumPyro model; got "
            f"{quantiles!r}. Leave it out for the network's outputs, or draw targets with "
            "numpyro.infer.Predictive."
        )
    # If no draws are held, the rows need not be held at once either.
    inputs = (new_inputs if quantiles is None else new_rows)(bnn, fit, x)
    models = [in_trials(part.model, trials, len(inputs)) for part in parts]
    if elsewhere:
        return _outputs_alone(bnn, fit, x, parts, inputs)
    if quantiles is not None:
        levels = checked_levels(bnn, quantiles)
        pieces = [summed_up(part, inputs, key, levels, trials) for part in parts]
        coords = prediction_coords(bnn, fit, x) | {"quantile": levels}
        return lay_out(pieces, (), _dims_of_sums(pieces[0]["mean"]), coords)
    draws = sum(part.weights.num_chains * part.weights.num_draws for part in parts)
    check_room(draws * len(inputs) * bnn.network.num_outputs)
    pieces = [
        evaluate(
            _predict_draw, model, (part.weights, _chances(model, part.weights, inputs, key)), inputs
        )
        for model, part in zip(models, parts, strict=True)
    ]
    coords = prediction_coords(bnn, fit, x)
    return lay_out_targets(bnn, pieces, SAMPLE_DIMS, coords)


def _outputs_alone(bnn: BNN, fit: xr.DataTree, x: Any, parts: Any, inputs: Any) -> xr.Dataset:
    """Compute the outputs of a network that is a part of a user's NumPyro model."""
    _checks.warn(
        "predict: The targets of this fit follow a NumPyro model. The network is a part of it, and "
        "these are the network's outputs alone. For targets, use numpyro.infer.Predictive."
    )
    pieces = [{"outputs": evaluate(_outputs_of_draw, p.model, p.weights, inputs)} for p in parts]
    coords = prediction_coords(bnn, fit, x)
    return lay_out(pieces, SAMPLE_DIMS, {"outputs": ("obs_id", "network_output")}, coords)


def _outputs_of_draw(bnn: BNN, weights, x) -> Any:
    return density.outputs(bnn, weights, x)


def _dims_of_sums(mean: np.ndarray) -> dict[str, tuple[str, ...]]:
    rows = ("obs_id", "output")[: mean.ndim]
    return {"mean": rows, "sd": rows, "quantiles": (*rows, "quantile")}


def _predict_draw(bnn: BNN, draw: Any, x: Any) -> dict[str, jax.Array]:
    weights, chance = draw
    law = density.targets(bnn, weights, x)
    return {"mean": density.mean(bnn, weights, x), "y": sampled(bnn, law, chance)}


def _chances(bnn: BNN, weights: Draws, x: np.ndarray, key: jax.Array) -> np.ndarray:
    return chances(bnn, key, (weights.num_chains, weights.num_draws), len(x))
