"""A network of one's own: four members are enough, and the numbers that it holds are traced."""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.util import log_density
from scipy import stats
from sklearn.neural_network import MLPRegressor

import weightprior as wp
from shared_fits import made_fit
from weightprior.model import density
from weightprior.model.network import (
    dense_layers_of,
    describe_network,
    flatten_network,
    head_of,
    hidden_layers_of,
    unflatten_network,
)
from weightprior.model.symmetry import log_num_symmetries, symmetries

ROWS = 6
_rng = np.random.default_rng(0)
X, Y = _rng.normal(size=(ROWS, 1)), _rng.normal(size=(ROWS, 2))


class Sines:
    """Two outputs that are sums of three sines times a gain: the four members and no more."""

    sites: ClassVar = {
        "sines.amplitude": wp.Site((3, 2), ("frequency", "output"), 3, "weight", "sines"),
        "sines.offset": wp.Site((2,), ("output",), 3, "bias", "sines"),
        "gain": wp.Site((), (), None, "gain", "gain"),
    }
    num_outputs = 2
    feature_names = ("time",)

    def apply(self, weights, x):
        x = jnp.asarray(x, weights["gain"].dtype)
        waves = jnp.sin(x * jnp.arange(1, 4, dtype=x.dtype)[None, :])
        outputs = waves @ weights["sines.amplitude"] + weights["sines.offset"][None, :]
        return weights["gain"] * outputs


BNN = wp.BNN(Sines(), wp.Gaussian())
# A gain of 0 switches everything off, and a prior around it is warned of.
CENTRE = {"weight": 0.0, "bias": 0.0, "gain": 1.0}


def numbers(seed=1):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=site.shape) for name, site in BNN.sites.items()}


def in_jax(weights):
    dtype = jnp.result_type(float)
    return {name: jnp.asarray(values, dtype) for name, values in weights.items()}


def outputs(weights, frequencies=(1, 2, 3)):
    waves = np.sin(X * np.asarray(frequencies)) @ weights["sines.amplitude"]
    return weights["gain"] * (waves + weights["sines.offset"])


class TestFourMembers:
    def test_the_models_sites_are_its_own_and_the_likelihoods(self):
        assert list(BNN.sites) == [*Sines.sites, "log_noise"]
        assert BNN.sites["log_noise"].shape == (2,)

    @pytest.mark.usefixtures("strict")
    def test_the_densities_are_those_of_scipy(self, precision):
        weights = numbers()
        loc, scale = {"weight": 0.3, "bias": -0.2, "gain": 1.0}, {"sines": 0.5, "gain": 2.0}
        prior = wp.normal_prior(BNN, loc, scale, latents={"log_noise": (-0.5, 0.7)})
        centres = dict(zip(BNN.sites, (0.3, -0.2, 1.0, -0.5), strict=True))
        widths = dict(zip(BNN.sites, (0.5, 0.5, 2.0, 0.7), strict=True))
        terms = {n: stats.norm.logpdf(weights[n], centres[n], widths[n]).sum() for n in BNN.sites}
        law = stats.norm(outputs(weights), np.exp(weights["log_noise"]))
        rows = law.logpdf(Y).sum(axis=1)
        row_weights = np.array([0.0, 1.0, 2.0, 0.5, 1.0, 3.0])

        @jax.jit
        def all_of(weights):
            return {
                "outputs": density.outputs(BNN, weights, X),
                "mean": density.mean(BNN, weights, X),
                "noise": density.derived(BNN, weights)["noise"],
                "by_site": density.log_prior_by_site(BNN, weights, prior),
                "rows": density.pointwise_log_likelihood(BNN, weights, X, Y),
                "prior": BNN.log_prior(weights, prior),
                "likelihood": BNN.log_likelihood(weights, X, Y, row_weights),
                "joint": BNN.log_joint(weights, X, Y, prior),
            }

        found = all_of(in_jax(weights))
        expected = {
            "outputs": outputs(weights),
            "mean": outputs(weights),
            "noise": np.exp(weights["log_noise"]),
            "by_site": terms,
            "rows": rows,
            "prior": sum(terms.values()),
            "likelihood": row_weights @ rows,
            "joint": sum(terms.values()) + rows.sum(),
        }
        # Sums of at most some twenty terms, whose sizes add up to this.
        size = np.abs(rows).sum() * row_weights.max() + sum(map(abs, terms.values()))
        tolerance = 100 * size * np.finfo(precision).eps
        for name, value in expected.items():
            jax.tree.map(
                lambda ours, theirs: np.testing.assert_allclose(
                    ours, theirs, rtol=0, atol=tolerance
                ),
                found[name],
                value,
            )
        assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(precision)}

    def test_numpyro_has_the_same_density(self):
        prior = wp.normal_prior(BNN, CENTRE)
        with jax.enable_x64(True):

            @jax.jit
            def both(weights):
                theirs, _ = log_density(BNN.model, (X, Y), {"prior": prior}, weights)
                return BNN.log_joint(weights, X, Y, prior), theirs

            np.testing.assert_allclose(*both(in_jax(numbers())), rtol=1e-12)

    def test_draws_from_a_prior_have_its_shapes(self):
        prior = wp.normal_prior(BNN, CENTRE, scale=0.5)
        drawn = jax.eval_shape(lambda k: density.draw(BNN, k, prior, float), jax.random.key(0))
        assert {name: values.shape for name, values in drawn.items()} == {
            name: site.shape for name, site in BNN.sites.items()
        }
        weights, y = wp.simulate(BNN, X, prior=prior)
        assert list(weights) == list(BNN.sites)
        assert y.shape == (ROWS, 2)

    def test_a_number_is_for_every_site_whatever_its_kind(self):
        prior = wp.normal_prior(BNN, loc=0.3, scale=2.0)
        for name in Sines.sites:
            np.testing.assert_array_equal(prior.loc[name], np.full(Sines.sites[name].shape, 0.3))
            np.testing.assert_array_equal(prior.scale[name], np.full(Sines.sites[name].shape, 2.0))
        np.testing.assert_array_equal(prior.loc["log_noise"], [-1.0, -1.0])

    def test_sites_are_called_by_their_kinds_and_layers(self):
        by_kind = wp.normal_prior(BNN, CENTRE, scale={"weight": 0.5, "bias": np.inf, "gain": 3.0})
        by_layer = wp.normal_prior(
            BNN, CENTRE, scale={"sines": 0.5, "sines.offset": np.inf, "gain": 3.0}
        )
        for prior in (by_kind, by_layer):
            assert {name: np.unique(prior.scale[name]).tolist() for name in Sines.sites} == {
                "sines.amplitude": [0.5],
                "sines.offset": [np.inf],
                "gain": [3.0],
            }
            assert prior.flat() == ["sines.offset"]
        with pytest.raises(ValueError, match=r"got none for 'gain'.*\('weight', 'bias', 'gain'\)"):
            wp.normal_prior(BNN, CENTRE, scale={"weight": 0.5, "bias": 1.0})

    def test_scales_by_fan_in_are_those_of_its_weights(self):
        scales = wp.fan_in_scale(BNN, gain=2.0)
        assert scales == {"sines.amplitude": 2 / 3**0.5, "sines.offset": 2.0, "gain": 2.0}
        prior = wp.normal_prior(BNN, CENTRE, scale=scales)
        np.testing.assert_array_equal(prior.scale["sines.amplitude"], np.full((3, 2), 2 / 3**0.5))

    def test_groups_of_a_learned_prior_are_its_layers_and_kinds(self):
        by_layer, by_kind = (wp.hierarchical_prior(BNN, by).groups for by in ("layer", "kind"))
        assert {group: list(sites) for group, sites in by_layer.items()} == {
            "sines": ["sines.amplitude", "sines.offset"],
            "gain": ["gain"],
        }
        assert list(by_kind) == ["weight", "bias", "gain"]

    def test_a_fit_has_its_axes_and_is_read_back(self):
        weights = numbers()
        draw = {name: values[None, None] for name, values in weights.items()}
        fit = made_fit(BNN, X, Y, draw, prior=wp.normal_prior(BNN, CENTRE))
        posterior = fit["posterior"]
        assert posterior["sines.amplitude"].dims == ("chain", "draw", "frequency", "output")
        for name in BNN.sites:
            np.testing.assert_array_equal(posterior[name][0, 0], weights[name])
        predicted = wp.predict(BNN, fit, X)["mean"].to_numpy()[0, 0]
        np.testing.assert_allclose(predicted, outputs(weights), rtol=1e-9, atol=1e-12)

    def test_what_it_does_not_tell_is_not_known(self):
        network = Sines()
        for told in (hidden_layers_of, head_of, dense_layers_of):
            assert told(network) is None
        assert describe_network(network) == {"class": "Sines"}
        assert np.isnan(log_num_symmetries(symmetries(BNN, wp.normal_prior(BNN, CENTRE))))

    def test_a_reference_is_a_dict_by_its_sites_and_no_perceptron(self):
        reference = {name: numbers()[name] for name in Sines.sites}
        centers = wp.matched_centers(BNN, reference, scale=1.0)
        np.testing.assert_array_equal(centers["mirrored"].loc["gain"], 2 - reference["gain"])
        perceptron = MLPRegressor(hidden_layer_sizes=(2,), max_iter=1)
        with pytest.warns(UserWarning, match="Maximum iterations"):
            perceptron.fit(X, Y)
        with pytest.raises(ValueError, match="layers can only be matched with those of a percept"):
            wp.matched_centers(BNN, perceptron, scale=1.0)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Tuned(Sines):
    """Sines of given frequencies, which are numbers and not fitted."""

    frequencies: Any

    def apply(self, weights, x):
        x = jnp.asarray(x, weights["gain"].dtype)
        waves = jnp.sin(x * jnp.asarray(self.frequencies, x.dtype))
        return weights["gain"] * (waves @ weights["sines.amplitude"] + weights["sines.offset"])


@dataclass(frozen=True)
class Counted(Sines):
    """The same for whole multiples, which are part of the structure: hashable, and no pytree."""

    base: int

    def apply(self, weights, x):
        return Tuned(self.base * jnp.arange(1.0, 4.0)).apply(weights, x)


class Tupled(NamedTuple):
    """A pytree that nobody has to register."""

    frequencies: Any
    sites = Sines.sites
    num_outputs = 2
    feature_names = (0,)
    apply = Tuned.apply


FREQUENCIES = [np.array([1.0, 2.0, 3.0]), np.array([0.5, 2.5, 4.0]), np.array([3.0, 1.0, 0.1])]


@pytest.fixture
def compiled():
    """Names of the programs that were compiled so far."""
    names = []

    def listen(event, duration, **about):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(about["fun_name"])

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


class TestNumbersInside:
    @pytest.mark.parametrize("make", [Tuned, Tupled])
    def test_they_are_traced(self, make):
        with jax.enable_x64(True):
            prior, weights = wp.normal_prior(BNN, CENTRE), numbers()
            joint = jax.jit(lambda bnn, w: bnn.log_joint(w, X, Y, prior))
            for frequencies in FREQUENCIES:
                ours = joint(wp.BNN(make(frequencies), wp.Gaussian()), in_jax(weights))
                law = stats.norm(outputs(weights, frequencies), np.exp(weights["log_noise"]))
                priors = {n: stats.norm(prior.loc[n], prior.scale[n]) for n in weights}
                expected = sum(priors[n].logpdf(w).sum() for n, w in weights.items())
                expected += law.logpdf(Y).sum()
                np.testing.assert_allclose(ours, expected, rtol=1e-12)
        assert joint._cache_size() == 1

    def test_other_numbers_compile_nothing_in_a_fit(self, compiled):
        found = []
        for frequencies in FREQUENCIES[:2]:
            bnn = wp.BNN(Tuned(frequencies), wp.Gaussian(noise=0.5))
            fit = wp.fit_map(bnn, X, Y, prior=wp.normal_prior(bnn, CENTRE), num_restarts=2)
            predicted = wp.predict(bnn, fit, X)["mean"].to_numpy()[0, 0]
            weights = {name: fit["posterior"][name].to_numpy()[0, 0] for name in Sines.sites}
            np.testing.assert_allclose(predicted, outputs(weights, frequencies), rtol=1e-9)
            found.append(len(compiled))
        assert found[0] > 0  # they are counted
        assert compiled[found[0] :] == []

    def test_a_network_that_is_no_pytree_is_part_of_the_program(self):
        joint = jax.jit(lambda bnn, w: bnn.log_joint(w, X, Y, wp.normal_prior(BNN, CENTRE)))
        weights = in_jax(numbers())
        values = [joint(wp.BNN(Counted(base), wp.Gaussian()), weights) for base in (1, 1, 2)]
        assert values[0] == values[1] != values[2]
        assert joint._cache_size() == 2  # equal ones share it

    @pytest.mark.parametrize(
        ("network", "num_leaves"), [(Tuned(FREQUENCIES[0]), 1), (Counted(2), 0), (Sines(), 0)]
    )
    def test_it_survives_flattening(self, network, num_leaves):
        leaves, structure = flatten_network(network)
        assert len(leaves) == num_leaves
        again = unflatten_network(structure, leaves)
        assert type(again) is type(network)
        bnn = wp.BNN(network, wp.Gaussian(noise=0.5))
        leaves, structure = jax.tree.flatten(bnn)
        assert len(leaves) == num_leaves + 1
        assert hash(structure) == hash(jax.tree.structure(bnn))
        weights = {
            name: values for name, values in in_jax(numbers()).items() if name != "log_noise"
        }
        np.testing.assert_array_equal(
            jax.tree.unflatten(structure, leaves).outputs(weights, X), bnn.outputs(weights, X)
        )

    def test_its_numbers_can_be_differentiated(self):
        with jax.enable_x64(True):
            weights, prior = in_jax(numbers()), wp.normal_prior(BNN, CENTRE)

            def joint(frequencies):
                bnn = wp.BNN(Tuned(frequencies), wp.Gaussian())
                return density.log_joint(bnn, weights, X, Y, prior)

            at, step = jnp.asarray(FREQUENCIES[0]), 1e-6
            value, gradient = jax.jit(joint), jax.jit(jax.grad(joint))(at)
            differences = [
                (value(at + step * unit) - value(at - step * unit)) / (2 * step)
                for unit in np.eye(3)
            ]
        # Of central differences rounding leaves the root of the precision, and a little less.
        np.testing.assert_allclose(gradient, differences, rtol=1e-6)


def without(member):
    """A class that has all members but one."""
    names = ("sites", "num_outputs", "feature_names", "apply")
    members = {name: getattr(Sines, name) for name in names if name != member}
    return type("Incomplete", (), members)()


class TestWhatIsNone:
    @pytest.mark.parametrize("member", ["sites", "num_outputs", "feature_names", "apply"])
    def test_the_missing_member_is_named(self, member):
        with pytest.raises(TypeError, match=rf"^network: expected .*has no '{member}'\.$"):
            wp.BNN(without(member), wp.Gaussian())

    @pytest.mark.parametrize("network", [Sines, wp.MLP, None, 3, "mlp", wp.Gaussian()])
    def test_something_else_is_refused(self, network):
        with pytest.raises(TypeError, match=r"^network: expected a network, as weightprior\.mlp"):
            wp.BNN(network, wp.Gaussian())

    def test_latents_have_names_of_their_own(self):
        class Noisy(Sines):
            sites: ClassVar = {**Sines.sites, "log_noise": wp.Site((), (), None, "bias", "noise")}

        with pytest.raises(ValueError, match=r"^likelihood: expected latents.*got 'log_noise'"):
            wp.BNN(Noisy(), wp.Gaussian())
        assert "log_noise" in wp.BNN(Noisy(), wp.Gaussian(noise=1.0)).sites

    def test_a_class_is_not_an_instance(self):
        with pytest.raises(TypeError, match=r"a class: pass an instance of it\.$"):
            wp.BNN(Sines, wp.Gaussian())

    def test_it_can_be_recognised_by_a_compiled_program(self):
        @dataclass
        class Changing(Sines):
            frequencies: Any = 1.0

        with pytest.raises(TypeError, match=r"^network: expected a hashable .*register_dataclass"):
            wp.BNN(Changing(), wp.Gaussian())
        advised = jax.tree_util.register_dataclass(Changing)
        assert wp.BNN(advised(), wp.Gaussian()).sites

    def test_its_leaves_are_numbers(self):
        @jax.tree_util.register_dataclass
        @dataclass(frozen=True)
        class Worded(Sines):
            word: str = "tanh"

        with pytest.raises(TypeError, match=r"^network: expected numbers as leaves; got 'tanh'"):
            wp.BNN(Worded(), wp.Gaussian())

    @pytest.mark.parametrize("shape", [(ROWS,), (ROWS, 3), (1, 2)])
    def test_its_outputs_are_a_row_per_input_and_a_column_per_output(self, shape):
        class Odd(Sines):
            def apply(self, weights, x):
                return jnp.zeros(shape)

        bnn = wp.BNN(Odd(), wp.Gaussian())
        with pytest.raises(ValueError, match=r"^network: expected outputs of shape \(6, 2\)"):
            wp.prior_predictive(bnn, X, prior=wp.normal_prior(bnn, CENTRE))
        with pytest.raises(ValueError, match=r"^network: expected outputs of shape \(6, 2\)"):
            bnn.outputs(in_jax(numbers()), X)

    def test_its_inputs_are_its_features(self):
        with pytest.raises(ValueError, match=r"^x: expected shape \(rows, 1\)"):
            BNN.outputs(in_jax(numbers()), np.ones((3, 2)))

    def test_a_weight_without_a_fan_in_has_no_scale_by_it(self):
        class Untold(Sines):
            sites: ClassVar = {**Sines.sites, "w": wp.Site((), (), None, "weight", "w")}

        with pytest.raises(ValueError, match=r"^bnn: .*fan-in of every weight; got none for 'w'"):
            wp.fan_in_scale(wp.BNN(Untold(), wp.Gaussian()))


def test_weights_of_numpy_are_taken_in_the_precision_that_jax_has():
    weights = {name: np.asarray(values, np.float64) for name, values in numbers().items()}
    found = BNN.outputs(weights, X)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, outputs(weights), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("convention", ["torch", "keras", "sum"])
def test_a_penalty_falls_on_kinds_of_its_own_as_in_the_library(convention):
    options = {"num_obs": 10} if convention != "sum" else {}
    known = wp.BNN(Sines(), wp.Gaussian(noise=0.5))
    # Keras gives a kernel a regulariser; PyTorch decays every parameter, to 0 gains among them.
    decayed = pytest.warns(UserWarning, match="switches the layer off")
    with nullcontext() if convention == "keras" else decayed:
        prior = wp.prior_from_l2(known, 0.2, convention=convention, **options)
    assert np.isinf(prior.scale["gain"]) == (convention == "keras")
    assert np.isinf(prior.scale["sines.offset"]).all() == (convention == "keras")
    back = wp.l2_from_prior(known, prior, convention=convention, **options)
    assert back == pytest.approx(0.2, rel=1e-12)


def test_a_network_without_weights_has_a_penalty_all_the_same():
    class Level:
        sites: ClassVar = {"level": wp.Site((), (), None, "gain", "level")}
        num_outputs = 1
        feature_names = (0,)

        def apply(self, weights, x):
            return jnp.broadcast_to(weights["level"], (len(x), 1))

    bnn = wp.BNN(Level(), wp.Gaussian(noise=1.0))
    prior = wp.prior_from_l2(bnn, 4.0, loc={"gain": 1.0}, convention="sum")
    assert prior.scale["level"] == 0.5
    assert wp.l2_from_prior(bnn, prior, convention="sum") == 4.0
