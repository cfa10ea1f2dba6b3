import numpy as np
import pytest
import xarray as xr

import weightprior as wp
from figures import assert_legible
from shared_fits import light_fit
from units import MODELS, random
from weightprior import plots

DRAWS = {"chain": 2, "draw": 20}
SCALES = [0.1, 0.3, 1.0, 3.0]
KINDS = ("saturated", "linear_regime", "dead", "effective_units")


def made(labels=SCALES, layers=("hidden_0", "hidden_1"), draws=DRAWS, seed=0):
    """Make what the three diagnostics return by layer and for the network."""
    rng = np.random.default_rng(seed)
    lead = {**draws, "prior": len(labels)}
    lengths = {**lead, "layer": len(layers), "measure": 2, "output": 1}

    def numbers(*dims):
        return (*lead, *dims), rng.uniform(size=[lengths[d] for d in (*lead, *dims)])

    found = {f"{kind}_by_layer": numbers("layer") for kind in KINDS}
    found |= {"nonlinear": numbers("output"), "lipschitz": numbers()}
    found["rank_correlation_by_layer"] = numbers("measure", "layer")
    coords = {"prior": labels, "layer": list(layers), "measure": ["incoming", "both"]}
    return xr.Dataset(found, coords)


def titled(axes):
    return {axis.get_title(loc="left").replace("\n", " "): axis for axis in axes}


def test_points_are_medians_and_bars_reach_the_quantiles():
    found = made()
    axes = titled(plots.plot_mechanisms(found))
    assert list(axes) == [
        "saturated, share of rows",
        "nearly linear, share of rows",
        "dead, share of units",
        "nonlinear share of the outputs",
        "steepest slope (Lipschitz)",
        "units that bear the load",
        "rank correlation, size and loss",
    ]
    lines = {
        "saturated, share of rows": [found["saturated_by_layer"].isel(layer=i) for i in (0, 1)],
        "nonlinear share of the outputs": [found["nonlinear"].isel(output=0)],
        "steepest slope (Lipschitz)": [found["lipschitz"]],
        "rank correlation, size and loss": [
            found["rank_correlation_by_layer"].sel(measure="both").isel(layer=i) for i in (0, 1)
        ],
    }
    for title, expected in lines.items():
        assert len(axes[title].containers) == len(expected)
        for bars, values in zip(axes[title].containers, expected, strict=True):
            points, _, [segments] = bars.lines
            np.testing.assert_array_equal(points.get_xdata(), SCALES)
            draws = values.to_numpy().reshape(-1, len(SCALES))
            np.testing.assert_allclose(points.get_ydata(), np.median(draws, axis=0))
            reach = np.array([segment[:, 1] for segment in segments.get_segments()])
            np.testing.assert_allclose(reach.T, np.quantile(draws, [0.05, 0.95], axis=0))
        assert axes[title].get_xscale() == "log"


def test_lines_run_in_the_order_of_the_labels():
    found = made([1.0, -0.5, 0.0])
    axis = titled(plots.plot_mechanisms(found))["steepest slope (Lipschitz)"]
    points = axis.containers[0].lines[0]
    np.testing.assert_array_equal(points.get_xdata(), [-0.5, 0.0, 1.0])
    expected = found["lipschitz"].median(("chain", "draw")).to_numpy()[[1, 2, 0]]
    np.testing.assert_allclose(points.get_ydata(), expected)
    assert axis.get_xscale() == "linear"


def test_what_has_no_number_has_no_panel_and_draws_without_one_are_left_out():
    found = made()
    found["dead_by_layer"] = found["dead_by_layer"] * np.nan
    load = found["effective_units_by_layer"].copy()
    load[0, :, 1, 0] = np.nan
    load[:, :, 2, 0] = np.nan
    axes = titled(plots.plot_mechanisms(found.assign(effective_units_by_layer=load)))
    assert "dead, share of units" not in axes
    drawn = axes["units that bear the load"].containers[0].lines[0].get_ydata()
    assert np.isnan(drawn).tolist() == [False, False, True, False]
    np.testing.assert_allclose(drawn[1], load[1, :, 1, 0].median())


def test_slopes_that_span_decades_are_on_a_log_axis():
    found = made()
    [axis] = plots.plot_mechanisms(found[["lipschitz"]] + 1.0)
    assert axis.get_yscale() == "linear"
    [axis] = plots.plot_mechanisms(np.exp(10 * found[["lipschitz"]]))
    assert axis.get_yscale() == "log"


def test_of_real_fits():
    bnn = MODELS["two hidden layers"]
    draws = [random(bnn, seed)[0] for seed in range(2)]
    _, x, y = random(bnn)
    prior = wp.stack_priors({"a": wp.normal_prior(bnn), "b": wp.normal_prior(bnn, scale=2.0)})
    fit = light_fit(bnn, x, y, *draws, prior=prior)
    found = (
        wp.diagnostics.saturation(bnn, fit, x),
        wp.diagnostics.nonlinearity(bnn, fit, x),
        wp.diagnostics.unit_ablation(bnn, fit, x, y),
    )
    assert len(plots.plot_mechanisms(*found)) == 7
    axis = plots.plot_mechanisms(found[0])[0]
    expected = found[0]["saturated_by_layer"].median(("chain", "draw"))
    for layer, bars in enumerate(axis.containers):
        np.testing.assert_allclose(bars.lines[0].get_ydata(), expected.isel(layer=layer))


@pytest.mark.parametrize("width", [85, 170])
@pytest.mark.parametrize(
    "labels",
    [SCALES, [0.0, 0.5, 1.0, 1.5], ["zero", "reference", "random", "permuted", "mirrored"]],
    ids=["scales", "centres", "words"],
)
@pytest.mark.parametrize("draws", [DRAWS, {"chain": 1, "draw": 1}], ids=["draws", "MAP"])
def test_everything_is_legible(labels, draws, width):
    figure = plots.plot_mechanisms(made(labels, draws=draws), width=width)[0].figure
    np.testing.assert_allclose(figure.get_size_inches()[0] * 25.4, width)
    assert_legible(figure)


@pytest.mark.parametrize(
    ("found", "error", "message"),
    [
        ((), ValueError, "found: expected a result of diagnostics.saturation"),
        (
            (None,),
            TypeError,
            "found: .*saturation, nonlinearity or unit_ablation; got NoneType",
        ),
        ((xr.Dataset(),), TypeError, "found: expected results of diagnostics"),
        ((made().isel(prior=0),), ValueError, "found: expected diagnostics of a stacked prior"),
        ((made(), made([1, 2])), ValueError, r"same priors, 0.1, 0.3, 1.0, 3.0; got 1, 2"),
        ((made() * np.nan,), ValueError, "found: expected numbers; got NaN throughout"),
    ],
)
def test_what_cannot_be_plotted_is_an_error(found, error, message):
    with pytest.raises(error, match=message):
        plots.plot_mechanisms(*found)
