"""Likelihoods: scipy's densities, finite at any output, and numbers that compile nothing."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

import weightprior as wp
from assertions import assert_estimate
from weightprior.model import density

RNG = np.random.default_rng(0)
ROWS = 7
NOISE = 0.4
# Two scales, for two outputs, whose order matters.
NOISES = np.array([0.4, 1.5])


class Case(NamedTuple):
    """A likelihood, outputs, targets, and scipy's name for the distribution of the targets."""

    likelihood: wp.Gaussian
    output: np.ndarray
    y: np.ndarray
    law: object
    mean: np.ndarray
    weights: dict = {}  # noqa: RUF012


def cases():
    one, two, three = (RNG.normal(size=(ROWS, k)) for k in (1, 2, 3))
    y1, y2 = RNG.normal(size=ROWS), RNG.normal(size=(ROWS, 2))
    f = one[:, 0]
    learned, learned_two = {"log_noise": np.log(NOISE)}, {"log_noise": np.log(NOISES)}
    yes_no, labels = RNG.integers(0, 2, (ROWS, 2)), RNG.integers(0, 3, ROWS)
    counts = RNG.poisson(3, (ROWS, 2))
    norm, t, poisson = stats.norm, stats.t, stats.poisson
    return {
        "gaussian": Case(wp.Gaussian(NOISE), one, y1, norm(f, NOISE), f),
        "gaussian_learned": Case(wp.Gaussian(), one, y1, norm(f, NOISE), f, learned),
        "gaussian_two": Case(wp.Gaussian(NOISE), two, y2, norm(two, NOISE), two),
        "gaussian_learned_two": Case(wp.Gaussian(), two, y2, norm(two, NOISES), two, learned_two),
        "student": Case(wp.StudentT(9.0, NOISE), one, y1, t(9, f, NOISE), f),
        "student_learned": Case(wp.StudentT(9), one, y1, t(9, f, NOISE), f, learned),
        "student_learned_two": Case(wp.StudentT(9.0), two, y2, t(9, two, NOISES), two, learned_two),
        "heteroscedastic": Case(
            wp.HeteroscedasticGaussian(), two, y1, norm(two[:, 0], np.exp(two[:, 1])), two[:, 0]
        ),
        "bernoulli": Case(
            wp.Bernoulli(), one, yes_no[:, 0], stats.bernoulli(special.expit(f)), special.expit(f)
        ),
        "bernoulli_two": Case(
            wp.Bernoulli(), two, yes_no, stats.bernoulli(special.expit(two)), special.expit(two)
        ),
        "categorical": Case(wp.Categorical(3), three, labels, None, special.softmax(three, axis=1)),
        "poisson": Case(wp.Poisson(), one, counts[:, 0], poisson(np.exp(f)), np.exp(f)),
        "poisson_two": Case(wp.Poisson(), two, counts, poisson(np.exp(two)), np.exp(two)),
    }


CASES = cases()


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def in_jax(case):
    dtype = jnp.result_type(float)
    weights = {name: jnp.asarray(v, dtype) for name, v in case.weights.items()}
    return jnp.asarray(case.output, dtype), weights


def log_density(likelihood, output, weights, y):
    distribution = likelihood.distribution(output, weights)
    return distribution.log_prob(likelihood.observed(y, output.dtype))


def scipy_log_density(case):
    if isinstance(case.likelihood, wp.Categorical):
        return special.log_softmax(case.output, axis=1)[np.arange(ROWS), case.y]
    discrete = hasattr(case.law.dist, "pmf")
    return case.law.logpmf(case.y) if discrete else case.law.logpdf(case.y)


def assert_close(ours, expected, dtype):
    # A handful of roundings, of terms of order ten: squares of standardised residuals, log-gammas.
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(ours, expected, rtol=50 * eps, atol=50 * eps)


@pytest.mark.usefixtures("strict")
def test_densities_are_those_of_scipy(case, precision):
    output, weights = in_jax(case)
    ours = jax.jit(log_density)(case.likelihood, output, weights, case.y)
    assert ours.shape == case.y.shape
    assert ours.dtype == precision
    assert_close(ours, scipy_log_density(case), precision)


def test_the_mean_is_the_mean_of_the_distribution(case):
    output, weights = in_jax(case)

    @jax.jit
    def both(output):
        distribution = case.likelihood.distribution(output, weights)
        categorical = isinstance(case.likelihood, wp.Categorical)
        theirs = distribution.probs if categorical else distribution.mean
        return case.likelihood.mean(output, weights), theirs

    ours, theirs = both(output)
    assert_close(ours, case.mean, np.float32)
    assert_close(theirs, case.mean, np.float32)


@pytest.mark.parametrize(
    "name",
    [
        "gaussian_learned_two",
        "student_learned_two",
        "heteroscedastic",
        "bernoulli",
        "categorical",
        "poisson_two",
    ],
)
def test_samples_have_the_mean_and_the_sd_of_the_distribution(name):
    case, num_draws = CASES[name], 4000
    output, weights = in_jax(case)

    @jax.jit
    def sample(key):
        return case.likelihood.distribution(output, weights).sample(key, (num_draws,))

    draws = sample(jax.random.key(1))
    assert draws.shape == (num_draws, *case.y.shape)
    draws, mean = np.asarray(draws, np.float64), case.mean
    if isinstance(case.likelihood, wp.Categorical):
        draws = draws[..., None] == np.arange(3)
        sd, fourth = np.sqrt(mean * (1 - mean)), mean * (1 - mean) * (1 - 3 * mean * (1 - mean))
    else:
        sd = case.law.std()
        fourth = (case.law.stats("k") + 3) * sd**4
    assert_estimate(draws.mean(axis=0), mean, sd / np.sqrt(num_draws))
    # The error of a variance, from the fourth moment; that of the sd by the delta method.
    mcse = np.sqrt((fourth - sd**4) / num_draws) / (2 * sd)
    assert_estimate(draws.std(axis=0), sd, mcse)


KNOWN = {
    "gaussian": (wp.Gaussian, lambda f, y, s: stats.norm.logpdf(y, f, s)),
    "student": (lambda s: wp.StudentT(4.0, s), lambda f, y, s: stats.t.logpdf(y, 4, f, s)),
    "df": (lambda s: wp.StudentT(s, 0.5), lambda f, y, s: stats.t.logpdf(y, s, f, 0.5)),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_number_may_change_without_compiling(name):
    make, logpdf = KNOWN[name]
    density = jax.jit(lambda *arguments: log_density(*arguments))  # a cache of its own
    output, y = np.zeros((3, 1), np.float32), np.array([-1.0, 0.5, 2.0], np.float32)
    # One of every type that a user may have it in.
    for number in (0.5, 2, np.float64(3.0), np.float32(0.7), jnp.asarray(1.5)):
        ours = density(make(number), jnp.asarray(output), {}, y)
        assert_close(ours, logpdf(0.0, y, float(number)), np.float32)
    assert density._cache_size() == 1


EXTREME = {
    # A likelihood, the outputs, a target, and the exact log density.
    "gaussian": (wp.Gaussian(1e-3), [1e10], 0.0, -5e25 + np.log(1e3 / np.sqrt(2 * np.pi))),
    "student": (wp.StudentT(4.0, 1.0), [1e10], 0.0, stats.t.logpdf(1e10, 4)),
    "bernoulli_wrong": (wp.Bernoulli(), [1e4], 0, -1e4),
    "bernoulli_right": (wp.Bernoulli(), [1e4], 1, 0.0),
    "bernoulli_wrong_no": (wp.Bernoulli(), [-1e4], 1, -1e4),
    "bernoulli_right_no": (wp.Bernoulli(), [-1e4], 0, 0.0),
    "categorical": (wp.Categorical(2), [1e4, -1e4], 1, -2e4),
    "poisson_many": (wp.Poisson(), [200.0], 3, -np.exp(200.0)),
    "poisson_beyond": (wp.Poisson(), [1e4], 3, -np.inf),
    "poisson_few": (wp.Poisson(), [-200.0], 3, -600 - np.log(6)),
    "poisson_none": (wp.Poisson(), [-1e4], 0, 0.0),
    "wide": (wp.HeteroscedasticGaussian(), [0.0, 200.0], 1.0, -200 - np.log(2 * np.pi) / 2),
    "wider": (wp.HeteroscedasticGaussian(), [0.0, 1e4], 1.0, -1e4 - np.log(2 * np.pi) / 2),
    "narrow": (wp.HeteroscedasticGaussian(), [0.0, -200.0], 1.0, -np.exp(400.0) / 2),
    "narrower": (wp.HeteroscedasticGaussian(), [0.0, -1e4], 1.0, -np.inf),
}


@pytest.mark.parametrize("name", EXTREME)
def test_no_output_is_too_large(name, precision):
    likelihood, output, y, expected = EXTREME[name]
    value, gradient = jax.jit(jax.value_and_grad(lambda *a: log_density(*a).sum(), argnums=1))(
        likelihood, jnp.asarray([output]), {}, np.array([y])
    )
    assert not np.any(np.isnan(gradient))
    if abs(expected) > np.finfo(precision).max:
        assert value == -np.inf
    else:
        # exp(400) is out by its exponent's rounding: 400 times the precision.
        rtol = 500 * np.finfo(precision).eps
        np.testing.assert_allclose(value, expected, rtol=rtol, atol=rtol)


def test_rates_beyond_the_largest_integer_draw_no_small_counts(precision):
    output = np.array([10.0, 30.0, 100.0, 1e4])
    draws = jax.jit(lambda f: wp.Poisson().distribution(f, {}).sample(jax.random.key(0)))(
        jnp.asarray(output[:, None])
    )
    largest = np.iinfo(np.int64 if precision == "float64" else np.int32).max
    # A count of exp(10) is off by 0.7 % at times.
    assert np.all(draws > 0.95 * np.exp(np.minimum(output, np.log(largest))))


@pytest.mark.parametrize("num_outputs", [1, 2])
@pytest.mark.parametrize("make", [wp.Gaussian, lambda s: wp.StudentT(4.0, s)])
def test_a_learned_noise_is_a_latent_and_a_known_one_is_not(make, num_outputs):
    shape, dims = ((), ()) if num_outputs == 1 else ((2,), ("output",))
    learned, known = (
        wp.BNN(wp.mlp(1, num_outputs=num_outputs), make(noise)) for noise in (None, 0.5)
    )
    [(name, latent)] = learned.latents.items()
    assert (name, latent.shape, latent.dims, latent.derived) == ("log_noise", shape, dims, "noise")
    assert learned.sites["log_noise"] == wp.Site(shape, dims, None, "latent", "log_noise")
    assert known.latents == {}
    weights = {"log_noise": jnp.full(shape, 0.3)}
    found = density.derived(learned, weights)
    assert list(found) == ["noise"]
    np.testing.assert_allclose(found["noise"], np.exp(np.full(shape, 0.3)), rtol=1e-6)
    assert density.derived(known, {}) == {}


@pytest.mark.parametrize(
    "likelihood",
    [wp.HeteroscedasticGaussian(), wp.Bernoulli(), wp.Categorical(3), wp.Poisson()],
    ids=repr,
)
def test_the_others_have_no_latents(likelihood):
    assert likelihood.latents(2) == {}


def test_targets_are_numbers_counts_or_classes():
    likelihoods = {name: case.likelihood for name, case in CASES.items() if "_" not in name}
    classes = {name for name, likelihood in likelihoods.items() if likelihood.has_classes}
    assert classes == {"bernoulli", "categorical"}
    steps = {name: likelihood.step for name, likelihood in likelihoods.items()}
    assert steps == dict.fromkeys(likelihoods, 0.0) | {"poisson": 1.0}
    assert [name for name in likelihoods if likelihoods[name].normal_outputs] == ["gaussian"]


def test_a_likelihood_survives_jax(case):
    leaves, structure = jax.tree.flatten(case.likelihood)
    assert jax.tree.unflatten(structure, leaves) == case.likelihood
    assert all(isinstance(leaf, float) for leaf in leaves)


def test_a_distribution_survives_jax(case):
    output, weights = in_jax(case)
    distribution = jax.jit(case.likelihood.distribution)(output, weights)
    y = case.likelihood.observed(case.y, output.dtype)
    ours = jax.jit(lambda distribution: distribution.log_prob(y))(distribution)
    assert_close(ours, scipy_log_density(case), np.float32)


def test_targets_are_checked_against_the_outputs(case):
    checked = case.likelihood.check_target(case.y, ROWS, case.output.shape[1])
    assert checked.dtype == np.float64
    np.testing.assert_array_equal(checked, case.y)
