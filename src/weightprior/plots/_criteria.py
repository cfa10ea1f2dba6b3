"""Names and colours of criteria, and axes of nats."""

from typing import Any

from matplotlib.colors import SymLogNorm
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from weightprior.plots._priors import BLUE, GREEN, ORANGE

__all__ = ["COLORS", "TITLES", "compressed", "nats_axis", "nats_norm"]

COLORS = {"evidence": BLUE, "loo": ORANGE, "cv": GREEN}
TITLES = {"evidence": "evidence", "loo": "PSIS-LOO", "cv": "cross-validation"}
# Differences up to this many nats have a linear axis, larger ones a logarithmic one: those near the
# best matter most.
_NEAR = 10.0
# Ticks for differences up to a few hundred nats, and for larger ones.
_TICKS, _FEW_TICKS = (0, -5, -10, -30, -100, -300), (0, *(-(10.0**power) for power in range(1, 9)))


def nats_axis(axis: Any, lowest: float) -> None:
    """Scale an axis of differences from the best down to `lowest`."""
    axis.margins(y=0.1)
    if compressed(lowest):
        axis.set_yscale("symlog", linthresh=_NEAR)
        axis.yaxis.set_major_locator(
            FixedLocator(_TICKS if lowest > 2 * _TICKS[-1] else _FEW_TICKS)
        )
        axis.yaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter(ScalarFormatter())


def compressed(lowest: float) -> str:
    """Describe the scale of an axis of nats; return no text for a linear one."""
    return f"\nlogarithmic below -{_NEAR:g}" if lowest < -3 * _NEAR else ""


def nats_norm(lowest: float) -> SymLogNorm:
    """Return the same scale, for colours."""
    return SymLogNorm(_NEAR, vmin=min(lowest, -1.0), vmax=0.0)
