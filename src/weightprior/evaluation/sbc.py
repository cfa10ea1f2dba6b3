"""Simulation-based calibration of fit functions, by ranks of a truth among their draws."""

import json
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from weightprior import _checks, _data
from weightprior._checks.options import names_its_options
from weightprior._running.progress import Count, counting, shows_progress
from weightprior.elicitation.prior_predictive import prior_predictive
from weightprior.evaluation._ahead import fits_ahead
from weightprior.evaluation._ranks import effective, judge_ranks, rank
from weightprior.fits.evaluate import evaluate
from weightprior.fits.layout import SAMPLE_DIMS, lay_out
from weightprior.fits.reading import Draws, Part, parts_of
from weightprior.fits.validate import validate
from weightprior.model import density
from weightprior.model.bnn import BNN
from weightprior.model.priors.base import Prior
from weightprior.model.trials import in_trials

__all__ = ["simulation_based_calibration"]

_NAME = "simulation_based_calibration"
# Default number of inputs with ranked outputs. More are much alike, and each one makes the
# threshold of every test stricter.
_NUM_INPUTS = 10
# Sufficient effective draws per ranked draw. With 0.5, autoregressive chains had rank 0 1.2 times
# as often as they should, with 0.25 1.5 times; several hundred simulations can detect that.
_EFFECTIVE_PER_DRAW = 0.5
# Quantities that are ranked in every model, and their dims.
_DIMS: dict[str, tuple[str, ...]] = {
    "outputs": ("obs_id", "output"),
    "lp": (),
    "log_likelihood": (),
}


@names_its_options
@shows_progress
def simulation_based_calibration(
    bnn: BNN,
    x: Any,
    *,
    prior: Prior,
    fit: Callable[..., xr.DataTree],
    num_simulations: int = 200,
    rng_key: Any = 0,
    num_draws: int = 99,
    at: Any = None,
    level: float = 0.01,
    progress_bar: bool = True,
    trials: Any = None,
) -> xr.Dataset:
    """Check a fit function by simulation: the true weights must look like one more draw.

    Each simulation draws weights from the prior and targets from their network, fits these, and
    counts how many draws of the fit lie below the truth. If the fit draws from the posterior, every
    rank from 0 to the number of draws is as likely as any other.

    The ranked quantities do not depend on the labels of hidden units: outputs, log densities, and
    the noise if it is learned. Outputs alone are not enough: a fit that returns the prior has
    uniform ranks of outputs, too. Log densities depend on the data, and detect such a fit.

    Parameters
    ----------
    bnn : BNN
        The model.
    x : array or data frame of shape (rows, features)
        Inputs of the simulated data.
    prior : NormalPrior or HierarchicalPrior
        A single prior. It cannot be flat: simulations draw from it.
    fit : callable
        A fit function that draws, such as `fit_mcmc`, or ``functools.partial`` of one with options.
        It is called as ``fit(bnn, x, y, prior=prior, rng_key=key)``.
    num_simulations : int
        Number of data sets that are drawn and fitted.
    rng_key : int or JAX key
        Decides data, fits and the order of ties.
    num_draws : int
        Number of draws of each fit that the truth is ranked among, spread evenly over its chains.
        They must be about independent: a fit should hold several times as many.
    at : array or data frame of shape (inputs, features), optional
        Inputs at which outputs are ranked; by default up to ten rows of `x`, evenly spread.
    level : float
        Probability that a fit which draws from the posterior is found uncalibrated.
    progress_bar : bool
        Show a progress bar if the output is a terminal.
    trials : array of shape (rows,), optional
        Trials of every row of `x`, for `Binomial` alone; one by default.

    Returns
    -------
    Dataset
        `calibrated`: true if all ranks look uniform at the given level. `p_value`: the smallest
        level at which they would not. For each of the quantities `outputs` (dims obs_id, the row of
        `x` or of `at`, and output), `lp` (log density of weights and targets), `log_likelihood` and
        `noise`, and the centres and log scales that a hierarchical prior learns:

        - ``rank.<quantity>``, from 0 to `num_draws`, by simulation;
        - ``ess.<quantity>``, effective draws of the whole fit, by simulation; NaN if chains have
          fewer than four draws;
        - ``p_value.<quantity>``, of this quantity alone;
        - ``ecdf_diff.<quantity>``, the share of ranks below each `probability`, minus that
          probability. First above and then below 0: the fit is too narrow; the reverse: too wide;
          above throughout: too high.

        All of `ecdf_diff` stays between `band_lower` and `band_upper` if `calibrated` is true.
        After an interrupt, the result is that of the complete simulations, and the attribute
        `interrupted` is 1.

    Raises
    ------
    ValueError, TypeError
        For inputs, a prior or options that cannot be used, and for fits of other data or of too few
        draws.
    Exception
        The error of `fit`, with a note that names the simulation and its keys.

    Warns
    -----
    UserWarning
        If draws are too correlated to be ranked, if fits warned (once for all of them), and after
        an interrupt.

    Notes
    -----
    The test of each quantity is exact, by its most extreme point within the simultaneous band of
    Säilynoja et al. The level is divided by the number of quantities (Bonferroni), since
    quantities may depend on each other within a simulation.

    References
    ----------
    S. R. Cook, A. Gelman and D. B. Rubin, Validation of software for Bayesian models using
    posterior quantiles, 2006. :doi:`10.1198/106186006X136976`

    S. Talts et al., Validating Bayesian inference algorithms with simulation-based calibration,
    2018. :doi:`10.48550/arXiv.1804.06788`

    T. Säilynoja, P.-C. Bürkner and A. Vehtari, Graphical test for discrete uniformity, 2022.
    :doi:`10.1007/s11222-022-10090-6`

    M. Modrák et al., Simulation-based calibration checking for Bayesian computation: the choice of
    test quantities shapes sensitivity, 2023. :doi:`10.1214/23-BA1404`

    Examples
    --------
    >>> from functools import partial
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=0.5))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> found = wp.simulation_based_calibration(
    ...     bnn,
    ...     x,
    ...     prior=wp.normal_prior(bnn, loc=2.0),
    ...     fit=partial(wp.fit_mcmc, progress_bar=False),
    ...     num_simulations=10,
    ... )
    >>> found["calibrated"].item()
    True
    """
    _checks.model(bnn)
    _checks.prior(bnn, prior, stacked=False, learned=True)
    inputs = _data.inputs(x, bnn.network.feature_names)
    rows, watched = _watched(bnn, inputs, at)
    num_simulations = _checks.integer("num_simulations", num_simulations, 1)
    num_draws = _checks.integer("num_draws", num_draws, 1)
    level = _checks.number("level", level, above=0, below=1)
    if not callable(fit):
        raise TypeError(f"fit: expected a fit function such as fit_mcmc; got {fit!r}.")
    in_trials(bnn, trials, len(inputs))
    plan = _Plan(bnn, x, prior, fit, num_draws, watched, trials)
    key = _checks.random_key(rng_key)

    began = time.perf_counter()
    with counting(num_simulations, " simulations") as count:
        ranks, ess, method = _simulate(plan, num_simulations, key, count)
    _warn_correlated(ess, num_draws)
    found = _lay_out(bnn, ranks, ess, num_draws, level, rows)
    found.attrs = {
        "function": "simulation_based_calibration",
        "fit": method,
        "num_simulations": found.sizes["simulation"],
        "interrupted": int(found.sizes["simulation"] < num_simulations),
        "num_draws": num_draws,
        "level": level,
        "seconds": time.perf_counter() - began,
        "model": json.dumps(bnn.describe()),
    }
    return found


def _watched(bnn: BNN, inputs: np.ndarray, at: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the rows at which outputs are ranked, and the rows."""
    if at is not None:
        watched = _data.inputs(at, bnn.network.feature_names)
        return np.arange(len(watched)), watched
    rows = np.unique(np.linspace(0, len(inputs) - 1, _NUM_INPUTS).round().astype(int))
    return rows, inputs[rows]


class _Plan(NamedTuple):
    """Arguments that all simulations have in common."""

    bnn: BNN
    x: Any
    prior: Prior
    fit: Callable[..., xr.DataTree]
    num_draws: int
    watched: np.ndarray
    trials: Any


def _simulate(plan: _Plan, num_simulations: int, key: jax.Array, count: Count):
    """Compute ranks and effective sample sizes (simulations first); return the method, too."""
    of_prior, of_fits, of_ties = jax.random.split(key, 3)
    options = {"prior": plan.prior, "num_samples": num_simulations, "trials": plan.trials}
    drawn = prior_predictive(plan.bnn, plan.x, rng_key=of_prior, **options)
    y = drawn["prior_predictive"]["y"].to_numpy()[0]
    y = in_trials(plan.bnn, plan.trials, y.shape[1]).likelihood.fitted(y)
    rng = np.random.default_rng(_words(of_ties))
    done, complaints, method = [], [], ""
    keys = [jax.random.fold_in(of_fits, i) for i in range(num_simulations)]
    calls = (
        ((plan.bnn, plan.x, y[i]), {"prior": plan.prior, "rng_key": key})
        for i, key in enumerate(keys)
    )
    fits = fits_ahead(plan.fit, calls)
    try:
        for i, fitted in enumerate(fits):
            truth = {n: drawn["prior"][n].to_numpy()[:, i : i + 1] for n in _sites(plan)}
            try:
                with warnings.catch_warnings(record=True) as caught:
                    tree = fitted()
                true, draws = _quantities(plan, truth, y[i], tree)
            except Exception as error:
                error.add_note(
                    f"This was simulation {i} of {_NAME}: its data are draw {i} of "
                    f"prior_predictive(bnn, x, prior=prior, num_samples={num_simulations}, "
                    + ("trials=trials, " if plan.trials is not None else "")
                    + f"rng_key=np.uint32({_words(of_prior)})), fitted with "
                    f"rng_key=np.uint32({_words(keys[i])})."
                )
                raise
            if tree.attrs.get("interrupted"):  # an incomplete fit does not count
                raise KeyboardInterrupt
            ranks = {n: rank(true[n], values, plan.num_draws, rng) for n, values in draws.items()}
            ess = {n: effective(values) for n, values in draws.items()}
            complaints += caught[:1]
            method = tree.attrs.get("method", "")
            done.append((ranks, ess))
            count.advance()
    except KeyboardInterrupt:
        if not done:
            raise
        _checks.warn(
            f"{_NAME}: interrupted; returning the {len(done)} of {num_simulations} simulations "
            "that are complete."
        )
    finally:
        fits.close()
    if complaints:
        _checks.warn(
            f"{_NAME}: {len(complaints)} of {len(done)} fits warned, the first: "
            f"{complaints[0].message}"
        )
    ranks, ess = jax.tree.map(lambda *values: np.stack(values), *done)
    return ranks, ess, method


def _sites(plan: _Plan) -> list[str]:
    """Return the names of the weights, and of the latent variables above them."""
    return [*plan.prior.sites, *plan.bnn.sites]


def _words(key: jax.Array) -> list[int]:
    """Return a key as a list of integers, for a message."""
    return jax.random.key_data(key).tolist()


def _quantities(plan: _Plan, truth: Mapping[str, np.ndarray], y: np.ndarray, tree: Any):
    """Compute the quantities to rank: of the truth, and of its fit (chains and draws first)."""
    inputs, targets = _data.checked(plan.bnn, plan.x, y)
    part, weights = _checked_draws(plan, targets, tree)
    true, draws = (
        evaluate(_of_draw, model, given, inputs, targets, plan.prior, plan.watched)
        for model, given in ((plan.bnn, truth), (part.model, weights))
    )
    for name in draws:
        if not (np.isfinite(true[name]).all() and np.isfinite(draws[name]).all()):
            raise FloatingPointError(
                f"{_NAME}: {name} is not finite. Standardise x, or give the prior smaller scales."
            )
    return {name: values[0, 0] for name, values in true.items()}, draws


def _checked_draws(plan: _Plan, y: np.ndarray, tree: Any) -> tuple[Part, Draws]:
    """Read a fit and its draws; raise if it is of other data or has too few draws."""
    part, *others = parts_of(plan.bnn, tree)
    validate(tree)
    if part.label is not None or others:
        raise ValueError("fit: expected fits of the single prior; got a fit of a stacked prior.")
    for group, name, given in (("constant_data", "x", plan.x), ("observed_data", "y", y)):
        held = tree[group][name].to_numpy()
        # Equal up to single precision.
        if held.shape != np.shape(given) or not np.allclose(held, given):
            raise ValueError(f"fit: expected fits of the {name} passed in; got one of other data.")
    posterior = tree["posterior"].dataset
    above = {
        name: posterior[name].transpose(*SAMPLE_DIMS, ...).to_numpy().astype(np.float64)
        for name in plan.prior.sites
    }
    total = part.weights.num_chains * part.weights.num_draws
    if total < plan.num_draws:
        point = " One point, such as a MAP, has no ranks." if total == 1 else ""
        raise ValueError(
            f"fit: expected fits with at least num_draws={plan.num_draws} draws; got one with "
            f"{total}.{point} Let the fit draw more, or lower num_draws."
        )
    return part, Draws(part.weights | above)


def _of_draw(bnn: BNN, weights: Any, x: Any, y: Any, prior: Prior, watched: Any):
    return {
        "outputs": density.outputs(bnn, weights, watched),
        "lp": density.log_joint(bnn, weights, x, y, prior),
        "log_likelihood": density.log_likelihood(bnn, weights, x, y),
        **density.derived(bnn, weights),
        **{name: weights[name] for name, site in prior.sites.items() if not site.shape},
    }


def _warn_correlated(ess: Mapping[str, np.ndarray], num_draws: int) -> None:
    """Warn if correlated draws distort the ranks, even those of a correct fit.

    Correlation adds to a rank's variance in proportion to 1 / ESS; hence the harmonic mean.
    """
    typical = {name: np.min(1 / np.mean(1 / values, axis=0)) for name, values in ess.items()}
    worst = min(typical, key=lambda name: typical[name])
    if typical[worst] < _EFFECTIVE_PER_DRAW * num_draws:
        _checks.warn(
            f"{_NAME}: the fits hold {int(typical[worst])} effective draws of {worst} (harmonic "
            f"mean), and num_draws={num_draws} are ranked. Ranks among correlated draws pile up "
            "at both ends even if the posterior is right. Let the fit draw more, or lower "
            "num_draws."
        )


def _lay_out(
    bnn: BNN,
    ranks: Mapping[str, np.ndarray],
    ess: Mapping[str, np.ndarray],
    num_draws: int,
    level: float,
    rows: np.ndarray,
) -> xr.Dataset:
    judged = judge_ranks(ranks, num_draws, level)
    band = {"band_lower": judged.lower, "band_upper": judged.upper}
    verdict = {"p_value": judged.p_value, "calibrated": judged.uniform}
    pieces = {
        ("simulation",): _named("rank", ranks) | _named("ess", ess),
        ("probability",): _named("ecdf_diff", judged.ecdf_diff) | band,
        (): _named("p_value", judged.p_values) | verdict,
    }
    known = _DIMS | {one.derived: one.dims for one in bnn.latents.values() if one.derived}
    dims = {}
    for kind in ("rank", "ess", "ecdf_diff", "p_value"):
        dims |= _named(kind, known)
    coords = {"obs_id": rows, "probability": np.arange(1, num_draws + 1) / (num_draws + 1)}
    return xr.merge([lay_out([piece], lead, dims, coords) for lead, piece in pieces.items()])


def _named(kind: str, by_quantity: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{kind}.{name}": values for name, values in by_quantity.items()}
