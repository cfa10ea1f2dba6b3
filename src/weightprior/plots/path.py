"""Regularisation path: scores, norms and effective parameters along prior scales."""

from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

from weightprior import _checks
from weightprior.plots._panels import MM, STYLE, add_legend
from weightprior.plots._priors import (
    BLUE,
    GREEN,
    ORANGE,
    PLAIN,
    check_stacked,
    in_order,
    label_priors,
    line_between,
    places,
)

__all__ = ["plot_path"]

# Ratio of the figure's height to its width, and relative heights of the panels.
_HEIGHT, _SHARES = 1.3, (2, 1, 1)


def plot_path(
    found: xr.Dataset, *, test: xr.Dataset | None = None, width: float = 85.0
) -> np.ndarray:
    """Plot the scores and norms of each prior on a cross-validated path.

    Three panels over the priors, with a log axis if their labels are positive numbers (such as
    scales), show: the log predictive density per row, of fitted rows and of held-out rows, with one
    standard error to each side; the norm of weights and biases, from zero and, if that differs,
    from the prior's centre, without flat ones; and the effective number of parameters. Lines mark
    the best prior and the strongest prior within one standard error of it.

    Parameters
    ----------
    found : Dataset
        Result of `cross_validate` for a stacked prior.
    test : Dataset, optional
        Result of `score` for fits of the same priors, on rows outside the cross-validation.
    width : float
        Width of the figure, in mm: 85 is one column of a page, 170 are two.

    Returns
    -------
    array of matplotlib.axes.Axes
        The three panels, from top to bottom, for further changes.

    Raises
    ------
    TypeError, ValueError
        If `found` is no cross-validation of a stacked prior, or `test` is one of other priors.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> from weightprior import plots
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> path = wp.stack_priors({s: wp.normal_prior(bnn, scale=s) for s in (0.01, 0.1, 1.0)})
    >>> found = wp.cross_validate(bnn, x, x[:, 0], prior=path, num_folds=5)
    >>> plots.plot_path(found).shape
    (3,)
    """
    _check(found, test)
    width = _checks.number("width", width, above=0)
    found, test = in_order(found), None if test is None else in_order(test)
    at = places(found)
    with mpl.rc_context(STYLE):
        size = (width * MM, _HEIGHT * width * MM)
        figure, axes = plt.subplots(
            3, 1, sharex=True, figsize=size, height_ratios=_SHARES, layout="constrained"
        )
        _plot_scores(axes[0], at, found, test)
        _plot_lengths(axes[1], at, found)
        line = line_between(found)
        axes[2].plot(at, found["effective_parameters"], f".{line}", color=PLAIN)
        axes[2].set(ylabel="effective\nparameters", xlabel="prior", ylim=(0, None))
        label_priors(axes[2:], found, width)
        _mark_choice(axes, at, found)
        figure.align_ylabels(axes)
        add_legend(figure, _legend(axes), width)
    return axes


def _check(found: Any, test: Any) -> None:
    check_stacked(found, "cross_validate")
    if test is None:
        return
    priors = test["prior"].to_numpy().tolist() if "prior" in test.dims else []
    expected = found["prior"].to_numpy().tolist()
    if priors != expected:
        raise ValueError(
            f"test: expected scores of the priors {_checks.several(expected)}; "
            f"got {_checks.several(priors) or 'a single one'}."
        )


def _plot_scores(axis: Any, at: np.ndarray, found: xr.Dataset, test: xr.Dataset | None) -> None:
    num_rows = found.sizes["obs_id"]
    held_out, error = found["elpd"] / num_rows, found["elpd_se"] / num_rows
    dashed, line = line_between(found, "--"), line_between(found)
    axis.plot(at, found["train"], f".{dashed}", color=ORANGE, label="fitted rows")
    axis.plot(at, held_out, f".{line}", color=BLUE, label="held-out rows")
    if line:
        axis.fill_between(at, held_out - error, held_out + error, color=BLUE, alpha=0.2, lw=0)
    else:
        axis.errorbar(at, held_out, error, ls="", color=BLUE, elinewidth=1, capsize=2)
    if test is not None:
        scores = test["elpd"] / test.sizes["obs_id"]
        axis.plot(at, scores, "x", color=PLAIN, label="test rows")
    axis.set_ylabel("log density\nper row (nats)")


def _plot_lengths(axis: Any, at: np.ndarray, found: xr.Dataset) -> None:
    [norm] = axis.plot(at, found["norm"], f".{line_between(found)}", color=PLAIN)
    # Both are the same for priors centred at zero, if none is flat.
    if not np.allclose(found["distance"], found["norm"], rtol=1e-3):
        norm.set_label("norm from zero")
        dashed = f".{line_between(found, '--')}"
        axis.plot(at, found["distance"], dashed, color=GREEN, label="norm from the centre")
    axis.set(ylabel="norm of weights\nand biases", ylim=(0, None))


def _mark_choice(axes: Any, at: np.ndarray, found: xr.Dataset) -> None:
    labels = found["prior"].to_numpy().tolist()
    best, one_se = found["best"].item(), found["one_se"].item()
    marks = {"best": (best, "-"), "strongest within 1 s.e.": (one_se, ":")}
    if best == one_se:
        marks = {"best, and strongest\nwithin 1 s.e.": (best, "-")}
    for text, (label, style) in marks.items():
        for axis in axes:
            chosen = at[labels.index(label)]
            axis.axvline(chosen, color=PLAIN, lw=1, ls=style, alpha=0.6, label=text)


def _legend(axes: Any) -> list[Any]:
    """Return a legend with every kind of line once, for all panels."""
    handles = [handle for axis in axes for handle in axis.get_legend_handles_labels()[0]]
    return list({handle.get_label(): handle for handle in handles}.values())
