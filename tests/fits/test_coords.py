"""What tells the priors of a grid apart goes into fits, and into what is computed from them."""

import arviz as az
import numpy as np
import pytest

import weightprior as wp
from shared_fits import FRAME, LINEAR, TARGET, point_fit

CELLS = [(c, s) for c in (0.0, 1.0) for s in (0.1, 1.0)]
COORDS = {"loc": [c for c, _ in CELLS], "width": ["narrow", "wide"] * 2}
GRID = wp.stack_priors([wp.normal_prior(LINEAR, c, s) for c, s in CELLS], coords=COORDS)


def assert_told(found):
    for name, values in COORDS.items():
        assert found[name].dims == ("prior",)
        assert found[name].to_numpy().tolist() == values
    assert found["prior"].to_numpy().tolist() == [0, 1, 2, 3]


def test_fits_and_what_is_computed_from_them_carry_coords(tmp_path):
    fit = point_fit(LINEAR, FRAME, TARGET, prior=GRID)
    fit.to_netcdf(tmp_path / "fit.nc")
    read = az.from_netcdf(tmp_path / "fit.nc")
    for group in ("posterior", "sample_stats", "log_likelihood", "constant_data"):
        assert_told(read[group])
    given = {"prior": GRID, "fit": point_fit}
    assert_told(wp.score(LINEAR, fit, FRAME, TARGET))
    assert_told(wp.predict(LINEAR, fit, FRAME))
    assert_told(wp.cross_validate(LINEAR, FRAME, TARGET, num_folds=4, **given))
    assert_told(wp.prequential_code(LINEAR, FRAME, TARGET, num_blocks=2, **given))
    assert_told(wp.diagnostics.contraction(LINEAR, fit))
    assert all("width" not in part["posterior"].coords for part in wp.unstack_fit(fit).values())


def test_coords_are_part_of_the_structure():
    assert GRID.labels == (0, 1, 2, 3)
    assert hash(GRID.coords) == hash(GRID.coords)
    assert GRID[1].coords == ()
    np.testing.assert_array_equal(GRID[1].scale["output.bias"], 0.1 * 10)


@pytest.mark.parametrize(
    ("coords", "message"),
    [
        ({"scale": [1.0, 2.0]}, r"coords\['scale'\]: expected .* each of the 4 priors; got shape"),
        ({"scale": [None] * 4}, "of dtype object"),
        ({"draw": range(4)}, "expected a name of its own; got 'draw'"),
        ({"output.bias": range(4)}, r"got 'output\.bias', which a fit has already"),
        ({3: range(4)}, "expected a name of its own; got 3"),
    ],
)
def test_coords_that_cannot_be_are_named(coords, message):
    with pytest.raises(ValueError, match=message):
        wp.stack_priors([wp.normal_prior(LINEAR)] * 4, coords=coords)
