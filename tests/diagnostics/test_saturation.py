"""How flat the activations of units are, where arithmetic says it."""

import jax.numpy as jnp
import numpy as np
import pytest

import shared_fits as fits
import units
import weightprior as wp
from shared_fits import FRAME, LINEAR, REGRESSION, TARGET, drawn, exact_fit, fitted
from units import MODELS, NETWORKS, ROUNDING, single

# Slopes of a tanh, and inputs where it has them.
SLOPES = np.array([1.0, 0.96, 0.5, 0.04, 0.01])
X = np.arctanh(np.sqrt(1 - SLOPES))[:, None]
# Rows are repeated until there are so many: shares stay what they are, and programs as well.
NUM_ROWS = 60


def unit(activation, weight=1.0, bias=0.0, x=X, **options):
    """What is found of a network of one unit."""
    x = np.tile(x, (NUM_ROWS // len(x), 1))
    bnn = wp.BNN(wp.mlp(1, hidden=(1,), activation=activation), wp.Gaussian(noise=1.0))
    sites = {"hidden_0__weight": weight, "hidden_0__bias": bias}
    fit = single(bnn, x, output__weight=1.0, output__bias=0.0, **sites)
    found = wp.diagnostics.saturation(bnn, fit, x, **options)
    names = ("saturated", "linear_regime", "slope")
    return [float(found[f"{name}.hidden_0"].squeeze()) for name in names]


@pytest.mark.parametrize(("activation", "weight"), [("tanh", 1.0), ("tanh", -1.0), ("sigmoid", 2)])
def test_shares_and_slopes_are_those_of_the_rows(activation, weight):
    # A sigmoid is half a tanh of half its input, and one half.
    assert unit(activation, weight) == pytest.approx([0.4, 0.4, SLOPES.mean()], rel=1e-12)


def test_limits_can_be_moved():
    assert unit("tanh", flat=0.02, steep=0.97)[:2] == pytest.approx([0.2, 0.2])
    assert unit("tanh", flat=0.6, steep=0.6)[:2] == pytest.approx([0.6, 0.4])


def test_the_default_limits_are_where_the_docstring_has_them():
    for activation, times in (("tanh", 1.0), ("sigmoid", 2.0)):
        near = times * np.array([[-2.19], [-2.17], [-0.229], [-0.227], [0.227], [2.19]])
        assert unit(activation, x=near)[:2] == pytest.approx([2 / 6, 2 / 6])


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_tiny_weights_are_linear_and_huge_ones_flat(activation):
    x = np.linspace(-1, 1, 10)[:, None]
    for scale in (1e-3, 1e-150):
        assert unit(activation, scale, x=x) == pytest.approx([0.0, 1.0, 1.0], abs=1e-6)
    for scale in (1e3, 1e150):
        assert unit(activation, scale, x=x) == pytest.approx([1.0, 0.0, 0.0], abs=1e-6)


def test_a_relu_is_flat_where_it_is_off():
    x = np.array([[-3.0], [-2.0], [-1.0], [1.0]])
    assert unit("relu", x=x) == pytest.approx([0.75, 0.25, 0.25])
    assert unit("identity", 5.0, x=x) == [0.0, 1.0, 1.0]


def test_slopes_that_fall_are_slopes():
    assert unit(jnp.cos, x=np.array([[0.0], [np.pi / 2]])) == pytest.approx([0.5, 0.5, 0.5])


def test_slopes_without_a_largest_are_not_judged():
    for activation in (jnp.square, jnp.exp, jnp.sign):
        assert np.isnan(unit(activation)).all()


def test_layers_have_the_mean_of_their_units():
    bnn = MODELS["two hidden layers"]
    weights, x, y = units.random(bnn)
    found = wp.diagnostics.saturation(bnn, fits.made_fit(bnn, x, y, weights), x)
    assert found["layer"].to_numpy().tolist() == ["hidden_0", "hidden_1"]
    pre = x @ weights["hidden_0.weight"] + weights["hidden_0.bias"][:, :, None]
    slope = 1 - np.tanh(pre) ** 2
    np.testing.assert_allclose(found["slope.hidden_0"], slope.mean(2), **ROUNDING)
    np.testing.assert_allclose(found["saturated.hidden_0"], (slope < 0.05).mean(2), **ROUNDING)
    upper = np.tanh(pre) @ weights["hidden_1.weight"] + weights["hidden_1.bias"][:, :, None]
    np.testing.assert_allclose(found["slope.hidden_1"], (upper > 0).mean(2), **ROUNDING)
    for name in ("saturated", "linear_regime", "slope"):
        for layer in ("hidden_0", "hidden_1"):
            np.testing.assert_allclose(
                found[f"{name}_by_layer"].sel(layer=layer),
                found[f"{name}.{layer}"].mean(layer),
                **ROUNDING,
            )


@pytest.mark.parametrize("name", NETWORKS)
def test_relabelling_shows_in_units_alone(name):
    bnn = MODELS[name]
    units.assert_relabelling_shows_in_units_alone(
        bnn, lambda fit, x, y: wp.diagnostics.saturation(bnn, fit, x)
    )


def test_stacked_is_its_parts():
    bnn = MODELS["tanh"]
    units.assert_stacked_is_its_parts(bnn, lambda fit, x, y: wp.diagnostics.saturation(bnn, fit, x))


def test_a_linearised_network_has_the_slopes_of_the_map():
    prior, at_map = fits.prior_of(REGRESSION, "strings"), drawn("map", "strings")
    posterior = at_map["posterior"].to_dataset().isel(chain=0, draw=0)
    modes = [
        {name: part[name].to_numpy() for name in REGRESSION.sites}
        for part in (posterior.sel(prior=label) for label in prior.labels)
    ]
    draws = [fits.random_weights(REGRESSION, np.random.default_rng(i), (1, 5)) for i in range(2)]
    fit = fits.made_fit(REGRESSION, FRAME, TARGET, *draws, prior=prior, linearised_at=modes)
    found, known = (
        wp.diagnostics.saturation(REGRESSION, f, FRAME)["slope.hidden_0"] for f in (fit, at_map)
    )
    assert found.sizes["draw"] == 5
    np.testing.assert_array_equal(found, found.isel(draw=[0] * 5))
    np.testing.assert_allclose(found.isel(draw=[0]), known, rtol=1e-6)


@pytest.mark.parametrize("prior", ["single", "strings"])
@pytest.mark.parametrize("method", ["point", pytest.param("hmc", marks=pytest.mark.slow)])
def test_every_fit_has_an_answer(method, prior):
    fit = drawn("map", prior) if method == "point" else fitted(method, prior)
    found = wp.diagnostics.saturation(REGRESSION, fit, FRAME)
    lead = ("chain", "draw") if prior == "single" else ("chain", "draw", "prior")
    for name, values in found.data_vars.items():
        assert ((values >= 0) & (values <= 1)).all(), name
        assert values.dims[:-1] == lead, name
    assert found.sizes["draw"] == fit["posterior"].sizes["draw"]
    assert wp.diagnostics.saturation(REGRESSION, fit, FRAME[:1]).sizes == found.sizes


class TestWrongInput:
    def test_no_hidden_layer(self):
        with pytest.raises(ValueError, match="bnn: expected a network with hidden layers; got a"):
            wp.diagnostics.saturation(LINEAR, exact_fit(), FRAME)

    def test_inputs_of_another_shape(self):
        with pytest.raises(ValueError, match="x: expected shape"):
            wp.diagnostics.saturation(REGRESSION, drawn("map"), FRAME.to_numpy()[:, :1])

    def test_columns_in_another_order(self):
        with pytest.raises(ValueError, match=r"x: expected the columns .* Reorder them"):
            wp.diagnostics.saturation(REGRESSION, drawn("map"), FRAME[["dose", "age"]])

    def test_inputs_that_are_no_numbers(self):
        with pytest.raises(ValueError, match="x: expected finite numbers"):
            wp.diagnostics.saturation(REGRESSION, drawn("map"), FRAME.where(FRAME > 0))

    def test_a_fit_of_another_model(self):
        with pytest.raises(ValueError, match="fit: expected the sites and shapes of this model"):
            wp.diagnostics.saturation(MODELS["tanh"], drawn("map"), FRAME)

    def test_something_that_is_no_fit(self):
        with pytest.raises(TypeError, match="fit: expected the DataTree"):
            wp.diagnostics.saturation(REGRESSION, None, FRAME)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"flat": 0.0}, "flat: expected a number above 0 and below 1; got 0"),
            ({"steep": 1.0}, "steep: expected a number above 0 and below 1; got 1"),
            ({"flat": 0.6, "steep": 0.5}, "steep: expected at least flat=0.6; got 0.5"),
        ],
    )
    def test_limits_that_are_none(self, options, message):
        with pytest.raises(ValueError, match=message):
            wp.diagnostics.saturation(REGRESSION, drawn("map"), FRAME, **options)
