"""Two small problems and the methods that are to solve them.

All modules use these shapes, so that each method compiles once for each.
"""

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np
import numpyro.distributions as dist

import oracle
import references
import weightprior as wp


class Problem(NamedTuple):
    """A model and its data."""

    bnn: wp.BNN
    x: np.ndarray
    y: np.ndarray

    def prior(self, **options) -> wp.NormalPrior:
        return wp.normal_prior(self.bnn, **options)


_rng = np.random.default_rng(0)
_x, _inputs = _rng.normal(size=(40, 3)), _rng.normal(size=(15, 2))
LINEAR = Problem(
    wp.BNN(wp.mlp(3, hidden=()), wp.Gaussian(noise=0.4)),
    _x,
    _x @ [1.0, -1.0, 0.5] + 2.0 + 0.4 * _rng.normal(size=40),
)
NET = Problem(
    wp.BNN(wp.mlp(2, hidden=(3,)), wp.Gaussian(noise=0.5)),
    _inputs,
    np.sin(2 * _inputs[:, 0]) + 0.5 * _rng.normal(size=15),
)
# The same shapes, and data that say nothing.
VAGUE = NET._replace(bnn=wp.BNN(NET.bnn.network, wp.Gaussian(noise=1e8)))

CENTRE = {"output.weight": np.array([[1.5], [-0.5], [0.0]]), "output.bias": -1.0}
LINEAR_PRIORS = {
    "around 0": {"scale": 0.7},
    "around a centre per weight": {"loc": CENTRE, "scale": {"weight": 0.3, "bias": 2.0}},
    "flat biases": {"loc": CENTRE, "scale": {"weight": 0.5, "bias": np.inf}},
}

# A centre that all weights share, and no scale: the weights are normal, and correlated.
SHARED = wp.hierarchical_prior(
    LINEAR.bnn,
    {"all": ["weight", "bias"]},
    center=(0.4, 1.5),
    log_scale=None,
    base=LINEAR.prior(loc=CENTRE, scale={"weight": 0.7, "bias": 2.0}),
)
LEARNED = {
    "by layer": wp.hierarchical_prior(VAGUE.bnn, base=VAGUE.prior(loc=0.3, scale=0.5)),
    "Laplace and Student": wp.hierarchical_prior(
        VAGUE.bnn,
        "kind",
        log_scale=(-1.0, 0.5),
        standardised={"hidden_0.weight": dist.Laplace(), "hidden_0.bias": dist.StudentT(5.0)},
    ),
    "horseshoe": wp.hierarchical_prior(
        VAGUE.bnn,
        {"in": ["hidden_0.weight"]},
        center=None,
        standardised={"hidden_0.weight": dist.HalfCauchy(1.0)},
    ),
}


def of_reference(name) -> tuple[Problem, wp.NormalPrior]:
    """What another program has sampled, and under which prior; its test is skipped where absent."""
    known = references.load_or_skip(name)
    likelihood = getattr(wp, known.likelihood)(**known.likelihood_options)
    network = wp.mlp(known.num_features, known.hidden, known.num_outputs, known.activation)
    problem = Problem(wp.BNN(network, likelihood), known.train_x, known.train_y)
    return problem, problem.prior(loc=known.prior_loc, scale=known.prior_scale)


def exact(prior) -> oracle.LinearGaussian:
    """Closed form of the linear problem under a prior."""
    numbers = oracle.from_sites(prior.loc), oracle.from_sites(prior.scale)
    return oracle.LinearGaussian(LINEAR.x, LINEAR.y, LINEAR.bnn.likelihood.noise, *numbers)


FITTERS = {
    "map": partial(wp.fit_map, num_restarts=4, tolerance=1e-8),
    "hmc": partial(wp.fit_mcmc, kernel="hmc"),
    "nuts": partial(wp.fit_mcmc, kernel="nuts"),
    "mclmc": partial(wp.fit_mcmc, kernel="mclmc"),
    "ensemble": partial(wp.fit_ensemble, tolerance=1e-8),
    "laplace": wp.fit_laplace,
    "vi": partial(wp.fit_vi, num_steps=2000),
    "tempered": partial(wp.fit_tempered, num_temperatures=4, num_samples=100, num_chains=4),
}
KERNELS = ("hmc", "nuts", "mclmc")
EXACT_KERNELS = ("hmc", "nuts")


def fit(method: str, problem: Problem, prior: Any, **options) -> Any:
    return FITTERS[method](problem.bnn, problem.x, problem.y, prior=prior, **options)


@cache
def linear_fit(method: str, prior: str, precision: str) -> Any:
    """A fit of the linear problem, made by the first test that asks for it."""
    with jax.enable_x64(precision == "float64"):
        return fit(method, LINEAR, LINEAR.prior(**LINEAR_PRIORS[prior]))
