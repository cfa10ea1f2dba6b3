"""Scores of predictions on rows that were held out."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import xarray as xr
from scipy.special import logsumexp

from weightprior import _checks
from weightprior._options import names_its_options
from weightprior.fits.evaluate import evaluate, numbered
from weightprior.fits.layout import lay_out, row_coords
from weightprior.fits.reading import Draws, Part, check_cross_validation, new_inputs, parts_of
from weightprior.model import density
from weightprior.model.bnn import BNN
from weightprior.model.priors.normal import NormalPrior
from weightprior.model.trials import counted

__all__ = ["score"]

# Central intervals whose coverage is counted.
LEVELS = np.round(np.arange(1, 20) * 0.05, 2)
# Draws with noise that the CRPS is estimated from, at the least: its Monte-Carlo error is then
# about one percent of a row's value, far less for the mean over rows.
_NUM_NOISY = 4000
# Numbers held at once for each quantity: the rows are scored in blocks of this many over draws.
_NUMBERS_AT_ONCE = 4_000_000
_NUM_BINS = 10
_PER_OUTPUT = ("rmse", "crps", "accuracy", "brier", "calibration_error")
_NAMES = ("elpd", "elpd_se", "elpd_i", "coverage", *_PER_OUTPUT)


@names_its_options
def score(bnn: BNN, fit: xr.DataTree | xr.Dataset, x: Any = None, y: Any = None) -> xr.Dataset:
    """Score a fit's predictions on held-out rows.

    Parameters
    ----------
    bnn : BNN
        The model that was fitted.
    fit : DataTree or Dataset
        The fit, or what `cross_validate` returns, whose rows were held out in turn.
    x : array or data frame of shape (rows, features)
        Held-out inputs; none for a cross-validation.
    y : array of shape (rows,) or (rows, outputs)
        Held-out targets; none for a cross-validation.

    Returns
    -------
    Dataset
        In the units of y (log densities in nats), with the dim `prior` where the fit has it:

        - `elpd`: log predictive density summed over rows, `elpd_se` its standard error over rows
          (NaN where there is but one), `elpd_i` its terms (dim `obs_id`). The predictive density
          of a row is the mean over all draws of its density; divide by the number of rows to
          compare data sets.
        - for numbers and counts (for `Binomial` of successes, given a row's trials) `rmse` of the
          posterior mean prediction; `crps`, the continuous ranked probability score, mean over
          rows; `coverage`, the share of targets inside the central predictive interval (dim
          `level`); `calibration_error`, the mean distance of that share from the level. With
          several outputs each has the dim `output`.
        - for classes `accuracy`; `brier`, the mean squared distance of the probabilities from
          what came; `calibration_error`, the expected distance of the confidence in the predicted
          class from how often it is right (ten bins).

    Raises
    ------
    ValueError, TypeError
        Where the data do not suit the model, or the fit is another model's.

    References
    ----------
    T. Gneiting and A. E. Raftery, Strictly proper scoring rules, prediction, and estimation, JASA
    102, 2007. :doi:`10.1198/016214506000001437`

    C. Czado, T. Gneiting and L. Held, Predictive model assessment for count data, Biometrics 65,
    2009. :doi:`10.1111/j.1541-0420.2009.01191.x`

    C. Guo et al., On calibration of modern neural networks, ICML 2017.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 40)[:, None]
    >>> y = 3 * x[:, 0]
    >>> fit = wp.fit_map(bnn, x[::2], y[::2], prior=wp.normal_prior(bnn))
    >>> scores = wp.score(bnn, fit, x[1::2], y[1::2])
    >>> scores["elpd_i"].sizes["obs_id"], bool(scores["rmse"] < 0.4)
    (20, True)
    """
    if isinstance(fit, xr.Dataset):
        check_cross_validation(bnn, fit)
        return _scores_of(fit, x, y)
    parts = parts_of(bnn, fit)
    if x is None or y is None:
        raise ValueError(f"{'x' if x is None else 'y'}: expected held-out rows; got None.")
    pieces, coords = score_parts(bnn, parts, x, y)
    return lay_out(pieces, (), dims_of_scores(pieces[0]), {**fit["posterior"].coords, **coords})


def score_parts(
    bnn: BNN, parts: Sequence[Part], x: Any, y: Any
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Score every part of a fit on held-out rows: the scores, and their coordinates."""
    new_inputs(bnn, parts[0].fit, x)
    inputs, targets = _checks.data(bnn, x, y)
    pieces = [
        summarise(bnn, score_rows(part.model, part.weights, inputs, targets), targets)
        for part in parts
    ]
    return pieces, {"level": LEVELS, **row_coords(x)}


def _scores_of(found: xr.Dataset, x: Any, y: Any) -> xr.Dataset:
    """Scores that `cross_validate` has computed already."""
    if x is not None or y is not None:
        raise ValueError(
            "x: expected no rows beside a cross-validation, which has held out its own; "
            "got some. Leave x and y out."
        )
    return found[[name for name in found if name in _NAMES]]


def dims_of_scores(scores: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Dims of every score; with one output only `elpd_i` and `coverage` have any."""
    per_output = ("output",)[: np.ndim(scores["calibration_error"])]
    return {
        "elpd": (),
        "elpd_se": (),
        "elpd_i": ("obs_id",),
        "coverage": ("level", *per_output),
        **dict.fromkeys(_PER_OUTPUT, per_output),
    }


def score_rows(bnn: BNN, weights: Draws, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Compute what the scores are made of: arrays with a value, or several, for every row."""
    num_draws = weights.num_chains * weights.num_draws
    rows = max(1, _NUMBERS_AT_ONCE // max(num_draws, _NUM_NOISY))
    blocks = [slice(i, i + rows) for i in range(0, len(y), rows)]
    of_block = _score_classes if bnn.likelihood.has_classes else _score_numbers
    keys = [jax.random.fold_in(jax.random.key(0), i) for i in range(len(blocks))]
    pieces = [of_block(bnn, weights, x[b], y[b], key) for b, key in zip(blocks, keys, strict=True)]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def summarise(bnn: BNN, rowwise: dict[str, np.ndarray], y: np.ndarray) -> dict[str, Any]:
    """All scores of one fit, from what `score_rows` returns."""
    _, y = counted(bnn, y)
    scores = (_summarise_classes if bnn.likelihood.has_classes else _summarise_numbers)(rowwise, y)
    elpd_i = rowwise["elpd_i"]
    return {"elpd": elpd_i.sum(), "elpd_se": standard_error(elpd_i), "elpd_i": elpd_i, **scores}


def standard_error(terms: np.ndarray) -> float:
    """Standard error of a sum over rows; NaN where there is but one row."""
    return float(np.sqrt(len(terms)) * terms.std(ddof=1)) if len(terms) > 1 else float("nan")


def log_mean(log_densities: np.ndarray) -> np.ndarray:
    """Log of the mean density over the axes chain and draw."""
    num_draws = np.prod(log_densities.shape[:2])
    return logsumexp(log_densities, axis=(0, 1)) - np.log(num_draws)


def _classes_of_draw(bnn: BNN, weights, x, y) -> dict[str, jax.Array]:
    return {
        "log_density": density.pointwise_log_likelihood(bnn, weights, x, y),
        "mean": density.mean(bnn, weights, x),
    }


def _score_classes(bnn: BNN, weights: Draws, x, y, key) -> dict[str, np.ndarray]:
    drawn = evaluate(_classes_of_draw, bnn, weights, x, y)
    probability = drawn["mean"].mean(axis=(0, 1))
    probability = bnn.likelihood.class_probabilities(probability)
    return {"elpd_i": log_mean(drawn["log_density"]), "probability": probability}


def _summarise_classes(rowwise: dict[str, np.ndarray], y: np.ndarray) -> dict[str, np.ndarray]:
    probability = rowwise["probability"]
    happened = np.eye(probability.shape[-1])[y.astype(int)]
    right = probability.argmax(-1) == y
    return {
        "accuracy": right.mean(0),
        "brier": np.square(probability - happened).sum(-1).mean(0),
        "calibration_error": _expected_calibration_error(probability.max(-1), right),
    }


def _expected_calibration_error(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Mean over rows of the distance, within a row's bin, of confidence from frequency."""
    bins = np.minimum((confidence * _NUM_BINS).astype(int), _NUM_BINS - 1)
    surplus = [np.where(bins == b, confidence - right, 0).sum(0) for b in range(_NUM_BINS)]
    return np.abs(surplus).sum(0) / len(confidence)


def _numbers_of_draw(bnn: BNN, draw, x, y, key) -> dict[str, jax.Array]:
    weights, numbers = draw
    keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)
    elementwise = bnn.likelihood.distribution(density.outputs(bnn, weights, x), weights)
    # A count's probability is spread over the step that its distribution function makes there.
    step = bnn.likelihood.step
    below = elementwise.cdf(y - step) if step else elementwise.cdf(y)
    return {
        "log_density": density.pointwise_log_likelihood(bnn, weights, x, y),
        "mean": density.mean(bnn, weights, x),
        "below": below,
        "upto": elementwise.cdf(y),
        "noisy": jax.vmap(elementwise.sample)(keys).astype(y.dtype),
    }


def _score_numbers(bnn: BNN, weights: Draws, x, y, key) -> dict[str, np.ndarray]:
    bnn, y = counted(bnn, y)
    lead = weights.num_chains, weights.num_draws
    copies = -(-_NUM_NOISY // int(np.prod(lead)))
    drawn = evaluate(_numbers_of_draw, bnn, (weights, numbered(*lead, copies)), x, y, key)
    noisy = drawn["noisy"].reshape((-1, *y.shape))
    return {
        "elpd_i": log_mean(drawn["log_density"]),
        "mean": drawn["mean"].mean(axis=(0, 1)),
        "below": drawn["below"].mean(axis=(0, 1)),
        "upto": drawn["upto"].mean(axis=(0, 1)),
        "crps_i": _crps(noisy, y),
    }


def _crps(draws: np.ndarray, y: np.ndarray) -> np.ndarray:
    """CRPS of each target from draws (first axis), by probability-weighted moments: unbiased."""
    count = len(draws)
    ordered = np.sort(draws, axis=0)
    weight = (2 * np.arange(1, count + 1) - count - 1) / (count * (count - 1))
    half_spread = np.tensordot(weight, ordered, axes=1)
    return np.abs(draws - y).mean(axis=0) - half_spread


def _summarise_numbers(rowwise: dict[str, np.ndarray], y: np.ndarray) -> dict[str, np.ndarray]:
    coverage = np.stack([_share_inside(rowwise["below"], rowwise["upto"], lv) for lv in LEVELS])
    levels = LEVELS.reshape(-1, *[1] * (coverage.ndim - 1))
    return {
        "rmse": np.sqrt(np.square(rowwise["mean"] - y).mean(0)),
        "crps": rowwise["crps_i"].mean(0),
        "coverage": coverage,
        "calibration_error": np.abs(coverage - levels).mean(0),
    }


def _share_inside(below: np.ndarray, upto: np.ndarray, level: float) -> np.ndarray:
    """Share of targets whose quantile, somewhere between two values, is in the central interval."""
    low, high = (1 - level) / 2, (1 + level) / 2
    width = upto - below
    overlap = np.clip(np.minimum(upto, high) - np.maximum(below, low), 0, None)
    inside = (low <= upto) & (upto <= high)
    return np.where(width > 0, overlap / np.where(width > 0, width, 1), inside).mean(0)


def weight_norms(
    bnn: BNN, weights: Mapping[str, np.ndarray], prior: NormalPrior
) -> dict[str, np.ndarray | float]:
    """Euclidean norms of weights and biases, mean over draws.

    `norm` is from zero, and `distance` that from the prior's centre, of those where the prior
    is not flat and has one (NaN where there are none).
    """
    proper = {name: np.isfinite(prior.scale[name]) for name in bnn.network.sites}
    apart = {n: np.where(proper[n], weights[n] - prior.loc[n], 0.0) for n in proper}
    any_center = any(values.any() for values in proper.values())
    return {
        "norm": _mean_norm(weights[name] for name in proper),
        "distance": _mean_norm(apart.values()) if any_center else np.nan,
    }


def _mean_norm(arrays: Iterable[np.ndarray]) -> float:
    squares = [np.square(array).sum(tuple(range(2, array.ndim))) for array in arrays]
    return float(np.sqrt(sum(squares)).mean())
