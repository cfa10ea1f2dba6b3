"""Priors: one Gaussian per weight, each with a centre and a scale of its own.

A prior is a pytree of numbers and nothing else, so that changing it never compiles anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from weightprior import _checks
from weightprior._distributions import NormalOrFlat
from weightprior._weights import Site
from weightprior.adapters import posterior_means

__all__ = [
    "NormalPrior",
    "fan_in_scale",
    "normal_prior",
    "stack_priors",
]


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True)
class NormalPrior:
    """Independent Gaussians over all latents. Made by `normal_prior` and `stack_priors`.

    Attributes
    ----------
    loc, scale : dict of str to array
        Centre and standard deviation of every number of every site, of the site's shape; a
        stacked prior has one more axis, the first. An infinite scale is a flat prior.
    labels : tuple or None
        Names of a stacked prior's parts; None where it is a single prior.
    """

    loc: dict[str, Any]
    scale: dict[str, Any]
    labels: tuple[Any, ...] | None = field(default=None)

    def tree_flatten(self):
        """Split into traced numbers and structure."""
        return (self.loc, self.scale), self.labels

    @classmethod
    def tree_unflatten(cls, labels, children):
        """Rebuild from traced numbers and structure."""
        loc, scale = children
        return cls(loc, scale, labels)

    def distribution(self, name: str, dtype: Any) -> dist.Distribution:
        """NumPyro's distribution of one site."""
        loc = jnp.asarray(self.loc[name], dtype)
        return NormalOrFlat(loc, jnp.asarray(self.scale[name], dtype)).to_event(loc.ndim)

    @property
    def sites(self) -> dict[str, Site]:
        """Latents above the weights: none."""
        return {}

    def latents(self, dtype: Any) -> dict[str, dist.Distribution]:
        """NumPyro's distributions of `sites`."""
        return {}

    def given(self, latents: Mapping[str, Any]) -> "NormalPrior":
        """The prior of the weights for these latents: itself."""
        return self

    def flat(self) -> list[str]:
        """Sites where the prior is flat, so that nothing can be drawn from it."""
        return [name for name, scale in self.scale.items() if np.any(np.isinf(scale))]

    def parts(self) -> list["NormalPrior"]:
        """The single priors that a stacked one is made of; itself where it is not stacked."""
        if self.labels is None:
            return [self]
        return [
            NormalPrior(
                {name: values[i] for name, values in self.loc.items()},
                {name: values[i] for name, values in self.scale.items()},
            )
            for i in range(len(self.labels))
        ]

    def __getitem__(self, label: Any) -> "NormalPrior":
        """Return the part of a stacked prior with this label."""
        if self.labels is None:
            raise ValueError(
                f"prior[{label!r}]: expected a stacked prior; got a single one, without labels."
            )
        _checks.known_names("label", [label], self.labels)
        return self.parts()[self.labels.index(label)]


def normal_prior(
    bnn,
    loc: Any = 0.0,
    scale: Any = 1.0,
    *,
    log_noise: tuple[float, float] = (-1.0, 1.0),
) -> NormalPrior:
    """Put a Gaussian on every latent: the prior whose MAP is L2 regularisation.

    Parameters
    ----------
    bnn : BNN
        The model whose sites are covered.
    loc : float, dict, or DataTree
        Centre. A number; a dict by site (``"hidden_0.weight"``), layer (``"hidden_0"``) or kind
        (``"weight"``, ``"bias"``), the most specific of which wins; a value is a number or, for a
        site, an array of its shape. A fit stands for the posterior mean of every site, the noise
        included. A dict has to cover every weight and bias.
    scale : float or dict
        Standard deviation, in the same forms. ``inf`` is a flat prior.
    log_noise : (float, float)
        Centre and scale of the log of the noise, in log units of y, where the likelihood learns
        it and no dict names it; otherwise not used.

    Returns
    -------
    NormalPrior

    Raises
    ------
    ValueError
        For an unknown or uncovered site, a wrong shape, a scale that is not positive, NaN.

    Examples
    --------
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(3, hidden=(4,)), wp.Gaussian(noise=1.0))
    >>> prior = wp.normal_prior(bnn, scale={"weight": 0.5, "output": 0.2, "bias": float("inf")})
    >>> float(prior.scale["output.weight"][0, 0])
    0.2
    """
    _checks.model(bnn)
    if np.shape(log_noise) != (2,):
        raise ValueError(f"log_noise: expected (centre, scale); got {log_noise!r}.")
    fit_means = posterior_means("loc", loc)
    loc = resolve("loc", loc if fit_means is None else fit_means, bnn.sites, log_noise[0])
    scale = resolve("scale", scale, bnn.sites, log_noise[1])
    for name, values in loc.items():
        _checks.finite(f"loc[{name!r}]", values)
    for name, values in scale.items():
        check_scale(name, values)
    return NormalPrior(loc, scale)


def check_scale(name: str, values: np.ndarray) -> None:
    """Raise where a scale is not positive; inf is allowed."""
    bad = values[~(values > 0)]
    if bad.size:
        raise ValueError(
            f"scale[{name!r}]: expected positive numbers (inf for a flat prior); "
            f"got {bad.flat[0]:g}."
        )


def resolve(
    argument: str, value: Any, sites: dict[str, Site], log_noise: float = 0.0
) -> dict[str, np.ndarray]:
    """Give every site an array of its own from any of the forms a user may write."""
    if not isinstance(value, Mapping):
        value = {"weight": value, "bias": value}
        if np.ndim(value["weight"]) > 0:
            raise TypeError(
                f"{argument}: expected a number or a dict of arrays by site; got an array, which "
                f"does not say which site it is for. The sites are {_checks.several(sites)}."
            )
    layers = dict.fromkeys(name.split(".")[0] for name in sites if "." in name)
    _checks.known_names(argument, value, [*sites, *layers, "weight", "bias"])
    value = {"log_noise": log_noise, **value}
    resolved, missing = {}, []
    for name, site in sites.items():
        keys = (name, name.split(".")[0], site.kind)
        key = next((key for key in keys if key in value), None)
        if key is None:
            missing.append(name)
        else:
            resolved[name] = _site_array(f"{argument}[{key!r}]", value[key], site, key == name)
    if missing:
        raise ValueError(
            f"{argument}: expected a value for every site; got none for {_checks.several(missing)}."
            f" Name the site, its layer ({_checks.several(layers)}) or its kind ('weight', 'bias')."
        )
    return resolved


def _site_array(argument: str, value: Any, site: Site, is_site: bool) -> np.ndarray:
    array = _checks.numbers(argument, value)
    if array.ndim and not (is_site and array.shape == site.shape):
        expected = f"a number or an array of shape {site.shape}" if is_site else "a number"
        raise ValueError(f"{argument}: expected {expected}; got shape {array.shape}.")
    if np.any(np.isnan(array)):
        raise ValueError(f"{argument}: expected numbers; got NaN.")
    return np.array(np.broadcast_to(array, site.shape))


def fan_in_scale(bnn, gain: float = 1.0) -> dict[str, float]:
    """Scales that keep a layer's inputs at the same size, however wide the layer below is.

    Parameters
    ----------
    bnn : BNN
        The model.
    gain : float
        Scale of a unit's whole input. Positive.

    Returns
    -------
    dict of str to float
        By site: ``gain / sqrt(fan_in)`` for weights, `gain` for biases. For `normal_prior`'s
        `scale`.

    References
    ----------
    R. M. Neal, Bayesian Learning for Neural Networks, 1996. :doi:`10.1007/978-1-4612-0745-0`

    Examples
    --------
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(4, hidden=(16,)), wp.Bernoulli())
    >>> wp.fan_in_scale(bnn)["output.weight"]
    0.25
    """
    _checks.model(bnn)
    gain = _checks.number("gain", gain, above=0)
    return {
        name: gain / np.sqrt(site.fan_in).item() if site.kind == "weight" else gain
        for name, site in bnn.network.sites.items()
    }


def stack_priors(priors: Mapping[Any, NormalPrior]) -> NormalPrior:
    """Lay several priors of one model side by side; a fit of the stack is a sweep.

    Parameters
    ----------
    priors : mapping of label to NormalPrior
        At least one. The labels (all strings or all numbers) become the coordinate `prior` of
        the fit. A grid is labelled by strings such as ``"0.5, 0.1"``.

    Returns
    -------
    NormalPrior
        With one more axis in front of every array.

    Examples
    --------
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(2, hidden=()), wp.Gaussian())
    >>> path = wp.stack_priors({s: wp.normal_prior(bnn, scale=s) for s in (0.1, 1.0)})
    >>> path.labels
    (0.1, 1.0)
    """
    if not isinstance(priors, Mapping) or not priors:
        raise TypeError(f"priors: expected a dict of label to prior, not empty; got {priors!r}.")
    labels, parts = tuple(priors), list(priors.values())
    if not any(all(isinstance(lab, kind) for lab in labels) for kind in (str, Real)):
        raise TypeError(
            f"priors: expected labels that are all strings or all numbers; got {labels}."
        )
    for label, part in priors.items():
        if not isinstance(part, NormalPrior) or part.labels is not None:
            raise TypeError(f"priors[{label!r}]: expected a single NormalPrior; got {part!r}.")
        shapes = {name: np.shape(values) for name, values in part.loc.items()}
        first = {name: np.shape(values) for name, values in parts[0].loc.items()}
        if shapes != first:
            raise ValueError(
                f"priors[{label!r}]: expected the sites and shapes of the first prior, {first}; "
                f"got {shapes}. Stack priors of one model only."
            )
    # Not by jax.tree.map, which would sort the sites.
    return NormalPrior(
        {name: np.stack([part.loc[name] for part in parts]) for name in parts[0].loc},
        {name: np.stack([part.scale[name] for part in parts]) for name in parts[0].loc},
        labels,
    )
