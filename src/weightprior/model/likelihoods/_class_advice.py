"""Words for targets that are no classes, and what to do about them."""

from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np

from weightprior import _checks

__all__ = ["check_one_hot", "refuse_entry", "refuse_numbers", "refuse_text"]

# Labels that a message writes out.
_FEW = 12


def check_one_hot(likelihood: Any, y: Any, expected: tuple[int, ...]) -> None:
    """Raise where targets are a column of zeros and ones for every class."""
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
    """Write how one-hot columns become classes."""
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


def refuse_text(likelihood: Any, text: list[Any], num_outputs: int) -> NoReturn:
    """Raise for text where classes are numbers."""
    raise TypeError(
        f"y: expected class labels 0 to {likelihood.num_classes - 1}; got text such as "
        f"{str(text[0])!r}. {_named(likelihood, text, num_outputs)}"
    )


def refuse_numbers(likelihood: Any, array: np.ndarray, num_outputs: int) -> NoReturn:
    """Raise for numbers that are no classes."""
    count, single = likelihood.num_classes, num_outputs == 1
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
        whole = not broken.size
        advice = _named(likelihood, (int(v) if whole else v for v in array.flat), num_outputs)
    first = broken if broken.size and single else bad
    raise ValueError(f"y: expected class labels 0 to {count - 1}; got {first.flat[0]:g}. {advice}")


def _named(likelihood: Any, entries: Iterable[Any], num_outputs: int) -> str:
    """Advise to name the classes that were found."""
    found = sorted({v.item() if isinstance(v, np.generic) else v for v in entries}, key=_order)
    several = likelihood.num_targets(num_outputs) > 1
    name, count = type(likelihood).__name__, likelihood.num_classes
    if len(found) == count:
        return f"Name the classes: {name}({found!r})." if len(found) <= _FEW else _by_set(name)
    if several:
        return f"Turn every column into {count} classes first, as in (y == {found[-1]!r}) * 1."
    if len(found) < count:
        return f"Name all {count} classes, also those that are not among these rows: {name}([...])."
    outputs = f"of a network with num_outputs={len(found)}"
    listed = f"Categorical({found!r})" if len(found) <= _FEW else "Categorical(sorted(set(y)))"
    return f"These are {len(found)} classes: {listed} {outputs}."


def _by_set(name: str) -> str:
    return f"Name the classes: {name}(sorted(set(y)))."


def _order(label: Any) -> tuple[bool, Any]:
    """Sort numbers by their size, and text, which is never among them, by the alphabet."""
    return isinstance(label, str | bytes), label


def refuse_entry(likelihood: Any, entries: np.ndarray, index: int) -> NoReturn:
    """Raise for a target that is none of the labels."""
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
    if numbered and isinstance(labels[0], str):
        advice = " Numbers of classes are turned into labels by likelihood.decode(y)."
    else:
        advice = f"{_checks.close_name(entry, labels)} Correct it, or drop such rows."
    raise ValueError(f"{expected} {_plain(entry)!r} in row {row}.{advice}")


def _plain(entry: Any) -> Any:
    return entry.item() if isinstance(entry, np.generic) else entry


def _is_missing(entry: Any) -> bool:
    # NaN and NaT differ from themselves, and pandas' NA does not say.
    try:
        return entry is None or bool(entry != entry)
    except TypeError:
        return True
    except ValueError:  # arrays
        return False
