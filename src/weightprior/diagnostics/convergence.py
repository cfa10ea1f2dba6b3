"""Convergence of chains, judged by outputs, which do not depend on the labels of units."""

from typing import Any

import numpy as np
import xarray as xr

from weightprior.fits.convergence import assess
from weightprior.fits.inputs import new_inputs
from weightprior.fits.layout import lay_out, row_coords
from weightprior.fits.reading import parts_of
from weightprior.model.bnn import BNN

__all__ = ["convergence"]

_DIMS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("rhat", "ess_bulk", "ess_tail"), ("obs_id", "output")),
    **dict.fromkeys(("separation", "divergences", "bfmi"), ("chain",)),
}


def convergence(bnn: BNN, fit: xr.DataTree, x: Any) -> xr.Dataset:
    """Judge by the network's outputs if chains have converged, with advice if they have not.

    Units of a hidden layer can be exchanged without changing the function. So R-hat of single
    weights is not informative, but R-hat of the outputs, and of the log density, is.

    Parameters
    ----------
    bnn : BNN
        The model that was fitted.
    fit : DataTree
        A fit with chains and draws.
    x : array or data frame of shape (rows, features)
        Inputs at which outputs are compared; about twenty are enough.

    Returns
    -------
    Dataset
        With the dim `prior` if the fit has it:

        - `verdict`: a sentence with the finding and advice; `converged`: true if there is no
          problem. False, with the reason in the verdict, if convergence cannot be judged: with one
          chain or too few draws, and if a method has no chains;
        - `rhat` (rank-normalised, split), `ess_bulk` and `ess_tail` (of the 5 % and 95 %
          quantiles, the smaller), dims obs_id, output; `rhat_lp`, `ess_bulk_lp` and `ess_tail_lp`
          of the log density;
        - `separation`, dim chain: distance of the mean of a chain from that of the other chains,
          in posterior standard deviations pooled within chains, for the output or log density with
          the largest distance;
        - if the method has them, dim chain: `divergences` and `bfmi`, the Bayesian fraction of
          missing information (too favourable if chains were thinned).

        NaN if there are fewer than two chains or four draws.

    Raises
    ------
    ValueError, TypeError
        If the fit is of another model, or `x` does not match the inputs of the fit.

    Notes
    -----
    Chains have converged if R-hat is at most 1.01, the effective draws are at least 100 per
    chain, no transition diverged, and BFMI is at least 0.3. A chain is said to stay away from the
    others if Monte-Carlo error does not explain its separation.

    References
    ----------
    A. Vehtari et al., Rank-normalization, folding, and localization: an improved R-hat, Bayesian
    Analysis 16, 2021. :doi:`10.1214/20-BA1221`

    M. Betancourt, Diagnosing suboptimal cotangent disintegrations in Hamiltonian Monte Carlo,
    2016. :doi:`10.48550/arXiv.1604.00695`

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> fit = wp.fit_mcmc(bnn, x, 2 * x[:, 0], prior=wp.normal_prior(bnn))
    >>> found = wp.diagnostics.convergence(bnn, fit, x)
    >>> found["verdict"].item()
    'Converged: R-hat at most 1.00..., at least ... effective draws.'
    """
    parts = parts_of(bnn, fit)
    inputs = new_inputs(bnn, fit, x)
    judged = [assess(part, inputs) for part in parts]
    pieces = [
        one.numbers | {"verdict": np.array(one.verdict), "converged": np.array(one.converged)}
        for one in judged
    ]
    return lay_out(pieces, (), _DIMS, {**fit["posterior"].coords, **row_coords(x)})
