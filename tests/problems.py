"""Two small problems and the methods that are to solve them.

All modules use these shapes, so that each method compiles once for each.
"""

from functools import partial
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
# Runs so short and careful that half of float64's digits are left where only rounding differs: a
# warm-up multiplies it, above all by trajectories beyond the limit of stability.
_brief = {"num_samples": 100, "target_accept_prob": 0.95}
_warmups = {"hmc": 5, "nuts": 10, "mclmc": 5}
BRIEF = {name: {} for name in FITTERS} | {
    name: _brief | {"num_warmup": n} for name, n in _warmups.items()
}
# It never rejects, so that rounding grows from one draw to the next.
BRIEF["mclmc"] |= {"num_warmup": 2, "num_samples": 2}
BRIEF["vi"] = {"num_steps": 100}
BRIEF["laplace"] = {"num_samples": 4000}
HALF_THE_DIGITS = {"rtol": 0, "atol": np.sqrt(np.finfo(np.float64).eps)}
EXACT_KERNELS = ("hmc", "nuts")


def fit(method: str, problem: Problem, prior: Any, **options) -> Any:
    return FITTERS[method](problem.bnn, problem.x, problem.y, prior=prior, **options)


# A place for chains to begin at, which compiles sooner than the search for one.
START = {"output.weight": np.zeros((3, 1)), "output.bias": np.zeros(1)}


# What every method has to meet on the linear problem, in the module that compiles it for that.


def assert_moving_the_prior_moves_the_weights(method: str) -> None:
    """Weights around m that fit y, less m, are weights around 0 that fit y less what m fits."""
    scale = {"weight": 0.6, "bias": 3.0}
    centred, around_0 = LINEAR.prior(loc=CENTRE, scale=scale), LINEAR.prior(scale=scale)
    centre = oracle.from_sites(centred.loc)
    moved = LINEAR._replace(y=LINEAR.y - oracle.design(LINEAR.x) @ centre)
    with jax.enable_x64(True):
        ours, theirs = (
            oracle.from_sites(fit(method, *case, **BRIEF[method])["posterior"])
            for case in ((LINEAR, centred), (moved, around_0))
        )
    np.testing.assert_allclose(ours - centre, theirs, **HALF_THE_DIGITS)


def assert_a_row_counted_twice_is_there_twice(method: str) -> None:
    """And one that does not count is not there at all."""
    counts = np.tile([2.0, 0.0, 1.0, 1.0], 10)
    rows = np.repeat(np.arange(40), counts.astype(int))
    with jax.enable_x64(True):
        weighted = fit(method, LINEAR, LINEAR.prior(), row_weights=counts, **BRIEF[method])
        repeated = LINEAR._replace(x=LINEAR.x[rows], y=LINEAR.y[rows])
        expected = fit(method, repeated, LINEAR.prior(), **BRIEF[method])
    ours, theirs = (oracle.from_sites(f["posterior"]) for f in (weighted, expected))
    np.testing.assert_allclose(ours, theirs, **HALF_THE_DIGITS)
    np.testing.assert_allclose(
        weighted["sample_stats"]["lp"], expected["sample_stats"]["lp"], **HALF_THE_DIGITS
    )
    assert weighted["log_likelihood"].sizes["obs_id"] == 40
    np.testing.assert_array_equal(weighted["constant_data"]["row_weights"], counts)
