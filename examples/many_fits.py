"""Many small fits: priors at several numbers of rows in one call, short chains, and their scores.

The scripts beside this one repeat a comparison over many teachers or splits. What they print are
means over these with standard errors over these. With ``--dask ADDRESS`` they send their fits to a
cluster.
"""

import argparse
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from jax.scipy.special import logsumexp

import weightprior as wp

# Outputs that the agreement of chains is judged by, spread over the held-out rows.
NUM_WATCHED = 5


_cluster: dict[str, Any] = {}


def arguments_of(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """What a script was called with; fits go to the cluster that it names from now on."""
    parser.add_argument("--dask", metavar="ADDRESS", help="of a scheduler that fits are sent to")
    arguments = parser.parse_args()
    if arguments.dask:
        from distributed import Client  # pip install distributed

        _cluster["client"] = Client(arguments.dask)
    return arguments


def spread(fit: Callable[..., xr.DataTree]) -> Callable[..., xr.DataTree]:
    """A fit function whose priors are fitted by the cluster, where there is one."""
    return wp.distribute(fit, _cluster["client"].get_executor()) if _cluster else fit


class Grid(NamedTuple):
    """Every prior at every number of rows: what a fit function takes, and the name of each part."""

    prior: wp.NormalPrior
    row_weights: np.ndarray
    cells: list[tuple[str, int]]


def over_rows(priors: wp.NormalPrior, counts: Sequence[int]) -> Grid:
    """Let each prior of a stack see the first rows only, as many as each count says.

    The other rows have weight 0, so that all fits have one shape, and compile once.
    """
    cells = [(str(label), count) for label in priors.labels or () for count in counts]
    stack = wp.stack_priors({f"{label}, {count}": priors[label] for label, count in cells})
    kept = [np.arange(max(counts)) < count for _, count in cells]
    return Grid(stack, np.array(kept, float), cells)


def short_chains(bnn: wp.BNN, x, y, **options) -> xr.DataTree:
    """Sample posteriors by chains as short as a mean over many of them allows.

    The warnings that short chains deserve are left out: `largest_rhat` is for the table.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fit_mcmc: ")
        return spread(wp.fit_mcmc)(bnn, x, y, log_likelihood=False, progress_bar=False, **options)


def optima(bnn: wp.BNN, x, y, **options) -> xr.DataTree:
    """Find MAPs from few starts.

    Those of relu units often lie on kinks, where no gradient vanishes. Of this it is not warned
    here: `sample_stats` has `converged`, for the table.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fit_map: ")
        return spread(wp.fit_map)(bnn, x, y, num_restarts=4, **options)


def largest_rhat(bnn: wp.BNN, fit: xr.DataTree, x) -> np.ndarray:
    """How well the chains of each prior agree about the outputs: R-hat, 1 where they do."""
    watched = np.unique(np.linspace(0, len(x) - 1, NUM_WATCHED).round().astype(int))
    found = wp.diagnostics.convergence(bnn, fit, np.asarray(x)[watched])
    return found["rhat"].max(("obs_id", "output")).to_numpy()


def held_out(bnn: wp.BNN, fit: xr.DataTree, x, y) -> np.ndarray:
    """Log predictive density per held-out row, in nats, of each prior: `score` has it, and more."""
    posterior = fit["posterior"].dataset
    posterior = posterior if "prior" in posterior.dims else posterior.expand_dims("prior")
    posterior = posterior.transpose("prior", "chain", "draw", ...)
    draws = {name: posterior[name].to_numpy() for name in bnn.sites}
    draws = {name: d.reshape(len(d), -1, *d.shape[3:]) for name, d in draws.items()}
    rows = jnp.asarray(np.asarray(x), float), jnp.asarray(np.asarray(y), float)
    return np.asarray(_log_predictive(bnn, draws, *rows), float)


@jax.jit
def _log_predictive(bnn, draws, x, y):
    def of_prior(weights):
        terms = jax.vmap(of_draw)(weights)
        return (logsumexp(terms, axis=0) - jnp.log(len(terms))).mean()

    def of_draw(weights):
        of_row = jax.vmap(lambda x, y: bnn.log_likelihood(weights, x[None], y[None]))
        return of_row(x, y)

    return jax.lax.map(of_prior, draws)


def mean_and_error(values: pd.DataFrame | pd.Series):
    """Mean over the last level of the index (teachers, splits), and its standard error."""
    groups = values.groupby(level=list(range(values.index.nlevels - 1)), sort=False)
    return groups.mean(), groups.sem()


def cell(mean: float, error: float, *, sign: bool = True) -> str:
    """A number and its standard error as text, which no table is to break."""
    text = f"{mean:+.3f} ± {error:.3f}" if sign else f"{mean:.3f} ± {error:.3f}"
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def verdict(gain: float, error: float) -> str:
    """What a difference says, at two standard errors."""
    return "better" if gain > 2 * error else "worse" if gain < -2 * error else "no different"
