"""Axes of priors, and checks of the dataset for a figure."""

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

__all__ = [
    "BLUE",
    "GREEN",
    "ORANGE",
    "PLAIN",
    "SEVERAL",
    "check_stacked",
    "colors_of",
    "in_order",
    "label_priors",
    "labels_of",
    "line_between",
    "places",
    "room_below",
    "titles_of",
]

# Colours of Okabe and Ito, which colour-blind readers can distinguish.
ORANGE, BLUE, GREEN, PLAIN = "#D55E00", "#0072B2", "#009E73", "#333333"
# Colours for anything without a colour of its own, in this order.
SEVERAL = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", PLAIN)
# Number of letters, of all labels together, that fit below an axis of this width in mm.
_MOST_LETTERS, _WIDTH = 40, 85.0
_FEW_DECADES = 2.5


def check_stacked(found: Any, function: str) -> None:
    """Raise if `found` is not the result of a function of this name for a stacked prior."""
    if not (isinstance(found, xr.Dataset) and found.attrs.get("function") == function):
        raise TypeError(f"found: expected a result of {function}; got {type(found).__name__}.")
    if "prior" not in found.dims:
        raise ValueError(
            f"found: expected a result of {function} for a stacked prior; got one for a single "
            "prior. Stack priors of several scales: weightprior.stack_priors."
        )


def labels_of(found: Any) -> list[Any]:
    """Return the labels of the priors; for a single prior, an empty list."""
    return found["prior"].to_numpy().tolist() if "prior" in found.dims else []


def titles_of(labels: Iterable[Any]) -> list[str]:
    """Return the title of the panel of every prior."""
    return [
        f"prior {label:g}" if isinstance(label, float) else f"prior {label}" for label in labels
    ]


def colors_of(labels: Sequence[Any]) -> list[Any]:
    """Choose a colour per prior: from dark to light for numbers, distinct ones for words."""
    if len(labels) > 1 and _are_numbers(np.asarray(labels)):
        order = np.argsort(np.argsort(labels))
        # The lightest colours would not show on white.
        return list(mpl.colormaps["viridis"](0.85 * order / (len(labels) - 1)))
    return [SEVERAL[i % len(SEVERAL)] for i in range(len(labels))]


def in_order(found: xr.Dataset) -> xr.Dataset:
    """Sort priors by their labels if these are numbers, for lines along them."""
    return found.sortby("prior") if _are_numbers(found["prior"].to_numpy()) else found


def places(found: xr.Dataset) -> np.ndarray:
    """Place priors on their axis: at their labels, or at 0, 1, ... if these are no numbers."""
    labels = found["prior"].to_numpy()
    return labels if _are_numbers(labels) else np.arange(len(labels))


def line_between(found: xr.Dataset, style: str = "-") -> str:
    """Return the style of lines between priors: no lines if labels are words, without order."""
    return style if _are_numbers(found["prior"].to_numpy()) else ""


def label_priors(axes: Iterable[Any], found: xr.Dataset, width: float = _WIDTH) -> None:
    """Make a log axis of priors if labels are positive numbers; write labels that are words.

    `width` is that of a panel, in mm.
    """
    labels = found["prior"].to_numpy()
    for axis in axes:
        if not _are_numbers(labels):
            slanted = sum(map(len, labels)) > _MOST_LETTERS * width / _WIDTH
            slant = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
            axis.set_xticks(np.arange(len(labels)), labels, **slant)
        elif np.all(labels > 0):
            axis.set_xscale("log")
            _write_out(
                axis.xaxis, np.ptp(np.log10(labels)), (1, 2, 5) if width >= _WIDTH else (1, 3)
            )


def room_below(found: xr.Dataset) -> float:
    """Measure the height in mm of labels below an axis, if words are slanted."""
    labels = found["prior"].to_numpy()
    return 0.0 if _are_numbers(labels) else 1.2 * max(map(len, labels))


def _write_out(axis: Any, decades: float, subs: tuple[int, ...]) -> None:
    """Write ticks as plain numbers, such as 0.5; powers of ten alone would be too few."""
    axis.set_minor_formatter(NullFormatter())
    if decades < _FEW_DECADES:
        axis.set_major_locator(LogLocator(subs=subs))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _are_numbers(labels: np.ndarray) -> bool:
    return np.issubdtype(labels.dtype, np.number)
