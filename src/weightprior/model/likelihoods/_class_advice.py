"""Messages about targets that are no classes, with advice."""

from typing import Any, NoReturn

import numpy as np

from weightprior import _checks

__all__ = ["check_one_hot", "refuse_entry", "refuse_numbers", "refuse_text"]

# Largest number of labels that a message writes out.
_FEW = 12


def check_one_hot(likelihood: Any, y: Any, expected: tuple[int, ...]) -> None:
    """Raise if targets are a column of zeros and ones for every class."""
    shape, count = _checks.shape(y), likelihood.num_classes
    if len(expected) > 1 or shape != (*expected, count):
        return
    try:
        array = np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError):
        return
    if not (np.isin(array, (0, 1)).all() and (array.sum(axis=1) == 1).all()):
        return
    raise ValueError(
        f"y: expected shape {expected}, the class of every row; got one-hot columns, shape {shape}."
        f" Pass {_one_column(likelihood, y)}."
    )


def _one_column(likelihood: Any, y: Any) -> str:
    """Write code that turns one-hot columns into classes."""
    columns = None if (given := getattr(y, "columns", None)) is None else [*given]
    labels = None if likelihood.labels is None else [*likelihood.labels]
    array = "y.to_numpy()" if columns else "y" if isinstance(y, np.ndarray) else "numpy.asarray(y)"
    number = f"{array}.argmax(axis=1)"
    if columns and labels is None:
        named = f"{type(likelihood).__name__}({[str(name) for name in columns]!r})"
        return f"{number}, or name the classes, {named}, and pass y.columns[{number}]"
    if labels is None:
        return number
    return f"y.columns[{number}]" if columns == labels else f"numpy.array({labels!r})[{number}]"


def refuse_text(likelihood: Any, entries: np.ndarray) -> NoReturn:
    """Raise for text if classes are numbers."""
    text = next(v for v in entries.flat if isinstance(v, str | bytes))
    if isinstance(text, bytes):
        raise TypeError(
            f"y: expected class labels 0 to {likelihood.num_classes - 1}; got bytes such as "
            f"{text!r}. Make text of them first: numpy.char.decode(numpy.asarray(y, 'S'))."
        )
    raise TypeError(
        f"y: expected class labels 0 to {likelihood.num_classes - 1}; got text such as "
        f"{str(text)!r}. {_named(likelihood, entries)}"
    )


def refuse_numbers(likelihood: Any, array: np.ndarray) -> NoReturn:
    """Raise for numbers that are no classes."""
    count = likelihood.num_classes
    bad = array[~np.isin(array, np.arange(count))]
    broken = bad[bad != np.round(bad)]
    if count == 2 and broken.size and array.min() >= 0 and array.max() <= 1:
        advice = (
            "Proportions need their counts: pass Binomial() as the likelihood, and two columns as "
            "y, successes and failures."
        )
    elif broken.size and len(np.unique(array)) > _FEW:
        advice = "For targets that are numbers pass Gaussian() as the likelihood."
    else:
        advice = _named(likelihood, array if broken.size else array.astype(int))
    first = broken if broken.size else bad
    raise ValueError(f"y: expected class labels 0 to {count - 1}; got {first.flat[0]:g}. {advice}")


def _named(likelihood: Any, entries: np.ndarray) -> str:
    """Advise to name the classes that were found."""
    found = _different(entries)
    name, count = type(likelihood).__name__, likelihood.num_classes
    if len(found) < count:
        return f"Name all {count} classes, also those that are not among these rows: {name}([...])."
    if len(found) > count and entries.ndim > 1:
        ones = [_different(column)[-1] for column in entries.T]
        return f"Compare every column with the label of its 1: numpy.asarray(y) == {ones!r}."
    listed = repr(found) if len(found) <= _FEW else "sorted(set(y))"
    if len(found) == count:
        return f"Name the classes: {name}({listed})."
    network = f"of a network with num_outputs={len(found)}"
    return f"These are {len(found)} classes: Categorical({listed}) {network}."


def _different(entries: np.ndarray) -> list[Any]:
    """Return the different entries in order, as Python's own types, without missing ones."""
    return sorted({_plain(v) for v in entries.flat if not _is_missing(v)}, key=_order)


def _order(label: Any) -> tuple[bool, Any]:
    """Return a sort key: numbers by size, and text, which is never mixed with them, by alphabet."""
    text = isinstance(label, str | bytes)
    return text, str(label) if text else label


def refuse_entry(likelihood: Any, entries: np.ndarray, index: int) -> NoReturn:
    """Raise for a target that is not among the labels."""
    labels, entry = likelihood.labels, entries.flat[index]
    row = int(np.unravel_index(index, entries.shape)[0])
    expected = f"y: expected classes among {_checks.several(labels)}; got"
    if _is_missing(entry):
        count = sum(_is_missing(v) for v in entries.flat)
        raise ValueError(
            f"{expected} {count} missing of {entries.size}, the first in row {row}. "
            "Drop such rows first."
        )
    numbered = isinstance(entry, int | float | np.number) and entry in range(len(labels))
    if str(entry) in map(str, labels):  # of another kind
        advice = f" {_named(likelihood, entries)}"
    elif numbered and isinstance(labels[0], str):
        advice = " Numbers of classes are turned into labels by likelihood.decode(y)."
    else:
        advice = f"{_checks.close_name(entry, labels)} Correct it, or drop such rows."
    raise ValueError(f"{expected} {_plain(entry)!r} in row {row}.{advice}")


def _plain(entry: Any) -> Any:
    return entry.item() if isinstance(entry, np.generic) else entry


def _is_missing(entry: Any) -> bool:
    # NaN and NaT differ from themselves; comparing pandas' NA raises.
    try:
        return entry is None or bool(entry != entry)
    except TypeError:
        return True
    except ValueError:  # arrays
        return False
