"""Markov chain Monte Carlo: draws from the full posterior."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from weightprior import _checks, results
from weightprior.inference import _chains, _extension, _fingerprint
from weightprior.inference._checkpoint import Folder, Nowhere, opened
from weightprior.inference._hmc import HMC
from weightprior.inference._mclmc import MCLMC
from weightprior.inference._nuts import NUTS
from weightprior.inference._run import Run, pack
from weightprior.inference._standardised import parts
from weightprior.inference._starts import kind_of, starts_of_chains
from weightprior.mixing import complaint
from weightprior.model import BNN, Prior

__all__ = ["fit_mcmc"]

_KERNELS: dict[str, Callable[[_chains.Plan], _chains.Kernel]] = {
    "hmc": lambda plan: HMC(),
    "nuts": lambda plan: NUTS(plan.num_warmup),
    "mclmc": lambda plan: MCLMC(),
}


def fit_mcmc(
    bnn: BNN,
    x: Any,
    y: Any,
    *,
    prior: Prior,
    rng_key: Any = 0,
    kernel: str = "hmc",
    num_warmup: int = 500,
    num_samples: int = 1000,
    num_chains: int = 4,
    thinning: int = 1,
    target_accept_prob: float = 0.9,
    init: Any = None,
    checkpoint: Any = None,
    progress_bar: bool = True,
    row_weights: Any = None,
    log_likelihood: bool = True,
) -> xr.DataTree:
    """Draw from the posterior over all weights.

    Chains work in coordinates counted from the prior's centre in units of its scale, in JAX's
    default precision. Under a `Gaussian` likelihood the output layer (or, beside a wide hidden
    layer, its bias alone) is integrated out and drawn exactly for every draw, which lets the
    others move further at a time; ``"nuts"`` alone moves through all weights.

    What chains do depends on the arguments alone: a run that was interrupted, killed or extended
    holds, to the last bit, the draws of one that was not.

    Ctrl-C ends the sampling; the draws so far are returned as a fit like any other, with a warning
    and the attribute `interrupted`. During warm-up there is nothing to return.

    Parameters
    ----------
    bnn : BNN
        The model.
    x : array or data frame of shape (rows, features)
        Inputs. A data frame's column names become the coordinate `feature`.
    y : array of shape (rows,) or (rows, outputs)
        Targets.
    prior : NormalPrior or HierarchicalPrior
        The prior; for a stacked one every part is sampled. Of a `hierarchical_prior` the latents
        are sampled with the weights.
    rng_key : int or JAX key
        Decides starts and chains.
    kernel : {"hmc", "nuts", "mclmc"}
        ``"hmc"``: Hamiltonian Monte Carlo with jittered integration time and step size, exact.
        ``"nuts"``: NumPyro's No-U-Turn sampler, exact; slower, and the reference.
        ``"mclmc"``: microcanonical Langevin Monte Carlo without adjustment: fast where there are
        very many weights, and not exact, since the error of its steps is never corrected. The
        fit's attribute `exact` says which.
    num_warmup : int
        Iterations per chain that tune step size, metric and the time of trajectories, dropped.
    num_samples : int
        Draws kept per chain.
    num_chains : int
        Chains per prior.
    thinning : int
        Iterations per draw kept.
    target_accept_prob : float
        Acceptance that the step size is tuned to, between 0 and 1; ``"mclmc"`` accepts all.
    init : fit, dict of arrays, or None
        Where chains start. None: at the end of short optimisations from draws of the prior. A
        MAP fit: at its best restarts, one each. Another fit: at the last draws of its chains,
        with a new warm-up. Weights: all there.

        A fit of the same call with more `num_samples` is extended: it keeps its draws, and its
        chains go on where they stand. The same call is one with equal model, `x`, `y`, numbers of
        the prior, `row_weights`, `kernel`, `num_warmup`, `thinning`, `target_accept_prob`,
        `num_chains` and `rng_key`, in the same precision and versions of the software, whose fit
        has all its draws and its group `chain_state`; it may have been saved, interrupted or
        taken out of a stacked one by `split`.
    checkpoint : str or path, optional
        A folder to keep the run in, warm-up included, every few seconds. After an interrupt or a
        kill the same call goes on from there; once complete, it returns the fit at once.
    progress_bar : bool
        Show one, where the output is a terminal.
    row_weights : array of shape (rows,) or (priors, rows), optional
        How often each row's log likelihood counts; once by default, 0 leaves the row out. For a
        stacked prior there can be one set for each part. The fit's `log_likelihood` stays that of
        one row each.
    log_likelihood : bool
        Whether the fit has the group `log_likelihood`, which LOO is computed from: 8 bytes for
        every row and draw.

    Returns
    -------
    DataTree
        A fit of `num_chains` chains and `num_samples` draws, whose `sample_stats` hold
        `acceptance_rate`, `diverging`, `energy`, `n_steps` (gradients per draw) and `step_size` (as
        tuned); of ``"mclmc"`` `energy_variance`, per weight and step, in place of the first and
        third. The energy is that of the density which the kernel moves along. The group
        `chain_state` is what the fit is extended from.

    Raises
    ------
    ValueError, TypeError
        For data, a prior or options that cannot be used, and where `checkpoint` holds another
        run (what differs is named), or something else.
    FloatingPointError
        Where the density is not finite at a start.
    KeyboardInterrupt
        Where it comes before the first draw.

    Warns
    -----
    UserWarning
        Once: where the chains cannot be relied on yet, with what to do (the verdict of
        `diagnostics.convergence` on up to 20 of the rows), or where the run was interrupted. Before
        that, where the prior of a hidden layer is flat, so that there is no proper posterior.

    References
    ----------
    R. M. Neal, MCMC using Hamiltonian dynamics, 2011. :doi:`10.1201/b10905-6`

    M. D. Hoffman and A. Gelman, The No-U-Turn sampler, JMLR 15, 2014.

    J. Robnik, G. B. De Luca, E. Silverstein and U. Seljak, Microcanonical Hamiltonian Monte Carlo,
    JMLR 24, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=(3,)), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> fit = wp.fit_mcmc(
    ...     bnn,
    ...     x,
    ...     np.sin(3 * x[:, 0]),
    ...     prior=wp.normal_prior(bnn, scale=0.5),
    ...     num_samples=50,
    ... )
    >>> fit["posterior"]["hidden_0.weight"].dims
    ('chain', 'draw', 'feature', 'hidden_0')
    """
    _checks.model(bnn)
    inputs, targets = bnn.check_data(x, y)
    bnn.check_prior(prior, learned=True)
    key = _checks.random_key(rng_key)
    _checks.one_of("kernel", kernel, _KERNELS)
    plan = _chains.Plan(
        _checks.integer("num_warmup", num_warmup, 0),
        _checks.integer("num_samples", num_samples, 1),
        _checks.integer("thinning", thinning, 1),
        _checks.number("target_accept_prob", target_accept_prob, above=0, below=1),
    )
    num_chains = _checks.integer("num_chains", num_chains, 1)

    _warn_improper(prior)

    fits = parts(prior, row_weights, len(inputs))
    asked = {"kernel": kernel, **plan._asdict(), "num_chains": num_chains}
    call = _fingerprint.of_call(bnn, inputs, targets, fits, key, asked)
    extended = _extension.earlier(bnn, init, call, plan)
    if extended is None:
        run, starts = None, starts_of_chains(bnn, init, prior, num_chains)
        call = call.starting(_fingerprint.of_starts(kind_of(init), starts, len(fits)))
    else:
        run, starts, call = extended[0], [], call.starting(extended[1])

    method = _KERNELS[kernel](plan)
    chained = [part for part in fits for _ in range(num_chains)]
    # The same keys as split(key, num_chains), which compiles for every new number.
    keys = [jax.random.fold_in(key, i) for i in range(num_chains)] * len(fits)
    options = {
        "target_accept_prob": np.asarray(plan.target_accept_prob),
        "num_warmup": np.asarray(plan.num_warmup),
    }
    chains = _Chains(method, (bnn, inputs, targets, options), chained, keys, plan)
    with opened(checkpoint, call) as folder:
        run = folder.read() or run
        if run is None or run.num_draws < plan.num_samples:
            run = _sample(chains, run, starts, folder, progress_bar)
    fit = results.build(
        bnn,
        x,
        y,
        prior,
        _extension.draws(run, call, num_chains),
        method=kernel,
        exact=method.exact,
        seconds=run.seconds,
        row_weights=row_weights,
        log_likelihood=log_likelihood,
        options=plan._asdict()
        | {"init": call.parts[0]["init"].split()[0], "rng_key": jax.random.key_data(key).tolist()},
    )
    if run.num_draws < plan.num_samples:
        fit.attrs["interrupted"] = 1
        _warn_interrupted(run, plan, checkpoint)
    elif doubts := complaint(bnn, fit):
        _checks.warn(f"fit_mcmc: {doubts}")
    return fit


class _Chains(NamedTuple):
    """What chains are made of, one for every item of `parts` and `keys`."""

    kernel: _chains.Kernel
    shared: Any
    parts: list[Any]
    keys: list[Any]
    plan: _chains.Plan


def _sample(
    made_of: _Chains,
    run: Run | None,
    starts: list[Any],
    folder: Folder | Nowhere,
    progress_bar: bool,
) -> Run:
    """Begin a run, or go on with it, and keep it in a folder on the way."""
    kernel, shared, parts, keys, plan = made_of
    before, began = run.seconds if run else 0.0, time.perf_counter()

    def timed(run: Run) -> Run:
        return run._replace(seconds=before + time.perf_counter() - began)

    def keep(run: Run) -> None:
        folder.save(timed(run))

    total = plan.num_warmup + plan.num_samples * plan.thinning
    done, disable = run.iteration if run else 0, None if progress_bar else True
    with tqdm(total=total, initial=done, unit="it", delay=1, disable=disable) as bar:
        bar.set_description("fit_mcmc starts")
        if run is None:
            chains = _chains.begin(kernel, shared, parts, keys, starts)
            _check_starts(kernel, chains)
            run = Run([pack(chain) for chain in chains])
        else:
            chains = _chains.resume(kernel, shared, parts, keys[0], run)
        folder.save(timed(run), now=True)
        run = timed(_chains.sample(kernel, shared, parts, chains, run, plan, bar, keep))
        folder.save(run, now=True)
    return run


def _check_starts(kernel: _chains.Kernel, chains: list[Any]) -> None:
    bad = [i for i, c in enumerate(chains) if not np.isfinite(kernel.log_density(c.state))]
    if bad:
        raise FloatingPointError(
            f"fit_mcmc: the density is not finite at the start of chain {bad[0]}. Standardise x "
            "and y, or give the prior smaller scales."
        )


def _warn_improper(prior: Prior) -> None:
    """Of hidden layers without a prior, which no number of rows makes up for.

    A unit whose bias runs off becomes a constant, and one whose weights do becomes a step: the
    likelihood tends to a limit above zero, whose integral is infinite.
    """
    hidden = [name for name in prior.flat() if name.startswith("hidden_")]
    if hidden:
        _checks.warn(
            f"fit_mcmc: The posterior is improper: the prior is flat on {_checks.several(hidden)}, "
            "and as they run off a unit becomes constant or a step, which data do not rule out. "
            "Give them a scale, such as 1 for biases."
        )


def _warn_interrupted(run: Run, plan: _chains.Plan, checkpoint: Any) -> None:
    how = "init=fit and the same arguments" if checkpoint is None else "the same arguments"
    _checks.warn(
        f"fit_mcmc: interrupted, so that the fit holds {run.num_draws} of {plan.num_samples} draws "
        f"per chain. To go on, call it again with {how}."
    )
