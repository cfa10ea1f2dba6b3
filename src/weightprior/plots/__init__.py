"""Figures, from fits and what is computed from them. They need the extra ``weightprior[plots]``."""

from weightprior.plots.path import plot_path

__all__ = ["plot_path"]
