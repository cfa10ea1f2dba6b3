"""Data as people hold them: data frames, series, labelled arrays, and the order of their rows."""

from collections import Counter
from typing import Any

import numpy as np
from jax.core import Tracer

from weightprior import _arrays, _checks

__all__ = [
    "aligned",
    "checked",
    "column_names",
    "index_of",
    "inputs",
    "row_weights",
    "select_rows",
    "untraced",
    "untraced_inputs",
]


def checked(bnn: Any, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and targets as float64 arrays, or raise where they do not suit a model."""
    array = inputs(x, bnn.network.feature_names)
    targets = bnn.likelihood.check_target(y, len(array), bnn.network.num_outputs)
    aligned("y", y, x)
    return array, targets


def untraced_inputs(bnn: Any, x: Any) -> Any:
    """Return inputs as an array, or raise where known numbers do not suit the network."""
    return x if isinstance(x, Tracer) else inputs(x, bnn.network.feature_names)


def untraced(bnn: Any, x: Any, y: Any, counts: Any) -> tuple[Any, Any, Any]:
    """Return rows and their weights as arrays, or raise where known numbers do not suit a model."""
    if any(isinstance(part, Tracer) for part in (x, y, counts)):
        return _arrays.own((x, y, counts))
    return *checked(bnn, x, y), None if counts is None else row_weights(counts, x)


def aligned(argument: str, values: Any, x: Any) -> None:
    """Raise where an index has the labels of that of `x` in another order; warn of other labels."""
    if doubt := _misalignment(argument, values, x):
        _checks.warn(doubt)


def inputs(x: Any, feature_names: tuple[Any, ...]) -> np.ndarray:
    """Return the inputs as a float64 array of shape (rows, features).

    A data frame's columns have to be the network's features, in their order, where the network
    has names for them.
    """
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


def row_weights(values: Any, x: Any, num_parts: int | None = None) -> np.ndarray:
    """Return how often each row counts, or raise; for a stacked prior one set per part will do."""
    array, num_obs = _arrays.finite("row_weights", values), len(x)
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
    """Names of a data frame's columns; None for a plain array."""
    columns = getattr(x, "column_names", getattr(x, "columns", None))  # of an Arrow table, first
    return None if columns is None else tuple(str(name) for name in columns)


def index_of(values: Any) -> Any:
    """Index of the rows of a data frame, a series or a labelled array; None where there is none."""
    if hasattr(values, "indexes") and hasattr(values, "dims"):
        return values.indexes.get(values.dims[0]) if values.dims else None
    index = getattr(values, "index", None)
    return index if hasattr(index, "equals") else None  # a list has a method of this name


def _misalignment(argument: str, values: Any, x: Any) -> str:
    """Raise where the index has the labels of that of `x` in another order.

    Returns
    -------
    str
        What to warn of: that the labels differ, and rows go together by position. Else empty.
    """
    own, of_x = index_of(values), index_of(x)
    if own is None or of_x is None or len(own) != len(of_x) or own.equals(of_x):
        return ""
    differ = next((pair for pair in zip(own, of_x, strict=True) if pair[0] != pair[1]), None)
    if differ is None:  # but for the dtype
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
    """Rows of an array or a data frame, by a mask; None stays None."""
    if values is None or kept.all():
        return values
    return values.iloc[kept] if hasattr(values, "iloc") else np.asarray(values)[kept]
