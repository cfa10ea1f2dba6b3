"""Log densities of rows under the draws of a fit: kept with it, or computed by blocks of rows.

So leave-one-out also works for a fit with ``log_likelihood=False``, with the memory of one block.
"""

from collections.abc import Iterator

import numpy as np
from scipy.special import logsumexp

from weightprior.fits.evaluate import evaluate
from weightprior.fits.inputs import holds_inputs
from weightprior.fits.layout import SAMPLE_DIMS
from weightprior.fits.leave_one_out import Loo, leave_one_out
from weightprior.fits.reading import Part, targets_of
from weightprior.model import density

__all__ = ["blocks_of", "is_known", "log_predictive_densities", "loo_of"]

_ELSEWHERE = "by a model that was written elsewhere"
# Rows times draws of a block. Leave-one-out takes about eight times the memory of these numbers.
_NUMBERS_AT_ONCE = 1_000_000


def is_known(part: Part) -> bool:
    """Tell if a fit holds its log likelihood, or if it can be computed."""
    held = "log_likelihood" in part.fit.children
    return held or (part.model.likelihood.is_known and holds_inputs(part.fit))


def blocks_of(part: Part) -> Iterator[np.ndarray]:
    """Yield log densities of the rows that counted, (chain, draw, rows), block by block."""
    counted = part.row_weights > 0
    if not counted.any():
        return
    if "log_likelihood" in part.fit.children:
        kept = part.fit["log_likelihood"].dataset["y"].transpose(*SAMPLE_DIMS, "obs_id")
        yield kept.to_numpy()[..., counted]
        return
    x, y = part.fit["constant_data"]["x"].to_numpy(), targets_of(part.fit)
    numbers = np.flatnonzero(counted)
    size = max(1, _NUMBERS_AT_ONCE // (part.weights.num_chains * part.weights.num_draws))
    size = min(size, len(numbers))
    for start in range(0, len(numbers), size):
        # The last block is filled up with the last row: another shape would be compiled.
        rows = numbers[np.minimum(np.arange(start, start + size), len(numbers) - 1)]
        given = part.weights, x[rows], y[rows]
        terms = evaluate(density.pointwise_log_likelihood, part.model, *given)
        yield terms[..., : len(numbers) - start]


def log_predictive_densities(part: Part) -> np.ndarray:
    """Compute the log of the mean density over draws, for each row that counted."""
    num_draws = part.weights.num_chains * part.weights.num_draws
    found = [np.zeros(0), *(logsumexp(terms, axis=(0, 1)) for terms in blocks_of(part))]
    return np.concatenate(found) - np.log(num_draws)


def loo_of(part: Part) -> tuple[Loo | None, str]:
    """Compute PSIS-LOO of a fit, with or without its log likelihood; or None, and why not."""
    if not is_known(part):
        why = "to rows read from a disk" if part.model.likelihood.is_known else _ELSEWHERE
        return None, f"fitted with log_likelihood=False, {why}"
    return leave_one_out(part.fit, blocks_of(part))
