"""Ctrl-C at any moment: an honest answer or KeyboardInterrupt, soon, and a process that goes on."""

import os
import random
import signal
import threading
import time
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from threadpoolctl import threadpool_info

import weightprior as wp
from problems import NET
from weightprior._running.interrupts import held_back
from weightprior.fits import programs as _programs
from weightprior.inference import _batch

QUIET = {"progress_bar": False}
STACK = wp.stack_priors({scale: NET.prior(scale=scale) for scale in (0.5, 1.0)})
SMOOTH = {"num_restarts": 300, **QUIET}
_mcmc = partial(wp.fit_mcmc, num_warmup=300, num_chains=2, **QUIET)
# Long enough to be met at many moments; the second is the same program, and quick.
FITS = {
    "fit_map": (partial(wp.fit_map, **SMOOTH), partial(wp.fit_map, num_restarts=2)),
    "fit_mcmc": (partial(_mcmc, num_samples=5000), partial(_mcmc, num_samples=50)),
    "fit_laplace": (
        partial(wp.fit_laplace, num_samples=100, **SMOOTH),
        partial(wp.fit_laplace, num_samples=100, num_restarts=2),
    ),
    "fit_vi": (
        partial(wp.fit_vi, num_samples=100, num_steps=100_000, **QUIET),
        partial(wp.fit_vi, num_samples=100, num_steps=100),
    ),
    "fit_tempered": (
        partial(wp.fit_tempered, num_samples=500, num_chains=4, num_temperatures=6, **QUIET),
        partial(wp.fit_tempered, num_samples=20, num_chains=4, num_temperatures=4, **QUIET),
    ),
    "fit_ensemble": (
        partial(wp.fit_ensemble, num_members=300, **QUIET),
        partial(wp.fit_ensemble, num_members=2),
    ),
}
_folds = {"prior": STACK, "num_folds": 3}
_simulated = {"prior": NET.prior(), "num_draws": 30, **QUIET}


def _calibrated(num_simulations):
    fit = partial(_mcmc, num_samples=100)
    return partial(
        wp.simulation_based_calibration,
        NET.bnn,
        NET.x,
        fit=fit,
        num_simulations=num_simulations,
        **_simulated,
    )


def _fitted(fit):
    return partial(fit, NET.bnn, NET.x, NET.y, prior=NET.prior())


class Calls(NamedTuple):
    """A long call, and a quick one of the same programs."""

    long: Any
    quick: Any


CALLS = {name: Calls(*map(_fitted, pair)) for name, pair in FITS.items()} | {
    "cross_validate": Calls(
        *(
            partial(wp.cross_validate, NET.bnn, NET.x, NET.y, fit=fit, **_folds)
            for fit in (FITS["fit_map"][0], FITS["fit_map"][1])
        )
    ),
    "simulation_based_calibration": Calls(_calibrated(6), _calibrated(1)),
}
HOLD_DRAWS = {"fit_mcmc", "fit_tempered", "simulation_based_calibration"}


class Press(NamedTuple):
    """What came of a call in which Ctrl-C was pressed."""

    found: Any
    seconds: float
    came: bool


def pressed(call, delay) -> Press:
    """Call, with Ctrl-C after a delay; the time from there to the answer."""
    sent, found, ended, came = [], None, None, False

    def press():
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(delay, press)
    try:
        timer.start()
        found = call()
        ended = time.perf_counter()
        timer.cancel()
        timer.join()
        time.sleep(0)
    except KeyboardInterrupt:
        came = True
    ended = ended or time.perf_counter()
    return Press(found, ended - (sent[0] if sent else ended), came)


def groups(found):
    """All that a call returned, but for the time it took."""
    if isinstance(found, xr.Dataset):
        return {"": found.drop_attrs()}
    return {name: found[name].to_dataset().drop_attrs() for name in found.children}


def assert_same(found, expected):
    ours, theirs = groups(found), groups(expected)
    assert ours.keys() == theirs.keys()
    for name in theirs:
        xr.testing.assert_identical(ours[name], theirs[name])


def assert_usable(before):
    """Nothing stayed behind: no lock, no limit, no thread that computes."""
    threads, limits = before
    assert not (set(threading.enumerate()) - threads)
    assert blas_threads() == limits
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def take():
        with _programs.tracing:
            pass

    free = threading.Thread(target=take, daemon=True)
    free.start()
    free.join(60)
    assert not free.is_alive()


def blas_threads():
    return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]


@pytest.fixture
def default_handler():
    """Ctrl-C as Python handles it by itself."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


# Few programs, and at moments that are known.


def begun(static, shared, item):
    return jnp.zeros((), jnp.int32)


def counted(total, shared, given):
    """A task of so many steps, each of which takes its time."""
    item, count, num_steps = given
    end = jnp.minimum(count + num_steps, total)
    value = jax.lax.fori_loop(0, 1000 * (end - count), lambda i, a: jnp.sin(a + i), item)
    return _batch.Steps(end, end - count, end == total, (end, 0 * value))


class Watched(_batch.Pace):
    """Counts calls, and presses Ctrl-C at one of them."""

    calls, at = 0, 5

    @property
    def num_steps(self):
        return 10

    @num_steps.setter
    def num_steps(self, number):
        pass

    def learn(self, num_steps, seconds):
        Watched.calls += 1
        if Watched.calls == Watched.at:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.usefixtures("default_handler")
def test_what_takes_many_steps_ends_with_the_call_in_hand(monkeypatch):
    items = [np.float32(i) for i in range(3)]
    expected = _batch.run_steps(begun, counted, 10**4, (), items)
    before = {*threading.enumerate()}, blas_threads()
    for together in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(_batch, "Pace", Watched)
            patch.setattr(Watched, "calls", 0)
            with pytest.raises(KeyboardInterrupt):
                _batch.run_steps(begun, counted, 10**4, (), items, vectorise=together)
            # Of 3000 calls of microseconds, those begun before the signal is seen.
            assert Watched.calls < 1000
        assert_usable(before)
    assert expected == _batch.run_steps(begun, counted, 10**4, (), items)


@pytest.mark.usefixtures("default_handler")
def test_steps_may_be_cut_anywhere(monkeypatch):
    monkeypatch.setattr(_batch, "_CALL_SECONDS", 1e-9)
    for together in (False, True):
        found = _batch.run_steps(begun, counted, 35, (), [np.float32(1)] * 2, vectorise=together)
        assert [int(count) for count, _ in found] == [35, 35]


@pytest.mark.usefixtures("default_handler")
def test_an_interrupt_waits_for_the_end_of_the_block():
    done = []

    def block():
        with held_back() as held:
            os.kill(os.getpid(), signal.SIGINT)
            with held_back() as inner:
                assert held
                assert inner is held
            done.append("all")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == ["all"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("handler", ["raises nothing", "is nobody's"])
def test_whoever_handles_interrupts_is_asked(handler):
    seen = []
    given = signal.SIG_IGN if handler == "is nobody's" else lambda *args: seen.append("pressed")
    before = signal.signal(signal.SIGINT, given)
    try:
        with held_back() as held:
            os.kill(os.getpid(), signal.SIGINT)
            assert not held
        assert signal.getsignal(signal.SIGINT) is given
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == ([] if handler == "is nobody's" else ["pressed"])


def test_other_threads_hold_nothing_back():
    handler, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with held_back():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [handler]


# In every function, at moments by chance.


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("default_handler")
@pytest.mark.parametrize("name", CALLS)
def test_at_20_random_moments(name):
    call, moments = CALLS[name], random.Random(0)
    expected = call.quick()
    call.long()
    clock = time.perf_counter()
    whole = call.long()
    length = time.perf_counter() - clock
    before = {*threading.enumerate()}, blas_threads()
    seconds = []
    for _ in range(20):
        press = pressed(call.long, moments.uniform(0, length))
        if press.found is not None:
            if press.found.attrs.get("interrupted"):
                assert name in HOLD_DRAWS
            else:
                assert_same(press.found, whole)
        else:
            assert press.came
        seconds.append(press.seconds)
        assert_usable(before)
        assert_same(call.quick(), expected)
    assert max(seconds) <= 2.0, f"{seconds}, of {length}"
