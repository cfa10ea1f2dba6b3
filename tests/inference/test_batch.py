"""Where tasks run: in what order, how many at once, and what two threads may do at a time."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from numpyro.primitives import Messenger
from threadpoolctl import threadpool_info

import weightprior as wp
from weightprior._running import threads
from weightprior.fits import programs as _programs
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


def forget_programs(patch):
    """Begin with no compiled programs, and trace all anew; those of other tests are kept."""
    # A function that JAX has not seen.
    anew = cache(lambda task: lambda *args: task(*args))
    compile_once = _programs._compile_once.__wrapped__

    @lru_cache(maxsize=_programs._compile_once.cache_info().maxsize)
    def compiled(task, *key):
        return compile_once(anew(task), *key)

    compiled.__wrapped__ = compile_once
    patch.setattr(_programs, "_compile_once", compiled)


@pytest.fixture
def no_programs(monkeypatch):
    """Let the test begin with no compiled programs."""
    forget_programs(monkeypatch)


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


@pytest.mark.usefixtures("no_programs")
@pytest.mark.parametrize("accelerator", [False, True])
def test_what_is_prepared_is_not_compiled_again(accelerator, monkeypatch):
    monkeypatch.setattr(_batch, "_on_accelerator", lambda: accelerator)
    returns = _batch.prepare(scaled, 2, SHARED, ITEMS[0], 3)
    # What comes of one item can stand for it where the next program is prepared.
    again = _batch.prepare(split, None, (), (ITEMS[0][1], returns)[0], 3)
    assert again.shape == (2,)
    assert returns["noise"].shape == (3,)
    assert returns["value"].dtype == "float32"
    before = _programs._compile_once.cache_info().misses
    results = _batch.run(scaled, 2, SHARED, ITEMS[:3])
    assert _programs._compile_once.cache_info().misses == before
    assert [float(r["value"]) for r in results] == [0.0, 10.0, 40.0]


@pytest.mark.usefixtures("no_programs")
@pytest.mark.parametrize("vectorise", [False, True], ids=["threads", "vmap"])
def test_programs_are_kept_until_they_are_forgotten(vectorise):
    def num_compiled():
        return _programs._compile_once.cache_info().misses

    _batch.run(split, None, (), KEYS, vectorise=vectorise)
    _batch.run(split, None, (), KEYS, vectorise=vectorise)
    assert num_compiled() == 1
    _programs.clear_programs()
    assert _programs._compile_once.cache_info().currsize == 0
    _batch.run(split, None, (), KEYS, vectorise=vectorise)
    assert num_compiled() == 1  # of a counter that was cleared as well
    assert _programs._compile_once.cache_info().maxsize == _programs._MAX_PROGRAMS


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

    program = Future()
    program.set_result(compiled)
    monkeypatch.setattr(_batch, "compiled", lambda *args: _programs.Program(program, None))
    return begun


@pytest.mark.usefixtures("slow_tasks")
def test_there_are_as_many_threads_as_cores():
    seen, before = set(), set(threading.enumerate())
    _batch.run(scaled, None, (), range(20), on_done=lambda _: seen.update(threading.enumerate()))
    assert len(seen - before) == min(20, threads.num_cores())


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


# Two threads at once.


def side_by_side(*calls):
    """Results of calls that begin at the same time, in a thread each."""
    barrier = threading.Barrier(len(calls))

    def begin(call):
        barrier.wait(60)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(begin, call) for call in calls]]


TRACED = []


def slowly_traced(number, shared, item):
    TRACED.append(("begins", number))
    time.sleep(0.1)
    TRACED.append(("ends", number))
    return shared + number * item


def traced(*numbers):
    """Run programs at once, in a thread each: the order in which they were traced."""
    TRACED.clear()
    one, items = np.asarray(1.0), [np.asarray(2.0), np.asarray(3.0)]
    calls = [partial(_batch.run, slowly_traced, number, one, items) for number in numbers]
    for number, found in zip(numbers, side_by_side(*calls), strict=True):
        assert found == [1.0 + number * 2.0, 1.0 + number * 3.0]
    return list(TRACED)


@pytest.mark.usefixtures("no_programs")
def test_one_program_is_traced_at_a_time():
    order = traced(1, 2, 3)
    assert sorted(order) == sorted((word, n) for n in (1, 2, 3) for word in ("begins", "ends"))
    assert [word for word, _ in order] == ["begins", "ends"] * 3


@pytest.mark.usefixtures("no_programs")
def test_threads_that_ask_for_the_same_program_share_it():
    assert traced(4, 4, 4) == [("begins", 4), ("ends", 4)]
    assert _programs._compile_once.cache_info().misses == 1


FITS = {
    "vi": partial(wp.fit_vi, num_steps=20, num_samples=30),
    "map": partial(wp.fit_map, num_restarts=2),
    "nuts": partial(wp.fit_mcmc, kernel="nuts", num_warmup=10, num_samples=10, num_chains=2),
}


def fit_of_its_own(method, num_features):
    """A fit of shapes that no other test has; a layer more would only compile for longer."""
    bnn = wp.BNN(wp.mlp(num_features, hidden=()), wp.Gaussian(noise=0.5))
    rng, brief = np.random.default_rng(0), {"progress_bar": False, "log_likelihood": False}
    x, y = rng.normal(size=(17, num_features)), rng.normal(size=17)
    if method == "nuts":  # whose search for a start would only compile for longer
        brief["init"] = {name: np.zeros(site.shape) for name, site in bnn.sites.items()}
    return FITS[method](bnn, x, y, prior=wp.normal_prior(bnn), **brief)


# Programs that run once or twice take longer to optimise than to run.
UNOPTIMISED = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def compile_each_text_once(patch):
    """Let programs that were traced to the same text share what it compiles to."""
    compile_text, made, lock = jax.stages.Lowered.compile, {}, threading.Lock()

    def compiled(self, **options):
        text = self.as_text()
        with lock:
            future = made.get(text)
            first = future is None
            if first:
                future = made[text] = Future()
        if first:
            future.set_result(compile_text(self, compiler_options=UNOPTIMISED))
        return future.result()

    patch.setattr(jax.stages.Lowered, "compile", compiled)


@pytest.mark.filterwarnings("ignore:fit_vi. far from the posterior", "ignore:fit_mcmc")
def test_threads_that_fit_at_once_get_what_each_gets_alone(monkeypatch):
    """And whoever enters NumPyro's stack of handlers has it for himself.

    All is traced twice; what is traced alike is compiled once.
    """
    compile_each_text_once(monkeypatch)
    pairs = [("vi", 5), ("map", 6), ("vi", 7), ("nuts", 8)]
    calls = [partial(fit_of_its_own, *pair) for pair in pairs]
    held, enter = [], Messenger.__enter__

    def watched(self):
        held.append(_programs.tracing._is_owned())
        return enter(self)

    found = []
    for run in (side_by_side, lambda *calls: [call() for call in calls]):
        with monkeypatch.context() as patch:
            forget_programs(patch)
            patch.setattr(Messenger, "__enter__", watched)
            found.append(run(*calls))
        assert held
        assert all(held)
        held.clear()
    for together, alone in zip(*found, strict=True):
        assert set(together.children) == set(alone.children)
        for group in alone.children:
            xr.testing.assert_identical(together[group].dataset, alone[group].dataset)


def blas_threads():
    return [
        library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"
    ]


BLAS_THREADS = blas_threads()

several_blas_threads = pytest.mark.skipif(
    set(BLAS_THREADS) <= {1}, reason="matrix routines have one thread anyway"
)


def assert_limited():
    """Soon every library has one thread."""
    limit = time.monotonic() + 10
    while set(blas_threads()) != {1}:
        assert time.monotonic() < limit, blas_threads()
        time.sleep(0.001)


class Stay(threading.Thread):
    """A run in a thread of its own that lasts until it is told to leave."""

    def __init__(self):
        super().__init__()
        self.entered, self.told = threading.Event(), threading.Event()
        self.start()
        assert self.entered.wait(60)

    def run(self):
        _batch.run(split, None, (), KEYS[:1], on_done=self.stay)

    def stay(self, index):
        self.entered.set()
        assert self.told.wait(60)

    def leave(self):
        self.told.set()
        self.join()


@several_blas_threads
@pytest.mark.parametrize(
    "story", ["+a -a +b -b", "+a +b -b -a", "+a +b -a -b", "+a +b -a +c -b -c", "+a +b -a +c -c -b"]
)
def test_blas_has_its_threads_back_after_runs_that_overlap(story):
    runs = {}
    for what, name in story.split():
        if what == "+":
            runs[name] = Stay()
        else:
            runs.pop(name).leave()
        if runs:
            assert_limited()
        else:
            assert blas_threads() == BLAS_THREADS


@several_blas_threads
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_blas_has_its_threads_back_after_an_error(error):
    def fail(index):
        assert_limited()
        raise error

    def nested(index):
        with pytest.raises(error):
            _batch.run(split, None, (), KEYS[:2], on_done=fail)
        assert_limited()

    _batch.run(split, None, (), KEYS[:2], on_done=nested)
    assert blas_threads() == BLAS_THREADS
    with pytest.raises(error):
        _batch.run(split, None, (), KEYS[:2], on_done=fail)
    assert blas_threads() == BLAS_THREADS
    other = Stay()
    with pytest.raises(error):
        _batch.run(split, None, (), KEYS[:2], on_done=fail)
    other.leave()
    assert blas_threads() == BLAS_THREADS


def test_a_compilation_that_failed_is_tried_again(monkeypatch):
    def fail(self, **options):
        raise MemoryError("not now")

    def task(static, shared, item):
        return shared + item

    with monkeypatch.context() as patch:
        patch.setattr(jax.stages.Lowered, "compile", fail)
        with pytest.raises(MemoryError, match="not now"):
            _batch.run(task, None, np.float32(1.0), [np.float32(2.0)])
    assert _batch.run(task, None, np.float32(1.0), [np.float32(2.0)]) == [3.0]
