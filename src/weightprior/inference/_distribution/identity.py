"""Texts that are equal if two calls do the same."""

import hashlib
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import cloudpickle
import jax
import numpy as np
import xarray as xr

__all__ = ["told"]

_PLAIN = (str, int, float, complex, bool, bytes, type(None), np.generic)


def told(value: Any) -> str:
    """Describe an option of a call, or a function, as a text.

    Functions that can be imported are described by their name, others by their code, arrays and
    fits by their numbers.
    """
    if isinstance(value, partial):
        return f"partial({told(value.func)}, {told(value.args)}, {told(value.keywords)})"
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {told(one)}' for key, one in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"({', '.join(map(told, value))})"
    if isinstance(value, xr.DataTree):
        groups = {path: group.dataset for path, group in value.subtree_with_keys}
        return told({path: dict(dataset.data_vars) for path, dataset in groups.items()})
    if isinstance(value, np.ndarray | jax.Array | xr.DataArray):
        return _of_array(np.asarray(value))
    if _is_importable(value):
        return f"{value.__module__}.{value.__qualname__}"
    return f"sha256 {hashlib.sha256(cloudpickle.dumps(value)).hexdigest()}"


def _of_array(array: np.ndarray) -> str:
    if array.dtype.kind == "O":
        return told(array.tolist())
    numbers = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return f"{array.dtype} {array.shape} {numbers}"


def _is_importable(value: Any) -> bool:
    """Tell if a function or class can be imported by its name, in another process too."""
    module, name = (getattr(value, part, None) for part in ("__module__", "__qualname__"))
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__":
        return False
    found: Any = sys.modules.get(module)
    for step in name.split("."):
        found = getattr(found, step, None)
    return found is value
