"""Memory of the machine that this process runs on."""

import math
import os

__all__ = ["memory"]


def memory() -> float:
    """Return the bytes of memory; infinite if Python's own modules do not tell."""
    if not hasattr(os, "sysconf"):  # as on Windows
        return math.inf
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
