"""Bayesian perceptrons as estimators of scikit-learn, for pipelines and grid searches.

They choose the scale of the prior, standardise inputs and targets, and hold the fit by a function
of `weightprior`. They need the extra ``weightprior[sklearn]``.
"""

import lazy_loader

from weightprior._checks.extras import needs_extra

# Names load at their first use, and scikit-learn with the first of them.
_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__getattr__ = needs_extra(_load, "sklearn", ("sklearn",))
