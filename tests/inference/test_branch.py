"""Choices between two computations, in one lane and in many."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weightprior.inference._branch import choose

X = np.arange(6.0).reshape(3, 2)


def chosen(ran):
    """A choice whose branches take note of having run."""

    def first(x):
        jax.debug.callback(lambda: ran.add("first"))
        return 2 * x

    def second(x):
        jax.debug.callback(lambda: ran.add("second"))
        return x - 1

    return lambda which, x: choose(which, first, second, x)


@pytest.mark.parametrize(
    ("which", "branches"),
    [
        ([True, True, True], {"first"}),
        ([False, False, False], {"second"}),
        ([True, False, True], {"first", "second"}),
    ],
    ids=["first", "second", "both"],
)
def test_lanes_that_agree_run_one_branch(which, branches):
    ran = set()
    found = jax.jit(jax.vmap(chosen(ran)))(jnp.array(which), jnp.asarray(X))
    jax.effects_barrier()
    np.testing.assert_array_equal(found, np.where(np.array(which)[:, None], 2 * X, X - 1))
    assert ran == branches


def test_one_lane_runs_one_branch():
    ran = set()
    np.testing.assert_array_equal(jax.jit(chosen(ran))(jnp.array(False), jnp.asarray(X)), X - 1)
    jax.effects_barrier()
    assert ran == {"second"}


def test_what_lanes_have_in_common_is_given_to_all():
    found = jax.vmap(chosen(set()), in_axes=(0, None))(jnp.array([True, False]), jnp.asarray(X))
    np.testing.assert_array_equal(found, [2 * X, X - 1])
    found = jax.vmap(chosen(set()), in_axes=(None, 0))(jnp.array(True), jnp.asarray(X))
    np.testing.assert_array_equal(found, 2 * X)


def test_keeps_the_precision_of_its_caller():
    def double(x):
        with jax.enable_x64(True):
            product = choose(jnp.all(x > 0), lambda a: a * 3, lambda a: a, x.astype(jnp.float64))
            return product.dtype == jnp.float64

    assert jax.vmap(double)(jnp.ones((2, 3))).all()
