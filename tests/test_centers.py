"""Where priors sit: what each centre keeps of the reference, and every form of a reference."""

import jax
import numpy as np
import pytest
import scipy
from sklearn.neural_network import MLPClassifier, MLPRegressor

import weightprior as wp
from weightprior.adapters import reference_weights

BNN = wp.BNN(wp.mlp(3, (4, 4)), wp.Gaussian())
NETWORK = list(BNN.network.sites)
_rng = np.random.default_rng(0)
WEIGHTS = {name: _rng.normal(size=BNN.sites[name].shape) for name in NETWORK}
SCALE = {"weight": 0.3, "bias": np.inf}


def outputs(bnn, weights, x):
    with jax.enable_x64(True):
        return np.asarray(bnn.network.apply(weights, x))


class TestMatchedCenters:
    centers = wp.matched_centers(BNN, WEIGHTS, scale=SCALE, rng_key=1)

    def test_all_have_one_scale(self):
        for name, scales in self.centers.scale.items():
            expected = wp.normal_prior(BNN, scale=SCALE).scale[name]
            np.testing.assert_array_equal(scales, np.broadcast_to(expected, scales.shape))

    @pytest.mark.parametrize("name", NETWORK)
    def test_each_keeps_of_the_reference_what_it_says(self, name):
        loc = {label: self.centers[label].loc[name] for label in self.centers.labels}
        reference = WEIGHTS[name]
        np.testing.assert_array_equal(loc["zero"], 0.0)
        np.testing.assert_array_equal(loc["reference"], reference)
        np.testing.assert_array_equal(loc["mirrored"], -reference)
        np.testing.assert_array_equal(np.sort(loc["permuted"], None), np.sort(reference, None))
        lengths = [np.linalg.norm(loc[label]) for label in ("random", "reference")]
        np.testing.assert_allclose(*lengths, rtol=1e-12)
        if reference.size > 4:
            assert not np.array_equal(loc["permuted"], reference)
            assert abs(np.vdot(loc["random"], reference)) < 0.99 * np.vdot(reference, reference)

    def test_the_noise_is_centred_alike_in_all(self):
        np.testing.assert_array_equal(self.centers.loc["log_noise"], -1.0)
        known = WEIGHTS | {"log_noise": -3.0}
        centers = wp.matched_centers(BNN, known, scale=1.0)
        np.testing.assert_array_equal(centers.loc["log_noise"], -3.0)

    def test_the_key_decides(self):
        same, other = (wp.matched_centers(BNN, WEIGHTS, scale=1.0, rng_key=k) for k in (1, 2))
        for label, differs in (("random", True), ("permuted", True), ("reference", False)):
            mine, theirs, ours = (
                p[label].loc["hidden_0.weight"] for p in (same, other, self.centers)
            )
            np.testing.assert_array_equal(mine, ours)
            assert np.array_equal(mine, theirs) != differs
        as_key = wp.matched_centers(BNN, WEIGHTS, scale=1.0, rng_key=jax.random.key(1))
        np.testing.assert_array_equal(as_key.loc["hidden_0.weight"], same.loc["hidden_0.weight"])

    def test_a_reference_of_zeros_is_no_trouble(self):
        zeros = {name: np.zeros_like(array) for name, array in WEIGHTS.items()}
        centers = wp.matched_centers(BNN, zeros, scale=1.0)
        assert all((centers.loc[name] == 0).all() for name in NETWORK)


class TestCenterPath:
    def test_goes_from_zero_to_the_reference_and_beyond(self):
        path = wp.center_path(BNN, WEIGHTS, [0, 0.5, 1, 1.5], scale=SCALE)
        assert path.labels == (0.0, 0.5, 1.0, 1.5)
        for fraction in path.labels:
            for name in NETWORK:
                expected = fraction * WEIGHTS[name]
                np.testing.assert_array_equal(path[fraction].loc[name], expected)
        np.testing.assert_array_equal(path.loc["log_noise"], -1.0)

    @pytest.mark.parametrize(
        ("fractions", "error"),
        [
            ([], ValueError),
            ([0.0, 0.0], ValueError),
            (0.5, ValueError),
            ([np.nan], ValueError),
            (["half"], TypeError),
            ([[0.0], [1.0]], ValueError),
        ],
    )
    def test_fractions_that_cannot_be(self, fractions, error):
        with pytest.raises(error, match="fractions: expected"):
            wp.center_path(BNN, WEIGHTS, fractions, scale=1.0)


class TestReferences:
    x = _rng.normal(size=(30, 3))

    def assert_found(self, reference, expected=None):
        found = reference_weights(BNN, reference)
        for name in NETWORK:
            np.testing.assert_array_equal(found[name], (expected or WEIGHTS)[name])

    @pytest.mark.slow
    def test_a_fit_stands_for_its_posterior_mean(self):
        fit = wp.fit_map(
            BNN, self.x, _rng.normal(size=30), prior=wp.normal_prior(BNN), num_restarts=1
        )
        found = reference_weights(BNN, fit)
        assert list(found) == list(BNN.sites)
        centers = wp.matched_centers(BNN, fit, scale=1.0)
        for name in BNN.sites:
            array = fit["posterior"][name].to_numpy()[0, 0]
            np.testing.assert_array_equal(found[name], array)
            np.testing.assert_array_equal(centers["reference"].loc[name], array)

    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    def test_a_perceptron_of_scikit_learn_is_the_same_function(self):
        perceptron = MLPRegressor(hidden_layer_sizes=(4, 4), activation="tanh", max_iter=3).fit(
            self.x, self.x[:, 0]
        )
        found = reference_weights(BNN, perceptron)
        np.testing.assert_allclose(
            outputs(BNN, found, self.x)[:, 0], perceptron.predict(self.x), rtol=1e-12, atol=1e-13
        )

    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    def test_a_classifier_of_scikit_learn_has_our_probabilities(self):
        perceptron = MLPClassifier(hidden_layer_sizes=(4,), activation="tanh", max_iter=3)
        perceptron.fit(self.x, self.x[:, 0] > 0)
        bnn = wp.BNN(wp.mlp(3, (4,)), wp.Bernoulli())
        found = reference_weights(bnn, perceptron)
        expected = perceptron.predict_proba(self.x)[:, 1]
        ours = scipy.special.expit(outputs(bnn, found, self.x)[:, 0])
        np.testing.assert_allclose(ours, expected, rtol=1e-12)

    def test_a_state_dict_of_pytorch_is_turned(self):
        state = {}
        for i, layer in enumerate(BNN.network.layers):
            state[f"{2 * i}.weight"] = WEIGHTS[f"{layer}.weight"].T
            state[f"{2 * i}.bias"] = WEIGHTS[f"{layer}.bias"]
        self.assert_found(state)

    def test_weights_by_site_stay(self):
        self.assert_found(WEIGHTS)
        self.assert_found({name: WEIGHTS[name].tolist() for name in reversed(NETWORK)})

    @pytest.mark.parametrize(
        ("reference", "error", "message"),
        [
            ({n: WEIGHTS[n] for n in NETWORK[1:]}, ValueError, "this architecture"),
            (WEIGHTS | {"hidden_0.weight": np.zeros((4, 3))}, ValueError, "this architecture"),
            (WEIGHTS | {"output.bias": np.array([np.nan])}, ValueError, "'output.bias'.*finite"),
            (WEIGHTS | {"outputs.bias": np.zeros(1)}, ValueError, "outputs.bias"),
            ({"0.weight": np.zeros((4, 3)), "0.bias": np.zeros(4)}, ValueError, "0.weight"),
            ({f"{i}.weight": np.zeros((4, 4)) for i in range(3)}, ValueError, "a bias beside"),
            (np.zeros(3), TypeError, "got ndarray"),
            (MLPRegressor(hidden_layer_sizes=(4,)), TypeError, "got MLPRegressor"),
        ],
        ids=["missing", "turned", "nan", "unknown", "shallow", "no bias", "array", "not fitted"],
    )
    def test_what_is_none_is_an_error(self, reference, error, message):
        with pytest.raises(error, match=f"^reference.*{message}"):
            wp.matched_centers(BNN, reference, scale=1.0)

    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    def test_a_perceptron_of_another_depth_is_an_error(self):
        perceptron = MLPRegressor(hidden_layer_sizes=(4,), max_iter=2).fit(self.x, self.x[:, 0])
        with pytest.raises(ValueError, match="architecture"):
            wp.matched_centers(BNN, perceptron, scale=1.0)


class TestTeacher:
    x = _rng.normal(size=(2000, 3))

    def test_its_weights_are_draws_and_its_data_theirs(self):
        prior = wp.normal_prior(BNN, loc=2.0, scale=0.5, log_noise=(-1.0, 0.1))
        weights, y = wp.teacher(BNN, self.x, prior=prior, rng_key=3)
        assert list(weights) == list(BNN.sites)
        z = np.concatenate(
            [((weights[n] - prior.loc[n]) / prior.scale[n]).ravel() for n in weights]
        )
        # 42 standard normals: their mean and largest.
        assert abs(z.mean()) < 4 / np.sqrt(z.size)
        assert np.abs(z).max() < 4.5
        residual = y - outputs(BNN, weights, self.x)[:, 0]
        noise = np.exp(weights["log_noise"])
        assert residual.std() == pytest.approx(noise, rel=5 / np.sqrt(2 * len(y)))

    def test_the_key_decides(self):
        prior = wp.normal_prior(BNN)
        (first, y), (again, same), (_, other) = (
            wp.teacher(BNN, self.x[:5], prior=prior, rng_key=k) for k in (0, 0, 1)
        )
        np.testing.assert_array_equal(first["hidden_0.weight"], again["hidden_0.weight"])
        np.testing.assert_array_equal(y, same)
        assert not np.array_equal(y, other)

    @pytest.mark.parametrize(
        ("prior", "message"),
        [
            (wp.normal_prior(BNN, scale=SCALE), "flat prior.*on 'hidden_0.bias'"),
            (wp.stack_priors({"a": wp.normal_prior(BNN)}), "expected a single prior"),
        ],
    )
    def test_a_prior_that_cannot_be_drawn_from(self, prior, message):
        with pytest.raises(ValueError, match=message):
            wp.teacher(BNN, self.x, prior=prior)
