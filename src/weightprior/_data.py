"""Data of users: data frames, labelled arrays, tables on a disk, the order of rows."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np
from jax.core import Tracer

from weightprior import _arrays, _checks
from weightprior._running.memory import memory

__all__ = [
    "Stored",
    "aligned",
    "checked",
    "column_names",
    "index_of",
    "inputs",
    "is_stored",
    "num_rows",
    "readable",
    "row_weights",
    "select_rows",
    "targets",
    "untraced",
    "untraced_inputs",
]


def checked(bnn: Any, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and targets as float64 arrays, or raise if they do not suit a model."""
    return inputs(x, bnn.network.feature_names), targets(bnn, x, y)


def targets(bnn: Any, x: Any, y: Any) -> np.ndarray:
    """Return targets as a float64 array, or raise if they do not suit a model or its inputs."""
    array = bnn.likelihood.check_target(y, num_rows(x), bnn.network.num_outputs)
    aligned("y", y, x)
    return array


def untraced_inputs(bnn: Any, x: Any) -> Any:
    """Return inputs as an array, or raise if known numbers do not suit the network."""
    return x if isinstance(x, Tracer) else inputs(x, bnn.network.feature_names)


def untraced(bnn: Any, x: Any, y: Any, counts: Any) -> tuple[Any, Any, Any]:
    """Return rows and their weights as arrays, or raise if known numbers do not suit a model."""
    if any(isinstance(part, Tracer) for part in (x, y, counts)):
        return _arrays.own((x, y, counts))
    return *checked(bnn, x, y), None if counts is None else row_weights(counts, x)


def aligned(argument: str, values: Any, x: Any) -> None:
    """Raise if an index has the labels of that of `x` in another order; warn of other labels."""
    if doubt := _misalignment(argument, values, x):
        _checks.warn(doubt)


def inputs(x: Any, feature_names: tuple[Any, ...]) -> np.ndarray:
    """Return the inputs as a float64 array of shape (rows, features).

    A data frame's columns must be the network's features, in their order, if the network has names
    for them.
    """
    if is_stored(x):
        _check_room(x)
    _arrays.check_container("x", x)
    columns = column_names(x)
    named = any(isinstance(name, str) for name in feature_names)
    if columns is not None and named and columns != feature_names:
        reordered = set(columns) == set(feature_names)
        raise ValueError(
            f"x: expected the columns {_checks.several(feature_names)}; "
            f"got {_checks.several(columns)}. "
            + ("Reorder them" if reordered else "Select the network's features")
            + f": x[{list(feature_names)!r}]."
        )
    array = _arrays.finite("x", x)
    if array.ndim == 1 and len(feature_names) == 1 and hasattr(x, "to_frame"):
        raise ValueError("x: expected a data frame of one column; got a series. Pass x.to_frame().")
    _checks.input_shape(array.shape, len(feature_names))
    if len(array) == 0:
        raise ValueError("x: expected at least one row; got none.")
    return array


def _check_room(x: Any) -> None:
    """Raise if a table and a copy of it do not fit into memory."""
    rows, columns = _known_shape("x", x)
    needed, have = 16 * rows * columns, memory()
    if needed > have:
        raise MemoryError(
            f"x: expected a table that fits into {have / 1e9:.0f} GB of memory twice; got "
            f"{type(x).__name__} of shape {tuple(x.shape)}, which takes {needed / 1e9:.0f} GB. "
            "Pass some of its rows; fit_map, predict(quantiles=...) and score read all of them, a "
            "block at a time."
        )


def readable(x: Any, feature_names: tuple[Any, ...]) -> Any:
    """Return inputs for reading rows block by block, checked as by `inputs`.

    For a table that is not in memory, this is its reader, which checks numbers as it reads them. A
    plain array needs no copy.
    """
    if not is_stored(x):
        return x if _is_fine(x, len(feature_names)) else inputs(x, feature_names)
    stored = Stored("x", x)
    _checks.input_shape(stored.shape, len(feature_names))
    if len(stored) == 0:
        raise ValueError("x: expected at least one row; got none.")
    return stored


def _is_fine(x: Any, num_features: int) -> bool:
    """Tell if `inputs` would return these inputs unchanged, as a copy."""
    plain = type(x) is np.ndarray and x.dtype == np.float64 and x.ndim == 2
    return plain and x.shape[1] == num_features and len(x) > 0 and _arrays.all_finite(x)


def num_rows(x: Any) -> int:
    """Return the number of rows of a table, in memory or not."""
    return x.shape[0] if is_stored(x) else len(x)


def row_weights(values: Any, x: Any, num_parts: int | None = None) -> np.ndarray:
    """Return how often each row counts, or raise; for a stacked prior, one set or one per part."""
    array, num_obs = _arrays.finite("row_weights", values), num_rows(x)
    _checks.row_weights_shape(
        array.shape, (num_obs,), None if num_parts is None else (num_parts, num_obs)
    )
    aligned("row_weights", values, x)
    if np.any(array < 0):
        raise ValueError(
            f"row_weights: expected numbers of at least 0; got {array[array < 0].flat[0]:g}."
        )
    return array


def column_names(x: Any) -> tuple[str, ...] | None:
    """Return the names of a data frame's columns; None for a plain array."""
    columns = getattr(x, "column_names", getattr(x, "columns", None))  # of an Arrow table, first
    return None if columns is None else tuple(str(name) for name in columns)


def index_of(values: Any) -> Any:
    """Return the index of rows of a data frame, series or labelled array; None if there is none."""
    if hasattr(values, "indexes") and hasattr(values, "dims"):
        return values.indexes.get(values.dims[0]) if values.dims else None
    index = getattr(values, "index", None)
    return index if hasattr(index, "equals") else None  # a list has a method of this name


def _misalignment(argument: str, values: Any, x: Any) -> str:
    """Raise if the index has the same labels as that of `x`, in another order.

    Returns
    -------
    str
        The warning, if labels differ and rows are matched by position. Otherwise empty.
    """
    own, of_x = index_of(values), index_of(x)
    if own is None or of_x is None or len(own) != len(of_x) or own.equals(of_x):
        return ""
    differ = next((pair for pair in zip(own, of_x, strict=True) if pair[0] != pair[1]), None)
    if differ is None:  # except for the dtype
        return ""
    if Counter(own) == Counter(of_x):
        ordered = "loc[x.index]" if hasattr(values, "iloc") else "reindex_like(x)"
        by_label = f"Pass {argument}.{ordered} where rows with the same label belong together, "
        raise ValueError(
            f"{argument}: expected the index of x; got its labels in another order. "
            + (by_label if own.is_unique else "Sort both where equal labels belong together, ")
            + f"or {argument}.to_numpy() where rows at the same position do."
        )
    return (
        f"{argument}: expected the index of x; got other labels ({differ[0]!r} where x has "
        f"{differ[1]!r}). Rows at the same position are taken to belong together. If they do, pass "
        f"{argument}.to_numpy()."
    )


def select_rows(values: Any, kept: np.ndarray) -> Any:
    """Select rows of an array or a data frame, by a mask; None stays None."""
    if values is None or kept.all():
        return values
    if isinstance(values, Stored):
        return values.select(kept)
    return values.iloc[kept] if hasattr(values, "iloc") else np.asarray(values)[kept]


def is_stored(values: Any) -> bool:
    """Tell if a table is not in memory: a memory map of NumPy, or from Zarr, dask or HDF5."""
    if isinstance(values, np.memmap):
        return values.ndim == 2
    if not hasattr(values, "chunks") or len(getattr(values, "shape", ())) != 2:
        return False
    # A labelled array has chunks if it is one of dask's.
    return values.chunks is not None or not hasattr(values, "coords")


def _known_shape(argument: str, array: Any) -> tuple[int, int]:
    """Return the shape of a table, or raise if dask has not counted its rows."""
    if not all(isinstance(size, int | np.integer) for size in array.shape):
        raise ValueError(
            f"{argument}: expected a known number of rows; got shape {array.shape}. Call "
            f"{argument}.compute_chunk_sizes() first."
        )
    return int(array.shape[0]), int(array.shape[1])


# Rows that are read together if a table has no chunks, and largest size of a chunk that is read
# whole.
_TOGETHER, _LARGEST_CHUNK = 64, 2**25
# Number of stretches of consecutive rows that represent a table, and rows of each.
_STRETCHES, _STRETCH = 64, 256


class Stored:
    """Rows of a table that is never read as a whole.

    Parameters
    ----------
    argument : str
        Name of the table, for errors.
    array : array of shape (rows, features)
        Any object that returns rows for a slice, in a form that NumPy makes an array of.
    """

    def __init__(self, argument: str, array: Any) -> None:
        self._argument, self._array = argument, array
        self.shape = _known_shape(argument, array)
        self._numbers = np.arange(self.shape[0])

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def together(self) -> int:
        """Number of consecutive rows that are as fast to read as one: those of a chunk."""
        first = (getattr(self._array, "chunks", None) or (_TOGETHER,))[0]
        rows = max(first) if isinstance(first, tuple) else int(first)  # a tuple is dask's
        return rows if rows * self.shape[1] <= _LARGEST_CHUNK else _TOGETHER

    def blocks(self, at_once: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield row numbers in blocks of whole chunks, of about `at_once` rows; and which are new.

        All blocks have one size: the last is filled up with the last row, and these copies are not
        new.
        """
        size = min(max(self.together, at_once // self.together * self.together), len(self))
        for start in range(0, len(self), size):
            rows = np.arange(start, start + size)
            yield np.minimum(rows, len(self) - 1), rows < len(self)

    def spread(self) -> np.ndarray:
        """Return the numbers of some thousand rows, in stretches spread over the table."""
        starts = np.linspace(0, max(len(self) - _STRETCH, 0), _STRETCHES).astype(int)
        rows = np.unique(starts[:, None] + np.arange(_STRETCH))
        return rows[rows < len(self)]

    def read_once(self, check: Callable[[np.ndarray], None]) -> str:
        """Check all rows by blocks, and return their digest: the same as of an array in memory."""
        sha = hashlib.sha256(f"float64 {self.shape} ".encode())
        size = max(self.together, _LARGEST_CHUNK // 8 // self.shape[1])
        for start in range(0, len(self), size):
            check(block := self[start : start + size])
            sha.update(block.tobytes())
        return f"sha256 {sha.hexdigest()[:16]}"

    def select(self, kept: np.ndarray) -> Self:
        """Return a reader of some of the rows, by a mask."""
        some = type(self)(self._argument, self._array)
        some._numbers = self._numbers[kept]
        return some

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Read some rows, by a slice or their numbers, as finite numbers in double precision."""
        wanted, places = np.unique(self._numbers[rows], return_inverse=True)
        if not wanted.size:
            return np.empty((0, self.shape[1]))
        # Adjacent rows are read together.
        runs = np.split(wanted, np.flatnonzero(np.diff(wanted) > 1) + 1)
        return np.concatenate([self._read(int(run[0]), int(run[-1]) + 1) for run in runs])[places]

    def _read(self, start: int, stop: int) -> np.ndarray:
        block = _arrays.numbers(self._argument, np.asarray(self._array[start:stop]))
        bad = np.argwhere(~np.isfinite(block))
        if len(bad):
            row, column = bad[0]
            raise ValueError(
                f"{self._argument}: expected finite numbers; got {block[row, column]} at index "
                f"{(start + int(row), int(column))}. Drop or impute such rows first."
            )
        return block
