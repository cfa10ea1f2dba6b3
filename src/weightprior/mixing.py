"""Whether chains have mixed, judged by the network's outputs and the log density."""

import json
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from arviz_stats.sampling_diagnostics import bfmi, ess, rhat

from weightprior.draws import SAMPLE_DIMS, draws_of, evaluate
from weightprior.model import BNN
from weightprior.verdict import MIN_DRAWS, Measured, problems_of, sentence

__all__ = ["Judgement", "complaint", "judge", "watched_inputs"]

_NUM_INPUTS = 20
# Outputs that `complaint` watches in all parts of a prior together: each costs three milliseconds.
_NUM_SERIES = 400

_WITHOUT_CHAINS = {
    "map": "a MAP is one point, without chains",
    "ensemble": "members of an ensemble are separate optima, not chains",
    "laplace": "draws from an approximation are independent, not chains",
    "vi": "draws from an approximation are independent, not chains",
}


class Judgement(NamedTuple):
    """What is to be said about the chains of one prior.

    Attributes
    ----------
    label : object
        Of the prior; None where it is the only one.
    numbers : dict of str to array
        What `diagnostics.convergence` returns, without its verdict.
    findings : tuple of str
        What is the matter, the gravest first, in a few words each; empty where nothing is.
    verdict : str
        The same as a sentence, with what to do.
    converged : bool
        Whether nothing is the matter; False where that cannot be judged.
    """

    label: Any
    numbers: dict[str, np.ndarray]
    findings: tuple[str, ...]
    verdict: str
    converged: bool


def complaint(bnn: BNN, fit: xr.DataTree) -> str | None:
    """What to warn of: the verdict where chains have not converged, by prior; None otherwise.

    Outputs are watched at up to 20 of the rows that were fitted.
    """
    num_parts = fit["posterior"].sizes.get("prior", 1)
    affordable = _NUM_SERIES // (num_parts * bnn.network.num_outputs)
    judged = judge(bnn, fit, watched_inputs(fit, int(np.clip(affordable, 5, _NUM_INPUTS))))
    bad = [part for part in judged if not part.converged]
    if not bad:
        return None
    if "prior" not in fit["posterior"].dims:
        return bad[0].verdict
    told = " ".join(f"{part.label!r}: {part.verdict}" for part in bad[:3])
    rest = " For the others see diagnostics.convergence." if len(bad) > 3 else ""
    return f"{len(bad)} of {len(judged)} priors in doubt. {told}{rest}"


def watched_inputs(fit: xr.DataTree, count: int) -> np.ndarray:
    """Up to `count` of the rows that were fitted, evenly spread."""
    x = fit["constant_data"]["x"].to_numpy()
    return x[np.unique(np.linspace(0, len(x) - 1, count).round().astype(int))]


def judge(bnn: BNN, fit: xr.DataTree, x: np.ndarray) -> list[Judgement]:
    """Judge the chains of every prior by the outputs at `x` and by the log density."""
    parts = draws_of(bnn, fit)
    posterior, stats = fit["posterior"].dataset, fit["sample_stats"].dataset
    stacked = "prior" in posterior.dims
    labels = posterior["prior"].to_numpy().tolist() if stacked else [None]
    return [
        _judge_part(bnn, fit, weights, stats.isel(prior=i) if stacked else stats, label, x)
        for i, (weights, label) in enumerate(zip(parts, labels, strict=True))
    ]


def _judge_part(
    bnn: BNN, fit: xr.DataTree, weights: Any, stats: xr.Dataset, label: Any, x: np.ndarray
) -> Judgement:
    outputs = evaluate(_outputs_of_draw, bnn, weights, x)
    lp = stats["lp"].transpose(*SAMPLE_DIMS).to_numpy()
    series = np.concatenate([outputs.reshape(*lp.shape, -1), lp[..., None]], axis=2)
    apart = _separation(series)
    measured = Measured(
        series=series,
        apart=apart,
        moved=_moved(weights),
        numbers={
            **_agreement(series, outputs.shape[2:]),
            "separation": apart.max(axis=1),
            **_sampler_numbers(stats),
        },
        chains=fit["posterior"]["chain"].to_numpy().tolist(),
        target_accept_prob=json.loads(fit.attrs["options"]).get("target_accept_prob", 0.0),
    )
    reason = _WITHOUT_CHAINS.get(fit.attrs["method"])
    if reason is not None:
        return Judgement(label, measured.numbers, (reason,), f"Not judged: {reason}.", False)
    problems = problems_of(measured)
    findings = tuple(problem.finding for problem in problems)
    verdict = sentence(measured, problems)
    return Judgement(label, measured.numbers, findings, verdict, not problems)


def _outputs_of_draw(bnn: BNN, weights: Any, x: Any) -> Any:
    return bnn.network.apply(weights, x)


def _moved(weights: dict[str, np.ndarray]) -> np.ndarray:
    """Whether each chain ever left its first draw.

    Weights tell, and outputs do not: those of equal weights may differ by rounding.
    """
    num_chains = len(next(iter(weights.values())))
    return np.array(
        [any((w[c] != w[c, :1]).any() for w in weights.values()) for c in range(num_chains)]
    )


def _agreement(series: np.ndarray, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """R-hat and effective sample sizes of the outputs, which have `shape`, and of the density."""
    num_chains, num_draws, num_series = series.shape
    found = {name: np.full(num_series, np.nan) for name in ("rhat", "ess_bulk", "ess_tail")}
    if num_draws >= MIN_DRAWS:
        found["ess_bulk"] = np.asarray(ess(series, method="bulk"))
        # ArviZ's own tails begin where its setting for plotted intervals puts them.
        found["ess_tail"] = np.asarray(ess(series, method="tail", prob=(0.05, 0.95)))
    if num_draws >= MIN_DRAWS and num_chains > 1:
        with np.errstate(divide="ignore", invalid="ignore"):  # a series that never varies
            found["rhat"] = np.asarray(rhat(series))
    of_outputs = {name: values[:-1].reshape(shape) for name, values in found.items()}
    return of_outputs | {f"{name}_lp": values[-1] for name, values in found.items()}


def _separation(series: np.ndarray) -> np.ndarray:
    """How far each chain's mean is from that of the others, (chain, series), in pooled sds."""
    num_chains, num_draws, num_series = series.shape
    if num_chains < 2 or num_draws < MIN_DRAWS:
        return np.full((num_chains, num_series), np.nan)
    shifted = series - series[0, 0]  # zero, without rounding, where nothing ever varies
    means, within = shifted.mean(axis=1), shifted.var(axis=1, ddof=1).mean(axis=0)
    apart = np.abs(means - (means.sum(axis=0) - means) / (num_chains - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(apart == 0, 0.0, apart / np.sqrt(within))


def _sampler_numbers(stats: xr.Dataset) -> dict[str, np.ndarray]:
    """Divergences and BFMI of every chain, where the method has them."""
    found = {}
    if "diverging" in stats:
        found["divergences"] = stats["diverging"].sum("draw").to_numpy()
    if "energy" in stats:
        energy = stats["energy"].transpose(*SAMPLE_DIMS).to_numpy().astype(np.float64)
        few = energy.shape[1] < MIN_DRAWS
        with np.errstate(divide="ignore", invalid="ignore"):
            found["bfmi"] = np.full(len(energy), np.nan) if few else bfmi(energy)
    return found
