"""Saturation, nonlinearity and ablation losses of hidden units, along priors of a fit."""

from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.lines import Line2D

from weightprior import _checks
from weightprior.fits.layout import SAMPLE_DIMS
from weightprior.plots._draws import interval
from weightprior.plots._panels import STYLE, add_legend, columns_of, panels
from weightprior.plots._priors import (
    PLAIN,
    SEVERAL,
    in_order,
    label_priors,
    labels_of,
    line_between,
    places,
    room_below,
)

__all__ = ["plot_mechanisms"]


class _Panel(NamedTuple):
    """Title of a variable, limits of its axis, and if it is a log axis over many decades."""

    title: str
    limits: tuple[float, float | None]
    log: bool = False


_SHARE = (-0.04, 1.04)
# Smallest upper end of an axis that starts at zero.
_MIN_TOP = 1e-9
# Panels in the order of the figure.
_PANELS = {
    "saturated_by_layer": _Panel("saturated, share of rows", _SHARE),
    "linear_regime_by_layer": _Panel("nearly linear, share of rows", _SHARE),
    "dead_by_layer": _Panel("dead, share of units", _SHARE),
    "nonlinear": _Panel("nonlinear share of the outputs", _SHARE),
    "lipschitz": _Panel("steepest slope (Lipschitz)", (0, None), log=True),
    "effective_units_by_layer": _Panel("units that bear the load", (0, None)),
    "rank_correlation_by_layer": _Panel("rank correlation, size and loss", (-1.08, 1.08)),
}
# Measure of size for the rank correlation with losses: the norm that L2 shrinks.
_MEASURE = "both"


def plot_mechanisms(*found: xr.Dataset, width: float = 85.0) -> np.ndarray:
    """Plot the effects of the priors of a stacked fit on its network, along the priors.

    There is a panel for each of these results in the given diagnostics, with the median over draws
    and, if there are several draws, a bar from their 5 % to their 95 % quantile:

    - of `diagnostics.saturation`: the shares of rows at which units are saturated, and at which
      they are nearly linear, by layer;
    - of `diagnostics.nonlinearity`: the share of units that are dead (relu), by layer; the share of
      the outputs' variance that no linear function of x explains; the largest slope (the Lipschitz
      constant over the rows, in units of the outputs per unit of x);
    - of `diagnostics.unit_ablation`: the number of units that share the loss, and the rank
      correlation of the size of a unit's weights (``both``) with the loss without it, by layer.

    Parameters
    ----------
    *found : Dataset
        Results of `diagnostics.saturation`, `nonlinearity` and `unit_ablation` for one stacked
        prior: one, two or all three.
    width : float
        Width of the figure, in mm: 85 is one column of a page, 170 are two.

    Returns
    -------
    array of matplotlib.axes.Axes
        One per panel, for further changes.

    Raises
    ------
    TypeError, ValueError
        If one of `found` is something else or of a single prior, or their priors differ.

    Notes
    -----
    Draws without a number (NaN) are left out, and so are panels without any: a tanh unit is never
    dead.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> from weightprior import plots
    >>> bnn = wp.BNN(wp.mlp(1, hidden=(5,)), wp.Gaussian(noise=0.1))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> path = wp.stack_priors({s: wp.normal_prior(bnn, scale=s) for s in (0.1, 1.0)})
    >>> fit = wp.fit_map(bnn, x, np.sin(4 * x[:, 0]), prior=path)
    >>> axes = plots.plot_mechanisms(
    ...     wp.diagnostics.saturation(bnn, fit, x), wp.diagnostics.nonlinearity(bnn, fit, x)
    ... )
    >>> axes.shape
    (4,)
    """
    _check(found)
    width = _checks.number("width", width, above=0)
    found = tuple(in_order(one) for one in found)
    drawn = _drawn(found)
    layers = _layers(drawn)
    colors = {layer: SEVERAL[i % len(SEVERAL)] for i, layer in enumerate(layers)}
    with mpl.rc_context(STYLE):
        titles, line = [_PANELS[name].title for name in drawn], line_between(found[0])
        axes = panels(titles, width, xlabel="prior", below=room_below(found[0]))
        for axis, (name, values) in zip(axes, drawn.items(), strict=True):
            _plot_one(axis, values, _PANELS[name], colors, line)
        label_priors(axes, found[0], width / columns_of(len(axes), width))
        whole = any("layer" not in values.dims for values in drawn.values())
        named = colors | ({"network": PLAIN} if whole else {})
        handles = [Line2D([], [], color=c, marker="o", ls=line, label=n) for n, c in named.items()]
        add_legend(axes[0].figure, handles, width)
    return axes


def _check(found: tuple[Any, ...]) -> None:
    if not found:
        raise ValueError("found: expected a result of diagnostics.saturation, or others; got none.")
    labels = None
    for one in found:
        if not isinstance(one, xr.Dataset) or not set(_PANELS) & set(one.data_vars):
            raise TypeError(
                "found: expected results of diagnostics.saturation, nonlinearity or unit_ablation; "
                f"got {type(one).__name__}."
            )
        if "prior" not in one.dims:
            raise ValueError(
                "found: expected diagnostics of a stacked prior; got those of a single one. Stack "
                "priors of several scales: weightprior.stack_priors."
            )
        labels = labels or labels_of(one)
        if labels_of(one) != labels:
            raise ValueError(
                f"found: expected diagnostics of the same priors, {_checks.several(labels)}; "
                f"got {_checks.several(labels_of(one))}."
            )


def _drawn(found: tuple[xr.Dataset, ...]) -> dict[str, xr.DataArray]:
    """Select the variables to draw, in order: those with any value that is not NaN."""
    given = {str(name): values for one in found for name, values in one.data_vars.items()}
    drawn = {}
    for name in _PANELS:
        if name in given and not given[name].isnull().all():
            by_measure = "measure" in given[name].dims
            drawn[name] = given[name].sel(measure=_MEASURE) if by_measure else given[name]
    if not drawn:
        raise ValueError("found: expected numbers; got NaN throughout.")
    return drawn


def _layers(drawn: dict[str, xr.DataArray]) -> list[str]:
    layers = [v["layer"].to_numpy().tolist() for v in drawn.values() if "layer" in v.dims]
    return layers[0] if layers else []


def _plot_one(
    axis: Any, values: xr.DataArray, panel: _Panel, colors: dict[Any, str], line: str
) -> None:
    at = places(values.to_dataset(name="values"))
    several = values.sizes["chain"] * values.sizes["draw"] > 1
    behind = [dim for dim in values.dims if dim not in (*SAMPLE_DIMS, "prior")]
    labels = values[behind[0]].to_numpy().tolist() if behind else [None]
    found = interval(values.transpose(*SAMPLE_DIMS, *behind, "prior")).reshape(3, -1, len(at))
    for label, (middle, low, high) in zip(labels, found.swapaxes(0, 1), strict=True):
        error = np.stack([middle - low, high - middle]) if several else None
        color = colors.get(label, PLAIN)
        axis.errorbar(at, middle, error, fmt="o", ls=line, color=color, elinewidth=1, capsize=2)
    lowest, highest = np.nanmin(found), np.nanmax(found)
    bottom, top = panel.limits
    if panel.log and lowest > 0 and highest > 10 * lowest:
        axis.set_yscale("log")
    else:
        axis.set_ylim(bottom, max(1.08 * highest, _MIN_TOP) if top is None else top)
