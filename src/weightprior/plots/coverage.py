"""Coverage of predictive intervals, against their level."""

from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy import stats

from weightprior import _checks
from weightprior.plots._panels import STYLE, add_legend, panels
from weightprior.plots._priors import BLUE, PLAIN, labels_of, titles_of

__all__ = ["plot_coverage"]

_BAND = 0.95


def plot_coverage(found: xr.Dataset, *, width: float = 85.0) -> np.ndarray:
    """Plot the share of targets inside central predictive intervals, against their level.

    There is a panel per prior and, with several outputs, per output. On the diagonal, intervals are
    right. Below it they are too narrow: the fit is overconfident. Above it they are too wide. If
    intervals were right, 95 % of the shares for this number of rows would be within the band, at
    each level separately: deviations beyond it are more than chance.

    Parameters
    ----------
    found : Dataset
        Result of `score` or `cross_validate`, for numbers or counts.
    width : float
        Width of the figure, in mm: 85 is one column of a page, 170 are two.

    Returns
    -------
    array of matplotlib.axes.Axes
        One per panel, for further changes: all priors of the first output, then of the next.

    Raises
    ------
    TypeError, ValueError
        If `found` is something else, or of classes, which have no intervals.

    Notes
    -----
    The band assumes that rows are independent of one another and of the fit: held-out rows. Shares
    at neighbouring levels are of the same rows, and deviate together.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> from weightprior import plots
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 40)[:, None]
    >>> y = 3 * x[:, 0]
    >>> fit = wp.fit_map(bnn, x[::2], y[::2], prior=wp.normal_prior(bnn))
    >>> plots.plot_coverage(wp.score(bnn, fit, x[1::2], y[1::2])).shape
    (1,)
    """
    _check(found)
    width = _checks.number("width", width, above=0)
    lines, titles = _lines(found["coverage"])
    level, num_rows = found["level"].to_numpy(), found.sizes["obs_id"]
    with mpl.rc_context(STYLE):
        words = ("level of the interval", "share of targets inside")
        axes = panels(titles, width, xlabel=words[0], ylabel=words[1], same_y=[0] * len(titles))
        for axis, line in zip(axes, lines, strict=True):
            _plot_band(axis, num_rows)
            axis.plot(level, line, "o-", color=BLUE, ms=3)
        handles = [
            Line2D([], [], color=BLUE, marker="o", ms=3, label="targets"),
            Line2D([], [], color=PLAIN, ls="--", label="as claimed"),
            Patch(fc="#DDDDDD", lw=0, label=f"chance, {100 * _BAND:.0f} %, {num_rows:,} rows"),
        ]
        add_legend(axes[0].figure, handles, width)
    return axes


def _check(found: Any) -> None:
    if not (isinstance(found, xr.Dataset) and "elpd_i" in found):
        raise TypeError(f"found: expected a result of score; got {type(found).__name__}.")
    if "coverage" not in found:
        raise ValueError(
            "found: expected scores of numbers or counts; got those of classes, which have no "
            "intervals. Use `calibration_error` for their probabilities."
        )


def _lines(coverage: xr.DataArray) -> tuple[list[np.ndarray], list[str]]:
    """Return coverage by level, and the title, of every panel."""
    labels = labels_of(coverage)
    outputs = coverage["output"].to_numpy().tolist() if "output" in coverage.dims else []
    lines, titles = [], []
    for output in range(max(len(outputs), 1)):
        for prior in range(max(len(labels), 1)):
            one = coverage.isel(prior=prior) if labels else coverage
            lines.append((one.isel(output=output) if outputs else one).to_numpy())
            words = titles_of(labels[prior : prior + 1])
            words += [f"output {name}" for name in outputs[output : output + 1]]
            titles.append(", ".join(words))
    return lines, titles


def _plot_band(axis: Any, num_rows: int) -> None:
    """Draw the band of chance, on a fine grid: at every level the share is binomial."""
    level = np.linspace(0.0, 1.0, 401)
    low, high = (
        stats.binom.ppf(tail, num_rows, level) / num_rows
        for tail in ((1 - _BAND) / 2, (1 + _BAND) / 2)
    )
    axis.fill_between(level, np.clip(low, 0, 1), high, color="#DDDDDD", lw=0)
    axis.plot(level, level, "--", color=PLAIN)
    axis.set(xlim=(0, 1), ylim=(-0.02, 1.02))
