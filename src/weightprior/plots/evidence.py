"""Evidence, leave-one-out and cross-validation of priors, along one axis."""

from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.lines import Line2D

from weightprior import _checks
from weightprior.plots._criteria import COLORS, TITLES, compressed, nats_axis
from weightprior.plots._panels import FONT_SIZE, MM, STYLE, add_legend
from weightprior.plots._priors import PLAIN, check_stacked, label_priors, places

__all__ = ["plot_evidence"]

_STYLE: Any = {**STYLE, "lines.markersize": 5}
# Minimum width, in mm, for panels side by side.
_WIDE = 130.0
_NUM_ERRORS = 2
_MARKS: dict[str, dict[str, Any]] = {
    "best": {"marker": "*", "ms": 10, "ls": "", "zorder": 4},
    "close to the best": {"marker": "o", "ls": "", "zorder": 3},
    "not close": {"marker": "o", "mfc": "white", "ls": "", "zorder": 3},
    "not reliable": {"marker": "x", "ms": 9, "mec": PLAIN, "ls": "", "zorder": 5},
}


def plot_evidence(found: xr.Dataset, *, width: float = 85.0) -> np.ndarray:
    """Plot the difference of each prior from the best, by every criterion.

    There is a panel per criterion over the priors, with a log axis if their labels are positive
    numbers. Bars are two standard errors to each side. A star marks the best prior, full circles
    those close to it, open circles those that are not close, and crosses those that are not
    reliable. Lines in the criteria's colours mark the best prior of each criterion in all panels.
    If a line meets an open circle, the criteria disagree.

    Parameters
    ----------
    found : Dataset
        Result of `compare_priors`.
    width : float
        Width of the figure, in mm: 85 is one column of a page, with the panels one above the other;
        from 130 on they are side by side.

    Returns
    -------
    array of matplotlib.axes.Axes
        One per criterion, for further changes.

    Raises
    ------
    TypeError, ValueError
        If `found` is something else, or `width` is no positive number.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> from weightprior import plots
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> path = wp.stack_priors({s: wp.normal_prior(bnn, scale=s) for s in (0.1, 2.0)})
    >>> fit = wp.fit_tempered(bnn, x, 3 * x[:, 0], prior=path, num_temperatures=8, num_chains=4)
    >>> plots.plot_evidence(wp.compare_priors(bnn, fit)).shape
    (2,)
    """
    check_stacked(found, "compare_priors")
    width = _checks.number("width", width, above=0)
    criteria, wide = found["criterion"].to_numpy().tolist(), width >= _WIDE
    lowest = found["difference"] - _NUM_ERRORS * found["difference_se"].fillna(0)
    with mpl.rc_context(_STYLE):
        axes = _panels(len(criteria), width * MM, wide)
        for axis, criterion in zip(axes, criteria, strict=True):
            _plot_criterion(axis, found.sel(criterion=criterion), criterion)
            _mark_best(axis, found, criterion)
            nats_axis(axis, lowest.min().item())
        label_priors(axes, found)
        for axis in axes if wide else axes[-1:]:
            axis.set_xlabel("prior")
        scale = compressed(lowest.min().item())
        text = f"nats from the best, ± {_NUM_ERRORS} s.e.{scale}"
        axes[0].figure.supylabel(text, size=FONT_SIZE)
        add_legend(axes[0].figure, _legend(found), width)
    return axes


def _panels(count: int, width: float, wide: bool) -> np.ndarray:
    shape = (1, count) if wide else (count, 1)
    height = 2.6 if wide else 0.6 + 1.4 * count
    _, axes = plt.subplots(
        *shape, sharex=True, sharey=wide, figsize=(width, height), layout="constrained"
    )
    return np.ravel(axes)


def _plot_criterion(axis: Any, one: xr.Dataset, criterion: str) -> None:
    at, difference = places(one), one["difference"].to_numpy()
    color, error = COLORS[criterion], _NUM_ERRORS * one["difference_se"].to_numpy()
    axis.errorbar(at, difference, error, color=color, elinewidth=1, capsize=2)
    for name, chosen in _kinds(one).items():
        axis.plot(at[chosen], difference[chosen], color=color, label=name, **_MARKS[name])
    axis.set_title(TITLES[criterion], color=color, loc="left")


def _kinds(one: xr.Dataset) -> dict[str, np.ndarray]:
    """Tell which priors are the best, close to it, or not close, and which are not reliable."""
    best = one["prior"].to_numpy() == one["best"].item()
    close = one["close"].to_numpy()
    return {
        "best": best,
        "close to the best": close & ~best,
        "not close": ~close,
        "not reliable": one["doubtful"].to_numpy(),
    }


def _mark_best(axis: Any, found: xr.Dataset, own: str) -> None:
    at, labels = places(found), found["prior"].to_numpy().tolist()
    chosen = {
        criterion: at[labels.index(found["best"].sel(criterion=criterion).item())]
        for criterion in found["criterion"].to_numpy().tolist()
    }
    for criterion, place in chosen.items():
        if criterion == own or place != chosen[own]:
            style = "-" if criterion == own else ":"
            axis.axvline(place, color=COLORS[criterion], ls=style, lw=1, alpha=0.7, zorder=1)


def _legend(found: xr.Dataset) -> list[Line2D]:
    """Explain the marks that are drawn."""
    criteria = found["criterion"].to_numpy()
    drawn = [_kinds(found.sel(criterion=criterion)) for criterion in criteria]
    handles = [
        Line2D([], [], color=PLAIN, label=name, **style)
        for name, style in _MARKS.items()
        if any(kinds[name].any() for kinds in drawn)
    ]
    if len(np.unique(found["best"])) > 1:
        handles.append(Line2D([], [], color=PLAIN, ls=":", lw=1, label="best by another"))
    return handles
