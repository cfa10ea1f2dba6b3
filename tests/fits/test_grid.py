"""Where the best of a grid of priors stands, and if the grid goes on."""

import numpy as np
import pytest

import weightprior as wp
from weightprior.fits.grid import gain_of_rows, grid_of, open_ends
from weightprior.fits.rows import Rows

BNN = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))


def of(stack):
    return grid_of(stack.labels, dict(stack.coords), stack.singles())


def ends(grid, values, error=0.5):
    grid = {name: np.asarray(numbers) for name, numbers in grid.items()}
    best = int(np.argmax(values))
    return open_ends(grid, best, lambda one, other: (values[one] - values[other], error))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([0.0, 3.0, 7.0], "the upper end of scale, 0.1 to 10: extend the grid above 10"),
        ([9.0, 3.0, 1.0], "the lower end of scale, 0.1 to 10: extend the grid below 0.1"),
        ([0.0, 3.0, 1.0], ""),
        ([0.0, 3.0, 3.4], ""),  # within a standard error
    ],
)
def test_the_best_at_an_end_is_told_where_the_curve_still_rises(values, told):
    assert ends({"scale": [0.1, 1.0, 10.0]}, values) == told


def test_order_is_that_of_the_numbers():
    assert "extend the grid above 10" in ends({"scale": [1.0, 10.0, 0.1]}, [3.0, 7.0, 0.0])


def test_an_error_that_is_not_known_leaves_the_difference():
    grid = {"scale": [0.1, 1.0, 10.0]}
    assert ends(grid, [0.0, 3.0, 7.0], np.nan)
    assert ends(grid, [0.0, 6.95, 7.0], np.nan) == ""
    assert ends(grid, [0.0, 6.95, 7.0], 0.0) == ""


@pytest.mark.parametrize("numbers", [[0.1, 1.0], [1.0, 1.0, 1.0], [0.1, 1.0, np.inf]])
def test_two_priors_are_no_grid_and_nothing_lies_beyond_a_flat_one(numbers):
    assert ends({"scale": numbers}, [0.0, 3.0, 7.0][: len(numbers)]) == ""


def test_every_axis_of_a_grid_is_told_by_itself():
    cells = [(c, s) for c in (0.0, 1.0, 2.0) for s in (0.1, 1.0, 10.0)]
    grid = {"loc": [c for c, _ in cells], "scale": [s for _, s in cells]}
    both = ends(grid, [3 * c + np.log(s) for c, s in cells])
    assert both.startswith("the upper end of loc, 0 to 2: extend the grid above 2; and at ")
    assert both.endswith("the upper end of scale, 0.1 to 10: extend the grid above 10")
    inner = ends(grid, [-((c - 1) ** 2) - np.log(s) for c, s in cells])
    assert inner == "the lower end of scale, 0.1 to 10: extend the grid below 0.1"


def test_words_divide_a_grid_and_the_same_numbers_in_other_units_are_told_once():
    grid = {"centre": ["zero"] * 3 + ["old"] * 3, "scale": [0.1, 1.0, 10.0] * 2}
    grid["log10"] = np.log10(grid["scale"])
    assert ends(grid, [0.0, 1.0, 2.0, 0.0, 3.0, 7.0]).count("extend") == 1


def test_a_stack_tells_its_numbers_by_coordinates_labels_or_scales():
    priors = [wp.normal_prior(BNN, scale=s) for s in (0.1, 1.0, 10.0)]
    log10 = (-1, 0, 1)
    assert of(wp.stack_priors(priors, coords={"log10": log10}))["log10"].tolist() == [*log10]
    labelled = wp.stack_priors(dict(zip((0.1, 1.0, 10.0), priors, strict=True)))
    assert of(labelled)["prior"].tolist() == [0.1, 1.0, 10.0]
    named = wp.stack_priors(dict(zip("abc", priors, strict=True)))
    for stack in (wp.stack_priors(priors), named):
        np.testing.assert_allclose(of(stack)["scale"], [0.1, 1.0, 10.0])


def test_named_priors_around_several_centres_are_no_grid():
    apart = wp.stack_priors([wp.normal_prior(BNN, loc=s, scale=s) for s in (0.1, 1.0, 10.0)])
    assert of(apart) == {}


def test_gains_are_paired_by_row():
    rng = np.random.default_rng(0)
    terms, rows = rng.normal(size=(2, 30)), Rows(np.ones(30))
    gain, error = gain_of_rows(terms, rows)(1, 0)
    paired = terms[1] - terms[0]
    np.testing.assert_allclose(gain, paired.sum())
    np.testing.assert_allclose(error, np.sqrt(30) * paired.std(ddof=1))
