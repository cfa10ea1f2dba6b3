"""Posterior of the weights beside their prior, site by site."""

from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.lines import Line2D
from scipy import stats

from weightprior import _checks
from weightprior.fits.reading import Part, parts_of
from weightprior.model.bnn import BNN
from weightprior.plots._panels import STYLE, add_legend, panels
from weightprior.plots._priors import PLAIN, colors_of

__all__ = ["plot_weights"]

# Prior sds on each side that are always visible, and the share of draws outside the visible range
# at each end: a few far draws would leave no room for the others.
_REACH, _TAIL, _NUM_BINS = 3.5, 0.001, 50
# Margin beside the visible range, as a share of it.
_MARGIN = 0.03
# Height of a row of ticks, as a share of the highest density.
_ROW = 0.1


def plot_weights(
    bnn: BNN, fit: xr.DataTree, *, standardised: bool = True, width: float = 85.0
) -> np.ndarray:
    """Plot the posterior of the weights beside their prior, a panel per site.

    All weights of a site are pooled, so the labels of hidden units do not matter. In prior sds from
    its centre, the prior is the same curve for all of them. If the posterior is equal to it, the
    data say nothing about the weights; if it is narrower, the data are informative; if it reaches
    far beyond, the prior's scale is too small. Fits of several priors are drawn as outlines, one
    over the other. A fit with a single draw (a MAP) has a tick per weight below the curve, in a row
    per prior.

    Parameters
    ----------
    bnn : BNN
        The model that was fitted.
    fit : DataTree
        The fit.
    standardised : bool
        If true, plot in prior sds from the prior's centre. Otherwise plot in the units of the
        weights, for the fit of a single prior: take ``unstack_fit(fit)[label]`` of a stack. The
        prior is then the mean of the priors of the site's weights.
    width : float
        Width of the figure, in mm: 85 is one column of a page, 170 are two.

    Returns
    -------
    array of matplotlib.axes.Axes
        One per site of the network, for further changes. Sites with a prior that is flat, or has no
        sd, such as a horseshoe, have no panel. Single weights with such a prior are left out.

    Raises
    ------
    TypeError, ValueError
        If `fit` is of another model or something else, all of its prior is flat, or it is of a
        stacked prior and `standardised` is False.

    Notes
    -----
    For a learned prior (`hierarchical_prior`), the curve is a normal with the mean and sd of the
    prior over all values of its hyperparameters.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> from weightprior import plots
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> fit = wp.fit_laplace(bnn, x, x[:, 0], prior=wp.normal_prior(bnn))
    >>> [axis.get_title(loc="left") for axis in plots.plot_weights(bnn, fit)]
    ['output.weight', 'output.bias']
    """
    parts = parts_of(bnn, fit)
    width = _checks.number("width", width, above=0)
    labels = [part.label for part in parts if part.label is not None]
    if labels and not standardised:
        raise ValueError(
            "standardised: expected True for a fit of a stacked prior, since its priors differ; "
            "got False. Take one: unstack_fit(fit)[label]."
        )
    sites = {site: _draws(parts, site, standardised) for site in bnn.network.sites}
    sites = {site: draws for site, draws in sites.items() if any(d.size for d in draws)}
    if not sites:
        raise ValueError(
            "fit: expected a prior that is not flat; got one that is flat in all sites."
        )
    colors = colors_of(labels or [""])
    single = parts[0].weights.num_chains * parts[0].weights.num_draws == 1
    with mpl.rc_context(STYLE):
        unit = "prior sds from centre" if standardised else "weight"
        axes = panels(list(sites), width, xlabel=unit, ylabel="density", same_x=False)
        for axis, (site, draws) in zip(axes, sites.items(), strict=True):
            _plot_site(axis, draws, _prior(parts[0], site, standardised), colors, single)
        add_legend(axes[0].figure, _legend(labels, colors, single), width)
    return axes


def _draws(parts: list[Part], site: str, standardised: bool) -> list[np.ndarray]:
    """Return all weights of a site with a prior that is not flat, by prior."""
    draws = []
    for part in parts:
        loc, scale = part.prior.loc[site], part.prior.scale[site]
        values, proper = part.weights[site], np.isfinite(scale)
        if standardised:
            values = (values - loc) / np.where(proper, scale, 1.0)
        draws.append(values[..., proper].ravel())
    return draws


def _prior(part: Part, site: str, standardised: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the centres and scales for the mean density to draw."""
    if standardised:
        return np.zeros(1), np.ones(1)
    loc, scale = part.prior.loc[site], part.prior.scale[site]
    proper = np.isfinite(scale)
    return loc[proper].ravel(), scale[proper].ravel()


def _legend(labels: list[Any], colors: list[Any], single: bool) -> list[Line2D]:
    what = "weights" if single else "posterior"
    named = [f"{what}, {label}" for label in labels] or [what]
    marks: Any = {"marker": "|", "ls": ""} if single else {}
    prior = Line2D([], [], color=PLAIN, ls="--", label="prior")
    of_parts = zip(colors, named, strict=True)
    return [prior, *(Line2D([], [], color=c, label=name, **marks) for c, name in of_parts)]


def _plot_site(
    axis: Any, parts: list[np.ndarray], prior: Any, colors: list[Any], single: bool
) -> None:
    """Draw a site's prior, and the posterior of every part, or a tick per weight."""
    loc, scale = prior
    tail = 0.0 if single else _TAIL
    seen = [np.quantile(part, [tail, 1 - tail]) for part in parts if part.size]
    low = min((loc - _REACH * scale).min(), *(s[0] for s in seen))
    high = max((loc + _REACH * scale).max(), *(s[1] for s in seen))
    margin = _MARGIN * (high - low)
    low, high = low - margin, high + margin
    at = np.linspace(low, high, 400)
    density = stats.norm.pdf(at[:, None], loc, scale).mean(axis=1)
    axis.plot(at, density, "--", color=PLAIN, zorder=3)
    for row, (part, color) in enumerate(zip(parts, colors, strict=True)):
        if single:
            height = -(row + 1) * _ROW * density.max()
            axis.plot(part, np.full(len(part), height), "|", color=color, ms=5)
            continue
        counts, edges = np.histogram(part, _NUM_BINS, (low, high))
        share = counts / (max(part.size, 1) * np.diff(edges))
        axis.stairs(share, edges, color=color)
        if len(parts) == 1:
            axis.stairs(share, edges, color=color, fill=True, alpha=0.3)
    axis.set_xlim(low, high)
    bottom = -(len(parts) + 0.7) * _ROW * density.max() if single else 0.0
    axis.set_ylim(bottom, None)
    axis.set_yticks([tick for tick in axis.get_yticks() if 0 <= tick <= axis.get_ylim()[1]])
