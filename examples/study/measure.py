"""Numbers that the study judges: a network, fitted under priors of several widths and centres.

Forty rows teach a reference, some are fitted, and the rest is to test on. A teacher's reference is
its own weights. Priors are around zero in several widths, and in one of them around other centres.
Every mechanism is measured at the rows that were fitted.
"""

import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from experiments import case, held_out, largest_rhat, optima, perceptron, short_chains, spread

import weightprior as wp
from study.residual import residual

__all__ = ["CENTERS", "CHAINS", "GAIN", "GAINS", "LADDER", "Size", "of_split"]

# Widths, as gains: the scale of a weight is its gain over the root of the number of inputs.
GAINS = (0.1, 0.3, 1.0, 3.0, 10.0)
# At this one, which is the teachers' own, centres are compared.
GAIN = 1.0
CENTERS = ("reference", "random", "permuted", "mirrored")
CHAINS = {"num_chains": 2, "num_warmup": 200, "num_samples": 250}
LADDER = {"num_temperatures": 16, "num_samples": 50, "num_chains": 8}
NUM_RELIED = 25  # draws of a chain for which units are removed


class Size(NamedTuple):
    """Hidden units, and rows that are fitted."""

    hidden: int = 8
    rows: int = 40


def priors_of(bnn: wp.BNN, reference, seed: int) -> dict[tuple[str, float], wp.NormalPrior]:
    """Make the priors, by centre and gain."""
    zero = {("zero", g): wp.normal_prior(bnn, scale=wp.fan_in_scale(bnn, g)) for g in GAINS}
    scale = wp.fan_in_scale(bnn, GAIN)
    matched = wp.matched_centers(bnn, reference, scale=scale, rng_key=seed)
    return zero | {(center, GAIN): matched[center] for center in CENTERS}


def of_split(
    name: str, units: str, seed: int, size: Size, chains=CHAINS, ladder=LADDER
) -> pd.DataFrame:
    """Measure one data set, kind of units and split; by fit, centre and gain."""
    is_residual = units == "residual"
    network = residual(size.hidden) if is_residual else perceptron(units, (size.hidden,))
    bnn, reference, fitted, test = case(name, network, GAIN, seed, size.rows)
    priors = priors_of(bnn, reference, seed)
    stack = wp.stack_priors({f"{center}, {gain:g}": p for (center, gain), p in priors.items()})
    fits = {
        "MAP": optima(bnn, fitted.x, fitted.y, prior=stack, rng_key=seed),
        "posterior": short_chains(bnn, fitted.x, fitted.y, prior=stack, rng_key=seed, **chains),
    }
    tables = {method: of_fit(bnn, fit, fitted, test) for method, fit in fits.items()}
    if ladder is not None:
        tables["posterior"] |= evidence(bnn, fitted, stack, seed, ladder)
    # Rows that do not count leave the prior: what networks are like before the data.
    nothing = np.zeros(len(fitted.y))
    unseen = short_chains(
        bnn, fitted.x, fitted.y, prior=stack, rng_key=seed, row_weights=nothing, **chains
    )
    tables["prior"] = mechanisms(bnn, unseen, fitted.x)
    frames = {
        fit: pd.DataFrame(table, index=pd.MultiIndex.from_tuples(priors))
        for fit, table in tables.items()
    }
    frames["linear MAP"] = of_linear(bnn, fitted, test, seed)
    return pd.concat(frames, names=["fit", "center", "gain"])


def of_fit(bnn: wp.BNN, fit: xr.DataTree, fitted, test) -> dict[str, np.ndarray]:
    """Measure scores, capacity and mechanisms under every prior: means over draws."""
    train, tested = (held_out(bnn, fit, rows.x, rows.y) for rows in (fitted, test))
    counted = wp.diagnostics.effective_parameters(bnn, fit, fitted.x, fitted.y)
    several = fit["posterior"].sizes["draw"] > 1
    relied = wp.diagnostics.unit_ablation(
        bnn, fit, fitted.x, fitted.y, num_draws=NUM_RELIED if several else None
    )
    found = {
        "train": train,
        "test": tested,
        "gap": train - tested,
        "parameters": counted["gamma"].to_numpy(),
        "effective units": mean(relied["effective_units_by_layer"]),
        "largest ablation loss": mean(relied["largest_ablation_loss_by_layer"]),
        "rank correlation": mean(relied["rank_correlation_by_layer"].sel(measure="both")),
        **mechanisms(bnn, fit, fitted.x),
    }
    if several:
        return found | {"rhat": largest_rhat(bnn, fit, test.x)}
    return found | {"converged": mean(fit["sample_stats"]["converged"].astype(float))}


def mechanisms(bnn: wp.BNN, fit: xr.DataTree, x) -> dict[str, np.ndarray]:
    """Measure the behaviour of units and function at the inputs."""
    flat = wp.diagnostics.saturation(bnn, fit, x)
    bent = wp.diagnostics.nonlinearity(bnn, fit, x)
    return {
        "saturated": mean(flat["saturated_by_layer"]),
        "near linear": mean(flat["linear_regime_by_layer"]),
        "kink inside": mean(bent["kink_inside_by_layer"]),
        "nonlinear": mean(bent["nonlinear"]),
        "Lipschitz": mean(bent["lipschitz"]),
    }


def evidence(bnn: wp.BNN, fitted, stack: wp.NormalPrior, seed: int, ladder) -> dict:
    """Compute the evidence of every prior, in bits, and if it can be relied on."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fit_tempered: ")  # `reliable` is for the table
        fit = spread(wp.fit_tempered)(
            bnn, fitted.x, fitted.y, prior=stack, rng_key=seed, log_likelihood=False,
            progress_bar=False, **ladder,
        )  # fmt: skip
    code = wp.code_length(fit)
    return {"bits": code["bits"].to_numpy(), "reliable": code["reliable"].to_numpy().astype(float)}


def of_linear(bnn: wp.BNN, fitted, test, seed: int) -> pd.DataFrame:
    """Score a linear model under the same priors around zero."""
    network = bnn.network
    linear = wp.BNN(
        wp.mlp(network.feature_names, hidden=(), num_outputs=network.num_outputs), bnn.likelihood
    )
    stack = wp.stack_priors(
        {f"{g:g}": wp.normal_prior(linear, scale=wp.fan_in_scale(linear, g)) for g in GAINS}
    )
    fit = optima(linear, fitted.x, fitted.y, prior=stack, rng_key=seed)
    index = pd.MultiIndex.from_product([["zero"], GAINS])
    return pd.DataFrame({"test": held_out(linear, fit, test.x, test.y)}, index=index)


def mean(values: xr.DataArray) -> np.ndarray:
    """Average over all but the priors."""
    others = [dim for dim in values.dims if dim != "prior"]
    return values.mean(others).to_numpy()
