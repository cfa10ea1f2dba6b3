"""Predictions of a fit along one input, with their uncertainty, and the data."""

from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from weightprior import _arrays, _checks
from weightprior._data import column_names
from weightprior.fits.layout import SAMPLE_DIMS
from weightprior.plots._panels import STYLE, add_legend, panels
from weightprior.plots._priors import BLUE, PLAIN, SEVERAL, labels_of, titles_of

__all__ = ["plot_predictive"]

# Central intervals of the mean, the wider first, and the opacity of their colour.
_LEVELS, _ALPHAS = (0.95, 0.5), (0.3, 0.4)
_NEW = "#DDDDDD"
# Largest room above and below the data, in ranges of the data.
_MARGIN = 0.75


def plot_predictive(
    found: xr.Dataset, x: Any, *, x_data: Any = None, y_data: Any = None, width: float = 85.0
) -> np.ndarray:
    """Plot predictions along one input: the mean function and new targets, with central bands.

    There is a panel per prior and, with several outputs, per output. A line is the mean over draws
    of E[y | weights, x]. Around it are its 50 % and 95 % bands, over draws of the weights, and in
    grey the 95 % band of new targets, including noise. For classes, the bands are of the
    probability alone; with more than two classes, each has a colour and its 95 % band. With data,
    the axis ends three quarters of their range above and below them.

    Parameters
    ----------
    found : Dataset
        Result of `predict`, or the group `prior_predictive` of the result of `prior_predictive`.
        A fit with a single draw (a MAP) has a line and no bands.
    x : array or data frame of shape (rows,) or (rows, 1)
        The input of the predictions. With several features, it is the one that varies: predict at
        rows that are the same in all others, and pass that column.
    x_data, y_data : array, optional
        Data to draw as well: that feature, and the targets.
    width : float
        Width of the figure, in mm: 85 is one column of a page, 170 are two.

    Returns
    -------
    array of matplotlib.axes.Axes
        One per panel, for further changes: all priors of the first output, then of the next.

    Raises
    ------
    TypeError, ValueError
        If `found` is something else, `x` is not one feature with as many different numbers
        as there are rows, or only one of `x_data` and `y_data` is given.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> from weightprior import plots
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> fit = wp.fit_laplace(bnn, x, x[:, 0], prior=wp.normal_prior(bnn))
    >>> grid = np.linspace(-3, 3, 50)[:, None]
    >>> axes = plots.plot_predictive(wp.predict(bnn, fit, grid), grid, x_data=x, y_data=x[:, 0])
    >>> axes.shape
    (1,)
    """
    kind = _kind(found)
    width = _checks.number("width", width, above=0)
    at, name = _feature("x", x)
    _check_rows(at, found)
    data = None if x_data is None and y_data is None else _data(x_data, y_data, found, kind)
    order = np.argsort(at)
    cells, titles, outputs = _cells(found.isel(obs_id=order))
    with mpl.rc_context(STYLE):
        one = found["y"].attrs.get("classes", (0, 1))[1]
        words = {"numbers": "y", "binary": f"probability of y = {one}", "classes": "probability"}
        axes = panels(titles, width, xlabel=name, ylabel=words[kind], same_y=outputs)
        for axis, one, output in zip(axes, cells, outputs, strict=True):
            _plot_cell(axis, at[order], one, kind)
            if data is not None:
                _plot_data(axis, data[0], data[1][output], kind)
        add_legend(axes[0].figure, _legend(found, kind, data is not None), width)
    return axes


def _kind(found: Any) -> str:
    """Tell if targets are numbers, one of two classes, or one of several."""
    if not (isinstance(found, xr.Dataset) and {"mean", "y"} <= set(found.data_vars)):
        hint = ""
        if isinstance(found, xr.DataTree):
            hint = " Pass predict(bnn, fit, x)."
        raise TypeError(f"found: expected a result of predict; got {type(found).__name__}.{hint}")
    if "output" in found["mean"].dims and "output" not in found["y"].dims:
        return "classes"
    y, mean = found["y"].to_numpy(), found["mean"].to_numpy()
    binary = np.isin(y, (0, 1)).all() and mean.min() >= 0 and mean.max() <= 1
    return "binary" if binary else "numbers"


def _feature(argument: str, values: Any) -> tuple[np.ndarray, str]:
    """Return one feature's numbers, and its name."""
    names = column_names(values) or (getattr(values, "name", None) or "x",)
    array = _arrays.finite(argument, values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(
            f"{argument}: expected one feature, an array of shape (rows,) or (rows, 1); got shape "
            f"{array.shape}. With several, vary one of them alone, and pass that one."
        )
    return array, str(names[0])


def _check_rows(at: np.ndarray, found: xr.Dataset) -> None:
    count = found.sizes["obs_id"]
    if len(at) != count:
        raise ValueError(f"x: expected the {count} rows of found; got {len(at)}.")
    if len(np.unique(at)) < count:
        raise ValueError(
            f"x: expected different numbers in all rows; got {len(np.unique(at))} different ones "
            f"of {count}. Predict along a grid."
        )


def _data(x: Any, y: Any, found: xr.Dataset, kind: str) -> tuple[np.ndarray, dict[Any, Any]]:
    """Return the inputs, and the targets by output."""
    if x is None or y is None:
        absent, given = ("x_data", "y_data") if x is None else ("y_data", "x_data")
        raise ValueError(f"{absent}: expected data together with {given}; got None.")
    at, targets = _feature("x_data", x)[0], _arrays.finite("y_data", _numbered(y, found))
    expected = (len(at), *(found.sizes[d] for d in ("output",) if d in found["y"].dims))
    if targets.shape != expected:
        raise ValueError(
            f"y_data: expected shape {expected}, the targets of x_data; got {targets.shape}."
        )
    number = found.sizes["output"] if kind == "classes" else 2
    if kind != "numbers" and not np.isin(targets, range(number)).all():
        raise ValueError(f"y_data: expected classes, numbered from 0 to {number - 1}; got others.")
    if targets.ndim == 1:
        return at, {None: targets}
    return at, dict(zip(found["output"].to_numpy().tolist(), targets.T, strict=True))


def _numbered(y: Any, found: xr.Dataset) -> Any:
    """Return the numbers of classes that are given by their labels."""
    labels = found["y"].attrs.get("classes")
    if labels is None:
        return y
    numbers = {label: number for number, label in enumerate(labels)}
    entries = np.asarray(y, dtype=object)
    known = [numbers.get(str(entry)) for entry in entries.flat]
    return y if None in known else np.array(known).reshape(entries.shape)


def _cells(found: xr.Dataset) -> tuple[list[xr.Dataset], list[str], list[Any]]:
    """Return the predictions in each panel, its title, and its output."""
    labels = labels_of(found)
    outputs = found["output"].to_numpy().tolist() if "output" in found["y"].dims else [None]
    cells, titles, drawn = [], [], []
    for output in outputs:
        for prior in range(max(len(labels), 1)):
            one = found.isel(prior=prior) if labels else found
            cells.append(one if output is None else one.sel(output=output))
            words = titles_of(labels[prior : prior + 1])
            titles.append(", ".join(words + ([] if output is None else [f"output {output}"])))
            drawn.append(output)
    return cells, titles, drawn


def _plot_cell(axis: Any, at: np.ndarray, one: xr.Dataset, kind: str) -> None:
    draws = one.stack(sample=SAMPLE_DIMS).transpose("sample", "obs_id", ...)
    mean, y = draws["mean"].to_numpy(), draws["y"].to_numpy()
    several = len(mean) > 1
    if kind == "classes":
        for number in range(mean.shape[-1]):
            color = SEVERAL[number % len(SEVERAL)]
            if several:
                _band(axis, at, mean[..., number], color, _LEVELS[0], _ALPHAS[0])
            axis.plot(at, mean[..., number].mean(axis=0), color=color)
        return
    if several:
        if kind == "numbers":
            _band(axis, at, y, _NEW, _LEVELS[0])
        for level, alpha in zip(_LEVELS, _ALPHAS, strict=True):
            _band(axis, at, mean, BLUE, level, alpha)
    axis.plot(at, mean.mean(axis=0), color=BLUE)


def _band(axis: Any, at: np.ndarray, draws: np.ndarray, color: str, level: float, alpha=1.0):
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    axis.fill_between(at, low, high, color=color, alpha=alpha, lw=0)


def _plot_data(axis: Any, at: np.ndarray, y: np.ndarray, kind: str) -> None:
    if kind != "classes":
        axis.plot(at, y, "o", color=PLAIN, ms=2.5, zorder=3)
        if kind == "numbers":
            _leave_room(axis, y)
        return
    for number in np.unique(y).astype(int):
        color, chosen = SEVERAL[number % len(SEVERAL)], at[y == number]
        axis.plot(chosen, np.full(len(chosen), -0.08), "|", color=color, ms=5)


def _leave_room(axis: Any, y: np.ndarray) -> None:
    """Cut off bands that would leave too small a part of the panel for the data."""
    margin = _MARGIN * (np.ptp(y) or 1.0)
    low, high = axis.get_ylim()
    axis.set_ylim(max(low, y.min() - margin), min(high, y.max() + margin))


def _legend(found: xr.Dataset, kind: str, with_data: bool) -> list[Any]:
    """Return a legend of the colours."""
    several = found.sizes["chain"] * found.sizes["draw"] > 1
    wide, narrow = (f"{100 * level:.0f} %" for level in _LEVELS)
    if kind == "classes":
        classes = enumerate(found["output"].to_numpy().tolist())
        handles: list[Any] = [
            Line2D([], [], color=SEVERAL[i % len(SEVERAL)], label=f"class {label}")
            for i, label in classes
        ]
        marks: dict[str, Any] = {"marker": "|", "label": "data"}
    else:
        what = "mean" if kind == "numbers" else "probability"
        handles = [Line2D([], [], color=BLUE, label=what)]
        # The inner band lies on the outer one.
        alphas = (_ALPHAS[0], 1 - (1 - _ALPHAS[0]) * (1 - _ALPHAS[1]))
        if several:
            bands = zip(alphas, (wide, narrow), strict=True)
            handles += [Patch(fc=BLUE, alpha=a, lw=0, label=f"{what}, {b}") for a, b in bands]
        if several and kind == "numbers":
            handles.append(Patch(fc=_NEW, lw=0, label=f"new targets, {wide}"))
        marks = {"marker": "o", "ms": 2.5, "label": "data"}
    return [*handles, Line2D([], [], color=PLAIN, ls="", **marks)] if with_data else handles
