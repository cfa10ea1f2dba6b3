"""Conversion of a run to its form in a fit, and back, so that a fit can be extended."""

import json
from collections.abc import Collection
from typing import Any

import numpy as np
import xarray as xr

from weightprior import _checks
from weightprior.fits.fingerprint import Fingerprint, differences, of_starts
from weightprior.fits.layout import SAMPLE_DIMS
from weightprior.fits.outcome import ChainState, Outcome
from weightprior.fits.problem import Problem
from weightprior.fits.reading import unstack_fit
from weightprior.inference._chains.run import Piece, Plan, Run
from weightprior.inference._starts import kind_of, starts_of_chains
from weightprior.model.bnn import BNN
from weightprior.model.priors.base import Prior

__all__ = ["begin_or_extend", "earlier", "outcome"]


def outcome(run: Run, call: Fingerprint, num_chains: int, exact: bool) -> Outcome:
    """Split a run by parts of the prior: its draws, and the state from which to continue."""
    stacked = {name: np.stack([chain[name] for chain in run.chains]) for name in run.chains[0]}
    weights, stats = run.draws()
    slices = [slice(i, i + num_chains) for i in range(0, len(run.chains), num_chains)]

    def by_part(arrays: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
        return [{name: array[s] for name, array in arrays.items()} for s in slices]

    state = ChainState(by_part(stacked), call.run, call.parts)
    return Outcome(by_part(weights), by_part(stats), "chains", exact, chain_state=state)


def earlier(
    bnn: BNN, prior: Prior, fit: Any, call: Fingerprint, plan: Plan
) -> tuple[Run, list[str]] | None:
    """Return the run of a fit, and its starts, if the call asks for more draws of it.

    Parameters
    ----------
    bnn, prior
        The model and its prior.
    fit : DataTree or anything
        Argument `init` of the call.
    call : Fingerprint
        The call.
    plan : Plan
        Plan of the call.

    Returns
    -------
    tuple or None
        None if the fit is of another run, or holds as many draws already. If it is of the same data
        and prior, a warning tells why it is not extended.
    """
    if not isinstance(fit, xr.DataTree) or "chain_state" not in fit.children:
        return None
    trees = list(unstack_fit(fit).values())
    states = [tree["chain_state"].dataset for tree in trees]
    made = Fingerprint(
        json.loads(states[0].attrs["run"]), [json.loads(s["part"].item()) for s in states]
    )
    if found := differences(made, call, but=("num_samples", "init")):
        if made.same_data(call):
            _warn_anew(f"is of another call: {', '.join(found)}")
        return None
    parts = [_draws([*prior.sites, *bnn.sites], tree) for tree in trees]
    weights, stats = (
        {n: np.concatenate([p[i][n] for p in parts]) for n in parts[0][i]} for i in (0, 1)
    )
    chains = [chain for state in states for chain in _chains_of(state)]
    run = Run(chains, seconds=float(fit.attrs["seconds"])).with_draws((weights, stats))
    # Draws may have been removed since.
    whole = run.iteration == plan.num_warmup + run.num_draws * plan.thinning
    if not whole or run.num_draws >= plan.num_samples:
        held = f"holds {run.num_draws:,} draws per chain"
        _warn_anew(f"{held} already" if whole else f"{held}, and others have been removed")
        return None
    return run, [part["init"] for part in made.parts]


def _warn_anew(why: str) -> None:
    _checks.warn(
        f"fit_mcmc: init is not extended, since it {why}. Chains start anew at its last draws. To "
        "extend it, repeat its call with more num_samples."
    )


def _draws(sites: Collection[str], tree: xr.DataTree) -> Piece:
    """Return draws and statistics as they were sampled, in their own precision."""
    posterior = tree["posterior"].dataset
    stats = tree["sample_stats"].dataset.drop_vars(
        "lp", errors="ignore"
    )  # it is computed from the draws
    return (
        {
            name: posterior[name].transpose(*SAMPLE_DIMS, ...).to_numpy()
            for name in sites  # other variables are computed from these
        },
        {str(n): v.transpose(*SAMPLE_DIMS).to_numpy() for n, v in stats.data_vars.items()},
    )


def _chains_of(state: xr.Dataset) -> list[dict[str, np.ndarray]]:
    arrays = {
        str(name): values.transpose("chain", ...).to_numpy()
        for name, values in state.data_vars.items()
        if name != "part"
    }
    return [{name: a[i] for name, a in arrays.items()} for i in range(state.sizes["chain"])]


def begin_or_extend(
    problem: Problem, call: Fingerprint, init: Any, plan: Plan, num_chains: int
) -> tuple[Run | None, list[Any], Fingerprint]:
    """Return the run to continue, or the starts of chains; and the call, which describes them."""
    extended = earlier(problem.bnn, problem.prior, init, call, plan)
    if extended is not None:
        return extended[0], [], call.starting(extended[1])
    starts = starts_of_chains(problem.bnn, init, problem.prior, num_chains)
    told = of_starts(kind_of(init), starts, len(problem.tasks))
    return None, starts, call.starting(told)
