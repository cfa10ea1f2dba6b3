"""Draw figures, from fits and what is computed from them.

Every function takes what it draws first, and options by name, among them the figure's `width` in
mm. It returns a 1-D array of matplotlib.axes.Axes for further changes, one per panel, also where
there is a single one: ``axes[0].figure`` is the figure, to be saved. They need the extra
``weightprior[plots]``.
"""

import lazy_loader

from weightprior._checks.extras import needs_extra

# Names load with their first use, and matplotlib with the first of them.
_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__getattr__ = needs_extra(_load, "plots", ("matplotlib", "arviz_plots"))
