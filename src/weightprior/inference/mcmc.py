"""Markov chain Monte Carlo: draws from the full posterior."""

import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from weightprior import _checks, results
from weightprior.draws import starts_of
from weightprior.inference import _chains
from weightprior.inference._hmc import HMC
from weightprior.inference._nuts import NUTS
from weightprior.inference._standardised import parts
from weightprior.model import BNN
from weightprior.priors import NormalPrior

__all__ = ["fit_mcmc"]


def fit_mcmc(
    bnn: BNN,
    x: Any,
    y: Any,
    *,
    prior: NormalPrior,
    rng_key: Any = 0,
    kernel: str = "hmc",
    num_warmup: int = 500,
    num_samples: int = 1000,
    num_chains: int = 4,
    thinning: int = 1,
    target_accept_prob: float = 0.8,
    init: Any = None,
    progress_bar: bool = True,
    row_weights: Any = None,
) -> xr.DataTree:
    """Draw from the posterior over all weights.

    Chains work in coordinates counted from the prior's centre in units of its scale, in JAX's
    default precision.

    Parameters
    ----------
    bnn : BNN
        The model.
    x : array or data frame of shape (rows, features)
        Inputs. A data frame's column names become the coordinate `feature`.
    y : array of shape (rows,) or (rows, outputs)
        Targets.
    prior : NormalPrior
        The prior; for a stacked one every part is sampled.
    rng_key : int or JAX key
        Decides starts and chains.
    kernel : {"hmc", "nuts"}
        ``"hmc"``: Hamiltonian Monte Carlo with jittered integration time and step size.
        ``"nuts"``: NumPyro's No-U-Turn sampler. Both are exact.
    num_warmup : int
        Iterations per chain that tune the step size (and, for ``"nuts"``, the metric), dropped.
    num_samples : int
        Draws kept per chain.
    num_chains : int
        Chains per prior.
    thinning : int
        Iterations per draw kept.
    target_accept_prob : float
        Acceptance that the step size is tuned to, between 0 and 1.
    init : fit, dict of arrays, or None
        Where chains start. None: at the end of short optimisations from draws of the prior. A
        MAP fit: at its best restarts, one each. Another fit: at the last draws of its chains.
        Weights: all there.
    progress_bar : bool
        Show one, where the output is a terminal.
    row_weights : array of shape (rows,) or (priors, rows), optional
        How often each row's log likelihood counts; once by default, 0 leaves the row out. For a
        stacked prior there can be one set for each part. The fit's `log_likelihood` stays that of
        one row each.

    Returns
    -------
    DataTree
        A fit of `num_chains` chains and `num_samples` draws, whose `sample_stats` hold
        `acceptance_rate`, `diverging`, `energy`, `n_steps` (gradients per draw) and `step_size` (as
        tuned).

    Raises
    ------
    ValueError, TypeError
        For data, a prior or options that cannot be used.
    FloatingPointError
        Where the density is not finite at a start.

    Warns
    -----
    UserWarning
        Where transitions diverged.

    References
    ----------
    R. M. Neal, MCMC using Hamiltonian dynamics, 2011. :doi:`10.1201/b10905-6`

    M. D. Hoffman and A. Gelman, The No-U-Turn sampler, JMLR 15, 2014.

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
    bnn.check_prior(prior)
    key = _checks.random_key(rng_key)
    _checks.one_of("kernel", kernel, ("hmc", "nuts"))
    plan = _chains.Plan(
        _checks.integer("num_warmup", num_warmup, 0),
        _checks.integer("num_samples", num_samples, 1),
        _checks.integer("thinning", thinning, 1),
        _checks.number("target_accept_prob", target_accept_prob, above=0, below=1),
    )
    num_chains = _checks.integer("num_chains", num_chains, 1)

    began = time.perf_counter()
    fits = parts(prior, row_weights, len(inputs))
    chained = [part for part in fits for _ in range(num_chains)]
    # The same keys as split(key, num_chains), which compiles for every new number.
    keys = [jax.random.fold_in(key, i) for i in range(num_chains)] * len(fits)
    starts = _starts(bnn, init, prior, num_chains)
    options = {
        "target_accept_prob": np.asarray(plan.target_accept_prob),
        "num_warmup": np.asarray(plan.num_warmup),
    }
    method = HMC() if kernel == "hmc" else NUTS(plan.num_warmup)
    shared = (bnn, inputs, targets, options)
    total = plan.num_warmup + plan.num_samples * plan.thinning
    with tqdm(total=total, unit="it", delay=1, disable=None if progress_bar else True) as bar:
        bar.set_description("fit_mcmc starts")
        chains = _chains.begin(method, shared, chained, keys, starts)
        _check_starts(method, chains)
        weights, stats = _chains.sample(method, shared, chained, chains, plan, bar)
    seconds = time.perf_counter() - began
    _warn_divergences(int(stats["diverging"].sum()), stats["diverging"].size)
    slices = [slice(i, i + num_chains) for i in range(0, len(chained), num_chains)]
    return results.build(
        bnn,
        x,
        y,
        prior,
        results.Draws(
            weights=[{name: w[s] for name, w in weights.items()} for s in slices],
            stats=[{name: v[s] for name, v in stats.items()} for s in slices],
        ),
        method=kernel,
        exact=True,
        seconds=seconds,
        row_weights=row_weights,
        options=plan._asdict()
        | {"init": _kind_of(init), "rng_key": jax.random.key_data(key).tolist()},
    )


def _kind_of(init: Any) -> str:
    return "prior" if init is None else "fit" if isinstance(init, xr.DataTree) else "weights"


def _starts(bnn: BNN, init: Any, prior: NormalPrior, num_chains: int) -> list[Any]:
    """Weights for every chain of every prior, or None for a draw."""
    num_parts = len(prior.parts())
    if init is None:
        return [None] * (num_chains * num_parts)
    if isinstance(init, Mapping) and not isinstance(init, xr.DataTree):
        bnn.check_weights("init", init)
        return [dict(init)] * (num_chains * num_parts)
    draws = starts_of(bnn, init)
    if len(draws) not in (1, num_parts):
        raise ValueError(
            f"init: expected a fit of one prior or of as many as are sampled, {num_parts}; "
            f"got one of {len(draws)}."
        )
    found = len(next(iter(draws[0].values())))
    if found < num_chains:
        raise ValueError(
            f"init: expected a start for each of num_chains={num_chains} chains; got a fit with "
            f"{found}. Lower num_chains or fit with as many restarts."
        )
    return [
        {name: values[chain] for name, values in draws[part % len(draws)].items()}
        for part in range(num_parts)
        for chain in range(num_chains)
    ]


def _check_starts(kernel: _chains.Kernel, chains: list[Any]) -> None:
    bad = [i for i, c in enumerate(chains) if not np.isfinite(kernel.log_density(c.state))]
    if bad:
        raise FloatingPointError(
            f"fit_mcmc: the density is not finite at the start of chain {bad[0]}. Standardise x "
            "and y, or give the prior smaller scales."
        )


def _warn_divergences(count: int, total: int) -> None:
    if count:
        _checks.warn(
            f"fit_mcmc: {count} of {total} transitions diverged; the draws may miss part of the "
            "posterior. Raise target_accept_prob (to 0.95), or standardise x and y."
        )
