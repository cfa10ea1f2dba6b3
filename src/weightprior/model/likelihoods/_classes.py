"""Checks of class labels, which two likelihoods share."""

import numpy as np

__all__ = ["check_labels"]


def check_labels(array: np.ndarray, num_classes: int) -> np.ndarray:
    """Return labels, or raise where one is no class."""
    bad = array[~np.isin(array, np.arange(num_classes))]
    if bad.size:
        raise ValueError(
            f"y: expected class labels 0 to {num_classes - 1}; got {bad.flat[0]:g}. "
            "Encode them first: numpy.unique(y, return_inverse=True)[1]."
        )
    return array
