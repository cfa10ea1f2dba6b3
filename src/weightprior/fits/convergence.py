"""Convergence of chains, judged by the network's outputs and the log density."""

import json
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr
from arviz_stats.sampling_diagnostics import bfmi, ess, rhat

from weightprior import _data
from weightprior.fits.evaluate import evaluate
from weightprior.fits.evaluate import prepare as prepare_evaluation
from weightprior.fits.layout import SAMPLE_DIMS
from weightprior.fits.problem import Problem
from weightprior.fits.reading import Draws, Part, parts_of, targets_of
from weightprior.fits.scales import scale_doubt
from weightprior.fits.verdict import MIN_DRAWS, Measured, message, problems_of
from weightprior.model import density
from weightprior.model.bnn import BNN

__all__ = [
    "Judgement",
    "assess",
    "convergence_warning",
    "prepare",
    "separation",
    "watched_inputs",
]

_NUM_INPUTS = 20
# Number of outputs that `convergence_warning` watches, in all parts of a prior together. Each costs
# three milliseconds.
_NUM_SERIES = 400

# Why convergence of draws that are no chains cannot be judged, by their kind.
_WITHOUT_CHAINS = {
    "point": "a MAP is one point, without chains",
    "members": "members of an ensemble are separate optima, not chains",
    "independent": "draws from an approximation are independent, not chains",
}


class Judgement(NamedTuple):
    """Judgement of the chains of one prior.

    Attributes
    ----------
    label : object
        Label of the prior; None if it is the only one.
    numbers : dict of str to array
        Result of `diagnostics.convergence`, without its verdict.
    findings : tuple of str
        Problems in a few words each, the gravest first; empty if there are none.
    verdict : str
        The same as a sentence, with what to do.
    converged : bool
        True if there is no problem; False if that cannot be judged.
    doubtful : bool
        True if a problem makes every number of the fit unreliable.
    """

    label: Any
    numbers: dict[str, np.ndarray]
    findings: tuple[str, ...]
    verdict: str
    converged: bool
    doubtful: bool


def convergence_warning(bnn: BNN, fit: xr.DataTree) -> str | None:
    """Return the verdict by prior if chains have not converged; None otherwise.

    Outputs are watched at up to 20 of the fitted rows.
    """
    parts = parts_of(bnn, fit)
    x = watched_inputs(fit, _affordable(bnn, len(parts)))
    judged = [assess(part, x) for part in parts]
    bad = [part for part in judged if not part.converged]
    if not bad:
        return None
    if len(parts) == 1 and parts[0].label is None:
        return bad[0].verdict
    told = " ".join(f"{part.label!r}: {part.verdict}" for part in bad[:3])
    rest = " For the others see diagnostics.convergence." if len(bad) > 3 else ""
    return f"{len(bad)} of {len(judged)} priors in doubt. {told}{rest}"


def prepare(problem: Problem, num_draws: int) -> None:
    """Begin to compile what `convergence_warning` needs for this many draws of each part."""
    bnn = problem.bnn
    x = _spread(problem.x, _affordable(bnn, len(problem.tasks)))
    draw = {n: jax.ShapeDtypeStruct(site.shape, np.float64) for n, site in bnn.sites.items()}
    prepare_evaluation(_outputs_of_draw, bnn, draw, x, count=num_draws)


def _affordable(bnn: BNN, num_parts: int) -> int:
    affordable = _NUM_SERIES // (num_parts * bnn.network.num_outputs)
    return int(np.clip(affordable, 5, _NUM_INPUTS))


def watched_inputs(fit: xr.DataTree, count: int) -> np.ndarray:
    """Return up to `count` of the fitted rows, evenly spread."""
    return _spread(fit["constant_data"]["x"].to_numpy(), count)


def _spread(x: np.ndarray, count: int) -> np.ndarray:
    return x[np.unique(np.linspace(0, len(x) - 1, count).round().astype(int))]


def assess(part: Part, x: np.ndarray) -> Judgement:
    """Judge the chains of one prior by the outputs at `x` and by the log density."""
    outputs = evaluate(_outputs_of_draw, part.model, part.weights, x)
    lp = part.stats["lp"].transpose(*SAMPLE_DIMS).to_numpy()
    series = np.concatenate([outputs.reshape(*lp.shape, -1), lp[..., None]], axis=2)
    apart = separation(series)
    measured = Measured(
        series=series,
        apart=apart,
        moved=_moved(part.weights),
        numbers={
            **_agreement(series, outputs.shape[2:]),
            "separation": apart.max(axis=1),
            **_sampler_numbers(part.stats),
        },
        chains=part.fit["posterior"]["chain"].to_numpy().tolist(),
        target_accept_prob=json.loads(part.fit.attrs["options"]).get("target_accept_prob", 0.0),
    )
    reason = _WITHOUT_CHAINS.get(part.fit.attrs["draws"])
    if reason is not None:
        return Judgement(
            part.label, measured.numbers, (reason,), f"Not judged: {reason}.", False, False
        )
    problems = problems_of(measured)
    return Judgement(
        part.label,
        measured.numbers,
        tuple(problem.finding for problem in problems),
        message(measured, problems, _doubt(part) if problems else ""),
        not problems,
        any(problem.doubtful for problem in problems),
    )


def _doubt(part: Part) -> str:
    """Say if the data of a fit are far from the scale of its prior."""
    x, y = part.fit["constant_data"]["x"], targets_of(part.fit)
    names = x[str(x.dims[-1])].to_numpy().tolist()
    counted = part.row_weights > 0
    inputs, targets = (_data.select_rows(rows, counted) for rows in (x.to_numpy(), y))
    return scale_doubt(part.model, inputs, targets, part.prior, names)


def _outputs_of_draw(bnn: BNN, weights: Any, x: Any) -> Any:
    return density.outputs(bnn, weights, x)


def _moved(weights: Draws) -> np.ndarray:
    """Tell for each chain if it ever left its first draw.

    Weights are compared, not outputs: the outputs of equal weights may differ by rounding.
    """
    return np.array(
        [any((w[c] != w[c, :1]).any() for w in weights.values()) for c in range(weights.num_chains)]
    )


def _agreement(series: np.ndarray, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Compute R-hat and effective sample sizes of the outputs, of `shape`, and of the density."""
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


def separation(series: np.ndarray) -> np.ndarray:
    """Compute how far each chain's mean is from the others', (chain, series), in pooled sds.

    NaN if there are too few chains or draws to tell.
    """
    num_chains, num_draws, num_series = series.shape
    if num_chains < 2 or num_draws < MIN_DRAWS:
        return np.full((num_chains, num_series), np.nan)
    shifted = series - series[0, 0]  # exactly zero if nothing ever varies
    means, within = shifted.mean(axis=1), shifted.var(axis=1, ddof=1).mean(axis=0)
    apart = np.abs(means - (means.sum(axis=0) - means) / (num_chains - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(apart == 0, 0.0, apart / np.sqrt(within))


def _sampler_numbers(stats: xr.Dataset) -> dict[str, np.ndarray]:
    """Return divergences and BFMI of every chain, if the method has them."""
    found = {}
    if "diverging" in stats:
        found["divergences"] = stats["diverging"].sum("draw").to_numpy()
    if "energy" in stats:
        energy = stats["energy"].transpose(*SAMPLE_DIMS).to_numpy().astype(np.float64)
        few = energy.shape[1] < MIN_DRAWS
        with np.errstate(divide="ignore", invalid="ignore"):
            found["bfmi"] = np.full(len(energy), np.nan) if few else bfmi(energy)
    return found
