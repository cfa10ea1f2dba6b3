"""A MAP of a table that stays on its disk is that of the same rows in memory."""

import dask.array
import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
import zarr

import weightprior as wp
from weightprior import _data
from weightprior.fits.problem import Problem
from weightprior.inference._coordinates.standardised import Standardised
from weightprior.inference._optima import minibatch, search, stored

ROWS = 203
RNG = np.random.default_rng(0)
X = RNG.normal(size=(ROWS, 3))
Y = X @ [1.0, -2.0, 0.0] + 0.3 + 0.5 * RNG.normal(size=ROWS)
COUNTS = np.tile([1.0, 2.0, 0.0, 0.5], 51)[:ROWS]
# One optimum, wherever a search begins.
LINEAR = wp.BNN(wp.mlp(3, hidden=()), wp.Gaussian())
PRIOR = wp.normal_prior(LINEAR, loc=0.5, scale=0.3)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(stored, "_NUMBERS_AT_ONCE", 3 * 50)
    monkeypatch.setattr("weightprior.fits.results._ROWS_AT_ONCE", 64)
    monkeypatch.setattr(_data, "_TOGETHER", 7)


@pytest.fixture(
    params=[
        "memory map",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("dask", "HDF5", "Zarr")),
    ]
)
def table(request, tmp_path):
    if request.param == "dask":
        yield dask.array.from_array(X, chunks=(11, 2))
    elif request.param == "HDF5":
        with h5py.File(tmp_path / "x.h5", "w") as file:
            yield file.create_dataset("x", data=X, chunks=(16, 3))
    elif request.param == "Zarr":
        yield zarr.create_array(tmp_path / "x.zarr", data=X, chunks=(16, 2))
    else:
        np.save(tmp_path / "x.npy", X)
        yield np.load(tmp_path / "x.npy", mmap_mode="r")


def on_disk(x):
    return dask.array.from_array(x, chunks=(16, x.shape[1]))


def assert_same(found, expected):
    """Where the curvature is at least 1, a gradient of 1e-6 leaves a distance of 1e-6."""
    assert found["restarts"]["converged"].all()
    for group in ("posterior", "sample_stats", "log_prior", "log_likelihood", "observed_data"):
        assert set(found[group].data_vars) == set(expected[group].data_vars)
        for name in {*expected[group].data_vars} - {"num_iterations", "gradient_norm"}:
            values = expected[group][name]
            assert found[group][name].dims == values.dims
            np.testing.assert_allclose(found[group][name], values, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", [{"row_weights": COUNTS}], ids=["row_weights"])
def test_is_the_optimum_of_the_same_rows_in_memory(table, options):
    found, expected = (
        wp.fit_map(LINEAR, x, Y, prior=PRIOR, num_restarts=2, **options) for x in (table, X)
    )
    assert_same(found, expected)
    constants, kept = found["constant_data"].dataset, expected["constant_data"].dataset
    assert constants.drop_attrs().identical(kept.drop_vars("x"))
    assert tuple(constants.attrs["x_shape"]) == X.shape


@pytest.mark.slow
def test_goes_on_from_mini_batches(table):
    options = {"num_restarts": 2, "batch_size": 20, "num_epochs": 10}
    found, expected = (wp.fit_map(LINEAR, x, Y, prior=PRIOR, **options) for x in (table, X))
    assert_same(found, expected)


@pytest.mark.slow
def test_every_part_of_a_stack_has_its_own():
    path = wp.stack_priors({s: wp.normal_prior(LINEAR, scale=s) for s in (0.1, 1.0)})
    found, expected = (wp.fit_map(LINEAR, x, Y, prior=path) for x in (on_disk(X), X))
    assert_same(found, expected)


def test_the_matrix_of_a_round_is_that_of_all_rows():
    prior = {"prior": PRIOR, "row_weights": COUNTS}
    problem = Problem.checked(LINEAR, on_disk(X), Y, **prior, by_blocks=True)
    [task] = problem.tasks
    with jax.enable_x64(True):
        coordinates = Standardised(LINEAR, X, Y, task, np.float64)
        z = np.linspace(-1, 1, coordinates.size)
        item = task.prior, np.int32(0)
        rows = stored._Rows(problem, task, item, lambda given, run: run(LINEAR, (item, given)))
        found, expected = rows.precision(z), coordinates.precision(jnp.asarray(z))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_goes_in_rounds_where_the_first_does_not_do(monkeypatch):
    monkeypatch.setattr(search, "_PLAIN_STEPS", 5)
    fit = wp.fit_map(LINEAR, on_disk(X), Y, prior=PRIOR, num_restarts=2)
    assert_same(fit, wp.fit_map(LINEAR, X, Y, prior=PRIOR, num_restarts=2))
    assert (fit["restarts"]["num_iterations"] > 5).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("likelihood", "y"),
    [
        (wp.Categorical([0, 1, 2]), np.digitize(Y, [-1, 1])),
        (wp.Poisson(), np.random.default_rng(1).poisson(np.exp(0.3 * X[:, 0]))),
        (wp.StudentT(), Y),
    ],
    ids=["classes", "counts", "heavy tails"],
)
def test_is_that_of_every_likelihood(likelihood, y):
    outputs = 3 if isinstance(likelihood, wp.Categorical) else 1
    bnn = wp.BNN(wp.mlp(3, hidden=(), num_outputs=outputs), likelihood)
    prior = wp.normal_prior(bnn)
    found, expected = (wp.fit_map(bnn, x, y, prior=prior, num_restarts=2) for x in (on_disk(X), X))
    assert_same(found, expected)


class Watched:
    """A table that takes note of how many rows are read at once."""

    chunks = (4, 3)
    shape = X.shape
    most = 0

    def __getitem__(self, rows):
        self.most = max(self.most, len(X[rows]))
        return X[rows]


def test_is_never_read_whole(monkeypatch):
    monkeypatch.setattr(_data, "_LARGEST_CHUNK", 8 * 3 * 40)
    monkeypatch.setattr(_data, "_STRETCHES", 3)
    monkeypatch.setattr(_data, "_STRETCH", 5)
    monkeypatch.setattr(minibatch, "_MANY_ROWS", 50)
    table = Watched()
    wp.fit_map(LINEAR, table, Y, prior=PRIOR, num_restarts=1, batch_size=20, num_epochs=1)
    assert 0 < table.most <= 64


def test_fits_have_a_digest_in_place_of_the_table(tmp_path):
    fit = wp.fit_map(LINEAR, on_disk(X), Y, prior=PRIOR, num_restarts=1)
    fit.to_netcdf(tmp_path / "fit.nc")
    fit = xr.open_datatree(tmp_path / "fit.nc")
    in_memory = wp.fit_map(LINEAR, X, Y, prior=PRIOR, num_restarts=1)
    expected = wp.two_part_code(LINEAR, in_memory)["bits"].item()
    assert wp.two_part_code(LINEAR, fit, on_disk(X))["bits"].item() == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"x: expected the table of shape \(203, 3\) .* Pass x\."):
        wp.two_part_code(LINEAR, fit)
    with pytest.raises(ValueError, match=r"x: expected the table .* got other numbers"):
        wp.two_part_code(LINEAR, fit, X[::-1])
    assert wp.score(LINEAR, fit, on_disk(X), Y)["elpd"] == pytest.approx(
        wp.score(LINEAR, in_memory, X, Y)["elpd"].item()
    )


def test_tables_of_comparisons_say_what_is_missing():
    fit = wp.fit_map(LINEAR, on_disk(X), Y, prior=PRIOR, num_restarts=1, log_likelihood=False)
    note = wp.compare(LINEAR, {"map": fit}, X, Y).loc["map", "note"]
    assert "parameters not counted: the fit does not hold x" in note


@pytest.mark.slow
def test_optima_that_cannot_be_are_told():
    bnn = wp.BNN(wp.mlp(3, hidden=()), wp.Bernoulli())
    flat = wp.normal_prior(bnn, scale=np.inf)
    with pytest.warns(UserWarning, match=r"There is no finite optimum: the classes are separated"):
        fit = wp.fit_map(bnn, on_disk(X), X[:, 0] > 0, prior=flat, num_restarts=1, max_iterations=9)
    assert not fit["restarts"]["converged"].any()


def test_what_some_of_the_rows_leave_open_is_only_possible(monkeypatch):
    """The first and last rows are of one class; those between, which are not looked at, of both."""
    monkeypatch.setattr(_data, "_STRETCHES", 2)
    monkeypatch.setattr(_data, "_STRETCH", 20)
    bnn = wp.BNN(wp.mlp(3, hidden=()), wp.Bernoulli())
    flat = wp.normal_prior(bnn, scale=np.inf)
    y = np.zeros(ROWS)
    y[30:170:3] = 1
    with pytest.warns(UserWarning, match=r"may be no finite optimum: of 40 rows of .* may run off"):
        fit = wp.fit_map(bnn, on_disk(X), y, prior=flat, num_restarts=1)
    assert fit["restarts"]["converged"].all()


@pytest.mark.slow
def test_scales_are_doubted_as_in_memory():
    with pytest.warns(UserWarning, match="Standardise y"):
        wp.fit_map(LINEAR, on_disk(X), Y + 1e6, prior=PRIOR, num_restarts=1)


def test_a_row_that_is_not_finite_is_named():
    broken = X.copy()
    broken[17, 1] = np.inf
    with pytest.raises(ValueError, match=r"x: expected finite numbers; got inf at index \(17, 1\)"):
        wp.fit_map(LINEAR, on_disk(broken), Y, prior=PRIOR)
