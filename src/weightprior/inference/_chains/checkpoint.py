"""A run on disk: a folder that always holds a run as it was between two chunks of draws.

`run.json` describes the call of the run. `chunk-000001.npz` and so on hold its draws. `state.npz`
holds the state from which its chains continue, and the chunks before it. A file appears whole or
not at all, and a chunk before the state that counts it: whatever kills the process, the folder
holds a valid run. The state holds digests of the call, of all chunks, and of itself: damaged or
exchanged files are not read.
"""

import hashlib
import json
import os
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

from weightprior.fits.fingerprint import Fingerprint, differences
from weightprior.inference._chains.run import Run

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

__all__ = ["Checkpoint", "NoCheckpoint", "open_checkpoint"]

_RUN, _STATE, _LOCK, _CHUNK = "run.json", "state.npz", "lock", "chunk-{:06d}.npz"
_TEMPORARY = ".tmp"
# Seconds between two visits to the disk: a kill can cost the work done in that time.
_SECONDS = 2.0


def open_checkpoint(path: Any, fingerprint: Fingerprint) -> "Checkpoint | NoCheckpoint":
    """Open the folder that keeps a run, for a ``with`` statement; None keeps nothing."""
    return NoCheckpoint() if path is None else Checkpoint(path, fingerprint)


class NoCheckpoint:
    """Substitute for a folder: nothing is kept."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self) -> None:
        """Return None: there is no run."""

    def save(self, run: Run, *, now: bool = False) -> None:
        """Keep nothing."""


class Checkpoint:
    """A folder that keeps a run while it is sampled; a context that holds the folder's lock.

    Parameters
    ----------
    path : str or path
        The folder. It is made if there is none.
    fingerprint : Fingerprint
        The run.

    Raises
    ------
    ValueError, TypeError
        On entering, if the folder holds something else or another process uses it.
    """

    def __init__(self, path: Any, fingerprint: Fingerprint) -> None:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"checkpoint: expected the path of a folder; got {path!r}.")
        self.path = Path(path)
        self._fingerprint = fingerprint
        self._digests: list[bytes] = []  # of the chunks in the folder
        self._num_saved = 0
        self._latest: Run | None = None
        self._last_saved = time.monotonic()

    def __enter__(self) -> Self:
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"checkpoint: expected a folder; got the file {str(self.path)!r}.")
        with self._usable(""):
            self.path.mkdir(parents=True, exist_ok=True)
        self._check_foreign()
        with self._usable(_LOCK):
            self._lock = (self.path / _LOCK).open("a+")
        try:
            _take(self._lock, self.path)
            for pattern in (_STATE, _RUN, "chunk-[0-9]*.npz"):
                for stale in self.path.glob(pattern + _TEMPORARY):
                    with self._usable(stale.name):
                        stale.unlink()
            self._check_call()
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if self._latest is not None:
                self.save(self._latest, now=True)
        finally:
            self._lock.close()  # this releases the lock
        if kind is KeyboardInterrupt and (self.path / _STATE).exists():
            raise KeyboardInterrupt(
                f"{str(self.path)!r} holds the run so far; the same call continues it."
            ) from None

    def read(self) -> Run | None:
        """Return the run as far as the folder holds it; None if it holds none yet."""
        if not (self.path / _STATE).exists():
            self._check_no_chunks()
            return None
        with self._usable(_STATE):
            state = _opened((self.path / _STATE).read_bytes())
            if state.pop("digest").item() != _digest_of(state, self._fingerprint):
                raise ValueError("it is not as it was written, or of another run")
            stacked, seconds = _below("chains", state), float(state["seconds"])
            self._digests = list(state["chunks"].tolist())
        pieces = []
        for number, digest in enumerate(self._digests, 1):
            name = _CHUNK.format(number)
            with self._usable(name):
                content = (self.path / name).read_bytes()
                if _digest(content) != digest:
                    raise ValueError("it is not as it was written, or another chunk")
                chunk = _opened(content)
                pieces.append((_below("weights", chunk), _below("stats", chunk)))
        num_chains = len(stacked["iteration"])
        chains = [{name: a[i] for name, a in stacked.items()} for i in range(num_chains)]
        self._num_saved = len(pieces)
        return Run(chains, seconds=seconds).with_draws(*pieces)

    def save(self, run: Run, *, now: bool = False) -> None:
        """Keep the run: now, or once some time has gone by since it was last written."""
        self._latest = run
        if not now and time.monotonic() - self._last_saved < _SECONDS:
            return
        digests = list(self._digests)
        if self._num_saved < len(run.pieces):
            weights, stats = run.draws(self._num_saved)
            content = _archive(_above("weights", weights) | _above("stats", stats))
            digests.append(_digest(content))
            self._write(_CHUNK.format(len(digests)), content)
        chains = {name: np.stack([chain[name] for chain in run.chains]) for name in run.chains[0]}
        state = {"chunks": np.array(digests, "S16"), "seconds": np.asarray(run.seconds)}
        state |= _above("chains", chains)
        state["digest"] = np.asarray(_digest_of(state, self._fingerprint))
        self._write(_STATE, _archive(state))
        self._digests, self._num_saved, self._latest = digests, len(run.pieces), None
        self._last_saved = time.monotonic()

    def _check_no_chunks(self) -> None:
        """Raise if there are draws without the state that counts them."""
        chunks = sorted(entry.name for entry in self.path.glob("chunk-[0-9]*.npz"))
        if chunks:
            raise ValueError(
                f"checkpoint: expected files of a run; got {str(self.path)!r}, which holds "
                f"{chunks[0]!r} and no {_STATE!r}, so that its draws cannot be continued. "
                f"Choose another folder, or put its {_STATE!r} back."
            )

    def _check_foreign(self) -> None:
        """Raise if the folder holds files of others."""
        if (self.path / _RUN).exists():
            return
        ours = {_LOCK, _RUN + _TEMPORARY}
        with self._usable(""):
            others = sorted({entry.name for entry in self.path.iterdir()} - ours)
        if others:
            raise ValueError(
                f"checkpoint: expected a new or empty folder, or one that holds a run; got "
                f"{str(self.path)!r}, which holds {others[0]!r} and no {_RUN!r}. Choose another."
            )

    def _check_call(self) -> None:
        """Raise if the folder holds another run; in a new folder, write down this one."""
        file = self.path / _RUN
        if not file.exists():
            self._write(_RUN, json.dumps(self._fingerprint._asdict(), indent=1).encode())
            return
        with self._usable(_RUN):
            written = Fingerprint(**json.loads(file.read_text(encoding="utf-8")))
            found = differences(written, self._fingerprint)
        if found:
            raise ValueError(
                f"checkpoint: expected the call of the run in {str(self.path)!r}; got another: "
                f"{', '.join(found)}. Choose another folder, or repeat the call of this one; more "
                "draws of a run come with init=fit, into another folder."
            )

    def _write(self, name: str, content: bytes) -> None:
        with self._usable(name):
            _write_whole(self.path / name, content)

    @contextmanager
    def _usable(self, name: str) -> Iterator[None]:
        """Turn any error at a file, or at the folder itself, into one with its name and advice.

        Readers of archives raise a dozen kinds of errors if these are damaged.
        """
        try:
            yield
        except Exception as error:
            raise ValueError(
                f"checkpoint: expected files of a run; got {str(self.path / name)!r}, which cannot "
                f"be used ({type(error).__name__}: {error}). Choose another folder."
            ) from None


def _take(lock: IO[str], path: Path) -> None:
    """Take the folder's lock, which the operating system releases when a process dies."""
    if fcntl is None:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        raise ValueError(
            f"checkpoint: expected a folder that no other run uses; got {str(path)!r}, which "
            f"process {lock.read().strip()} is writing to. Choose another, or wait for its end."
        ) from None
    except OSError:
        return  # some file systems have no locks
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()


def _write_whole(file: Path, content: bytes) -> None:
    """Write a file so that it exists whole or not at all, even after a loss of power."""
    temporary = file.with_name(file.name + _TEMPORARY)
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, file)
    with suppress(OSError):  # not every system can sync a folder
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _archive(arrays: Mapping[str, np.ndarray]) -> bytes:
    stream = BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def _opened(content: bytes) -> dict[str, np.ndarray]:
    """Read the arrays of an archive, after a test of its checksums."""
    with zipfile.ZipFile(BytesIO(content)) as archive:
        if (bad := archive.testzip()) is not None:
            raise ValueError(f"{bad} is not as it was written")
    with np.load(BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest()[:16].encode()


def _digest_of(state: Mapping[str, np.ndarray], call: Fingerprint) -> str:
    """Compute the digest of a state and its call."""
    sha = hashlib.sha256(json.dumps(call._asdict(), sort_keys=True).encode())
    for name, array in sorted(state.items()):
        sha.update(f"{name} {array.dtype} {array.shape} ".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


def _above(group: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{group}/{name}": array for name, array in arrays.items()}


def _below(group: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    start = f"{group}/"
    return {n.removeprefix(start): array for n, array in arrays.items() if n.startswith(start)}
