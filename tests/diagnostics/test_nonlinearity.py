"""How far networks are from linear, and where their kinks lie, where arithmetic says it."""

from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import shared_fits as fits
import units
import weightprior as wp
from shared_fits import FRAME, LINEAR, REGRESSION, TARGET, drawn, exact_fit, fitted
from units import MODELS, NETWORKS, ROUNDING, single
from weightprior.fits import results

LINE = np.linspace(-1, 1, 21)[:, None]
# Densities of the fits that `units` makes by numpy, which nothing here reads.
by_numpy = patch.object(results, "evaluate", fits.densities)


def model(activation, hidden=1, num_features=1, num_outputs=1):
    network = wp.mlp(num_features, (hidden,), num_outputs, activation)
    return wp.BNN(network, wp.Gaussian(noise=1.0))


def densities_as_of_tanh(function, bnn, *arguments):
    """Densities that nothing here reads, by numpy, where few activations are known."""
    return fits.densities(function, model("tanh", *bnn.network.hidden), *arguments)


def of_units(activation, weights, biases, outgoing=None, x=LINE):
    """What is found of a network of one input, by the weights of its units."""
    bnn = model(activation, len(weights))
    out = np.ones(len(weights)) if outgoing is None else outgoing
    sites = {"hidden_0__weight": weights, "hidden_0__bias": biases}
    with patch.object(results, "evaluate", densities_as_of_tanh):
        fit = single(bnn, x, output__weight=out, output__bias=0.5, **sites)
    return wp.diagnostics.nonlinearity(bnn, fit, x).squeeze(["chain", "draw", "layer", "output"])


def test_a_linear_function_is_linear_and_as_steep_as_its_matrix():
    bnn = model("identity", 4, 3, 2)
    weights, x, y = units.random(bnn)
    found = wp.diagnostics.nonlinearity(bnn, fits.light_fit(bnn, x, y, weights), x)
    matrix = weights["hidden_0.weight"] @ weights["output.weight"]
    norm = np.linalg.norm(matrix, ord=2, axis=(2, 3))
    for name in ("lipschitz", "mean_jacobian_norm"):
        np.testing.assert_allclose(found[name], norm, **ROUNDING)
    for name in ("nonlinear", "nonlinear.hidden_0", "nonlinear_by_layer"):
        np.testing.assert_allclose(found[name], 0.0, atol=1e-25)


def test_without_hidden_layers_the_outputs_remain():
    found = wp.diagnostics.nonlinearity(LINEAR, exact_fit(), FRAME)
    assert set(found) == {"nonlinear", "lipschitz", "mean_jacobian_norm"}
    np.testing.assert_allclose(found["nonlinear"], 0.0, atol=1e-25)
    weights = exact_fit()["posterior"]["output.weight"]
    np.testing.assert_allclose(found["lipschitz"], np.sqrt((weights**2).sum(["feature", "output"])))


@pytest.mark.parametrize("bias", [0.0, 0.7])
def test_a_parabola(bias):
    # Of (x + b)^2, around zero, x^2 is what no line explains, and 2bx what one does.
    # The second unit is constant, and has no variance to be explained.
    found = of_units(jnp.square, [1.0, 0.0], [bias, 0.3], [3.0, 1.0])
    curved, straight = np.var(LINE**2), 4 * bias**2 * np.var(LINE)
    of_unit, of_constant = found["nonlinear.hidden_0"].to_numpy()
    assert np.isnan(of_constant)
    for share in (float(found["nonlinear"]), of_unit, float(found["nonlinear_by_layer"])):
        assert share == pytest.approx(curved / (curved + straight), rel=1e-12)
    assert float(found["lipschitz"]) == pytest.approx(6 * (1 + bias), rel=1e-12)
    assert float(found["mean_jacobian_norm"]) == pytest.approx(
        6 * np.abs(LINE + bias).mean(), rel=1e-12
    )


def test_of_a_layer_it_is_of_all_its_variance():
    found = of_units(jnp.square, [1.0, 1.0], [0.0, 2.0])
    curved, straight = np.var(LINE**2), 16 * np.var(LINE)
    assert float(found["nonlinear_by_layer"]) == pytest.approx(
        2 * curved / (2 * curved + straight), rel=1e-12
    )


def test_small_weights_make_a_tanh_linear():
    found = [of_units("tanh", [w], [0.0])["nonlinear"] for w in (1e-3, 0.1, 1.0, 100.0)]
    assert np.all(np.diff(found) > 0)
    # tanh(wx) = wx - (wx)^3 / 3: what is left over is at most w^4 / 9 of the variance.
    assert found[0] < 1e-12 / 9
    # The step that remains of a huge one: sign(x), with a nought in the middle.
    step = np.sign(LINE[:, 0])
    share = 1 - np.corrcoef(step, LINE[:, 0])[0, 1] ** 2
    assert float(found[-1]) == pytest.approx(share, rel=1e-3)


def test_kinks_of_relus_lie_where_they_were_put():
    cases = {
        "kink_inside": [(1.0, 0.0), (-1.0, 0.0), (1.0, 0.9), (1e-9, 0.5e-9), (1e9, 0.0)],
        "dead": [(1.0, -2.0), (1.0, -1.0), (0.0, -1.0), (0.0, 0.0), (-1.0, -1e9)],
        "always_active": [(1.0, 2.0), (1.0, 1.0), (-1.0, 1.0), (0.0, 1.0)],
    }
    weights, biases = np.array([unit for of in cases.values() for unit in of]).T
    found = of_units("relu", weights, biases)
    states = np.repeat(list(cases), [len(of) for of in cases.values()])
    for state, of in cases.items():
        assert found[f"{state}.hidden_0"].to_numpy().tolist() == (states == state).tolist()
        assert float(found[f"{state}_by_layer"]) == pytest.approx(len(of) / len(states))
    nonlinear = found["nonlinear.hidden_0"].to_numpy()
    still = (weights == 0) | (states == "dead")
    np.testing.assert_array_equal(np.isnan(nonlinear), still)
    np.testing.assert_allclose(nonlinear[(states == "always_active") & ~still], 0.0, atol=1e-25)
    assert np.all(nonlinear[states == "kink_inside"] > 1e-3)


def test_the_steepest_row_of_a_broken_line():
    # Slopes -1, then 2 - 1 above -0.45, then 2 + 4 - 1 above 0.45: 6, 9 and 6 of 21 rows.
    # And units that lead nowhere, as many as where kinks were put: the same program.
    nowhere = [0.0] * 11
    weights, biases = [1, 1, -1, *nowhere], [0.45, -0.45, 5.0, *nowhere]
    found = of_units("relu", weights, biases, [2.0, 4.0, 1.0, *nowhere])
    assert float(found["lipschitz"]) == pytest.approx(5.0)
    assert float(found["mean_jacobian_norm"]) == pytest.approx((6 * 1 + 9 * 1 + 6 * 5) / 21)


def test_other_activations_with_kinks():
    leaky = of_units(jax.nn.leaky_relu, [1.0, 1.0, 1.0], [0.0, -2.0, 2.0])
    assert leaky["kink_inside.hidden_0"].to_numpy().tolist() == [1, 0, 0]
    assert leaky["always_active.hidden_0"].to_numpy().tolist() == [0, 1, 1]
    hard = of_units(jax.nn.hard_tanh, [1.0, 1.0, 1.0, 3.0, 0.9], [3.0, -3.0, 1.0, 0.0, 0.0])
    assert hard["kink_inside.hidden_0"].to_numpy().tolist() == [0, 0, 1, 1, 0]
    assert hard["dead.hidden_0"].to_numpy().tolist() == [1, 1, 0, 0, 0]


def test_smooth_units_have_no_kink_to_look_for():
    found = of_units("tanh", [1.0], [0.0])
    for state in ("kink_inside", "dead", "always_active"):
        assert np.isnan(found[f"{state}.hidden_0"]).all()
        assert np.isnan(found[f"{state}_by_layer"]).all()


def test_the_jacobian_is_that_of_the_formula():
    bnn = MODELS["two hidden layers"]
    weights, x, y = units.random(bnn)
    found = wp.diagnostics.nonlinearity(bnn, fits.light_fit(bnn, x, y, weights), x)
    first = np.tanh(x @ weights["hidden_0.weight"] + weights["hidden_0.bias"][:, :, None])
    second = first @ weights["hidden_1.weight"] + weights["hidden_1.bias"][:, :, None]
    jacobian = (
        (weights["hidden_0.weight"][:, :, None] * (1 - first**2)[..., None, :])
        @ (weights["hidden_1.weight"][:, :, None] * (second > 0)[..., None, :])
        @ weights["output.weight"][:, :, None]
    )
    norms = np.linalg.norm(jacobian, ord=2, axis=(-2, -1))
    np.testing.assert_allclose(found["lipschitz"], norms.max(2), **ROUNDING)
    np.testing.assert_allclose(found["mean_jacobian_norm"], norms.mean(2), **ROUNDING)
    for name, signal in (("nonlinear.hidden_0", first), ("nonlinear.hidden_1", second.clip(0))):
        np.testing.assert_allclose(found[name], unexplained(x, signal), **ROUNDING)


def unexplained(x, signal):
    """Share of a signal's variance that least squares leave, row by row of the design."""
    design = np.column_stack([np.ones(len(x)), x])
    residual = signal - design @ (np.linalg.pinv(design) @ signal)
    with np.errstate(invalid="ignore"):
        return np.square(residual).sum(2) / (signal.var(2) * len(x))


@pytest.mark.filterwarnings("ignore:x. the column")  # so far from the prior
@pytest.mark.parametrize("power", [-200, 200])
def test_the_unit_of_an_input_changes_the_unit_of_slopes_alone(power):
    bnn, scale = MODELS["tanh"], 2.0**power
    weights, x, y = units.random(bnn)
    other = weights | {"hidden_0.weight": weights["hidden_0.weight"] / scale}
    before = wp.diagnostics.nonlinearity(bnn, fits.light_fit(bnn, x, y, weights), x)
    after = wp.diagnostics.nonlinearity(bnn, fits.light_fit(bnn, x * scale, y, other), x * scale)
    for name in before:
        unit = scale if name in ("lipschitz", "mean_jacobian_norm") else 1.0
        np.testing.assert_allclose(after[name] * unit, before[name], err_msg=name, **ROUNDING)


def test_the_unit_of_an_output_changes_slopes_alone():
    bnn = MODELS["tanh"]
    weights, x, y = units.random(bnn)
    before = wp.diagnostics.nonlinearity(bnn, fits.light_fit(bnn, x, y, weights), x)
    for scale in (2.0**-500, 2.0**500):
        out = {name: weights[name] * scale for name in ("output.weight", "output.bias")}
        # Targets as large, so that their likelihood does not overflow.
        fit = fits.light_fit(bnn, x, y, weights)
        for name, values in out.items():
            fit["posterior"][name] = fit["posterior"][name].copy(data=values)
        after = wp.diagnostics.nonlinearity(bnn, fit, x)
        np.testing.assert_allclose(after["nonlinear"], before["nonlinear"], **ROUNDING)
        np.testing.assert_allclose(after["lipschitz"] / scale, before["lipschitz"], **ROUNDING)


def test_columns_that_say_nothing_change_nothing():
    bnn = MODELS["tanh"]
    weights, x, y = units.random(bnn)
    weights["hidden_0.weight"][:, :, 1] = 0.0
    fit = fits.light_fit(bnn, x, y, weights)
    first = x[:, 0]
    constant, twice = (
        np.column_stack([first, other]) for other in (0.1 + 0 * first, 5 * first - 2)
    )
    found = [wp.diagnostics.nonlinearity(bnn, fit, inputs) for inputs in (constant, twice)]
    xr.testing.assert_allclose(*found, rtol=1e-9)
    # What the first column alone does not explain.
    post = np.tanh(constant @ weights["hidden_0.weight"] + weights["hidden_0.bias"][:, :, None])
    share = unexplained(first[:, None], post)
    np.testing.assert_allclose(found[0]["nonlinear.hidden_0"], share, **ROUNDING)


def test_what_a_line_always_explains_is_not_called_linear():
    bnn = MODELS["tanh"]
    weights, x, y = units.random(bnn)
    fit = fits.light_fit(bnn, x, y, weights)
    for rows, known in ((1, False), (3, False), (4, True)):
        found = wp.diagnostics.nonlinearity(bnn, fit, x[:rows])
        for name in ("nonlinear", "nonlinear.hidden_0", "nonlinear_by_layer"):
            assert found[name].notnull().all() == found[name].notnull().any() == known
        assert np.isfinite(found["lipschitz"]).all()


def test_rows_that_are_all_the_same():
    bnn = MODELS["tanh"]
    weights, x, y = units.random(bnn)
    x[:] = x[0]
    found = wp.diagnostics.nonlinearity(bnn, fits.light_fit(bnn, x, y, weights), x)
    assert found["nonlinear"].isnull().all()
    np.testing.assert_allclose(found["lipschitz"], found["mean_jacobian_norm"], **ROUNDING)


@pytest.mark.parametrize("name", NETWORKS)
def test_relabelling_shows_in_units_alone(name):
    bnn = MODELS[name]
    with by_numpy:
        units.assert_relabelling_shows_in_units_alone(
            bnn, lambda fit, x, y: wp.diagnostics.nonlinearity(bnn, fit, x)
        )


def test_stacked_is_its_parts():
    bnn = MODELS["two hidden layers"]
    with by_numpy:
        units.assert_stacked_is_its_parts(
            bnn, lambda fit, x, y: wp.diagnostics.nonlinearity(bnn, fit, x)
        )


@pytest.mark.slow
def test_a_tangent_in_the_last_layer_is_the_network_itself():
    prior = wp.normal_prior(REGRESSION, scale=0.5)
    fit = wp.fit_laplace(
        REGRESSION, FRAME, TARGET, prior=prior, num_samples=3, structure="last_layer"
    )
    itself = fits.light_fit(REGRESSION, FRAME, TARGET, fits.sites(fit))
    found, expected = (wp.diagnostics.nonlinearity(REGRESSION, f, FRAME) for f in (fit, itself))
    assert expected["lipschitz"].std() > 0
    # Of hidden weights the fit has rounded some to single precision.
    xr.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("prior", ["single", "strings"])
@pytest.mark.parametrize("method", ["point", pytest.param("hmc", marks=pytest.mark.slow)])
def test_every_fit_has_an_answer(method, prior):
    fit = drawn("map", prior) if method == "point" else fitted(method, prior)
    found = wp.diagnostics.nonlinearity(REGRESSION, fit, FRAME)
    assert ("prior" in found.dims) == (prior != "single")
    for name in ("nonlinear", "nonlinear.hidden_0", "nonlinear_by_layer"):
        assert ((found[name] > 0) & (found[name] < 1)).all()
    assert (found["lipschitz"] >= found["mean_jacobian_norm"]).all()


class TestWrongInput:
    def test_inputs_of_another_shape(self):
        with pytest.raises(ValueError, match="x: expected shape"):
            wp.diagnostics.nonlinearity(REGRESSION, drawn("map"), FRAME.to_numpy()[:, :1])

    def test_a_fit_of_another_model(self):
        with pytest.raises(ValueError, match="fit: expected the sites and shapes of this model"):
            wp.diagnostics.nonlinearity(MODELS["tanh"], drawn("map"), FRAME)

    def test_something_that_is_no_model(self):
        with pytest.raises(TypeError, match="bnn: expected a model"):
            wp.diagnostics.nonlinearity(REGRESSION.network, drawn("map"), FRAME)
