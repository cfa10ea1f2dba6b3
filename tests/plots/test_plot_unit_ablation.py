import numpy as np
import pytest

import weightprior as wp
from figures import assert_legible
from shared_fits import made_fit
from units import MODELS, random
from weightprior import plots

BNN = MODELS["two hidden layers"]
DRAWS, X, Y = random(BNN, lead=(2, 10))


def found_of(weights, prior=None, y=Y):
    parts = [weights] * (2 if prior else 1)
    fit = made_fit(BNN, X, y, *parts, prior=prior)
    return wp.diagnostics.unit_ablation(BNN, fit, X, y)


@pytest.fixture(scope="module")
def found():
    return found_of(DRAWS)


@pytest.mark.parametrize("measure", ["incoming", "both"])
def test_points_are_medians_and_bars_reach_the_quantiles(found, measure):
    axes = plots.plot_unit_ablation(found, measure=measure)
    assert len(axes) == 2
    for axis, layer in zip(axes, ("hidden_0", "hidden_1"), strict=True):
        size = found[f"size.{layer}"].sel(measure=measure).to_numpy().reshape(20, -1)
        loss = found[f"ablation_loss.{layer}"].to_numpy().reshape(20, -1)
        points = axis.lines[0]
        np.testing.assert_allclose(points.get_xdata(), np.median(size, axis=0))
        np.testing.assert_allclose(points.get_ydata(), np.median(loss, axis=0))
        across, along = axis.containers[0].lines[2]
        for bars, draws, side in ((across, size, 0), (along, loss, 1)):
            reach = np.array([segment[:, side] for segment in bars.get_segments()])
            np.testing.assert_allclose(reach.T, np.quantile(draws, [0.05, 0.95], axis=0))
        correlation = found["rank_correlation_by_layer"].sel(layer=layer, measure=measure)
        words = f"rank correlation {correlation.median():.2f}".replace("-", "−")  # noqa: RUF001
        assert words in axis.get_title(loc="left").replace("\n", " ")


def test_a_single_draw_has_points_alone(found):
    axes = plots.plot_unit_ablation(found.isel(chain=[0], draw=[3]))
    assert not axes[0].containers
    assert "90 %" not in axes[0].get_title(loc="left")


def test_units_of_no_use_have_no_rank_correlation():
    still = {n: np.zeros_like(w) for n, w in DRAWS.items()}
    axes = plots.plot_unit_ablation(found_of(still))
    assert axes[0].get_title(loc="left").replace("\n", " ") == "hidden_0: no rank correlation"


@pytest.mark.parametrize("times", [1e-3, 1e3])
@pytest.mark.parametrize("width", [85, 170])
def test_everything_is_legible(found, width, times):
    moved = found.assign(
        {name: found[name] * times for name in found if "ablation_loss." in str(name)}
    )
    axes = plots.plot_unit_ablation(moved, measure="contribution", width=width)
    assert axes[0].get_yscale() == ("symlog" if times > 1 else "linear")
    np.testing.assert_allclose(axes[0].figure.get_size_inches()[0] * 25.4, width)
    assert_legible(axes[0].figure)


def test_what_cannot_be_plotted_is_an_error(found):
    with pytest.raises(TypeError, match=r"found: expected a result of diagnostics\.unit_ablation"):
        plots.plot_unit_ablation(None)
    with pytest.raises(ValueError, match="measure: expected one of 'incoming'"):
        plots.plot_unit_ablation(found, measure="norm")
    broken = found.copy(deep=True)
    broken["ablation_loss.hidden_1"][..., 2] = np.inf
    with pytest.raises(
        ValueError, match="expected finite losses; got inf for unit 2 of 'hidden_1'"
    ):
        plots.plot_unit_ablation(broken)
    prior = wp.stack_priors({"a": wp.normal_prior(BNN), "b": wp.normal_prior(BNN)})
    with pytest.raises(ValueError, match="for a single prior"):
        plots.plot_unit_ablation(found_of(DRAWS, prior))
