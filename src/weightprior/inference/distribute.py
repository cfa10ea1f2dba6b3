"""A fit function with parts that run on an executor: processes, or a cluster."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import xarray as xr

from weightprior import _checks
from weightprior._running.progress import shows_progress
from weightprior.inference._distribution.call import Call, Code, name_of
from weightprior.inference._distribution.executors import Supply
from weightprior.inference._distribution.pending import Pending
from weightprior.inference._distribution.store import open_store
from weightprior.model.bnn import BNN

__all__ = ["distribute"]


def distribute(
    fit: Callable[..., xr.DataTree], executor: Any, *, retries: int = 2, folder: Any = None
) -> "DistributedFit":
    """Fit the parts of a stacked prior on the workers of an executor.

    The result is the same fit function, for use wherever one is accepted: called by itself, or
    passed to `cross_validate`, `prequential_code` or `simulation_based_calibration`. If processors,
    XLA's flags and the versions of the software are the same, its fits equal those of a local call
    to the last bit.

    The unit of work is a whole call for one prior: its chains or restarts stay with one worker, and
    use its cores. A single prior is one unit.

    Parameters
    ----------
    fit : callable
        `fit_map`, `fit_mcmc` or any other fit function, ``functools.partial`` of one with options,
        or one of your own. It travels by cloudpickle, with the model.
    executor : concurrent.futures.Executor or callable
        ``client.get_executor()`` of a dask client, loky's or mpi4py's executor, or a
        ``ProcessPoolExecutor`` with spawned processes. Or a function without arguments that makes
        one: it is called again if a pool of processes broke.
    retries : int
        Number of times a part is tried again after its worker died. It is also the number of times
        that a function makes another executor while no part is finished in between.
    folder : str or path, optional
        Folder that keeps every part as it arrives, in a file of its own (netCDF). The same call
        reads the parts that it finds there, and fits the others. If the fit function has an option
        `checkpoint`, workers that share the file system keep their runs there as well. If a worker
        died, its part then continues from there.

    Returns
    -------
    callable
        The fit function. Its method ``submit`` takes the same arguments and returns an object at
        once. The ``result()`` of that object is the fit.

    Raises
    ------
    ValueError, TypeError
        If `executor` forks its processes, or is not an executor.

    Warns
    -----
    UserWarning
        The warnings of the parts, with the priors that they concern. Equal warnings are given once.

    Notes
    -----
    An error of the fit function is raised at once, with a note that names the prior. Parts that
    have not begun are dropped. A part is *lost* if its worker died, was stopped or cannot be
    reached. If a pool of processes broke, all its parts are lost. If `executor` is a function, it
    then makes another pool. Otherwise an error names the parts that are finished.

    Scripts that spawn processes need ``if __name__ == "__main__":`` around their code.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> prior = wp.stack_priors({s: wp.normal_prior(bnn, scale=s) for s in (0.1, 1.0)})
    >>> with ThreadPoolExecutor(2) as threads:
    ...     fit = wp.distribute(wp.fit_map, threads)(bnn, x, x[:, 0], prior=prior)
    >>> fit["posterior"]["prior"].to_numpy()
    array([0.1, 1. ])
    """
    if not callable(fit):
        raise TypeError(f"fit: expected a fit function such as fit_mcmc; got {fit!r}.")
    retries = _checks.integer("retries", retries, 0)
    return DistributedFit(fit, Supply(executor), retries, open_store(folder))


class DistributedFit:
    """A fit function with parts that run on an executor. Made by `distribute`."""

    def __init__(
        self, fit: Callable[..., xr.DataTree], supply: Supply, retries: int, store
    ) -> None:
        # Options of a partial become options of the call, which handles keys and starts.
        self._fit, self._carried = _opened(fit)
        self._supply, self._retries, self._store = supply, retries, store
        self._code: Code | None = None
        self.__signature__ = inspect.signature(fit)
        self.__name__ = name_of(self._fit)

    def __repr__(self) -> str:
        return f"distribute({self.__name__})"

    def __call__(self, bnn: BNN, x: Any, y: Any, **options: Any) -> xr.DataTree:
        """Fit, as the function itself would."""

        def call(progress_bar: bool = True) -> xr.DataTree:
            return self.submit(bnn, x, y, **options).result()

        call.__name__ = self.__name__
        return shows_progress(call)(progress_bar=options.get("progress_bar", True))

    def submit(self, bnn: BNN, x: Any, y: Any, **options: Any) -> Pending:
        """Submit all parts of a call, and return at once.

        Returns
        -------
        object
            Its ``result()`` waits for the fit. Its ``cancel()`` drops parts that have not begun.
        """
        _checks.model(bnn)
        given = self._carried | options
        call = Call.checked(self._fit, self._coded(bnn), x, y, given, self._store)
        return Pending(call, self._supply, self._store, self._retries)

    def _coded(self, bnn: BNN) -> Code:
        """Pickle the function and a model, once: a second pickle might differ from the first."""
        if self._code is None or self._code.bnn is not bnn:
            self._code = Code.of(self._fit, bnn)
        return self._code


def _opened(fit: Any) -> tuple[Callable[..., xr.DataTree], dict[str, Any]]:
    """Return a function without the partials around it, and the options that these carry."""
    carried: dict[str, Any] = {}
    while isinstance(fit, partial) and not fit.args:
        fit, carried = fit.func, fit.keywords | carried
    return fit, carried
