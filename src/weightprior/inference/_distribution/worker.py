"""Work of one part on a worker."""

import threading
import traceback
from typing import Any

import cloudpickle
import jax

from weightprior._running.progress import hidden
from weightprior.fits import fingerprint
from weightprior.fits.reading import check_tree
from weightprior.inference._distribution.outcome import Failed, Finished, Lost, Outcome
from weightprior.inference._distribution.recording import recorded

__all__ = ["work"]

# Functions and models that a worker keeps. Another copy would be compiled anew: equal functions are
# no longer equal after unpickling.
_MAX_KEPT = 8
_kept: dict[str, Any] = {}
_lock = threading.Lock()


def work(digest: str, code: bytes, given: bytes, attempt: str) -> bytes:
    """Fit a part.

    Parameters
    ----------
    digest, code : str, bytes
        The fit function and the model, pickled, and their digest.
    given : bytes
        All other arguments, and the caller's precision and versions of software, pickled.
    attempt : str
        A unique name: dask treats calls with equal arguments as one, and a failed call as failed
        again.

    Returns
    -------
    bytes
        An `Outcome`, pickled. Any other error means that the worker is gone, or cannot be reached.
    """
    try:
        with hidden():
            return cloudpickle.dumps(_work(digest, code, given))
    except Exception as error:
        return _failed(error)
    except (KeyboardInterrupt, SystemExit) as stopped:
        return cloudpickle.dumps(Lost(f"its worker was stopped by {type(stopped).__name__}"))


def _work(digest: str, code: bytes, given: bytes) -> Outcome:
    arguments, precision, versions = cloudpickle.loads(given)
    if (own := fingerprint.versions()) != versions:
        raise RuntimeError(
            f"distribute: expected workers with the versions of software here, {versions}; got a "
            f"worker with {own}. Install the same ones there."
        )
    fit, bnn = _unpickled(digest, code)
    x, y, options = arguments
    with jax.enable_x64(precision), recorded() as warned:
        tree = fit(bnn, x, y, **options)
    check_tree(tree)
    if tree.attrs.get("interrupted"):
        return Lost("its worker was interrupted")
    return Finished(tree, warned)


def _unpickled(digest: str, code: bytes) -> Any:
    with _lock:
        if digest not in _kept:
            while len(_kept) >= _MAX_KEPT:
                del _kept[next(iter(_kept))]
            _kept[digest] = cloudpickle.loads(code)
        return _kept[digest]


def _failed(error: Exception) -> bytes:
    where = "".join(traceback.format_exception(error))
    try:
        found = cloudpickle.dumps(Failed(error, where))
        cloudpickle.loads(found)  # some errors fail only when they are unpickled
    except Exception:
        found = cloudpickle.dumps(Failed(RuntimeError(f"{type(error).__name__}: {error}"), where))
    return found
