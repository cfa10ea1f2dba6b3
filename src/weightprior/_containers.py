"""Arrays as people hold them: data frames, series, masked and sparse ones, and their rows' order.

What NumPy would take in without a word, and not as it was meant, is refused here.
"""

from collections import Counter
from typing import Any

import numpy as np

__all__ = ["check_alignment", "check_plain", "column_names", "index_of", "select_rows", "with_nan"]


def check_plain(argument: str, values: Any) -> None:
    """Raise where an array would lose its meaning as plain numbers: masks, sparsity, categories."""
    masked = int(np.ma.count_masked(values)) if isinstance(values, np.ma.MaskedArray) else 0
    if masked:
        raise ValueError(
            f"{argument}: expected an array without a mask; got {masked} masked of "
            f"{np.size(values)} numbers. Drop their rows, or fill them in: "
            f"{argument}.filled({argument}.mean())."
        )
    if hasattr(values, "toarray") and hasattr(values, "nnz"):
        raise TypeError(
            f"{argument}: expected a dense array; got a sparse {type(values).__name__}. "
            f"Pass {argument}.toarray()."
        )
    categorical = [name for name, kind in _kinds(values) if _is_categorical(kind)]
    if categorical:
        found = _categories(argument, values, categorical)
        raise TypeError(f"{argument}: expected numbers; got {found}")


def _kinds(values: Any) -> list[tuple[Any, Any]]:
    """Name and dtype of every column, as far as a container tells."""
    if hasattr(values, "schema") and hasattr(values, "column_names"):  # an Arrow table
        return list(zip(values.column_names, values.schema.types, strict=True))
    kinds = getattr(values, "dtypes", None)
    if hasattr(values, "columns") and hasattr(kinds, "items"):
        return list(kinds.items())  # pyright: ignore
    return [(None, getattr(values, "dtype", getattr(values, "type", None)))]


def _is_categorical(kind: Any) -> bool:
    return _is_dictionary(kind) or (hasattr(kind, "categories") and hasattr(kind, "ordered"))


def _is_dictionary(kind: Any) -> bool:
    return hasattr(kind, "index_type") and hasattr(kind, "value_type")  # as Arrow calls it


def _categories(argument: str, values: Any, columns: list[Any]) -> str:
    """Say what categories are, and how they become numbers."""
    if hasattr(values, "to_pandas"):
        return f"an Arrow dictionary. Convert it first: {argument}.to_pandas()."
    if columns == [None]:
        return (
            f"categories. If they are numbers: {argument}.astype(float). If they are classes, "
            f"pass them to a likelihood with their names: Categorical(list({argument}.unique()))."
        )
    return (
        f"the categorical column {columns[0]!r}. For a column per category: x = "
        f"pandas.get_dummies({argument}, columns={columns!r}, dtype=float), in a network "
        "mlp(list(x.columns)). If its categories are numbers that may be compared: "
        f"{argument}.astype({{{columns[0]!r}: float}})."
    )


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


def check_alignment(argument: str, values: Any, x: Any) -> str:
    """Raise where the index has the labels of that of `x` in another order.

    Returns
    -------
    str
        What to warn of: that the labels differ, and rows go together by position. Else empty.
    """
    own, of_x = index_of(values), index_of(x)
    if own is None or of_x is None or len(own) != len(of_x) or own.equals(of_x):
        return ""
    if Counter(own) == Counter(of_x):
        ordered = "loc[x.index]" if hasattr(values, "iloc") else "reindex_like(x)"
        by_label = f"Pass {argument}.{ordered} where rows with the same label belong together, "
        raise ValueError(
            f"{argument}: expected the index of x; got its labels in another order. "
            + (by_label if own.is_unique else "Sort both where equal labels belong together, ")
            + f"or {argument}.to_numpy() where rows at the same position do."
        )
    differ = next((pair for pair in zip(own, of_x, strict=True) if pair[0] != pair[1]), None)
    if differ is None:  # but for the dtype
        return ""
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


def with_nan(array: np.ndarray) -> np.ndarray:
    """The array, with NaN for what stands for a missing value among objects."""
    if array.dtype.kind != "O":
        return array
    from pandas import isna  # which importing a model is not to wait for

    missing = isna(array)
    return np.where(missing, np.nan, array) if missing.any() else array
