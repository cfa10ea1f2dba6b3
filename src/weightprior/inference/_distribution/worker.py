"""Work of one part, where a worker runs it."""

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

# Functions and models that a worker keeps. Another copy of one would be compiled anew: functions
# that are equal before they travel are not when they arrive.
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
        All other arguments, the precision and the versions of software there, pickled.
    attempt : str
        A name of its own: to dask, calls with equal arguments are one, and one that failed has.

    Returns
    -------
    bytes
        An `Outcome`, pickled. An error that is raised from here on says that the worker is gone, or
        cannot be reached.
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
        cloudpickle.loads(found)  # some errors come apart only where they arrive
    except Exception:
        found = cloudpickle.dumps(Failed(RuntimeError(f"{type(error).__name__}: {error}"), where))
    return found
