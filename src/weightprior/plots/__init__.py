"""Figures of fits and of results computed from them.

The first argument of every function is the data to plot. Options are passed by name, among them
the figure's `width` in mm. Every function returns a 1-D array of matplotlib.axes.Axes for further
changes, one per panel, even for a single panel: ``axes[0].figure`` is the figure, to be saved. The
functions need the extra ``weightprior[plots]``.
"""

import lazy_loader

from weightprior._checks.extras import needs_extra

# Names load at their first use, and matplotlib with the first of them.
_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__getattr__ = needs_extra(_load, "plots", ("matplotlib", "arviz_plots"))
