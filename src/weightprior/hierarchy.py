"""Priors whose centre and width are learned: two latents above the weights of each group."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import constraints

from weightprior import _checks
from weightprior._weights import Site
from weightprior.priors import NormalPrior, normal_prior

__all__ = ["HierarchicalPrior", "hierarchical_prior", "is_local"]

_GROUPINGS = {
    "layer": lambda name, site: name.split(".")[0],
    "kind": lambda name, site: site.kind,
    "site": lambda name, site: name,
}
_ABOVE = ("center", "log_scale")
_SCALAR = Site((), (), None, "latent")


class Given(NamedTuple):
    """The prior of the weights once the latents above them are known.

    Attributes
    ----------
    loc, scale : dict of str to array
        Of sites in groups.
    base : NormalPrior
        Of all others.
    standardised : dict of str to numpyro.distributions.Distribution
        Where it is not normal.
    """

    loc: dict[str, Any]
    scale: dict[str, Any]
    base: NormalPrior
    standardised: dict[str, dist.Distribution]

    def distribution(self, name: str, dtype: Any) -> dist.Distribution:
        """NumPyro's distribution of one site."""
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
class HierarchicalPrior:
    """Priors around centres, and of widths, that are latent. Made by `hierarchical_prior`.

    Attributes
    ----------
    base : NormalPrior
        What centres and scales are counted in, and the prior of sites in no group.
    groups : dict of str to dict of str to Site
        Sites by group.
    center, log_scale : dict of str to (loc, scale)
        By group, the Gaussians of the latents; empty where they are not learned.
    standardised : dict of str to numpyro.distributions.Distribution
        Of sites whose standardised weights are not normal.
    labels : None
        Such priors are not stacked.
    """

    base: NormalPrior
    groups: dict[str, dict[str, Site]]
    center: dict[str, tuple[Any, Any]]
    log_scale: dict[str, tuple[Any, Any]]
    standardised: dict[str, dist.Distribution]
    labels: None = field(default=None, init=False)

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
        """Every latent above the weights."""
        return {name: site for name, (site, _) in self._latents().items()}

    @property
    def loc(self) -> dict[str, Any]:
        """Mean of every weight, over all that the latents may be."""
        return {name: loc for name, (loc, _) in self._moments().items()}

    @property
    def scale(self) -> dict[str, Any]:
        """Standard deviation of every weight, over all that the latents may be; inf for none."""
        return {name: scale for name, (_, scale) in self._moments().items()}

    def parts(self) -> list["HierarchicalPrior"]:
        """The prior itself, as the only one."""
        return [self]

    def flat(self) -> list[str]:
        """Sites where the prior is flat, so that nothing can be drawn from it."""
        return self.base.flat()

    def latents(self, dtype: Any) -> dict[str, dist.Distribution]:
        """NumPyro's distributions of `sites`."""
        cast = {
            name: jax.tree.map(lambda a: jnp.asarray(a, dtype), distribution)
            for name, (_, distribution) in self._latents().items()
        }
        return {
            name: distribution.expand(self.sites[name].shape).to_event(len(self.sites[name].shape))
            for name, distribution in cast.items()
        }

    def of_weights(self) -> dict[str, dist.Distribution]:
        """Distributions of standardised weights that are not normal, whatever the latents."""
        return {n: shape for n, shape in self.standardised.items() if not is_local(shape)}

    def given(self, latents: Mapping[str, Any]) -> Given:
        """The prior of the weights for these latents."""
        loc, scale = {}, {}
        for group, sites in self.groups.items():
            center = latents[f"center.{group}"] if group in self.center else 0.0
            width = jnp.exp(latents[f"log_scale.{group}"]) if group in self.log_scale else 1.0
            for name in sites:
                unit = self.base.scale[name]
                loc[name] = self.base.loc[name] + unit * center
                scale[name] = unit * width * latents.get(f"local_scale.{name}", 1.0)
        return Given(loc, scale, self.base, self.standardised)

    def describe(self) -> str:
        """All that the prior is, beside `base`, as JSON."""
        local = [name for name, shape in self.standardised.items() if is_local(shape)]
        return json.dumps(
            {
                "groups": {group: list(sites) for group, sites in self.groups.items()},
                **{kind: _numbers(getattr(self, kind)) for kind in _ABOVE},
                "standardised": {name: _words(shape) for name, shape in self.standardised.items()},
                "local": local,
            }
        )

    def _latents(self) -> dict[str, tuple[Site, dist.Distribution]]:
        found = {
            f"{kind}.{group}": (_SCALAR, dist.Normal(*getattr(self, kind)[group]))
            for group in self.groups
            for kind in _ABOVE
            if group in getattr(self, kind)
        }
        local = {
            f"local_scale.{name}": (site, self.standardised[name])
            for sites in self.groups.values()
            for name, site in sites.items()
            if name in self.standardised and is_local(self.standardised[name])
        }
        return found | local

    def _moments(self) -> dict[str, tuple[Any, Any]]:
        found = {name: (self.base.loc[name], self.base.scale[name]) for name in self.base.loc}
        for group, sites in self.groups.items():
            center, spread = self.center.get(group, (0.0, 0.0))
            log_width, log_spread = self.log_scale.get(group, (0.0, 0.0))
            mean_square_width = np.exp(2 * log_width + 2 * log_spread**2)
            for name in sites:
                mean, mean_square = _two_moments(self.standardised.get(name))
                width = np.exp(log_width + log_spread**2 / 2)
                variance = spread**2 + mean_square_width * mean_square - (width * mean) ** 2
                loc, unit = found[name]
                found[name] = loc + unit * (center + width * mean), unit * np.sqrt(variance)
        return found


def is_local(shape: dist.Distribution) -> bool:
    """Whether a distribution is one of local scales, and not of weights."""
    return shape.support is constraints.positive


def hierarchical_prior(
    bnn,
    groups: Any = "layer",
    *,
    center: tuple[float, float] | None = (0.0, 1.0),
    log_scale: tuple[float, float] | None = (0.0, 1.0),
    base: NormalPrior | None = None,
    standardised: Mapping[str, dist.Distribution] | None = None,
) -> HierarchicalPrior:
    """Let the data say where the prior should sit, and how wide it should be.

    Every group of sites has two latents above its weights, a centre and the log of a scale, both
    Gaussian::

        weight = base.loc + base.scale * (center + exp(log_scale) * standardised)

    with standard normal `standardised` weights, or others. For `fit_mcmc`, `fit_vi` and
    `fit_tempered`.

    Parameters
    ----------
    bnn : BNN
        The model.
    groups : {"layer", "kind", "site"}, or dict of str to list of str
        What shares a centre and a scale. A dict has, by name of a group, its sites, layers or
        kinds, none of them in two groups; what it leaves out keeps its prior in `base`.
    center, log_scale : (float, float) or None
        Mean and standard deviation of the latents of each group, in units of `base`. None: not
        learned, but at 0.
    base : NormalPrior, optional
        The prior that centres and scales are counted from, such as
        ``normal_prior(bnn, scale=fan_in_scale(bnn))``; `normal_prior`'s default otherwise. The
        noise always keeps it.
    standardised : dict of str to numpyro.distributions.Distribution, optional
        By site in a group, the distribution of its standardised weights: one on the real line, such
        as ``Laplace(0, 1)`` or ``StudentT(3, 0, 1)``; or one of positive numbers, which are local
        scales, of a standard normal each: ``HalfCauchy(1)`` makes the horseshoe.

    Returns
    -------
    HierarchicalPrior
        Its latents stand in a fit's `posterior` as ``center.<group>``, ``log_scale.<group>`` and
        ``local_scale.<site>``.

    Raises
    ------
    TypeError, ValueError
        For groups that are empty, unknown or overlap, a flat `base` below a group, a distribution
        of a batch, or of a part of the real line other than the positive.

    Notes
    -----
    The mode of weights and their scale together is degenerate: n weights at their centre have a
    density that grows by the n-th power as their scale falls, whatever the data say. So `fit_map`
    refuses these priors.

    References
    ----------
    R. M. Neal, Bayesian Learning for Neural Networks, 1996. :doi:`10.1007/978-1-4612-0745-0`

    O. Papaspiliopoulos, G. O. Roberts and M. Sköld, A general framework for the parametrization of
    hierarchical models, 2007. :doi:`10.1214/088342307000000014`

    C. M. Carvalho, N. G. Polson and J. G. Scott, The horseshoe estimator for sparse signals, 2010.
    :doi:`10.1093/biomet/asq017`

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=(5,)), wp.Gaussian(noise=0.3))
    >>> x = np.linspace(-1, 1, 30)[:, None]
    >>> prior = wp.hierarchical_prior(bnn, "layer")
    >>> drawn = wp.prior_predictive(bnn, x, prior=prior)["prior"]
    >>> drawn["log_scale.hidden_0"].dims
    ('chain', 'draw')
    """
    _checks.model(bnn)
    base = normal_prior(bnn) if base is None else base
    bnn.check_prior(base, stacked=False)
    sites = _resolve(bnn, groups)
    for group, members in sites.items():
        for name in members:
            if np.any(np.isinf(base.scale[name])):
                raise ValueError(
                    f"base: expected finite scales where they are learned; got inf at {name!r} of "
                    f"the group {group!r}. Leave it out of the groups, or give it a scale."
                )
    shapes = dict(standardised or {})
    grouped = [name for members in sites.values() for name in members]
    _checks.known_names("standardised", shapes, grouped)
    for name, shape in shapes.items():
        _check_shape(name, shape)
    return HierarchicalPrior(
        base, sites, _each("center", center, sites), _each("log_scale", log_scale, sites), shapes
    )


def _resolve(bnn, groups: Any) -> dict[str, dict[str, Site]]:
    """Sites by group, in the model's order."""
    sites = bnn.network.sites
    if isinstance(groups, str):
        _checks.one_of("groups", groups, _GROUPINGS)
        chosen: dict[str, list[str]] = {}
        for name, site in sites.items():
            chosen.setdefault(_GROUPINGS[groups](name, site), []).append(name)
    elif isinstance(groups, Mapping) and groups:
        chosen = {str(group): _members(sites, group, names) for group, names in groups.items()}
    else:
        raise TypeError(
            "groups: expected 'layer', 'kind', 'site', or a dict of group to sites, not empty; "
            f"got {groups!r}."
        )
    owner: dict[str, str] = {}
    for group, names in chosen.items():
        for name in names:
            if owner.setdefault(name, group) != group:
                raise ValueError(
                    f"groups: expected every site in one group at most; got {name!r} in "
                    f"{owner[name]!r} and {group!r}."
                )
    return {
        group: {n: s for n, s in sites.items() if n in names} for group, names in chosen.items()
    }


def _members(sites: Mapping[str, Site], group: Any, names: Any) -> list[str]:
    """Sites that a user named, by site, layer or kind."""
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise ValueError(f"groups[{group!r}]: expected sites, layers or kinds; got none.")
    keys = {name: (name, name.split(".")[0], site.kind) for name, site in sites.items()}
    known = dict.fromkeys(key for all_keys in keys.values() for key in all_keys)
    _checks.known_names(f"groups[{group!r}]", names, known)
    return [name for name, all_keys in keys.items() if set(all_keys) & set(names)]


def _each(
    argument: str, value: Any, groups: Mapping[str, Any]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The Gaussian of a latent, for every group."""
    if value is None:
        return {}
    if np.shape(value) != (2,):
        raise ValueError(f"{argument}: expected (mean, standard deviation); got {value!r}.")
    loc = _checks.finite(argument, _checks.numbers(argument, value[0]))
    scale = _checks.number(f"{argument}[1]", value[1], above=0)
    return {group: (np.asarray(loc, float), np.asarray(scale)) for group in groups}


def _check_shape(name: str, shape: Any) -> None:
    if not isinstance(shape, dist.Distribution):
        raise TypeError(
            f"standardised[{name!r}]: expected a distribution of NumPyro's; got {shape!r}."
        )
    if shape.batch_shape or shape.event_shape:
        raise ValueError(
            f"standardised[{name!r}]: expected a distribution of one number; got one of shape "
            f"{shape.batch_shape + shape.event_shape}."
        )
    if shape.support not in (constraints.real, constraints.positive):
        raise ValueError(
            f"standardised[{name!r}]: expected a distribution on the real line, or of positive "
            f"numbers for local scales; got {_words(shape)} on {shape.support}."
        )


def _two_moments(shape: dist.Distribution | None) -> tuple[Any, Any]:
    """Mean and mean square of a standardised weight; inf where there is none."""
    if shape is None:
        return 0.0, 1.0
    try:
        mean, variance = float(shape.mean), float(shape.variance)
    except ZeroDivisionError:  # NumPyro's, for some that have none
        return 0.0, np.inf
    if not np.isfinite(variance):
        return 0.0, np.inf
    return 0.0 if is_local(shape) else mean, variance + mean**2


def _numbers(latent: Mapping[str, tuple[Any, Any]]) -> dict[str, list[float]]:
    return {group: [float(number) for number in pair] for group, pair in latent.items()}


def _words(shape: dist.Distribution) -> str:
    numbers = [f"{name}={float(getattr(shape, name)):g}" for name in shape.arg_constraints]
    return f"{type(shape).__name__}({', '.join(numbers)})"
