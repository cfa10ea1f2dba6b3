"""Ranks of the truth among draws of its fits, against uniform ranks."""

from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from weightprior import _checks
from weightprior.plots._panels import STYLE, add_legend, panels
from weightprior.plots._priors import BLUE, ORANGE, PLAIN

__all__ = ["plot_sbc"]

# Smaller differences of shares are rounding.
_SHARE_BY_ROUNDING = 1e-12
_KIND = "ecdf_diff."
_WORDS = {"lp": "log joint density", "log_likelihood": "log likelihood"}


def plot_sbc(found: xr.Dataset, *, width: float = 85.0) -> np.ndarray:
    """Plot the deviations of ranks of the truth, among draws of its fits, from uniform ranks.

    There is a panel per quantity, with a line for each of its numbers (`outputs` has one per input
    and output): the share of ranks below each probability, minus that probability. A fit that draws
    from the posterior has lines within the band. Lines that leave it have another colour. If a line
    is first above and then below 0, the fit is too narrow; in the reverse order, it is too wide; if
    it is above 0 throughout, the fit draws too high values.

    Parameters
    ----------
    found : Dataset
        Result of `simulation_based_calibration`.
    width : float
        Width of the figure, in mm: 85 is one column of a page, 170 are two.

    Returns
    -------
    array of matplotlib.axes.Axes
        One per quantity, for further changes.

    Raises
    ------
    TypeError
        If `found` is something else.

    Notes
    -----
    The band is simultaneous for all quantities and all probabilities, at the level in the call of
    `simulation_based_calibration`. It is the band of that function, so `calibrated` agrees with the
    figure.

    References
    ----------
    T. Säilynoja, P.-C. Bürkner and A. Vehtari, Graphical test for discrete uniformity, 2022.
    :doi:`10.1007/s11222-022-10090-6`

    Examples
    --------
    >>> from functools import partial
    >>> import numpy as np
    >>> import weightprior as wp
    >>> from weightprior import plots
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=0.5))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> exact = partial(wp.fit_laplace, num_samples=200)
    >>> found = wp.simulation_based_calibration(
    ...     bnn, x, prior=wp.normal_prior(bnn), fit=exact, num_simulations=10
    ... )
    >>> [axis.get_title(loc="left") for axis in plots.plot_sbc(found)]
    ['log likelihood', 'log joint density', 'outputs']
    """
    if not (
        isinstance(found, xr.Dataset)
        and found.attrs.get("function") == "simulation_based_calibration"
    ):
        raise TypeError(
            f"found: expected a result of simulation_based_calibration; got {type(found).__name__}."
        )
    width = _checks.number("width", width, above=0)
    lines = {
        str(name).removeprefix(_KIND): values.transpose("probability", ...)
        for name, values in found.data_vars.items()
        if str(name).startswith(_KIND)
    }
    low, high = (found[f"band_{side}"].to_numpy() for side in ("lower", "upper"))
    at = found["probability"].to_numpy()
    beyond = False
    with mpl.rc_context(STYLE):
        titles = [_WORDS.get(name, name) for name in lines]
        axes = panels(
            titles,
            width,
            xlabel="probability",
            ylabel="ECDF minus uniform",
            same_y=[0] * len(titles),
        )
        for axis, values in zip(axes, lines.values(), strict=True):
            axis.fill_between(at, low, high, color="#DDDDDD", lw=0)
            axis.axhline(0.0, color=PLAIN, lw=0.5)
            beyond |= _plot_lines(axis, at, values.to_numpy().reshape(len(at), -1), low, high)
        add_legend(axes[0].figure, _legend(found, beyond), width)
    return axes


def _plot_lines(axis: Any, at: np.ndarray, lines: np.ndarray, low: Any, high: Any) -> bool:
    """Draw lines; return true if any of them leaves the band."""
    leaves = (
        (lines < low[:, None] - _SHARE_BY_ROUNDING) | (lines > high[:, None] + _SHARE_BY_ROUNDING)
    ).any(axis=0)
    for line, leaving in zip(lines.T, leaves, strict=True):
        axis.plot(at, line, color=ORANGE if leaving else BLUE, zorder=3 if leaving else 2)
    return bool(leaves.any())


def _legend(found: xr.Dataset, beyond: bool) -> list[Any]:
    level, count = found.attrs["level"], found.attrs["num_simulations"]
    band = f"{100 * (1 - level):g} % band, {count} fits"
    handles: list[Any] = [
        Line2D([], [], color=BLUE, label="ranks"),
        Patch(fc="#DDDDDD", lw=0, label=band),
    ]
    return handles + ([Line2D([], [], color=ORANGE, label="leaves the band")] if beyond else [])
