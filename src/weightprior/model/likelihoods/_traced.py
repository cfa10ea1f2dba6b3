"""Dataclasses with traced numbers, so that changing these compiles nothing."""

from dataclasses import fields
from typing import ClassVar

import jax

__all__ = ["Traced"]


class Traced:
    """A dataclass that is a pytree: all fields are traced numbers, except those in `static`."""

    static: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        jax.tree_util.register_pytree_node(cls, cls._flatten, cls._unflatten)

    def _flatten(self):
        names = [f.name for f in fields(self) if f.name not in self.static]  # pyright: ignore
        return [getattr(self, n) for n in names], tuple(getattr(self, n) for n in self.static)

    @classmethod
    def _unflatten(cls, aux, children):
        # Not through __init__: the leaves of a tree in JAX are not always numbers to check.
        new = object.__new__(cls)
        traced = [f.name for f in fields(cls) if f.name not in cls.static]  # pyright: ignore
        for name, value in zip((*traced, *cls.static), (*children, *aux), strict=True):
            object.__setattr__(new, name, value)
        return new
