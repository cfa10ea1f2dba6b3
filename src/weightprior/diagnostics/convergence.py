"""Whether chains agree: on the network's outputs, which relabelled units leave alone."""

from typing import Any

import xarray as xr
from arviz_stats.sampling_diagnostics import ess, rhat

from weightprior.draws import SAMPLE_DIMS, draws_of, evaluate, lay_out, new_inputs
from weightprior.model import BNN

__all__ = ["convergence"]


def convergence(bnn: BNN, fit: xr.DataTree, x: Any) -> xr.Dataset:
    """R-hat and effective sample sizes of the network's outputs.

    Units of a hidden layer can be exchanged without changing the function, so R-hat of single
    weights says nothing; that of the outputs does.

    Parameters
    ----------
    bnn : BNN
        The model that was fitted.
    fit : DataTree
        A fit with chains and draws.
    x : array or data frame of shape (rows, features)
        Inputs to watch the outputs at.

    Returns
    -------
    Dataset
        `rhat` (rank-normalised, split), `ess_bulk` and `ess_tail` (of the 5 % and 95 % quantiles,
        the smaller), dims obs_id, output (and prior); NaN where there are too few chains or draws
        to tell.

    References
    ----------
    A. Vehtari et al., Rank-normalization, folding, and localization: an improved R-hat, Bayesian
    Analysis 16, 2021. :doi:`10.1214/20-BA1221`

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=(3,)), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> fit = wp.fit_mcmc(bnn, x, np.sin(3 * x[:, 0]), prior=wp.normal_prior(bnn, scale=0.5))
    >>> bool(wp.diagnostics.convergence(bnn, fit, x)["rhat"].max() < 1.05)
    True
    """
    parts = draws_of(bnn, fit)
    inputs = new_inputs(bnn, fit, x)
    pieces = [{"outputs": evaluate(_outputs_of_draw, bnn, w, inputs)} for w in parts]
    dims = {"outputs": ("obs_id", "output")}
    outputs = lay_out(pieces, SAMPLE_DIMS, dims, dict(fit["posterior"].coords))
    return xr.Dataset(
        {
            "rhat": rhat(outputs)["outputs"],
            "ess_bulk": ess(outputs, method="bulk")["outputs"],
            # ArviZ's own tails begin where its setting for plotted intervals puts them.
            "ess_tail": ess(outputs, method="tail", prob=(0.05, 0.95))["outputs"],
        }
    )


def _outputs_of_draw(bnn: BNN, weights: Any, x: Any) -> Any:
    return bnn.network.apply(weights, x)
