"""Parts of a stacked prior, fitted by an executor: the same fit, and nothing lost."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

import weightprior as wp
from executors import Breaking, Inline, Losing, assert_same_fit
from shared_fits import FITTERS, FRAME, REGRESSION, TARGET, fitted, prior_of
from weightprior.inference._distribution.store import Store

PRIOR = prior_of(REGRESSION, "numbers")
GIVEN = {"prior": PRIOR}
MAP = partial(wp.fit_map, num_restarts=3, rng_key=5)


def spread(executor, fit=MAP, folder=None, **options):
    return wp.distribute(fit, executor, folder=folder)(REGRESSION, FRAME, TARGET, **GIVEN | options)


@pytest.mark.parametrize("method", ["map", "hmc"])
@pytest.mark.parametrize("prior", ["single", "strings", "numbers"])
def test_it_is_the_local_fit_to_the_last_bit(method, prior):
    found = spread(Inline(), FITTERS[method], prior=prior_of(REGRESSION, prior))
    assert_same_fit(found, fitted(method, prior))


def test_precision_keys_and_row_weights_travel():
    weights = np.random.default_rng(0).integers(0, 3, (3, len(TARGET))).astype(float)
    options = {"row_weights": weights, "rng_key": jax.random.key(3)}
    with jax.enable_x64(True):
        local = MAP(REGRESSION, FRAME, TARGET, **GIVEN, **options)
        assert_same_fit(spread(Inline(), **options), local)


def test_a_fit_to_start_from_is_taken_apart():
    start = fitted("map", "numbers")
    short = partial(wp.fit_mcmc, num_samples=5, num_warmup=5, num_chains=2, init=start)
    local = short(REGRESSION, FRAME, TARGET, **GIVEN)
    assert_same_fit(spread(Inline(), wp.fit_mcmc, **short.keywords), local)


def test_options_that_a_partial_carries_are_those_of_the_call():
    weights = np.random.default_rng(0).integers(0, 3, (3, len(TARGET))).astype(float)
    carried = {**GIVEN, "rng_key": jax.random.key(3, impl="threefry2x32"), "row_weights": weights}
    carried["init"] = fitted("map", "numbers")
    local = partial(partial(wp.fit_map, **carried), num_restarts=3)
    found = wp.distribute(local, Inline())(REGRESSION, FRAME, TARGET)
    assert_same_fit(found, local(REGRESSION, FRAME, TARGET))
    with pytest.raises(ValueError, match="checkpoint: expected None with distribute"):
        spread(Inline(), partial(wp.fit_mcmc, checkpoint="here"))


def test_it_goes_where_a_fit_function_goes():
    executor = Inline()
    fit = wp.distribute(MAP, executor)
    found = wp.cross_validate(REGRESSION, FRAME, TARGET, **GIVEN, fit=fit, num_folds=3)
    local = wp.cross_validate(REGRESSION, FRAME, TARGET, **GIVEN, fit=MAP, num_folds=3)
    assert found.drop_attrs().identical(local.drop_attrs())
    assert executor.num_calls == 9
    laplace = wp.distribute(wp.fit_laplace, executor)
    code = wp.prequential_code(REGRESSION, FRAME, TARGET, **GIVEN, fit=laplace, num_blocks=2)
    local = wp.prequential_code(
        REGRESSION, FRAME, TARGET, **GIVEN, fit=wp.fit_laplace, num_blocks=2
    )
    assert code.drop_attrs().identical(local.drop_attrs())


@pytest.mark.parametrize("outside", [False, True])
def test_calibration_submits_ahead(outside):
    executor, seen = Inline(), []

    class Watched(Future):
        def exception(self, timeout=None):
            seen.append(executor.num_calls)
            return super().exception(timeout)

    executor.future = Watched
    linear = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=0.5))
    calibrate = partial(
        wp.simulation_based_calibration,
        *(linear, np.linspace(-1, 1, 10)[:, None]),
        prior=wp.normal_prior(linear),
        num_simulations=8,
    )
    local = partial(wp.fit_laplace, num_samples=200)
    if outside:  # a partial hides `submit`
        fit = partial(wp.distribute(wp.fit_laplace, executor), num_samples=200)
    else:
        fit = wp.distribute(local, executor)
    assert calibrate(fit=fit).drop_attrs().identical(calibrate(fit=local).drop_attrs())
    assert min(seen) == 8


def test_functions_travel_once_and_stay_the_same():
    """A lambda that is pickled twice would be two functions, and compiled twice."""
    from weightprior.inference._distribution import worker

    network = wp.mlp(2, hidden=(3,), activation=lambda signal: signal / (1 + abs(signal)))
    bnn = wp.BNN(network, wp.Gaussian())
    x = FRAME.to_numpy()
    before = len(worker._kept)
    fit = wp.distribute(MAP, Inline())
    for target in (TARGET, 2 * TARGET):
        fit(
            bnn, x, target, prior=wp.stack_priors([wp.normal_prior(bnn), wp.normal_prior(bnn, 1.0)])
        )
    assert len(worker._kept) <= before + 1


@pytest.mark.parametrize("numbers", [(0,), (1, 3), (0, 1, 2, 3)])
def test_lost_workers_are_made_up_for(numbers):
    executor = Losing(*numbers)
    assert_same_fit(spread(executor), fitted("map", "numbers"))
    assert executor.num_calls == 3 + len(numbers)


def test_a_part_that_is_always_lost_is_told(tmp_path):
    with pytest.raises(RuntimeError, match=r"prior 0.5 was lost 3 times: ConnectionError") as told:
        spread(Losing(1, 3, 4), folder=tmp_path)
    assert "Finished: 2 of 3, 0.25, 1.0. They are kept in" in str(told.value)
    executor = Inline()
    assert_same_fit(spread(executor, folder=tmp_path), fitted("map", "numbers"))
    assert executor.num_calls == 1


def test_a_broken_executor_is_made_again(tmp_path):
    made = []

    def make():
        made.append(Breaking(1) if len(made) < 2 else Inline())
        return made[-1]

    assert_same_fit(spread(make, folder=tmp_path), fitted("map", "numbers"))
    assert [one.closed for one in made] == [True, True, False]
    # The first loses two parts, the second the last of these.
    assert [one.num_calls for one in made] == [3, 2, 1]


def test_a_broken_executor_that_was_given_is_told(tmp_path):
    with pytest.raises(RuntimeError, match="the executor broke") as told:
        spread(Breaking(1), folder=tmp_path)
    assert "Pass a function that makes one: then it is made again." in str(told.value)
    executor = Inline()
    spread(executor, folder=tmp_path)
    assert executor.num_calls == 2


def test_calls_that_share_an_executor_make_one_in_its_place():
    made = []

    def make():
        made.append(Breaking(2) if not made else Inline())
        return made[-1]

    fit = wp.distribute(MAP, make)
    ahead = [fit.submit(REGRESSION, FRAME, TARGET, **GIVEN) for _ in range(2)]
    for pending in ahead:
        assert_same_fit(pending.result(), fitted("map", "numbers"))
    assert len(made) == 2


def test_many_different_warnings_are_summed_up():
    def fit(bnn, x, y, *, prior):
        import warnings

        warnings.warn(f"of scale {prior.scale['output.bias']}", stacklevel=1)
        return MAP(bnn, x, y, prior=prior)

    scales = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    prior = wp.stack_priors({s: wp.normal_prior(REGRESSION, scale=s) for s in scales})
    with pytest.warns(UserWarning, match="of") as told:
        spread(Inline(), fit, prior=prior)
    assert len(told) == 6
    assert "more warnings than are shown, under prior 0.6, 0.7. Fit one" in str(told[-1].message)


def test_one_that_breaks_at_once_is_given_up():
    made = []

    def make():
        made.append(Breaking(0))
        return made[-1]

    with pytest.raises(RuntimeError, match="It broke 3 times without a part finished in between"):
        spread(make)
    assert len(made) == 3


def test_errors_are_raised_at_once_with_the_part_named():
    def fit(bnn, x, y, *, prior, **options):
        if np.any(prior.scale["output.bias"] == 0.5):
            raise LookupError("of my own")
        return MAP(bnn, x, y, prior=prior)

    with pytest.raises(LookupError, match="of my own") as told:
        spread(Inline(), fit)
    assert "That was prior 0.5." in told.value.__notes__[0]
    assert "in fit\n" in str(told.value.__cause__)


def test_an_error_that_does_not_travel_is_told_by_its_text():
    class Odd(Exception):  # noqa: N818
        def __init__(self, one, two):
            super().__init__(f"{one} and {two}")

    def fit(bnn, x, y, *, prior):
        raise Odd(1, 2)

    with pytest.raises(RuntimeError, match="Odd: 1 and 2"):
        spread(Inline(), fit)


def test_warnings_come_back_once_with_their_priors():
    def fit(bnn, x, y, *, prior):
        import warnings

        warnings.warn("a word", DeprecationWarning, stacklevel=1)
        return MAP(bnn, x, y, prior=prior)

    with pytest.warns(DeprecationWarning, match=r"a word \(prior 0.25, 0.5, 1.0\)") as told:
        spread(Inline(), fit)
    assert len(told) == 1


def test_kept_parts_warn_again(tmp_path):
    def fit(bnn, x, y, *, prior):
        import warnings

        warnings.warn("a word", stacklevel=1)
        return MAP(bnn, x, y, prior=prior)

    for _ in range(2):
        with pytest.warns(UserWarning, match="a word"):
            spread(Inline(), fit, folder=tmp_path)


def test_a_folder_holds_what_was_fitted_and_nothing_of_other_calls(tmp_path):
    short = partial(wp.fit_mcmc, num_samples=10, num_warmup=5, num_chains=2)
    first = spread(Inline(), short, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3  # no checkpoint is left
    executor = Inline()
    assert_same_fit(spread(executor, short, folder=tmp_path), first)
    assert executor.num_calls == 0
    for options in ({"rng_key": 1}, {"num_samples": 11}, {"row_weights": np.ones(20) * 2}):
        spread(executor, short, folder=tmp_path, **options)
    assert executor.num_calls == 9
    assert len(list(tmp_path.iterdir())) == 12


def test_a_damaged_file_is_fitted_again(tmp_path):
    spread(Inline(), folder=tmp_path)
    path = next(tmp_path.glob("0.5*"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="cannot be read, so that it is fitted again"):
        assert_same_fit(spread(Inline(), folder=tmp_path), fitted("map", "numbers"))


class Waiting(Inline):
    """Never ends its third call."""

    def submit(self, function, /, *args, **options):
        return super().submit(function, *args, **options) if self.num_calls < 2 else Future()


@pytest.mark.parametrize("during", ["the wait", "the writing"])
def test_an_interrupt_says_what_is_kept(tmp_path, monkeypatch, during):
    """Ctrl-C is pressed; that another thread takes it in ends no wait of the main one."""
    keep = Store.keep

    def keep_and_press(self, name, part):
        if during == "the writing":
            signal.raise_signal(signal.SIGINT)
        keep(self, name, part)
        if during == "the wait" and len([*tmp_path.glob("*.nc")]) == 2:
            threading.Timer(0.5, signal.raise_signal, (signal.SIGINT,)).start()

    monkeypatch.setattr(Store, "keep", keep_and_press)
    with pytest.raises(KeyboardInterrupt, match=r"Finished: 2 of 3, 0.25, 0.5\. They"):
        spread(Waiting(), folder=tmp_path)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".nc", ".nc"]


@pytest.mark.parametrize(
    ("executor", "error", "told"),
    [
        (3, TypeError, "executor: expected a concurrent.futures.Executor; got int"),
        (lambda: 3, TypeError, "executor: expected a concurrent.futures.Executor; got int"),
        (
            partial(ProcessPoolExecutor, 1, mp_context=multiprocessing.get_context("fork")),
            ValueError,
            "executor: expected processes that are spawned; got some that are forked",
        ),
    ],
)
def test_what_is_no_executor_is_told(executor, error, told):
    with pytest.raises(error, match=told):
        spread(executor)


def test_a_client_is_told_where_its_executor_is():
    class Client:
        def get_executor(self):
            return Inline()

        def submit(self):
            pass

    with pytest.raises(TypeError, match=r"got Client. Pass its get_executor\(\)."):
        wp.distribute(MAP, Client())


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"retries": -1}, ValueError, "retries: expected at least 0"),
        ({"folder": 3}, TypeError, "folder: expected the path of a folder"),
    ],
)
def test_options_are_checked(options, error, told):
    with pytest.raises(error, match=told):
        wp.distribute(MAP, Inline(), **options)


def test_bad_arguments_never_travel():
    executor = Inline()
    with pytest.raises(ValueError, match="y: expected"):
        wp.distribute(MAP, executor)(REGRESSION, FRAME, TARGET[:3], **GIVEN)
    with pytest.raises(ValueError, match="checkpoint: expected None with distribute"):
        spread(executor, wp.fit_mcmc, checkpoint="here")
    with pytest.raises(TypeError, match="fit: expected a fit function"):
        wp.distribute(3, executor)
    assert executor.num_calls == 0


# Real workers.


def dies_once(bnn, x, y, *, prior, marker, checkpoint=None):
    """Fit, but kill the process in the middle of the first fit of the prior with scale 0.5."""
    if np.any(prior.scale["output.bias"] == 0.5) and not Path(marker).exists():
        Path(marker).touch()
        threading.Timer(1.0, os._exit, (1,)).start()
    return wp.fit_mcmc(bnn, x, y, prior=prior, checkpoint=checkpoint, num_chains=2)


def with_dask(do):
    from distributed import Client, LocalCluster

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(processes=True, **options) as cluster, Client(cluster) as client:
        return do(client.get_executor())


def with_loky(do):
    import loky

    return do(partial(loky.ProcessPoolExecutor, 2))


def with_spawn(do):
    return do(partial(ProcessPoolExecutor, 2, mp_context=multiprocessing.get_context("spawn")))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("run", [with_spawn, with_loky, with_dask])
def test_workers_give_the_local_numbers_and_one_that_dies_loses_nothing(run, tmp_path):
    linear = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=0.5))
    calls = {
        "map": lambda spread: spread(MAP)(REGRESSION, FRAME, TARGET, **GIVEN),
        "mcmc": lambda spread: spread(FITTERS["hmc"])(REGRESSION, FRAME, TARGET, **GIVEN),
        "folds": lambda spread: wp.cross_validate(
            REGRESSION, FRAME, TARGET, **GIVEN, fit=spread(MAP), num_folds=3
        ).drop_attrs(),
        "calibration": lambda spread: wp.simulation_based_calibration(
            *(linear, np.linspace(-1, 1, 10)[:, None]),
            prior=wp.normal_prior(linear),
            fit=spread(partial(wp.fit_laplace, num_samples=200)),
            num_simulations=8,
        ).drop_attrs(),
    }
    local = {name: call(lambda fit: fit) for name, call in calls.items()}
    marker = tmp_path / "died"
    mortal = partial(dies_once, marker=str(marker))

    def distributed(executor):
        found = {name: call(lambda f: wp.distribute(f, executor)) for name, call in calls.items()}
        fit = wp.distribute(mortal, executor, folder=tmp_path / "parts")
        return found, fit(REGRESSION, FRAME, TARGET, **GIVEN)

    found, survived = run(distributed)
    for name in ("map", "mcmc"):
        assert_same_fit(found[name], local[name])
    for name in ("folds", "calibration"):
        assert found[name].identical(local[name])
    assert marker.exists()
    assert_same_fit(survived, mortal(REGRESSION, FRAME, TARGET, **GIVEN))
