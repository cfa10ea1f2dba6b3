"""The base of priors: what a family of priors says of itself."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import jax
import numpyro.distributions as dist

from weightprior.model.sites import Site, Weights

__all__ = ["Conditional", "Coordinates", "Prior"]


class Conditional(Protocol):
    """The prior of the weights, once its hyperparameters are known."""

    def distribution(self, name: str, dtype: Any) -> dist.Distribution:
        """NumPyro's distribution of one site."""
        ...


class Coordinates(Protocol):
    """Coordinates in which every number is of order one, whatever the prior.

    Attributes
    ----------
    sites : dict of str to Site
        Everything that a position holds: weights, and hyperparameters of the prior.
    """

    @property
    def sites(self) -> Mapping[str, Site]:
        """Everything that a position holds."""
        ...

    def weights(self, z: Weights) -> dict[str, jax.Array]:
        """Weights and hyperparameters at a position."""
        ...

    def position(self, weights: Weights) -> dict[str, jax.Array]:
        """Position of weights; hyperparameters that are missing stand at their centre."""
        ...

    def log_prior(self, z: Weights, weights: Weights) -> jax.Array:
        """Log density of the prior at a position, whose weights are known."""
        ...

    def log_units(self, z: Weights) -> dict[str, jax.Array]:
        """Log of what a weight changes by, per unit of its coordinate."""
        ...


class Prior:
    """A prior over all latents of a model; subclasses are pytrees.

    Attributes
    ----------
    labels : tuple or None
        Names of a stacked prior's parts; None for a single prior.
    coords : tuple of (str, tuple)
        Numbers or words that tell a stacked prior's parts apart, by name.
    loc, scale : mapping of str to array
        Mean and standard deviation of every number of every site, over all that the
        hyperparameters may be; an infinite scale is a flat prior, or one without a variance.
    sites : mapping of str to Site
        Hyperparameters: latents above the weights.
    fixed : bool
        True if `loc` and `scale` say all of it: every weight is normal, and nothing is learned.
    no_joint_mode : str
        Why weights and hyperparameters have no joint mode; empty where they have one.
    """

    labels: tuple[Any, ...] | None
    coords: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    fixed: ClassVar[bool] = False
    no_joint_mode: ClassVar[str] = ""

    if TYPE_CHECKING:  # fields of a dataclass or properties, whichever suits
        loc: Any
        scale: Any

    @property
    def sites(self) -> Mapping[str, Site]:
        """Hyperparameters: none by default."""
        return {}

    def hyperparameters(self, dtype: Any) -> dict[str, dist.Distribution]:
        """NumPyro's distributions of `sites`."""
        return {}

    def conditional(self, hyperparameters: Mapping[str, Any]) -> Conditional:
        """Prior of the weights, given the hyperparameters."""
        raise NotImplementedError

    def length_scale(self, sites: Mapping[str, Site]) -> dict[str, Any]:
        """Natural unit of every weight: methods count from the prior's centre in these units."""
        raise NotImplementedError

    def coordinates(self, sites: Mapping[str, Site], dtype: Any) -> Coordinates:
        """Coordinates for these sites of a model and the hyperparameters, in one precision."""
        raise NotImplementedError

    def singles(self) -> Sequence[Self]:
        """Single priors that a stacked one is made of; itself where it is not stacked."""
        return [self]

    def flat(self) -> list[str]:
        """Sites where the prior is flat, so that nothing can be drawn from it."""
        raise NotImplementedError

    def check(self, sites: Mapping[str, Site]) -> None:
        """Raise where the prior does not suit a model with these sites."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Describe, as JSON can hold it, what `loc` and `scale` do not tell; for a fit.

        Readers of fits look for

        - ``components``: a dict of the names of log prior terms that are scaled together;
        - ``learned_loc``: sites whose centre is learned;
        - ``own_scale``: sites whose numbers have a scale of their own each;
        - ``proper``: sites that are flat nowhere, whatever their scale.
        """
        return {}
