"""Diagnostics, which read a model and its fit, and never run a fit."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
