"""Names and axes of a model's sites: each stands for one thing, in the model and in its fits."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import weightprior as wp
from shared_fits import REGRESSION, drawn, point_fit

LINE = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))


@dataclass(frozen=True)
class Likelihood(wp.Likelihood):
    """A normal one, whose latents are given by name."""

    told: Any
    static: ClassVar = ("told",)

    def latents(self, num_outputs):
        return dict(self.told)

    def distribution(self, output, weights):
        return dist.Normal(output[:, 0], 1.0)


def network(**sites):
    """A network with these sites."""
    members = {"sites": sites, "num_outputs": 1, "feature_names": ("a", "b")}
    return type(
        "Named", (), {**members, "apply": lambda self, weights, x: jnp.zeros((len(x), 1))}
    )()


def site(shape=(), dims=(), kind="weight", layer="first"):
    return wp.Site(shape, dims, 1, kind, layer)


@pytest.mark.parametrize(
    ("latents", "name"),
    [
        ({"only": wp.Latent()}, "only"),  # a site
        ({"first": wp.Latent()}, "first"),  # a layer
        ({"weight": wp.Latent()}, "weight"),  # a kind
    ],
)
def test_a_latent_has_no_name_of_the_networks(latents, name):
    with pytest.raises(ValueError, match=rf"^likelihood: expected latents with .*got '{name}'"):
        wp.BNN(network(only=site()), Likelihood(tuple(latents.items())))


@pytest.mark.parametrize("name", ["y", "chain", "draw", "prior", "obs_id", "feature", "output"])
@pytest.mark.parametrize("where", ["site", "latent", "derived"])
def test_nothing_has_the_name_of_an_axis_or_of_the_targets(name, where):
    latents = {"site": {}, "latent": {name: wp.Latent()}, "derived": {"l": wp.Latent(derived=name)}}
    sites = {name: site()} if where == "site" else {"only": site()}
    with pytest.raises(ValueError, match=rf"^sites: expected names.*got '{name}', which is that"):
        wp.BNN(network(**sites), Likelihood(tuple(latents[where].items())))


def test_an_axis_of_the_networks_own_is_no_name_of_a_latent():
    own = network(only=site((2,), ("wave",)))
    with pytest.raises(ValueError, match=r"^sites: .*got 'wave', which is that of an axis"):
        wp.BNN(own, Likelihood((("wave", wp.Latent()),)))


@pytest.mark.parametrize("derived", ["only", "one", "width"])
def test_a_value_on_the_natural_scale_has_a_name_of_its_own(derived):
    latents = (("one", wp.Latent(derived="width")), ("two", wp.Latent(derived=derived)))
    with pytest.raises(ValueError, match=rf"^sites: .*got '{derived}', which is taken by a site"):
        wp.BNN(network(only=site()), Likelihood(latents))


@pytest.mark.parametrize(
    ("shape", "dims", "message"),
    [
        ((2, 3), ("a",), r"expected a name for every axis of \(2, 3\)"),
        ((), ("a",), r"expected a name for every axis of \(\)"),
        ((2, 2), ("a", "a"), "each its own"),
        ((2,), ("chain",), "expected axes of other names"),
        ((3,), ("feature",), "expected the axis 'feature' to have the size 2.*got 3"),
        ((2,), ("output",), "expected the axis 'output' to have the size 1.*got 2"),
        ((4,), ("unit",), "expected the axis 'unit' to have the size 5.*got 4"),
    ],
)
def test_an_axis_has_one_name_and_one_size(shape, dims, message):
    own = network(first=site((5,), ("unit",)), second=site(shape, dims))
    with pytest.raises((ValueError, TypeError), match=rf"^sites\['second'\]: .*{message}"):
        wp.BNN(own, wp.Gaussian(noise=1.0))


def test_a_site_is_described_by_a_site():
    with pytest.raises(TypeError, match=r"^sites\['only'\]: expected a weightprior\.Site; got \("):
        wp.BNN(network(only=(2, 3)), wp.Gaussian(noise=1.0))


def test_an_axis_is_called_like_nothing_in_fits_and_results():
    """An axis has coordinates of its own name, which would clash with a variable."""
    fits = [drawn(method) for method in ("map", "hmc")]
    x, y = np.linspace(-1, 1, 6)[:, None], np.linspace(0, 1, 6)
    prior = wp.stack_priors({s: wp.normal_prior(LINE, scale=s) for s in (0.5, 1.0)})
    found = [
        *(group.dataset for fit in fits for group in fit.subtree if group.name != "chain_state"),
        wp.cross_validate(LINE, x, y, prior=prior, fit=point_fit, num_folds=2),
        wp.predict(LINE, point_fit(LINE, x, y, prior=prior), x),
    ]
    own = {*REGRESSION.sites, *LINE.sites, "noise"}
    sizes = {dim for bnn in (REGRESSION, LINE) for s in bnn.sites.values() for dim in s.dims}
    names = {str(name) for result in found for name in (*result.variables, *result.dims)}
    names = {n for n in names - own - sizes if not n.startswith(("prior_", "log_prior", "key_"))}
    for name in sorted(names):
        with pytest.raises(ValueError, match=r"^sites\['only'\]: expected (axes|the axis)"):
            wp.BNN(network(only=site((7,), (name,))), wp.Gaussian(noise=1.0))
