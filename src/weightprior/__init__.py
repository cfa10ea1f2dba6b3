"""Bayesian neural networks with a Gaussian prior on every weight.

MAP (which is L2 regularisation), the full posterior, and the same prior centred away from zero, for
comparison. Every fit is an ArviZ DataTree.
"""

import lazy_loader

# Names load with their first use, so that importing the package costs nothing.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
