"""Posteriors as priors of the next fit."""

import numpy as np
import xarray as xr

from weightprior import _checks
from weightprior.fits.convergence import separation
from weightprior.fits.layout import SAMPLE_DIMS
from weightprior.fits.reading import Draws, check_fit, parts_of, prior_description
from weightprior.model.bnn import BNN
from weightprior.model.priors.normal import NormalPrior
from weightprior.model.priors.normal_prior import normal_prior
from weightprior.model.symmetry import align, symmetries

__all__ = ["posterior_as_prior"]

# Minimum number of draws for the sd of a weight.
_MIN_DRAWS = 20
# A chain is in another mode if its mean is this far from that of the others, in sds within chains.
# With ten effective draws, a chain in the same mode would have to be five standard errors away.
_MAX_SEPARATION = 2.0


def posterior_as_prior(bnn: BNN, fit: xr.DataTree, *, widen: float = 1.0) -> NormalPrior:
    """Make a prior from a posterior: each weight's mean and sd, without correlations.

    Hidden units are relabelled first (`diagnostics.align`). Otherwise averages over draws with
    different labels of units would lose the information of each draw.

    Parameters
    ----------
    bnn : BNN
        The model that was fitted.
    fit : DataTree
        A fit of a single prior with draws: chains, or an approximation.
    widen : float
        Factor on all sds. Above 1, new data can move the weights further. Use this if new data come
        from another population, or if the sds are too narrow without the correlations.

    Returns
    -------
    NormalPrior
        Centred at the posterior means of the aligned draws.

    Raises
    ------
    ValueError
        If chains are in different modes, since their average is in none of them; if there are too
        few draws, or the fit is of a stacked prior.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=0.5))
    >>> x = np.linspace(-1, 1, 40)[:, None]
    >>> y = 2 * x[:, 0]
    >>> first = wp.fit_mcmc(bnn, x[::2], y[::2], prior=wp.normal_prior(bnn))
    >>> prior = wp.posterior_as_prior(bnn, first)
    >>> second = wp.fit_mcmc(bnn, x[1::2], y[1::2], prior=prior)
    >>> bool(prior.scale["output.weight"][0, 0] < 0.3)
    True
    """
    widen = _checks.number("widen", widen, above=0)
    check_fit(bnn, fit)
    if "prior" in fit["posterior"].dims:
        raise ValueError(
            "fit: expected the fit of a single prior; got a stacked one. Choose a part of it: "
            "weightprior.unstack_fit(fit)[label]."
        )
    [part] = parts_of(bnn, fit)
    total = part.weights.num_chains * part.weights.num_draws
    if total < _MIN_DRAWS:
        raise ValueError(
            f"fit: expected at least {_MIN_DRAWS} draws of a posterior; got {total}. "
            "A MAP has no sds: use normal_prior(bnn, loc=fit, scale=...)."
        )
    lp = part.stats["lp"].transpose(*SAMPLE_DIMS).to_numpy()
    told = prior_description(fit)
    names = ("learned_loc", "own_scale", "proper")
    allowed = symmetries(bnn, part.prior, **{name: told.get(name, ()) for name in names})
    aligned = Draws(align(allowed, part.weights, lp))
    if aligned.num_draws > 1:  # otherwise every chain is one draw
        _refuse_modes(aligned)
    loc = {name: values.mean(axis=(0, 1)) for name, values in aligned.items()}
    scale = {name: widen * values.std(axis=(0, 1), ddof=1) for name, values in aligned.items()}
    return normal_prior(bnn, loc=loc, scale=scale)


def _refuse_modes(weights: Draws) -> None:
    """Raise if a weight is far away in one chain from its values in the others."""
    apart = {
        name: np.fmax.reduce(
            separation(values.reshape(*values.shape[:2], -1)), axis=None, initial=0.0
        )
        for name, values in weights.items()
    }
    where = max(apart, key=lambda name: apart[name])
    if apart[where] > _MAX_SEPARATION:
        raise ValueError(
            f"fit: expected chains that share a mode; got some {apart[where]:.2g} sd apart in "
            f"{where!r} after alignment, and the average of modes lies in none of them. Take the "
            "chains of one mode, fit.sel(chain=[...]), start them at one point (init=weights), or "
            "run longer if they have not converged yet."
        )
