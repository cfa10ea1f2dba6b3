"""A likelihood and a network of one's own, each written here alone, go everywhere that ours go."""

import re
from dataclasses import dataclass
from functools import cache, partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from jax.flatten_util import ravel_pytree
from scipy import stats

import weightprior as wp


@dataclass(frozen=True)
class SkewedNoise(wp.Likelihood):
    """Logistic noise, whose distribution function has a power: scale and skewness are learned."""

    def latents(self, num_outputs):
        return {
            "log_spread": wp.Latent(prior=(-1.0, 0.7), derived="spread"),
            "skew": wp.Latent(prior=(0.0, 0.5), derived="skewness", natural=jnp.tanh),
        }

    def distribution(self, output, weights):
        location, spread = output[:, 0], jnp.exp(weights["log_spread"])
        power = jnp.exp(2 * weights["skew"])
        return _Skewed(location, jnp.broadcast_to(spread, location.shape), power)


class _Skewed(dist.Distribution):
    """P(y <= location + spread * z) = (1 + exp(-z)) ** -power."""

    support = dist.constraints.real
    pytree_data_fields = ("location", "spread", "power")

    def __init__(self, location, spread, power):
        self.location, self.spread, self.power = location, spread, power
        super().__init__(batch_shape=location.shape, validate_args=False)

    def _standard(self, value):
        z = (value - self.location) / self.spread
        return z, jax.nn.softplus(-z)

    def log_prob(self, value):
        z, above = self._standard(value)
        return jnp.log(self.power) - jnp.log(self.spread) - z - (self.power + 1) * above

    def cdf(self, value):
        return jnp.exp(-self.power * self._standard(value)[1])

    def sample(self, key, sample_shape=()):
        shape, dtype = (*sample_shape, *self.batch_shape), self.location.dtype
        exponential = jax.random.exponential(key, shape, dtype) / self.power
        return self.location - self.spread * jnp.log(jnp.expm1(exponential))


class Waves:
    """Sines of a learned frequency, beside a slope: a network that tells nothing but the least."""

    sites: ClassVar = {
        "frequency": wp.Site((2,), ("wave",), 1, "weight", "waves"),
        "amplitude": wp.Site((2,), ("wave",), 2, "weight", "waves"),
        "slope": wp.Site((), (), 1, "weight", "line"),
    }
    num_outputs = 1
    feature_names = ("time",)

    def apply(self, weights, x):
        x = jnp.asarray(x, weights["slope"].dtype)
        waves = jnp.sin(x * weights["frequency"]) @ weights["amplitude"]
        return (waves + weights["slope"] * x[:, 0])[:, None]


_rng = np.random.default_rng(0)
X = np.linspace(-1.5, 1.5, 30)[:, None]
Y = np.sin(2 * X[:, 0]) + 0.3 * np.sinh(np.arcsinh(_rng.normal(size=30)) + 0.3)
MODELS = {
    "own network": wp.BNN(Waves(), SkewedNoise()),
    "own network, our likelihood": wp.BNN(Waves(), wp.Gaussian()),
    "our network": wp.BNN(wp.mlp(1, hidden=(3,)), SkewedNoise()),
}
_chains = {"num_warmup": 60, "num_samples": 60, "num_chains": 2}
FITS = {
    "map": (wp.fit_map, {"num_restarts": 3}),
    "hmc": (wp.fit_mcmc, _chains),
    "nuts": (wp.fit_mcmc, {**_chains, "kernel": "nuts"}),
    "mclmc": (wp.fit_mcmc, {**_chains, "kernel": "mclmc"}),
    "laplace": (wp.fit_laplace, {"num_samples": 4000, "num_restarts": 3}),
    "vi": (wp.fit_vi, {"num_steps": 200, "num_samples": 120}),
    "tempered": (wp.fit_tempered, {"num_temperatures": 4, "num_samples": 30, "num_chains": 4}),
    "ensemble": (wp.fit_ensemble, {"num_members": 3}),
}
# One that samples, one that approximates and one point go first; the others at leisure.
AT_LEISURE = ("nuts", "mclmc", "ensemble", "vi", "tempered")
pytestmark = pytest.mark.filterwarnings("ignore:fit_vi. far:UserWarning")


@cache
def prior_of(name):
    bnn = MODELS[name]
    single = wp.normal_prior(bnn, scale=0.8)
    return wp.stack_priors({"zero": single, "moved": wp.normal_prior(bnn, loc=0.3, scale=0.8)})


@cache
def fitted(name, method):
    fit, options = FITS[method]
    return fit(MODELS[name], X, Y, prior=prior_of(name), rng_key=1, **options)


def cases():
    for name in MODELS:
        for method in FITS:
            slow = method in AT_LEISURE or name != "own network"
            marks = [pytest.mark.slow] if slow else []
            yield pytest.param(name, method, marks=marks, id=f"{name}, {method}")


@pytest.mark.parametrize(("name", "method"), [*cases()])
class TestEveryFit:
    def test_it_is_read_scored_and_saved(self, name, method, tmp_path):
        bnn, fit = MODELS[name], fitted(name, method)
        fit.to_netcdf(tmp_path / "fit.nc")
        with xr.open_datatree(tmp_path / "fit.nc") as read:
            read = read.load()
        predicted = wp.predict(bnn, read, X)
        assert np.isfinite(predicted["y"]).all()
        xr.testing.assert_identical(predicted, wp.predict(bnn, fit, X))
        scores = wp.score(bnn, read, X, Y)
        assert np.isfinite(scores["elpd_i"]).all()
        assert ((scores["coverage"] >= 0) & (scores["coverage"] <= 1)).all()
        posterior, told = read["posterior"].dataset, bnn.latents
        for latent_name, latent in told.items():
            natural = latent.natural(posterior[latent_name].to_numpy().astype(float))
            np.testing.assert_allclose(posterior[latent.derived], natural, rtol=1e-6)

    def test_it_stands_in_the_table(self, name, method):
        bnn, fit = MODELS[name], fitted(name, method)
        table = wp.compare(bnn, {method: fit}, X, Y)
        assert table.index.tolist() == [f"{method}[zero]", f"{method}[moved]"]
        for column in ("lpd_train", "lpd_test", "rmse", "norm"):
            assert np.isfinite(table[column]).all()
        drawn = method not in ("map", "ensemble")
        assert table["elpd_loo"].notna().all() == drawn


@pytest.mark.parametrize(
    "method", ["laplace", *(pytest.param(n, marks=pytest.mark.slow) for n in ("vi", "tempered"))]
)
def test_it_has_an_evidence(method):
    found = wp.log_evidence(fitted("own network", method))
    assert np.isfinite(found["log_evidence"]).all()
    assert (found["reason"].str.len() > 0).any() or method == "tempered"
    if method == "laplace":
        assert "of unknown number" in found["reason"][0].item()


def test_it_is_cross_validated_and_coded():
    bnn = MODELS["own network"]
    found = wp.cross_validate(bnn, X, Y, prior=prior_of("own network"), num_folds=3)
    assert np.isfinite(found["elpd_i"]).all()
    code = wp.two_part_code(bnn, fitted("own network", "map"))
    assert code["layer"].to_numpy().tolist() == ["waves", "line", "log_spread", "skew"]
    assert (code["bits"] > 0).all()


def test_leave_one_out_is_arvizs():
    table = wp.compare(MODELS["own network"], {"hmc": fitted("own network", "hmc")})
    assert np.isfinite(table["elpd_loo"]).all()


@cache
def exact_precisions():
    """A mode, and the two matrices there by name, in the order of the sites.

    The Gauss-Newton matrix is the Hessian of minus the log joint density of the model that is
    linear in the network's weights, latents and all.
    """
    bnn, fit = MODELS["own network"], fitted("own network", "map")
    prior, restarts = prior_of("own network").singles()[0], fit["restarts"].sel(prior="zero")
    mode = {name: restarts[name][0].to_numpy() for name in bnn.sites}

    def joint(vector, around, linear):
        weights, at = unravel(vector), unravel(around)
        moved = {name: w - at[name] for name, w in weights.items()}
        output, slope = jax.jvp(lambda w: bnn.network.apply(w, X), (at,), (moved,))
        if not linear:
            output, slope = bnn.network.apply(weights, X), 0.0
        law = bnn.likelihood.distribution(output + slope, weights)
        terms = [((w - prior.loc[n]) / prior.scale[n]) ** 2 for n, w in weights.items()]
        return 0.5 * sum(t.sum() for t in terms) - law.log_prob(jnp.asarray(Y)).sum()

    @jax.jit
    def hessians(vector):
        ggn, hessian = (
            jax.hessian(partial(joint, around=vector, linear=linear))(vector)
            for linear in (True, False)
        )
        return {"ggn": ggn, "hessian": hessian}

    with jax.enable_x64(True):
        vector, unravel = ravel_pytree(mode)
        names, _ = ravel_pytree({n: np.full(w.shape, i) for i, (n, w) in enumerate(mode.items())})
        return jax.device_get(hessians(vector)), np.asarray(names), list(mode)


@pytest.mark.parametrize("curvature", ["ggn", "hessian"])
def test_laplace_sds_of_weights_and_latents_are_those_of_the_exact_matrix(curvature):
    num_samples, bnn = FITS["laplace"][1]["num_samples"], MODELS["own network"]
    fit, prior = fitted("own network", "laplace"), prior_of("own network")
    if curvature == "hessian":
        options = FITS["laplace"][1] | {"curvature": curvature}
        fit = wp.fit_laplace(bnn, X, Y, prior=prior, rng_key=1, **options)
    matrices, numbers, names = exact_precisions()
    sds = np.sqrt(np.diagonal(np.linalg.inv(matrices[curvature])))
    # The sd of normal draws is off by its relative standard error, one over the root of 2 n; at a
    # false alarm of 1e-6 in all.
    limit = stats.norm.isf(1e-6 / (4 * sds.size)) / np.sqrt(2 * num_samples)
    for index, name in enumerate(names):
        expected = sds[numbers == index]
        drawn = fit["posterior"][name].sel(prior="zero").to_numpy()[0].std(axis=0, ddof=1).ravel()
        assert np.all(np.abs(drawn / expected - 1) < limit)
        if name in bnn.latents:
            assert expected < 0.8 * prior.scale[name][0]  # the data say something


def test_what_it_does_not_tell_is_said_in_a_sentence():
    bnn, fit = MODELS["own network"], fitted("own network", "map")
    for diagnose in (
        lambda: wp.diagnostics.align(bnn, fit),
        lambda: wp.diagnostics.saturation(bnn, fit, X),
        lambda: wp.diagnostics.unit_ablation(bnn, fit, X, Y),
    ):
        with pytest.raises(ValueError, match="bnn: expected a network that describes its hidden"):
            diagnose()
    with pytest.raises(ValueError, match="structure: expected 'full' or 'diagonal'"):
        wp.fit_laplace(bnn, X, Y, prior=prior_of("own network"), structure="last_layer")
    # What needs no units has its answer.
    found = wp.diagnostics.nonlinearity(bnn, fit, X)
    assert np.isfinite(found["lipschitz"]).all()
    assert np.isfinite(wp.diagnostics.effective_parameters(bnn, fit, X, Y)["gamma"]).all()
    assert np.isfinite(wp.diagnostics.contraction(bnn, fit)["distance_by_layer"]).all()


def test_a_noise_that_is_given_moves_none_of_its_other_latents():
    @dataclass(frozen=True)
    class Drifting(wp.Gaussian):
        def latents(self, num_outputs):
            return {**super().latents(num_outputs), "drift": wp.Latent(prior=(0.3, 0.2))}

    bnn = wp.BNN(wp.mlp(1), Drifting())
    prior = wp.prior_from_l2(bnn, 0.1, convention="sum", noise=0.5)
    assert (prior.loc["drift"], prior.scale["drift"]) == (0.3, 0.2)
    assert (prior.loc["log_noise"], prior.scale["log_noise"]) == (np.log(0.5), 1.0)


@pytest.mark.parametrize("convention", ["sum", "torch"])
def test_a_squared_error_without_a_noise_of_its_own_is_told_one(convention):
    @dataclass(frozen=True)
    class Unit(wp.Likelihood):
        loss: ClassVar = "squared error"

        def distribution(self, output, weights):
            return dist.Normal(output[:, 0], 1.0)

    bnn, options = wp.BNN(wp.mlp(1), Unit()), {"convention": convention, "num_obs": 10}
    with pytest.raises(ValueError, match=r"^noise: expected the .*Unit\(\) learns"):
        wp.prior_from_l2(bnn, 0.1, **options)
    own, ours = (
        wp.prior_from_l2(model, 0.1, noise=0.5, **options)
        for model in (bnn, wp.BNN(bnn.network, wp.Gaussian(noise=0.5)))
    )
    for name in bnn.sites:
        np.testing.assert_array_equal(own.scale[name], ours.scale[name])


def test_a_posterior_of_it_is_a_prior():
    bnn, fit = MODELS["own network"], fitted("own network", "laplace")
    prior = wp.posterior_as_prior(bnn, wp.unstack_fit(fit)["zero"], widen=2.0)
    assert all(np.all(scale > 0) for scale in prior.scale.values())


class Module:
    """As libraries of networks have it."""

    def __call__(self, x):
        return x @ jnp.ones((1, 1))

    def state_dict(self):
        return {"0.weight": np.ones((1, 1)), "0.bias": np.zeros(1)}


@dataclass(frozen=True)
class Wrapped:
    """What the message asks for."""

    num_outputs: int = 1
    feature_names: tuple[int, ...] = (0,)

    @property
    def sites(self):
        return {"output.weight": wp.Site((1, 1), ("feature", "output"), 1, "weight", "output")}

    def apply(self, weights, x):
        return jnp.asarray(x, weights["output.weight"].dtype) @ weights["output.weight"]


def test_a_module_is_advised_to_be_wrapped():
    with pytest.raises(TypeError, match=r"^network: expected .*For a module, write a class with"):
        wp.BNN(Module(), wp.Gaussian())
    bnn = wp.BNN(Wrapped(), wp.Gaussian())
    assert bnn.outputs({"output.weight": np.ones((1, 1))}, [[2.0]]).tolist() == [[2.0]]


def test_a_trained_network_is_a_centre_and_one_without_weights_is_refused():
    bnn = wp.BNN(wp.mlp(1, ()), wp.Gaussian(1.0))
    neural_network = pytest.importorskip("sklearn.neural_network")
    regressor = neural_network.MLPRegressor(hidden_layer_sizes=(), max_iter=2)
    regressor.coefs_, regressor.intercepts_ = [np.ones((1, 1))], [np.zeros(1)]
    assert wp.normal_prior(bnn, loc=regressor).loc["output.weight"] == 1.0
    with pytest.raises(TypeError, match=r"^loc: expected arrays; got a module of PyTorch") as told:
        wp.normal_prior(bnn, loc=Module())
    call = re.search(r"Pass its (.*)\.$", str(told.value))[1]
    prior = wp.normal_prior(bnn, loc=eval(f"module.{call}", {"module": Module()}))
    assert prior.loc["output.weight"] == 1.0
    with pytest.raises(TypeError, match=r"^loc: .*; got MLP, which holds no weights"):
        wp.normal_prior(bnn, loc=bnn.network)
