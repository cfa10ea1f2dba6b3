"""Likelihoods: scipy's densities, finite at any output, and numbers that compile nothing."""

import re
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax.flatten_util import ravel_pytree
from numpyro.infer.util import log_density as numpyro_density
from scipy import linalg, special, stats

import weightprior as wp
from assertions import assert_estimate
from shared_fits import ROUNDING
from weightprior.model import density
from weightprior.model.curvature import gauss_newton

RNG = np.random.default_rng(0)
ROWS = 7
NOISE = 0.4
# Two scales, and degrees of freedom, for two outputs, whose order matters.
NOISES = np.array([0.4, 1.5])
DFS = np.array([9.0, 40.0])


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
    four = RNG.normal(size=(ROWS, 4))
    y1, y2 = RNG.normal(size=ROWS), RNG.normal(size=(ROWS, 2))
    f = one[:, 0]
    learned, learned_two = {"log_noise": np.log(NOISE)}, {"log_noise": np.log(NOISES)}
    both = {"log_noise": np.log(NOISES), "log_df": np.log(DFS)}
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
        "gaussian_known_two": Case(wp.Gaussian(NOISES), two, y2, norm(two, NOISES), two),
        "student_known_two": Case(wp.StudentT(9.0, NOISES), two, y2, t(9, two, NOISES), two),
        "student_df": Case(
            wp.StudentT(noise=NOISE), one, y1, t(9, f, NOISE), f, {"log_df": np.log(9.0)}
        ),
        "student_both": Case(
            wp.StudentT(), one, y1, t(9, f, NOISE), f, learned | {"log_df": np.log(9.0)}
        ),
        "student_both_two": Case(wp.StudentT(), two, y2, t(DFS, two, NOISES), two, both),
        "heteroscedastic_two": Case(
            wp.HeteroscedasticGaussian(),
            four,
            y2,
            norm(four[:, :2], np.exp(four[:, 2:])),
            four[:, :2],
        ),
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
        "negative_binomial": Case(
            wp.NegativeBinomial(2.0),
            one,
            counts[:, 0],
            stats.nbinom(2.0, 2 / (2 + np.exp(f))),
            np.exp(f),
        ),
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


@jax.jit
def value_and_slope(likelihood, output, y):
    return jax.value_and_grad(lambda f: log_density(likelihood, f, {}, y).sum())(output)


@pytest.mark.parametrize("name", EXTREME)
def test_no_output_is_too_large(name, precision):
    likelihood, output, y, expected = EXTREME[name]
    value, gradient = value_and_slope(likelihood, jnp.asarray([output]), np.array([y]))
    assert not np.any(np.isnan(gradient))
    if abs(expected) > np.finfo(precision).max:
        assert value == -np.inf
    else:
        # exp(400) is out by its exponent's rounding: 400 times the precision.
        rtol = 500 * np.finfo(precision).eps
        np.testing.assert_allclose(value, expected, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("df", [1e-2, 3.0, 19.9, 20.1, 49.9, 50.1, 1e3, 1e6])
def test_learned_degrees_of_freedom_may_be_few_or_many(df, precision):
    """Neither the density nor the information is blurred where a t is about normal."""
    y, weights = np.array([0.0, 1.0, 5.0]), {"log_df": jnp.log(jnp.asarray(df))}
    likelihood, output = wp.StudentT(noise=1.0), jnp.zeros((3, 1))
    density, root = learned_df(likelihood, output, weights, y)
    # The logarithm of df is rounded, of which the density is a function; and log(1e6) is 14.
    rtol = 50 * np.finfo(precision).eps
    # SciPy takes the difference of two log-gammas, in double precision.
    theirs = 4 * np.finfo(np.float64).eps * abs(special.gammaln(df / 2))
    np.testing.assert_allclose(density, stats.t.logpdf(y, df), rtol=rtol, atol=rtol + theirs)
    # Leading term of its series; the next is (13 / 3.5) / df as large.
    few = special.polygamma(1, df / 2) / 4 - special.polygamma(1, (df + 1) / 2) / 4
    few -= (df + 5) / (2 * df * (df + 1) * (df + 3))
    expected, error = (3.5 / df**2, 4 / df) if df > 100 else (df**2 * few, 1e-4)
    np.testing.assert_allclose((root @ root.T)[1, 1], expected, rtol=error + rtol)


@jax.jit
def learned_df(likelihood, output, weights, y):
    root = likelihood.information_root(output[0], weights)
    return log_density(likelihood, output, weights, y), root


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


def test_learned_degrees_of_freedom_have_the_prior_of_the_literature():
    """Nearly 90 % of the Gamma(2, rate 0.1) of Juárez and Steel."""
    latent = wp.StudentT().latents(1)["log_df"]
    assert (latent.shape, latent.derived) == ((), "df")
    ours = np.exp(stats.norm(*latent.prior).ppf([0.05, 0.95]))
    np.testing.assert_allclose(ours, stats.gamma(2, scale=10).ppf([0.05, 0.95]), rtol=0.1)
    assert wp.StudentT().latents(3)["log_df"].shape == (3,)
    assert list(wp.StudentT(df=4.0).latents(1)) == ["log_noise"]
    assert list(wp.StudentT(noise=1.0).latents(1)) == ["log_df"]


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


# Information.


def drawn_targets(case, num_draws):
    """Targets of the first row."""
    rng = np.random.default_rng(2)
    if isinstance(case.likelihood, wp.Categorical):
        return rng.choice(3, num_draws, p=case.mean[0])
    return case.law.rvs((num_draws, *case.y.shape), random_state=rng)[:, 0]


def curvature_of_all(likelihood, output, latents, y):
    """Minus the Hessian of one row's log density in the outputs and all latents, in their order."""
    vector, unravel = ravel_pytree([output, *latents.values()])

    def log_density_at(vector):
        moved, *values = unravel(vector)
        law = likelihood.targets(moved[None], dict(zip(latents, values, strict=True)))
        return law.log_prob(likelihood.observed(y[None], output.dtype)).sum()

    return -jax.hessian(log_density_at)(vector)


@pytest.mark.parametrize("name", CASES)
def test_information_is_the_mean_curvature_over_targets(name):
    """Fisher's identity, at the outputs of the first row and targets that are drawn from it."""
    case, num_draws = CASES[name], 20_000
    likelihood = case.likelihood
    with jax.enable_x64(True):
        outputs, latents = in_jax(case)
        output = outputs[0]
        told = likelihood.latents(output.size)
        assert list(latents) == list(told)

        @jax.jit
        def curvatures(drawn):
            given = jax.vmap(lambda y: curvature_of_all(likelihood, output, latents, y))(drawn)
            default = jax.vmap(lambda y: likelihood.curvature(output, latents, y))(drawn)
            return given, default, likelihood.information_root(output, latents)

        found, default, root = map(np.asarray, curvatures(drawn_targets(case, num_draws)))
    # The base class's is of the outputs, and of latents that do not tell their information.
    size = len(root)
    np.testing.assert_allclose(default, found[:, :size, :size], **ROUNDING)
    of_latents = [
        np.full(latent.shape, latent.information).ravel()
        for latent in told.values()
        if latent.information is not None
    ]
    blocks = [root @ root.T, *map(np.diag, of_latents)]
    # Of numbers that do not depend on the target, rounding alone is left.
    assert_estimate(
        found.mean(axis=0),
        linalg.block_diag(*blocks),
        found.std(axis=0, ddof=1) / np.sqrt(num_draws),
        reference_mcse=ROUNDING["atol"],
    )


# Likelihoods of one's own.


@dataclass(frozen=True)
class Shifted(wp.Likelihood):
    """Normal targets with a scale and an offset of their own, one for each output."""

    unit: float = 1.0

    def latents(self, num_outputs):
        shape, dims = ((num_outputs,), ("output",)) if num_outputs > 1 else ((), ())
        return {
            # Not in the order of the alphabet.
            "offset": wp.Latent(shape, dims, (0.5, 2.0), natural=lambda a: a),
            "log_scale": wp.Latent(shape, dims, (-1.0, 0.5), "scale"),
        }

    def distribution(self, output, weights):
        offset, scale = (
            jnp.broadcast_to(a if a.ndim == 0 else a[None, :], output.shape)
            for a in (weights["offset"], self.unit * jnp.exp(weights["log_scale"]))
        )
        location, scale = (a[:, 0] if a.shape[1] == 1 else a for a in (output + offset, scale))
        return dist.Normal(location, scale)

    def mean(self, output, weights):
        location = output + weights["offset"]
        return location[:, 0] if location.shape[1] == 1 else location


@dataclass(frozen=True)
class Concave(wp.Likelihood):
    """The same for one output, in coordinates in which every row's log density is concave."""

    def latents(self, num_outputs):
        return {"root_precision": wp.Latent(prior=(2.0, 0.2)), "offset": wp.Latent()}

    def distribution(self, output, weights):
        root = weights["root_precision"]
        return dist.Normal((output[:, 0] + weights["offset"]) / root, 1 / root)


@dataclass(frozen=True)
class Gamma(wp.Likelihood):
    """Positive targets: the output is the log of the mean, and the shape is learned."""

    def latents(self, num_outputs):
        return {"log_shape": wp.Latent(derived="shape")}

    def distribution(self, output, weights):
        shape = jnp.exp(weights["log_shape"])
        return dist.Gamma(shape, shape * jnp.exp(-output[:, 0]))

    def mean(self, output, weights):
        return jnp.exp(output[:, 0])


class Own(NamedTuple):
    """A linear model with a likelihood of one's own, data, weights and scipy's distribution."""

    bnn: wp.BNN
    x: np.ndarray
    y: np.ndarray
    weights: dict
    law: object


def own_cases():
    rng, x = np.random.default_rng(5), RNG.normal(size=(ROWS, 2))
    found = {}
    for name, likelihood, num_outputs in (
        ("shifted", Shifted(1.5), 1),
        ("shifted, two outputs", Shifted(1.5), 2),
        ("concave", Concave(), 1),
        ("gamma", Gamma(), 1),
    ):
        bnn = wp.BNN(wp.mlp(2, hidden=(), num_outputs=num_outputs), likelihood)
        weights = {site: 0.5 * rng.normal(size=s.shape) for site, s in bnn.sites.items()}
        if name == "concave":
            weights["root_precision"] = np.array(2.3)
        f = x @ weights["output.weight"] + weights["output.bias"]
        f = f if num_outputs > 1 else f[:, 0]
        match likelihood:
            case Shifted():
                law = stats.norm(f + weights["offset"], 1.5 * np.exp(weights["log_scale"]))
            case Concave():
                root = weights["root_precision"]
                law = stats.norm((f + weights["offset"]) / root, 1 / root)
            case Gamma():
                shape = np.exp(weights["log_shape"])
                law = stats.gamma(shape, scale=np.exp(f) / shape)
        found[name] = Own(bnn, x, law.rvs(random_state=rng), weights, law)
    return found


OWN = own_cases()
each_own = pytest.mark.parametrize("name", OWN)


@each_own
def test_ones_own_has_the_density_that_was_meant(name, precision):
    own, prior = OWN[name], wp.normal_prior(OWN[name].bnn)
    weights = {site: jnp.asarray(w, precision) for site, w in own.weights.items()}

    @jax.jit
    def densities(weights):
        rows = density.pointwise_log_likelihood(own.bnn, weights, own.x, own.y)
        joint = own.bnn.log_joint(weights, own.x, own.y, prior)
        numpyros, _ = numpyro_density(own.bnn.model, (own.x, own.y), {"prior": prior}, weights)
        return rows, joint, numpyros

    rows, joint, numpyros = densities(weights)
    terms = own.law.logpdf(own.y)
    assert rows.dtype == precision
    assert_close(rows, terms.sum(-1) if terms.ndim == 2 else terms, precision)
    np.testing.assert_allclose(joint, numpyros, rtol=100 * np.finfo(precision).eps)


@each_own
def test_ones_own_has_latents_with_their_priors_and_natural_scales(name):
    bnn = OWN[name].bnn
    told = bnn.likelihood.latents(bnn.network.num_outputs)
    assert list(bnn.sites) == ["output.weight", "output.bias", *told]
    prior = wp.normal_prior(bnn, loc=9.0, scale=9.0)
    for latent_name, latent in told.items():
        centre, width = latent.prior
        assert bnn.sites[latent_name].kind == "latent"
        np.testing.assert_array_equal(prior.loc[latent_name], np.full(latent.shape, centre))
        np.testing.assert_array_equal(prior.scale[latent_name], np.full(latent.shape, width))
    weights = {site: jnp.asarray(w) for site, w in OWN[name].weights.items()}
    found = density.derived(bnn, weights)
    assert list(found) == [latent.derived for latent in told.values() if latent.derived]
    for natural, latent in (("scale", "log_scale"), ("shape", "log_shape")):
        if natural in found:
            np.testing.assert_allclose(found[natural], np.exp(weights[latent]), rtol=1e-6)


@each_own
def test_gauss_newton_of_ones_own_is_the_exact_hessian_of_a_linear_network(name):
    """With nothing but its distribution told, and rows that count 0, 1 or more times."""
    own = OWN[name]
    row_weights = np.array([1.0, 0.0, 2.0, 1.0, 0.5, 1.0, 3.0])
    with jax.enable_x64(True):
        vector, unravel = ravel_pytree({site: jnp.asarray(w) for site, w in own.weights.items()})
        arrays = [jnp.asarray(a) for a in (own.x, own.y, row_weights)]

        @jax.jit
        def both(vector):
            exact = jax.hessian(lambda v: own.bnn.log_likelihood(unravel(v), *arrays))(vector)
            return gauss_newton(own.bnn, unravel, vector, *arrays), -exact

        found, expected = both(vector)
    size = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * size)
    if name == "concave":  # but for what rounding leaves of zero: bias and offset are one
        assert np.linalg.eigvalsh(found)[0] > -1e-12 * size


@each_own
def test_the_curvature_of_ones_own_is_that_of_finite_differences(name):
    own = OWN[name]
    likelihood, names = own.bnn.likelihood, list(own.bnn.latents)
    with jax.enable_x64(True):
        output = own.x[0] @ own.weights["output.weight"] + own.weights["output.bias"]
        latents, target = {n: jnp.asarray(own.weights[n]) for n in names}, jnp.asarray(own.y[0])
        vector, unravel = ravel_pytree([jnp.asarray(output), *latents.values()])

        def row(vector):
            moved, *values = unravel(vector)
            law = likelihood.targets(moved[None], dict(zip(names, values, strict=True)))
            return law.log_prob(target[None]).sum()

        @jax.jit
        def both(output, latents, vectors):
            slopes = jax.vmap(jax.grad(row))(vectors)
            return likelihood.curvature(output, latents, target), slopes

        step, units = 1e-5, np.eye(vector.size)
        vectors = np.concatenate([vector + step * units, vector - step * units])
        found, slopes = both(output, latents, vectors)
        expected = -np.subtract(*np.split(np.asarray(slopes), 2)) / (2 * step)
    # Central differences are off by a squared step, and by rounding over the step.
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7 * np.abs(found).max())


def test_numbers_of_ones_own_are_traced():
    own = OWN["shifted"]
    weights = {site: jnp.asarray(w, jnp.float32) for site, w in own.weights.items()}
    joint = jax.jit(lambda bnn: bnn.log_likelihood(weights, own.x, own.y))
    for unit in (0.5, 1.5, 4.0):
        ours = joint(wp.BNN(own.bnn.network, Shifted(unit)))
        law = stats.norm(own.law.mean(), unit * np.exp(own.weights["log_scale"]))
        np.testing.assert_allclose(ours, law.logpdf(own.y).sum(), rtol=1e-5)
    assert joint._cache_size() == 1


@each_own
def test_an_ensemble_counts_the_rows_of_ones_own(name):
    own = OWN[name]
    with jax.enable_x64(True):
        weights = {site: jnp.asarray(w) for site, w in own.weights.items()}

        @jax.jit
        def both(weights):
            output = own.bnn.outputs(weights, own.x)
            terms = own.bnn.likelihood.random_terms(output, weights, jnp.asarray(own.y))
            return terms, density.pointwise_log_likelihood(own.bnn, weights, own.x, own.y)

        terms, rows = both(weights)
    assert terms.signed.shape == (ROWS, 0)
    np.testing.assert_allclose(terms.counted[:, 0], rows, rtol=1e-12)


@pytest.mark.parametrize("likelihood", [wp.Gaussian(), wp.StudentT(), wp.NegativeBinomial()])
def test_default_priors_are_stated_as_they_are(likelihood):
    """In the docstrings of the likelihood and of `normal_prior`, and in what a model prints."""
    bnn = wp.BNN(wp.mlp(1, hidden=()), likelihood)
    for name, latent in bnn.latents.items():
        center, scale = latent.prior
        assert f"'{name}': ({center}, {scale})" in repr(bnn)
        for documented in (type(likelihood), wp.normal_prior):
            text = " ".join(documented.__doc__.split())
            told = re.findall(
                rf"`{name}` is normal around (\S+) with a scale of (\d+(?:\.\d+)?)", text
            )
            assert [tuple(map(float, pair)) for pair in told] == [(center, scale)]


@pytest.mark.parametrize(
    ("likelihood", "name", "share"),
    [(wp.Gaussian(), "log_noise", 0.95), (wp.NegativeBinomial(), "log_concentration", 0.95)],
)
def test_the_interval_that_a_default_prior_is_said_to_have_is_its_own(likelihood, name, share):
    text = " ".join(type(likelihood).__doc__.split())
    low, high = re.search(r"is between (\S+) and (\S+) with a probability of 95 %", text).groups()
    law = stats.lognorm(s=(p := likelihood.latents(1)[name].prior)[1], scale=np.exp(p[0]))
    np.testing.assert_allclose(
        [float(low), float(high)], law.interval(share), rtol=0.05
    )  # two digits
    assert "mean + mean**2 / concentration" in wp.NegativeBinomial.__doc__


SHIFT, FACTOR = np.array([3.0, -1.0]), np.array([2.5, 0.2])


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if not c.likelihood.discrete])
def test_targets_in_other_units_have_the_density_that_follows(name):
    case = CASES[name]
    num_outputs = case.output.shape[1]
    count = case.likelihood.num_targets(num_outputs)
    shift, factor = SHIFT[:count], FACTOR[:count]
    told = case.likelihood.restated(shift, factor, num_outputs)
    with jax.enable_x64(True):
        outputs = told.addend + told.multiplier * case.output
        given = {n: jnp.asarray(v) for n, v in case.weights.items()}
        moved = given | {n: given[n] + added for n, added in told.latents.items()}
        y = case.y if count > 1 else case.y[:, None]
        there = (shift + factor * y).reshape(case.y.shape)
        after = told.likelihood.targets(jnp.asarray(outputs), moved).log_prob(there)
        before = case.likelihood.targets(jnp.asarray(case.output), given).log_prob(case.y)
        found, expected = np.asarray(after), np.asarray(before) - np.log(factor).sum()
    np.testing.assert_allclose(found, expected, **ROUNDING)


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.likelihood.discrete])
def test_classes_and_counts_have_no_other_units(name):
    likelihood = CASES[name].likelihood
    assert likelihood.restated(SHIFT, FACTOR, CASES[name].output.shape[1]) is None
