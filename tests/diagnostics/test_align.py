"""What relabelling does to a fit: to its single weights much, to all else nothing."""

import json

import arviz as az
import numpy as np
import pytest
import xarray as xr
from arviz_stats.base import array_stats

import shared_fits as fits
import weightprior as wp
from shared_fits import FRAME, LIKELIHOODS, REGRESSION, ROUNDING, drawn
from weightprior.fits.validate import validate

X = np.random.default_rng(0).normal(size=(8, 2))
NETWORKS = {
    "tanh": wp.mlp(2, hidden=(4,)),
    "relu": wp.mlp(2, hidden=(4,), activation="relu"),
    "two hidden layers": wp.mlp(2, hidden=(4, 3), activation=["tanh", "softplus"]),
    "two outputs": wp.mlp(2, hidden=(3,), num_outputs=2),
}
MODELS = {name: wp.BNN(network, wp.Gaussian()) for name, network in NETWORKS.items()}
TANH = MODELS["tanh"]
# Two classes of units, both of which may be mirrored; and units with centres of their own.
CLASSES = {"weight": 1.0, "bias": 1.0, "hidden_0.bias": np.array([1.0, 2.0, 1.0, 2.0])}
APART = {"weight": 0.0, "bias": 0.0, "hidden_0.bias": np.array([0.1, 0.2, 0.3, 0.4])}


def made(bnn, *weights, prior=None):
    shape = (8, 2) if bnn.network.num_outputs == 2 else (8,)
    y = np.random.default_rng(1).normal(size=shape)
    return fits.light_fit(bnn, X, y, *weights, prior=prior)


def near_one_point(bnn, seed=2):
    rng = np.random.default_rng(seed)
    lead = (fits.NUM_CHAINS, fits.NUM_DRAWS)
    return {
        name: rng.normal(size=site.shape) + 0.05 * rng.normal(size=(*lead, *site.shape))
        for name, site in bnn.sites.items()
    }


def labelled_by_chain(weights):
    """Draws of TANH with the units of every chain in another order, some of them mirrored."""
    new = {name: values.copy() for name, values in weights.items()}
    for chain in range(fits.NUM_CHAINS):
        order, sign = np.roll(np.arange(4), chain), np.where(np.arange(4) < chain, -1.0, 1.0)
        for name, axis in (("hidden_0.weight", 2), ("hidden_0.bias", 1), ("output.weight", 1)):
            turned = sign[:, None] if name == "output.weight" else sign
            new[name][chain] = weights[name][chain].take(order, axis) * turned
    return new


def assert_same_but_weights(aligned, fit):
    """All that does not depend on labels stays, and the fit is as good as any."""
    validate(aligned)
    assert aligned.attrs == fit.attrs
    assert set(aligned.children) == {*fit.children, "alignment"}
    for group in set(fit.children) - {"posterior"}:
        xr.testing.assert_identical(aligned[group].to_dataset(), fit[group].to_dataset())
    old, new = fit["posterior"].to_dataset(), aligned["posterior"].to_dataset()
    xr.testing.assert_identical(new.drop_vars(list(new.data_vars)), old.drop_vars(list(old)))
    for name in old:
        assert (new[name].dims, new[name].dtype) == (old[name].dims, old[name].dtype)
        if not str(name).startswith("hidden") and name != "output.weight":
            xr.testing.assert_identical(new[name], old[name])


def rhats(weights):
    return {
        name: array_stats.rhat(values, chain_axis=0, draw_axis=1)
        for name, values in weights.items()
    }


@pytest.mark.parametrize("name", MODELS)
def test_predictions_and_densities_do_not_change(name):
    bnn = MODELS[name]
    # The same prior for the units of a layer, but for none other.
    prior = wp.normal_prior(bnn, scale=wp.fan_in_scale(bnn), latents={"log_noise": (-0.5, 0.7)})
    weights = fits.random_weights(bnn, np.random.default_rng(3), (2, 100))
    fit = made(bnn, weights, prior=prior)
    aligned = wp.diagnostics.align(bnn, fit)
    assert_same_but_weights(aligned, fit)
    for layer in bnn.network.layers[:-1]:
        assert np.any(aligned["posterior"][f"{layer}.bias"] != fit["posterior"][f"{layer}.bias"])
    np.testing.assert_allclose(
        *(wp.predict(bnn, f, X + 1)["mean"] for f in (aligned, fit)), **ROUNDING
    )
    again = made(bnn, fits.sites(aligned), prior=prior)
    for group in ("sample_stats", "log_prior", "log_likelihood"):
        xr.testing.assert_allclose(
            again[group].to_dataset(), aligned[group].to_dataset(), **ROUNDING
        )


@pytest.mark.parametrize(
    "options", [{"scale": CLASSES}, {"loc": {"hidden_0": 0.3, "output": 0.0}}], ids=str
)
def test_densities_do_not_change_where_the_prior_has_less_symmetry(options):
    prior = wp.normal_prior(TANH, **{"scale": 1.0, **options})
    fit = made(TANH, fits.random_weights(TANH, np.random.default_rng(4), (2, 100)), prior=prior)
    aligned = wp.diagnostics.align(TANH, fit)
    assert np.any(aligned["posterior"]["hidden_0.bias"] != fit["posterior"]["hidden_0.bias"])
    again = made(TANH, fits.sites(aligned), prior=prior)
    for group in ("sample_stats", "log_prior", "log_likelihood"):
        xr.testing.assert_allclose(again[group].to_dataset(), fit[group].to_dataset(), **ROUNDING)


def test_chains_with_labels_of_their_own_come_together():
    weights = near_one_point(TANH)
    aligned = wp.diagnostics.align(TANH, made(TANH, labelled_by_chain(weights)))
    found = aligned["alignment"]
    assert found["when"].to_numpy().tolist() == ["before", "after"]
    for name in ("hidden_0.weight", "hidden_0.bias", "output.weight"):
        # Labels differ by chain, so every number of a unit has chains that are elsewhere.
        assert found[name].sel(when="before").min() > 1.5
        assert found[name].sel(when="after").max() < 1.05


def test_rhat_is_that_of_the_draws_before_and_after():
    given = labelled_by_chain(near_one_point(TANH))
    aligned = wp.diagnostics.align(TANH, made(TANH, given))
    expected = rhats(given), rhats(fits.sites(aligned))
    for name, site in TANH.sites.items():
        assert aligned["alignment"][name].dims == ("when", *site.dims)
        for when, numbers in zip(("before", "after"), expected, strict=True):
            np.testing.assert_allclose(
                aligned["alignment"][name].sel(when=when), numbers[name], **ROUNDING
            )


@pytest.mark.parametrize(
    ("options", "classes", "mirrorable"),
    [
        ({}, [0, 0, 0, 0], True),
        ({"loc": {"weight": 0.1, "bias": 0.0}}, [0, 0, 0, 0], False),
        ({"scale": CLASSES}, [0, 1, 0, 1], True),
        ({"loc": APART}, [0, 1, 2, 3], False),
    ],
    ids=["no centre", "one centre", "two scales", "four centres"],
)
def test_it_says_what_the_prior_allows(options, classes, mirrorable):
    fit = made(
        TANH, labelled_by_chain(near_one_point(TANH)), prior=wp.normal_prior(TANH, **options)
    )
    aligned = wp.diagnostics.align(TANH, fit)
    found = aligned["alignment"]
    assert found["classes.hidden_0"].dims == found["mirrorable.hidden_0"].dims == ("hidden_0",)
    assert found["classes.hidden_0"].to_numpy().tolist() == classes
    assert found["mirrorable.hidden_0"].to_numpy().tolist() == [mirrorable] * 4
    stays = aligned["posterior"].to_dataset().identical(fit["posterior"].to_dataset())
    assert stays == ("loc" in options and options["loc"] is APART)


def test_every_prior_by_itself():
    priors = {
        "none": wp.normal_prior(TANH),
        "apart": wp.normal_prior(TANH, loc=APART),
        "narrow": wp.normal_prior(TANH, scale=0.2),
    }
    draws = [labelled_by_chain(near_one_point(TANH, seed)) for seed in range(3)]
    stacked = made(TANH, *draws, prior=wp.stack_priors(priors))
    aligned = wp.diagnostics.align(TANH, stacked)
    assert_same_but_weights(aligned, stacked)
    assert aligned["alignment"]["hidden_0.bias"].dims == ("when", "prior", "hidden_0")
    assert aligned["alignment"]["classes.hidden_0"].dims == ("prior", "hidden_0")
    parts = wp.unstack_fit(stacked)
    for label, part in wp.unstack_fit(aligned).items():
        xr.testing.assert_identical(part, wp.diagnostics.align(TANH, parts[label]))
    xr.testing.assert_identical(
        wp.unstack_fit(aligned)["apart"]["posterior"].to_dataset(),
        parts["apart"]["posterior"].to_dataset(),
    )


@pytest.mark.parametrize("prior", ["single", "strings"])
@pytest.mark.parametrize("method", ["map", "hmc"])
def test_fits_of_every_layout(method, prior, tmp_path):
    fit = drawn(method, prior)
    kept = fit.copy(deep=True)
    aligned = wp.diagnostics.align(REGRESSION, fit)
    xr.testing.assert_identical(fit, kept)
    assert_same_but_weights(aligned, fit)
    if method == "map":
        xr.testing.assert_identical(
            aligned["posterior"].to_dataset(), fit["posterior"].to_dataset()
        )
        assert all(aligned["alignment"][name].isnull().all() for name in REGRESSION.sites)

    aligned.to_netcdf(tmp_path / "aligned.nc")
    back = az.from_netcdf(tmp_path / "aligned.nc").load()
    xr.testing.assert_identical(back, aligned)
    back.close()

    np.testing.assert_allclose(
        *(wp.predict(REGRESSION, f, FRAME)["mean"] for f in (aligned, fit)), **ROUNDING
    )
    if method == "hmc":
        assert len(az.summary(aligned)) == len(az.summary(fit))
        assert json.loads(aligned.attrs["options"])["num_samples"] == 150


def test_without_hidden_layers_nothing_moves():
    fit = fits.exact_fit()
    aligned = wp.diagnostics.align(fits.LINEAR, fit)
    assert_same_but_weights(aligned, fit)
    xr.testing.assert_identical(aligned["posterior"].to_dataset(), fit["posterior"].to_dataset())
    assert set(aligned["alignment"].data_vars) == set(fits.LINEAR.sites)


class TestWrongInput:
    def test_something_that_is_no_fit(self):
        with pytest.raises(TypeError, match="fit: expected the DataTree that a fit function"):
            wp.diagnostics.align(REGRESSION, drawn("hmc")["posterior"].to_dataset())

    def test_something_that_is_no_model(self):
        with pytest.raises(TypeError, match="bnn: expected a model"):
            wp.diagnostics.align(REGRESSION.network, drawn("hmc"))

    def test_a_fit_of_another_model(self):
        with pytest.raises(ValueError, match="fit: expected the sites and shapes of this model"):
            wp.diagnostics.align(LIKELIHOODS["bernoulli"], drawn("hmc"))

    def test_a_fit_without_its_prior(self):
        groups = {n: g for n, g in drawn("hmc").children.items() if n != "constant_data"}
        with pytest.raises(ValueError, match=r"fit: expected the groups .* 'constant_data'"):
            wp.diagnostics.align(REGRESSION, xr.DataTree.from_dict(groups))

    def test_draws_that_are_no_numbers(self):
        fit = drawn("hmc").copy(deep=True)
        fit["posterior"]["hidden_0.bias"][0, 0, 0] = np.nan
        with pytest.raises(ValueError, match=r"fit: expected finite numbers; got nan in posterior"):
            wp.diagnostics.align(REGRESSION, fit)
