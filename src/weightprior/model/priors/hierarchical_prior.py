"""`hierarchical_prior`: priors with a centre and a width that are learned from the data."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import constraints

from weightprior import _arrays, _checks
from weightprior._checks.options import names_its_options
from weightprior.model.priors._shapes import describe_distribution
from weightprior.model.priors.hierarchical import HierarchicalPrior
from weightprior.model.priors.normal import NormalPrior
from weightprior.model.priors.normal_prior import normal_prior
from weightprior.model.sites import Site

__all__ = ["hierarchical_prior"]

_GROUPINGS = {
    "layer": lambda name, site: site.layer,
    "kind": lambda name, site: site.kind,
    "site": lambda name, site: name,
}


@names_its_options
def hierarchical_prior(
    bnn,
    groups: Any = "layer",
    *,
    center: tuple[float, float] | None = (0.0, 1.0),
    log_scale: tuple[float, float] | None = (0.0, 1.0),
    base: NormalPrior | None = None,
    standardised: Mapping[str, dist.Distribution] | None = None,
) -> HierarchicalPrior:
    """Make a prior with a centre and a width that are learned from the data.

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
        Sites that share a centre and a scale. A dict has, by name of a group, its sites, layers or
        kinds, none of them in two groups. Sites that are left out keep their prior in `base`.
    center, log_scale : (float, float) or None
        Mean and standard deviation of the latents of each group, in units of `base`. None: fixed at
        0, not learned.
    base : NormalPrior, optional
        The prior relative to which centres and scales are counted, such as
        ``normal_prior(bnn, scale=fan_in_scale(bnn))``; by default ``normal_prior(bnn)``, with
        gains around 1. The noise always keeps it.
    standardised : dict of str to numpyro.distributions.Distribution, optional
        By site in a group, the distribution of its standardised weights: one on the real line, such
        as ``Laplace(0, 1)`` or ``StudentT(3, 0, 1)``; or one on the positive numbers for local
        scales, each of a standard normal: ``HalfCauchy(1)`` gives the horseshoe.

    Returns
    -------
    HierarchicalPrior
        A fit's `posterior` holds its latents as ``center.<group>``, ``log_scale.<group>`` and
        ``local_scale.<site>``.

    Raises
    ------
    TypeError, ValueError
        If groups are empty, unknown or overlap, if `base` is flat below a group, or if a
        distribution is of a batch, or on a part of the real line other than the positive.

    Notes
    -----
    The mode of weights and their scale together is degenerate: the density of n weights at their
    centre grows with the n-th power of one over their scale, whatever the data say. So `fit_map`
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
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=0.3))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> prior = wp.hierarchical_prior(bnn, "kind")
    >>> drawn = wp.prior_predictive(bnn, x, prior=prior)["prior"]
    >>> drawn["log_scale.weight"].dims
    ('chain', 'draw')
    """
    _checks.model(bnn)
    if base is None:
        base = normal_prior(bnn, {name: site.neutral for name, site in bnn.network.sites.items()})
    _checks.prior(bnn, base, stacked=False, argument="base")
    sites = _resolve(bnn, groups)
    for group, members in sites.items():
        for name in members:
            if np.any(np.isinf(base.scale[name])):
                raise ValueError(
                    f"base: expected finite scales if they are learned; got inf at {name!r} of "
                    f"the group {group!r}. Leave it out of the groups, or give it a scale."
                )
    if standardised is not None and not isinstance(standardised, Mapping):
        raise TypeError(
            "standardised: expected a dict of distributions by site; got "
            f"{standardised!r}. For all sites write one in a dict for each."
        )
    shapes = dict(standardised or {})
    grouped = [name for members in sites.values() for name in members]
    _checks.known_names("standardised", shapes, grouped)
    for name, shape in shapes.items():
        _check_shape(name, shape)
    prior = HierarchicalPrior(
        base, sites, _each("center", center, sites), _each("log_scale", log_scale, sites), shapes
    )
    for name, loc in prior.loc.items():
        if not np.all(np.isfinite(loc)):
            raise ValueError(
                f"log_scale: expected widths with a mean in double precision; got {log_scale}, for "
                f"which the mean of {name!r} is not finite. Lower its standard deviation."
            )
    return prior


def _resolve(bnn, groups: Any) -> dict[str, dict[str, Site]]:
    """Return sites by group, in the model's order."""
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
    """Return the sites that a user named, by site, layer or kind."""
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, Iterable):
        raise TypeError(
            f"groups[{group!r}]: expected a list of sites, layers or kinds; got {names!r}."
        )
    names = list(names)
    if not names:
        raise ValueError(f"groups[{group!r}]: expected sites, layers or kinds; got none.")
    keys = {name: (name, site.layer, site.kind) for name, site in sites.items()}
    known = dict.fromkeys(key for all_keys in keys.values() for key in all_keys)
    _checks.known_names(f"groups[{group!r}]", names, known)
    return [name for name, all_keys in keys.items() if set(all_keys) & set(names)]


def _each(
    argument: str, value: Any, groups: Mapping[str, Any]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the Gaussian of a latent, for every group."""
    if value is None:
        return {}
    if _checks.shape(value) != (2,):
        raise ValueError(f"{argument}: expected (mean, standard deviation); got {value!r}.")
    loc = _arrays.finite(argument, value[0])
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
            f"numbers for local scales; got {describe_distribution(shape)} on {shape.support}."
        )
