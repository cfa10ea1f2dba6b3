import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weightprior.inference._optima.lbfgs import direction, init, update

RNG = np.random.default_rng(0)
SIZE, LENGTH = 6, 4
ROOT = RNG.normal(size=(SIZE, SIZE))
HESSIAN = ROOT @ ROOT.T + np.eye(SIZE)
OTHER_ROOT = RNG.normal(size=(SIZE, SIZE))
PRECONDITIONERS = {"none": np.eye(SIZE), "dense": OTHER_ROOT @ OTHER_ROOT.T + np.eye(SIZE)}

pytestmark = pytest.mark.usefixtures("strict")


def pairs(count):
    moves = RNG.normal(size=(count, SIZE))
    return moves, moves @ HESSIAN


def memory_of(moves, changes, dtype, preconditioner=PRECONDITIONERS["none"]):
    memory = init(LENGTH, jnp.zeros(SIZE, dtype))
    for vectors in zip(moves, changes, changes @ preconditioner, strict=True):
        memory = update(memory, *(jnp.asarray(vector, dtype) for vector in vectors))
    return memory


def downhill(memory, gradient, preconditioned):
    """The inverse Hessian's product: minus the step, whose slope is held against it."""
    step, slope = direction(memory, gradient, preconditioned)
    rounding = 100 * np.finfo(step.dtype).eps
    length = jnp.linalg.norm(step) * jnp.linalg.norm(gradient)
    np.testing.assert_allclose(slope, jnp.vdot(step, gradient), atol=rounding * float(length))
    return -step


def bfgs_matrix(moves, changes, preconditioner=PRECONDITIONERS["none"]):
    """The inverse Hessian that BFGS builds from the pairs, one after the other."""
    last = changes[-1]
    matrix = preconditioner * (moves[-1] @ last) / (last @ preconditioner @ last)
    for s, y in zip(moves, changes, strict=True):
        left = np.eye(SIZE) - np.outer(s, y) / (s @ y)
        matrix = left @ matrix @ left.T + np.outer(s, s) / (s @ y)
    return matrix


@pytest.mark.parametrize("count", [1, 3, LENGTH, LENGTH + 1, 3 * LENGTH + 2])
@pytest.mark.parametrize("kind", PRECONDITIONERS)
def test_it_is_bfgs_with_the_last_pairs(count, kind, precision):
    moves, changes = pairs(count)
    gradient, preconditioner = RNG.normal(size=SIZE), PRECONDITIONERS[kind]
    given = (jnp.asarray(g, precision) for g in (gradient, preconditioner @ gradient))
    found = downhill(memory_of(moves, changes, precision, preconditioner), *given)
    expected = bfgs_matrix(moves[-LENGTH:], changes[-LENGTH:], preconditioner) @ gradient
    # Rounding, multiplied by the conditions of the Hessian and of the moves.
    tolerance = 1e4 * np.finfo(precision).eps
    np.testing.assert_allclose(found, expected, atol=tolerance * np.linalg.norm(expected))


def test_without_a_pair_the_step_is_at_most_one():
    memory = init(LENGTH, jnp.zeros(SIZE))
    for length in (0.1, 10.0):
        gradient = jnp.full(SIZE, length)
        step = downhill(memory, gradient, gradient)
        np.testing.assert_allclose(step, gradient / max(1.0, length * SIZE**0.5), rtol=1e-6)
        # Measured by the preconditioner's inverse, where there is one.
        step = downhill(memory, gradient, 4 * gradient)
        np.testing.assert_allclose(step, 4 * gradient / max(1.0, 2 * length * SIZE**0.5), rtol=1e-6)


@pytest.mark.parametrize("change", [0.0, -1.0, np.nan])
def test_a_pair_without_curvature_clears_the_memory(change):
    memory = memory_of(*pairs(3), "float32")
    changes = jnp.full(SIZE, change)
    cleared = update(memory, jnp.ones(SIZE), changes, changes)
    gradient = jnp.full(SIZE, 0.1)
    np.testing.assert_array_equal(downhill(cleared, gradient, gradient), gradient)
    # And learns again from the next.
    [move], [difference] = pairs(1)
    again = downhill(
        update(cleared, *map(jnp.float32, (move, difference, difference))), gradient, gradient
    )
    expected = bfgs_matrix(move[None], difference[None]) @ np.full(SIZE, 0.1)
    np.testing.assert_allclose(again, expected, rtol=1e-3)


def test_the_pairs_are_not_copied():
    """A copy in every step would cost more than the step."""

    def run(position):
        def step(i, carry):
            z, memory = carry
            move = 0.1 * direction(memory, z, z)[0]
            change = move * jnp.arange(1.0, 501.0)
            return z + move, update(memory, move, change, change)

        return jax.lax.fori_loop(0, 100, step, (position, init(50, position)))[0]

    text = jax.jit(run).lower(jnp.ones(500)).compile().as_text()
    body = text[text.index("while_body") :] if "while_body" in text else text
    assert "f32[100,500]{1,0} copy(" not in body
