"""Counts beyond Poisson's, and successes among trials: scipy's laws, at any size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.util import log_density as numpyro_density
from scipy import special, stats

import weightprior as wp
from assertions import assert_estimate
from shared_fits import ROUNDING
from weightprior import _data
from weightprior.model import density
from weightprior.model._distributions import BinomialLogits, NegativeBinomialLogMean, PoissonLogRate

RNG = np.random.default_rng(0)
LOG_MEANS = np.array([-30.0, -10.0, -3.0, 0.0, 1.0, 3.0, 7.0, 12.0, 20.0])
LOG_CONCENTRATIONS = np.array([-60.0, -30.0, -10.0, -3.0, -1.0, 0.0, 1.0, 3.0, 7.0])
# Those at which counts are Poisson's, and scipy's log gammas of the concentration have no digits.
HUGE = np.array([50.0, 80.0, 200.0])
COUNTS = np.array([0, 1, 2, 5, 17, 100, 3000, 10**6])


def grid(*axes):
    return (axis.ravel() for axis in np.meshgrid(*axes))


def of_terms(log_mean, y):
    """Size of the terms that a log density of counts is the sum of, Poisson's as well."""
    return 1 + y * (1 + np.abs(log_mean)) + special.gammaln(y + 1)


def log_density_by_numpy(log_mean, log_c, y):
    """Log density from logs, for scipy's own takes a probability near 1, and so loses the mean."""
    c = np.exp(log_c)
    ways = special.gammaln(y + c) - special.gammaln(c) - special.gammaln(y + 1)
    none = c * np.log1p(np.exp(log_mean - log_c))
    return ways - y * np.logaddexp(0, log_c - log_mean) - none


@jax.jit
def value_and_slopes(log_mean, log_c, y):
    def log_density(log_mean, log_c):
        return NegativeBinomialLogMean(log_mean, log_c).log_prob(y)

    slopes = jax.grad(lambda *at: log_density(*at).sum(), (0, 1))(log_mean, log_c)
    return log_density(log_mean, log_c), *slopes


class TestTheNegativeBinomialDensity:
    @pytest.mark.usefixtures("strict")
    def test_is_exact_at_any_mean_concentration_and_count(self, precision):
        log_mean, log_c, y = grid(LOG_MEANS, LOG_CONCENTRATIONS, COUNTS)
        given = [jnp.asarray(a, precision) for a in (log_mean, log_c, y)]
        value, *slopes = value_and_slopes(*given)
        assert value.dtype == precision
        mean, c, eps = np.exp(log_mean), np.exp(log_c), np.finfo(precision).eps
        # What scipy's functions of c leave of double precision.
        of_scipy = np.finfo(float).eps * (c + special.gammaln(c + y))
        exact = log_density_by_numpy(log_mean, log_c, y)
        size = of_terms(log_mean, y) + np.abs(exact)
        assert np.all(np.abs(value - exact) < 20 * (eps * size + of_scipy))
        # Slopes are differences of the count and the mean, or of what each of them says of c.
        pulled = np.minimum(mean, c * np.log1p(mean / c))
        exact = (y - mean) / (1 + mean / c)
        assert np.all(np.abs(slopes[0] - exact) < 20 * eps * (1 + y + pulled))
        told = special.digamma(y + c) - special.digamma(c) - np.log1p(mean / c)
        exact = c * told + (mean - y) / (1 + mean / c)
        size = pulled + np.abs(exact) + of_terms(0, y)
        assert np.all(np.abs(slopes[1] - exact) < 20 * (eps * size + of_scipy))

    def test_is_scipys_where_that_is_exact(self):
        log_mean, log_c, y = grid([-1.0, 0.0, 3.0], [-2.0, 0.0, 3.0], COUNTS[:6])
        mean, c = np.exp(log_mean), np.exp(log_c)
        ours = log_density_by_numpy(log_mean, log_c, y)
        np.testing.assert_allclose(ours, stats.nbinom.logpmf(y, c, c / (c + mean)), **ROUNDING)

    def test_is_poissons_for_a_huge_concentration(self, precision):
        log_mean, log_c, y = grid(LOG_MEANS[:7], HUGE, COUNTS)
        given = [jnp.asarray(a, precision) for a in (log_mean, log_c, y)]
        value, of_mean, of_c = value_and_slopes(*given)
        poisson = PoissonLogRate(given[0]).log_prob(given[2])
        eps, size = np.finfo(precision).eps, of_terms(log_mean, y) + np.exp(log_mean)
        # But for terms of the order of squares over the concentration, none are left.
        left = (y + np.exp(log_mean)) ** 2 / np.exp(50.0)
        assert np.all(np.abs(value - poisson) < 20 * eps * size + left)
        assert np.all(np.abs(of_mean - (y - np.exp(log_mean))) < 20 * eps * size + left)
        assert np.all(np.abs(of_c) < 20 * eps * size + left)

    def test_has_finite_slopes_and_curvatures_wherever_it_is_finite(self, precision):
        log_mean, log_c, y = grid(
            [-100.0, 0.0, 60.0], [-300.0, -60.0, 0.0, 60.0, 300.0], [0, 1, 500]
        )
        given = [jnp.asarray(a, precision) for a in (log_mean, log_c, y)]
        value, *slopes = value_and_slopes(*given)
        assert np.isfinite(value).all()
        assert np.isfinite(slopes).all()
        hessian = jax.jit(
            jax.vmap(jax.hessian(lambda at, y: NegativeBinomialLogMean(at[0], at[1]).log_prob(y)))
        )
        assert np.isfinite(hessian(jnp.stack(given[:2], axis=1), given[2])).all()
        # Where both overflow, the targets are impossible, and not undefined.
        beyond = NegativeBinomialLogMean(jnp.asarray(800.0), jnp.asarray(900.0)).log_prob(3)
        assert beyond == -np.inf

    def test_has_scipys_distribution_function(self):
        log_mean, log_c, y = grid(
            [-3.0, 0.0, 2.0, 5.0], [-10.0, -3.0, 0.0, 2.0, 6.0, 10.0], [-1, 0, 1, 4, 20, 150, 3000]
        )
        with jax.enable_x64(True):
            found = jax.jit(lambda *at: NegativeBinomialLogMean(*at[:2]).cdf(at[2]))(
                log_mean, log_c, y.astype(float)
            )
            c, mean = np.exp(log_c), np.exp(log_mean)
            np.testing.assert_allclose(found, stats.nbinom.cdf(y, c, c / (c + mean)), **ROUNDING)
            # Beyond a concentration of 7e7 it is Poisson's, which is off by mean / c at most.
            huge = NegativeBinomialLogMean(log_mean, np.full_like(log_mean, 19.0)).cdf(y)
            poisson = stats.poisson.cdf(y, mean)
            np.testing.assert_allclose(huge, poisson, rtol=0, atol=1e-12)
            edge = NegativeBinomialLogMean(log_mean, np.full_like(log_mean, 17.9)).cdf(y)
            np.testing.assert_allclose(edge, poisson, rtol=0, atol=150 * np.exp(-17.9))

    def test_is_drawn_from(self, precision):
        # Concentrations whose rates are next to zero for most draws, ordinary, and Poisson's.
        log_mean, log_c = np.array([2.0, 0.0, 3.0, 1.0]), np.array([-1.5, 0.0, 2.0, 60.0])
        given = (jnp.asarray(a, precision) for a in (log_mean, log_c))
        law = NegativeBinomialLogMean(*given)
        draws = np.asarray(jax.jit(lambda k: law.sample(k, (20_000,)))(jax.random.key(0)))
        assert draws.dtype.kind == "i"
        mean, c = np.exp(log_mean), np.exp(log_c)
        np.testing.assert_allclose(law.mean, mean, rtol=1e-6)
        np.testing.assert_allclose(law.variance, mean + mean**2 / c, rtol=1e-6)
        assert_estimate(draws.mean(axis=0), mean, np.sqrt((mean + mean**2 / c) / 20_000))
        none = np.exp(-c * np.log1p(mean / c))
        assert_estimate((draws == 0).mean(axis=0), none, np.sqrt(none * (1 - none) / 20_000))


class TestTheNegativeBinomial:
    def test_learns_a_concentration_per_output(self):
        for num_outputs, shape in ((1, ()), (2, (2,))):
            told = wp.NegativeBinomial().latents(num_outputs)
            assert told["log_concentration"].shape == shape
            assert told["log_concentration"].derived == "concentration"
            assert wp.NegativeBinomial(2.0).latents(num_outputs) == {}

    def test_documents_the_interval_that_its_prior_means(self):
        centre, scale = wp.NegativeBinomial().latents(1)["log_concentration"].prior
        low, high = np.exp(stats.norm(centre, scale).ppf([0.025, 0.975]))
        assert f"between {low:.2g} and {high:.2g} with" in " ".join(
            wp.NegativeBinomial.__doc__.split()
        )

    def test_has_the_density_of_each_output_and_its_concentration(self, precision):
        output = RNG.normal(size=(7, 2))
        log_c, y = np.array([-0.5, 2.0]), RNG.poisson(3, (7, 2))
        weights = {"log_concentration": jnp.asarray(log_c, precision)}
        law = wp.NegativeBinomial().targets(jnp.asarray(output, precision), weights)
        c, mean = np.exp(log_c), np.exp(output)
        expected = stats.nbinom.logpmf(y, c, c / (c + mean)).sum(axis=1)
        rtol = 50 * np.finfo(precision).eps
        np.testing.assert_allclose(law.log_prob(y), expected, rtol=rtol)
        assert wp.NegativeBinomial().information_root(output[0], weights) is None

    def test_is_nearly_the_poisson_likelihood_for_a_large_concentration(self):
        output, y = jnp.asarray(RNG.normal(size=(7, 1))), RNG.poisson(3, 7)
        ours = wp.NegativeBinomial(concentration=1e12).distribution(output, {}).log_prob(y)
        theirs = wp.Poisson().distribution(output, {}).log_prob(y)
        np.testing.assert_allclose(ours, theirs, rtol=20 * np.finfo(np.float32).eps)

    @pytest.mark.parametrize("bad", [0.0, -1.0, np.inf, "many"])
    def test_has_a_positive_concentration(self, bad):
        with pytest.raises((ValueError, TypeError), match=r"^concentration: expected a number"):
            wp.NegativeBinomial(concentration=bad)

    @pytest.mark.parametrize("bad", [-1, 0.5])
    def test_has_counts_for_targets(self, bad):
        bnn = wp.BNN(wp.mlp(1), wp.NegativeBinomial())
        with pytest.raises(ValueError, match=r"^y: expected counts 0, 1, 2, \.\.\.; got"):
            _data.checked(bnn, np.zeros((3, 1)), [0, 1, bad])


LOGITS = np.array([-200.0, -20.0, -3.0, 0.0, 0.4, 8.0, 30.0, 200.0])
SOME = np.array([[0, 5], [3, 2], [5, 0], [1, 0], [0, 1], [40, 1000]])


class TestTheBinomial:
    def test_has_scipys_density_at_any_logit(self, precision):
        logit, row = grid(LOGITS, np.arange(len(SOME)))
        y = SOME[row.astype(int)]
        law = wp.Binomial().distribution(jnp.asarray(logit[:, None], precision), {})
        value = jax.jit(law.log_prob)(y)
        assert value.dtype == precision
        trials = y.sum(axis=1)
        ways = special.gammaln(trials + 1) - special.gammaln(y + 1).sum(axis=1)
        exact = ways + y[:, 0] * special.log_expit(logit) + y[:, 1] * special.log_expit(-logit)
        size = 1 + np.abs(exact) + special.gammaln(trials + 1)
        assert np.all(np.abs(value - exact) < 20 * np.finfo(precision).eps * size)
        slope = jax.grad(lambda f: wp.Binomial().distribution(f, {}).log_prob(y).sum())
        found = slope(jnp.asarray(logit[:, None], precision))[:, 0]
        expected = y[:, 0] - trials * special.expit(logit)
        assert np.all(np.abs(found - expected) < 20 * np.finfo(precision).eps * (1 + trials))

    def test_has_scipys_distribution_function(self):
        logit, trials, k = grid([-20.0, -3.0, 0.0, 0.4, 8.0], [1.0, 7.0, 500.0], np.arange(-1.0, 9))
        with jax.enable_x64(True):
            found = BinomialLogits(logit, trials).cdf(k)
        np.testing.assert_allclose(
            found, stats.binom.cdf(k, trials, special.expit(logit)), **ROUNDING
        )

    def test_is_drawn_from(self, precision):
        logit, trials = np.array([-40.0, -3.0, 0.5, 3.0, 40.0]), np.array([7.0, 200, 1, 30, 5])
        law = BinomialLogits(jnp.asarray(logit, precision), jnp.asarray(trials, precision))
        draws = np.asarray(jax.jit(lambda k: law.sample(k, (20_000,)))(jax.random.key(0)))
        assert draws.dtype.kind == "i"
        mean, variance = stats.binom.stats(trials, special.expit(logit))
        np.testing.assert_allclose(law.mean, mean, rtol=1e-5)
        np.testing.assert_allclose(law.variance, variance, rtol=1e-5, atol=1e-15)
        assert_estimate(draws.mean(axis=0), mean, np.sqrt(variance / 20_000), reference_mcse=1e-6)

    def test_carries_the_information_of_its_trials(self):
        given = jnp.asarray([0.7]), {}
        y = jnp.asarray([3.0, 9.0])
        own = wp.Binomial().curvature(*given, y)
        by_differentiation = wp.Likelihood.curvature(wp.Binomial(), *given, y)
        np.testing.assert_allclose(own, by_differentiation, rtol=1e-5)
        # The slopes of what an anchored ensemble adds to a row have that for their square.
        terms = jax.jacobian(lambda f: wp.Binomial().random_terms(f[None], {}, y[None]).signed)
        np.testing.assert_allclose(terms(given[0]).ravel() ** 2, own.ravel(), rtol=1e-5)

    def test_has_one_output(self):
        with pytest.raises(ValueError, match=r"^network: expected num_outputs=1 for Binomial"):
            wp.BNN(wp.mlp(1, (), 2), wp.Binomial())

    @pytest.mark.parametrize(
        ("y", "message"),
        [
            ([0.0, 0.5, 0.25], r"got one of proportions. Pass counts: numpy.column_stack"),
            ([0, 1, 1], r"got one of zeros and ones.*use Bernoulli\(\)"),
            ([[0], [1], [1]], r"got one of zeros and ones.*use Bernoulli\(\)"),
            ([3, 1, 1], r"got shape \(3,\). Pass both: numpy.column_stack"),
            (np.ones((3, 3)), r"y: expected shape \(3, 2\).*got \(3, 3\)"),
            ([[1, 2], [3, -1], [1, 1]], r"y: expected counts 0, 1, 2, ...; got -1"),
            ([[0.5, 0.5], [1, 1], [1, 1]], r"y: expected counts 0, 1, 2, ...; got 0.5"),
            ([[1, 2], [0, 0], [0, 0]], "none in 2 of 3, the first row 1. Drop rows without"),
            ([[1, 2], [0, np.nan], [0, 1]], "y: expected finite numbers"),
        ],
    )
    def test_has_counts_of_both_for_targets(self, y, message):
        bnn = wp.BNN(wp.mlp(1), wp.Binomial())
        with pytest.raises(ValueError, match=message):
            _data.checked(bnn, np.zeros((3, 1)), y)


X = RNG.normal(size=(6, 2))
Y = {"NegativeBinomial": np.array([0, 3, 1, 0, 12, 4]), "Binomial": SOME}
MODELS = {name: wp.BNN(wp.mlp(2, ()), getattr(wp, name)()) for name in Y}


@pytest.mark.parametrize("name", MODELS)
class TestTheModel:
    def test_has_numpyros_density(self, name):
        bnn, y, prior = MODELS[name], Y[name], wp.normal_prior(MODELS[name])
        with jax.enable_x64(True):
            weights = {n: jnp.asarray(RNG.normal(size=s.shape)) for n, s in bnn.sites.items()}
            theirs, _ = numpyro_density(bnn.model, (X, y), {"prior": prior}, weights)
            np.testing.assert_allclose(bnn.log_joint(weights, X, y, prior), theirs, **ROUNDING)

    def test_counts_a_row_of_weight_2_twice(self, name):
        bnn, y = MODELS[name], Y[name]
        counts = np.array([2, 0, 1, 1, 2, 1])
        rows = np.repeat(np.arange(6), counts)
        with jax.enable_x64(True):
            weights = {n: jnp.asarray(RNG.normal(size=s.shape)) for n, s in bnn.sites.items()}
            ours = density.log_likelihood(bnn, weights, X, y, counts)
            twice = density.log_likelihood(bnn, weights, X[rows], y[rows])
            np.testing.assert_allclose(ours, twice, **ROUNDING)

    def test_is_drawn_from_by_numpyro(self, name):
        bnn = MODELS[name]
        _, y = wp.simulate(bnn, X, prior=wp.normal_prior(bnn, scale=0.5))
        assert bnn.likelihood.check_target(y, 6, 1).shape == Y[name].shape
