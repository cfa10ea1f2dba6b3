"""The base of priors: the members of a family of priors."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import jax
import numpyro.distributions as dist

from weightprior.model.sites import Site, Weights

__all__ = ["Conditional", "Coordinates", "Prior"]


class Conditional(Protocol):
    """The prior of the weights, once its hyperparameters are known."""

    def distribution(self, name: str, dtype: Any) -> dist.Distribution:
        """Return NumPyro's distribution of one site."""
        ...


class Coordinates(Protocol):
    """Coordinates in which every number is of order one, whatever the prior.

    Attributes
    ----------
    sites : dict of str to Site
        All sites in a position: weights, and hyperparameters of the prior.
    """

    @property
    def sites(self) -> Mapping[str, Site]:
        """All sites in a position."""
        ...

    def weights(self, z: Weights) -> dict[str, jax.Array]:
        """Return the weights and hyperparameters at a position."""
        ...

    def position(self, weights: Weights) -> dict[str, jax.Array]:
        """Return the position of weights; missing hyperparameters are at their centre."""
        ...

    def log_prior(self, z: Weights, weights: Weights) -> jax.Array:
        """Compute the log density of the prior at a position, given its weights."""
        ...

    def log_units(self, z: Weights) -> dict[str, jax.Array]:
        """Compute the log of each weight's change per unit of its coordinate."""
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
        Mean and standard deviation of every number of every site, over all values of the
        hyperparameters; an infinite scale is a flat prior, or one without a variance.
    sites : mapping of str to Site
        Hyperparameters: latents above the weights.
    fixed : bool
        True if `loc` and `scale` describe it fully: every weight is normal, and nothing is learned.
    no_joint_mode : str
        Reason why weights and hyperparameters have no joint mode; empty if they have one.
    """

    labels: tuple[Any, ...] | None
    coords: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    fixed: ClassVar[bool] = False
    no_joint_mode: ClassVar[str] = ""

    if TYPE_CHECKING:  # fields of a dataclass, or properties
        loc: Any
        scale: Any

    @property
    def sites(self) -> Mapping[str, Site]:
        """Hyperparameters: none by default."""
        return {}

    def hyperparameters(self, dtype: Any) -> dict[str, dist.Distribution]:
        """Return NumPyro's distributions of `sites`."""
        return {}

    def conditional(self, hyperparameters: Mapping[str, Any]) -> Conditional:
        """Return the prior of the weights, given the hyperparameters."""
        raise NotImplementedError

    def length_scale(self, sites: Mapping[str, Site]) -> dict[str, Any]:
        """Return every weight's natural unit, in which methods count from the prior's centre."""
        raise NotImplementedError

    def coordinates(self, sites: Mapping[str, Site], dtype: Any) -> Coordinates:
        """Return coordinates for these sites and the hyperparameters, in one precision."""
        raise NotImplementedError

    def singles(self) -> Sequence[Self]:
        """Return the single priors of a stacked one; itself if it is not stacked."""
        return [self]

    def flat(self) -> list[str]:
        """Return the sites with a flat prior, from which nothing can be drawn."""
        raise NotImplementedError

    def check(self, sites: Mapping[str, Site]) -> None:
        """Raise if the prior does not suit a model with these sites."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Describe, in a form for JSON, all that is not in `loc` and `scale`; for a fit.

        Readers of fits look for

        - ``components``: a dict of the names of log prior terms that are scaled together;
        - ``learned_loc``: sites with a learned centre;
        - ``own_scale``: sites with a separate scale for each number;
        - ``proper``: sites that are not flat anywhere, whatever their scale.
        """
        return {}
