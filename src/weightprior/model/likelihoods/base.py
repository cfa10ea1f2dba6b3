"""The base of likelihoods: how targets scatter around a network's outputs.

A likelihood is a pytree whose numbers (a known noise, degrees of freedom) are traced: changing them
compiles nothing. A subclass says all that others need to know of it.
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

    A subclass has to define `distribution`. It overrides what differs from the rest: by default
    there are no latents, the targets are real numbers, and the mean is the output.

    Attributes
    ----------
    static : tuple of str
        Fields that are part of the structure; all others are traced numbers.
    labels : tuple or None
        Names of the classes, in the order of their numbers; None where they are numbers.
    discrete : bool
        True if targets are whole numbers, classes or counts.
    has_classes : bool
        True if targets are classes, scored by their probabilities, or numbers.
    step : float
        Distance between neighbouring values of a target: 0 for real numbers, 1 for counts.
    normal_outputs : bool
        True if targets are normal around the outputs with the scale `noise_of`, so that a last
        linear layer can be integrated out.
    columns : tuple of str
        Names of a target's columns, where it has others than one per output.
    is_known : bool
        True if it is the likelihood that was fitted; else none of its densities is available.
    no_offset : str
        Why no column of x can be added to all outputs, as `mlp(offset=...)` does.
    loss : str
        Name of the loss that libraries have for it, for `prior_from_l2`; none by default. A
        likelihood of ``"squared error"`` has a field `noise`, None where it is learned, and
        `noise_centers`.

    Examples
    --------
    Gamma targets, whose shape is learned through its logarithm:

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
        """Tell if targets are whole numbers, classes or counts."""
        return self.has_classes or self.step > 0

    @property
    def labels(self) -> tuple[Any, ...] | None:
        """Labels of classes, in the order of their numbers; None where they have none."""
        return None

    def latents(self, num_outputs: int) -> Mapping[str, Latent]:
        """Unknowns of its own, besides the network's weights, by name."""
        return {}

    def check_outputs(self, num_outputs: int) -> None:
        """Raise where a network with so many outputs cannot carry this likelihood."""

    def num_targets(self, num_outputs: int) -> int:
        """Targets of a row, by default as many as outputs."""
        return num_outputs

    def target_names(self, columns: Sequence[Any] | None, num_outputs: int) -> Sequence[Any] | None:
        """Names along the last axis of targets and their mean; None where they are counted.

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
        """Names of the network's outputs, by default those of the targets."""
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
        """Targets as a user has them, from the numbers that `check_target` makes of them."""
        return y

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
            Holds the latents.
        """
        raise NotImplementedError

    def targets(self, output: jax.Array, weights: Weights) -> dist.Distribution:
        """Distribution of the rows, whose targets are an event where there are several outputs."""
        elementwise = self.distribution(output, weights)
        return elementwise.to_event(len(elementwise.batch_shape) - 1)

    def mean(self, output: jax.Array, weights: Weights) -> jax.Array:
        """E[y | weights, x]: the location, the rate, or the probabilities."""
        return per_target(output)

    def class_probabilities(self, mean: np.ndarray) -> np.ndarray:
        """Probability of every class on a last axis, from `mean`, for targets that are classes."""
        return mean

    def of_trials(self, trials: Any) -> "Likelihood | None":
        """Likelihood of each row's number of successes in known trials; None where y has none."""
        return None

    def counted(self, y: np.ndarray) -> "tuple[Likelihood, np.ndarray]":
        """Likelihood and targets to score by, where trials that stand in y are taken as known."""
        return self, y

    def fitted(self, y: np.ndarray) -> np.ndarray:
        """Targets as a fit takes them, from what `distribution` draws."""
        return self.decode(y)

    def noise_of(self, location: jax.Array, weights: Weights) -> jax.Array:
        """Scale of every target around its location, of that shape, for `normal_outputs`."""
        raise NotImplementedError

    def noise_centers(self, noise: float) -> dict[str, float]:
        """Values of the latents at which every target has this noise."""
        return {}

    def restated(self, shift: np.ndarray, factor: np.ndarray, num_outputs: int) -> Restated | None:
        """Tell the law of ``shift + factor * y``; None where targets have to stay as they are."""
        return None

    def information_root(self, output: jax.Array, weights: Weights) -> jax.Array | None:
        """Root R of the expected information R R' that one row carries; None where not known.

        Parameters
        ----------
        output : array of shape (outputs,)
            The network's outputs for the row.
        weights : mapping of str to array
            Holds the latents.

        Returns
        -------
        array of shape (outputs + latents, any) or None
            About the outputs, and behind them about the latents whose `information` is None.
        """
        return None

    def curvature(self, output: jax.Array, weights: Weights, y: jax.Array) -> jax.Array:
        """Curvature of one row's log density, which stands for an information that is not known.

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
            Minus the Hessian, with respect to the outputs and behind them to the latents whose
            `information` is None. It need not be positive semi-definite.
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
        """Directions of the outputs along which no row's log density ever falls; None: not known.

        A flat prior leaves no finite optimum where one of them raises the density.
        """
        return None

    def learned_scale(self, output: jax.Array, weights: Weights) -> jax.Array | None:
        """Scale of every target around its mean, of that shape, where it is learned; None else.

        It runs to zero where the outputs meet the targets exactly.
        """
        return None

    def scale_advice(self, spread: float, num_rows: float) -> str:
        """Say what keeps a learned scale from zero, of so many targets of such a spread."""
        return "Give it a known value, or a narrower prior."

    def random_terms(self, output: jax.Array, weights: Weights, y: jax.Array) -> RandomTerms:
        """Terms that an anchored ensemble adds to each row; by default the row's log likelihood.

        Its gradients have the right covariance if the model is right (the weighted likelihood
        bootstrap). Others have it whatever the data are, where their Jacobian in the outputs is the
        root of the information, so that a model with these outputs for weights is moved just
        enough.

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
    """Raise where something else was passed as a likelihood."""
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
