import numpy as np
import pytest
from scipy import stats

import weightprior as wp
from figures import assert_legible
from shared_fits import made_fit, random_weights
from weightprior import plots

BNN = wp.BNN(wp.mlp(2, hidden=(3,)), wp.Gaussian())
SITES = ["hidden_0.weight", "hidden_0.bias", "output.weight", "output.bias"]
X, Y = np.zeros((4, 2)), np.zeros(4)
PRIOR = wp.normal_prior(BNN, loc=0.3, scale=0.5)


def made(prior=PRIOR, lead=(2, 50)):
    rng = np.random.default_rng(0)
    weights = [random_weights(BNN, rng, lead) for _ in prior.singles()]
    return made_fit(BNN, X, Y, *weights, prior=prior)


def stacked(labels):
    priors = [wp.normal_prior(BNN, scale=s) for s in np.geomspace(0.1, 1, len(labels))]
    return wp.stack_priors(dict(zip(labels, priors, strict=True)))


def drawn(fit, site):
    return fit["posterior"][site].to_numpy()


def titles(axes):
    return [axis.get_title(loc="left") for axis in axes]


@pytest.mark.parametrize("standardised", [True, False])
def test_histograms_are_of_the_draws_and_curves_of_the_prior(standardised):
    fit = made()
    axes = plots.plot_weights(BNN, fit, standardised=standardised)
    assert titles(axes) == SITES
    loc, scale = (0.0, 1.0) if standardised else (0.3, 0.5)
    for axis, site in zip(axes, SITES, strict=True):
        share, edges, _ = axis.patches[0].get_data()
        values = drawn(fit, site).ravel()
        values = (values - 0.3) / 0.5 if standardised else values
        inside = (values >= edges[0]) & (values <= edges[-1])
        # Bins have one width, so that a few draws beyond them are no matter.
        width = np.diff(edges)
        expected = np.histogram(values[inside], edges)[0] / (len(values) * width)
        np.testing.assert_allclose(share, expected, rtol=1e-9)
        np.testing.assert_allclose((share * width).sum(), inside.mean())
        at, density = axis.lines[0].get_data()
        np.testing.assert_allclose(density, stats.norm.pdf(at, loc, scale))


def test_the_prior_in_own_units_is_the_mean_of_those_of_the_weights():
    scales = {"hidden_0.bias": np.array([0.1, 1.0, 2.0])}
    prior = wp.normal_prior(BNN, scale={"weight": 1.0, "bias": 1.0} | scales)
    axis = plots.plot_weights(BNN, made(prior), standardised=False)[1]
    at, density = axis.lines[0].get_data()
    expected = np.mean([stats.norm.pdf(at, 0, s) for s in scales["hidden_0.bias"]], axis=0)
    np.testing.assert_allclose(density, expected)


def test_flat_priors_have_no_panel():
    prior = wp.normal_prior(BNN, scale={"weight": 1.0, "bias": np.inf})
    assert titles(plots.plot_weights(BNN, made(prior))) == [SITES[0], SITES[2]]
    with pytest.raises(ValueError, match="fit: expected a prior that is not flat"):
        plots.plot_weights(BNN, made(wp.normal_prior(BNN, scale=np.inf)))


def test_single_weights_with_a_flat_prior_are_left_out():
    scale = {"weight": 1.0, "hidden_0.bias": np.array([1.0, np.inf, 1.0]), "output.bias": 1.0}
    fit = made(wp.normal_prior(BNN, scale=scale), lead=(1, 1))
    ticks = plots.plot_weights(BNN, fit)[1].lines[1].get_xdata()
    np.testing.assert_array_equal(ticks, drawn(fit, SITES[1])[0, 0, [0, 2]])


def test_stacked_priors_lie_on_one_another_in_colours_along_their_numbers():
    fit = made(stacked([1.0, 0.1, 0.3]))
    axis = plots.plot_weights(BNN, fit)[0]
    assert len(axis.patches) == 3
    colors = np.array([patch.get_edgecolor()[:3] for patch in axis.patches])
    darkness = -colors @ [0.2126, 0.7152, 0.0722]
    assert list(np.argsort(-darkness)) == [1, 2, 0]
    for part, patch in enumerate(axis.patches):
        share, edges, _ = patch.get_data()
        scale = fit["constant_data"][f"prior_scale.{SITES[0]}"].to_numpy()[part]
        values = (drawn(fit, SITES[0])[:, :, part] / scale).ravel()
        expected = np.histogram(values, edges)[0] / (values.size * np.diff(edges))
        np.testing.assert_allclose(share, expected)


def test_a_single_draw_has_a_tick_per_weight_and_a_row_per_prior():
    fit = made(stacked(["a", "b"]), lead=(1, 1))
    axis = plots.plot_weights(BNN, fit)[0]
    _, first, second = axis.lines
    scale = fit["constant_data"][f"prior_scale.{SITES[0]}"].to_numpy()
    for part, line in enumerate((first, second)):
        expected = drawn(fit, SITES[0])[0, 0, part] / scale[part]
        np.testing.assert_allclose(line.get_xdata(), expected.ravel())
        assert (
            axis.get_xlim()[0] < min(line.get_xdata()) <= max(line.get_xdata()) < axis.get_xlim()[1]
        )
    assert axis.get_ylim()[0] < second.get_ydata()[0] < first.get_ydata()[0] < 0
    assert not axis.patches


@pytest.mark.parametrize("width", [85, 170])
@pytest.mark.parametrize("lead", [(1, 1), (2, 20)], ids=["MAP", "draws"])
@pytest.mark.parametrize("labels", [None, [0.1, 0.3, 1.0, 3.0], ["zero", "reference", "permuted"]])
def test_everything_is_legible(labels, lead, width):
    figure = plots.plot_weights(BNN, made(stacked(labels) if labels else PRIOR, lead), width=width)[
        0
    ].figure
    np.testing.assert_allclose(figure.get_size_inches()[0] * 25.4, width)
    assert_legible(figure)


def test_what_cannot_be_plotted_is_an_error():
    with pytest.raises(TypeError, match="fit: expected the DataTree"):
        plots.plot_weights(BNN, None)
    other = wp.BNN(wp.mlp(2, hidden=(4,)), wp.Gaussian())
    with pytest.raises(ValueError, match="fit: expected the sites and shapes of this model"):
        plots.plot_weights(other, made())
    with pytest.raises(ValueError, match="standardised: expected True for a fit of a stacked"):
        plots.plot_weights(BNN, made(stacked(["a", "b"])), standardised=False)
    with pytest.raises(ValueError, match="width: expected a number above 0"):
        plots.plot_weights(BNN, made(), width=0)
