"""Figures, from fits and what is computed from them. They need the extra ``weightprior[plots]``."""

from weightprior.plots.calibration import plot_calibration
from weightprior.plots.comparison import plot_comparison
from weightprior.plots.coverage import plot_coverage
from weightprior.plots.evidence import plot_evidence
from weightprior.plots.evidence_map import plot_evidence_map
from weightprior.plots.mechanisms import plot_mechanisms
from weightprior.plots.path import plot_path
from weightprior.plots.predictive import plot_predictive
from weightprior.plots.reliance import plot_reliance
from weightprior.plots.weights import plot_weights

__all__ = [
    "plot_calibration",
    "plot_comparison",
    "plot_coverage",
    "plot_evidence",
    "plot_evidence_map",
    "plot_mechanisms",
    "plot_path",
    "plot_predictive",
    "plot_reliance",
    "plot_weights",
]
