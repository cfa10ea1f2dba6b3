import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weightprior.inference import _batch


def scaled(power, shared, item):
    """A task that takes the longer the smaller the item."""
    number, key = item
    steps = jnp.where(number < 2, 100_000, 1)
    waste = jax.lax.fori_loop(0, steps, lambda i, a: jnp.sin(a + i), number)
    noise = jax.random.normal(key, (3,))
    return {"value": shared["factor"] * number**power, "noise": noise, "waste": waste}


def split(static, shared, key):
    return jax.random.split(key)


KEYS = [jax.random.key(i) for i in range(8)]
SHARED = {"factor": np.asarray(10.0)}
ITEMS = [(np.asarray(float(i)), key) for i, key in enumerate(KEYS)]


@pytest.mark.parametrize("vectorise", [False, True], ids=["threads", "vmap"])
def test_results_come_in_the_order_of_the_items(vectorise):
    done = []
    results = _batch.run(scaled, 2, SHARED, ITEMS, on_done=done.append, vectorise=vectorise)
    assert [float(r["value"]) for r in results] == [10.0 * i**2 for i in range(8)]
    assert sorted(done) == list(range(8))
    for result, key in zip(results, KEYS, strict=True):
        assert isinstance(result["noise"], np.ndarray)
        expected = jax.random.normal(key, (3,))
        np.testing.assert_allclose(result["noise"], expected, rtol=10 * np.finfo(np.float32).eps)


def test_what_is_static_is_compiled_in():
    for power in (1, 3):
        results = _batch.run(scaled, power, SHARED, ITEMS)
        assert float(results[3]["value"]) == 10.0 * 3**power


@pytest.mark.parametrize("vectorise", [False, True], ids=["threads", "vmap"])
def test_tasks_run_in_the_precision_of_the_caller(vectorise, precision):
    results = _batch.run(scaled, 2, SHARED, ITEMS[:2], vectorise=vectorise)
    assert {a.dtype.name for r in results for a in r.values()} == {precision}


@pytest.mark.parametrize("vectorise", [False, True], ids=["threads", "vmap"])
def test_random_keys_come_back_as_keys(vectorise):
    results = _batch.run(split, None, (), KEYS, vectorise=vectorise)
    for result, key in zip(results, KEYS, strict=True):
        assert (result == jax.random.split(key)).all()


@pytest.mark.parametrize("accelerator", [False, True])
def test_what_is_prepared_is_not_compiled_again(accelerator, monkeypatch):
    monkeypatch.setattr(_batch, "_on_accelerator", lambda: accelerator)
    _batch._compile_once.cache_clear()
    returns = _batch.prepare(scaled, 2, SHARED, ITEMS[0], 3)
    # What comes of one item can stand for it where the next program is prepared.
    again = _batch.prepare(split, None, (), (ITEMS[0][1], returns)[0], 3)
    assert again.shape == (2,)
    assert returns["noise"].shape == (3,)
    assert returns["value"].dtype == "float32"
    before = _batch._compile_once.cache_info().misses
    results = _batch.run(scaled, 2, SHARED, ITEMS[:3])
    assert _batch._compile_once.cache_info().misses == before
    assert [float(r["value"]) for r in results] == [0.0, 10.0, 40.0]


@pytest.fixture
def slow_tasks(monkeypatch):
    """Make every task wait a moment; the items that were begun."""
    begun = []

    def compiled(shared, item):
        begun.append(item)
        time.sleep(0.02)
        if item is None:
            raise ZeroDivisionError
        return np.asarray(item)

    monkeypatch.setattr(_batch, "_compile", lambda *args: compiled)
    return begun


@pytest.mark.usefixtures("slow_tasks")
def test_there_are_as_many_threads_as_cores():
    seen, before = set(), set(threading.enumerate())
    _batch.run(scaled, None, (), range(20), on_done=lambda _: seen.update(threading.enumerate()))
    assert len(seen - before) == min(20, _batch._num_cores())


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupt_ends_the_pool_at_once(error, slow_tasks):
    def interrupt(index):
        raise error

    threads = set(threading.enumerate())
    with pytest.raises(error):
        _batch.run(scaled, None, (), range(1000), on_done=interrupt)
    assert len(slow_tasks) < 500
    assert set(threading.enumerate()) == threads


def test_an_error_in_a_task_reaches_the_caller(slow_tasks):
    with pytest.raises(ZeroDivisionError):
        _batch.run(scaled, None, (), [1, None, *range(1000)])
    assert len(slow_tasks) < 500
