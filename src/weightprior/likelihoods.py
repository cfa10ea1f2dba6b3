"""Likelihoods: how targets scatter around a network's outputs.

Each is a pytree whose numbers (a known noise, degrees of freedom) are traced: changing them
compiles nothing. A learned noise is a latent of the model, `log_noise`.
"""

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from weightprior import _checks
from weightprior._distributions import BernoulliLogits, NormalLogScale, PoissonLogRate
from weightprior._weights import Site, Weights

__all__ = [
    "Bernoulli",
    "Categorical",
    "Gaussian",
    "HeteroscedasticGaussian",
    "Likelihood",
    "Poisson",
    "StudentT",
]


class Likelihood:
    """What every likelihood can do. Subclasses are frozen dataclasses.

    Attributes
    ----------
    kind : str
        ``"continuous"``, ``"count"``, ``"binary"`` or ``"class"``: decides how it is scored.
    static : tuple of str
        The fields that are part of the structure; all others are traced numbers.
    """

    kind: ClassVar[str] = "continuous"
    static: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        jax.tree_util.register_pytree_node(cls, cls._flatten, cls._unflatten)

    def _flatten(self):
        names = [f.name for f in fields(self) if f.name not in self.static]  # pyright: ignore
        return [getattr(self, n) for n in names], tuple(getattr(self, n) for n in self.static)

    @classmethod
    def _unflatten(cls, aux, children):
        # Not through __init__: what JAX puts into a tree is not always a number to be checked.
        new = object.__new__(cls)
        traced = [f.name for f in fields(cls) if f.name not in cls.static]  # pyright: ignore
        for name, value in zip((*traced, *cls.static), (*children, *aux), strict=True):
            object.__setattr__(new, name, value)
        return new

    def sites(self, num_outputs: int) -> dict[str, Site]:
        """Latents of its own, beside the network's weights."""
        return {}

    def check_outputs(self, num_outputs: int) -> None:
        """Raise where a network with so many outputs cannot carry this likelihood."""

    def check_target(self, y: Any, num_obs: int, num_outputs: int) -> np.ndarray:
        """Return the targets as a float64 array, shape (rows,) or, for several, (rows, outputs)."""
        array = _checks.finite("y", y)
        shape = (num_obs,) if num_outputs == 1 else (num_obs, num_outputs)
        _checks.target_shape(array.shape, shape)
        return array

    def observed(self, y: Any, dtype: Any) -> jax.Array:
        """Targets as the distribution wants them."""
        return jnp.asarray(y, dtype)

    def distribution(self, output: jax.Array, weights: Weights) -> dist.Distribution:
        """Distribution of every target, of the targets' shape.

        Parameters
        ----------
        output : array of shape (rows, outputs)
            The network's outputs.
        weights : mapping of str to array
            Holds `log_noise` where it is learned.
        """
        raise NotImplementedError

    def mean(self, output: jax.Array, weights: Weights) -> jax.Array:
        """E[y | weights, x]: the location, the rate, or the probabilities."""
        return _per_target(output)

    def derived(self, weights: Weights) -> dict[str, jax.Array]:
        """Variables stored beside the latents: the noise on its natural scale."""
        return {}

    def information_root(self, output: jax.Array, weights: Weights) -> jax.Array:
        """Root R of the expected information R R' that one row carries about its outputs.

        Parameters
        ----------
        output : array of shape (outputs,)
            The network's outputs for the row.
        weights : mapping of str to array
            Holds `log_noise` where it is learned.

        Returns
        -------
        array of shape (outputs, any)
        """
        raise NotImplementedError

    def noise_information(self) -> Any:
        """Expected information that one target carries about its `log_noise`, if it has one."""
        return 0.0


class _Scaled(Likelihood):
    """A location family whose scale is known or learned through `log_noise`."""

    _scale_field: ClassVar[str]

    def sites(self, num_outputs: int) -> dict[str, Site]:
        if getattr(self, self._scale_field) is not None:
            return {}
        several = num_outputs > 1
        shape, dims = ((num_outputs,), ("output",)) if several else ((), ())
        return {"log_noise": Site(shape, dims, None, "log_noise")}

    def derived(self, weights: Weights) -> dict[str, jax.Array]:
        if getattr(self, self._scale_field) is not None:
            return {}
        return {"noise": jnp.exp(weights["log_noise"])}

    def noise_of(self, location: jax.Array, weights: Weights) -> jax.Array:
        """Scale of every target around its location, of that shape."""
        known = getattr(self, self._scale_field)
        noise = self.derived(weights)["noise"] if known is None else known
        noise = jnp.asarray(noise, location.dtype)
        return jnp.broadcast_to(noise if noise.ndim == 0 else noise[None, :], location.shape)

    def information_root(self, output, weights):
        # The information about a location is a constant over the squared scale.
        scale = self.noise_of(output[None, :], weights)[0]
        return jnp.diag(jnp.sqrt(jnp.asarray(self._information[0], output.dtype)) / scale)

    def noise_information(self):
        return self._information[1]

    @property
    def _information(self) -> tuple[Any, Any]:
        """Expected information about the location (for a scale of 1) and about the log scale."""
        raise NotImplementedError


@dataclass(frozen=True)
class Gaussian(_Scaled):
    """Gaussian noise around the outputs.

    Parameters
    ----------
    noise : float, optional
        Its standard deviation in units of y, where it is known. None: it is learned through the
        latent `log_noise`, one per output.

    Examples
    --------
    >>> import weightprior as wp
    >>> wp.Gaussian(noise=0.5)
    Gaussian(noise=0.5)
    """

    noise: float | None = None
    _scale_field: ClassVar[str] = "noise"

    def __post_init__(self) -> None:
        _set_positive(self, "noise", optional=True)

    def distribution(self, output, weights):
        location = _per_target(output)
        return dist.Normal(location, self.noise_of(location, weights))

    @property
    def _information(self):
        return 1.0, 2.0


@dataclass(frozen=True)
class StudentT(_Scaled):
    """Student-t noise around the outputs: robust to outliers.

    Parameters
    ----------
    df : float
        Degrees of freedom, known. `mean` is the location, which is the mean for ``df > 1``.
    scale : float, optional
        The scale in units of y, where it is known. None: it is learned through the latent
        `log_noise` and stored as `noise`.
    """

    df: float
    scale: float | None = None
    _scale_field: ClassVar[str] = "scale"

    def __post_init__(self) -> None:
        _set_positive(self, "df")
        _set_positive(self, "scale", optional=True)

    def distribution(self, output, weights):
        location = _per_target(output)
        df = jnp.full_like(location, self.df)
        return dist.StudentT(df, location, self.noise_of(location, weights))

    @property
    def _information(self):
        return (self.df + 1) / (self.df + 3), 2 * self.df / (self.df + 3)


@dataclass(frozen=True)
class HeteroscedasticGaussian(Likelihood):
    """Gaussian noise whose size depends on x: two outputs, the mean and the log of the sd."""

    def check_outputs(self, num_outputs: int) -> None:
        if num_outputs != 2:
            raise ValueError(
                "network: expected num_outputs=2 for HeteroscedasticGaussian (the mean and the log "
                f"standard deviation); got {num_outputs}."
            )

    def check_target(self, y, num_obs, num_outputs):
        return super().check_target(y, num_obs, 1)

    def distribution(self, output, weights):
        return NormalLogScale(output[:, 0], output[:, 1])

    def mean(self, output, weights):
        return output[:, 0]

    def information_root(self, output, weights):
        return jnp.diag(jnp.stack([jnp.exp(-output[1]), jnp.full_like(output[1], 2**0.5)]))


@dataclass(frozen=True)
class Bernoulli(Likelihood):
    """Yes or no: the output is the logit. Several outputs are several independent labels."""

    kind: ClassVar[str] = "binary"

    def check_target(self, y, num_obs, num_outputs):
        array = super().check_target(y, num_obs, num_outputs)
        return _labels(array, 2)

    def distribution(self, output, weights):
        return BernoulliLogits(_per_target(output))

    def mean(self, output, weights):
        return jax.nn.sigmoid(_per_target(output))

    def information_root(self, output, weights):
        return jnp.diag(jnp.sqrt(jax.nn.sigmoid(output) * jax.nn.sigmoid(-output)))


@dataclass(frozen=True)
class Categorical(Likelihood):
    """One of several classes: the outputs are the logits, one per class (softmax).

    Parameters
    ----------
    num_classes : int
        Classes; labels are 0, 1, ..., ``num_classes - 1``.
    """

    num_classes: int
    kind: ClassVar[str] = "class"
    static: ClassVar[tuple[str, ...]] = ("num_classes",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_classes", _checks.integer("num_classes", self.num_classes, 2))

    def check_outputs(self, num_outputs: int) -> None:
        if num_outputs != self.num_classes:
            raise ValueError(
                f"network: expected num_outputs={self.num_classes}, a logit per class of "
                f"Categorical({self.num_classes}); got {num_outputs}."
            )

    def check_target(self, y, num_obs, num_outputs):
        array = super().check_target(y, num_obs, 1)
        return _labels(array, self.num_classes)

    def observed(self, y, dtype):
        return jnp.asarray(y, jnp.int32)

    def distribution(self, output, weights):
        return dist.CategoricalLogits(output)

    def mean(self, output, weights):
        return jax.nn.softmax(output, axis=-1)

    def information_root(self, output, weights):
        probability = jax.nn.softmax(output)
        root = jnp.sqrt(probability)
        return jnp.diag(root) - probability[:, None] * root[None, :]


@dataclass(frozen=True)
class Poisson(Likelihood):
    """Counts: the output is the log of the rate."""

    kind: ClassVar[str] = "count"

    def check_target(self, y, num_obs, num_outputs):
        array = super().check_target(y, num_obs, num_outputs)
        if np.any(array < 0) or np.any(array != np.round(array)):
            bad = array[(array < 0) | (array != np.round(array))]
            raise ValueError(f"y: expected counts 0, 1, 2, ...; got {bad.flat[0]:g}.")
        return array

    def distribution(self, output, weights):
        return PoissonLogRate(_per_target(output))

    def mean(self, output, weights):
        return jnp.exp(_per_target(output))

    def information_root(self, output, weights):
        return jnp.diag(jnp.exp(output / 2))


def _per_target(output: jax.Array) -> jax.Array:
    """Drop the axis of a single output: targets of one output have the shape (rows,)."""
    return output[:, 0] if output.shape[1] == 1 else output


def _set_positive(likelihood: Likelihood, name: str, *, optional: bool = False) -> None:
    # A float whatever came: JAX compiles anew for an int or a numpy scalar.
    value = getattr(likelihood, name)
    if value is not None or not optional:
        object.__setattr__(likelihood, name, _checks.number(name, value, above=0))


def _labels(array: np.ndarray, num_classes: int) -> np.ndarray:
    bad = array[~np.isin(array, np.arange(num_classes))]
    if bad.size:
        raise ValueError(
            f"y: expected class labels 0 to {num_classes - 1}; got {bad.flat[0]:g}. "
            "Encode them first: numpy.unique(y, return_inverse=True)[1]."
        )
    return array
