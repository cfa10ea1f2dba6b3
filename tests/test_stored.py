"""Tables that stay on a disk are read a block of rows at a time, or refused with a way out."""

import dask.array
import h5py
import numpy as np
import pytest
import xarray as xr
import zarr

import weightprior as wp
from shared_fits import FRAME, REGRESSION, drawn
from weightprior._data import Stored, is_stored
from weightprior.evaluation import _metrics, _quantiles
from weightprior.evaluation.refits import grouped
from weightprior.evidence.prequential import _blocks

ROWS = 23
X = np.random.default_rng(0).normal(size=(ROWS, 2))
Y = np.sin(X[:, 0]) + 0.3 * np.random.default_rng(1).normal(size=ROWS)
COUNTS = np.tile([1.0, 2.0, 0.0, 1.0], 6)[:ROWS]


class Watched:
    """An array that takes note of how many rows are read at once."""

    chunks = (4, 2)

    def __init__(self, array):
        self._array, self.shape, self.most = array, array.shape, 0

    def __len__(self):
        return len(self._array)

    def __array__(self, dtype=None, copy=None):
        return np.array(self._array, dtype)

    def __getitem__(self, rows):
        found = self._array[rows]
        self.most = max(self.most, len(found))
        return found


def memmap(folder):
    np.save(folder / "x.npy", X)
    return np.load(folder / "x.npy", mmap_mode="r")


def hdf5(folder, chunks=None):
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("x", data=X, chunks=chunks)
    return h5py.File(folder / "x.h5")["x"]


KINDS = {
    "memory map": memmap,
    "HDF5": hdf5,
    "HDF5 in chunks": lambda folder: hdf5(folder, (5, 2)),
    "Zarr": lambda folder: zarr.create_array(folder / "x.zarr", data=X, chunks=(6, 1)),
    "dask": lambda folder: dask.array.from_array(X, chunks=(6, 1)),
    "labelled": lambda folder: xr.DataArray(dask.array.from_array(X), dims=("row", "column")),
    "own": lambda folder: Watched(X),
}


@pytest.fixture(params=KINDS)
def table(request, tmp_path):
    found = KINDS[request.param](tmp_path)
    yield found
    if request.param.startswith("HDF5"):
        found.file.close()


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(_quantiles, "_NUMBERS_AT_ONCE", 4000 * 5)
    monkeypatch.setattr(_metrics, "_NUMBERS_AT_ONCE", 4000 * 5)


@pytest.mark.usefixtures("small_blocks")
def test_predictions_and_scores_are_those_of_the_same_rows_in_memory(table):
    fit = drawn("hmc")
    for found, expected in (
        (
            wp.predict(REGRESSION, fit, table, quantiles=(0.1, 0.9)),
            wp.predict(REGRESSION, fit, X, quantiles=(0.1, 0.9)),
        ),
        (wp.score(REGRESSION, fit, table, Y), wp.score(REGRESSION, fit, X, Y)),
        (
            wp.score(REGRESSION, fit, table, Y, row_weights=COUNTS),
            wp.score(REGRESSION, fit, X, Y, row_weights=COUNTS),
        ),
    ):
        assert found.identical(expected)
    if isinstance(table, Watched):
        assert table.most == 5


def test_rows_come_in_the_order_that_is_asked_for(table):
    assert is_stored(table)
    stored = Stored("x", table)
    for rows in (slice(3, 9), np.array([20, 1, 2, 3, 1, 22]), np.arange(0)):
        np.testing.assert_array_equal(stored[rows], X[rows])
    np.testing.assert_array_equal(stored.select(COUNTS > 0)[2:5], X[COUNTS > 0][2:5])


def test_what_fits_into_memory_is_read_by_all_others(table):
    prior = wp.normal_prior(REGRESSION)
    found = wp.fit_laplace(REGRESSION, table, Y, prior=prior)
    assert found["posterior"].dataset.identical(
        wp.fit_laplace(REGRESSION, X, Y, prior=prior)["posterior"].dataset
    )


def test_what_does_not_is_refused_by_all_others():
    large, y = dask.array.zeros((10**11, 2), chunks=(10**6, 2)), np.zeros(3)
    calls = (
        lambda: wp.fit_laplace(REGRESSION, large, y, prior=wp.normal_prior(REGRESSION)),
        lambda: wp.fit_mcmc(REGRESSION, large, y, prior=wp.normal_prior(REGRESSION)),
        lambda: wp.predict(REGRESSION, drawn("hmc"), large),
        lambda: wp.diagnostics.saturation(REGRESSION, drawn("hmc"), large),
        lambda: REGRESSION.outputs({}, large),
    )
    for call in calls:
        with pytest.raises(MemoryError, match=r"x: .* takes 3200 GB\. Pass some of its rows"):
            call()


def test_what_is_in_memory_is_no_such_table(tmp_path):
    for values in (
        X,
        FRAME,
        FRAME.to_numpy().tolist(),
        xr.DataArray(X),
        np.asarray(memmap(tmp_path)),
    ):
        assert not is_stored(values)
    fit = wp.fit_map(REGRESSION, np.asarray(memmap(tmp_path)), Y, prior=wp.normal_prior(REGRESSION))
    assert fit["constant_data"]["x"].shape == X.shape


def test_a_row_that_is_not_finite_is_named():
    broken = X.copy()
    broken[17, 1] = np.nan
    with pytest.raises(ValueError, match=r"x: expected finite numbers; got nan at index \(17, 1\)"):
        wp.score(REGRESSION, drawn("hmc"), dask.array.from_array(broken, chunks=5), Y)


def test_wrong_shapes_are_told():
    fit = drawn("hmc")
    with pytest.raises(ValueError, match="x: expected"):
        wp.score(REGRESSION, fit, dask.array.zeros((5, 3)), np.zeros(5))
    with pytest.raises(ValueError, match="y: expected shape"):
        wp.score(REGRESSION, fit, dask.array.zeros((5, 2)), np.zeros(6))
    unknown = dask.array.from_array(X)[dask.array.from_array(Y) > 0]
    prior = wp.normal_prior(REGRESSION)
    for call in (
        lambda: wp.score(REGRESSION, fit, unknown, Y),
        lambda: wp.predict(REGRESSION, fit, unknown),
        lambda: wp.fit_laplace(REGRESSION, unknown, Y, prior=prior),
    ):
        with pytest.raises(ValueError, match=r"compute_chunk_sizes\(\) first"):
            call()


@pytest.mark.parametrize("kind", ["HDF5", "Zarr", "dask"])
def test_classes_and_groups_may_stand_beside_a_table(kind, tmp_path):
    """Of whatever kind the labels are themselves."""
    bnn = wp.BNN(wp.mlp(2, hidden=()), wp.Bernoulli())
    x, classes = KINDS[kind](tmp_path), (Y > 0).astype(int)
    if kind == "HDF5":
        with h5py.File(tmp_path / "y.h5", "w") as file:
            file.create_dataset("y", data=classes)
    labels = h5py.File(tmp_path / "y.h5")["y"] if kind == "HDF5" else classes
    np.testing.assert_array_equal(bnn.likelihood.check_target(labels, ROWS, 1), classes)
    of_rows = np.arange(ROWS) % 3
    names, groups = grouped("groups", of_rows, x)
    assert names.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(groups, of_rows)
    _, blocks = _blocks(x, 3, None)
    assert len(blocks) == ROWS
