"""The model: one density, whether by its parts, by NumPyro or by FBM, and NumPyro's own tools."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from numpyro.infer import MCMC, NUTS, Predictive
from numpyro.infer.inspect import get_model_relations
from numpyro.infer.util import log_density

import references
import weightprior as wp
from assertions import assert_mean, assert_sd
from oracle import LinearGaussian, from_sites, to_sites
from weightprior import _data
from weightprior.model import density

# What only tests run, once or twice, takes longer to optimise than to run.
UNOPTIMISED = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
compiled = partial(jax.jit, compiler_options=UNOPTIMISED)

DEPTHS = [(), (3,), (2, 3, 2)]
ROWS = 5
LIKELIHOODS = {
    "gaussian": (wp.Gaussian(0.5), 1),
    "gaussian_learned": (wp.Gaussian(), 1),
    "gaussian_learned_two": (wp.Gaussian(), 2),
    "student": (wp.StudentT(4.0, 0.5), 1),
    "student_learned_two": (wp.StudentT(4.0), 2),
    "heteroscedastic": (wp.HeteroscedasticGaussian(), 2),
    "bernoulli": (wp.Bernoulli(), 1),
    "bernoulli_two": (wp.Bernoulli(), 2),
    "categorical": (wp.Categorical(3), 3),
    "poisson": (wp.Poisson(), 1),
}
# Likelihoods and depths have nothing to do with each other: every one of either.
MODELS = [*((name, (3,)) for name in LIKELIHOODS), *(("gaussian", hidden) for hidden in DEPTHS)]


def model_of(name, hidden=(3,)):
    likelihood, num_outputs = LIKELIHOODS[name]
    return wp.BNN(wp.mlp(2, hidden=hidden, num_outputs=num_outputs), likelihood)


def draw_weights(bnn, seed=0):
    rng, dtype = np.random.default_rng(seed), jnp.result_type(float)
    return {
        name: jnp.asarray(rng.normal(size=site.shape), dtype) for name, site in bnn.sites.items()
    }


def data_for(bnn):
    rng = np.random.default_rng(1)
    outputs = bnn.network.num_outputs
    one_target = isinstance(bnn.likelihood, wp.HeteroscedasticGaussian | wp.Categorical)
    shape = (ROWS,) if outputs == 1 or one_target else (ROWS, outputs)
    match bnn.likelihood:
        case wp.Bernoulli():
            y = rng.integers(0, 2, shape)
        case wp.Categorical():
            y = rng.integers(0, outputs, shape)
        case wp.Poisson():
            y = rng.poisson(3, shape)
        case _:
            y = rng.normal(size=shape)
    return _data.checked(bnn, rng.normal(size=(ROWS, 2)), y)


def densities(bnn, weights, x, y, prior):
    """The log joint, its rows, and the same by the model's parts and by NumPyro."""
    joint = bnn.log_joint(weights, x, y, prior)
    rows = density.pointwise_log_likelihood(bnn, weights, x, y)
    others = [
        bnn.log_prior(weights, prior) + bnn.log_likelihood(weights, x, y),
        sum(density.log_prior_by_site(bnn, weights, prior).values()) + rows.sum(),
        log_density(bnn.model, (x, y), {"prior": prior}, weights)[0],
    ]
    return joint, rows, others


@cache
def densities_of_all(precision):
    """Those of every model; one program, which compiles sooner than as many."""
    problems = {}
    for name, hidden in MODELS:
        bnn = model_of(name, hidden)
        prior = wp.normal_prior(bnn, loc=0.3, scale=wp.fan_in_scale(bnn, gain=1.5))
        problems[name, hidden] = bnn, draw_weights(bnn), *data_for(bnn), prior
    assert jnp.result_type(float) == precision
    found = compiled(lambda given: [densities(*problem) for problem in given])([*problems.values()])
    return dict(zip(problems, found, strict=True))


@cache
def gradients_under_flat_priors():
    """Of every likelihood's model, in one program."""
    problems = {}
    for name in LIKELIHOODS:
        bnn = model_of(name)
        scale = {"weight": 1.0, "bias": np.inf, "output": np.inf}
        latents = dict.fromkeys(bnn.latents, (0.0, np.inf))
        prior = wp.normal_prior(bnn, scale=scale, latents=latents)
        problems[name] = bnn, draw_weights(bnn), *data_for(bnn), prior

    def gradient(bnn, weights, *rest):
        return jax.grad(bnn.log_joint)(weights, *rest)

    return compiled(lambda given: {name: gradient(*given[name]) for name in given})(problems)


class TestOneDensity:
    @pytest.mark.usefixtures("strict")
    @pytest.mark.parametrize(("name", "hidden"), dict.fromkeys(MODELS))
    def test_its_parts_and_numpyro_agree(self, name, hidden, precision):
        joint, rows, others = densities_of_all(precision)[name, hidden]
        assert rows.shape == (ROWS,)
        assert joint.dtype == rows.dtype == precision
        # They add up the same few dozen terms, mostly of one sign, in different orders.
        np.testing.assert_allclose(others, joint, rtol=100 * np.finfo(precision).eps)

    @pytest.mark.parametrize("name", references.NAMES)
    def test_fbm_has_the_same(self, name):
        reference = references.load_or_skip(name)
        bnn = wp.BNN(
            wp.mlp(
                reference.num_features,
                hidden=reference.hidden,
                num_outputs=reference.num_outputs,
                activation=reference.activation,
            ),
            getattr(wp, reference.likelihood)(**reference.likelihood_options),
        )
        prior = wp.normal_prior(bnn, loc=reference.prior_loc, scale=reference.prior_scale)
        x, y = _data.checked(bnn, reference.train_x, reference.train_y)
        with jax.enable_x64(True):
            both = jax.jit(lambda w: (bnn.log_prior(w, prior), bnn.log_likelihood(w, x, y)))
            states = [jax.tree.map(jnp.asarray, state) for state in reference.states]
            priors, likelihoods = zip(*map(both, states), strict=True)
        # FBM prints nine digits.
        np.testing.assert_allclose(priors, reference.state_logprior, rtol=0, atol=1e-6)
        np.testing.assert_allclose(likelihoods, reference.state_loglik, rtol=0, atol=1e-6)

    def test_takes_the_weights_of_other_libraries_in_the_precision_that_jax_has(self):
        # NumPy's are of 64 bits, which JAX would truncate with a warning for every array.
        bnn = model_of("student_learned_two")
        (x, y), prior = data_for(bnn), wp.normal_prior(bnn)
        double = {name: np.float64(w) for name, w in draw_weights(bnn).items()}
        single = {name: np.float32(w) for name, w in double.items()}
        # Traced, where they are constants, so that the weights arrive as they are.
        found = jax.jit(lambda: bnn.log_joint(double, x, y, prior))()
        assert found.dtype == np.float32
        assert found == jax.jit(lambda: bnn.log_joint(single, x, y, prior))()

    def test_minus_its_gradient_is_that_of_the_loss_and_the_l2_penalty(self):
        bnn, centre, scale, noise = model_of("gaussian"), 0.3, 0.7, 0.5
        (x, y), prior = data_for(bnn), wp.normal_prior(bnn, loc=centre, scale=scale)

        def loss(weights):
            residuals = y - bnn.network.apply(weights, x)[:, 0]
            squares = sum(jnp.sum((w - centre) ** 2) for w in weights.values())
            return jnp.sum(residuals**2) / (2 * noise**2) + squares / (2 * scale**2)

        with jax.enable_x64(True):
            weights = draw_weights(bnn)
            ours = compiled(jax.grad(bnn.log_joint))(weights, x, y, prior)
            theirs = compiled(jax.grad(loss))(weights)
        for name in bnn.sites:
            np.testing.assert_allclose(ours[name], -theirs[name], rtol=1e-10)

    @pytest.mark.parametrize("density_of", ["log_likelihood", "log_joint"])
    @pytest.mark.parametrize(
        ("row_weights", "message"),
        [
            ([1.0, -1.0], "row_weights: expected numbers of at least 0; got -1"),
            ([1.0, np.nan], "row_weights: expected finite numbers"),
            ([1.0], r"row_weights: expected shape \(2,\)"),
        ],
    )
    def test_refuses_row_weights_that_cannot_be(self, density_of, row_weights, message):
        call, prior = self.small(density_of)
        with pytest.raises(ValueError, match=f"^{message}"):
            call(np.zeros(2), *prior, row_weights=row_weights)
        with pytest.raises(ValueError, match=r"^y: expected .*; got 2"):
            call(np.array([0.0, 2.0]), *prior)

    @pytest.mark.parametrize("density_of", ["log_likelihood", "log_joint"])
    def test_reads_no_numbers_of_a_traced_program(self, density_of):
        call, prior = self.small(density_of)
        counts = np.array([2.0, 0.0])
        given = jax.jit(lambda y, c: call(y, *prior, row_weights=c))(np.zeros(2), counts)
        read = jax.jit(lambda: call(np.zeros(2), *prior, row_weights=counts))()  # constants
        np.testing.assert_allclose(given, read, rtol=1e-6)

    @staticmethod
    def small(density_of):
        """A density of a model with two weights, of targets; and its prior, where it has one."""
        bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Bernoulli())
        weights = {name: jnp.zeros(site.shape) for name, site in bnn.sites.items()}
        prior = () if density_of == "log_likelihood" else (wp.normal_prior(bnn),)
        return partial(getattr(bnn, density_of), weights, np.zeros((2, 1))), prior

    @pytest.mark.parametrize("name", LIKELIHOODS)
    def test_flat_sites_leave_a_finite_gradient(self, name):
        for gradient in gradients_under_flat_priors()[name].values():
            assert np.all(np.isfinite(gradient))
            assert np.any(gradient != 0)  # the data still pull

    def test_weights_decide_the_precision(self):
        with jax.enable_x64(True):
            bnn = model_of("gaussian_learned_two")
            weights = {name: jnp.ones(s.shape, jnp.float32) for name, s in bnn.sites.items()}
            value = jax.jit(bnn.log_joint)(weights, *data_for(bnn), wp.normal_prior(bnn))
        assert value.dtype == jnp.float32

    def test_new_numbers_compile_nothing(self):
        joint = jax.jit(lambda bnn, *arguments: bnn.log_joint(*arguments))
        values = set()
        for noise, scale in [(0.5, 1.0), (2, np.inf), (np.float64(0.1), 3)]:
            bnn = wp.BNN(wp.mlp(2, hidden=(3,)), wp.Gaussian(noise))
            prior = wp.normal_prior(bnn, loc=noise, scale=scale)
            values.add(joint(bnn, draw_weights(bnn), *data_for(bnn), prior).item())
        assert len(values) == 3
        assert joint._cache_size() == 1


class TestTargets:
    @pytest.mark.parametrize("name", LIKELIHOODS)
    def test_a_row_is_one_observation(self, name):
        bnn = model_of(name)
        weights, (x, y) = draw_weights(bnn), data_for(bnn)
        targets = jax.eval_shape(partial(density.targets, bnn), weights, x)
        assert targets.batch_shape == (ROWS,)
        assert targets.batch_shape + targets.event_shape == y.shape

    @pytest.mark.parametrize("name", LIKELIHOODS)
    def test_the_mean_is_the_likelihoods(self, name):
        bnn = model_of(name)
        weights, (x, _) = draw_weights(bnn), data_for(bnn)
        outputs = bnn.network.apply(weights, x)
        expected = bnn.likelihood.mean(outputs, weights)
        # Computed alike, but in one compiled program.
        np.testing.assert_allclose(
            jax.jit(partial(density.mean, bnn))(weights, x), expected, rtol=1e-5, atol=1e-6
        )


class TestNumPyro:
    def test_its_handlers_see_every_site(self):
        bnn = model_of("gaussian_learned_two")
        x, y = data_for(bnn)
        given = numpyro.handlers.substitute(bnn.model, draw_weights(bnn))
        trace = numpyro.handlers.trace(given).get_trace(x, y, prior=wp.normal_prior(bnn))
        kinds = {name: site["type"] for name, site in trace.items()}
        assert kinds == dict.fromkeys((*bnn.sites, "y"), "sample") | {
            "noise": "deterministic",
            "obs_id": "plate",
        }
        for name, site in bnn.sites.items():
            assert trace[name]["fn"].shape() == site.shape
            assert not trace[name]["is_observed"]
        assert trace["y"]["is_observed"]
        np.testing.assert_allclose(trace["y"]["value"], y, rtol=1e-6)
        assert [frame.name for frame in trace["y"]["cond_indep_stack"]] == ["obs_id"]

    @pytest.mark.parametrize(
        ("name", "hidden"),
        [
            ("gaussian", (3,)),
            ("gaussian_learned_two", ()),
            ("bernoulli_two", ()),
            ("categorical", ()),
            ("poisson", ()),
        ],
    )
    def test_predictive_draws_from_the_prior(self, name, hidden):
        bnn = model_of(name, hidden)
        x, y = data_for(bnn)
        draws = Predictive(bnn.model, num_samples=4)(
            jax.random.key(0), x, prior=wp.normal_prior(bnn)
        )
        for site in bnn.sites:
            assert draws[site].shape == (4, *bnn.sites[site].shape)
        assert ("noise" in draws) == ("log_noise" in bnn.sites)
        assert draws["y"].shape == (4, *y.shape)
        assert _data.checked(bnn, x, draws["y"][0])[1].shape == y.shape

    def test_predictive_draws_targets_around_the_means_of_given_weights(self):
        bnn = wp.BNN(wp.mlp(2, hidden=(3,), num_outputs=2), wp.Gaussian(noise=1e-4))
        x, _ = data_for(bnn)
        parts = [draw_weights(bnn, seed) for seed in range(3)]
        weights = jax.tree.map(lambda *arrays: jnp.stack(arrays), *parts)
        drawn = Predictive(bnn.model, weights)(jax.random.key(0), x, prior=wp.normal_prior(bnn))[
            "y"
        ]
        means = jnp.stack([density.mean(bnn, part, x) for part in parts])
        # Thirty draws of a normal stay within six sd but for one time in 10^7.
        np.testing.assert_allclose(drawn, means, rtol=0, atol=6e-4)

    def test_every_site_leads_to_the_targets(self):
        bnn = model_of("gaussian_learned")
        x, y = data_for(bnn)
        relations = get_model_relations(bnn.model, (x, y), {"prior": wp.normal_prior(bnn)})
        assert set(relations["sample_sample"]["y"]) == set(bnn.sites)
        assert relations["plate_sample"] == {"obs_id": ["y"]}
        assert relations["observed"] == ["y"]

    def test_it_can_be_drawn(self):
        pytest.importorskip("graphviz")
        bnn = model_of("gaussian_learned")
        graph = numpyro.render_model(bnn.model, data_for(bnn), {"prior": wp.normal_prior(bnn)})
        assert all(name in graph.source for name in (*bnn.sites, "y"))

    @pytest.mark.slow
    def test_its_nuts_samples_the_closed_form_with_a_flat_bias_as_well(self):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(12, 2))
        y = x @ [1.0, -0.5] + 0.3 + rng.normal(size=12)
        loc, scale = [0.5, -1.0, 2.0], [0.4, 0.8, np.inf]
        exact = LinearGaussian(x, y, 1.0, loc, scale)
        bnn = wp.BNN(wp.mlp(2, hidden=()), wp.Gaussian(noise=1.0))
        prior = wp.normal_prior(bnn, to_sites(loc), to_sites(scale))
        mcmc = MCMC(
            NUTS(bnn.model),
            num_warmup=300,
            num_samples=1000,
            num_chains=2,
            chain_method="vectorized",
            progress_bar=False,
        )
        mcmc.run(jax.random.key(0), x, y, prior=prior)
        draws = from_sites(mcmc.get_samples(group_by_chain=True))
        assert_mean(draws, exact.mean)
        assert_sd(draws, exact.sd)


def test_sites_are_the_networks_and_the_likelihoods():
    bnn = model_of("gaussian_learned_two")
    assert list(bnn.sites) == [*bnn.network.sites, "log_noise"]
    assert bnn.sites["log_noise"].shape == (2,)
    assert model_of("gaussian").sites == model_of("gaussian").network.sites


def test_a_model_survives_flattening():
    for name in LIKELIHOODS:
        bnn = model_of(name)
        leaves, structure = jax.tree.flatten(bnn)
        assert jax.tree.unflatten(structure, leaves) == bnn
        assert hash(structure) == hash(jax.tree.structure(model_of(name)))
