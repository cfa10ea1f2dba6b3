"""Loss without each hidden unit, against the size of its weights."""

from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from weightprior import _checks
from weightprior.plots._draws import SPREAD, interval
from weightprior.plots._panels import STYLE, panels
from weightprior.plots._priors import BLUE, PLAIN

__all__ = ["plot_unit_ablation"]

_SIZES = {
    "incoming": "norm of incoming weights",
    "outgoing": "norm of outgoing weights",
    "both": "norm of a unit's weights",
    "contribution": "outgoing norm × sd",  # noqa: RUF001
}
# If losses exceed this many nats, losses above one nat have a logarithmic axis.
_MANY_NATS = 30.0
# Minimum width of a panel, in mm, for a long title.
_LEAST_WIDTH = 60.0


def plot_unit_ablation(
    found: xr.Dataset, *, measure: str = "both", width: float = 85.0
) -> np.ndarray:
    """Plot the loss without each hidden unit against the size of its weights.

    There is a panel per hidden layer, with a point per unit: the median over draws, with bars over
    the central 90 %. The title has the rank correlation of size and loss within a draw, with the
    same interval over draws.

    Parameters
    ----------
    found : Dataset
        Result of `diagnostics.unit_ablation` for a single prior; ``found.sel(prior=label)`` for a
        stack. If hidden units can be exchanged, their labels have no meaning in chains: use
        ``unit_ablation(bnn, align(bnn, fit), x, y)``. The rank correlation does not depend on them.
    measure : {"incoming", "outgoing", "both", "contribution"}
        Measure of the size of a unit.
    width : float
        Width of the figure, in mm: 85 is one column of a page, 170 are two.

    Returns
    -------
    array of matplotlib.axes.Axes
        One per hidden layer, for further changes.

    Raises
    ------
    TypeError, ValueError
        If `found` is something else or of a stacked prior, or a loss is no finite number.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> from weightprior import plots
    >>> bnn = wp.BNN(wp.mlp(1, hidden=(5,)), wp.Gaussian(noise=0.1))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> y = np.sin(4 * x[:, 0])
    >>> fit = wp.fit_map(bnn, x, y, prior=wp.normal_prior(bnn))
    >>> plots.plot_unit_ablation(wp.diagnostics.unit_ablation(bnn, fit, x, y)).shape
    (1,)
    """
    layers = _layers(found)
    _checks.one_of("measure", measure, tuple(_SIZES))
    width = _checks.number("width", width, above=0)
    several = found.sizes["chain"] * found.sizes["draw"] > 1
    _check_losses(found, layers)
    with mpl.rc_context(STYLE):
        titles = [_title(found, layer, measure, several) for layer in layers]
        axes = panels(
            titles,
            width,
            xlabel=_SIZES[measure],
            ylabel="loss without the unit (nats)",
            same_x=False,
            least=_LEAST_WIDTH,
        )
        for axis, layer in zip(axes, layers, strict=True):
            size = interval(found[f"size.{layer}"].sel(measure=measure))
            _plot_layer(axis, size, interval(found[f"ablation_loss.{layer}"]), several)
    return axes


def _layers(found: Any) -> list[str]:
    named = isinstance(found, xr.Dataset) and "effective_units_by_layer" in found
    if not named:
        raise TypeError(
            f"found: expected a result of diagnostics.unit_ablation; got {type(found).__name__}."
        )
    if "prior" in found.dims:
        raise ValueError(
            "found: expected a result of diagnostics.unit_ablation for a single prior; got one "
            "for a stacked prior. Take one: found.sel(prior=label)."
        )
    return found["layer"].to_numpy().tolist()


def _check_losses(found: xr.Dataset, layers: list[str]) -> None:
    for layer in layers:
        losses = found[f"ablation_loss.{layer}"].transpose(..., layer).to_numpy()
        bad = np.argwhere(~np.isfinite(losses))
        if len(bad):
            raise ValueError(
                f"found: expected finite losses; got {losses[tuple(bad[0])]:g} for unit "
                f"{bad[0][-1]} of {layer!r}: its targets are impossible."
            )


def _title(found: xr.Dataset, layer: str, measure: str, several: bool) -> str:
    median, low, high = interval(
        found["rank_correlation_by_layer"].sel(layer=layer, measure=measure)
    )
    if np.isnan(median):
        return f"{layer}: no rank correlation"
    spread = f" ({SPREAD}: {low:.2f} to {high:.2f})" if several else ""
    return f"{layer}: rank correlation {median:.2f}{spread}".replace("-", "\N{MINUS SIGN}")


def _plot_layer(axis: Any, size: np.ndarray, loss: np.ndarray, several: bool) -> None:
    errors = [np.stack([m - low, high - m]) for m, low, high in (size, loss)]
    if several:
        bars = {"fmt": "none", "ecolor": BLUE, "elinewidth": 1, "alpha": 0.4}
        axis.errorbar(size[0], loss[0], errors[1], errors[0], **bars)
    axis.plot(size[0], loss[0], "o", color=BLUE)
    axis.axhline(0.0, color=PLAIN, lw=0.5, zorder=0)
    axis.margins(0.08)
    if np.abs(loss).max() > _MANY_NATS:
        axis.set_yscale("symlog", linthresh=1.0)
        axis.yaxis.set_major_locator(FixedLocator(_ticks(loss.min(), loss.max())))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter(ScalarFormatter())


def _ticks(low: float, high: float) -> list[float]:
    """Choose zero and a few powers of ten on both sides."""
    most = int(np.log10(max(high, -low)))
    step = 1 + most // 4
    powers = [10.0**power for power in range(most, -1, -step)]
    return [*(-power for power in powers if -power > low), 0.0, *powers[::-1]]
