import numpy as np
import pandas as pd
import pytest
import xarray as xr

import weightprior as wp
from figures import assert_legible
from weightprior import plots

X = np.array([2.0, -1.0, 0.5, 3.0])  # In any order.
ORDER = np.argsort(X)


def made(kind="numbers", priors=None, outputs=0, draws=40, seed=0):
    """Make what `predict` returns, of made-up draws."""
    rng = np.random.default_rng(seed)
    lead = {"chain": 2, "draw": draws // 2} if draws > 1 else {"chain": 1, "draw": 1}
    lead |= {"prior": len(priors)} if priors else {}
    dims, sizes = (*lead, "obs_id"), (*lead.values(), len(X))
    if outputs:
        dims, sizes = (*dims, "output"), (*sizes, outputs)
    mean = rng.normal(size=sizes)
    found = {"mean": (dims, mean), "y": (dims, mean + rng.normal(size=sizes))}
    if kind == "binary":
        mean = 1 / (1 + np.exp(-mean))
        found = {"mean": (dims, mean), "y": (dims, (rng.random(sizes) < mean).astype(int))}
    if kind == "classes":
        mean = np.exp(mean) / np.exp(mean).sum(-1, keepdims=True)
        y = rng.integers(0, outputs, size=sizes[:-1])
        found = {"mean": (dims, mean), "y": (dims[:-1], y)}
    coords = {"prior": priors} if priors else {}
    return xr.Dataset(found, coords).assign_coords(
        {d: np.arange(n) for d, n in zip(dims, sizes, strict=True) if d != "prior"}
    )


def edges(band):
    """Return the lower and upper edge of a filled band."""
    x, y = band.get_paths()[0].vertices.T
    at = np.unique(x)
    return np.array([[f(y[x == place]) for place in at] for f in (np.min, np.max)])


def test_line_and_bands_are_the_draws_in_the_order_of_x():
    predicted = made()
    [axis] = plots.plot_predictive(predicted, X)
    [line] = axis.lines
    np.testing.assert_array_equal(line.get_xdata(), X[ORDER])
    mean = predicted["mean"].mean(("chain", "draw")).to_numpy()
    np.testing.assert_allclose(line.get_ydata(), mean[ORDER])
    for band, (name, level) in zip(
        axis.collections, (("y", 0.95), ("mean", 0.95), ("mean", 0.5)), strict=True
    ):
        draws = predicted[name].to_numpy().reshape(-1, len(X))[:, ORDER]
        expected = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
        np.testing.assert_allclose(edges(band), expected)


def test_priors_and_outputs_have_panels_and_data_of_their_own():
    predicted = made(priors=[0.1, 1.0], outputs=2)
    y = np.arange(6.0).reshape(3, 2)
    axes = plots.plot_predictive(predicted, X, x_data=[0.0, 1.0, 2.0], y_data=y)
    titles = [axis.get_title(loc="left") for axis in axes]
    assert titles == [f"prior {p:g}, output {o}" for o in (0, 1) for p in (0.1, 1.0)]
    for number, axis in enumerate(axes):
        output, prior = divmod(number, 2)
        one = predicted.isel(prior=prior, output=output)
        line, data = axis.lines
        expected = one["mean"].mean(("chain", "draw")).to_numpy()[ORDER]
        np.testing.assert_allclose(line.get_ydata(), expected)
        np.testing.assert_array_equal(data.get_ydata(), y[:, output])
        assert axis.get_ylim() == axes[2 * output].get_ylim()
    assert axes[0].get_ylim() != axes[2].get_ylim()


def test_of_classes_probabilities_are_drawn():
    [axis] = plots.plot_predictive(made("binary"), X, x_data=X, y_data=[0, 1, 1, 0])
    assert len(axis.collections) == 2
    assert axis.get_ylabel() == "probability of y = 1"
    predicted = made("classes", outputs=3)
    [axis] = plots.plot_predictive(predicted, X, x_data=X, y_data=[0, 2, 2, 0])
    assert len(axis.collections) == 3
    for number, line in enumerate(axis.lines[:3]):
        expected = predicted["mean"].sel(output=number).mean(("chain", "draw")).to_numpy()
        np.testing.assert_allclose(line.get_ydata(), expected[ORDER])
    marks = {line.get_color(): sorted(line.get_xdata()) for line in axis.lines[3:]}
    of_class = [axis.lines[number].get_color() for number in (0, 2)]
    assert marks == {of_class[0]: [2.0, 3.0], of_class[1]: [-1.0, 0.5]}


def test_a_single_draw_is_a_line():
    axes = plots.plot_predictive(made(draws=1, priors=["a", "b"]), X)
    assert [len(axis.collections) for axis in axes] == [0, 0]
    assert [len(axis.lines) for axis in axes] == [1, 1]


def test_of_a_real_model_and_a_data_frame():
    bnn = wp.BNN(wp.mlp(["dose"], hidden=()), wp.Poisson())
    x = pd.DataFrame({"dose": X})
    drawn = wp.prior_predictive(bnn, x, prior=wp.normal_prior(bnn, scale=0.3), num_samples=20)
    [axis] = plots.plot_predictive(drawn["prior_predictive"].dataset, x)
    assert axis.get_xlabel() == "dose"
    assert axis.get_ylabel() == "y"


@pytest.mark.parametrize("width", [85, 170])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"priors": [0.1, 0.3, 1.0, 3.0, 10.0]},
        {"priors": ["zero", "reference", "permuted"], "outputs": 2},
        {"kind": "binary", "priors": [0.1, 1.0]},
        {"kind": "classes", "outputs": 4},
    ],
    ids=["single", "scales", "two outputs", "binary", "classes"],
)
def test_everything_is_legible(options, width):
    predicted = made(**options)
    y = np.zeros(
        (len(X), *([predicted.sizes["output"]] if "output" in predicted["y"].dims else []))
    )
    axes = plots.plot_predictive(predicted, X, x_data=X, y_data=y, width=width)
    np.testing.assert_allclose(axes[0].figure.get_size_inches()[0] * 25.4, width)
    assert_legible(axes[0].figure)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"found": None}, TypeError, "found: expected a result of predict; got NoneType"),
        ({"found": made()[["y"]]}, TypeError, "found: expected a result of predict"),
        ({"found": xr.DataTree()}, TypeError, r"Pass predict\(bnn, fit, x\)"),
        ({"x": np.zeros((4, 2))}, ValueError, r"x: expected one feature.*got shape \(4, 2\)"),
        ({"x": X[:3]}, ValueError, "x: expected the 4 rows of found; got 3"),
        ({"x": [0.0, 0.0, 1.0, 2.0]}, ValueError, "x: expected different numbers in all rows"),
        ({"x": [0.0, np.nan, 1.0, 2.0]}, ValueError, "x: expected finite numbers"),
        ({"x_data": X}, ValueError, "y_data: expected data together with x_data"),
        ({"y_data": X}, ValueError, "x_data: expected data together with y_data"),
        ({"x_data": X, "y_data": X[:2]}, ValueError, r"y_data: expected shape \(4,\)"),
        (
            {"found": made("classes", outputs=3), "x_data": X, "y_data": [0, 1, 2, 3]},
            ValueError,
            "y_data: expected classes, numbered from 0 to 2",
        ),
        ({"width": -1}, ValueError, "width: expected a number above 0"),
    ],
)
def test_what_cannot_be_plotted_is_an_error(options, error, message):
    with pytest.raises(error, match=message):
        plots.plot_predictive(**{"found": made(), "x": X} | options)
