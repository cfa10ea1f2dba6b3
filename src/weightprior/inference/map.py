"""Maximum a posteriori: the optimum of the model's density, which is L2 regularisation."""

import time
from typing import Any

import numpy as np
import xarray as xr

from weightprior import _checks
from weightprior._checks.options import names_its_options
from weightprior._running.progress import shows_progress
from weightprior.fits.constant import warn_constant
from weightprior.fits.outcome import Outcome
from weightprior.fits.problem import Problem, under
from weightprior.fits.propriety import (
    Open,
    leave_unconverged,
    open_ends,
    warn_open,
    warn_open_at_ends,
)
from weightprior.fits.results import build, prepare
from weightprior.inference._docs import shares_docs
from weightprior.inference._optima import optima
from weightprior.inference._optima.advice import SMOOTH, advise, warn_exact, warn_unconverged
from weightprior.inference._optima.collapse import Collapse
from weightprior.inference._optima.minibatch import Batches
from weightprior.inference._optima.search import Search
from weightprior.inference._starts import kind_of
from weightprior.model.bnn import BNN
from weightprior.model.priors.normal import NormalPrior

__all__ = ["fit_map"]


@names_its_options
@shows_progress
@shares_docs
def fit_map(
    bnn: BNN,
    x: Any,
    y: Any,
    *,
    prior: NormalPrior,
    rng_key: Any = 0,
    num_restarts: int = 8,
    max_iterations: int = 5000,
    tolerance: float = 1e-6,
    init: Any = None,
    batch_size: int | None = None,
    num_epochs: int | None = None,
    learning_rate: float | None = None,
    row_weights: Any = None,
    log_likelihood: bool = True,
    progress_bar: bool = True,
) -> xr.DataTree:
    """Find the weights with the highest posterior density: the L2-regularised network.

    L-BFGS runs from draws of the prior until it reaches the tolerance, in double precision whatever
    JAX's setting. With large data the first steps are in single precision. If the optimum lies in a
    narrow valley, as under wide priors, the Gauss-Newton matrix preconditions the last steps.

    With `batch_size` every restart begins with Adam over mini-batches, which needs few passes over
    very many rows. L-BFGS then continues from there with all rows, until it reaches the tolerance.

    A table that is a memory map, a Zarr or dask array, or an HDF5 dataset is read block by block,
    once for every gradient. The fit holds its shape and digest in place of `x`.

    Parameters
    ----------
    <data>
    prior : NormalPrior
        The prior; a stacked one is fitted part by part, each from the same standard starts.
    rng_key : int or JAX key
        Seed of the starts.
    num_restarts : int
        Number of starts per prior.
    max_iterations : int
        Largest number of L-BFGS steps per restart. With `batch_size` it may be 0: the fit is then
        the end of Adam, and has not converged.
    tolerance : float
        A restart has converged if no partial derivative of the log density exceeds this, in nats
        per unit. The unit of a weight is its prior's scale. If the prior is flat, the unit is one
        over the root of the fan-in, or 1 for a bias.
    init : fit, dict of arrays, trained network, or None
        Start of the first restart: weights, in any form that ``normal_prior(loc=...)`` takes. The
        others begin at draws of the prior; with ``num_restarts=1`` there are no others. If it is a
        MAP fit, all its restarts are starts, best first. If it is another fit, the last draws of
        its chains are starts.
    batch_size : int, optional
        Number of rows of a mini-batch. The log likelihood of a batch is multiplied by the number of
        such batches; the prior counts once.
    num_epochs : int, optional
        Number of passes over all rows, each in a new random order: by default 20 with `batch_size`.
    learning_rate : float, optional
        Length of Adam's first steps, in units of the prior's scale: by default 0.03 with
        `batch_size`. It falls to 0 along a cosine.
    <options>

    Returns
    -------
    DataTree
        A fit with the best restart as its `posterior`: one chain, one draw. The group `restarts`
        has all restarts, best first, with `lp`, `converged`, `gradient_norm` (largest partial
        derivative, as for `tolerance`) and `num_iterations`.

    Raises
    ------
    ValueError, TypeError
        If the data, the prior or the options cannot be used.
    FloatingPointError
        If every restart ended in NaN or infinity.
    KeyboardInterrupt
        After Ctrl-C; no partial result is kept.

    Warns
    -----
    UserWarning
        If the best restart did not converge, with the reason and advice. If a flat prior leaves
        more than one optimum, or no finite one, as when classes are separated; without a finite
        optimum, no restart counts as converged. If the targets are met exactly, so that a learned
        noise goes to zero. If the fit explains no more than a constant.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=(5,)), wp.Gaussian(noise=0.1))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> fit = wp.fit_map(bnn, x, np.sin(3 * x[:, 0]), prior=wp.normal_prior(bnn))
    >>> bool(fit["restarts"]["converged"][0])
    True
    """
    problem = Problem.checked(
        bnn, x, y, prior=prior, rng_key=rng_key, row_weights=row_weights, by_blocks=True
    )
    num_restarts = _checks.integer("num_restarts", num_restarts, 1)
    batches = Batches.checked(batch_size, num_epochs, learning_rate, len(problem.x))
    least = 1 if batches is None else 0
    search = Search.checked("fit_map", max_iterations, tolerance, least)

    began = time.perf_counter()
    opened = open_ends(problem)
    warn_open("fit_map", problem, opened)
    restarts, collapses = optima.find(
        problem, search, num_restarts, init, lambda: prepare(problem, 1, log_likelihood), batches
    )
    best = [[{name: r[name][0] for name in bnn.sites}] for r in restarts]
    opened = warn_open_at_ends("fit_map", problem, opened, best)
    seconds = time.perf_counter() - began
    _warn(problem, search, restarts, collapses, opened)
    stats = ("converged", "gradient_norm", "num_iterations")
    outcome = Outcome(
        weights=[{name: r[name][None, None, 0] for name in bnn.sites} for r in restarts],
        stats=[{name: r[name][None, None, 0] for name in stats} for r in restarts],
        draws="point",
        exact=False,
        groups={"restarts": (("restart",), restarts)},
    )
    options = {"num_restarts": num_restarts, "init": kind_of(init), **search.options}
    options |= {} if batches is None else batches.options
    told = {"method": "map", "seconds": seconds, "options": options}
    fit = build(problem, outcome, **told, log_likelihood=log_likelihood)
    seen = build(problem.seen, outcome, **told) if problem.digest else fit
    warn_constant("fit_map", problem.seen, seen)
    return fit


def _warn(
    problem: Problem,
    search: Search,
    restarts: list[dict[str, np.ndarray]],
    collapses: list[Collapse],
    opened: list[Open],
) -> None:
    """Warn of best restarts that are no optima, or optima that say nothing about the data."""
    leave_unconverged(opened, restarts)
    found = list(zip(problem.labels, restarts, collapses, opened, strict=True))
    late = [
        (label, r, c)
        for label, r, c, one in found
        if not (r["converged"][0] or (one.rises and one.certain))
    ]
    if late:
        _warn_late(problem, search, late)
    warn_exact(problem, search, [(label, bool(r["converged"][0]), c) for label, r, c, _ in found])


def _warn_late(problem: Problem, search: Search, late: list[Any]) -> None:
    advice = advise(
        problem,
        search,
        any(r["num_iterations"][0] >= search.max_iterations for _, r, _ in late),
        [c for _, _, c in late],
        f"{SMOOTH}, sample with fit_mcmc, which needs no optimum, or take this fit if the "
        "best restarts agree in lp",
    )
    told = [
        f"{under(label).lstrip()} ".lstrip()
        + f"gradient norm {r['gradient_norm'][0]:.1e} after {r['num_iterations'][0]} iterations"
        for label, r, _ in late
    ]
    warn_unconverged(problem, search, "the best restart", told, advice)
