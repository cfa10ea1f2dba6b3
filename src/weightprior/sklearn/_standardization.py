"""Standardised inputs and targets, and networks converted between standardisations."""

import json
from typing import Any, NamedTuple, Self

import numpy as np
from sklearn.preprocessing import StandardScaler

import weightprior as wp

__all__ = ["Standardization", "moved"]


class Standardization(NamedTuple):
    """Means and standard deviations of inputs and targets; 0 and 1 if not standardised.

    Attributes
    ----------
    x_mean, x_scale : array of shape (features,)
        Mean and scale of the inputs.
    y_mean, y_scale : array of shape (targets,)
        Mean and scale of the targets.
    """

    x_mean: np.ndarray
    x_scale: np.ndarray
    y_mean: np.ndarray
    y_scale: np.ndarray

    @classmethod
    def none(cls, num_features: int, num_targets: int) -> Self:
        """Return a standardisation that changes nothing."""
        return cls(*(f(n) for n in (num_features, num_targets) for f in (np.zeros, np.ones)))

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray | None, row_weights: np.ndarray) -> Self:
        """Measure rows by their weights; measure targets only if they are given."""
        found = cls.none(x.shape[1], 1)
        x_mean, x_scale = _mean_and_scale(x, row_weights)
        if y is None:
            return found._replace(x_mean=x_mean, x_scale=x_scale)
        return cls(x_mean, x_scale, *_mean_and_scale(y.reshape(len(y), -1), row_weights))

    @classmethod
    def written_in(cls, fit: Any) -> Self | None:
        """Read the standardisation that `write_into` wrote into a fit; None if there is none."""
        written = getattr(fit, "attrs", {}).get("standardization")
        return None if written is None else cls(*map(np.array, json.loads(written).values()))

    def write_into(self, fit: Any) -> None:
        """Write the standardisation into the attributes of a fit."""
        lists = {name: values.tolist() for name, values in self._asdict().items()}
        fit.attrs["standardization"] = json.dumps(lists)

    def inputs(self, x: np.ndarray) -> np.ndarray:
        """Standardise inputs."""
        return (x - self.x_mean) / self.x_scale

    def targets(self, y: Any) -> np.ndarray:
        """Standardise targets of shape (rows,) or (rows, targets)."""
        y = np.asarray(y)
        return ((y.reshape(len(y), -1) - self.y_mean) / self.y_scale).reshape(y.shape)

    def locations(self, y: np.ndarray, axis: int = -1) -> np.ndarray:
        """Convert means or quantiles back to the units of y; `axis` is that of the targets."""
        return self.distances(y, axis) + self._along(self.y_mean, y, axis)

    def distances(self, y: np.ndarray, axis: int = -1) -> np.ndarray:
        """Convert standard deviations back to the units of y."""
        return y * self._along(self.y_scale, y, axis)

    @property
    def log_unit(self) -> float:
        """Log of the targets' scales: subtract it from log densities to get those in units of y."""
        return float(np.log(self.y_scale).sum())

    @staticmethod
    def _along(values: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray | float:
        if len(values) == 1:
            return values[0]
        shape = np.ones(y.ndim, int)
        shape[axis] = len(values)
        return values.reshape(shape)


def _mean_and_scale(values: np.ndarray, row_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scaler = StandardScaler().fit(values, sample_weight=row_weights)
    return np.asarray(scaler.mean_), np.asarray(scaler.scale_)


def moved(
    bnn: wp.BNN, weights: dict[str, np.ndarray], before: Standardization, after: Standardization
) -> dict[str, np.ndarray]:
    """Convert a network from one standardisation to another, with the same predictions.

    Parameters
    ----------
    bnn : BNN
        The model; its network is an `mlp`.
    weights : dict of str to array
        By site; latents of the likelihood may be among them.
    before, after : Standardization
        The standardisations that the weights are for, and are converted to.
    """
    network: Any = bnn.network
    layers = {layer: (f"{layer}.weight", f"{layer}.bias") for layer in network.layers}
    found = dict(weights)
    weight, bias = next(iter(layers.values()))
    shift = (after.x_mean - before.x_mean) / before.x_scale
    found[bias] = found[bias] + shift @ found[weight]
    found[weight] = found[weight] * (after.x_scale / before.x_scale)[:, None]
    factor = before.y_scale / after.y_scale
    told = bnn.likelihood.restated(
        (before.y_mean - after.y_mean) / after.y_scale, factor, network.num_outputs
    )
    if told is None:
        return found
    weight, bias = layers[network.layers[-1]]
    found[bias] = told.addend + told.multiplier * found[bias]
    found[weight] = found[weight] * told.multiplier
    return found | {n: found[n] + added for n, added in told.latents.items() if n in found}
