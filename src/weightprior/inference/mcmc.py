"""Markov chain Monte Carlo: draws from the full posterior."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.random import SeedSequence

from weightprior import _checks
from weightprior._checks.options import names_its_options
from weightprior._running.progress import counting, shows_progress
from weightprior.fits import convergence, fingerprint, results
from weightprior.fits.constant import constant_doubt
from weightprior.fits.problem import Problem
from weightprior.fits.programs import placed
from weightprior.fits.propriety import check_proper
from weightprior.fits.task import Task
from weightprior.inference._chains import chains as _chains
from weightprior.inference._chains import extension
from weightprior.inference._chains.checkpoint import Checkpoint, NoCheckpoint, open_checkpoint
from weightprior.inference._chains.hmc import HMC
from weightprior.inference._chains.kernel import Kernel
from weightprior.inference._chains.mclmc import MCLMC
from weightprior.inference._chains.nuts import NUTS
from weightprior.inference._chains.run import Plan, Run, pack
from weightprior.inference._docs import shares_docs
from weightprior.model.bnn import BNN
from weightprior.model.priors.base import Prior

__all__ = ["fit_mcmc"]

_KERNELS: dict[str, Callable[[Plan], Kernel]] = {
    "hmc": lambda plan: HMC(),
    "nuts": lambda plan: NUTS(plan.num_warmup),
    "mclmc": lambda plan: MCLMC(),
}
# Iterations of warm-up that each kernel does with.
_NUM_WARMUP = {"hmc": 300, "nuts": 500, "mclmc": 500}


@names_its_options
@shows_progress
@shares_docs
def fit_mcmc(
    bnn: BNN,
    x: Any,
    y: Any,
    *,
    prior: Prior,
    rng_key: Any = 0,
    kernel: str = "hmc",
    num_warmup: int | None = None,
    num_samples: int = 1000,
    num_chains: int = 4,
    thinning: int = 1,
    target_accept_prob: float = 0.9,
    init: Any = None,
    checkpoint: Any = None,
    row_weights: Any = None,
    log_likelihood: bool = True,
    progress_bar: bool = True,
) -> xr.DataTree:
    """Draw from the posterior over all weights.

    Chains work in coordinates counted from the prior's centre in units of its scale, in JAX's
    default precision. Under a `Gaussian` likelihood the output layer (or, beside a wide hidden
    layer, its bias alone) is integrated out and drawn exactly for every draw, which lets the
    others move further at a time; ``"nuts"`` alone moves through all weights.

    Chains depend on the arguments alone: a run that was interrupted, killed or extended holds, to
    the last bit, the draws of one that was not.

    Ctrl-C ends the sampling; the draws so far are returned as a fit like any other, with a warning
    and the attribute `interrupted`. During warm-up there is nothing to return.

    Parameters
    ----------
    <data>
    prior : NormalPrior or HierarchicalPrior
        The prior; for a stacked one every part is sampled. The latents of a `hierarchical_prior`
        are sampled with the weights.
    rng_key : int or JAX key
        Decides starts and chains.
    kernel : {"hmc", "nuts", "mclmc"}
        ``"hmc"``: Hamiltonian Monte Carlo with jittered integration time and step size, and with
        momentum that is kept in part, exact.
        ``"nuts"``: NumPyro's No-U-Turn sampler, exact; slower, and the reference.
        ``"mclmc"``: microcanonical Langevin Monte Carlo without adjustment: fast where there are
        very many weights, and not exact, since the error of its steps is never corrected. The
        fit's attribute `exact` says which.
    num_warmup : int, optional
        Iterations per chain that tune step size, metric and the time of trajectories, dropped. By
        default 300, of ``"nuts"`` and ``"mclmc"`` 500.
    num_samples : int
        Draws kept per chain.
    num_chains : int
        Chains per prior.
    thinning : int
        Iterations per draw kept.
    target_accept_prob : float
        Acceptance that the step size is tuned to, between 0 and 1; ``"mclmc"`` accepts all.
    init : fit, dict of arrays, trained network, or None
        Start of the chains. None: at the end of short optimisations from draws of the prior. A MAP
        fit: at its best restarts, one each. Another fit: at the last draws of its chains, with a
        new warm-up. Weights: all there.

        A fit of the same call with more `num_samples` is extended: it keeps its draws, and its
        chains go on where they stand. The same call is one with equal model, `x`, `y`, numbers of
        the prior, `row_weights`, `kernel`, `num_warmup`, `thinning`, `target_accept_prob`,
        `num_chains` and `rng_key`, in the same precision and versions of the software, whose fit
        has all its draws and its group `chain_state`; it may have been saved, interrupted or
        taken out of a stacked one by `unstack_fit`.
    checkpoint : str or path, optional
        A folder to keep the run in, warm-up included, every few seconds. After an interrupt or a
        kill the same call goes on from there; once complete, it returns the fit at once.
    <options>

    Returns
    -------
    DataTree
        A fit of `num_chains` chains and `num_samples` draws, whose `sample_stats` hold
        `acceptance_rate`, `diverging`, `energy`, `n_steps` (gradients per draw) and `step_size` (as
        tuned); of ``"mclmc"`` `energy_variance`, per weight and step, in place of the first and
        third. The energy is that of the density which the kernel moves along. A fit is extended
        from its group `chain_state`.

    Raises
    ------
    ValueError, TypeError
        For data, a prior or options that cannot be used, and where `checkpoint` holds another
        run (what differs is named), or something else. If a flat prior is proven to leave no
        proper posterior: classes that are separated, columns that the rows do not tell apart.
    FloatingPointError
        If the density is not finite at a start.
    KeyboardInterrupt
        If it comes before the first draw.

    Warns
    -----
    UserWarning
        Once: where the chains cannot be relied on yet, with what to do (the verdict of
        `diagnostics.convergence` on up to 20 of the rows), where the fit says no more than a
        constant, or where the run was interrupted. Before that, where the prior of a hidden layer
        is flat, which leaves no proper posterior, or that of the weights above one, which may leave
        none.

    References
    ----------
    R. M. Neal, MCMC using Hamiltonian dynamics, 2011. :doi:`10.1201/b10905-6`

    A. M. Horowitz, A generalized guided Monte Carlo algorithm, Physics Letters B 268, 1991.
    :doi:`10.1016/0370-2693(91)90812-5`

    M. D. Hoffman and A. Gelman, The No-U-Turn sampler, JMLR 15, 2014.

    J. Robnik, G. B. De Luca, E. Silverstein and U. Seljak, Microcanonical Hamiltonian Monte Carlo,
    JMLR 24, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> fit = wp.fit_mcmc(bnn, x, 2 * x[:, 0], prior=wp.normal_prior(bnn))
    >>> fit["posterior"]["output.weight"].dims
    ('chain', 'draw', 'feature', 'output')
    """
    problem = Problem.checked(
        bnn, x, y, prior=prior, rng_key=rng_key, row_weights=row_weights, learned=True
    )
    _checks.one_of("kernel", kernel, _KERNELS)
    plan = Plan(
        _checks.integer("num_warmup", _NUM_WARMUP[kernel] if num_warmup is None else num_warmup, 0),
        _checks.integer("num_samples", num_samples, 1),
        _checks.integer("thinning", thinning, 1),
        _checks.number("target_accept_prob", target_accept_prob, above=0, below=1),
    )
    num_chains = _checks.integer("num_chains", num_chains, 1)
    check_proper("fit_mcmc", problem)

    chains = _Chains(_KERNELS[kernel](plan), problem, num_chains, plan)
    call = fingerprint.of_call(
        problem, {"kernel": kernel, **plan._asdict(), "num_chains": num_chains}
    )
    run, starts, call = extension.begin_or_extend(problem, call, init, plan, num_chains)
    with open_checkpoint(checkpoint, call) as folder:
        run = folder.read() or run
        if run is None or run.num_draws < plan.num_samples:
            run = _sample(chains, run, starts, folder, partial(_prepare, chains, log_likelihood))
    fit = results.build(
        problem,
        extension.outcome(run, call, num_chains, chains.kernel.exact),
        method=kernel,
        seconds=run.seconds,
        options={**plan._asdict(), "init": call.parts[0]["init"].split()[0]},
        log_likelihood=log_likelihood,
    )
    _warn(fit, run, plan, problem, checkpoint)
    return fit


class _Chains(NamedTuple):
    """Everything that chains are made of, so many for every prior."""

    kernel: Kernel
    problem: Problem
    num_chains: int
    plan: Plan

    @property
    def shared(self) -> Any:
        """Everything that all chains have in common."""
        options = {
            "target_accept_prob": np.asarray(self.plan.target_accept_prob),
            "num_warmup": np.asarray(self.plan.num_warmup),
        }
        return *placed(self.problem.data), options

    @property
    def tasks(self) -> list[Task]:
        """The task of every chain."""
        tasks = [Task(task.prior, placed(task.row_weights)) for task in self.problem.tasks]
        return [task for task in tasks for _ in range(self.num_chains)]

    @property
    def seeds(self) -> list[SeedSequence]:
        """The seed of every chain."""
        own = [SeedSequence(self.problem.seed, spawn_key=(i,)) for i in range(self.num_chains)]
        return own * len(self.problem.tasks)


def _prepare(made_of: _Chains, log_likelihood: bool) -> None:
    """Begin to compile what comes after the draws."""
    num_draws = made_of.num_chains * made_of.plan.num_samples
    results.prepare(made_of.problem, num_draws, log_likelihood)
    convergence.prepare(made_of.problem, num_draws)


def _sample(
    made_of: _Chains,
    run: Run | None,
    starts: list[Any],
    folder: Checkpoint | NoCheckpoint,
    meanwhile: Callable[[], Any],
) -> Run:
    """Begin a run, or go on with it, and keep it in a folder on the way."""
    kernel, plan, shared, tasks = made_of.kernel, made_of.plan, made_of.shared, made_of.tasks
    before, began = run.seconds if run else 0.0, time.perf_counter()

    def timed(run: Run) -> Run:
        return run._replace(seconds=before + time.perf_counter() - began)

    total = plan.num_warmup + plan.num_samples * plan.thinning
    with counting(total, doing="starting", done=run.iteration if run else 0) as count:
        if run is None:
            chains = _chains.begin(kernel, shared, tasks, made_of.seeds, starts, meanwhile)
            _check_starts(kernel, chains)
            run = Run([pack(chain) for chain in chains])
        else:
            chains = _chains.resume(kernel, shared, tasks, run)
        folder.save(timed(run), now=True)
        sampled = _chains.sample(
            kernel, shared, tasks, chains, run, plan, count, lambda run: folder.save(timed(run))
        )
        folder.save(run := timed(sampled), now=True)
    return run


def _check_starts(kernel: Kernel, chains: list[Any]) -> None:
    bad = [i for i, c in enumerate(chains) if not np.isfinite(kernel.log_density(c.state))]
    if bad:
        raise FloatingPointError(
            f"fit_mcmc: the density is not finite at the start of chain {bad[0]}. Standardise x "
            "and y, or give the prior smaller scales."
        )


def _warn(fit: xr.DataTree, run: Run, plan: Plan, problem: Problem, checkpoint: Any) -> None:
    """Say that a run was interrupted, or that its chains or what they predict are in doubt."""
    if run.num_draws < plan.num_samples:
        fit.attrs["interrupted"] = 1
        how = "init=fit and the same arguments" if checkpoint is None else "the same arguments"
        _checks.warn(
            f"fit_mcmc: interrupted, so that the fit holds {run.num_draws} of {plan.num_samples} "
            f"draws per chain. To go on, call it again with {how}."
        )
        return
    doubts = [convergence.convergence_warning(problem.bnn, fit), constant_doubt(problem, fit)]
    if told := " And ".join(filter(None, doubts)):
        _checks.warn(f"fit_mcmc: {told}")
