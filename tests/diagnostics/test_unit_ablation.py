"""What removing units costs, where arithmetic says it."""

from importlib import import_module

import jax
import numpy as np
import pytest
from scipy.stats import spearmanr

import shared_fits as fits
import units
import weightprior as wp
from shared_fits import FRAME, LIKELIHOODS, LINEAR, REGRESSION, TARGET, drawn, exact_fit
from units import MODELS, NETWORKS, ROUNDING, single
from weightprior.fits import results
from weightprior.model.linearised import linearised

# The package's attribute of this name is the function.
MODULE = import_module("weightprior.diagnostics.unit_ablation")
NOISE = 0.5
X = np.linspace(-1, 1, 15)[:, None]


@pytest.fixture(autouse=True)
def _light_fits(monkeypatch):
    """Made-up fits are all that is fitted here, and their densities are not looked at."""
    monkeypatch.setattr(results, "evaluate", fits.densities)


def small(hidden):
    return wp.BNN(wp.mlp(1, hidden=(hidden,)), wp.Gaussian(noise=NOISE))


def of_units(incoming, biases, outgoing, extra=0.0, x=X):
    """What is found of a network of tanh units, at targets that are its outputs and some more."""
    bnn = small(len(incoming))
    hidden = np.tanh(x * np.asarray(incoming) + biases)
    y = hidden @ np.asarray(outgoing) + extra
    sites = {"hidden_0__weight": incoming, "hidden_0__bias": biases, "output__weight": outgoing}
    fit = single(bnn, x, y, output__bias=0.0, **sites)
    found = wp.diagnostics.unit_ablation(bnn, fit, x, y).squeeze(["chain", "draw", "layer"])
    # What a unit adds to the output, but for its mean.
    return found, (hidden - hidden.mean(axis=0)) * outgoing


def test_one_unit_carries_everything():
    found, added = of_units([1.0, 2.0, 3.0], [0.0, 0.1, 0.2], [0.0, 2.0, 0.0])
    expected = np.square(added).sum(axis=0) / (2 * NOISE**2)
    assert expected[1] > 1
    np.testing.assert_allclose(found["ablation_loss.hidden_0"], expected, rtol=1e-12)
    assert float(found["effective_units_by_layer"]) == 1.0
    assert float(found["largest_ablation_loss_by_layer"]) == pytest.approx(expected[1], rel=1e-12)


def test_equal_units_carry_as_much():
    found, added = of_units([1.5] * 11, [0.3] * 11, [0.7] * 11)
    expected = np.square(added).sum(axis=0) / (2 * NOISE**2)
    np.testing.assert_allclose(found["ablation_loss.hidden_0"], expected, rtol=1e-12)
    assert float(found["effective_units_by_layer"]) == pytest.approx(11.0, rel=1e-12)
    # Among equals there is no order.
    assert found["rank_correlation_by_layer"].isnull().all()


def test_what_rounding_leaves_between_equals_is_no_order():
    outgoing = np.where(np.arange(11) % 2, 0.7, 1.3)
    noise = np.random.default_rng(0).normal(size=15)
    found, _ = of_units([1.5] * 11, [0.3] * 11, outgoing, extra=0.1 * noise)
    costs = np.unique(found["ablation_loss.hidden_0"])
    assert 2 < len(costs) < 12
    # Otherwise the larger ones' ranks would differ, and their sizes' would not.
    correlation = found["rank_correlation_by_layer"].sel(measure="outgoing")
    assert abs(float(correlation)) == pytest.approx(1.0, rel=1e-12)


def test_a_unit_that_does_harm_has_a_negative_cost_and_bears_nothing():
    weights = [1.0, 0.5], [0.0, 0.2], [0.2, 3.0]
    _, added = of_units(*weights)
    # Targets as they would be without the first unit.
    found, _ = of_units(*weights, extra=-added[:, 0])
    first, second = np.square(added[:, 0]), added[:, 1] * (added[:, 1] - 2 * added[:, 0])
    expected = np.array([-first.sum(), second.sum()]) / (2 * NOISE**2)
    np.testing.assert_allclose(found["ablation_loss.hidden_0"], expected, rtol=1e-10)
    assert expected[0] < 0 < expected[1]
    assert float(found["effective_units_by_layer"]) == 1.0


def test_large_weights_may_go_with_reliance_or_against_it():
    found, _ = of_units([1.0] * 3, [0.0] * 3, [0.5, 1.0, 2.0])
    correlation = found["rank_correlation_by_layer"]
    for measure in ("outgoing", "both", "contribution"):
        assert float(correlation.sel(measure=measure)) == pytest.approx(1.0)
    assert correlation.sel(measure="incoming").isnull()
    # Far to the flat side, a unit of large weights says less.
    found, _ = of_units([1.0, 2.0, 3.0], [0.0, 4.0, 9.0], [1.0] * 3)
    correlation = found["rank_correlation_by_layer"]
    assert float(correlation.sel(measure="both")) == pytest.approx(-1.0)
    assert float(correlation.sel(measure="contribution")) == pytest.approx(1.0)


def clamped_outputs(bnn, weights, x, layer, unit):
    """Outputs by numpy with one unit at its mean over the rows."""
    signal, network = x, bnn.network
    for name, activation in zip(network.layers, (*network.activations, "identity"), strict=True):
        signal = signal @ weights[f"{name}.weight"] + weights[f"{name}.bias"]
        function = {"tanh": np.tanh, "relu": lambda z: z.clip(0), "identity": lambda z: z}
        signal = function[activation](signal)
        if name == layer:
            signal[:, unit] = signal[:, unit].mean()
    return signal


def test_costs_sizes_and_correlations_are_those_of_the_formulas():
    bnn = MODELS["two hidden layers"]
    weights, x, y = units.random(bnn, lead=(1, 2))
    found = wp.diagnostics.unit_ablation(bnn, fits.made_fit(bnn, x, y, weights), x, y)
    for draw in range(2):
        one = {name: values[0, draw] for name, values in weights.items()}
        full = np.square(y - clamped_outputs(bnn, one, x, None, 0)).sum()
        for layer, following in (("hidden_0", "hidden_1"), ("hidden_1", "output")):
            number = len(one[f"{layer}.bias"])
            left = [
                np.square(y - clamped_outputs(bnn, one, x, layer, j)).sum() for j in range(number)
            ]
            cost = (np.array(left) - full) / (2 * NOISE**2)
            at = {"chain": 0, "draw": draw}
            np.testing.assert_allclose(
                found[f"ablation_loss.{layer}"].isel(at), cost, rtol=1e-10, atol=1e-9
            )
            into, out = one[f"{layer}.weight"], one[f"{following}.weight"]
            size = found[f"size.{layer}"].isel(at)
            np.testing.assert_allclose(size.sel(measure="incoming"), np.linalg.norm(into, axis=0))
            np.testing.assert_allclose(size.sel(measure="outgoing"), np.linalg.norm(out, axis=1))
            both = np.sqrt((into**2).sum(0) + (out**2).sum(1))
            np.testing.assert_allclose(size.sel(measure="both"), both)
            squares = into**2
            np.testing.assert_allclose(
                found[f"effective_inputs.{layer}"].isel(at),
                squares.sum(0) ** 2 / (squares**2).sum(0),
            )
            by_layer = found.isel(at).sel(layer=layer)
            bears = cost.clip(0)
            effective = bears.sum() ** 2 / (bears**2).sum() if bears.any() else np.nan
            np.testing.assert_allclose(by_layer["effective_units_by_layer"], effective)
            assert float(by_layer["largest_ablation_loss_by_layer"]) == pytest.approx(cost.max())
            for measure in size["measure"].to_numpy():
                np.testing.assert_allclose(
                    by_layer["rank_correlation_by_layer"].sel(measure=measure),
                    spearmanr(size.sel(measure=measure), cost).statistic,
                    **ROUNDING,
                )
    contribution = found["size.hidden_0"].sel(measure="contribution")
    post = np.tanh(x @ weights["hidden_0.weight"] + weights["hidden_0.bias"][:, :, None])
    norm = found["size.hidden_0"].sel(measure="outgoing")
    np.testing.assert_allclose(contribution, norm * post.std(2))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_costs_are_in_nats_of_every_likelihood(name):
    case = fits.case(name)
    found = wp.diagnostics.unit_ablation(case.bnn, case.fit, case.x, case.y, num_draws=2)
    chosen = found["draw"].to_numpy()
    weights = {site: values[:, chosen] for site, values in case.weights.items()}
    hidden = np.tanh(case.x @ weights["hidden_0.weight"] + weights["hidden_0.bias"][:, :, None])
    full = fits.log_density(case.bnn, weights, case.x, case.y).sum(-1)
    for unit in range(3):
        # The bias of the outputs takes over what the unit adds on average.
        outgoing = weights["output.weight"].copy()
        mean = hidden[..., unit].mean(-1)[..., None] * outgoing[:, :, unit]
        outgoing[:, :, unit] = 0.0
        changed = {"output.weight": outgoing, "output.bias": weights["output.bias"] + mean}
        left = fits.log_density(case.bnn, {**weights, **changed}, case.x, case.y).sum(-1)
        np.testing.assert_allclose(
            found["ablation_loss.hidden_0"][..., unit], full - left, **fits.ROUNDING
        )


@pytest.mark.parametrize(
    ("incoming", "expected"),
    [([1, 0, 0], 1), ([2, 2, -2], 3), ([2, 1, 0], 25 / 17), ([0] * 3, np.nan)],
)
@pytest.mark.parametrize("scale", [1.0, 1e-120, 1e120])
def test_how_many_inputs_a_unit_looks_at(incoming, expected, scale):
    bnn = wp.BNN(wp.mlp(3, hidden=(1,)), wp.Gaussian(noise=1.0))
    x = np.random.default_rng(0).normal(size=(6, 3))
    weights = {"hidden_0__weight": scale * np.array(incoming), "hidden_0__bias": 0.0}
    fit = single(bnn, x, output__weight=1.0, output__bias=0.0, **weights)
    found = wp.diagnostics.unit_ablation(bnn, fit, x, np.zeros(6))["effective_inputs.hidden_0"]
    np.testing.assert_allclose(found.squeeze(), expected, rtol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_relabelling_shows_in_units_alone(name):
    bnn = MODELS[name]

    def diagnose(fit, x, y):
        return wp.diagnostics.unit_ablation(bnn, fit, x, y)

    units.assert_relabelling_shows_in_units_alone(bnn, diagnose)


def test_stacked_is_its_parts():
    bnn = MODELS["two hidden layers"]
    units.assert_stacked_is_its_parts(
        bnn, lambda fit, x, y: wp.diagnostics.unit_ablation(bnn, fit, x, y)
    )


@pytest.mark.filterwarnings("ignore:y. mean")  # of targets so far from the prior
@pytest.mark.parametrize("scale", [2.0**-400, 2.0**400])
def test_the_unit_of_the_targets_does_not_matter(scale):
    weights, x, y = units.random(small(3))
    out = {name: weights[name] * scale for name in ("output.weight", "output.bias")}
    given = (
        (small(3), weights, 1.0),
        (wp.BNN(small(3).network, wp.Gaussian(NOISE * scale)), weights | out, scale),
    )
    before, after = (
        wp.diagnostics.unit_ablation(bnn, fits.made_fit(bnn, x, y * by, w), x, y * by)
        for bnn, w, by in given
    )
    for name in ("ablation_loss.hidden_0", "effective_units_by_layer"):
        np.testing.assert_allclose(after[name], before[name], rtol=1e-9)


@pytest.mark.parametrize("rows", [X[:1], np.full((5, 1), 0.3)], ids=["one", "all the same"])
def test_units_that_do_not_vary_cost_nothing(rows):
    # Enough of them for sums to depend on their order.
    weights = np.linspace(1.0, 2.0, 11), np.linspace(0.1, 0.3, 11), np.linspace(0.7, 3.1, 11)
    found, _ = of_units(*weights, extra=0.3, x=rows)
    assert found["ablation_loss.hidden_0"].to_numpy().tolist() == [0.0] * 11
    assert found["effective_units_by_layer"].isnull()
    assert found["rank_correlation_by_layer"].isnull().all()


def test_targets_that_become_impossible():
    bnn = wp.BNN(wp.mlp(1, hidden=(2,)), wp.Poisson())
    weights = {"hidden_0__weight": [1.0, 1.0], "hidden_0__bias": 0.0, "output__bias": 0.0}
    weights["hidden_0__bias"] = [0.0, 0.0]
    # Units that cancel: without either, a rate is e^2000.
    fit = single(bnn, 20 * X, output__weight=[2000.0, -2000.0], **weights)
    found = wp.diagnostics.unit_ablation(bnn, fit, 20 * X, np.ones(15))
    assert np.isposinf(found["ablation_loss.hidden_0"]).all()
    assert np.isposinf(found["largest_ablation_loss_by_layer"]).all()
    assert found["effective_units_by_layer"].isnull().all()


def test_a_constant_column_is_no_trouble():
    bnn = MODELS["tanh"]
    weights, x, y = units.random(bnn)
    x[:, 1] = 2.0
    found = wp.diagnostics.unit_ablation(bnn, fits.made_fit(bnn, x, y, weights), x, y)
    folded = weights | {
        "hidden_0.bias": weights["hidden_0.bias"] + 2 * weights["hidden_0.weight"][:, :, 1]
    }
    x[:, 1] = 0.0
    other = wp.diagnostics.unit_ablation(bnn, fits.made_fit(bnn, x, y, folded), x, y)
    np.testing.assert_allclose(
        found["ablation_loss.hidden_0"], other["ablation_loss.hidden_0"], **fits.ROUNDING
    )


@pytest.mark.parametrize(
    ("num_draws", "expected"), [(1, [75]), (3, [25, 75, 125]), (999, range(150))]
)
def test_some_draws_are_enough(num_draws, expected):
    fit = drawn("hmc")
    every = wp.diagnostics.unit_ablation(REGRESSION, fit, FRAME, TARGET)
    some = wp.diagnostics.unit_ablation(REGRESSION, fit, FRAME, TARGET, num_draws=num_draws)
    assert some["draw"].to_numpy().tolist() == list(expected)
    for name in every:
        np.testing.assert_allclose(some[name], every[name].sel(draw=some["draw"]), **ROUNDING)


def test_many_units_are_removed_in_blocks(monkeypatch):
    bnn = MODELS["relu"]
    weights, x, y = units.random(bnn)
    fit = fits.made_fit(bnn, x, y, weights)
    together = wp.diagnostics.unit_ablation(bnn, fit, x, y)
    monkeypatch.setattr(MODULE, "_NUMBERS_AT_ONCE", 2 * x.shape[0] * 5)
    jax.clear_caches()
    in_twos = wp.diagnostics.unit_ablation(bnn, fit, x, y)
    for name in together:
        np.testing.assert_allclose(in_twos[name], together[name], **ROUNDING)


@pytest.mark.slow
def test_of_a_linearised_network_the_unit_is_removed_before_it_is_linearised():
    bnn = MODELS["two hidden layers"]
    weights, x, y = units.random(bnn, lead=(1, 1))
    center = {name: values[0, 0] for name, values in units.random(bnn, 5, (1, 1))[0].items()}
    draw = {name: values[0, 0] for name, values in weights.items()}
    step = 1e-5
    at = [
        {name: center[name] + s * (draw[name] - center[name]) for name in center}
        for s in (-step, 0.0, step)
    ]

    def density(layer, unit):
        low, value, high = (clamped_outputs(bnn, w, x, layer, unit) for w in at)
        tangent = value + (high - low) / (2 * step)
        return -np.square(y - tangent).sum() / (2 * NOISE**2)

    with jax.enable_x64(True):
        model = linearised(bnn, center)
        found = MODULE._of_draw(model, jax.tree.map(jax.numpy.asarray, draw), x, y)
    for layer, number in (("hidden_0", 4), ("hidden_1", 3)):
        expected = [density(None, 0) - density(layer, j) for j in range(number)]
        # Differences leave out terms of the step squared, and round off 1e-16 / step.
        np.testing.assert_allclose(found[f"ablation_loss.{layer}"], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("prior", ["single", "strings"])
@pytest.mark.parametrize("method", ["map", pytest.param("hmc", marks=pytest.mark.slow)])
def test_every_fit_has_an_answer(method, prior):
    found = wp.diagnostics.unit_ablation(
        REGRESSION, drawn(method, prior), FRAME, TARGET, num_draws=5
    )
    assert ("prior" in found.dims) == (prior != "single")
    assert found["layer"].to_numpy().tolist() == ["hidden_0"]
    assert np.isfinite(found["ablation_loss.hidden_0"]).all()
    effective = found["effective_units_by_layer"]
    assert ((effective >= 1 - 1e-12) & (effective <= 3 + 1e-12) | effective.isnull()).all()


class TestWrongInput:
    def test_no_hidden_layer(self):
        with pytest.raises(ValueError, match="bnn: expected a network with hidden layers; got a"):
            wp.diagnostics.unit_ablation(LINEAR, exact_fit(), FRAME, TARGET)

    def test_columns_in_another_order(self):
        with pytest.raises(ValueError, match=r"x: expected the columns .* Reorder them"):
            wp.diagnostics.unit_ablation(REGRESSION, drawn("map"), FRAME[["dose", "age"]], TARGET)

    def test_targets_of_another_shape(self):
        with pytest.raises(ValueError, match="y: expected shape"):
            wp.diagnostics.unit_ablation(REGRESSION, drawn("map"), FRAME, TARGET[:5])

    def test_targets_that_are_no_numbers(self):
        with pytest.raises(ValueError, match="y: expected finite numbers"):
            wp.diagnostics.unit_ablation(REGRESSION, drawn("map"), FRAME, np.full(20, np.nan))

    def test_a_fit_of_another_model(self):
        with pytest.raises(ValueError, match="fit: expected the sites and shapes of this model"):
            wp.diagnostics.unit_ablation(MODELS["tanh"], drawn("map"), FRAME, TARGET)

    @pytest.mark.parametrize(
        ("num_draws", "error", "message"),
        [
            (0, ValueError, "num_draws: expected at least 1; got 0"),
            (2.5, TypeError, "num_draws: expected a whole number; got 2.5"),
        ],
    )
    def test_no_number_of_draws(self, num_draws, error, message):
        with pytest.raises(error, match=message):
            wp.diagnostics.unit_ablation(
                REGRESSION, drawn("map"), FRAME, TARGET, num_draws=num_draws
            )
