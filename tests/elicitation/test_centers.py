"""Where priors sit: what each centre keeps of the reference."""

import jax
import numpy as np
import pytest

import weightprior as wp

BNN = wp.BNN(wp.mlp(3, (4, 4)), wp.Gaussian())
NETWORK = list(BNN.network.sites)
_rng = np.random.default_rng(0)
WEIGHTS = {name: _rng.normal(size=BNN.sites[name].shape) for name in NETWORK}
SCALE = {"weight": 0.3, "bias": np.inf}


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

    @pytest.mark.parametrize("size", [1e-200, 1e200])
    def test_it_may_be_of_any_size(self, size):
        reference = {name: size * values for name, values in WEIGHTS.items()}
        centers = wp.matched_centers(BNN, reference, scale=1.0)
        for name in NETWORK:
            length = np.linalg.norm(centers["random"].loc[name] / size)
            np.testing.assert_allclose(length, np.linalg.norm(WEIGHTS[name]), rtol=1e-12)

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
