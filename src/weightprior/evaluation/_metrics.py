"""Scores of predictions, from the predictive distribution of every draw at every row."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from scipy.special import logsumexp

from weightprior import _checks
from weightprior.evaluation._blocks import collect
from weightprior.evaluation._noise import chances, sampled
from weightprior.fits.evaluate import evaluate
from weightprior.fits.reading import Draws
from weightprior.fits.rows import Rows
from weightprior.model import density
from weightprior.model.bnn import BNN
from weightprior.model.trials import counted

__all__ = [
    "LEVELS",
    "NAMES",
    "NO_DENSITY",
    "dims_of_scores",
    "log_mean",
    "log_predictive_density",
    "score_rows",
    "summarise",
]

# A row with a log density below this counts as a row without a density: it is 140 sds away from a
# normal mean.
NO_DENSITY = -1e4
# Probabilities of the central intervals for the coverage.
LEVELS = np.round(np.arange(1, 20) * 0.05, 2)
# Minimum number of draws with noise for an estimate of the CRPS. Its Monte-Carlo error is then
# about one percent of a row's value, and far less for the mean over rows.
_NUM_NOISY = 4000
# Numbers held at once for each quantity: this many, divided by the draws, are a block's rows.
_NUMBERS_AT_ONCE = 4_000_000
_NUM_BINS = 10
_PER_OUTPUT = ("rmse", "r2", "crps", "accuracy", "brier", "calibration_error")
NAMES = ("elpd", "elpd_se", "elpd_i", "coverage", *_PER_OUTPUT)


def dims_of_scores(scores: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the dims of every score; with one output, only `elpd_i` and `coverage` have any."""
    per_output = ("output",)[: np.ndim(scores["calibration_error"])]
    return {
        "elpd": (),
        "elpd_se": (),
        "elpd_i": ("obs_id",),
        "coverage": ("level", *per_output),
        **dict.fromkeys(_PER_OUTPUT, per_output),
    }


def score_rows(bnn: BNN, weights: Draws, x: Any, y: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the terms of the scores: arrays with one or several values for every row."""
    num_draws = weights.num_chains * weights.num_draws
    rows = max(1, _NUMBERS_AT_ONCE // max(num_draws, _NUM_NOISY))
    blocks = [slice(i, i + rows) for i in range(0, len(y), rows)]
    of_block = _score_classes if bnn.likelihood.has_classes else _score_numbers
    pieces = (of_block(bnn, weights, x[b], y[b], i) for i, b in enumerate(blocks))
    return collect(pieces, len(y))


def summarise(
    bnn: BNN, rowwise: dict[str, np.ndarray], y: np.ndarray, rows: Rows
) -> dict[str, Any]:
    """Compute all scores of one fit from the terms that `score_rows` returns."""
    _, y = counted(bnn, y)
    of_kind = _summarise_classes if bnn.likelihood.has_classes else _summarise_numbers
    elpd_i = rowwise["elpd_i"]
    return {
        "elpd": rows.total(elpd_i),
        "elpd_se": rows.standard_error(elpd_i),
        "elpd_i": elpd_i,
        **of_kind(rowwise, y, rows),
    }


def log_mean(log_densities: np.ndarray) -> np.ndarray:
    """Compute the log of the mean density over the axes chain and draw."""
    num_draws = np.prod(log_densities.shape[:2])
    return logsumexp(log_densities, axis=(0, 1)) - np.log(num_draws)


def log_predictive_density(bnn: BNN, weights: Draws, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compute the log of the mean density of every row over draws, and no other score."""
    return log_mean(evaluate(density.pointwise_log_likelihood, bnn, weights, x, y))


def _classes_of_draw(bnn: BNN, weights, x, y) -> dict[str, jax.Array]:
    return {
        "log_density": density.pointwise_log_likelihood(bnn, weights, x, y),
        "mean": density.mean(bnn, weights, x),
    }


def _score_classes(bnn: BNN, weights: Draws, x, y, block: int) -> dict[str, np.ndarray]:
    drawn = evaluate(_classes_of_draw, bnn, weights, x, y)
    probability = drawn["mean"].mean(axis=(0, 1))
    probability = bnn.likelihood.class_probabilities(probability)
    return {**_densities(drawn["log_density"]), "probability": probability}


def _densities(log_density: np.ndarray) -> dict[str, np.ndarray]:
    """Compute each row's log predictive density and effective number of draws (Kish)."""
    mean = log_mean(log_density)
    with np.errstate(invalid="ignore"):  # a density of 0 under all draws
        relative_variance = np.exp(log_mean(2 * log_density) - 2 * mean)
    return {"elpd_i": mean, "num_effective": np.prod(log_density.shape[:2]) / relative_variance}


def _summarise_classes(
    rowwise: dict[str, np.ndarray], y: np.ndarray, rows: Rows
) -> dict[str, np.ndarray]:
    probability = rowwise["probability"]
    num_classes = probability.shape[-1]
    happened = np.eye(num_classes)[y.astype(int)]
    squares = np.square(probability - happened).sum(-1)
    return {
        "accuracy": rows.mean(probability.argmax(-1) == y),
        # With two classes, one probability is enough: the other has the same distance.
        "brier": rows.mean(squares / 2 if num_classes == 2 else squares),
        "calibration_error": _calibration_error(probability, happened, rows),
    }


def _calibration_error(probability: np.ndarray, happened: np.ndarray, rows: Rows) -> np.ndarray:
    """Compute the mean distance of probability from frequency in bins, over rows and classes."""
    bins = np.minimum((probability * _NUM_BINS).astype(int), _NUM_BINS - 1)
    surplus = [rows.mean(np.where(bins == b, probability - happened, 0)) for b in range(_NUM_BINS)]
    return np.abs(surplus).sum(0).mean(-1)


def _numbers_of_draw(bnn: BNN, draw, x, y) -> dict[str, jax.Array]:
    weights, of_copies = draw
    elementwise = bnn.likelihood.distribution(density.outputs(bnn, weights, x), weights)
    # The probability of a count is spread over the step of the distribution function there.
    step = bnn.likelihood.step
    below = elementwise.cdf(y - step) if step else elementwise.cdf(y)
    return {
        "log_density": density.pointwise_log_likelihood(bnn, weights, x, y),
        "mean": density.mean(bnn, weights, x),
        "below": below,
        "upto": elementwise.cdf(y),
        "noisy": jax.vmap(lambda one: sampled(bnn, elementwise, one))(of_copies).astype(y.dtype),
    }


def _score_numbers(bnn: BNN, weights: Draws, x, y, block: int) -> dict[str, np.ndarray]:
    bnn, y = counted(bnn, y)
    lead = weights.num_chains, weights.num_draws
    copies = -(-_NUM_NOISY // int(np.prod(lead)))
    of_copies = chances(bnn, _checks.random_key(0), (*lead, copies), len(x), block)
    drawn = evaluate(_numbers_of_draw, bnn, (weights, of_copies), x, y)
    noisy = drawn["noisy"].reshape((-1, *y.shape))
    return {
        **_densities(drawn["log_density"]),
        "mean": drawn["mean"].mean(axis=(0, 1)),
        "below": drawn["below"].mean(axis=(0, 1)),
        "upto": drawn["upto"].mean(axis=(0, 1)),
        "crps_i": _crps(noisy, y),
    }


def _crps(draws: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Estimate CRPS of targets, unbiased, by probability-weighted moments of draws (first axis)."""
    count = len(draws)
    ordered = np.sort(draws, axis=0)
    weight = (2 * np.arange(1, count + 1) - count - 1) / (count * (count - 1))
    half_spread = np.tensordot(weight, ordered, axes=1)
    return np.abs(draws - y).mean(axis=0) - half_spread


def _summarise_numbers(
    rowwise: dict[str, np.ndarray], y: np.ndarray, rows: Rows
) -> dict[str, np.ndarray]:
    inside = (_share_inside(rowwise["below"], rowwise["upto"], level) for level in LEVELS)
    coverage = np.stack([rows.mean(shares) for shares in inside])
    levels = LEVELS.reshape(-1, *[1] * (coverage.ndim - 1))
    squares, spread = rows.mean(np.square(rowwise["mean"] - y)), rows.mean((y - rows.mean(y)) ** 2)
    return {
        "rmse": np.sqrt(squares),
        "r2": 1 - squares / np.where(spread > 0, spread, np.nan),
        "crps": rows.mean(rowwise["crps_i"]),
        "coverage": coverage,
        "calibration_error": np.abs(coverage - levels).mean(0),
    }


def _share_inside(below: np.ndarray, upto: np.ndarray, level: float) -> np.ndarray:
    """Compute the share of each target's quantiles, between two values, in the interval."""
    low, high = (1 - level) / 2, (1 + level) / 2
    width = upto - below
    overlap = np.clip(np.minimum(upto, high) - np.maximum(below, low), 0, None)
    inside = (low <= upto) & (upto <= high)
    return np.where(width > 0, overlap / np.where(width > 0, width, 1), inside)
