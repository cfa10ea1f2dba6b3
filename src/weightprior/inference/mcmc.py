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
# Default number of warm-up iterations of each kernel.
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

    Chains use coordinates that are centred at the prior's centre, in units of its scale, in JAX's
    default precision. Under a `Gaussian` likelihood the output layer (or, above a wide hidden
    layer, only its bias) is integrated out and then drawn exactly for every draw, so the other
    weights can move further at a time. Only ``"nuts"`` moves through all weights.

    Chains depend only on the arguments: a run that was interrupted, killed or extended has, to the
    last bit, the same draws as one that was not.

    Ctrl-C ends the sampling. The draws so far are returned as an ordinary fit, with a warning and
    the attribute `interrupted`. During warm-up there is nothing to return.

    Parameters
    ----------
    <data>
    prior : NormalPrior or HierarchicalPrior
        The prior; for a stacked one every part is sampled. The latents of a `hierarchical_prior`
        are sampled with the weights.
    rng_key : int or JAX key
        Seed of starts and chains.
    kernel : {"hmc", "nuts", "mclmc"}
        ``"hmc"``: Hamiltonian Monte Carlo with jittered integration time and step size, and partly
        kept momentum; exact.
        ``"nuts"``: NumPyro's No-U-Turn sampler, exact; slower, and the reference.
        ``"mclmc"``: unadjusted microcanonical Langevin Monte Carlo; fast if there are very many
        weights, but not exact, since the error of its steps is never corrected. The fit's
        attribute `exact` says if the kernel is exact.
    num_warmup : int, optional
        Iterations per chain that tune step size, metric and the time of trajectories, and are
        dropped. By default 300; 500 for ``"nuts"`` and ``"mclmc"``.
    num_samples : int
        Number of draws kept per chain.
    num_chains : int
        Number of chains per prior.
    thinning : int
        Number of iterations per kept draw.
    target_accept_prob : float
        Acceptance probability to which the step size is tuned, between 0 and 1; ``"mclmc"`` accepts
        all steps.
    init : fit, dict of arrays, trained network, or None
        Start of the chains. None: the ends of short optimisations from draws of the prior. A MAP
        fit: its best restarts, one per chain. Another fit: the last draws of its chains, with a new
        warm-up. Weights: the same start for all chains.

        A fit is extended if the same call is made with more `num_samples`: it keeps its draws, and
        its chains continue from their last state. The same call has equal model, `x`, `y`, numbers
        of the prior, `row_weights`, `kernel`, `num_warmup`, `thinning`, `target_accept_prob`,
        `num_chains` and `rng_key`, in the same precision and versions of the software. The fit must
        have all its draws and its group `chain_state`. It may have been saved, interrupted or taken
        out of a stacked one by `unstack_fit`.
    checkpoint : str or path, optional
        A folder in which the run is saved every few seconds, warm-up included. After an interrupt
        or a kill the same call continues from there. Once the run is complete, the call returns the
        fit at once.
    <options>

    Returns
    -------
    DataTree
        A fit of `num_chains` chains and `num_samples` draws. Its `sample_stats` hold
        `acceptance_rate`, `diverging`, `energy`, `n_steps` (gradients per draw) and `step_size` (as
        tuned). With ``"mclmc"``, `energy_variance`, per weight and step, replaces `acceptance_rate`
        and `energy`. The energy is that of the density that the kernel samples. A fit is extended
        from its group `chain_state`.

    Raises
    ------
    ValueError, TypeError
        If the data, the prior or the options cannot be used, or if `checkpoint` holds another run
        (the message names the differences) or something else. If a flat prior is proven to leave no
        proper posterior: classes are separated, or the rows do not tell columns apart.
    FloatingPointError
        If the density is not finite at a start.
    KeyboardInterrupt
        If Ctrl-C comes before the first draw.

    Warns
    -----
    UserWarning
        Once: if the chains are not reliable yet, with advice (the verdict of
        `diagnostics.convergence` at up to 20 of the rows), if the fit explains no more than a
        constant, or if the run was interrupted. Before that: if the prior of a hidden layer is
        flat, which leaves no proper posterior, or if that of the weights above one is flat, which
        may leave none.

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
    """Arguments of all chains, `num_chains` for every prior."""

    kernel: Kernel
    problem: Problem
    num_chains: int
    plan: Plan

    @property
    def shared(self) -> Any:
        """Arguments that all chains share."""
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
    """Begin or continue a run, and save it in a folder on the way."""
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
    """Warn that a run was interrupted, or that its chains or predictions are in doubt."""
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
