"""Priors with a learned centre and width, and the coordinates in which they are sampled."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from weightprior.model.priors._shapes import describe_distribution, is_local, two_moments
from weightprior.model.priors.base import Prior
from weightprior.model.priors.normal import NormalPrior
from weightprior.model.sites import Site, Weights

__all__ = ["HierarchicalPrior"]

_LEARNED = ("center", "log_scale")


class GivenHyperparameters(NamedTuple):
    """The prior of the weights given the hyperparameters.

    Attributes
    ----------
    loc, scale : dict of str to array
        Centre and scale of sites in groups.
    base : NormalPrior
        Prior of all others.
    standardised : dict of str to numpyro.distributions.Distribution
        Distribution of standardised weights, if it is not normal.
    """

    loc: dict[str, Any]
    scale: dict[str, Any]
    base: NormalPrior
    standardised: dict[str, dist.Distribution]

    def distribution(self, name: str, dtype: Any) -> dist.Distribution:
        """Return NumPyro's distribution of one site."""
        if name not in self.loc:
            return self.base.distribution(name, dtype)
        loc, scale = (jnp.asarray(part[name], dtype) for part in (self.loc, self.scale))
        loc = jnp.broadcast_to(loc, scale.shape)
        shape = self.standardised.get(name)
        if shape is None or is_local(shape):
            return dist.Normal(loc, scale).to_event(loc.ndim)
        affine = dist.transforms.AffineTransform(loc, scale)
        return dist.TransformedDistribution(shape.expand(loc.shape), affine).to_event(loc.ndim)


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True)
class HierarchicalPrior(Prior):
    """Priors with latent centres and widths. Made by `hierarchical_prior`.

    Attributes
    ----------
    base : NormalPrior
        Units of centres and scales, and the prior of sites in no group.
    groups : dict of str to dict of str to Site
        Sites by group.
    center, log_scale : dict of str to (loc, scale)
        By group, the Gaussians of the latents; empty if they are not learned.
    standardised : dict of str to numpyro.distributions.Distribution
        Distribution of sites with standardised weights that are not normal.
    """

    base: NormalPrior
    groups: dict[str, dict[str, Site]]
    center: dict[str, tuple[Any, Any]]
    log_scale: dict[str, tuple[Any, Any]]
    standardised: dict[str, dist.Distribution]
    labels: tuple[Any, ...] | None = field(default=None, init=False)
    no_joint_mode: ClassVar[str] = (
        "The mode of weights and their scale together is degenerate: all weights at their centre "
        "and next to no scale, whatever the data say. Sample it with fit_mcmc, or choose among "
        "fixed centres and scales by their evidence: fit_tempered with a stacked prior."
    )

    def tree_flatten(self):
        """Split into traced numbers and structure."""
        structure = tuple((group, tuple(sites.items())) for group, sites in self.groups.items())
        return (self.base, self.center, self.log_scale, self.standardised), structure

    @classmethod
    def tree_unflatten(cls, structure, children):
        """Rebuild from traced numbers and structure."""
        base, center, log_scale, standardised = children
        groups = {group: dict(sites) for group, sites in structure}
        return cls(base, groups, center, log_scale, standardised)

    @property
    def sites(self) -> dict[str, Site]:
        """Hyperparameters: every latent above the weights."""
        return {name: site for name, (site, _) in self._hyperparameters().items()}

    @property
    def loc(self) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Mean of every weight, over all values of the latents."""
        return {name: loc for name, (loc, _) in self._moments().items()}

    @property
    def scale(self) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Standard deviation of every weight, over all values of the latents; inf if none."""
        return {name: scale for name, (_, scale) in self._moments().items()}

    def flat(self) -> list[str]:
        """Return the sites with a flat prior, from which nothing can be drawn."""
        return self.base.flat()

    def hyperparameters(self, dtype: Any) -> dict[str, dist.Distribution]:
        """Return NumPyro's distributions of `sites`."""
        cast = {
            name: (site.shape, jax.tree.map(lambda a: jnp.asarray(a, dtype), law))
            for name, (site, law) in self._hyperparameters().items()
        }
        return {n: law.expand(shape).to_event(len(shape)) for n, (shape, law) in cast.items()}

    def check(self, sites: Mapping[str, Site]) -> None:
        """Raise if the prior does not suit a model with these sites."""
        self.base.check(sites)

    def length_scale(self, sites: Mapping[str, Site]) -> dict[str, Any]:
        """Return the natural unit of every weight: that of `base`."""
        return self.base.length_scale(sites)

    def coordinates(self, sites: Mapping[str, Site], dtype: Any) -> "HierarchicalCoordinates":
        """Return coordinates of the hyperparameters, and of the weights given these."""
        return HierarchicalCoordinates(self, sites, self.length_scale(sites), dtype)

    def of_weights(self) -> dict[str, dist.Distribution]:
        """Return the distributions of standardised weights that are not normal for any latents."""
        return {n: shape for n, shape in self.standardised.items() if not is_local(shape)}

    def conditional(self, hyperparameters: Mapping[str, Any]) -> GivenHyperparameters:
        """Return the prior of the weights, given the hyperparameters."""
        loc, scale = {}, {}
        for group, sites in self.groups.items():
            center = hyperparameters[f"center.{group}"] if group in self.center else 0.0
            width = (
                jnp.exp(hyperparameters[f"log_scale.{group}"]) if group in self.log_scale else 1.0
            )
            for name in sites:
                unit = self.base.scale[name]
                loc[name] = self.base.loc[name] + unit * center
                scale[name] = unit * width * hyperparameters.get(f"local_scale.{name}", 1.0)
        return GivenHyperparameters(loc, scale, self.base, self.standardised)

    def describe(self) -> dict[str, Any]:
        """Describe, in a form for JSON, all that is not in `loc` and `scale`; for a fit."""
        local = [name for name, shape in self.standardised.items() if is_local(shape)]
        return {
            "groups": {group: list(sites) for group, sites in self.groups.items()},
            **{kind: _numbers(getattr(self, kind)) for kind in _LEARNED},
            "standardised": {
                name: describe_distribution(shape) for name, shape in self.standardised.items()
            },
            "components": self._components(local),
            "learned_loc": [name for group in self.center for name in self.groups[group]],
            "own_scale": local,
            "proper": [name for sites in self.groups.values() for name in sites],
        }

    def _components(self, local: list[str]) -> dict[str, list[str]]:
        """Return terms of the log prior that are scaled together: hyperparameters, by group.

        The prior of the weights below them is not scaled.
        """
        learned = {group for group in self.groups if group in {**self.center, **self.log_scale}}
        below = {name for group in learned for name in self.groups[group]} | {*local}
        found: dict[str, list[str]] = {}
        for name in self.base.loc:
            if name not in below:
                found.setdefault(name.partition(".")[0], []).append(name)
        for name, site in self.sites.items():
            found.setdefault(site.layer, []).append(name)
        return found

    def _hyperparameters(self) -> dict[str, tuple[Site, dist.Distribution]]:
        found = {
            f"{kind}.{group}": (
                Site((), (), None, "latent", group),
                dist.Normal(*getattr(self, kind)[group]),
            )
            for group in self.groups
            for kind in _LEARNED
            if group in getattr(self, kind)
        }
        local = {
            f"local_scale.{name}": (replace(site, kind="latent", layer=name), law)
            for sites in self.groups.values()
            for name, site in sites.items()
            if (law := self.standardised.get(name)) and is_local(law)
        }
        return found | local

    def _moments(self) -> dict[str, tuple[Any, Any]]:
        found = {name: (self.base.loc[name], self.base.scale[name]) for name in self.base.loc}
        for group, sites in self.groups.items():
            center, spread = self.center.get(group, (0.0, 0.0))
            log_width, log_spread = self.log_scale.get(group, (0.0, 0.0))
            with np.errstate(over="ignore"):  # inf: no variance in double precision
                width = np.exp(log_width + log_spread**2 / 2)
                mean_square_width = np.exp(2 * log_width + 2 * log_spread**2)
            for name in sites:
                mean, mean_square = two_moments(self.standardised.get(name))
                shift = width * mean if mean else 0.0  # 0 whatever the width
                sd, square = np.inf, mean_square_width * mean_square
                if np.isfinite(square):
                    sd = np.sqrt(spread**2 + square - shift**2)
                loc, unit = found[name]
                found[name] = loc + unit * (center + shift), unit * sd
        return found


class HierarchicalCoordinates(NamedTuple):
    """Coordinates of the hyperparameters, and of the weights given these.

    The coordinate of a weight is its standardised part, from which the hyperparameters make the
    weight. So every coordinate is of order one, however narrow the weights are, and a step that
    suits some scales suits all.
    """

    prior: HierarchicalPrior
    model_sites: Mapping[str, Site]
    unit: Mapping[str, Any]
    dtype: Any

    @property
    def sites(self) -> dict[str, Site]:
        """Hyperparameters and weights."""
        return {**self.prior.sites, **self.model_sites}

    def weights(self, z: Weights) -> dict[str, jax.Array]:
        """Return the hyperparameters and weights at a position."""
        above = self.prior.hyperparameters(self.dtype).items()
        found = {
            name: law.loc + law.scale * z[name] if _is_normal(law) else jnp.exp(z[name])
            for name, law in above
        }
        loc, unit = self._lengths(found)
        return found | {name: loc[name] + unit[name] * z[name] for name in self.model_sites}

    def position(self, weights: Weights) -> dict[str, jax.Array]:
        """Return the position of weights and hyperparameters; missing ones are at 0."""
        z = {name: jnp.zeros(site.shape, self.dtype) for name, site in self.sites.items()}
        for name, law in self.prior.hyperparameters(self.dtype).items():
            if name in weights:
                value = weights[name]
                z[name] = (value - law.loc) / law.scale if _is_normal(law) else jnp.log(value)
        loc, unit = self._lengths(self.weights(z))
        return z | {name: (weights[name] - loc[name]) / unit[name] for name in self.model_sites}

    def log_prior(self, z: Weights, weights: Weights) -> jax.Array:
        """Compute the log density of a position."""
        log_prior = jnp.zeros((), self.dtype)
        for name, law in self.prior.hyperparameters(self.dtype).items():
            if _is_normal(law):
                log_prior += _standard_normal(z[name])
            else:
                log_prior += law.log_prob(jnp.exp(z[name])) + z[name].sum()
        grouped = {name for sites in self.prior.groups.values() for name in sites}
        shapes = self.prior.of_weights()
        for name in self.model_sites:
            if name in shapes:
                log_prior += shapes[name].log_prob(z[name]).sum()
            elif name in grouped:
                log_prior += _standard_normal(z[name])
            else:
                flat = jnp.isinf(self.prior.base.scale[name])
                log_prior += _standard_normal(jnp.where(flat, 0.0, z[name]))
        return log_prior

    def log_units(self, z: Weights) -> dict[str, jax.Array]:
        """Compute the log of each number's change per unit of its coordinate."""
        found = {
            name: jnp.log(law.scale) if _is_normal(law) else z[name]
            for name, law in self.prior.hyperparameters(self.dtype).items()
        }
        _, unit = self._lengths(self.weights(z))
        return found | {n: jnp.broadcast_to(jnp.log(unit[n]), z[n].shape) for n in self.model_sites}

    def _lengths(self, found: Weights) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """Return the origin and unit of every weight's coordinate."""
        given = self.prior.conditional(found)
        return {**self.prior.base.loc, **given.loc}, {**self.unit, **given.scale}


def _is_normal(law: dist.Distribution) -> bool:
    return not law.event_shape and isinstance(law, dist.Normal)


def _standard_normal(z: jax.Array) -> jax.Array:
    return -0.5 * jnp.square(z).sum()


def _numbers(latent: Mapping[str, tuple[Any, Any]]) -> dict[str, list[float]]:
    return {group: [float(number) for number in pair] for group, pair in latent.items()}
