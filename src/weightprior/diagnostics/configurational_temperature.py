"""Configurational temperature: a check of draws against a posterior without exact draws."""

from typing import Any

import jax
import numpy as np
import xarray as xr
from arviz_stats.sampling_diagnostics import mcse

from weightprior import _data
from weightprior.diagnostics.contraction import layers_of
from weightprior.fits.evaluate import evaluate
from weightprior.fits.layout import lay_out
from weightprior.fits.reading import Part, parts_of, prior_description, same_rows
from weightprior.fits.verdict import MIN_DRAWS
from weightprior.model import density
from weightprior.model.bnn import BNN

__all__ = ["configurational_temperature", "reason_against", "temperature_of"]


def configurational_temperature(bnn: BNN, fit: xr.DataTree, x: Any, y: Any) -> xr.Dataset:
    """Compare draws with the gradient of their target log density: 1 for exact draws.

    For exact draws, the mean of -(w - centre) . grad log p(w) is the number of weights, for any
    posterior and any centre. It is larger for draws that are too wide or in the wrong place, and
    smaller for draws that are too narrow. No long run of exact draws is needed for comparison.

    Parameters
    ----------
    bnn : BNN
        The model that was fitted. Its density is used, even for draws of a linearised model.
    fit : DataTree
        A fit with many draws, by `fit_vi`, `fit_laplace`, `fit_ensemble` or `fit_tempered`, or by
        `fit_mcmc` with ``kernel="mclmc"``. Row weights count as they did in the fit.
    x : array or data frame of shape (rows, features)
        Inputs of the rows that were fitted.
    y : array of shape (rows,) or (rows, outputs)
        Their targets.

    Returns
    -------
    Dataset
        With the dim `prior` if the fit has it:

        - `temperature`: the mean over draws, per weight (latents of the likelihood included), with
          its Monte-Carlo standard error `temperature_se`;
        - `temperature_by_layer`, that of the weights and biases of each layer alone, and
          `temperature_by_layer_se` (dim `layer`).

    Raises
    ------
    ValueError
        For a MAP, which is one point; for a learned prior, since its hyperparameters have terms of
        their own; and if the targets follow a model written elsewhere.

    Notes
    -----
    The centre is the prior's. A temperature of 1 is necessary but not sufficient. Chains that miss
    a mode have it as well, and draws that are too wide in one direction may cancel draws that are
    too narrow in another. Temperatures by layer help to detect the latter.

    References
    ----------
    H. H. Rugh, Dynamical approach to temperature, Physical Review Letters 78, 1997.
    :doi:`10.1103/PhysRevLett.78.772`

    F. Wenzel et al., How good is the Bayes posterior in deep neural networks really?, ICML 2020.
    :doi:`10.48550/arXiv.2002.02405`

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> fit = wp.fit_laplace(bnn, x, 2 * x[:, 0], prior=wp.normal_prior(bnn))
    >>> found = wp.diagnostics.configurational_temperature(bnn, fit, x, 2 * x[:, 0])
    >>> bool(abs(found["temperature"] - 1) < 4 * found["temperature_se"])
    True
    """
    inputs, targets = _data.checked(bnn, x, y)
    pieces = []
    for part in parts_of(bnn, fit):
        if reason := reason_against(part):
            raise ValueError(f"fit: expected many draws under a known prior; got {reason}.")
        pieces.append(temperature_of(bnn, part, inputs, targets, same_rows(part, inputs)))
    dims = {f"temperature_by_layer{kind}": ("layer",) for kind in ("", "_se")}
    return lay_out(pieces, (), dims, {**fit["posterior"].coords, "layer": layers_of(bnn)})


def reason_against(part: Part) -> str:
    """Return the reason why a fit has no such temperature, or an empty string."""
    if part.weights.num_chains * part.weights.num_draws == 1:
        return "a single point, such as a MAP"
    if prior_description(part.fit):
        return "a learned prior with hyperparameters, which have terms of their own"
    if not part.model.likelihood.is_known:
        return "targets that follow a model written elsewhere"
    return ""


def temperature_of(
    bnn: BNN, part: Part, x: np.ndarray, y: np.ndarray, row_weights: np.ndarray
) -> dict[str, Any]:
    """Compute the temperature of draws, of all weights and by layer, with standard errors."""
    # Arrays by site. The model is the BNN itself, not the linearised model of a fit.
    terms = evaluate(_terms_of_draw, bnn, part.weights, x, y, part.prior, row_weights)
    sizes = {name: np.prod(site.shape, dtype=int) for name, site in bnn.sites.items()}
    in_layer = [
        [name for name, site in bnn.network.sites.items() if site.layer == layer]
        for layer in layers_of(bnn)
    ]
    found = [
        _mean_and_error(
            np.sum([terms[name] for name in names], axis=0) / sum(sizes[name] for name in names)
        )
        for names in ([*bnn.sites], *in_layer)
    ]
    means, errors = map(np.array, zip(*found, strict=True))
    return {
        "temperature": means[0],
        "temperature_se": errors[0],
        "temperature_by_layer": means[1:],
        "temperature_by_layer_se": errors[1:],
    }


def _terms_of_draw(bnn: BNN, weights: Any, x: Any, y: Any, prior: Any, row_weights: Any) -> Any:
    """Return minus the product of position and gradient, by site."""
    slope = jax.grad(density.log_joint, argnums=1)(bnn, weights, x, y, prior, row_weights)
    return {name: -((weights[name] - prior.loc[name]) * slope[name]).sum() for name in bnn.sites}


def _mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Compute the mean over chains and draws, and its Monte-Carlo standard error."""
    if values.shape[1] >= MIN_DRAWS:
        error = np.asarray(mcse(values[..., None], method="mean")).item()
    else:  # such as for an ensemble with independent members
        error = values.std(ddof=1) / np.sqrt(values.size)
    return float(values.mean()), float(error)
