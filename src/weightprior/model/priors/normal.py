"""The normal prior: one Gaussian per weight, each with its own centre and scale.

A prior is a pytree of numbers only, so that changing it never compiles anything.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from numbers import Real
from operator import add
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from weightprior import _arrays, _checks
from weightprior.model._distributions import NormalOrFlat
from weightprior.model.priors.base import Prior
from weightprior.model.sites import Site, Weights

__all__ = ["NormalPrior", "check_scale", "checked_coords", "checked_labels", "stack_priors"]

# Dims of fits.
_AXES = ("prior", "chain", "draw", "obs_id", "output", "feature", "column", "restart")


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True)
class NormalPrior(Prior):
    """Independent Gaussians over all latents. Made by `normal_prior` and `stack_priors`.

    Attributes
    ----------
    loc, scale : dict of str to array
        Centre and standard deviation of every number of every site, of the site's shape; a
        stacked prior has one more axis, the first. An infinite scale is a flat prior.
    labels : tuple or None
        Names of a stacked prior's parts; None if it is a single prior.
    coords : tuple of (str, tuple)
        Numbers or words that tell a stacked prior's parts apart, by name.
    """

    loc: dict[str, Any]
    scale: dict[str, Any]
    labels: tuple[Any, ...] | None = field(default=None)
    coords: tuple[tuple[str, tuple[Any, ...]], ...] = field(default=())
    fixed: ClassVar[bool] = True

    def tree_flatten(self):
        """Split into traced numbers and structure."""
        return (self.loc, self.scale), (self.labels, self.coords)

    @classmethod
    def tree_unflatten(cls, names, children):
        """Rebuild from traced numbers and structure."""
        return cls(*children, *names)

    def distribution(self, name: str, dtype: Any) -> dist.Distribution:
        """Return NumPyro's distribution of one site."""
        loc = jnp.asarray(self.loc[name], dtype)
        return NormalOrFlat(loc, jnp.asarray(self.scale[name], dtype)).to_event(loc.ndim)

    def conditional(self, hyperparameters: Mapping[str, Any]) -> "NormalPrior":
        """Return the prior of the weights: itself, since there are no hyperparameters."""
        return self

    def length_scale(self, sites: Mapping[str, Site]) -> dict[str, Any]:
        """Return every weight's natural unit, in which methods count from the prior's centre.

        It is the prior's scale or, if that is flat, one over the root of the fan-in (1 for biases
        and for latents).
        """
        return {
            name: jnp.where(
                jnp.isinf(self.scale[name]),
                site.fan_in**-0.5 if site.kind == "weight" and site.fan_in else 1.0,
                self.scale[name],
            )
            for name, site in sites.items()
        }

    def coordinates(self, sites: Mapping[str, Site], dtype: Any) -> "NormalCoordinates":
        """Return coordinates relative to the centre, in units of the length scale."""
        unit = self.length_scale(sites)
        proper = {name: jnp.isfinite(jnp.asarray(self.scale[name])) for name in sites}
        terms = (
            jnp.where(proper[n], jnp.log(unit[n]) + math.log(2 * math.pi) / 2, 0.0).sum()
            for n in sites
        )
        return NormalCoordinates(
            self, sites, unit, ravel_pytree(proper)[0], -jnp.asarray(reduce(add, terms), dtype)
        )

    def flat(self) -> list[str]:
        """Return the sites with a flat prior, from which nothing can be drawn."""
        return [name for name, scale in self.scale.items() if np.any(np.isinf(scale))]

    def singles(self) -> Sequence["NormalPrior"]:
        """Return the single priors of a stacked one; itself if it is not stacked."""
        if self.labels is None:
            return [self]
        return [
            NormalPrior(
                {name: values[i] for name, values in self.loc.items()},
                {name: values[i] for name, values in self.scale.items()},
            )
            for i in range(len(self.labels))
        ]

    def check(self, sites: Mapping[str, Site]) -> None:
        """Raise if the prior does not suit a model with these sites."""
        lead = () if self.labels is None else (len(self.labels),)
        expected = {name: (*lead, *site.shape) for name, site in sites.items()}
        for part, values in (("loc", self.loc), ("scale", self.scale)):
            shapes = {name: np.shape(array) for name, array in values.items()}
            if shapes != expected:
                raise ValueError(
                    f"prior.{part}: expected the sites and shapes {expected}; got {shapes}. "
                    "Was it made for another model? normal_prior(bnn) makes one for this."
                )
            if any(isinstance(array, Tracer) for array in values.values()):
                continue  # numbers are not read in traced code
            for name, array in values.items():
                _check_numbers(part, name, np.asarray(array))

    def __getitem__(self, label: Any) -> "NormalPrior":
        """Return the part of a stacked prior with this label."""
        if self.labels is None:
            raise ValueError(
                f"prior[{label!r}]: expected a stacked prior; got a single one, without labels."
            )
        _checks.known_names("label", [label], self.labels)
        return self.singles()[self.labels.index(label)]


class NormalCoordinates(NamedTuple):
    """Coordinates relative to the centre of a prior, in units of the length scale."""

    prior: NormalPrior
    sites: Mapping[str, Site]
    unit: Mapping[str, Any]
    # For every number of a position in sequence: False if its prior is flat.
    proper: jax.Array
    # Log density at the centre.
    log_density_at_center: jax.Array

    def weights(self, z: Weights) -> dict[str, jax.Array]:
        """Return the weights at a position."""
        return {name: self.prior.loc[name] + self.unit[name] * z[name] for name in z}

    def position(self, weights: Weights) -> dict[str, jax.Array]:
        """Return the position of weights."""
        return {n: (weights[n] - self.prior.loc[n]) / self.unit[n] for n in self.sites}

    def log_prior(self, z: Weights, weights: Weights) -> jax.Array:
        """Compute the log density of the weights at a position."""
        # All at once, with constants computed before: this is part of every gradient.
        vector = ravel_pytree(z)[0]
        counted = jnp.where(self.proper, vector, jnp.zeros_like(vector))
        return self.log_density_at_center - jnp.vdot(counted, counted) / 2

    def log_units(self, z: Weights) -> dict[str, jax.Array]:
        """Return the log of the length scale."""
        return {name: jnp.log(self.unit[name]) + jnp.zeros_like(z[name]) for name in self.sites}


def stack_priors(
    priors: Mapping[Any, NormalPrior] | Sequence[NormalPrior],
    *,
    coords: Mapping[str, Any] | None = None,
) -> NormalPrior:
    """Stack several priors of one model; a fit of the stack is a sweep.

    Parameters
    ----------
    priors : mapping of label to NormalPrior, or sequence of NormalPrior
        At least one. The labels (all strings or all numbers) become the coordinate `prior` of
        the fit; those of a sequence are counted from 0.
    coords : mapping of str to sequence of shape (priors,), optional
        Numbers or words that tell the priors apart, such as the scale and the centre of each in a
        grid. They become further coordinates along `prior`, in fits and in results computed from
        these.

    Returns
    -------
    NormalPrior
        A prior with one more axis in front of every array.

    Examples
    --------
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(2, hidden=()), wp.Gaussian())
    >>> path = wp.stack_priors({s: wp.normal_prior(bnn, scale=s) for s in (0.1, 1.0)})
    >>> path.labels
    (0.1, 1.0)
    >>> cells = [(c, s) for c in (0.0, 2.0) for s in (0.1, 1.0)]
    >>> grid = wp.stack_priors(
    ...     [wp.normal_prior(bnn, c, s) for c, s in cells],
    ...     coords={"loc": [c for c, _ in cells], "scale": [s for _, s in cells]},
    ... )
    >>> grid.labels
    (0, 1, 2, 3)
    """
    if isinstance(priors, list | tuple):
        priors = dict(enumerate(priors))
    if not isinstance(priors, Mapping) or not priors:
        raise TypeError(
            f"priors: expected a dict of label to prior, or a list, not empty; got {priors!r}."
        )
    labels, parts = checked_labels("priors", priors), list(priors.values())
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
    # Not by jax.tree.map, since that would sort the sites.
    return NormalPrior(
        {name: np.stack([part.loc[name] for part in parts]) for name in parts[0].loc},
        {name: np.stack([part.scale[name] for part in parts]) for name in parts[0].loc},
        labels,
        checked_coords(coords or {}, parts[0].loc, len(parts)),
    )


def checked_labels(argument: str, labels: Iterable[Any]) -> tuple[Any, ...]:
    """Return the labels of a stack, or raise if they are not of one kind."""
    found = tuple(labels)
    if not any(all(isinstance(label, kind) for label in found) for kind in (str, Real)):
        raise TypeError(
            f"{argument}: expected labels that are all strings or all numbers; got {found}."
        )
    return found


def checked_coords(
    coords: Mapping[str, Any], sites: Collection[str], number: int
) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """Return coordinates along the priors, made hashable, or raise if they cannot be used."""
    found = []
    for name, values in coords.items():
        array = np.asarray(values)
        if not isinstance(name, str) or name in _AXES or name in sites:
            raise ValueError(
                f"coords: expected a name of its own; got {name!r}, which a fit has already. "
                "Choose another."
            )
        if array.shape != (number,) or array.dtype.kind not in "biufUT":
            raise ValueError(
                f"coords[{name!r}]: expected a number or a word for each of the {number} priors; "
                f"got shape {array.shape} of dtype {array.dtype}."
            )
        found.append((name, tuple(array.tolist())))
    return tuple(found)


def check_scale(name: str, values: np.ndarray) -> None:
    """Raise if a scale is not positive; inf is allowed."""
    bad = values[~(values > 0)]
    if bad.size:
        raise ValueError(
            f"scale[{name!r}]: expected positive numbers (inf for a flat prior); "
            f"got {bad.flat[0]:g}."
        )


def _check_numbers(part: str, name: str, array: np.ndarray) -> None:
    if part == "scale":
        check_scale(name, array)
    else:
        _arrays.finite(f"loc[{name!r}]", array)
