"""Networks of other libraries compute what they compute there, and what `mlp` computes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import networks
import weightprior as wp
from networks import PARAMS, Linen, Perceptron, Residual
from problems import NET
from shared_fits import made_fit, random_weights

# Sites of `mlp(2, (3,))`, and whether the weights stand the other way round.
LIBRARIES = {
    "nnx": (
        lambda: wp.network(Perceptron(), 2, readout="out"),
        "inner.kernel inner.bias out.kernel out.bias",
        False,
    ),
    "linen": (
        lambda: wp.network(Linen(), 2, readout="out"),
        "inner.kernel inner.bias out.kernel out.bias",
        False,
    ),
    "equinox": (
        lambda: wp.network(networks.equinox(), 2, readout="layers.1"),
        "layers.0.weight layers.0.bias layers.1.weight layers.1.bias",
        True,
    ),
    "function": (
        lambda: wp.network(networks.function, 2, params=PARAMS, readout="out"),
        "inner.weight inner.bias out.weight out.bias",
        False,
    ),
}
every_library = pytest.mark.parametrize("library", LIBRARIES)


def of(library):
    """Return the network, and how weights of `mlp` become its own."""
    make, names, turned = LIBRARIES[library]
    own = dict(zip(NET.bnn.network.sites, names.split(), strict=True))

    def translate(weights):
        return {
            own.get(name, name): values.T if turned and values.ndim == 2 else values
            for name, values in weights.items()
        }

    return make(), translate


def drawn(seed=0):
    rng = np.random.default_rng(seed)
    return {n: rng.normal(size=site.shape) for n, site in NET.bnn.network.sites.items()}


@every_library
def test_density_and_gradient_are_those_of_mlp(library):
    network, translate = of(library)
    bnn = wp.BNN(network, wp.Gaussian(noise=0.5))
    with jax.enable_x64(True):
        weights = {n: jnp.asarray(v) for n, v in drawn().items()}

        def density(model, given):
            return model.log_joint(given, NET.x, NET.y, wp.normal_prior(model, scale=0.7))

        value, gradient = jax.value_and_grad(lambda w: density(NET.bnn, w))(weights)
        found, slopes = jax.value_and_grad(lambda w: density(bnn, w))(translate(weights))
    np.testing.assert_allclose(found, value, rtol=1e-13)
    for name, expected in translate(gradient).items():
        np.testing.assert_allclose(slopes[name], expected, rtol=1e-10, atol=1e-12)


@every_library
def test_its_last_layer_is_found(library):
    network, translate = of(library)
    with jax.enable_x64(True):
        weights = {n: jnp.asarray(v) for n, v in drawn().items()}
        expected = NET.bnn.network.head.inputs(weights, jnp.asarray(NET.x))
        found = network.head.inputs(translate(weights), jnp.asarray(NET.x))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@every_library
def test_sites_tell_kind_and_fan_in(library):
    network, translate = of(library)
    expected = translate({n: np.array(s.fan_in) for n, s in NET.bnn.network.sites.items()})
    for name, site in network.sites.items():
        is_bias = name.endswith("bias")
        assert site.kind == ("bias" if is_bias else "weight")
        assert site.fan_in == (None if is_bias else expected[name])


@pytest.mark.parametrize("make", [Perceptron, Residual])
def test_module_gives_back_the_users_own_with_other_weights(make):
    trained, network = make(seed=1), wp.network(make(), 2)
    prior = wp.normal_prior(wp.BNN(network, wp.Gaussian()), loc=trained)
    own = network.module({name: prior.loc[name] for name in network.sites})
    assert type(own) is make
    x = NET.x.astype(np.float32)
    np.testing.assert_array_equal(own(x), trained(x))


def test_module_takes_a_fit():
    network, _ = of("function")
    bnn = wp.BNN(network, wp.Gaussian(noise=0.5))
    fit = wp.fit_map(bnn, NET.x, NET.y, prior=wp.normal_prior(bnn))
    params = network.module(fit)
    assert params["out"]["weight"].dtype == PARAMS["out"]["weight"].dtype
    with jax.enable_x64(True):
        outputs = networks.function(params, NET.x)[:, 0]
    found = wp.predict(bnn, fit, NET.x)["mean"].to_numpy().ravel()
    np.testing.assert_allclose(found, outputs, rtol=1e-12)


class Relu(Perceptron):
    def __call__(self, x):
        return self.out(jax.nn.relu(self.hidden(x)))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("library", ["nnx", "equinox"])
def test_a_centre_that_is_another_function_here_is_told(library):
    if library == "nnx":
        trained = Relu(seed=3)
    else:
        trained = eqx.nn.MLP(2, 1, 3, 1, activation=jax.nn.relu, key=jax.random.key(3))
    with pytest.warns(UserWarning, match="^loc: .*with other outputs") as told:
        wp.normal_prior(NET.bnn, loc=trained)
    assert len(told) == 1
    # As the message says.
    same = wp.mlp(2, (3,), activation="relu")
    for network in (same, wp.network(trained, 2)):
        assert wp.normal_prior(wp.BNN(network, wp.Gaussian()), loc=trained).loc


class Training(Perceptron):
    """Drops half of its units, as long as it is trained."""

    def __init__(self):
        super().__init__(seed=3)
        self.drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.out(self.drop(jnp.tanh(self.hidden(x))))


class Named(Perceptron):
    def __call__(self, x):
        return {"mean": super().__call__(x), "rows": len(x)}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("make", [Training, Named, Perceptron])
def test_a_centre_that_is_the_same_function_or_tells_none_is_silent(make):
    assert wp.normal_prior(NET.bnn, loc=make()).loc


def test_a_difference_beside_a_large_constant_is_told():
    module = Relu(seed=3)
    module.out.bias[...] = jnp.full(1, 1000.0)
    with pytest.warns(UserWarning, match="with other outputs"):
        wp.normal_prior(NET.bnn, loc=module)


@pytest.mark.parametrize("library", ["nnx", "equinox", "linen"])
def test_a_trained_network_is_a_centre_of_mlp(library):
    x = jnp.asarray(NET.x, jnp.float32)
    trained, outputs = {
        "nnx": lambda: ((net := Perceptron(seed=3)), net(x)),
        "equinox": lambda: ((net := networks.equinox(3)), jax.vmap(net)(x)),
        "linen": lambda: ((params := Linen().init(jax.random.key(3), x)), Linen().apply(params, x)),
    }[library]()
    prior = wp.normal_prior(NET.bnn, loc=trained)
    own = {name: jnp.asarray(prior.loc[name], jnp.float32) for name in NET.bnn.sites}
    np.testing.assert_allclose(NET.bnn.outputs(own, x), outputs, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
def test_its_optimum_and_predictions_are_those_of_mlp(library):
    network, translate = of(library)
    bnn = wp.BNN(network, wp.Gaussian(noise=0.5))
    search = {"num_restarts": 1, "tolerance": 1e-8}
    start = drawn()
    ours = wp.fit_map(
        bnn, NET.x, NET.y, prior=wp.normal_prior(bnn), init=translate(start), **search
    )
    theirs = wp.fit_map(NET.bnn, NET.x, NET.y, prior=NET.prior(), init=start, **search)
    assert ours["restarts"]["lp"].item() == pytest.approx(theirs["restarts"]["lp"].item())
    expected = wp.predict(NET.bnn, theirs, NET.x)["mean"].to_numpy()
    # A gradient of 1e-8 leaves the optimum that far from the exact one, in prior sds, and less.
    np.testing.assert_allclose(wp.predict(bnn, ours, NET.x)["mean"], expected, atol=1e-6)


def relu(params, x):
    hidden = jax.nn.relu(x @ params["inner"]["weight"] + params["inner"]["bias"])
    return hidden @ params["out"]["weight"] + params["out"]["bias"]


def test_a_changed_function_under_a_fit_is_noticed():
    network, _ = of("function")
    bnn = wp.BNN(network, wp.Gaussian(noise=0.5))
    fit = made_fit(bnn, NET.x, NET.y, random_weights(bnn, np.random.default_rng(0), (1, 5)))
    changed = wp.BNN(wp.network(relu, 2, params=PARAMS), wp.Gaussian(noise=0.5))
    with pytest.raises(ValueError, match="fit: expected one of this model"):
        wp.predict(changed, fit, NET.x)


def test_another_value_of_what_is_fixed_is_noticed():
    def held(seed):
        model = Perceptron(seed=seed)
        return wp.BNN(wp.network(model, 2, fixed={"inner": model.inner}), wp.Gaussian(noise=0.5))

    bnn = held(1)
    fit = made_fit(bnn, NET.x, NET.y, random_weights(bnn, np.random.default_rng(0), (1, 5)))
    assert wp.predict(held(1), fit, NET.x).sizes["obs_id"] == len(NET.x)
    with pytest.raises(ValueError, match="fit: expected one of this model"):
        wp.predict(held(2), fit, NET.x)


def test_a_state_of_nnx_is_a_centre():
    network, _ = of("nnx")
    bnn, trained = wp.BNN(network, wp.Gaussian(noise=0.5)), Perceptron(seed=3)
    by_module, by_state = (
        wp.normal_prior(bnn, loc=given) for given in (trained, networks.nnx.state(trained))
    )
    for name in bnn.sites:
        np.testing.assert_array_equal(by_state.loc[name], by_module.loc[name])
