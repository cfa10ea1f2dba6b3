"""Draw figures, from fits and what is computed from them.

Every function takes what it draws first, and options by name, among them the figure's `width` in
mm. It returns a 1-D array of matplotlib.axes.Axes for further changes, one per panel, also where
there is a single one: ``axes[0].figure`` is the figure, to be saved. They need the extra
``weightprior[plots]``.
"""

from typing import Any

import lazy_loader

# Names load with their first use, and matplotlib with the first of them.
_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
# Modules that the extra brings along.
_EXTRA = ("matplotlib", "arviz_plots")


def __getattr__(name: str) -> Any:
    """Load a plot function, or say what has to be installed for it."""
    try:
        return _load(name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        raise ImportError(
            f"weightprior.plots: expected {missing}; got none installed. "
            "Install the extra: pip install 'weightprior[plots]'.",
            name=missing,
        ) from error
