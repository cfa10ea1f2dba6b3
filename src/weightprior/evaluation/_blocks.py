"""Results that come a block of rows at a time, collected in arrays of all rows."""

from collections.abc import Iterable, Mapping

import numpy as np

__all__ = ["collect"]


def collect(pieces: Iterable[Mapping[str, np.ndarray]], num_rows: int) -> dict[str, np.ndarray]:
    """Concatenate blocks of rows, and drop the rows of the last block beyond `num_rows`.

    With a list of all blocks, memory would hold every number twice.
    """
    found: dict[str, np.ndarray] = {}
    start = 0
    for piece in pieces:
        for name, block in piece.items():
            if name not in found:
                found[name] = np.empty((num_rows, *block.shape[1:]), block.dtype)
            rows = found[name][start : start + len(block)]
            rows[...] = block[: len(rows)]
        start += len(next(iter(piece.values())))
    return found
