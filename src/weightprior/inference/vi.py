"""Variational inference: the nearest normal distribution of a given shape, by NumPyro's guides."""

import time
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import xarray as xr
from numpyro.infer import SVI, Trace_ELBO, init_to_value
from numpyro.infer.autoguide import (
    AutoDiagonalNormal,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
)
from numpyro.optim import optax_to_numpyro

from weightprior import _checks
from weightprior._checks.options import names_its_options
from weightprior._running.progress import counting, shows_progress
from weightprior.fits.constant import warn_constant
from weightprior.fits.importance import MAX_PARETO_K, pareto_smoothed
from weightprior.fits.outcome import Evidence, Outcome
from weightprior.fits.problem import Problem, under
from weightprior.fits.results import build
from weightprior.inference import _batch
from weightprior.inference._coordinates.standardised import Standardised
from weightprior.inference._docs import shares_docs
from weightprior.inference._optima import near
from weightprior.model import density
from weightprior.model.bnn import BNN
from weightprior.model.priors.base import Prior

__all__ = ["fit_vi"]

_GUIDES = {
    "normal": AutoDiagonalNormal,
    "low_rank": AutoLowRankMultivariateNormal,
    "full": AutoMultivariateNormal,
}
# Adam's first step, in prior sds; it falls to 0 along half a cosine.
_FIRST_STEP = 0.02
# Branches of a key: for the steps, and for the draws.
_BRANCHES = 2
# Scale of the distribution at the start of the search, in prior sds.
_FIRST_SCALE = 0.1
# A generalised Pareto distribution is fitted to a fifth of the draws: at least six.
_MIN_DRAWS = 30
_REASON = "the ELBO, a lower bound: fit_tempered estimates the evidence"


@names_its_options
@shows_progress
@shares_docs
def fit_vi(
    bnn: BNN,
    x: Any,
    y: Any,
    *,
    prior: Prior,
    rng_key: Any = 0,
    guide: str = "normal",
    num_steps: int = 20000,
    num_samples: int = 1000,
    row_weights: Any = None,
    log_likelihood: bool = True,
    progress_bar: bool = True,
) -> xr.DataTree:
    """Approximate the posterior by the nearest normal distribution of a given shape.

    The nearest distribution has the largest evidence lower bound (ELBO). Adam finds it from the end
    of a short optimisation. It covers one mode, and is too narrow if weights are correlated and the
    guide has no correlations. The Pareto k says how far it is from the posterior.

    Parameters
    ----------
    <data>
    prior : NormalPrior or HierarchicalPrior
        The prior, which must not be flat anywhere; each part of a stacked one is approximated. The
        latents of a `hierarchical_prior` are approximated together with the weights, in
        standardised coordinates.
    rng_key : int or JAX key
        Seed of the start, the steps and the draws.
    guide : {"normal", "low_rank", "full"}
        NumPyro's guides: independent weights, a covariance of low rank added to these, or a full
        covariance.
    num_steps : int
        Number of steps of Adam.
    num_samples : int
        Number of draws from the approximation, at least 30.
    <options>

    Returns
    -------
    DataTree
        Draws as if from a single chain, with their log density under the approximation in
        `sample_stats` as `log_q`. A group `vi` has (by `prior`, if it is stacked) `elbo`, in nats,
        a lower bound of the log evidence, with its Monte-Carlo error `elbo_se`, and `pareto_k` of
        the draws' importance weights: above 0.7 the approximation is too far from the posterior to
        be corrected.

    Raises
    ------
    TypeError, ValueError
        For wrong arguments, and for a prior that is flat somewhere.
    FloatingPointError
        If the ELBO is not finite at the end.
    KeyboardInterrupt
        After Ctrl-C; no partial result is kept.

    Warns
    -----
    UserWarning
        If a Pareto k exceeds 0.7, or if the fit explains no more than a constant.

    References
    ----------
    A. Kucukelbir, D. Tran, R. Ranganath, A. Gelman and D. M. Blei, Automatic differentiation
    variational inference, JMLR 18, 2017. :doi:`10.48550/arXiv.1603.00788`

    Y. Yao, A. Vehtari, D. Simpson and A. Gelman, Yes, but did it work?: evaluating variational
    inference, ICML 2018. :doi:`10.48550/arXiv.1802.02538`

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> fit = wp.fit_vi(bnn, x, 2 * x[:, 0], prior=wp.normal_prior(bnn), guide="full")
    >>> round(float(fit["vi"]["elbo"]), 1)
    -22.7
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
    _checks.one_of("guide", guide, _GUIDES)
    num_steps = _checks.integer("num_steps", num_steps, 1)
    num_samples = _checks.integer("num_samples", num_samples, _MIN_DRAWS)
    found = _approximations(problem, guide, num_samples, num_steps)
    summaries = [_summary(one["lp"] - one["log_q"]) for one in found]
    _warn_far(problem, summaries)
    outcome = Outcome(
        weights=[{n: w[None] for n, w in one["weights"].items()} for one in found],
        stats=[{"log_q": one["log_q"][None]} for one in found],
        draws="independent",
        exact=False,
        groups={"vi": ((), summaries)},
        evidence=[Evidence(one["elbo"], one["elbo_se"], _REASON, True) for one in summaries],
    )
    options = {"guide": guide, "num_steps": num_steps, "num_samples": num_samples}
    fit = build(
        problem,
        outcome,
        method="vi",
        seconds=time.perf_counter() - began,
        options=options,
        log_likelihood=log_likelihood,
    )
    warn_constant("fit_vi", problem, fit)
    return fit


def _approximations(
    problem: Problem, guide: str, num_samples: int, num_steps: int
) -> list[dict[str, Any]]:
    """Find the nearest distribution to every posterior, and draw from it."""
    pairs = [(task, problem.key) for task in problem.tasks]
    with jax.enable_x64(True), counting(len(pairs), " priors") as count:
        shared = (*problem.data, np.int32(num_steps))
        like = near.position(shared, problem.tasks[0])
        near.prepare(shared, problem.tasks[0])
        program = _begin, _move, guide
        fitted = _batch.prepare_steps(*program, shared, (*pairs[0], like), len(pairs))
        static = guide, num_samples
        _batch.prepare(_draw, static, shared, (*pairs[0], like, fitted), len(pairs))
        seeds = [np.random.SeedSequence(problem.seed)] * len(pairs)
        starts = near.find(shared, problem.tasks, seeds)
        items = [(*pair, start) for pair, start in zip(pairs, starts, strict=True)]
        found = _batch.run_steps(*program, shared, items, on_done=lambda _: count.advance())
        items = [(*item, params) for item, params in zip(items, found, strict=True)]
        return _batch.run(_draw, static, shared, items)


class _Nearest(NamedTuple):
    """The search for a distribution near a posterior."""

    svi: SVI
    guide: Any
    key: jax.Array
    coordinates: Standardised

    @classmethod
    def of(cls, name: str, shared: Any, item: Any) -> Self:
        """Prepare the search for a guide of that name, from a position near an optimum."""
        bnn, x, y, num_steps = shared
        task, key, start = item
        coordinates = Standardised(bnn, x, y, task, jnp.float64)

        def model() -> None:
            z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([coordinates.size]).to_event(1))
            # Replaces the normal density, which only tells the guide the shape.
            log_factor = coordinates.log_density(z) + 0.5 * z @ z
            numpyro.sample("posterior", dist.Unit(log_factor), obs=jnp.empty((0,)))

        guide = _GUIDES[name](
            model, init_loc_fn=init_to_value(values={"z": start}), init_scale=_FIRST_SCALE
        )

        def step_size(count: jax.Array) -> jax.Array:
            return _FIRST_STEP * 0.5 * (1 + jnp.cos(jnp.pi * count / num_steps))

        svi = SVI(model, guide, optax_to_numpyro(optax.adam(step_size)), Trace_ELBO())
        return cls(svi, guide, key, coordinates)

    def init(self) -> Any:
        """Return the first state; later calls need this to have been called."""
        return self.svi.init(jax.random.split(self.key, _BRANCHES)[0])


def _begin(name: str, shared: Any, item: Any) -> Any:
    return jnp.zeros((), jnp.int32), _Nearest.of(name, shared, item).init()


def _move(name: str, shared: Any, item: Any) -> _batch.Steps:
    """Take steps of Adam; the result is the parameters of the guide."""
    *given, (count, state), num_steps = item
    nearest, total = _Nearest.of(name, shared, given[0]), shared[3]
    nearest.init()
    end = count + jnp.minimum(num_steps, total - count)
    state = jax.lax.fori_loop(count, end, lambda _, state: nearest.svi.update(state)[0], state)
    params = nearest.svi.get_params(state)
    return _batch.Steps((end, state), end - count, end == total, params)


def _draw(static: Any, shared: Any, item: Any) -> dict[str, Any]:
    """Draw from the nearest distribution, and compute the densities of the draws."""
    name, num_samples = static
    bnn, x, y, _ = shared
    *given, params = item
    task = given[0]
    nearest = _Nearest.of(name, shared, given)
    nearest.init()
    found, coordinates = nearest.guide.get_posterior(params), nearest.coordinates
    found = found if found.event_dim else found.to_event(1)
    z = found.sample(jax.random.split(nearest.key, _BRANCHES)[1], (num_samples,))
    # Draw by draw: all at once would hold the data once per draw.
    weights = jax.lax.map(coordinates.weights, z)
    log_q = jax.lax.map(lambda one: found.log_prob(one) - coordinates.log_abs_det_jacobian(one), z)
    lp = jax.lax.map(lambda w: density.log_joint(bnn, w, x, y, *task), weights)
    return {"weights": weights, "log_q": log_q, "lp": lp}


def _summary(log_ratio: np.ndarray) -> dict[str, float]:
    """Compute the group `vi`, from log joint densities less those of the draws."""
    if not np.isfinite(log_ratio).all():
        raise FloatingPointError(
            "fit_vi: the ELBO is not finite. Standardise x and y, or give the prior smaller scales."
        )
    return {
        "elbo": log_ratio.mean(),
        "elbo_se": log_ratio.std(ddof=1) / np.sqrt(len(log_ratio)),
        "pareto_k": pareto_smoothed(log_ratio)[1],
    }


def _warn_far(problem: Problem, summaries: list[dict[str, float]]) -> None:
    far = [
        f"{one['pareto_k']:.2g}{under(label)}"
        for label, one in zip(problem.labels, summaries, strict=True)
        if not one["pareto_k"] <= MAX_PARETO_K
    ]
    if far:
        _checks.warn(
            f"fit_vi: far from the posterior: Pareto k {', '.join(far)}, above {MAX_PARETO_K}. "
            "Take a richer guide ('full'), raise num_steps, or sample with fit_mcmc."
        )
