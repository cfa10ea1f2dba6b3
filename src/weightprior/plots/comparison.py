"""Scores of several fits with their errors, from the table of `compare`."""

import textwrap
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from weightprior import _checks
from weightprior.plots._panels import MM, STYLE, add_legend
from weightprior.plots._priors import BLUE, GREEN, ORANGE, PLAIN

__all__ = ["plot_comparison"]

_NUM_ERRORS = 2
# Columns of the table, the columns of their errors, and their style; LOO and CV as elsewhere.
_SCORES: dict[str, tuple[str | None, str, dict[str, Any]]] = {
    "lpd_train": (None, "fitted rows", {"marker": "o", "mfc": "white", "color": "#777777"}),
    "lpd_test": ("lpd_test_se", "held-out rows", {"marker": "s", "color": BLUE}),
    "elpd_loo": ("elpd_loo_se", "PSIS-LOO", {"marker": "o", "color": ORANGE}),
    "elpd_cv": ("elpd_cv_se", "cross-validation", {"marker": "D", "color": GREEN, "ms": 3.5}),
}
_CROSS: Any = {"marker": "x", "ls": "", "ms": 7, "color": PLAIN, "zorder": 4}
# Columns that tell if scores are reliable: all scores of a fit, and single scores.
_OF_FIT, _OF_SCORE = "converged", {"elpd_loo": "loo_reliable"}
# Height of a row and of the rest, in mm, and letters per line of a name.
_ROW, _ROOM, _LETTERS = 8.0, 26.0, 22


def plot_comparison(table: pd.DataFrame, *, width: float = 85.0) -> np.ndarray:
    """Plot the scores of several fits, one row per fit, with bars of two standard errors.

    Scores are log predictive densities, in nats per row: of the rows that were fitted, of held-out
    rows, by PSIS-LOO, and by cross-validation, as far as the table has them. The distance of the
    first to the right of the others is overfitting. Crosses mark scores that are not reliable, for
    the reasons in the table's column `note`: all scores of a fit if `converged` is False, LOO if
    `loo_reliable` is False.

    Parameters
    ----------
    table : pandas.DataFrame
        Result of `compare`, or some of its rows, in the order of the figure.
    width : float
        Width of the figure, in mm: 85 is one column of a page, 170 are two.

    Returns
    -------
    array of matplotlib.axes.Axes
        A single one, for further changes.

    Raises
    ------
    TypeError, ValueError
        If `table` is something else, or has no score at all.

    Notes
    -----
    Standard errors are over rows, and fits share their rows: one fit may be better than another
    even if their bars overlap. `compare_priors` and `cross_validate` compare row by row.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> from weightprior import plots
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 40)[:, None]
    >>> y = 3 * x[:, 0]
    >>> path = wp.stack_priors({s: wp.normal_prior(bnn, scale=s) for s in (0.01, 1.0)})
    >>> fit = wp.fit_map(bnn, x[::2], y[::2], prior=path)
    >>> [axis] = plots.plot_comparison(wp.compare(bnn, {"map": fit}, x[1::2], y[1::2]))
    >>> [text.get_text() for text in axis.get_yticklabels()]
    ['map[0.01]', 'map[1.0]']
    """
    scores = _check(table)
    width = _checks.number("width", width, above=0)
    with mpl.rc_context(STYLE):
        size = (width * MM, (_ROOM + _ROW * len(table)) * MM)
        figure, axis = plt.subplots(figsize=size, layout="constrained")
        rows = np.arange(len(table))
        # Scores of a fit are close together, one below the other.
        offsets = 0.16 * (np.arange(len(scores)) - (len(scores) - 1) / 2)
        doubted = False
        for name, offset in zip(scores, offsets, strict=True):
            doubted |= _plot_score(axis, table, name, rows + offset)
        axis.set_yticks(rows, [textwrap.fill(str(n), _LETTERS) for n in table.index])
        axis.set_ylim(len(table) - 0.5, -0.5)
        axis.hlines(
            rows[1:] - 0.5, 0, 1, transform=axis.get_yaxis_transform(), color="#DDDDDD", lw=0.5
        )
        axis.set_xlabel(f"log density per row (nats), ± {_NUM_ERRORS} s.e.")
        add_legend(figure, _legend(scores, doubted), width)
    return np.array([axis])


def _check(table: Any) -> list[str]:
    """Return the scores in the table; raise if there are none."""
    if not isinstance(table, pd.DataFrame) or not {"lpd_train", _OF_FIT} <= set(table):
        raise TypeError(f"table: expected a result of compare; got {type(table).__name__}.")
    scores = [name for name in _SCORES if name in table and table[name].notna().any()]
    if not scores:
        raise ValueError(
            f"table: expected numbers in one of {_checks.several(_SCORES)}; got none. Fit with "
            "log_likelihood=True, or pass held-out rows to compare."
        )
    return scores


def _plot_score(axis: Any, table: pd.DataFrame, name: str, at: np.ndarray) -> bool:
    """Draw one score of all fits; return true if any of it is doubtful."""
    error, _, style = _SCORES[name]
    values = table[name].to_numpy(dtype=float)
    if error in table:
        reach = _NUM_ERRORS * table[error].to_numpy(dtype=float)
        # Without an error there is no bar.
        axis.errorbar(values, at, xerr=reach, fmt="none", ecolor=style["color"], elinewidth=1)
    axis.plot(values, at, ls="", label=name, zorder=3, **style)
    doubtful = _doubtful(table, name) & ~np.isnan(values)
    axis.plot(values[doubtful], at[doubtful], label=f"{name}, not reliable", **_CROSS)
    return bool(doubtful.any())


def _doubtful(table: pd.DataFrame, name: str) -> np.ndarray:
    """Tell which fits the table calls not reliable in a score; blank cells are no doubt."""
    said = [table[column] for column in (_OF_FIT, _OF_SCORE.get(name)) if column in table]
    return np.any([column.eq(False).fillna(False).to_numpy(dtype=bool) for column in said], axis=0)


def _legend(scores: list[str], doubted: bool) -> list[Line2D]:
    handles = [Line2D([], [], ls="", label=_SCORES[n][1], **_SCORES[n][2]) for n in scores]
    return [*handles, *([Line2D([], [], label="not reliable", **_CROSS)] if doubted else [])]
