import numpy as np
import pytest
import xarray as xr
from scipy import stats

import weightprior as wp
from figures import assert_legible
from shared_fits import case
from weightprior import plots

LEVELS = np.array([0.2, 0.5, 0.9])


def made(priors=None, outputs=0, rows=30):
    """Make what `score` returns, of made-up shares."""
    sizes = {"level": 3} | ({"prior": len(priors)} if priors else {})
    sizes |= {"output": outputs} if outputs else {}
    shares = np.random.default_rng(0).uniform(size=tuple(sizes.values()))
    coords = {"level": LEVELS} | ({"prior": priors} if priors else {})
    coords |= {"output": np.arange(outputs)} if outputs else {}
    found = {"coverage": (tuple(sizes), shares), "elpd_i": ("obs_id", np.zeros(rows))}
    return xr.Dataset(found, coords)


def test_points_are_the_shares_and_the_band_is_what_chance_leaves():
    scores = made()
    [axis] = plots.plot_coverage(scores)
    points = axis.lines[-1]
    np.testing.assert_array_equal(points.get_xdata(), LEVELS)
    np.testing.assert_array_equal(points.get_ydata(), scores["coverage"])
    [band] = axis.collections
    x, y = band.get_paths()[0].vertices.T
    for level in LEVELS:
        low, high = y[np.isclose(x, level)].min(), y[np.isclose(x, level)].max()
        # The smallest interval of counts that leaves at most 2.5 % on either side.
        count = stats.binom(30, level)
        assert count.cdf(round(30 * low) - 1) < 0.025 <= count.cdf(round(30 * low))
        assert count.cdf(round(30 * high) - 1) < 0.975 <= count.cdf(round(30 * high))


def test_priors_and_outputs_have_panels_of_their_own():
    scores = made([0.1, 1.0], outputs=2)
    axes = plots.plot_coverage(scores)
    titles = [axis.get_title(loc="left").replace("\n", " ") for axis in axes]
    assert titles == [f"prior {p:g}, output {o}" for o in (0, 1) for p in (0.1, 1.0)]
    for number, axis in enumerate(axes):
        output, prior = divmod(number, 2)
        expected = scores["coverage"].isel(prior=prior, output=output)
        np.testing.assert_array_equal(axis.lines[-1].get_ydata(), expected)


def test_of_real_scores():
    made_fit = case("gaussian, two outputs")
    scores = wp.score(made_fit.bnn, made_fit.fit, made_fit.x, made_fit.y)
    axes = plots.plot_coverage(scores)
    np.testing.assert_array_equal(axes[1].lines[-1].get_ydata(), scores["coverage"][:, 1])


@pytest.mark.parametrize("width", [85, 170])
@pytest.mark.parametrize("priors", [None, [0.1, 0.3, 1.0], ["zero", "reference", "permuted"]])
@pytest.mark.parametrize("outputs", [0, 2])
def test_everything_is_legible(priors, outputs, width):
    figure = plots.plot_coverage(made(priors, outputs, rows=12345), width=width)[0].figure
    np.testing.assert_allclose(figure.get_size_inches()[0] * 25.4, width)
    assert_legible(figure)


def test_what_cannot_be_plotted_is_an_error():
    with pytest.raises(TypeError, match="found: expected a result of score; got NoneType"):
        plots.plot_coverage(None)
    with pytest.raises(ValueError, match=r"found: .*got those of classes"):
        plots.plot_coverage(made().drop_vars("coverage"))
    with pytest.raises(ValueError, match="width: expected a number above 0"):
        plots.plot_coverage(made(), width=0)
