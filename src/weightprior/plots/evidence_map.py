"""Map of a criterion for priors, over centre and scale."""

from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from weightprior import _arrays, _checks
from weightprior.plots._criteria import TITLES, nats_norm
from weightprior.plots._panels import FONT_SIZE, MM, STYLE, add_legend
from weightprior.plots._priors import PLAIN, check_stacked

__all__ = ["plot_evidence_map"]

# Letters of the text in a cell, and the smallest legible font size.
_LETTERS, _SMALLEST = 8, 5
# Height of a row of cells and of the rest, in mm.
_CELL_HEIGHT, _ROOM = 10.0, 20.0
_CENTRED: dict[str, Any] = {"ha": "center", "va": "center", "linespacing": 1.1}


def plot_evidence_map(
    found: xr.Dataset,
    *,
    loc: Any = "loc",
    scale: Any = "scale",
    criterion: str = "evidence",
    width: float = 85.0,
) -> np.ndarray:
    """Plot the difference of each prior from the best, over its centre and scale.

    Each prior has a cell with its difference from the best and the standard error, in nats. A star
    marks the best, a dot the priors close to it. Hatched cells are not reliable. Cells without a
    prior are empty.

    Parameters
    ----------
    found : Dataset
        Result of `compare_priors`.
    loc, scale : str, or array of shape (priors,)
        Centre and scale of every prior in the stack: the name of a coordinate in
        ``stack_priors(..., coords=)``, or numbers, which are sorted, or words.
    criterion : {"evidence", "loo", "cv"}
        The criterion to plot.
    width : float
        Width of the figure, in mm: 85 is one column of a page, 170 are two.

    Returns
    -------
    array of matplotlib.axes.Axes
        A single one, for further changes.

    Raises
    ------
    TypeError, ValueError
        If `found` is something else, has no such criterion, or has another number of priors
        than centres and scales; if two priors share both, or one is NaN.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> from weightprior import plots
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> cells = [(c, s) for c in (0.0, 3.0) for s in (0.1, 1.0)]
    >>> loc, scale = np.transpose(cells)
    >>> grid = [wp.normal_prior(bnn, loc=c, scale=s) for c, s in cells]
    >>> prior = wp.stack_priors(grid, coords={"loc": loc, "scale": scale})
    >>> fit = wp.fit_tempered(bnn, x, 3 * x[:, 0], prior=prior, num_temperatures=8, num_chains=4)
    >>> [axis] = plots.plot_evidence_map(wp.compare_priors(bnn, fit))
    >>> axis.get_xlabel()
    'scale (prior sd)'
    """
    check_stacked(found, "compare_priors")
    _checks.one_of("criterion", criterion, found["criterion"].to_numpy().tolist())
    width = _checks.number("width", width, above=0)
    rows, row = _places("loc", loc, found)
    columns, column = _places("scale", scale, found)
    _check_cells(found, row, column)
    one = found.sel(criterion=criterion)
    with mpl.rc_context(STYLE):
        size = (width * MM, (_ROOM + _CELL_HEIGHT * len(rows)) * MM)
        figure, axis = plt.subplots(figsize=size, layout="constrained")
        _fill(axis, one, row, column, width / len(columns))
        axis.set_xticks(range(len(columns)), columns)
        axis.set_yticks(range(len(rows)), rows)
        axis.tick_params(length=0)
        axis.set(xlim=(-0.5, len(columns) - 0.5), ylim=(-0.5, len(rows) - 0.5))
        axis.set(xlabel="scale (prior sd)", ylabel="centre")
        axis.set_title(f"{TITLES[criterion]}: nats from the best, ± s.e.", loc="left")
        if handles := _legend(one):
            add_legend(figure, handles, width)
    return np.array([axis])


def _places(argument: str, values: Any, found: xr.Dataset) -> tuple[list[str], np.ndarray]:
    """Return the ticks of an axis, and the index of each prior's tick."""
    along = [str(name) for name, c in found.coords.items() if c.dims == ("prior",)]
    if isinstance(values, str):
        if values not in along:
            raise ValueError(
                f"{argument}: expected a coordinate among {_checks.several(along)}, or an array "
                f"with one for each prior; got {values!r}. Stack the priors with "
                f"coords={{{argument!r}: [...]}}."
            )
        values = found[values].to_numpy()
    array, count = np.asarray(values), found.sizes["prior"]
    if array.shape != (count,):
        raise ValueError(
            f"{argument}: expected one for each of the {count} priors; got shape {array.shape}."
        )
    if array.dtype.kind in "UT":
        words = list(dict.fromkeys(array.tolist()))
        return words, np.array([words.index(word) for word in array.tolist()])
    array = _arrays.numbers(argument, array)
    if np.isnan(array).any():
        raise ValueError(f"{argument}: expected numbers or words; got NaN.")
    ticks = np.unique(array)
    return [f"{tick:g}" for tick in ticks], np.searchsorted(ticks, array)


def _check_cells(found: xr.Dataset, row: np.ndarray, column: np.ndarray) -> None:
    cells: dict[tuple[int, int], Any] = {}
    for label, *cell in zip(found["prior"].to_numpy().tolist(), row, column, strict=True):
        other = cells.setdefault((cell[0], cell[1]), label)
        if other != label:
            raise ValueError(
                "loc and scale: expected a different pair for every prior; got the same for "
                f"{_checks.several([other, label])}."
            )


def _fill(axis: Any, one: xr.Dataset, row: np.ndarray, column: np.ndarray, width: float) -> None:
    """Draw a cell per prior, in a figure of this width in mm."""
    difference, colors = one["difference"].to_numpy(), mpl.colormaps["cividis"]
    fills = colors(nats_norm(difference.min())(difference))
    # A letter is about 0.6 times as wide as it is high, and row labels take some of the width.
    size = float(np.clip(0.8 * width * MM * 72 / (0.6 * _LETTERS), _SMALLEST, FONT_SIZE))
    kinds = _kinds(one)
    for i, text in enumerate(_texts(one)):
        ink = "black" if np.dot(fills[i, :3], (0.3, 0.59, 0.11)) > 0.5 else "white"
        doubtful = kinds["not reliable"][i]
        cell = Rectangle((column[i] - 0.5, row[i] - 0.5), 1, 1, fc=fills[i], lw=0.5)
        cell.set(ec=ink if doubtful else "white", hatch="////" if doubtful else None)
        axis.add_patch(cell)
        box = {"fc": fills[i], "ec": "none", "pad": 1}
        axis.text(column[i], row[i], text, color=ink, size=size, bbox=box, **_CENTRED)
        if kinds["close to the best"][i]:
            axis.plot(column[i] - 0.4, row[i] + 0.3, "o", mfc=ink, mec=fills[i], ms=5, zorder=4)


def _kinds(one: xr.Dataset) -> dict[str, np.ndarray]:
    best = one["prior"].to_numpy() == one["best"].item()
    return {
        "close to the best": one["close"].to_numpy() & ~best,
        "not reliable": one["doubtful"].to_numpy(),
    }


def _texts(one: xr.Dataset) -> list[str]:
    """Return the texts in the cells."""
    best, texts = one["best"].item(), []
    for label in one["prior"].to_numpy().tolist():
        nats, error = (one[n].sel(prior=label).item() for n in ("difference", "difference_se"))
        digits = 1 if abs(nats) < 100 else 0
        value = f"{nats:.{digits}f}\n± {error:.1f}".replace("-", "\N{MINUS SIGN}")
        texts.append("\N{BLACK STAR} best" if label == best else value)
    return texts


def _legend(one: xr.Dataset) -> list[Any]:
    """Return a legend for the marks in cells, if there are any."""
    signs: dict[str, Any] = {
        "close to the best": Line2D([], [], marker="o", color=PLAIN, ls="", ms=3),
        "not reliable": Patch(fc="white", ec=PLAIN, hatch="////"),
    }
    for name, sign in signs.items():
        sign.set_label(name)
    return [signs[name] for name, chosen in _kinds(one).items() if chosen.any()]
