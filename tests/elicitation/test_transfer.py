"""A posterior as a prior: exact in the linear case, aligned, and refused where modes differ."""

import numpy as np
import pytest

import oracle
import weightprior as wp
from problems import LINEAR, NET, exact, fit
from shared_fits import made_fit


def draws(num_chains, num_draws, loc, scale, seed=0):
    """A fit of the network whose weights are normal around a centre per chain."""
    rng = np.random.default_rng(seed)
    weights = {
        name: np.stack([c[name] for c in loc])[:, None]
        + scale * rng.normal(size=(num_chains, num_draws, *site.shape))
        for name, site in NET.bnn.sites.items()
    }
    return made_fit(*NET, weights, prior=NET.prior())


def centre(seed):
    rng = np.random.default_rng(seed)
    return {name: 3.0 * rng.normal(size=site.shape) for name, site in NET.bnn.sites.items()}


def exchanged(weights):
    """The same function, two hidden units exchanged."""
    order = np.arange(weights["hidden_0.bias"].size)
    order[:2] = 1, 0
    return weights | {
        "hidden_0.weight": weights["hidden_0.weight"][:, order],
        "hidden_0.bias": weights["hidden_0.bias"][order],
        "output.weight": weights["output.weight"][order],
    }


def test_of_a_linear_model_it_has_the_closed_forms_moments():
    found = wp.posterior_as_prior(LINEAR.bnn, fit("hmc", LINEAR, LINEAR.prior()), widen=2.0)
    posterior = exact(LINEAR.prior())
    flat = [
        oracle.from_sites({n: v[None, None] for n, v in part.items()})[0, 0]
        for part in (found.loc, found.scale)
    ]
    # 4,000 draws, effectively at least a thousand of them: errors of mean and sd.
    np.testing.assert_allclose(flat[0], posterior.mean, atol=5 * posterior.sd.max() / np.sqrt(1000))
    np.testing.assert_allclose(flat[1], 2.0 * posterior.sd, rtol=5 / np.sqrt(2 * 1000))


def test_relabelled_units_do_not_wash_out():
    given = centre(0)
    found = wp.posterior_as_prior(NET.bnn, draws(2, 200, [given, exchanged(given)], 0.1))
    for name, scale in found.scale.items():
        np.testing.assert_allclose(scale, 0.1, rtol=5 / np.sqrt(2 * 400))
        either = [np.abs(found.loc[name] - c[name]).max() for c in (given, exchanged(given))]
        assert min(either) < 0.05


def test_chains_in_different_modes_are_refused():
    apart = draws(3, 100, [centre(0), centre(0), centre(1)], 0.1)
    with pytest.raises(ValueError, match="fit: expected chains that share a mode"):
        wp.posterior_as_prior(NET.bnn, apart)


@pytest.mark.parametrize(("shift", "refused"), [(1.5, False), (2.6, True)])
def test_how_far_apart_chains_may_be(shift, refused):
    """Two chains, of which one is shifted in one weight by so many sds."""
    moved = centre(0)
    moved["output.weight"] = moved["output.weight"] + 0.1 * shift * (np.arange(3) == 1)[:, None]
    fit = draws(2, 2000, [centre(0), moved], 0.1)
    if refused:
        with pytest.raises(
            ValueError, match=r"fit: expected chains that share a mode.*output\.weight"
        ):
            wp.posterior_as_prior(NET.bnn, fit)
    else:
        wp.posterior_as_prior(NET.bnn, fit)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda: fit("map", NET, NET.prior()), {}, "fit: expected at least 20 draws.*loc=fit"),
        (lambda: fit("map", LINEAR, LINEAR.prior()), {}, "fit: expected the sites"),
        (lambda: draws(1, 30, [centre(0)], 0.1), {"widen": 0.0}, "widen: expected"),
        (
            lambda: fit("map", NET, wp.stack_priors({"a": NET.prior()})),
            {},
            "fit: expected the fit of a single prior",
        ),
    ],
    ids=["map", "another model", "widen", "stacked"],
)
def test_what_it_cannot_be_made_of(make, options, message):
    with pytest.raises(ValueError, match=message):
        wp.posterior_as_prior(NET.bnn, make(), **options)
