import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex

from figures import assert_legible
from weightprior import plots
from weightprior.evaluation._ranks import judge_ranks

NUM_DRAWS, NUM_SIMULATIONS = 19, 100


def made(*, narrow=False, noise=False):
    """Make what `simulation_based_calibration` returns: uniform ranks, or piles at the ends."""
    rng = np.random.default_rng(0)
    size = (NUM_SIMULATIONS, 3, 1)
    ranks = {"outputs": rng.integers(0, NUM_DRAWS + 1, size)}
    if narrow:
        ranks["outputs"][:, 1] = rng.choice([0, NUM_DRAWS], size[::2])
    ranks["lp"] = rng.integers(0, NUM_DRAWS + 1, NUM_SIMULATIONS)
    ranks["log_likelihood"] = rng.integers(0, NUM_DRAWS + 1, NUM_SIMULATIONS)
    if noise:
        ranks["noise"] = rng.integers(0, NUM_DRAWS + 1, (NUM_SIMULATIONS, 1))
    judged = judge_ranks(ranks, NUM_DRAWS, 0.01)
    dims = {"outputs": ("probability", "obs_id", "output"), "noise": ("probability", "output")}
    found = {
        f"ecdf_diff.{name}": (dims.get(name, ("probability",)), values)
        for name, values in judged.ecdf_diff.items()
    }
    found |= {"band_lower": ("probability", judged.lower)}
    found |= {"band_upper": ("probability", judged.upper), "calibrated": ((), judged.uniform)}
    coords = {"probability": np.arange(1, NUM_DRAWS + 1) / (NUM_DRAWS + 1)}
    attrs = {
        "function": "simulation_based_calibration",
        "level": 0.01,
        "num_simulations": NUM_SIMULATIONS,
    }
    return xr.Dataset(found, coords, attrs)


def titled(axes):
    return {axis.get_title(loc="left"): axis for axis in axes}


def test_lines_are_the_differences_and_lie_in_the_band():
    found = made(noise=True)
    assert found["calibrated"]
    axes = titled(plots.plot_sbc(found))
    names = {"outputs": "outputs", "log joint density": "lp", "log likelihood": "log_likelihood"}
    assert set(axes) == {*names, "noise"}
    for title, name in names.items():
        lines = axes[title].lines[1:]  # The first marks zero.
        expected = found[f"ecdf_diff.{name}"].to_numpy().reshape(NUM_DRAWS, -1)
        np.testing.assert_array_equal([line.get_ydata() for line in lines], expected.T)
        assert len({to_hex(line.get_color()) for line in lines}) == 1
        [band] = axes[title].collections
        x, y = band.get_paths()[0].vertices.T
        for at, low, high in zip(
            found["probability"], found["band_lower"], found["band_upper"], strict=True
        ):
            there = y[np.isclose(x, at)]
            np.testing.assert_allclose([there.min(), there.max()], [low, high])


def test_lines_that_leave_the_band_are_told_apart():
    found = made(narrow=True)
    assert not found["calibrated"]
    axes = titled(plots.plot_sbc(found))
    colors = [to_hex(line.get_color()) for line in axes["outputs"].lines[1:]]
    assert colors[0] == colors[2] != colors[1]
    [legend] = axes["outputs"].figure.legends
    told = [text.get_text() for text in legend.get_texts()]
    assert told == ["ranks", "99 % band, 100 fits", "leaves the band"]


@pytest.mark.parametrize("side", ["band_lower", "band_upper"])
@pytest.mark.parametrize(("times", "leaves"), [(1.0, False), (1.1, True)])
def test_the_edge_of_the_band_belongs_to_it(side, times, leaves):
    found = made()
    edge = found[side].to_numpy().copy()
    edge[NUM_DRAWS // 2] *= times
    axes = titled(plots.plot_sbc(found.assign({"ecdf_diff.lp": ("probability", edge)})))
    drawn, others = axes["log joint density"].lines[1], axes["outputs"].lines[1]
    assert (drawn.get_color() != others.get_color()) == leaves


@pytest.mark.parametrize("width", [85, 170])
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("noise", [False, True])
def test_everything_is_legible(width, narrow, noise):
    figure = plots.plot_sbc(made(narrow=narrow, noise=noise), width=width)[0].figure
    np.testing.assert_allclose(figure.get_size_inches()[0] * 25.4, width)
    assert_legible(figure)


def test_what_cannot_be_plotted_is_an_error():
    with pytest.raises(
        TypeError, match="found: expected a result of simulation_based_calibration; got NoneType"
    ):
        plots.plot_sbc(None)
    with pytest.raises(
        TypeError, match="found: expected a result of simulation_based_calibration; got Dataset"
    ):
        plots.plot_sbc(made().assign_attrs(function="score"))
    with pytest.raises(ValueError, match="width: expected a number above 0"):
        plots.plot_sbc(made(), width=0)
