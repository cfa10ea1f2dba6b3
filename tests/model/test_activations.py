"""Activations: their slopes, kinks and symmetry, where arithmetic says what they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weightprior.model.activations import (
    ACTIVATIONS,
    activation_function,
    describe_activation,
    is_odd,
    kinks,
    largest_slope,
    slopes,
)


def test_a_name_stands_for_its_function_and_a_function_for_itself():
    for name, function in ACTIVATIONS.items():
        assert activation_function(name) is function
    assert activation_function(jnp.sin) is jnp.sin


class TestSlopes:
    @pytest.mark.parametrize(
        ("activation", "expected"),
        [
            (jnp.sin, np.cos),
            (jnp.square, lambda z: 2 * z),
            (jnp.tanh, lambda z: 1 - np.tanh(z) ** 2),
            (lambda z: 3 * z - 1, lambda z: np.full_like(z, 3.0)),
        ],
    )
    def test_they_are_derivatives_of_the_signals_shape(self, activation, expected):
        signal = np.linspace(-2, 2, 12).reshape(3, 4)
        with jax.enable_x64(True):
            found = slopes(activation, jnp.asarray(signal))
        np.testing.assert_allclose(found, expected(signal), rtol=1e-14, atol=1e-15)

    @pytest.mark.parametrize(
        ("activation", "expected"),
        [
            ("tanh", 1.0),
            ("sigmoid", 0.25),
            ("softplus", 1.0),
            ("relu", 1.0),
            ("identity", 1.0),
            # Where their second derivatives vanish: at the root of two for gelu.
            ("gelu", 0.5 * (1 + 0.8427007929497149) + np.exp(-1) / np.sqrt(np.pi)),
            ("silu", 1.0998393194584),
            (jnp.sin, 1.0),
            (lambda z: -3 * jnp.tanh(z), 3.0),
        ],
    )
    def test_the_largest_is_where_it_is_known_to_be(self, activation, expected):
        # Between two signals it falls by half its curvature times a squared thousandth at most.
        assert largest_slope(activation_function(activation)) == pytest.approx(expected, rel=2e-6)

    @pytest.mark.parametrize("activation", [jnp.square, jnp.exp, jnp.sign, jnp.zeros_like])
    def test_without_a_largest_above_zero_it_is_nan(self, activation):
        assert np.isnan(largest_slope(activation))


class TestKinks:
    @pytest.mark.parametrize(
        ("activation", "expected"),
        [
            ("relu", (0.0,)),
            (jax.nn.relu6, (0.0, 6.0)),
            (jax.nn.hard_tanh, (-1.0, 1.0)),
            (jax.nn.leaky_relu, (0.0,)),
            (jnp.abs, (0.0,)),
            (lambda z: jnp.abs(z - 0.3), (0.3,)),
        ],
    )
    def test_they_lie_where_slopes_jump(self, activation, expected):
        assert kinks(activation_function(activation)) == expected

    @pytest.mark.parametrize(
        "activation",
        [
            *(name for name in ACTIVATIONS if name != "relu"),
            jax.nn.elu,
            jnp.square,
            lambda z: jnp.tanh(1e3 * z),
        ],
    )
    def test_smooth_ones_have_none(self, activation):
        assert kinks(activation_function(activation)) == ()


class TestOdd:
    @pytest.mark.parametrize(
        ("activation", "odd"),
        [
            *((name, name in ("tanh", "identity")) for name in ACTIVATIONS),
            (jnp.sin, True),
            (jnp.arctan, True),
            (jnp.sinh, True),
            (jnp.cos, False),
            # Less than float32 would show.
            (lambda z: jnp.tanh(z) + 1e-9, False),
            (lambda z: jnp.where(jnp.abs(z) < 5, z, jnp.abs(z)), False),
            (lambda z: z / jnp.abs(z), False),  # NaN at zero
        ],
    )
    def test_an_odd_one_turns_its_sign_with_its_input(self, activation, odd):
        assert is_odd(activation_function(activation)) is odd


class TestDescription:
    def test_a_name_says_all(self):
        assert describe_activation("tanh") == "tanh"

    def test_a_function_is_told_by_its_values_whatever_its_name(self):
        described = [
            describe_activation(f)
            for f in (lambda z: jnp.sin(z), lambda z: jnp.sin(z), lambda z: jnp.sin(2 * z))
        ]
        assert described[0] == described[1] != described[2]
        assert described[0].startswith("<lambda> sha256 ")

    def test_it_does_not_depend_on_the_precision(self):
        def activation(z):
            return jnp.sinh(z) / 7

        with jax.enable_x64(True):
            double = describe_activation(activation)
        describe_activation.cache_clear()
        assert describe_activation(activation) == double

    def test_an_object_may_be_one(self):
        class Scaled:
            def __call__(self, z):
                return 2 * z

        assert describe_activation(Scaled()).startswith("Scaled sha256 ")


def test_the_precision_of_the_caller_does_not_matter():
    """All is found in float64, which a caller need not have enabled."""
    for function in (is_odd, kinks, largest_slope):
        function.cache_clear()
        single = function(jnp.arctan)
        function.cache_clear()
        with jax.enable_x64(True):
            assert function(jnp.arctan) == single
