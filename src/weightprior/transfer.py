"""What one posterior knows, as the prior of the next fit."""

import numpy as np
import xarray as xr

from weightprior import _checks, symmetry
from weightprior.draws import SAMPLE_DIMS, asymmetries, check_fit, draws_of, priors_of
from weightprior.model import BNN
from weightprior.priors import NormalPrior, normal_prior

__all__ = ["posterior_as_prior"]

# Draws of one weight without which its sd is not worth calling one.
_FEWEST = 20
# A chain sits elsewhere where its mean is this far from that of the others, in sds within chains.
# With ten effective draws a chain that does share the mode would be so by five standard errors.
_APART = 2.0


def posterior_as_prior(bnn: BNN, fit: xr.DataTree, *, widen: float = 1.0) -> NormalPrior:
    """Make a prior of a posterior: each weight's mean and sd, correlations left out.

    Hidden units are relabelled first (`diagnostics.align`), for averages over draws whose units
    have other labels would wash out what each of them knows.

    Parameters
    ----------
    bnn : BNN
        The model that was fitted.
    fit : DataTree
        A fit of a single prior with draws: chains, or an approximation.
    widen : float
        Factor on all sds. Above 1 the new data may move the weights further: where they come from
        another population, or where correlations that are left out make the sds claim too much.

    Returns
    -------
    NormalPrior
        Centred at the posterior means of the aligned draws.

    Raises
    ------
    ValueError
        Where chains sit in different modes, whose average lies in none of them; where there are
        too few draws, or the fit is of a stacked prior.

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
            "weightprior.split(fit)[label]."
        )
    [weights], [prior] = draws_of(bnn, fit), priors_of(bnn, fit)
    num_chains, num_draws = next(iter(weights.values())).shape[:2]
    if num_chains * num_draws < _FEWEST:
        raise ValueError(
            f"fit: expected at least {_FEWEST} draws of a posterior; got {num_chains * num_draws}. "
            "A MAP has no sds: use normal_prior(bnn, loc=fit, scale=...)."
        )
    lp = fit["sample_stats"]["lp"].transpose(*SAMPLE_DIMS).to_numpy()
    aligned = symmetry.align(symmetry.freedoms(bnn, prior, **asymmetries(fit)), weights, lp)
    if fit.attrs["method"] != "ensemble":
        _refuse_modes(aligned)
    loc = {name: values.mean(axis=(0, 1)) for name, values in aligned.items()}
    scale = {name: widen * values.std(axis=(0, 1), ddof=1) for name, values in aligned.items()}
    return normal_prior(bnn, loc=loc, scale=scale)


def _refuse_modes(weights: dict[str, np.ndarray]) -> None:
    """Raise where a weight is elsewhere in one chain than in the others."""
    worst, where = 0.0, None
    for name, values in weights.items():
        flat = values.reshape(*values.shape[:2], -1)
        distance = _distances(flat)
        if distance.size and distance.max() > worst:
            worst, where = float(distance.max()), name
    if worst > _APART:
        raise ValueError(
            f"fit: expected chains that share a mode; got some {worst:.2g} sd apart in {where!r} "
            "after alignment, and the average of modes lies in none of them. Take the chains of "
            "one mode, fit.sel(chain=[...]), start them at one point (init=weights), or, where "
            "they have not met yet, run longer."
        )


def _distances(values: np.ndarray) -> np.ndarray:
    """How far each chain's mean is from that of the others, in sds within chains."""
    num_chains = len(values)
    if num_chains < 2:
        return np.zeros(())
    means, within = values.mean(axis=1), values.var(axis=1, ddof=1).mean(axis=0)
    apart = np.abs(means - (means.sum(axis=0) - means) / (num_chains - 1))
    with np.errstate(divide="ignore", invalid="ignore"):  # a weight that never varies
        return np.where(apart == 0, 0.0, apart / np.sqrt(within))
