"""Models, data and fits that several test modules share, and their densities in plain numpy.

Every fit is made once per run, by the first test that asks for it.
"""

from functools import cache, partial
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pandas as pd
from scipy import special, stats

import weightprior as wp
from oracle import LinearGaussian, to_sites
from weightprior.fits import results
from weightprior.fits.outcome import ChainState, Outcome
from weightprior.fits.problem import Problem
from weightprior.fits.results import build

# What rounding leaves of float64 sums over a few rows and weights.
ROUNDING = {"rtol": 1e-9, "atol": 1e-9}
NUM_CHAINS, NUM_DRAWS = 4, 250


def _mlp(num_outputs=1):
    return wp.mlp(2, hidden=(3,), num_outputs=num_outputs)


LIKELIHOODS = {
    "gaussian": wp.BNN(_mlp(), wp.Gaussian()),
    "gaussian, two outputs": wp.BNN(_mlp(2), wp.Gaussian()),
    # So many degrees of symmetry give the variance of draws a variance.
    "student": wp.BNN(_mlp(), wp.StudentT(df=10.0)),
    "heteroscedastic": wp.BNN(_mlp(2), wp.HeteroscedasticGaussian()),
    "bernoulli": wp.BNN(_mlp(), wp.Bernoulli()),
    "bernoulli, two outputs": wp.BNN(_mlp(2), wp.Bernoulli()),
    "categorical": wp.BNN(_mlp(3), wp.Categorical(3)),
    "poisson": wp.BNN(_mlp(), wp.Poisson()),
}
NUMBERS = [name for name, bnn in LIKELIHOODS.items() if not bnn.likelihood.has_classes]
CLASSES = [name for name in LIKELIHOODS if name not in NUMBERS]


_rng = np.random.default_rng(0)
FRAME = pd.DataFrame(_rng.normal(size=(20, 2)), columns=["age", "dose"])
TARGET = np.sin(FRAME["age"].to_numpy()) + _rng.normal(0.0, 0.5, size=20)
TWO_TARGETS = np.stack([TARGET, FRAME["dose"] + _rng.normal(0.0, 0.5, size=20)], axis=1)
REGRESSION = wp.BNN(wp.mlp(list(FRAME), hidden=(3,)), wp.Gaussian())
TWO_OUTPUTS = wp.BNN(wp.mlp(2, hidden=(), num_outputs=2), wp.Gaussian())

_mcmc = {"num_warmup": 200, "num_samples": 150, "num_chains": 2, "rng_key": 5}
FITTERS = {
    "map": partial(wp.fit_map, num_restarts=3, rng_key=5),
    "hmc": partial(wp.fit_mcmc, **_mcmc),
    # A target that keeps these few draws free of divergences.
    "nuts": partial(wp.fit_mcmc, kernel="nuts", target_accept_prob=0.95, **_mcmc),
}
_PRIORS = {
    "single": lambda bnn: wp.normal_prior(bnn, loc=0.2, scale=0.5),
    "strings": lambda bnn: wp.stack_priors(
        {"narrow": wp.normal_prior(bnn, scale=0.3), "moved": _PRIORS["single"](bnn)}
    ),
    "numbers": lambda bnn: wp.stack_priors(
        {scale: wp.normal_prior(bnn, scale=scale) for scale in (0.25, 0.5, 1.0)}
    ),
}


@cache
def prior_of(bnn, kind):
    """A single prior, or one stacked under labels that are strings (holding it) or numbers."""
    return _PRIORS[kind](bnn)


@cache
def fitted(method, prior="single", bnn=REGRESSION):
    """A real fit: of a data frame and one target, or of an array and two."""
    return FITTERS[method](bnn, *_data_of(bnn), prior=prior_of(bnn, prior))


@cache
def drawn(method, prior="single", bnn=REGRESSION, spread=0.3):
    """Made-up draws laid out as those of `fitted`: for what reads a fit, and needs no sampler.

    They scatter around the centre of their prior, by a share of its scale, or one per chain.
    """
    given = prior_of(bnn, prior)
    lay_out = _restarts if method == "map" else _chains
    parts = [lay_out(_scattered(single, spread)) for single in given.singles()]
    weights, stats, held = ([part[i] for part in parts] for i in range(3))
    if method == "map":
        own = {"draws": "point", "exact": False, "groups": {"restarts": (("restart",), held)}}
    else:
        own = {"chain_state": ChainState(held, {}, [{}] * len(held))}
    own |= {"stats": stats, "prior": given, "options": FITTERS[method].keywords}
    return light_fit(bnn, *_data_of(bnn), *weights, method=method, **own)


def _data_of(bnn):
    return (FRAME, TARGET) if bnn is REGRESSION else (FRAME.to_numpy(), TWO_TARGETS)


def _scattered(prior, spread):
    """Weights of two chains of 150 draws."""
    rng = np.random.default_rng(7)
    return {
        name: np.stack(
            [
                loc + share * prior.scale[name] * rng.normal(size=(150, *np.shape(loc)))
                for share in np.broadcast_to(spread, 2)
            ]
        )
        for name, loc in prior.loc.items()
    }


def _restarts(weights):
    """Weights, statistics and restarts of a MAP, the first three draws."""
    stats = {
        "converged": np.ones(3, bool),
        "gradient_norm": np.full(3, 1e-7),
        "num_iterations": np.full(3, 40, np.int32),
    }
    restarts = {name: values[0, :3] for name, values in weights.items()} | stats
    held = restarts | {"lp": np.array([-30.0, -31.0, -32.0])}
    point = {name: values[None, None, 0] for name, values in restarts.items()}
    return {n: point[n] for n in weights}, {n: point[n] for n in stats}, held


def _chains(weights):
    """Weights, statistics and state of chains, which are kept in single precision."""
    shape, rng = (2, 150), np.random.default_rng(8)
    stats = {
        "diverging": np.zeros(shape, bool),
        "acceptance_rate": np.ones(shape, np.float32),
        "n_steps": np.full(shape, 7, np.int32),
        "step_size": np.full(shape, 0.1, np.float32),
        "energy": rng.normal(size=shape).astype(np.float32),
    }
    single = {name: values.astype(np.float32) for name, values in weights.items()}
    return single, stats, {"state": np.zeros((2, 3), np.float32)}


# Without a hidden layer everything is known, also of draws that come from no sampler.
LINEAR = wp.BNN(wp.mlp(2, hidden=()), wp.Gaussian(noise=0.5))
EXACT = LinearGaussian(FRAME, TARGET, 0.5, loc=[0.3, -0.2, 0.1], scale=[1.0, 0.5, 2.0])
EXACT_DRAWS = _rng.multivariate_normal(EXACT.mean, EXACT.covariance, (NUM_CHAINS, NUM_DRAWS))


@cache
def exact_fit():
    """Independent draws from the exact posterior of the linear model."""
    loc, scale = (to_sites(given) for given in (EXACT.loc, EXACT.scale))
    prior = wp.normal_prior(LINEAR, loc, scale)
    return light_fit(LINEAR, FRAME, TARGET, to_sites(EXACT_DRAWS), prior=prior)


class Case(NamedTuple):
    """A model, rows it was not fitted to, and a fit whose draws are known."""

    bnn: wp.BNN
    x: np.ndarray
    y: np.ndarray
    fit: Any
    weights: dict[str, np.ndarray]


@cache
def case(name):
    """A fit of made-up draws, so that what is computed from draws can be checked on its own."""
    bnn, rng = LIKELIHOODS[name], np.random.default_rng(1)
    weights = random_weights(bnn, rng, (NUM_CHAINS, NUM_DRAWS))
    x = rng.normal(size=(8, 2))
    y = random_targets(bnn, {site: w[0, 0] for site, w in weights.items()}, x, rng)
    return Case(bnn, x, y, light_fit(bnn, x, y, weights), weights)


def random_weights(bnn, rng, lead):
    return {
        name: rng.normal(0.0, 0.5, size=(*lead, *site.shape)) for name, site in bnn.sites.items()
    }


def random_targets(bnn, weights, x, rng):
    """Targets from one draw of the weights."""
    if isinstance(bnn.likelihood, wp.Categorical):
        return np.array([rng.choice(p.size, p=p) for p in mean(bnn, weights, x)])
    return law(bnn, weights, x).rvs(random_state=rng)


def made_fit(
    bnn,
    x,
    y,
    *weights,
    prior=None,
    stats=None,
    draws="chains",
    method="made",
    options=None,
    row_weights=None,
    log_likelihood=True,
    **outcome,
):
    """A fit of given draws, a dict of them for every part of the prior."""
    shape = next(iter(weights[0].values())).shape[:2]
    stats = [{"diverging": np.zeros(shape, bool)}] * len(weights) if stats is None else stats
    problem = Problem.checked(
        bnn, x, y, prior=prior or wp.normal_prior(bnn), row_weights=row_weights, learned=True
    )
    made = Outcome(list(weights), list(stats), draws, **{"exact": True, **outcome})
    return build(
        problem,
        made,
        method=method,
        seconds=1.0,
        options=options or {},
        log_likelihood=log_likelihood,
    )


def light_fit(*args, **options):
    """A fit of given draws: its densities by numpy, so that nothing is compiled."""
    with patch.object(results, "evaluate", densities):
        return made_fit(*args, **options)


def point_fit(bnn, x, y, *, prior, row_weights=None, converged=True):
    """A fit function for what fits several times: a point per prior, moved by the rows that count.

    It is laid out as a MAP, and takes no search.
    """
    singles = prior.singles()
    counts = np.ones(len(y)) if row_weights is None else row_weights
    shares = [(c @ y).mean() / c.sum() for c in np.broadcast_to(counts, (len(singles), len(y)))]
    points = [
        {
            name: (loc + 0.5 * np.tanh(share) * part.scale[name])[None, None]
            for name, loc in part.loc.items()
        }
        for part, share in zip(singles, shares, strict=True)
    ]
    stats = [{"converged": np.full((1, 1), converged), "gradient_norm": np.full((1, 1), 0.1)}]
    own = {"method": "map", "draws": "point", "exact": False, "stats": stats * len(singles)}
    return light_fit(bnn, x, y, *points, prior=prior, row_weights=row_weights, **own)


def densities(function, bnn, weights, x, y, prior, row_weights):
    """What `results` asks for of all draws, by numpy; in place of its `evaluate`."""
    with np.errstate(all="ignore"):
        terms = log_density(bnn, weights, x, y)
        log_prior = {name: _log_prior(prior, name, values) for name, values in weights.items()}
    derived = {"noise": np.exp(weights["log_noise"])} if "log_noise" in weights else {}
    return {
        "log_likelihood": {"y": terms},
        "lp": {"lp": sum(log_prior.values()) + terms @ row_weights},
        "log_prior": log_prior,
        "derived": derived,
    }


def _log_prior(prior, name, values):
    proper = np.isfinite(prior.scale[name])
    scale = np.where(proper, prior.scale[name], 1.0)
    terms = np.where(proper, stats.norm.logpdf(values, prior.loc[name], scale), 0.0)
    return terms.reshape(*values.shape[:2], -1).sum(-1)


def sites(fit):
    """The draws of a single prior's fit as arrays."""
    draws = {n: v.to_numpy().astype(np.float64) for n, v in fit["posterior"].data_vars.items()}
    return {name: values for name, values in draws.items() if name != "noise"}


_ACTIVATIONS = {
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0.0),
    "sigmoid": special.expit,
    "softplus": lambda z: np.logaddexp(z, 0.0),
    "identity": lambda z: z,
}


def outputs(bnn, weights, x):
    """A network by numpy: ``(..., rows, outputs)`` for weights ``(..., shape)``."""
    signal, network = np.asarray(x, dtype=np.float64), bnn.network
    for layer, name in zip(network.layers, (*network.activations, "identity"), strict=True):
        signal = signal @ weights[f"{layer}.weight"] + weights[f"{layer}.bias"][..., None, :]
        signal = _ACTIVATIONS[name](signal)
    return signal


def law(bnn, weights, x):
    """Distribution of every target given every draw, by scipy."""
    signal, likelihood = outputs(bnn, weights, x), bnn.likelihood
    several = signal.shape[-1] > 1
    location = signal if several else signal[..., 0]
    match likelihood:
        case wp.HeteroscedasticGaussian():
            location, log_noise = np.split(signal, 2, axis=-1)
            single = (..., 0) if location.shape[-1] == 1 else ...
            return stats.norm(location[single], np.exp(log_noise[single]))
        case wp.Gaussian():
            return stats.norm(location, _noise(likelihood.noise, weights, several))
        case wp.StudentT():
            return stats.t(likelihood.df, location, _noise(likelihood.noise, weights, several))
        case wp.Bernoulli():
            return stats.bernoulli(special.expit(location))
        case wp.Poisson():
            return stats.poisson(np.exp(location))


def _noise(known, weights, several):
    if known is not None:
        return known
    noise = np.exp(weights["log_noise"])
    return noise[..., None, :] if several else noise[..., None]


def mean(bnn, weights, x):
    """E[y | weights, x] of every draw."""
    if isinstance(bnn.likelihood, wp.Categorical):
        return special.softmax(outputs(bnn, weights, x), axis=-1)
    if isinstance(bnn.likelihood, wp.Binomial):
        return special.expit(outputs(bnn, weights, x)[..., 0])
    return law(bnn, weights, x).mean()


def log_density(bnn, weights, x, y):
    """Log density of every row given every draw."""
    if isinstance(bnn.likelihood, wp.Categorical):
        return np.log(mean(bnn, weights, x))[..., np.arange(len(y)), np.asarray(y, int)]
    if isinstance(bnn.likelihood, wp.Binomial):
        return stats.binom(y.sum(axis=1), mean(bnn, weights, x)).logpmf(y[:, 0])
    given = law(bnn, weights, x)
    terms = given.logpmf(y) if hasattr(given.dist, "pmf") else given.logpdf(y)
    return terms.sum(-1) if np.ndim(y) == 2 else terms
