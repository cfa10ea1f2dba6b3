"""Ensembles: optima of randomly perturbed priors and data, spread out like the posterior."""

import time
from typing import Any

import jax
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
from weightprior.fits.results import build
from weightprior.inference._coordinates.collapsed import is_normal
from weightprior.inference._coordinates.randomised import Member, Randomised
from weightprior.inference._coordinates.standardised import Standardised
from weightprior.inference._docs import shares_docs
from weightprior.inference._optima import optima
from weightprior.inference._optima.advice import SMOOTH, advise, warn_unconverged
from weightprior.inference._optima.collapse import Collapse
from weightprior.inference._optima.search import Search
from weightprior.model.bnn import BNN
from weightprior.model.priors.normal import NormalPrior

__all__ = ["fit_ensemble"]


@names_its_options
@shows_progress
@shares_docs
def fit_ensemble(
    bnn: BNN,
    x: Any,
    y: Any,
    *,
    prior: NormalPrior,
    rng_key: Any = 0,
    num_members: int = 10,
    anchored: bool = True,
    max_iterations: int = 5000,
    tolerance: float = 1e-6,
    row_weights: Any = None,
    log_likelihood: bool = True,
    progress_bar: bool = True,
) -> xr.DataTree:
    """Approximate the posterior by networks that are optimised separately.

    For each member of an anchored ensemble, the prior is centred at a draw from the prior (its
    anchor), and the likelihood is perturbed at random by as much as the data leave open. The search
    for the optimum starts at the anchor. Without a hidden layer and with a known Gaussian noise,
    members are independent draws from the posterior, wherever the prior is centred. Otherwise they
    have its spread to first order, and lie in as many modes as their anchors lead to. If the data
    determine the network poorly, members are spread out too widely, and a learned noise is too
    small, as in the MAP.

    Parameters
    ----------
    <data>
    prior : NormalPrior
        The prior; each part of a stacked one is fitted, with the same random numbers. A site with a
        flat prior has no anchor.
    rng_key : int or JAX key
        Seed of anchors, starts, and perturbations of the likelihood. If `num_members` grows, the
        earlier members stay the same.
    num_members : int
        Number of networks per prior.
    anchored : bool
        False: a deep ensemble. Nothing is perturbed, and member i is the result of `fit_map` from
        its start i. Its spread is only that between modes: none in a linear model.
    max_iterations : int
        Largest number of L-BFGS steps per member, as in `fit_map`.
    tolerance : float
        A member has converged if no partial derivative of its objective exceeds this, as in
        `fit_map`.
    <options>

    Returns
    -------
    DataTree
        A fit in which each chain is a member, with one draw. `sample_stats` has `converged`,
        `gradient_norm` (of the member's objective) and `num_iterations`. Its `lp` is the log
        density under the original prior and data.

    Raises
    ------
    ValueError, TypeError
        If the data, the prior or the options cannot be used.
    FloatingPointError
        If a member ended in NaN or infinity.
    KeyboardInterrupt
        After Ctrl-C; no partial result is kept.

    Warns
    -----
    UserWarning
        If members did not converge, or if the fit explains no more than a constant. If a flat prior
        leaves no finite optimum, or more than one, as in `fit_map`.

    Notes
    -----
    A function of the network's outputs, times normal random numbers, is added to the log likelihood
    of each row. The Jacobian of this function is the root of the information of a row about its
    outputs. Under a Gaussian likelihood this equals adding noise to the targets, with the size of
    the noise under the weights that are being optimised. For a Bernoulli, Poisson or categorical
    likelihood, the function is twice the arcsine of the root of the probability, twice the root of
    the rate, or the roots of all probabilities. The log of a Gaussian noise counts a random number
    of times (a unit exponential). Without this, a learned noise would have half of its variance.
    Under Student's t, each row counts a random number of times. This is the weighted likelihood
    bootstrap, which has the right spread if the model is right.

    References
    ----------
    J. M. Bardsley, A. Solonen, H. Haario and M. Laine, Randomize-then-optimize, 2014.
    :doi:`10.1137/140964023`

    T. Pearce, F. Leibfried, A. Brintrup, M. Zaki and A. Neely, Uncertainty in neural networks:
    approximately Bayesian ensembling, AISTATS 2020. :doi:`10.48550/arXiv.1810.05546`

    X. Lu and B. Van Roy, Ensemble sampling, NIPS 2017. :doi:`10.48550/arXiv.1705.07347`

    M. A. Newton and A. E. Raftery, Approximate Bayesian inference with the weighted likelihood
    bootstrap, 1994. :doi:`10.1111/j.2517-6161.1994.tb01956.x`

    B. Lakshminarayanan, A. Pritzel and C. Blundell, Simple and scalable predictive uncertainty
    estimation using deep ensembles, NIPS 2017. :doi:`10.48550/arXiv.1612.01474`

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=(5,)), wp.Gaussian(noise=0.1))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> fit = wp.fit_ensemble(bnn, x, np.sin(3 * x[:, 0]), prior=wp.normal_prior(bnn))
    >>> dict(wp.predict(bnn, fit, x)["mean"].sizes)
    {'chain': 10, 'draw': 1, 'obs_id': 20}
    """
    problem = Problem.checked(bnn, x, y, prior=prior, rng_key=rng_key, row_weights=row_weights)
    num_members = _checks.integer("num_members", num_members, 1)
    if not isinstance(anchored, bool | np.bool_):
        raise TypeError(f"anchored: expected True or False; got {anchored!r}.")
    search = Search.checked("fit_ensemble", max_iterations, tolerance)

    began = time.perf_counter()
    opened = open_ends(problem)
    warn_open("fit_ensemble", problem, opened)
    members, collapses = _members(problem, search, num_members, bool(anchored))
    ends = [[{n: m[n][i] for n in bnn.sites} for i in range(num_members)] for m in members]
    opened = warn_open_at_ends("fit_ensemble", problem, opened, ends)
    seconds = time.perf_counter() - began
    _warn_unconverged(problem, search, members, collapses, opened)
    leave_unconverged(opened, members)
    stats = ("converged", "gradient_norm", "num_iterations")
    outcome = Outcome(
        weights=[{name: m[name][:, None] for name in bnn.sites} for m in members],
        stats=[{name: m[name][:, None] for name in stats} for m in members],
        draws="independent" if anchored else "members",
        exact=bool(anchored) and is_normal(bnn),
    )
    options = {"num_members": num_members, "anchored": bool(anchored), **search.options}
    fit = build(
        problem,
        outcome,
        method="ensemble",
        seconds=seconds,
        options=options,
        log_likelihood=log_likelihood,
    )
    warn_constant("fit_ensemble", problem, fit)
    return fit


def _members(
    problem: Problem, search: Search, num_members: int, anchored: bool
) -> tuple[list[dict[str, np.ndarray]], list[list[Collapse]]]:
    """Find every prior's members, stacked, and how small the noise of each became."""
    starts = optima.drawn(problem.key, num_members)
    items: list[Any] = [(task, start) for task in problem.tasks for start in starts]
    coordinates = Standardised
    if anchored:
        coordinates = Randomised
        with jax.enable_x64(True):
            keys = [jax.random.fold_in(*start) for _, start in items]
        items = [(Member(task, k), start) for (task, start), k in zip(items, keys, strict=True)]
    ended = optima.run(coordinates, problem, items, search)
    ensembles = [ended[i : i + num_members] for i in range(0, len(ended), num_members)]
    _check_whole(problem, ensembles)
    collapses = [[member["collapse"] for member in ensemble] for ensemble in ensembles]
    return [optima.stack(ensemble, search.tolerance) for ensemble in ensembles], collapses


def _check_whole(problem: Problem, ensembles: list[list[dict[str, Any]]]) -> None:
    for label, ensemble in zip(problem.labels, ensembles, strict=True):
        broken = [i for i, member in enumerate(ensemble) if not optima.usable(member)]
        if broken:
            raise FloatingPointError(
                f"fit_ensemble: {len(broken)} of {len(ensemble)} members{under(label)} "
                f"ended in NaN or infinity, the first of them member {broken[0]}. "
                f"{optima.OVERFLOW}"
            )


def _warn_unconverged(
    problem: Problem,
    search: Search,
    members: list[dict[str, np.ndarray]],
    collapses: list[list[Collapse]],
    opened: list[Open],
) -> None:
    late, exhausted, gone = [], False, []
    for label, part, noises, one in zip(problem.labels, members, collapses, opened, strict=True):
        behind = ~part["converged"] & (not one.rises)
        if behind.any():
            worst = part["gradient_norm"].max()
            count = f"{behind.sum()} of {behind.size}{under(label)}"
            late.append(f"{count} (gradient norm up to {worst:.1e})")
            exhausted |= bool((part["num_iterations"][behind] >= search.max_iterations).any())
            gone += [noise for noise, late in zip(noises, behind, strict=True) if late]
    if not late:
        return
    kinks = f"such members are as good as others. To be sure, {SMOOTH}"
    advice = advise(problem, search, exhausted, gone, kinks)
    warn_unconverged(problem, search, "members", late, advice)
