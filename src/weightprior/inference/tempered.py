"""Tempering from the prior to the posterior: the evidence, and draws from the posterior."""

import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import xarray as xr
from arviz_stats.base.array import array_stats
from scipy.integrate import cumulative_trapezoid

from weightprior import _checks
from weightprior._checks.options import names_its_options
from weightprior._running.progress import counting, shows_progress
from weightprior.fits.constant import warn_constant
from weightprior.fits.outcome import Evidence, Outcome
from weightprior.fits.problem import Problem
from weightprior.fits.results import build
from weightprior.inference._chains.tempering import ACCEPT, Choice, Sampler, TemperedSample
from weightprior.inference._docs import shares_docs
from weightprior.inference.free_energy import estimate, next_temperature, reliability_issues
from weightprior.model.bnn import BNN
from weightprior.model.priors.base import Prior

__all__ = ["fit_tempered"]

# Iterations in which chains settle at a new temperature, before draws are kept.
_SETTLE = 20
# Draws at a temperature, per draw from the posterior: the evidence uses the draws at all
# temperatures together. And the fewest that can tell if chains agree.
_SHARE, _MIN_DRAWS = 0.25, 50
# The pilot run, which finds the ladder: iterations to settle, draws, and the share of these draws
# that still count at the next temperature.
_PILOT_SETTLE, _PILOT_DRAWS, _PILOT_SHARE = 20, 10, 0.5
# The ladder is made twice as fine, at most this many times, while there are reliability issues.
_MAX_ROUNDS = 2


@names_its_options
@shows_progress
@shares_docs
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
    row_weights: Any = None,
    log_likelihood: bool = True,
    progress_bar: bool = True,
) -> xr.DataTree:
    """Estimate the evidence of the data, by a ladder of temperatures from prior to posterior.

    At inverse temperature b, chains draw from prior x likelihood^b: from the prior at 0, from the
    posterior at 1. Each chain begins at a draw from the prior and climbs the whole ladder by
    Hamiltonian Monte Carlo, independently of the others. The multistate Bennett acceptance ratio
    estimates the evidence from all draws, and the differences between chains give its error. Under
    a Gaussian likelihood the output layer is integrated out of every draw, in closed form.

    A short run first finds a ladder with neighbours equally far apart. The ladder is made twice as
    fine, at most twice, if neighbours share too few draws, if chains disagree, or if the estimate
    still moves.

    Parameters
    ----------
    <data>
    prior : NormalPrior or HierarchicalPrior
        The prior, which must not be flat anywhere; a stacked one gives a curve of evidence.
    rng_key : int or JAX key
        Seed of the chains.
    num_temperatures : int
        Number of temperatures of the first ladder, with those of prior and posterior.
    num_samples : int
        Number of draws per chain from the posterior; at every other temperature a quarter as many,
        at least 50.
    num_chains : int
        Number of chains per prior, at least 4: they give the error.
    <options>

    Returns
    -------
    DataTree
        Draws from the posterior, at temperature one, and a group `tempered` with, by `temperature`
        (and `prior`, if it is stacked):

        - `inverse_temperature`, from 0 to 1;
        - `expected_log_likelihood`, in nats, and `expected_log_likelihood_se`;
        - `log_evidence`, the log of the integral of prior x likelihood^b, and `log_evidence_se`;
          the last one is that of the data, which the function `log_evidence` reads and judges;
        - `log_evidence_coarse`, from every second temperature alone;
        - `inserted`, the number of temperatures added between this and the next, which are not
          listed; `overlap`, the least between neighbours among them, from 0 to 0.5;
        - `rhat` of the log evidence, as each chain's draws give it.

        After an interrupt once every chain has reached the posterior, the result so far with the
        attribute `interrupted`: fewer draws, or a ladder that should be finer.

    Raises
    ------
    TypeError, ValueError
        For wrong arguments, and for a prior that is flat somewhere: it is improper, so there is no
        evidence under it.
    FloatingPointError
        If the log likelihood of some draws is NaN.
    KeyboardInterrupt
        If an interrupt comes before there is an estimate of the evidence.

    Warns
    -----
    UserWarning
        If the evidence is unreliable, the run interrupted, or the fit no better than a constant.

    References
    ----------
    M. R. Shirts and J. D. Chodera, Statistically optimal analysis of samples from multiple
    equilibrium states, 2008. :doi:`10.1063/1.2978177`

    A. Gelman and X.-L. Meng, Simulating normalizing constants: from importance sampling to bridge
    sampling to path sampling, 1998. :doi:`10.1214/ss/1028905934`

    R. M. Neal, Annealed importance sampling, 2001. :doi:`10.1023/A:1008923215028`

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> prior = wp.normal_prior(bnn)
    >>> fit = wp.fit_tempered(bnn, x, 2 * x[:, 0], prior=prior, num_temperatures=8)
    >>> round(float(fit["tempered"]["log_evidence"][-1]))
    -23
    """
    began = time.perf_counter()
    problem = Problem.checked(
        bnn,
        x,
        y,
        prior=prior,
        rng_key=rng_key,
        row_weights=row_weights,
        learned=True,
        proper="no data have an evidence under it",
    )
    num_temperatures = _checks.integer("num_temperatures", num_temperatures, 2)
    num_samples = _checks.integer("num_samples", num_samples, 10)
    num_chains = _checks.integer("num_chains", num_chains, 4)
    ladders, draws, whole = _sample(problem, num_temperatures, num_samples, num_chains)
    outcome = Outcome(
        *map(list, zip(*draws, strict=True)),
        draws="chains",
        exact=True,
        groups={"tempered": (("temperature",), ladders)},
        evidence=[_evidence(ladder) for ladder in ladders],
    )
    options = {
        "num_temperatures": num_temperatures,
        "num_samples": num_samples,
        "num_chains": num_chains,
        "target_accept_prob": ACCEPT,
    }
    fit = build(
        problem,
        outcome,
        method="tempered",
        seconds=time.perf_counter() - began,
        options=options,
        log_likelihood=log_likelihood,
    )
    if not whole:
        _note_interrupt(fit, num_samples)
    _warn_unreliable(problem, ladders)
    warn_constant("fit_tempered", problem, fit)
    return fit


def _sample(
    problem: Problem, num_temperatures: int, num_samples: int, num_chains: int
) -> tuple[list[dict[str, np.ndarray]], list[Any], bool]:
    """Run every prior's ladder; return it, draws from the posterior, and if these are complete.

    After an interrupt it returns the draws so far, as soon as every ladder reaches the posterior.
    """
    sampler = Sampler(problem, num_chains)
    with counting(None, doing="placing temperatures"):
        pilots = sampler.run_ladder(_adaptive, _PILOT_SETTLE, _PILOT_DRAWS, 1)
    betas = [_ladder(pilot, num_temperatures) for pilot in pilots]
    num_each = max(int(_SHARE * num_samples), _MIN_DRAWS)
    with counting(num_temperatures - 1, " temperatures") as count:
        samples = sampler.run_ladder(_fixed(betas), _SETTLE, num_each, 2, on_rung=count.advance)
    found = [_summary(one, num_temperatures) for one in samples]
    try:
        for number in range(_MAX_ROUNDS):
            for i in [i for i, summary in enumerate(found) if reliability_issues(summary)]:
                with counting(None, doing="adding temperatures"):
                    refined = sampler.refine(i, samples[i], _SETTLE, num_each, 3 + number)
                # Both at once, so that an interrupt finds neither without the other.
                samples[i], found[i] = refined, _summary(refined, num_temperatures)
        with counting(None, doing="sampling"):
            return found, sampler.extend([one[-1] for one in samples], num_samples, _SETTLE), True
    except KeyboardInterrupt:
        tops = [one[-1].draws for one in samples]
        return found, jax.tree.map(lambda a: a[:, :num_samples], tops), False


def _evidence(ladder: dict[str, np.ndarray]) -> Evidence:
    value, error = (float(ladder[name][-1]) for name in ("log_evidence", "log_evidence_se"))
    return Evidence(value, error, reliability_issues(ladder))


def _note_interrupt(fit: xr.DataTree, num_samples: int) -> None:
    fit.attrs["interrupted"] = 1
    _checks.warn(
        f"fit_tempered: interrupted, so that the fit holds {fit['posterior'].sizes['draw']} of "
        f"{num_samples} draws per chain from the posterior. The evidence is of all temperatures, "
        "and no finer ladder is sought."
    )


def _warn_unreliable(problem: Problem, ladders: list[dict[str, np.ndarray]]) -> None:
    told = [
        ("" if label is None else f"under prior {label!r} ") + reason
        for label, ladder in zip(problem.labels, ladders, strict=True)
        if (reason := reliability_issues(ladder))
    ]
    if told:
        _checks.warn(f"fit_tempered: The evidence is not reliable: {'. '.join(told)}.")


def _adaptive(ladders: Sequence[list[TemperedSample]]) -> list[float | None]:
    tops = [ladder[-1] for ladder in ladders]
    return [None if top.beta == 1.0 else min(_next(top), 1.0) for top in tops]


def _next(top: TemperedSample) -> float:
    return next_temperature(top.beta, top.curve, _PILOT_SHARE)


def _fixed(betas: list[np.ndarray]) -> Choice:
    def choose(ladders: Sequence[list[TemperedSample]]) -> list[float | None]:
        return [
            float(beta[len(ladder)]) if len(ladder) < len(beta) else None
            for beta, ladder in zip(betas, ladders, strict=True)
        ]

    return choose


def _ladder(pilot: list[TemperedSample], count: int) -> np.ndarray:
    """Return `count` temperatures, equally far apart as measured by those of the pilot."""
    betas = np.array([sample.beta for sample in pilot[:-1]] + [_next(pilot[-2])])
    logs, places = np.log(betas[1:]), np.arange(1.0, len(betas))
    # The pilot's last step ended early, at 1.
    end = np.interp(0.0, logs, places) if len(places) > 1 else 1.0 / betas[1]
    steps = np.linspace(0.0, end, count)
    above = np.exp(np.interp(steps, places, logs))
    ladder = np.where(steps < 1.0, steps * betas[1], above)
    ladder[-1] = 1.0
    return ladder


def _summary(ladder: list[TemperedSample], count: int) -> dict[str, np.ndarray]:
    """Compute the group `tempered`, at the temperatures of the first ladder."""
    beta, curves = np.array([sample.beta for sample in ladder]), [sample.curve for sample in ladder]
    fine = estimate(beta, curves)
    kept = np.unique(np.append(np.arange(0, len(beta), 2), len(beta) - 1))
    coarse = np.full(len(beta), np.nan)
    coarse[kept] = estimate(beta[kept], [curves[i] for i in kept]).log_evidence
    slopes = np.stack([sample.curve.slope(sample.beta) for sample in ladder])
    by_chain = slopes.mean(axis=2)
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
        "rhat": _rhat(beta, slopes)[::every],
    }


def _rhat(beta: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Compute R-hat of the log evidence by chain, from the integral of its slope at each draw.

    NaN if the log likelihood does not depend on the weights.
    """
    paths = cumulative_trapezoid(slopes, beta, axis=0, initial=0)
    paths[0] = slopes[0]  # nothing integrated yet
    with np.errstate(invalid="ignore"):
        return np.array([array_stats.rhat(path, chain_axis=0, draw_axis=1) for path in paths])
