"""From the prior to the posterior by degrees: the evidence, and the posterior with it."""

import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import xarray as xr
from arviz_stats.base.array import array_stats
from tqdm.auto import tqdm

from weightprior import _checks, results
from weightprior.free_energy import estimate, next_temperature
from weightprior.inference._standardised import parts
from weightprior.inference._tempering import ACCEPT, Choice, Rung, Sampler
from weightprior.model import BNN, Prior

__all__ = ["fit_tempered"]

# Iterations by which chains settle at a new temperature, before their draws are kept.
_SETTLE = 40
# The run that finds the ladder: iterations to settle, draws, and the share of these that still
# count at the next temperature.
_PILOT_SETTLE, _PILOT_DRAWS, _PILOT_SHARE = 20, 10, 0.5
# The ladder is made twice as fine, so many times at most, while neighbours share fewer draws than
# this, or while every second temperature alone gives another evidence by more standard errors.
_MOST_ROUNDS, _LEAST_OVERLAP, _MOVED = 2, 0.05, 2.0


def fit_tempered(
    bnn: BNN,
    x: Any,
    y: Any,
    *,
    prior: Prior,
    rng_key: Any = 0,
    num_temperatures: int = 32,
    num_samples: int = 200,
    num_chains: int = 16,
    progress_bar: bool = True,
    row_weights: Any = None,
    log_likelihood: bool = True,
) -> xr.DataTree:
    """Follow the prior to the posterior through a ladder of temperatures: the evidence of the data.

    At inverse temperature b chains draw from prior x likelihood^b: from the prior at 0, from the
    posterior at 1. Each begins at a draw of the prior and climbs the whole ladder by Hamiltonian
    Monte Carlo, independently of the others. The evidence is estimated from all of their draws by
    the multistate Bennett acceptance ratio, and its error from how much the chains differ.

    A short run first finds a ladder whose neighbours are equally far apart. It is made twice as
    fine, twice at most, where they share too few draws or where the estimate still moves.

    Parameters
    ----------
    bnn : BNN
        The model.
    x : array or data frame of shape (rows, features)
        Inputs. A data frame's column names become the coordinate `feature`.
    y : array of shape (rows,) or (rows, outputs)
        Targets.
    prior : NormalPrior or HierarchicalPrior
        The prior, flat nowhere; a stacked one gives a curve of evidence.
    rng_key : int or JAX key
        Decides the chains.
    num_temperatures : int
        Temperatures of the first ladder, those of prior and posterior included.
    num_samples : int
        Draws per chain and temperature.
    num_chains : int
        Chains per prior, at least 4: the error is judged by them.
    progress_bar : bool
        Show one, where the output is a terminal.
    row_weights : array of shape (rows,) or (priors, rows), optional
        How often each row's log likelihood counts, as in `fit_mcmc`.
    log_likelihood : bool
        Whether the fit has the group `log_likelihood`.

    Returns
    -------
    DataTree
        Draws from the posterior, those at temperature one, and a group `tempering` with, by
        `temperature` (and `prior`, where it is stacked):

        - `inverse_temperature`, from 0 to 1;
        - `expected_log_likelihood`, in nats, and `expected_log_likelihood_se`;
        - `log_evidence`, the log of the integral of prior x likelihood^b, and `log_evidence_se`;
          the last one is that of the data, which `log_evidence` reads and judges;
        - `log_evidence_coarse`, from every second temperature alone;
        - `inserted`: temperatures that were added between this and the next, which are not listed;
          `overlap`, the least between neighbours on that way, between 0 and 0.5;
        - `rhat` of the log likelihood.

    Raises
    ------
    TypeError, ValueError
        For wrong arguments, and for a prior that is flat somewhere: it is improper, and no data
        have an evidence under it.

    References
    ----------
    M. R. Shirts and J. D. Chodera, Statistically optimal analysis of samples from multiple
    equilibrium states, 2008. :doi:`10.1063/1.2978177`

    R. M. Neal, Annealed importance sampling, 2001. :doi:`10.1023/A:1008923215028`

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> fit = wp.fit_tempered(bnn, x, 2 * x[:, 0], prior=wp.normal_prior(bnn))
    >>> round(float(fit["tempering"]["log_evidence"][-1]), 1)
    -22.7
    """
    began = time.perf_counter()
    _checks.model(bnn)
    inputs, targets = bnn.check_data(x, y)
    bnn.check_prior(prior, learned=True, proper="no data have an evidence under it")
    key = _checks.random_key(rng_key)
    num_temperatures = _checks.integer("num_temperatures", num_temperatures, 2)
    num_samples = _checks.integer("num_samples", num_samples, 10)
    num_chains = _checks.integer("num_chains", num_chains, 4)
    sampler = Sampler(
        bnn,
        inputs,
        targets,
        parts(prior, row_weights, len(inputs)),
        [jax.random.fold_in(key, i) for i in range(num_chains)],
    )
    disable = None if progress_bar else True
    with tqdm(desc="fit_tempered", unit=" temperatures", delay=1, disable=disable) as bar:
        pilots = sampler.climb(_adaptive, _PILOT_SETTLE, _PILOT_DRAWS, 1, bar)
        betas = [_ladder(pilot, num_temperatures) for pilot in pilots]
        rungs = sampler.climb(_fixed(betas), _SETTLE, num_samples, 2, bar)
        found = [_summary(one, num_temperatures) for one in rungs]
        for number in range(_MOST_ROUNDS):
            moving = [i for i, summary in enumerate(found) if not _stands_still(summary)]
            for i in moving:
                rungs[i] = sampler.refine(i, rungs[i], _SETTLE, num_samples, 3 + number)
                found[i] = _summary(rungs[i], num_temperatures)
                bar.update(len(rungs[i]) // 2)
    weights, stats = zip(*(one[-1].draws for one in rungs), strict=True)
    return results.build(
        bnn,
        x,
        y,
        prior,
        results.Draws(list(weights), list(stats), {"tempering": (("temperature",), found)}),
        method="tempered",
        exact=True,
        seconds=time.perf_counter() - began,
        row_weights=row_weights,
        log_likelihood=log_likelihood,
        options={
            "num_temperatures": num_temperatures,
            "num_samples": num_samples,
            "num_chains": num_chains,
            "target_accept_prob": ACCEPT,
            "rng_key": jax.random.key_data(key).tolist(),
        },
    )


def _adaptive(ladders: Sequence[list[Rung]]) -> list[float | None]:
    tops = [ladder[-1] for ladder in ladders]
    return [None if top.beta == 1.0 else min(_next(top), 1.0) for top in tops]


def _next(top: Rung) -> float:
    return next_temperature(top.beta, top.energies, _PILOT_SHARE)


def _fixed(betas: list[np.ndarray]) -> Choice:
    def choose(ladders: Sequence[list[Rung]]) -> list[float | None]:
        return [
            float(beta[len(ladder)]) if len(ladder) < len(beta) else None
            for beta, ladder in zip(betas, ladders, strict=True)
        ]

    return choose


def _ladder(pilot: list[Rung], count: int) -> np.ndarray:
    """So many temperatures, spread as those of the pilot are, which are equally far apart."""
    betas = np.array([rung.beta for rung in pilot[:-1]] + [_next(pilot[-2])])
    logs, places = np.log(betas[1:]), np.arange(1.0, len(betas))
    # The pilot's last step ended early, at 1.
    end = np.interp(0.0, logs, places) if len(places) > 1 else 1.0 / betas[1]
    steps = np.linspace(0.0, end, count)
    above = np.exp(np.interp(steps, places, logs))
    ladder = np.where(steps < 1.0, steps * betas[1], above)
    ladder[-1] = 1.0
    return ladder


def _summary(ladder: list[Rung], count: int) -> dict[str, np.ndarray]:
    """What the group `tempering` holds, at the temperatures of the first ladder."""
    beta = np.array([rung.beta for rung in ladder])
    energies = np.stack([rung.energies for rung in ladder])
    fine = estimate(beta, energies)
    kept = np.unique(np.append(np.arange(0, len(beta), 2), len(beta) - 1))
    coarse = np.full(len(beta), np.nan)
    coarse[kept] = estimate(beta[kept], energies[kept]).log_evidence
    by_chain = energies.mean(axis=2)
    spread = by_chain.std(axis=1, ddof=1) / np.sqrt(by_chain.shape[1])
    every = (len(ladder) - 1) // (count - 1)
    return {
        "inverse_temperature": beta[::every],
        "expected_log_likelihood": by_chain.mean(axis=1)[::every],
        "expected_log_likelihood_se": spread[::every],
        "log_evidence": fine.log_evidence[::every],
        "log_evidence_se": fine.error[::every],
        "log_evidence_coarse": coarse[::every],
        "overlap": np.append(fine.overlap.reshape(-1, every).min(axis=1), np.nan),
        "inserted": np.append(np.full(count - 1, every - 1), 0),
        "rhat": _rhat(energies[::every]),
    }


def _rhat(energies: np.ndarray) -> np.ndarray:
    """R-hat at every temperature; NaN where the log likelihood does not depend on the weights."""
    with np.errstate(invalid="ignore"):
        return np.array([array_stats.rhat(e, chain_axis=0, draw_axis=1) for e in energies])


def _stands_still(summary: dict[str, np.ndarray]) -> bool:
    """Whether a finer ladder would tell nothing else."""
    moved = abs(summary["log_evidence"][-1] - summary["log_evidence_coarse"][-1])
    close = summary["overlap"][:-1].min() >= _LEAST_OVERLAP
    return bool(close and moved <= _MOVED * summary["log_evidence_se"][-1])
