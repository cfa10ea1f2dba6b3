"""A folder that keeps the parts of distributed calls, one file each."""

import json
import os
import re
import shutil
import threading
import warnings
from pathlib import Path
from typing import Any

import arviz as az

from weightprior import _checks
from weightprior.inference._distribution.outcome import Finished
from weightprior.inference._distribution.recording import Warned

__all__ = ["NoStore", "Store", "file_name", "open_store"]

_WARNED = "warned"


class NoStore:
    """Substitute for a folder: nothing is kept."""

    where = ""

    def checkpoint(self, name: str) -> None:
        """Return None: there is no folder."""

    def read(self, name: str) -> None:
        """Return None: nothing was kept."""

    def keep(self, name: str, part: Finished) -> None:
        """Keep nothing."""


class Store:
    """A folder that keeps parts, by names that include a digest of all that decides them.

    Parameters
    ----------
    folder : str or path
        The folder. It is made if there is none.
    """

    def __init__(self, folder: Any) -> None:
        if not isinstance(folder, str | os.PathLike):
            raise TypeError(f"folder: expected the path of a folder; got {folder!r}.")
        self.path = Path(folder).absolute()
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"folder: expected a folder; got the file {str(self.path)!r}.")
        self.path.mkdir(parents=True, exist_ok=True)

    @property
    def where(self) -> str:
        """The folder, in a message."""
        return f" They are kept in {str(self.path)!r}: the same call continues with the others."

    def checkpoint(self, name: str) -> str:
        """Return the folder that can keep a part while it is fitted."""
        return str(self.path / f"{name}.run")

    def read(self, name: str) -> Finished | None:
        """Read a part; None if it is not there, or, with a warning, if it is damaged."""
        path = self._file(name)
        if not path.exists():
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = az.from_netcdf(path)
                tree.load()
                tree.close()
            told = json.loads(tree.attrs.pop(_WARNED))
        except (OSError, ValueError, KeyError) as error:
            _checks.warn(
                f"distribute: {str(path)!r} cannot be read, so that it is fitted again ({error})."
            )
            return None
        return Finished(tree, [Warned(UserWarning, text) for text in told])

    def keep(self, name: str, part: Finished) -> None:
        """Write a part, whole or not at all; then remove its checkpoint."""
        tree = part.fit.copy()
        tree.attrs[_WARNED] = json.dumps([warned.message for warned in part.warned])
        temporary = self.path / f"{name}.{os.getpid()}-{threading.get_ident()}.tmp"
        tree.to_netcdf(temporary, engine="h5netcdf")
        temporary.replace(self._file(name))
        shutil.rmtree(self.checkpoint(name), ignore_errors=True)

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.nc"


def open_store(folder: Any) -> Store | NoStore:
    """Open the folder that a user named; None keeps nothing."""
    return NoStore() if folder is None else Store(folder)


def file_name(label: Any, digest: str) -> str:
    """Return the name of a part's file: its label, as far as valid in names, and a digest."""
    plain = re.sub(r"[^A-Za-z0-9.=+-]+", "_", "" if label is None else str(label))[:40].strip("_.")
    return f"{plain}-{digest}" if plain else digest
