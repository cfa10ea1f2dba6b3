"""The base of likelihoods: the distribution of targets around a network's outputs.

A likelihood is a pytree. Its numbers (a known noise, degrees of freedom) are traced: changing them
compiles nothing. A subclass says all that other code needs to know about it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.flatten_util import ravel_pytree

from weightprior import _arrays, _checks
from weightprior.model.likelihoods._traced import Traced
from weightprior.model.likelihoods.terms import Latent, RandomTerms, Recession, Restated, per_target
from weightprior.model.sites import Weights

__all__ = ["Likelihood", "check_likelihood"]


class Likelihood(Traced):
    """A likelihood; subclasses are frozen dataclasses.

    A subclass must define `distribution`. It overrides other members if they differ from the
    defaults: no latents, targets that are real numbers, and the output as the mean.

    Attributes
    ----------
    static : tuple of str
        Fields that are part of the structure; all others are traced numbers.
    labels : tuple or None
        Names of the classes, in the order of their numbers; None if they are numbers.
    discrete : bool
        True if targets are whole numbers, classes or counts.
    has_classes : bool
        True if targets are classes, scored by their probabilities.
    step : float
        Distance between neighbouring values of a target: 0 for real numbers, 1 for counts.
    normal_outputs : bool
        True if targets are normal around the outputs with the scale `noise_of`, so that a last
        linear layer can be integrated out.
    columns : tuple of str
        Names of a target's columns, if these are not one per output.
    is_known : bool
        True if it is the likelihood that was fitted. Otherwise none of its densities is available.
    no_offset : str
        Reason why no column of x can be added to all outputs, as `mlp(offset=...)` does.
    loss : str
        Name of the corresponding loss in other libraries, for `prior_from_l2`; none by default. A
        likelihood with ``"squared error"`` has a field `noise`, None if it is learned, and
        `noise_centers`.

    Examples
    --------
    Gamma targets, with a shape that is learned through its logarithm:

    >>> from dataclasses import dataclass
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> import numpyro.distributions as dist
    >>> import weightprior as wp
    >>> @dataclass(frozen=True)
    ... class Gamma(wp.Likelihood):
    ...     def latents(self, num_outputs):
    ...         return {"log_shape": wp.Latent(derived="shape")}
    ...
    ...     def distribution(self, output, weights):
    ...         shape = jnp.exp(weights["log_shape"])
    ...         return dist.Gamma(shape, shape * jnp.exp(-output[:, 0]))
    ...
    ...     def mean(self, output, weights):
    ...         return jnp.exp(output[:, 0])
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), Gamma())
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> y = np.exp(x[:, 0]) * np.random.default_rng(0).gamma(4.0, 0.25, size=20)
    >>> fit = wp.fit_map(bnn, x, y, prior=wp.normal_prior(bnn))
    >>> fit["posterior"]["shape"].dims
    ('chain', 'draw')
    """

    has_classes: ClassVar[bool] = False
    step: ClassVar[float] = 0.0
    normal_outputs: ClassVar[bool] = False
    columns: ClassVar[tuple[str, ...]] = ()
    is_known: ClassVar[bool] = True
    no_offset: ClassVar[str] = ""
    loss: ClassVar[str] = ""

    @property
    def discrete(self) -> bool:
        """True if targets are whole numbers, classes or counts."""
        return self.has_classes or self.step > 0

    @property
    def labels(self) -> tuple[Any, ...] | None:
        """Labels of classes, in the order of their numbers; None if they have none."""
        return None

    def latents(self, num_outputs: int) -> Mapping[str, Latent]:
        """Return unknowns of its own, besides the network's weights, by name."""
        return {}

    def check_outputs(self, num_outputs: int) -> None:
        """Raise if this likelihood cannot be used with `num_outputs` outputs."""

    def num_targets(self, num_outputs: int) -> int:
        """Return the number of targets of a row, by default that of the outputs."""
        return num_outputs

    def target_names(self, columns: Sequence[Any] | None, num_outputs: int) -> Sequence[Any] | None:
        """Return names along the last axis of targets and their mean; None if they are counted.

        Parameters
        ----------
        columns : sequence or None
            Names of the columns of a data frame of targets.
        num_outputs : int
            The network's outputs.
        """
        several = columns is not None and len(columns) == self.num_targets(num_outputs) > 1
        return columns if several else None

    def output_names(self, columns: Sequence[Any] | None, num_outputs: int) -> Sequence[Any] | None:
        """Return names of the network's outputs, by default those of the targets."""
        return self.target_names(columns, num_outputs)

    def check_target(self, y: Any, num_obs: int, num_outputs: int) -> np.ndarray:
        """Return the targets as a float64 array, shape (rows,) or, for several, (rows, targets)."""
        array = _arrays.finite("y", y)
        _checks.target_shape(array.shape, self._shape(num_obs, num_outputs))
        return array

    def _shape(self, num_obs: int, num_outputs: int) -> tuple[int, ...]:
        num_targets = self.num_targets(num_outputs)
        return (num_obs,) if num_targets == 1 else (num_obs, num_targets)

    def decode(self, y: np.ndarray) -> np.ndarray:
        """Return targets in the form of the user, from the numbers of `check_target`."""
        return y

    def observed(self, y: Any, dtype: Any) -> jax.Array:
        """Return targets in the form that the distribution takes."""
        return jnp.asarray(y, dtype)

    def distribution(self, output: jax.Array, weights: Weights) -> dist.Distribution:
        """Return the distribution of every target, of the targets' shape.

        Parameters
        ----------
        output : array of shape (rows, outputs)
            The network's outputs.
        weights : mapping of str to array
            Holds the latents.
        """
        raise NotImplementedError

    def targets(self, output: jax.Array, weights: Weights) -> dist.Distribution:
        """Return the distribution of rows; with several outputs, a row's targets are an event."""
        elementwise = self.distribution(output, weights)
        return elementwise.to_event(len(elementwise.batch_shape) - 1)

    def mean(self, output: jax.Array, weights: Weights) -> jax.Array:
        """Compute E[y | weights, x]: the location, the rate, or the probabilities."""
        return per_target(output)

    def class_probabilities(self, mean: np.ndarray) -> np.ndarray:
        """Return the probability of every class on a last axis, from `mean`, for classes."""
        return mean

    def of_trials(self, trials: Any) -> "Likelihood | None":
        """Return the likelihood of successes in known trials per row; None if y has no trials."""
        return None

    def counted(self, y: np.ndarray) -> "tuple[Likelihood, np.ndarray]":
        """Return likelihood and targets for scores; trials in y are taken as known."""
        return self, y

    def fitted(self, y: np.ndarray) -> np.ndarray:
        """Return targets in the form that a fit takes, from draws of `distribution`."""
        return self.decode(y)

    def noise_of(self, location: jax.Array, weights: Weights) -> jax.Array:
        """Return every target's scale around its location, of that shape, for `normal_outputs`."""
        raise NotImplementedError

    def noise_centers(self, noise: float) -> dict[str, float]:
        """Return values of the latents at which every target has this noise."""
        return {}

    def restated(self, shift: np.ndarray, factor: np.ndarray, num_outputs: int) -> Restated | None:
        """Return the distribution of ``shift + factor * y``; None if targets cannot change."""
        return None

    def information_root(self, output: jax.Array, weights: Weights) -> jax.Array | None:
        """Return the root R of one row's expected information R R'; None if it is not known.

        Parameters
        ----------
        output : array of shape (outputs,)
            The network's outputs for the row.
        weights : mapping of str to array
            Holds the latents.

        Returns
        -------
        array of shape (outputs + latents, any) or None
            About the outputs, followed by the latents with `information` None.
        """
        return None

    def curvature(self, output: jax.Array, weights: Weights, y: jax.Array) -> jax.Array:
        """Compute the curvature of one row's log density, used if the information is not known.

        Parameters
        ----------
        output : array of shape (outputs,)
            The network's outputs for the row.
        weights : mapping of str to array
            Holds the latents.
        y : array of shape () or (outputs,)
            The row's target.

        Returns
        -------
        array of shape (outputs + latents, outputs + latents)
            Minus the Hessian, with respect to the outputs, followed by the latents with
            `information` None. It need not be positive semi-definite.
        """
        told = self.latents(output.size)
        free = {n: weights[n] for n, latent in told.items() if latent.information is None}
        start, unravel = ravel_pytree([output, *free.values()])

        def log_density(vector: jax.Array) -> jax.Array:
            moved, *latents = unravel(vector)
            law = self.targets(moved[None, :], {**weights, **dict(zip(free, latents, strict=True))})
            return law.log_prob(self.observed(y[None], output.dtype)).sum()

        return -jax.hessian(log_density)(start)

    def recession(self, y: np.ndarray, num_outputs: int) -> Recession | None:
        """Find directions of outputs in which no row's log density ever falls; None if not known.

        Under a flat prior there is no finite optimum if one of them raises the density.
        """
        return None

    def learned_scale(self, output: jax.Array, weights: Weights) -> jax.Array | None:
        """Return the scale of every target around its mean, of that shape; None if not learned.

        It runs to zero if the outputs meet the targets exactly.
        """
        return None

    def scale_advice(self, spread: float, num_rows: float) -> str:
        """Say how to keep a learned scale from zero, given the spread and number of targets."""
        return "Give it a known value, or a narrower prior."

    def random_terms(self, output: jax.Array, weights: Weights, y: jax.Array) -> RandomTerms:
        """Compute terms that an anchored ensemble adds to each row; by default its log likelihood.

        The gradients of the log likelihood have the right covariance if the model is right (the
        weighted likelihood bootstrap). Other terms have it for any data if their Jacobian with
        respect to the outputs is the root of the information: then a model with these outputs as
        weights is moved just enough.

        Parameters
        ----------
        output : array of shape (rows, outputs)
            The network's outputs.
        weights : mapping of str to array
            Holds the latents.
        y : array of shape (rows,) or (rows, outputs)
            Targets.
        """
        law = self.targets(output, weights)
        terms = law.log_prob(self.observed(y, output.dtype)).astype(output.dtype)[:, None]
        return RandomTerms(terms[:, :0], terms)


def check_likelihood(likelihood: Any) -> None:
    """Raise if something else was passed as a likelihood."""
    if not isinstance(likelihood, Likelihood):
        raise TypeError(
            f"likelihood: expected an instance such as weightprior.Gaussian(); got {likelihood!r}."
        )
    cls = type(likelihood)
    if not is_dataclass(cls) or cls.distribution is Likelihood.distribution:
        missing = "`distribution`" if is_dataclass(cls) else "the decorator of a dataclass"
        raise TypeError(
            "likelihood: expected a frozen dataclass with a method `distribution(output, weights)`;"
            f" got a {cls.__name__} without {missing}."
        )
    told = "Name fields that are no numbers in `static`."
    _checks.leaves("likelihood", jax.tree.leaves(likelihood), told)
