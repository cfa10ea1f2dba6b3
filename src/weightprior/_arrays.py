"""Arrays from the containers of users: numbers, or entries of any kind, without silent losses.

Containers with masks, sparse zeros, categories or dates, which an array would lose, are refused.
The message says what to pass instead.
"""

from collections.abc import Iterator, Mapping, MappingView
from collections.abc import Set as AbstractSet
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "all_finite",
    "check_container",
    "entries",
    "finite",
    "in_precision",
    "numbers",
    "own",
    "weights",
]

# XLA wants an array's memory to begin at a multiple of this many bytes.
_ALIGNMENT = 64


def weights(argument: str, values: Any, sites: Mapping[str, Any]) -> None:
    """Raise if weights are not an array of numbers for every site."""
    if not isinstance(values, Mapping):
        raise TypeError(f"{argument}: expected a dict of arrays by site; got {values!r}.")
    expected = {name: site.shape for name, site in sites.items()}
    shapes = {name: np.shape(array) for name, array in values.items()}
    if shapes != expected:
        raise ValueError(f"{argument}: expected the sites and shapes {expected}; got {shapes}.")
    for name, array in values.items():
        finite(f"{argument}[{name!r}]", array)


def finite(argument: str, values: Any, advice: str = "") -> np.ndarray:
    """Return `values` as a float64 array without NaN or infinity; data by default."""
    array = numbers(argument, values)
    if not all_finite(array):
        bad = np.argwhere(~np.isfinite(array))
        raise ValueError(
            f"{argument}: expected finite numbers; got {len(bad)} NaN or infinite of {array.size}, "
            f"the first at index {tuple(int(i) for i in bad[0])}. "
            f"{advice or _way_out(array)}"
        )
    return array


def all_finite(array: np.ndarray) -> bool:
    """Tell if an array holds neither NaN nor infinity, without another array as large."""
    return bool(np.isfinite([array.min(initial=0), array.max(initial=0)]).all())


def _way_out(array: np.ndarray) -> str:
    """Advise on numbers that are not finite: for a column, the usual reason is its scale."""
    empty = np.flatnonzero(~np.isfinite(array).any(0)) if array.ndim == 2 and len(array) > 1 else ()
    if len(empty):
        which = f"Column {empty[0]} has" if len(empty) == 1 else f"{len(empty)} columns have"
        return (
            f"{which} no finite number: a constant one cannot be divided by its standard "
            "deviation. Drop such columns."
        )
    return "Drop or impute them first."


def own(tree: Any) -> Any:
    """Copy NumPy's arrays in a pytree, so that nothing else refers to them.

    If a compiled function holds a NumPy array, JAX keeps it in the precision of its first use, and
    then uses that in the other precision as well.
    """
    copies: dict[int, Any] = {}  # one copy of each, however often it is in the tree

    def copied(leaf: Any) -> Any:
        if not isinstance(leaf, np.ndarray):
            return leaf
        if id(leaf) not in copies:
            copies[id(leaf)] = _aligned(leaf, leaf.dtype)
        return copies[id(leaf)]

    return jax.tree.map(copied, tree)


def in_precision(values: Any, dtype: Any) -> jax.Array:
    """Return an array in this precision, or as it is if its numbers are whole."""
    is_real = jnp.issubdtype(jnp.asarray(values).dtype, jnp.floating)
    # A copy, since a NumPy array would be a constant of the program.
    return jnp.asarray(values, dtype) if is_real else jnp.array(values)


def numbers(argument: str, values: Any) -> np.ndarray:
    """Return `values` as a new float64 array; text is no number, even if it spells one.

    A missing value becomes NaN.
    """
    check_container(argument, values)
    _check_columns(argument, values)
    try:
        array = _with_nan(np.asarray(values))
        # Text and complex numbers: numpy would convert them silently.
        if array.dtype.kind in "OSUT":
            _check_text(argument, values, array)
        if values is None or array.dtype.kind == "c":
            raise TypeError(f"dtype {array.dtype}")
        with np.errstate(over="ignore"):  # beyond float64: `finite` raises for these
            return _aligned(array, np.dtype(np.float64))
    except (TypeError, ValueError, OverflowError) as error:
        if str(error).startswith(f"{argument}: "):
            raise
        reason = str(error).rstrip(".")
        raise TypeError(
            f"{argument}: expected numbers; got {type(values).__name__} ({reason})."
        ) from None


def _aligned(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Copy numbers to an aligned array, which JAX on a CPU uses without another copy."""
    memory = np.empty(array.size * dtype.itemsize + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    copy = memory[start : len(memory) - _ALIGNMENT + start].view(dtype).reshape(array.shape)
    copy[...] = array
    return copy


def entries(argument: str, values: Any) -> np.ndarray:
    """Return `values` as an array of objects; None for masked entries."""
    # As objects: next to text, numpy would turn numbers and missing entries into text as well.
    check_container(argument, values, masks=False)
    try:
        read = np.asarray(values) if hasattr(values, "chunks") else values  # HDF5 makes no objects
        found = np.array(read, dtype=object)
    except (TypeError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise TypeError(
            f"{argument}: expected an entry for every row; got {type(values).__name__} ({reason})."
        ) from None
    if np.ma.isMaskedArray(values):
        found[np.ma.getmaskarray(values)] = None
    return found


def check_container(argument: str, values: Any, *, masks: bool = True) -> None:
    """Raise if a container is no array, or if it means more than its plain numbers."""
    name = type(values).__name__
    if hasattr(values, "toarray") and hasattr(values, "nnz"):
        raise TypeError(
            f"{argument}: expected a dense array; got a sparse {name}. Pass {argument}.toarray()."
        )
    if way_out := _as_array(argument, values):
        raise TypeError(
            f"{argument}: expected an array or a data frame; got {name}. Pass {way_out}."
        )
    fields = values.dtype.names if isinstance(values, np.ndarray) else None
    if fields:
        raise TypeError(
            f"{argument}: expected numbers; got a structured array of the fields "
            f"{', '.join(map(repr, fields))}. Pass one of them, {argument}[{fields[0]!r}], or all "
            f"as columns, pandas.DataFrame({argument})."
        )
    if isinstance(values, list | tuple) and any(np.ma.isMaskedArray(v) for v in values):
        raise TypeError(
            f"{argument}: expected an array; got a {name} of masked ones. "
            f"Pass numpy.ma.array({argument})."
        )
    masked = int(np.ma.count_masked(values)) if np.ma.isMaskedArray(values) else 0
    if masked and masks:
        rows = f"{argument}.mask" + (".any(axis=1)" if np.ndim(values) == 2 else "")
        raise ValueError(
            f"{argument}: expected an array without a mask; got {masked} masked of "
            f"{np.size(values)} numbers. Drop their rows everywhere: kept = ~{rows}, then "
            f"{argument}[kept], and the same rows of the others."
        )


def _as_array(argument: str, values: Any) -> str:
    """Write code that makes an array of a container that is none; empty if it is one."""
    if hasattr(values, "collect") and hasattr(values, "collect_schema"):  # a lazy frame
        return f"{argument}.collect()"
    if isinstance(values, Mapping):
        to_frame = hasattr(values, "to_dataframe")  # of xarray's
        return f"{argument}.to_dataframe()" if to_frame else f"pandas.DataFrame({argument})"
    if isinstance(values, Iterator | MappingView):
        return f"list({argument})"
    return "a list, since a set has no order" if isinstance(values, AbstractSet) else ""


def _check_columns(argument: str, values: Any) -> None:
    """Raise if a column is no number: categories, dates."""
    kinds = _kinds(values)
    categorical = [name for name, kind in kinds if _is_categorical(kind)]
    if categorical:
        found = _categories(argument, values, categorical)
        raise TypeError(f"{argument}: expected numbers; got {found}")
    for name, kind in kinds:
        if _is_temporal(kind):
            column = argument if name is None else f"{argument}[{name!r}]"
            what = "dates or times" if name is None else f"the column {name!r} of dates or times"
            raise TypeError(
                f"{argument}: expected numbers; got {what}, {kind}. {_as_days(column, kind)}"
            )


def _kinds(values: Any) -> list[tuple[Any, Any]]:
    """Return name and dtype of every column, as far as a container tells."""
    if hasattr(values, "schema") and hasattr(values.schema, "types"):  # an Arrow table
        return list(zip(values.schema.names, values.schema.types, strict=True))
    kinds = getattr(values, "dtypes", None)
    if hasattr(values, "columns") and hasattr(kinds, "items"):
        return list(kinds.items())  # pyright: ignore
    if isinstance(kinds, list):  # polars
        return list(zip(values.columns, kinds, strict=True))
    return [(None, getattr(values, "dtype", getattr(values, "type", None)))]


def _is_categorical(kind: Any) -> bool:
    of_arrow = hasattr(kind, "index_type") and hasattr(kind, "value_type")
    return of_arrow or (hasattr(kind, "categories") and hasattr(kind, "ordered"))


def _is_temporal(kind: Any) -> bool:
    # By name: numpy, pandas, polars and Arrow agree on these.
    return str(kind).lower().startswith(("date", "time", "duration", "period", "interval"))


def _as_days(column: str, kind: Any) -> str:
    """Write how dates become numbers, if one line of numpy or pandas can do it."""
    day = "numpy.timedelta64(1, 'D')"
    of_numpy = {"M": f"({column} - {column}.min()) / {day}", "m": f"{column} / {day}"}
    told = f": {code}" if (code := of_numpy.get(getattr(kind, "kind", ""))) else ""
    return f"Replace them by numbers, such as days since the first{told}."


def _categories(argument: str, values: Any, columns: list[Any]) -> str:
    """Describe categories, and how they become numbers."""
    if hasattr(values, "to_pandas") and not hasattr(values, "to_dummies"):
        return f"an Arrow dictionary. Convert it first: {argument}.to_pandas()."
    if columns == [None]:
        return (
            f"categories. If they are numbers: {argument}.astype(float). If they are classes, "
            f"pass them to a likelihood with their names: Categorical(list({argument}.unique()))."
        )
    if hasattr(values, "to_dummies"):  # polars
        return f"the categorical column {columns[0]!r}. {_dummies(argument, values, columns)}"
    return (
        f"the categorical column {columns[0]!r}. {_dummies(argument, values, columns)} If its "
        f"categories are numbers that may be compared: "
        f"{argument}.astype({{{columns[0]!r}: float}})."
    )


def _dummies(argument: str, values: Any, columns: list[Any]) -> str:
    """Write code that gives a table a column for every category."""
    if hasattr(values, "to_dummies"):
        code = f"{argument}.to_dummies({columns!r})"
    else:
        code = f"pandas.get_dummies({argument}, columns={columns!r}, dtype=float)"
    return f"For a column per category: x = {code}, in a network mlp(list(x.columns))."


def _check_text(argument: str, values: Any, array: np.ndarray) -> None:
    """Raise if an entry is text."""
    found = next(((i, v) for i, v in np.ndenumerate(array) if isinstance(v, str | bytes)), None)
    if found is None:
        return
    index, text = found
    names = list(getattr(values, "columns", ())) if array.ndim == 2 and argument == "x" else []
    told, advice = "", "encode categories as numbers first"
    if _spells_a_number(text):
        advice = f"if the text spells numbers, pass numpy.asarray({argument}, float)"
    elif names and len(names) == array.shape[-1] and all(isinstance(name, str) for name in names):
        told = f" in the column {names[index[1]]!r}"
        advice = _dummies(argument, values, [names[index[1]]]).rstrip(".")
    raise TypeError(
        f"{argument}: expected numbers; got {type(values).__name__} (text such as "
        f"{str(text)!r}{told}). {advice[0].upper()}{advice[1:]}."
    )


def _spells_a_number(text: Any) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _with_nan(array: np.ndarray) -> np.ndarray:
    """Return the array, with NaN for every object that stands for a missing value."""
    if array.dtype.kind != "O":
        return array
    from pandas import isna  # slow to import: only if it is needed

    missing = isna(array)
    return np.where(missing, np.nan, array) if missing.any() else array
