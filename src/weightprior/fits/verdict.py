"""Verdicts on chains: a sentence that states the problem and what to do about it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from arviz_stats.sampling_diagnostics import mcse

__all__ = ["MIN_DRAWS", "Measured", "Problem", "message", "problems_of"]

# Vehtari et al. 2021, doi:10.1214/20-BA1221.
_MAX_RHAT = 1.01
_MIN_ESS_PER_CHAIN = 100
# Betancourt 2016, doi:10.48550/arXiv.1604.00695.
_MIN_BFMI = 0.3
# R-hat and ESS compare the halves of chains: at least two draws each.
MIN_DRAWS = 4
# A chain stays away if Monte-Carlo error cannot explain its distance. The limit is this many
# standard errors, since it is the largest of many distances, and the errors are estimates
# themselves.
_MIN_STANDARD_ERRORS_APART = 5.0
# With fewer effective draws of its own, a chain is still on its way and does not stay anywhere.
_MIN_ESS_TO_STAY = 10
# If one of K chains is far from the rest, it also moves the mean of the others, as each other chain
# sees it, by 1 / (K - 1) of its own distance, at most a half. Only chains beyond this share are
# named.
_MIN_SHARE_OF_FARTHEST = 2 / 3


class Measured(NamedTuple):
    """Measurements of the chains of one prior.

    Attributes
    ----------
    series : array of shape (chains, draws, series)
        All watched quantities.
    apart : array of shape (chains, series)
        Distance of each chain's mean from that of the others, in posterior sds.
    moved : array of shape (chains,)
        True if a chain ever left its first draw.
    numbers : dict of str to array
        Result of `diagnostics.convergence`, without its verdict.
    chains : sequence
        Names of the chains.
    target_accept_prob : float
        Acceptance probability to which the step size was tuned; 0 if it was not tuned.
    """

    series: np.ndarray
    apart: np.ndarray
    moved: np.ndarray
    numbers: dict[str, np.ndarray]
    chains: Sequence[Any]
    target_accept_prob: float


class Problem(NamedTuple):
    """A problem in a few words, and what to do about it.

    It makes the fit's numbers doubtful, unless it only says that chains cannot be judged.
    """

    finding: str
    advice: str
    heading: str = "Not converged"
    doubtful: bool = True


def problems_of(measured: Measured) -> list[Problem]:
    """List all problems, the gravest first."""
    num_chains, num_draws, _ = measured.series.shape
    # With few draws, only clear problems are reported.
    enough = num_draws >= _MIN_ESS_PER_CHAIN
    disagree = _never_moved(measured) if num_draws >= MIN_DRAWS else []
    if enough and not disagree and _largest_rhat(measured) > _MAX_RHAT:
        disagree = _staying_away(measured)
    problems = [*disagree, *_diverged(measured)]
    if enough:
        problems += _low_energy(measured)
    if num_chains == 1:
        finding, advice = "one chain alone cannot be judged", "run at least two chains"
        problems.append(Problem(finding, advice, doubtful=False))
    # Chains that disagree have few effective draws, and more draws would not help.
    return problems if disagree else problems + _too_few(measured)


def message(measured: Measured, problems: Sequence[Problem], doubt: str = "") -> str:
    """State the problems and what to do or, if there are none, how good the chains are.

    A doubt about the scale of the data replaces all other advice.
    """
    if problems:
        findings = ", ".join(problem.finding for problem in problems)
        if doubt:
            return f"{problems[0].heading}: {findings}. {doubt}"
        advice = "; ".join(problem.advice for problem in problems)
        return f"{problems[0].heading}: {findings}; {advice}."
    rhat, ess = _largest_rhat(measured), int(_smallest_ess(measured))
    return f"Converged: R-hat at most {rhat:.3f}, at least {ess:,} effective draws."


def _never_moved(measured: Measured) -> list[Problem]:
    if measured.moved.all():
        return []
    finding = f"{_names(measured, ~measured.moved)} never moved"
    return [Problem(finding, "start elsewhere (init, rng_key) or raise num_warmup")]


def _staying_away(measured: Measured) -> list[Problem]:
    """Find chains that are farther from the others than Monte-Carlo error explains."""
    num_chains = len(measured.chains)
    # For every chain, the series in which it is farthest.
    worst = measured.apart.argmax(axis=1)
    distance = measured.apart.max(axis=1)
    series = measured.series[..., worst]
    # Every chain by itself, as if it were the only one.
    variance = np.square(mcse(series.swapaxes(0, 1)[None]))
    own = np.diag(variance)
    of_others = (variance.sum(axis=0) - own) / (num_chains - 1) ** 2
    within = series.var(axis=1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # a series that never varies
        error = np.sqrt((own + of_others) / within.mean(axis=0))
    away = (distance > _MIN_STANDARD_ERRORS_APART * error) & (
        distance > _MIN_SHARE_OF_FARTHEST * distance.max()
    )
    away &= _MIN_ESS_TO_STAY * own <= np.diag(within)
    if not away.any():
        return []
    size = f"{distance[away].max():.2g} sd"
    if 2 * away.sum() >= num_chains:
        finding = f"chains stay apart ({size})"
    else:
        verb = "stays" if away.sum() == 1 else "stay"
        finding = f"{_names(measured, away)} {verb} away from the others ({size})"
    advice = (
        "start chains at a MAP's restarts, run more chains, or treat the modes as different answers"
    )
    return [Problem(finding, advice)]


def _diverged(measured: Measured) -> list[Problem]:
    count = int(np.sum(measured.numbers.get("divergences", 0)))
    if count == 0:
        return []
    num_chains, num_draws, _ = measured.series.shape
    higher = next((p for p in (0.95, 0.99, 0.999) if p > measured.target_accept_prob), None)
    advice = f"raise target_accept_prob to {higher}" if higher else "standardise x and y"
    return [Problem(f"{count} of {num_chains * num_draws} transitions diverged", advice)]


def _low_energy(measured: Measured) -> list[Problem]:
    bfmi = measured.numbers.get("bfmi", np.full(len(measured.chains), np.inf))
    low = ~(bfmi >= _MIN_BFMI)
    if not low.any():
        return []
    finding = f"{_names(measured, low)} explored energies too slowly (BFMI {bfmi[low].min():.2f})"
    return [Problem(finding, "raise num_warmup or give the prior smaller scales")]


def _too_few(measured: Measured) -> list[Problem]:
    """Report too few effective draws, or too large an R-hat despite enough of them."""
    num_chains, num_draws, _ = measured.series.shape
    heading = "Too few draws" + (" to judge" if num_draws < _MIN_ESS_PER_CHAIN else "")
    if num_draws < MIN_DRAWS:
        finding = f"{num_draws} per chain where at least {_MIN_ESS_PER_CHAIN} are wanted"
        return [Problem(finding, "raise num_samples to 1,000", heading)]
    rhat, ess = _largest_rhat(measured), _smallest_ess(measured)
    wanted = _MIN_ESS_PER_CHAIN * num_chains
    if ess < wanted:
        found = f"{int(ess):,} effective draws where {wanted:,} are wanted"
        found += f" (R-hat {rhat:.3g})" if rhat > _MAX_RHAT else ""
        enough = _round_up(num_draws * wanted / ess)
        return [Problem(found, f"raise num_samples to {enough:,}", heading)]
    if rhat > _MAX_RHAT:
        # After rounding, it must not read as the limit itself.
        shown = max(rhat, _MAX_RHAT + 1e-3)
        found = f"R-hat {shown:.3f} where at most {_MAX_RHAT} is wanted"
        return [Problem(found, f"raise num_samples to {_round_up(2 * num_draws):,}")]
    if np.isnan(ess) or (num_chains > 1 and np.isnan(_rhats(measured)).any()):
        return [Problem("an output never varies or overflows", "watch other inputs")]
    return []


def _rhats(measured: Measured) -> np.ndarray:
    return np.append(measured.numbers["rhat"], measured.numbers["rhat_lp"])


def _largest_rhat(measured: Measured) -> float:
    return float(np.fmax.reduce(_rhats(measured)))


def _smallest_ess(measured: Measured) -> float:
    names = ("ess_bulk", "ess_tail", "ess_bulk_lp", "ess_tail_lp")
    return float(np.min([np.min(measured.numbers[name]) for name in names]))  # NaN, if any


def _round_up(number: float) -> int:
    """Round up to two digits."""
    unit = 10 ** max(int(np.floor(np.log10(number))) - 1, 0)
    return int(np.ceil(number / unit)) * unit


def _names(measured: Measured, chosen: np.ndarray) -> str:
    *most, last = (
        str(name) for name, is_one in zip(measured.chains, chosen, strict=True) if is_one
    )
    return f"chains {', '.join(most)} and {last}" if most else f"chain {last}"
