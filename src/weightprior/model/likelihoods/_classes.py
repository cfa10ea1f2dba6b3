"""Targets that are classes, with numbers or labels."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from numbers import Integral
from typing import Any, ClassVar

import numpy as np

from weightprior import _arrays, _checks
from weightprior.model.likelihoods import _class_advice as advice
from weightprior.model.likelihoods.base import Likelihood

__all__ = ["APART", "EMPTY", "Classes", "count_or_labels", "labels_of"]

# Reason why logits have no finite optimum.
APART, EMPTY = "the classes are separated", "a class has no rows"

_KINDS = (str, int, float, bool)


class Classes(Likelihood):
    """A likelihood of classes. Its field `classes` holds their labels, a tuple, or their count."""

    classes: Any
    static: ClassVar[tuple[str, ...]] = ("classes",)
    has_classes: ClassVar[bool] = True

    def __repr__(self) -> str:
        told = self.classes if self.labels is None else list(self.labels)
        return f"{type(self).__name__}({'' if told is None else repr(told)})"

    @property
    def labels(self) -> tuple[Any, ...] | None:
        """Labels of the classes, in the order of their numbers; None if they are numbers."""
        return self.classes if isinstance(self.classes, tuple) else None

    @property
    def num_classes(self) -> int:
        """Number of classes of a target."""
        raise NotImplementedError

    def check_target(self, y, num_obs, num_outputs):
        expected, entries = self._shape(num_obs, num_outputs), _arrays.entries("y", y)
        advice.check_one_hot(self, y, expected)
        if self.labels is None:
            return self._check_numbers(y, entries, num_obs, num_outputs)
        _checks.target_shape(entries.shape, expected)
        numbers = {label: float(number) for number, label in enumerate(self.labels)}
        found = [_number_of(entry, numbers) for entry in entries.ravel()]
        if None in found:
            advice.refuse_entry(self, entries, found.index(None))
        return np.array(found, dtype=np.float64).reshape(entries.shape)

    def _check_numbers(
        self, y: Any, entries: np.ndarray, num_obs: int, num_outputs: int
    ) -> np.ndarray:
        """Check classes that are numbers already, and return them."""
        if any(isinstance(entry, str | bytes) for entry in entries.flat):
            advice.refuse_text(self, entries)
        array = super().check_target(y, num_obs, num_outputs)
        if not np.isin(array, np.arange(self.num_classes)).all():
            advice.refuse_numbers(self, array)
        return array

    def decode(self, y):
        return y if self.labels is None else np.array(self.labels)[np.asarray(y).astype(int)]


def labels_of(classes: Any) -> tuple[Any, ...]:
    """Return labels as a tuple of Python's own types, or raise if they are not valid."""
    sequence = not isinstance(classes, str | bytes | AbstractSet | Mapping)
    if not sequence or not hasattr(classes, "__iter__"):
        hint = " Pass sorted(classes)." if isinstance(classes, AbstractSet) else ""
        raise TypeError(
            "classes: expected the labels as a list, such as ['no', 'yes']; "
            f"got {type(classes).__name__} {classes!r}.{hint}"
        )
    labels = tuple(v.item() if isinstance(v, np.generic) else v for v in classes)
    kinds = {type(label) for label in labels}
    if len(kinds) > 1 or not kinds <= {*_KINDS} or any(label != label for label in labels):
        raise TypeError(
            "classes: expected labels of one kind, text, whole numbers, numbers or booleans; got "
            f"{_checks.several(labels)}. As text they are: [str(label) for label in classes]."
        )
    if len({*labels}) < len(labels):
        double = next(label for label in labels if labels.count(label) > 1)
        raise ValueError(
            f"classes: expected every label once; got {double!r} {labels.count(double)} times. "
            "Pass sorted(set(classes))."
        )
    if len(labels) < 2:
        raise ValueError(f"classes: expected at least two labels; got {list(labels)!r}.")
    return labels


def count_or_labels(classes: Any) -> int | tuple[Any, ...]:
    """Return a count of classes, or their labels."""
    if isinstance(classes, Integral) or not hasattr(classes, "__iter__"):
        return _checks.integer("classes", classes, 2)
    return labels_of(classes)


def _number_of(entry: Any, numbers: Mapping[Any, float]) -> float | None:
    try:
        return numbers.get(entry)
    except TypeError:  # a value without a hash is no label
        return None
