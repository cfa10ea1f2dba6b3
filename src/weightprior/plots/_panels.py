"""Panels of equal size, in figures as wide as a column of a page or the page."""

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.textpath import TextPath

__all__ = ["FONT_SIZE", "MM", "STYLE", "add_legend", "columns_of", "panels"]

# Font size that is legible in print at the figure's width; and a millimetre in inches.
FONT_SIZE, MM = 8, 1 / 25.4
STYLE: Any = {
    "font.size": FONT_SIZE,
    "axes.titlesize": FONT_SIZE,
    "lines.markersize": 4,
    "lines.linewidth": 1,
}
# Sizes of a panel, in mm, including the text beside it.
_LEAST_WIDTH, _HEIGHT, _ROOM, _BESIDE = 42.0, 38.0, 16.0, 10.0
# Width in mm of the space before and after the text of a legend, and about that of a letter.
_HANDLE = 14.0
_LETTER = 0.6 * FONT_SIZE / 72 / MM


def columns_of(count: int, width: float, least: float = _LEAST_WIDTH) -> int:
    """Return the number of panels of at least a width, in mm, that fit side by side."""
    return max(1, min(count, int(width // least)))


def panels(
    titles: Sequence[str],
    width: float,
    *,
    xlabel: str = "",
    ylabel: str = "",
    same_y: Sequence[Any] | None = None,
    same_x: bool = True,
    below: float = 0.0,
    least: float = _LEAST_WIDTH,
) -> np.ndarray:
    """Make a figure with one panel per title, row by row.

    Parameters
    ----------
    titles : sequence of str
        Titles of the panels; an empty one is not written.
    width : float
        Width of the figure, in mm.
    xlabel, ylabel : str
        Labels below the lowest panels, and to the left of the leftmost ones.
    same_y : sequence, optional
        One per panel: panels with equal values share their y-axis. By default none do.
    same_x : bool
        True if all share their x-axis.
    below : float
        Height in mm of tick labels below a panel, in excess of one line.
    least : float
        Minimum width of a panel, in mm.
    """
    count, columns = len(titles), columns_of(len(titles), width, least)
    rows = -(-count // columns)
    height = below + (_HEIGHT if count > 1 else max(_HEIGHT, 0.5 * width))
    letters = int((width / columns - _BESIDE) / _LETTER)
    size = (width * MM, (_ROOM + height * rows) * MM)
    figure = plt.figure(figsize=size, layout="constrained")
    axes: list[Any] = []
    for i, title in enumerate(titles):
        first = same_y.index(same_y[i]) if same_y else i
        axis = figure.add_subplot(
            rows,
            columns,
            i + 1,
            sharex=axes[0] if same_x and axes else None,
            sharey=axes[first] if first < i else None,
        )
        axis.set_title(textwrap.fill(title, letters), loc="left")
        # Tick labels of a shared axis are written once, below and to the left.
        beside = same_y is not None and i % columns and same_y[i - 1] == same_y[i]
        lowest = i + columns >= count
        axis.tick_params(labelbottom=lowest or not same_x, labelleft=not beside)
        axis.set(xlabel=xlabel if lowest else "", ylabel="" if i % columns else ylabel)
        axes.append(axis)
    return np.array(axes)


def add_legend(figure: Any, handles: Sequence[Any], width: float) -> None:
    """Add a legend below all panels, in as many columns as fit into the width."""
    lengths = [_HANDLE + _length(handle.get_label()) for handle in handles]
    counts = range(len(handles), 1, -1)
    columns = next((count for count in counts if _taken(lengths, count) <= width), 1)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)


def _length(words: str) -> float:
    """Measure the longest line of a text, in mm."""
    lines = (TextPath((0, 0), line, size=FONT_SIZE) for line in words.splitlines())
    return max(line.get_extents().width for line in lines) / 72 / MM


def _taken(lengths: Sequence[float], columns: int) -> float:
    """Measure a legend, in mm, with columns as wide as their longest entry."""
    return sum(max(column) for column in np.array_split(lengths, columns))
