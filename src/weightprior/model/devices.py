"""Devices among which the rows of a data set are divided; each holds its own rows."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

__all__ = ["collected", "devices_of", "rows_on"]

# Axis of a mesh along which rows are divided.
_ROWS = "rows"


def devices_of(argument: str, values: Any) -> tuple[Any, ...]:
    """Return the devices, in order, among which a JAX array's rows are divided; else none."""
    if not isinstance(values, jax.Array) or values.sharding.is_fully_replicated:
        return ()
    indices = values.sharding.devices_indices_map(values.shape)
    starts = {device: index[0].start or 0 for device, index in indices.items()}
    split = any(one != slice(None) for index in indices.values() for one in index[1:])
    if split or len(set(starts.values())) < len(starts):
        raise ValueError(
            f"{argument}: expected rows of its own on every device; got {values.sharding.spec}"  # pyright: ignore
            ' over them. Place it by NamedSharding(jax.make_mesh((count,), ("rows",)), '
            'PartitionSpec("rows")).'
        )
    return tuple(sorted(starts, key=lambda device: starts[device]))


def collected(values: Any) -> Any:
    """Collect an array that is divided among the devices of several processes; leave any other."""
    if not isinstance(values, jax.Array) or values.is_fully_addressable:
        return values
    from jax.experimental.multihost_utils import process_allgather  # slow to import

    return process_allgather(values, tiled=True)


def rows_on(devices: Sequence[Any]) -> NamedSharding:
    """Return the placement of arrays with rows divided among devices."""
    mesh = Mesh(np.array(devices), (_ROWS,), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec(_ROWS))
