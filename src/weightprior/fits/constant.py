"""Warnings, after a fit, that it explains the rows no better than a constant would."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from weightprior import _checks, _data
from weightprior.fits.dependence import depends_on
from weightprior.fits.evaluate import evaluate
from weightprior.fits.layout import SAMPLE_DIMS
from weightprior.fits.problem import Problem
from weightprior.fits.reading import Draws, Part, parts_of
from weightprior.fits.rows import Rows
from weightprior.fits.scales import variation_of_outputs
from weightprior.model import density
from weightprior.model.activations import largest_slope, slopes
from weightprior.model.bnn import BNN
from weightprior.model.network import hidden_layers_of, offset_of

__all__ = ["warn_constant"]

# Predictions that vary by less than this share of the targets' sd explain less than a
# ten-thousandth of their variance: rounded to two digits, they look like a constant.
_CONSTANT = 0.01
# Nats by which the log likelihood must rise for a gain to count: odds of 3,000 to 1. By chance
# alone the mean of the targets is off by half a nat.
_NATS = 8.0
# Numbers of networks that are evaluated, and of predictions that are held at once. With many rows,
# fewer networks suffice.
_NUM_DRAWS, _MIN_DRAWS, _MAX_PREDICTIONS = 64, 2, 4_000_000
# Draws of chains are not independent: a quarter of them is taken to be effective.
_DEPENDENCE = 4.0
# Slope of an activation, as a share of its largest, below which a unit is flat at a row.
_FLAT = 0.01
# A known noise this many times the sd of the targets leaves little information in the data.
_LOUD = 3.0
# Scales are too small if they should be so many times larger; the rest is a matter of taste.
_NARROW = 1.5


class _Predicted(NamedTuple):
    """Targets of the rows that count and their posterior means, (rows, columns)."""

    x: np.ndarray
    y: np.ndarray
    mean: np.ndarray
    spread: float
    error: float
    rows: Rows

    @property
    def sd(self) -> float:
        """Root of the variance of all columns of the targets together."""
        return _sd(self.y, self.rows)

    @property
    def residual(self) -> np.ndarray:
        """Targets less their means."""
        return self.y - self.mean


def warn_constant(function: str, problem: Problem, fit: xr.DataTree) -> None:
    """Warn if a fit explains no more than a constant would, and say why; see `constant_doubt`."""
    if doubt := constant_doubt(problem, fit):
        _checks.warn(f"{function}: {doubt}")


def constant_doubt(problem: Problem, fit: xr.DataTree) -> str:
    """Say if predictions never vary though y depends on x, or if a constant does better.

    For a stacked prior this must hold for all parts: the ends of a sweep may well be extreme.
    Nothing is said if the scale of the data has been doubted before, or if a search did not
    converge.

    Nothing is compiled if the fit makes the rows more probable than any constant does.
    """
    bnn = problem.bnn
    if problem.doubt or _says_something(problem, fit):
        return ""
    if "converged" in fit["sample_stats"] and not fit["sample_stats"]["converged"].any():
        return ""
    told = ""
    for part in parts_of(bnn, fit):
        if not (told := _of_part(problem, part)):
            return ""
    return told


def _says_something(problem: Problem, fit: xr.DataTree) -> bool:
    """Tell by the log likelihood, averaged over draws, if a part of a fit is no constant.

    The normal distribution with the targets' own mean and sd bounds a constant with normal noise.
    The frequencies of the classes bound a constant for classes. For other likelihoods no bound is
    known. Predictions that vary by a share of the sd add no more than that share to each row. If
    the noise is known, even a perfect fit may gain next to nothing.
    """
    log_prior = sum(fit["log_prior"].dataset.data_vars.values())
    total = (fit["sample_stats"]["lp"] - log_prior).mean(SAMPLE_DIMS).to_numpy()
    pairs = zip(np.atleast_1d(total), problem.tasks, strict=True)
    return any(_beats_constants(problem, nats, Rows(task.row_weights)) for nats, task in pairs)


def _beats_constants(problem: Problem, nats: float, rows: Rows) -> bool:
    if not rows.number:
        return True  # there is nothing that a fit could miss
    likelihood, offset = problem.bnn.likelihood, offset_of(problem.bnn.network)
    y, margin = problem.y.reshape(len(problem.y), -1), 2 * _CONSTANT * rows.number
    if likelihood.has_classes and offset is None:
        counts = [np.bincount(column.astype(int), weights=rows.weights) for column in y.T]
        best = sum((n * np.log(n / n.sum())).sum() for n in (c[c > 0] for c in counts))
        return bool(nats > best + margin)
    if not likelihood.normal_outputs:
        return False
    y = y if offset is None else y - problem.x[:, [offset]]
    variances, noise = _variances(y, rows), _known_noise(problem.bnn)

    def of_mean(noises: np.ndarray) -> float:
        with np.errstate(divide="ignore", invalid="ignore"):  # targets of one value
            terms = np.log(2 * np.pi * noises) + variances / noises
        return -0.5 * rows.number * terms.sum()

    if noise and _worth(rows, variances, noise) <= _NATS:
        return bool(nats >= of_mean(np.full_like(variances, noise**2)) - _NATS)
    return bool(nats > of_mean(variances) + margin)


def _worth(rows: Rows, variances: np.ndarray, noise: float) -> float:
    """Return the nats that a perfect fit gains over a constant, given a known noise."""
    return float(rows.number * variances.sum() / (2 * noise**2))


def _of_part(problem: Problem, part: Part) -> str:
    found = _predict(problem, part)
    if not found.sd > 0 or not np.isfinite(found.mean).all():
        return ""
    noise = _known_noise(problem.bnn)
    worth = _worth(found.rows, np.square(found.sd), noise) if noise else np.inf
    silent = found.spread < _CONSTANT * found.sd
    if silent and worth > _NATS and depends_on(found.x, found.residual):
        return (
            f"its predictions never vary over the rows (sd {found.spread:.2g}), though y depends "
            f"on x. {_why_constant(problem, part, found)}"
        )
    if problem.bnn.likelihood.discrete:
        return ""
    rmse = np.sqrt(found.rows.mean(np.square(found.residual).sum(axis=1)))
    excess = rmse**2 - _DEPENDENCE * found.error - found.sd**2
    if found.rows.number * excess <= 2 * _NATS * max(found.sd, noise) ** 2:
        return ""
    return (
        f"its predictions miss the fitted rows by {rmse:.3g} (RMSE), where y has sd {found.sd:.3g}:"
        f" the mean of y would do better. {_why_worse(part, found)}"
    )


def _predict(problem: Problem, part: Part) -> _Predicted:
    """Predict the rows that count, by draws that are evenly spread."""
    bnn, counted = problem.bnn, part.row_weights > 0
    y, weights = (_data.select_rows(one, counted) for one in (problem.y, part.row_weights))
    if bnn.likelihood.columns:  # counts of outcomes: the share of the first in so many trials
        weights, y = weights * y.sum(axis=1), y[:, 0] / y.sum(axis=1)
    rows, x = Rows(weights), problem.x
    draws = _some(part.weights, _MAX_PREDICTIONS // (len(x) * bnn.network.num_outputs))
    alike = varying = _means(bnn, part.model, draws, x, counted)
    if (offset := offset_of(bnn.network)) is not None:
        # Outputs that vary by the offset alone say nothing about the inputs.
        level = x.copy()
        level[:, offset] = rows.mean(x[counted, offset])
        alike = _means(bnn, part.model, draws, level, counted)
    spread = np.sqrt(np.mean([np.square(_sd(one, rows)) for one in alike]))
    mean = varying.mean(axis=0)
    error = _error_of(mean, varying, rows)
    if bnn.likelihood.has_classes:
        targets = y.reshape(len(y), -1).astype(int)
        y = np.eye(mean.shape[1] // targets.shape[1])[targets]
    x = _data.select_rows(x, counted)
    return _Predicted(x, y.reshape(mean.shape), mean, float(spread), error, rows)


def _error_of(mean: np.ndarray, draws: np.ndarray, rows: Rows) -> float:
    """Return the squared standard error of a mean of draws, of all columns, averaged over rows."""
    if len(draws) == 1:
        return 0.0
    # One draw at a time: the deviations of all would take the memory of the draws once more.
    squares = sum((np.square(one - mean) for one in draws), np.zeros(1))
    variances = squares / (len(draws) - 1)
    return rows.mean(variances.sum(axis=1)) / len(draws)


def _some(weights: Draws, affordable: int) -> dict[str, np.ndarray]:
    """Take some of the draws, as if from a single chain."""
    count = weights.num_chains * weights.num_draws
    number = min(max(affordable, _MIN_DRAWS), _NUM_DRAWS)
    chosen = np.unique(np.linspace(0, count - 1, number).round().astype(int))
    return {n: w.reshape(count, *w.shape[2:])[None, chosen] for n, w in weights.items()}


def _means(
    bnn: BNN, model: BNN, draws: dict[str, np.ndarray], x: np.ndarray, counted: np.ndarray
) -> np.ndarray:
    """Return the mean of the rows that count under every draw, (draws, rows, columns)."""
    found = evaluate(_mean_of_draw, model, draws, x)[0]
    if bnn.likelihood.has_classes:
        found = bnn.likelihood.class_probabilities(found)
    found = found.reshape(*found.shape[:2], -1)
    return found if counted.all() else found[:, counted]


def _mean_of_draw(bnn: BNN, weights: Any, x: Any) -> jax.Array:
    return density.mean(bnn, weights, x)


def _variances(values: np.ndarray, rows: Rows) -> np.ndarray:
    return rows.mean(np.square(values - rows.mean(values)))


def _sd(values: np.ndarray, rows: Rows) -> float:
    return float(np.sqrt(_variances(values, rows).sum()))


def _known_noise(bnn: BNN) -> float:
    """Return the noise of a squared error if it is known, 0 otherwise."""
    known: Any = bnn.likelihood
    noise = known.noise if known.loss == "squared error" else None
    return 0.0 if noise is None else float(np.max(noise))


def _why_constant(problem: Problem, part: Part, found: _Predicted) -> str:
    bnn, noise = problem.bnn, _known_noise(problem.bnn)
    if layer := _flat_layer(bnn, part, found.x):
        return (
            f"Every unit of {layer.name!r} is on the flat part of its activation at every row. "
            f"Centre the prior on {layer.incoming!r} and {layer.bias!r} at 0 with scales of about "
            "1, and standardise x."
        )
    varies = variation_of_outputs(bnn, found.x, part.prior)
    if not varies:
        return "Give the prior larger scales."
    wanted = 1.0 if bnn.likelihood.discrete else found.sd
    times = (wanted / varies) ** (1 / (len(hidden_layers_of(bnn.network) or ()) + 1))
    if times > _NARROW:
        return (
            f"The prior holds the weights at its centre: under it outputs vary by {varies:.2g}. "
            f"Give it scales about {times:.2g} times as large."
        )
    if noise > _LOUD * found.sd:
        return (
            f"The known noise, {noise:.3g}, is large against the sd of y, {found.sd:.3g}: the rows "
            "say little. Give noise in the units of y, or leave it to be learned."
        )
    return (
        "The prior would allow more, so there may be a better optimum. Look for it: "
        "fit_map(num_restarts=32)."
    )


def _flat_layer(bnn: BNN, part: Part, x: np.ndarray) -> Any:
    """Find the first hidden layer with all units flat at all rows; None if there is none."""
    layers = hidden_layers_of(bnn.network) or ()
    if not layers:
        return None
    one = {name: values[:1, :1] for name, values in part.weights.items()}
    largest = tuple(largest_slope(layer.activation) for layer in layers)
    steepest = evaluate(_steepest, part.model, one, x, largest)[0, 0]
    return next((k for k, s in zip(layers, steepest, strict=True) if s < _FLAT), None)


def _steepest(bnn: BNN, weights: Any, x: Any, largest: tuple[float, ...]) -> jax.Array:
    """Return the largest slope of each layer's units at any row, as a share of the maximum."""
    network: Any = bnn.network
    units, layers = network.hidden_units(weights, x), hidden_layers_of(network) or ()
    found = [
        jnp.abs(slopes(layer.activation, units[layer.name].pre)).max() / most
        for layer, most in zip(layers, largest, strict=True)
    ]
    return jnp.stack(found)


def _why_worse(part: Part, found: _Predicted) -> str:
    away = np.abs(found.rows.mean(found.residual))
    if np.square(away).sum() > 0.5 * found.sd**2:
        return (
            f"They are off by {away.max():.3g} on average: centre y, y - y.mean(axis=0), or give "
            "the prior of the output's bias a larger scale."
        )
    if part.fit.attrs["draws"] == "chains":
        return "Look at diagnostics.convergence, or begin at a MAP: init=fit_map(...)."
    return "There may be a better optimum: raise num_restarts, or fit with fit_map."
