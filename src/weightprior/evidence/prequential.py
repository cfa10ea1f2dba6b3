"""Prequential code: each block of rows is coded by a fit to the blocks before it."""

import json
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import xarray as xr

from weightprior import _checks, _data
from weightprior._checks.options import names_its_options
from weightprior._data import select_rows
from weightprior._running.progress import shows_progress
from weightprior.evaluation._collapse import collapse_of, noise_of_draws
from weightprior.evaluation._metrics import log_mean
from weightprior.evaluation.refits import Refit, grouped, refit, row_weights_of
from weightprior.evidence._block import Block, mcse, weigh
from weightprior.fits.evaluate import evaluate, numbered
from weightprior.fits.grid import grid_of, open_ends
from weightprior.fits.layout import lay_out, prior_coords, row_coords
from weightprior.inference.mcmc import fit_mcmc
from weightprior.model import density
from weightprior.model.bnn import BNN
from weightprior.model.priors.normal import NormalPrior

__all__ = ["prequential_code"]

# Number of networks drawn from the prior for the first block.
_NUM_DRAWS = 10_000


@names_its_options
@shows_progress
def prequential_code(
    bnn: BNN,
    x: Any,
    y: Any,
    *,
    prior: NormalPrior,
    fit: Callable[..., xr.DataTree] = fit_mcmc,
    num_blocks: int = 10,
    rng_key: Any = 0,
    blocks: Any = None,
    row_weights: Any = None,
) -> xr.Dataset:
    """Code the targets block after block, each by the prediction of a fit to earlier blocks.

    The rows are taken in the order given. The first block is predicted by the prior. With the
    exact posterior, the total is minus the log evidence, for any order and blocks. So this is a
    second estimate of the evidence, without a ladder of temperatures. It is a valid code also for a
    fit that is no posterior, such as a MAP.

    Parameters
    ----------
    bnn : BNN
        The model.
    x : array or data frame of shape (rows, features)
        Inputs.
    y : array of shape (rows,) or (rows, outputs)
        Targets.
    prior : NormalPrior
        The prior, flat nowhere. Every part of a stacked prior has a code.
    fit : callable
        `fit_mcmc`, `fit_laplace`, `fit_map`, or ``functools.partial`` of one with options. All
        blocks of all priors are fitted in one call of it.
    num_blocks : int
        Number of blocks, from 2 to the number of rows. The first has one row, and each block
        multiplies the number of rows by about the same factor. A posterior changes with that
        factor, so no block is much harder to predict than another.
    rng_key : int or JAX key
        Decides the 10,000 networks drawn from the prior to predict the first block. The keys of the
        fits are those of `fit`.
    blocks : array of shape (rows,), optional
        The block of every row, such as its year; blocks are coded in ascending order. Replaces
        `num_blocks`.
    row_weights : array of shape (rows,), optional
        Number of times each row counts. A row of weight 2 is two copies of the row, in one block. A
        row of weight 0 is left out. By default, the weights of `fit`, if it is a partial with row
        weights.

    Returns
    -------
    Dataset
        With the dim `prior` for a stacked prior.

        - `bits`, `bits_error`, and `bits_per_observation`;
        - `bits_by_block` and `bits_by_block_error` (dim `block`): each block is coded as a whole,
          by the mean over draws of the product of its rows' densities. Errors are one Monte-Carlo
          standard error: 0 for a single draw, such as a MAP, which is coded without sampling; NaN
          if a draw outweighs all others together, or if the mean of the densities need not
          exist (a Pareto k above 1);
        - `pareto_k` of those products, by block; NaN if there are too few draws;
        - `reliable`, and the `reason` if it is not: a Pareto k above 0.7, fewer than 100 draws,
          chains that disagree about a block, a search for the MAP that did not converge, or a
          learned noise that collapsed, many times smaller than the residuals of the next block.
          More blocks, or more draws, help with a high Pareto k.

        The coordinate `num_rows` counts the rows up to and including each block; `block_of_row` is
        the block of each row. For a stacked prior, ``attrs["note"]`` tells if the shortest code is
        at the end of a grid of three priors or more, and shorter than its neighbour's by more than
        one standard error.

    Raises
    ------
    ValueError, TypeError
        For data, a prior, blocks or a fit function that cannot be used.
    KeyboardInterrupt
        If the fits were interrupted: a part of their draws would give no valid code.

    Notes
    -----
    The first block is predicted by draws of the prior for every `fit`, even for a MAP. The mode of
    the prior would give a code, too, but the code of one network without any data.

    The errors of the blocks are not independent if a fit function gives all priors of a stack the
    same random numbers, as the fit functions of this package do. The error of their sum is
    therefore computed from the sum, draw by draw, of the blocks' relative densities.

    References
    ----------
    A. P. Dawid, Statistical theory: the prequential approach, Journal of the Royal Statistical
    Society A 147, 1984. :doi:`10.2307/2981683`

    L. Blier and Y. Ollivier, The description length of deep learning models, NeurIPS 2018.
    :doi:`10.48550/arXiv.1802.07044`

    A. Vehtari, D. Simpson, A. Gelman, Y. Yao and J. Gabry, Pareto smoothed importance sampling,
    JMLR 25, 2024. :doi:`10.48550/arXiv.1507.02646`

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> prior = wp.normal_prior(bnn)
    >>> code = wp.prequential_code(bnn, x, 2 * x[:, 0], prior=prior, fit=wp.fit_laplace)
    >>> exact = wp.code_length(wp.fit_laplace(bnn, x, 2 * x[:, 0], prior=prior))
    >>> bool(abs(code["bits"] - exact["bits"]) < 4 * code["bits_error"])
    True
    """
    _checks.model(bnn)
    inputs, targets = _data.checked(bnn, x, y)
    _checks.prior(bnn, prior, proper="nothing predicts the first block")
    key = _checks.random_key(rng_key)
    weights = row_weights_of(fit, row_weights, x)
    counted, everything = weights > 0, x
    x, y, inputs, targets, blocks, weights = (
        select_rows(values, counted)
        for values in (x, np.asarray(y), inputs, targets, blocks, weights)
    )
    labels, block_of_row = _blocks(x, num_blocks, blocks)

    began = time.perf_counter()
    first, *later = [(block_of_row == label) * weights for label in labels]
    before = np.searchsorted(labels, block_of_row)
    counts = {f"before block {f}": (before < i) * weights for i, f in enumerate(labels) if i}
    of_prior = _predict_first(bnn, inputs, targets, prior, key, first)
    method, fits = refit(bnn, x, y, prior=prior, fit=fit, counts=counts)
    pieces = []
    for drawn, of_part in zip(of_prior, fits, strict=True):
        blocks_after = [_of_fit(bnn, *pair) for pair in zip(of_part, later, strict=True)]
        pieces.append(_code(labels, [weigh(drawn), *blocks_after]))
    by_block = ("bits_by_block", "bits_by_block_error", "pareto_k")
    dims: dict[str, tuple[str, ...]] = dict.fromkeys(by_block, ("block",))
    coords: dict[Any, Any] = {"block": labels}
    coords |= prior_coords(prior)
    found = lay_out(pieces, (), dims, coords)
    found["bits_per_observation"] = found["bits"] / weights.sum()
    of_rows = {**row_coords(everything, counted), "block_of_row": block_of_row}
    found = found.assign_coords(
        {name: ("obs_id", values) for name, values in of_rows.items()}
        | {"num_rows": ("block", np.cumsum(np.bincount(before)))}
    )
    found.attrs = {
        "function": "prequential_code",
        "fit": method,
        "seconds": time.perf_counter() - began,
        "model": json.dumps(bnn.describe()),
    }
    if prior.labels is not None:
        found.attrs["note"] = _note(prior, found)
    return found


def _note(prior: NormalPrior, found: xr.Dataset) -> str:
    """Return a note if the shortest code is at the end of a grid of priors, else no text."""
    bits, errors = found["bits"].to_numpy(), found["bits_error"].to_numpy()

    def gain(one: int, other: int) -> tuple[float, float]:
        return float(bits[other] - bits[one]), float(np.hypot(errors[one], errors[other]))

    grid = grid_of(prior.labels or (), dict(prior.coords), prior.singles())
    ends = open_ends(grid, int(bits.argmin()), gain)
    return f"shortest at {ends}" if ends else ""


def _blocks(x: Any, num_blocks: int, blocks: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the names of the blocks, in order, and the block of every row."""
    if blocks is not None:
        return grouped("blocks", blocks, x)
    num_obs = _data.num_rows(x)
    num_blocks = _checks.integer("num_blocks", num_blocks, 2)
    if num_blocks > num_obs:
        raise ValueError(
            f"num_blocks: expected at most a block per row, {num_obs}; got {num_blocks}."
        )
    labels = np.arange(num_blocks)
    # Every block ends at least one row after the block before, and one before the next.
    ends = np.rint(np.geomspace(1, num_obs, num_blocks)).astype(int)
    ends = np.maximum.accumulate(ends - labels) + labels
    ends = np.minimum(ends, num_obs - labels[::-1])
    return labels, np.repeat(labels, np.diff(ends, prepend=0))


def _predict_first(
    bnn: BNN, x: Any, y: Any, prior: NormalPrior, key: Any, counts: np.ndarray
) -> list[np.ndarray]:
    """Compute log densities of the first block, (one chain, draw), for each part of the prior."""
    first = counts > 0
    data = x[first], y[first], counts[first]
    numbers = numbered(1, _NUM_DRAWS)
    found = [
        evaluate(_log_density_of_draw, bnn, numbers, data, part, key) for part in prior.singles()
    ]
    # If outputs overflow, the targets have no density.
    return [np.where(np.isnan(densities), -np.inf, densities) for densities in found]


def _log_density_of_draw(bnn: BNN, number, data, prior: NormalPrior, key) -> jax.Array:
    drawn = density.draw(bnn, jax.random.fold_in(key, number), prior, np.float64)
    return density.log_likelihood(bnn, drawn, *data)


def _of_fit(bnn: BNN, fit: Refit, counts: np.ndarray) -> Block:
    block = counts > 0
    found = weigh((fit.log_likelihood[..., block] * counts[block]).sum(axis=-1))
    if not fit.stats.get("converged", True):
        return found._replace(trouble="the search for the MAP did not converge")
    noise, density_i = noise_of_draws(bnn, fit.weights), log_mean(fit.log_likelihood[..., block])
    collapse = collapse_of(bnn, [noise], [density_i])
    if collapse and collapse.any:
        return found._replace(trouble="".join(collapse.told(bnn)).rstrip("."))
    return found


def _code(labels: np.ndarray, blocks: list[Block]) -> dict[str, Any]:
    """Return the code of all blocks under one prior."""
    first, *later = blocks
    # Errors of blocks with the same random numbers may add up, or cancel.
    together = np.sum([block.relative for block in later], axis=0)
    error = np.hypot(first.error, 0.0 if together.size == 1 else mcse(together))
    errors = np.array([block.error for block in blocks])
    nats = np.array([block.nats for block in blocks])
    troubles: dict[str, list[str]] = {}
    for label, block in zip(labels, blocks, strict=True):
        if block.trouble:
            troubles.setdefault(block.trouble, []).append(str(label))
    return {
        "bits": nats.sum() / np.log(2),
        "bits_error": (np.nan if np.isnan(errors).any() else error) / np.log(2),
        "bits_by_block": nats / np.log(2),
        "bits_by_block_error": errors / np.log(2),
        "pareto_k": np.array([block.pareto_k for block in blocks]),
        "reliable": not troubles,
        "reason": "; ".join(
            f"block{'s' * (len(named) > 1)} {', '.join(named)}: {trouble}"
            for trouble, named in troubles.items()
        ),
    }
