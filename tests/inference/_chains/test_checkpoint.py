"""Runs in pieces: killed, interrupted, extended. What comes of them is what one run gives."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import weightprior as wp
from problems import NET, fit
from weightprior.fits import programs as _programs
from weightprior.fits.fingerprint import Fingerprint
from weightprior.fits.reading import log_likelihood_of
from weightprior.fits.validate import validate
from weightprior.inference import _batch
from weightprior.inference._chains import chains as _chains
from weightprior.inference._chains import checkpoint as _checkpoint
from weightprior.inference._chains.checkpoint import open_checkpoint

KERNELS = ("hmc", "nuts")
PRIOR = NET.prior(loc=0.3, scale={"weight": 0.8, "bias": 1.5})
STACK = wp.stack_priors({"narrow": NET.prior(scale=0.5), "moved": PRIOR})
# Chains begin at a place given, which compiles sooner than the search for one.
START = {name: np.full(site.shape, 0.2) for name, site in NET.bnn.sites.items()}
PLAN = {"num_warmup": 30, "num_chains": 2, "thinning": 2, "init": START}
LONG, SHORT = 40, 15

both_kernels = pytest.mark.parametrize("kernel", KERNELS)
# What does not depend on the kernel is tested with the default, and with the other at leisure.
each_kernel = pytest.mark.parametrize(
    "kernel", ["hmc", pytest.param("nuts", marks=pytest.mark.slow)]
)
# Runs are too short to be in no doubt; of an interrupt every test has to know.
pytestmark = pytest.mark.filterwarnings("ignore:fit_mcmc. (?!interrupted)")


def run(kernel="hmc", prior=PRIOR, num_samples=LONG, **options):
    return fit(kernel, NET, prior, **{**PLAN, "num_samples": num_samples, **options})


@cache
def whole(kernel="hmc", prior="single", num_samples=LONG, precision="float32"):
    """A run that nothing happened to."""
    with jax.enable_x64(precision == "float64"):
        return run(kernel, STACK if prior == "stacked" else PRIOR, num_samples)


def assert_same(found, expected):
    """To the last bit, all but the time it took."""
    assert found.attrs["seconds"] > 0
    found = found.copy()
    found.attrs["seconds"] = expected.attrs["seconds"]
    xr.testing.assert_identical(found, expected)
    for group in ("posterior", "sample_stats", "chain_state"):
        kinds = [
            {n: v.dtype.kind for n, v in t[group].data_vars.items()} for t in (found, expected)
        ]
        assert kinds[0] == kinds[1]


@pytest.fixture
def small_chunks(monkeypatch):
    """Cut chunks of a draw each, and write every one, without waiting for the disk."""
    monkeypatch.setattr(_chains, "_CHUNK_SECONDS", 1e-9)
    monkeypatch.setattr(_checkpoint, "_SECONDS", 0.0)
    monkeypatch.setattr(_checkpoint.os, "fsync", lambda file: None)


class Killed(BaseException):
    """Stands for the end of the process: nothing of it can be caught, or reaches the disk."""


def kill_at(monkeypatch, number, *, before):
    """End the process at its n-th file, just before or after that takes its place."""
    count, replace = 0, os.replace

    def counted(source, target):
        nonlocal count
        count += 1
        if count == number and not before:
            replace(source, target)
        if count >= number:
            raise Killed
        replace(source, target)

    monkeypatch.setattr(_checkpoint.os, "replace", counted)


# Killed.


@pytest.mark.slow
@each_kernel
@pytest.mark.usefixtures("small_chunks")
def test_a_run_that_dies_at_any_file_it_writes_loses_nothing(kernel, tmp_path, monkeypatch):
    # With chunks of one draw: a note, 31 states, and 40 chunks with a state each.
    for index, number in enumerate((1, 1, 2, 3, 20, 1, 19, 24, 17, 8, 3)):
        with monkeypatch.context() as patch:
            kill_at(patch, number, before=index % 2 == 0)
            with pytest.raises(Killed):
                run(kernel, STACK, checkpoint=tmp_path)
    found = run(kernel, STACK, checkpoint=tmp_path)
    assert_same(found, whole(kernel, "stacked"))
    assert not list(tmp_path.glob("*.tmp"))


KILLED = """
import sys
import time

import jax

jax.config.update("jax_enable_x64", sys.argv[4] == "float64")
from test_checkpoint import PRIOR, STACK, run
from weightprior.inference import _batch
from weightprior.inference._chains import chains as _chains
from weightprior.inference._chains import checkpoint as _checkpoint

advance = _batch.run


def slowly(*args, **options):
    time.sleep(0.03)
    return advance(*args, **options)


# Chunks of a draw, slow enough to be met by a kill.
_batch.run, _chains._CHUNK_SECONDS, _checkpoint._SECONDS = slowly, 1e-9, 0.0
folder, kernel, prior = sys.argv[1:4]
print("begins", flush=True)
run(kernel, STACK if prior == "stacked" else PRIOR, checkpoint=folder, progress_bar=False)
"""
HERE = Path(__file__).parent


def process(script, *arguments, folder):
    """Another process, which runs a script that can import this module."""
    # What tests share lies two folders up.
    paths = filter(None, [str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH")])
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", script, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for(condition, child, seconds=120):
    limit = time.monotonic() + seconds
    while not condition():
        assert child.poll() is None, "the process ended too early"
        assert time.monotonic() < limit, "nothing was written in time"
        time.sleep(0.005)


def num_chunks(folder):
    return len(list(folder.glob("chunk-*.npz")))


@pytest.mark.slow
@each_kernel
def test_a_run_whose_process_is_killed_goes_on_in_another(kernel, tmp_path):
    child = process(KILLED, str(tmp_path), kernel, "stacked", "float32", folder=tmp_path)
    wait_for(lambda: num_chunks(tmp_path) >= 3, child)
    child.kill()
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert 3 <= num_chunks(tmp_path) < LONG
    # The dead process holds no lock.
    assert_same(run(kernel, STACK, checkpoint=tmp_path), whole(kernel, "stacked"))


@pytest.mark.slow
@both_kernels
@pytest.mark.parametrize("precision", ["float32", "float64"], indirect=True)
def test_killed_at_20_random_moments_a_run_loses_nothing(kernel, precision, tmp_path):
    expected = run(kernel, STACK)
    moments = random.Random(0)
    for _ in range(20):
        child = process(KILLED, str(tmp_path), kernel, "stacked", precision, folder=tmp_path)
        assert child.stdout.readline() == "begins\n"
        # Starts, compiling and sampling take some seconds each.
        time.sleep(moments.uniform(0.0, 8.0))
        child.kill()
        child.communicate()
    assert_same(run(kernel, STACK, checkpoint=tmp_path), expected)


def test_a_complete_run_comes_back_at_once(tmp_path, monkeypatch):
    first = run(checkpoint=tmp_path)
    assert_same(first, whole())
    monkeypatch.setattr(_chains, "begin", None)
    monkeypatch.setattr(_chains, "resume", None)
    monkeypatch.setattr(_chains, "sample", None)
    xr.testing.assert_identical(run(checkpoint=str(tmp_path)), first)


def test_seconds_are_those_of_all_pieces(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_after(patch, draws=10)
        with pytest.warns(UserWarning, match="interrupted"):
            before = run(checkpoint=tmp_path)
    after = run(checkpoint=tmp_path)
    assert after.attrs["seconds"] > before.attrs["seconds"]


# Another call, or another folder.


@cache
def moved_start():
    return {name: np.full(site.shape, 0.1) for name, site in NET.bnn.sites.items()}


OTHERS = {
    "x": {"x": NET.x + 1e-12},
    "y": {"y": NET.y * (1 + 1e-12)},
    "likelihood": {"bnn": wp.BNN(NET.bnn.network, wp.Gaussian(noise=0.6))},
    "activations": {"bnn": wp.BNN(wp.mlp(2, (3,), activation="sigmoid"), NET.bnn.likelihood)},
    "prior": {"prior": NET.prior(scale=0.8)},
    "row_weights": {"row_weights": np.arange(15.0)},
    "kernel": {"kernel": "nuts"},
    "rng_key": {"rng_key": 1},
    "num_warmup": {"num_warmup": 31},
    "num_samples": {"num_samples": 41},
    "num_chains": {"num_chains": 3},
    "thinning": {"thinning": 1},
    "target_accept_prob": {"target_accept_prob": 0.81},
    "init": {"init": moved_start()},
    "2 priors": {"prior": STACK},
}


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    folder = tmp_path_factory.mktemp("complete")
    run(checkpoint=folder)
    return folder


@pytest.mark.parametrize("name", OTHERS)
def test_another_call_is_refused_and_what_differs_is_named(name, complete):
    before = {file: file.read_bytes() for file in complete.iterdir()}
    given = {"bnn": NET.bnn, "x": NET.x, "y": NET.y, "prior": PRIOR, "num_samples": LONG}
    given = {**PLAN, **given, **OTHERS[name]}
    with pytest.raises(ValueError, match=rf"checkpoint: expected the call .*another: {name} "):
        wp.fit_mcmc(**given, checkpoint=complete)
    assert before == {file: file.read_bytes() for file in complete.iterdir()} | {
        complete / "lock": before[complete / "lock"]
    }


def test_numbers_that_differ_are_said(complete):
    with pytest.raises(ValueError, match=r"num_samples 50 \(there 40\).*init=fit"):
        run(num_samples=50, checkpoint=complete)


def test_another_precision_is_refused(complete):
    with jax.enable_x64(True), pytest.raises(ValueError, match=r"float64 \(there float32\)"):
        run(checkpoint=complete)


@pytest.mark.slow
def test_functions_of_one_name_are_told_apart(tmp_path):
    def bnn(function):
        return wp.BNN(wp.mlp(2, hidden=(3,), activation=function), NET.bnn.likelihood)

    options = {**PLAN, "num_samples": 5, "checkpoint": tmp_path}
    first = fit("hmc", NET._replace(bnn=bnn(lambda z: jnp.sin(z))), PRIOR, **options)
    again = fit("hmc", NET._replace(bnn=bnn(lambda z: jnp.sin(z))), PRIOR, **options)
    xr.testing.assert_identical(first, again)
    with pytest.raises(ValueError, match=r"activations .*<lambda>"):
        fit("hmc", NET._replace(bnn=bnn(lambda z: jnp.cos(z))), PRIOR, **options)


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"checkpoint: expected a new or empty folder.*thesis.tex"):
        run(checkpoint=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("text", ["{", "[]", '{"run": 1}', '{"run": {}, "parts": [1]}'])
def test_a_note_of_something_else_is_said(text, tmp_path):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run.json', which cannot be used"):
        run(checkpoint=tmp_path)
    assert (tmp_path / "run.json").read_text() == text


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *(("state.npz", damage) for damage in ("cut", "flipped")),
        *(("chunk-000001.npz", damage) for damage in ("cut", "flipped", "gone")),
    ],
)
def test_damaged_files_are_named(name, damage, tmp_path, complete):
    shutil.copytree(complete, tmp_path, dirs_exist_ok=True)
    file = tmp_path / name
    content = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[content.index(b"\n", content.index(b"NUMPY")) + 1] ^= 1  # the first number
        file.write_bytes(content)
    else:
        file.unlink()
    with pytest.raises(ValueError, match=rf"{name}', which cannot be used"):
        run(checkpoint=tmp_path)


def read(folder, call):
    with open_checkpoint(folder, call) as opened:
        return opened.read()


def call_of(folder):
    return Fingerprint(**json.loads((folder / "run.json").read_text()))


def contents(folder):
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != "lock"]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def alike(found, expected):
    ours, theirs = jax.tree.leaves(found), jax.tree.leaves(expected)
    return len(ours) == len(theirs) and all(map(np.array_equal, ours, theirs))


def damages(content, others):
    """What may become of a file: bytes of it are missing, wrong, or of another file."""
    for length in (0, 1, 4, 30, *np.linspace(60, len(content) - 1, 20).astype(int)):
        yield content[:length]
    for place in np.unique(np.linspace(0, len(content) - 1, 250).astype(int)):
        for bits in (0x01, 0xFF):
            yield content[:place] + bytes([content[place] ^ bits]) + content[place + 1 :]
    yield content + b"more"
    yield content[len(content) // 2 :]
    yield b"{}"
    yield b"null"
    yield os.urandom(200)
    yield from others


@pytest.mark.parametrize("name", ["run.json", "state.npz", "chunk-000001.npz"])
def test_whatever_becomes_of_a_file_one_kind_of_error_tells(name, tmp_path, complete):
    shutil.copytree(complete, tmp_path, dirs_exist_ok=True)
    call = call_of(complete)
    whole, file = read(complete, call), tmp_path / name
    content = file.read_bytes()
    others = [other for known, other in contents(complete).items() if known != name]
    count = 0
    for damaged in damages(content, others):
        file.write_bytes(damaged)
        before = contents(tmp_path)
        told, found = None, None
        try:
            found = read(tmp_path, call)
        except ValueError as error:
            told = str(error)
        assert contents(tmp_path) == before
        if told is None:  # as where a date in an archive has changed
            assert alike(found, whole)
        else:
            assert told.startswith("checkpoint: expected ")
            assert str(tmp_path) in told
            assert "Choose another" in told
            count += 1
    assert count > 400
    file.unlink()
    file.mkdir()
    with pytest.raises(ValueError, match=rf"{name}', which cannot be used \(IsADirectoryError"):
        read(tmp_path, call)


@pytest.mark.parametrize("name", ["lock", "state.npz.tmp"])
def test_folders_in_the_place_of_its_own_files_are_told(name, tmp_path, complete):
    shutil.copytree(complete, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=rf"{name}', which cannot be used"):
        read(tmp_path, call_of(complete))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
@pytest.mark.parametrize("name", ["run.json", "state.npz", "chunk-000001.npz"])
def test_files_that_may_not_be_read_are_told(name, tmp_path, complete):
    shutil.copytree(complete, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).chmod(0)
    with pytest.raises(ValueError, match=rf"{name}', which cannot be used \(PermissionError"):
        read(tmp_path, call_of(complete))


def saved(folder, call, run, sizes):
    """A folder with a run of so many draws, a chunk for each number of them."""
    with open_checkpoint(folder, call) as opened:
        weights, stats = run.pieces[0]
        part, start = run._replace(pieces=(), num_draws=0, num_divergences=0), 0
        opened.save(part, now=True)
        for size in sizes:
            piece = jax.tree.map(lambda a: a[:, start : start + size], (weights, stats))  # noqa: B023
            part, start = part.with_draws(piece), start + size
            opened.save(part, now=True)


def test_chunks_that_were_exchanged_are_noticed(tmp_path, complete):
    call = call_of(complete)
    whole = read(complete, call)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    saved(ours, call, whole, (10, 10, 20))
    assert alike(read(ours, call).draws(), whole.draws())
    moved = whole._replace(pieces=jax.tree.map(lambda a: a[:, ::-1], whole.pieces))
    saved(theirs, call, moved, (10, 10, 20))
    first, second = ours / "chunk-000001.npz", ours / "chunk-000002.npz"
    kept = first.read_bytes()
    for other in (second, theirs / "chunk-000001.npz"):
        first.write_bytes(other.read_bytes())
        with pytest.raises(ValueError, match=r"chunk-000001.npz.*not as .*, or another"):
            read(ours, call)
    first.write_bytes(kept)
    # The state of another call, which counts no chunk yet.
    other = call._replace(run=call.run | {"num_warmup": 31})
    saved(tmp_path / "other", other, whole, ())
    shutil.copy(tmp_path / "other" / "state.npz", ours)
    with pytest.raises(ValueError, match=r"state.npz.*not as it was written, or of another run"):
        read(ours, call)


def test_draws_without_their_state_are_not_written_over(tmp_path, complete):
    shutil.copytree(complete, tmp_path, dirs_exist_ok=True)
    (tmp_path / "state.npz").unlink()
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"'chunk-000001.npz' and no 'state.npz'.*Choose another"):
        run(checkpoint=tmp_path)
    assert contents(tmp_path) == before


def test_folders_that_cannot_be_made_are_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"checkpoint: .*which cannot be used \(NotADirectory"):
        run(checkpoint=tmp_path / "file" / "folder")


def test_what_a_folder_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="checkpoint: expected a folder; got the file"):
        run(checkpoint=tmp_path / "file")
    with pytest.raises(TypeError, match="checkpoint: expected the path of a folder; got True"):
        run(checkpoint=True)


def test_a_folder_in_use_is_refused(tmp_path, monkeypatch):
    messages = []

    def second(*args):
        with pytest.raises(ValueError, match=f"process {os.getpid()} is writing to") as caught:
            run(checkpoint=tmp_path)
        messages.append(str(caught.value))
        raise Killed

    monkeypatch.setattr(_chains, "_report", second)
    with pytest.raises(Killed):
        run(checkpoint=tmp_path)
    assert len(messages) == 1
    monkeypatch.undo()
    assert_same(run(checkpoint=tmp_path), whole())


# Interrupted.


def interrupt_after(monkeypatch, *, draws):
    """Press Ctrl-C at the chunk after so many draws, while it is computed."""
    monkeypatch.setattr(_chains, "_CHUNK_SECONDS", 1e-9)
    advance = _batch.run

    def interrupted(task, kernel, shared, items, **options):
        if task is _chains._advance:
            iteration = int(items[0][1].iteration)
            if iteration >= PLAN["num_warmup"] + draws * PLAN["thinning"]:
                raise KeyboardInterrupt
        return advance(task, kernel, shared, items, **options)

    monkeypatch.setattr(_batch, "run", interrupted)


@each_kernel
@pytest.mark.parametrize("prior", ["single", "stacked"])
def test_an_interrupt_gives_the_draws_so_far_which_can_be_extended(kernel, prior, monkeypatch):
    expected = whole(kernel, prior)
    given = STACK if prior == "stacked" else PRIOR
    with monkeypatch.context() as patch:
        interrupt_after(patch, draws=12)
        with pytest.warns(UserWarning, match="12 of 40 draws per chain.*init=fit") as caught:
            part = run(kernel, given)
    assert caught[0].filename == fit.__code__.co_filename
    assert part.attrs["interrupted"] == 1
    assert "interrupted" not in expected.attrs
    validate(part)
    first = expected["posterior"].to_dataset().isel(draw=slice(12))
    xr.testing.assert_identical(part["posterior"].to_dataset(), first)
    assert_same(run(kernel, given, init=part), expected)


def test_an_interrupted_run_goes_on_from_its_folder_too(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_after(patch, draws=12)
        with pytest.warns(UserWarning, match="call it again with the same arguments"):
            part = run(checkpoint=tmp_path)
    # Whichever way it goes on, and both together.
    assert_same(run(init=part, checkpoint=tmp_path), whole())
    assert_same(run(checkpoint=tmp_path), whole())


def test_an_interrupt_of_the_warm_up_leaves_the_folder(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_after(patch, draws=-5)
        with pytest.raises(KeyboardInterrupt, match="the same call continues it"):
            run(checkpoint=tmp_path)
        with pytest.raises(KeyboardInterrupt) as caught:
            run()
        assert not str(caught.value)
    state = np.load(tmp_path / "state.npz")
    assert state["chains/iteration"].tolist() == [20, 20]
    assert_same(run(checkpoint=tmp_path), whole())


INTERRUPTED = """
import signal
import warnings

from test_checkpoint import run

# Which a process started in the background of a shell would ignore.
signal.signal(signal.SIGINT, signal.default_int_handler)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print("begins", flush=True)
    fit = run(num_samples=10_000_000, checkpoint="kept", progress_bar=False)
said = [str(w.message) for w in caught if "interrupted" in str(w.message)]
print(fit["posterior"].sizes["draw"], *said)
fit.to_netcdf("fit.nc")
"""


@pytest.mark.slow
def test_ctrl_c(tmp_path):
    child = process(INTERRUPTED, folder=tmp_path)
    wait_for(lambda: num_chunks(tmp_path / "kept") >= 1, child)
    child.send_signal(signal.SIGINT)
    output, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    begins, said = output.splitlines()
    count = int(said.split()[0])
    assert begins == "begins"
    assert f"holds {count} of 10000000 draws" in said
    with xr.open_datatree(tmp_path / "fit.nc") as part:
        longer = run(num_samples=count + 5)
        first = longer["posterior"].to_dataset().isel(draw=slice(count))
        xr.testing.assert_identical(part["posterior"].to_dataset().load(), first)
        assert_same(run(num_samples=count + 5, init=part), longer)


def test_what_was_done_before_is_counted(tmp_path, monkeypatch):
    told = []
    with monkeypatch.context() as patch:
        interrupt_after(patch, draws=10)
        with pytest.warns(UserWarning, match="interrupted"):
            run(checkpoint=tmp_path)
    report = _chains._report

    def watched(count, *args):
        told.append(count.done)
        report(count, *args)
        told.append((count.done, count.total, count.doing, count.beside))

    monkeypatch.setattr(_chains, "_report", watched)
    run(checkpoint=tmp_path)
    assert told[0] == 50
    *numbers, doing, beside = told[-1]
    assert (numbers, doing) == ([110, 110], "sampling")
    assert re.fullmatch(r"acceptance 0\.\d\d, divergences \d+", beside)


# Extended.


@each_kernel
@pytest.mark.parametrize("prior", ["single", "stacked"])
@pytest.mark.parametrize("saved", [False, True], ids=["at hand", "from disk"])
def test_more_samples_of_a_fit_are_those_of_a_longer_run(kernel, prior, saved, precision, tmp_path):
    given = STACK if prior == "stacked" else PRIOR
    expected, earlier = (whole(kernel, prior, length, precision) for length in (LONG, SHORT))
    if saved:
        earlier.to_netcdf(tmp_path / "fit.nc")
        earlier = xr.open_datatree(tmp_path / "fit.nc").load()
        earlier.close()
    misses = _programs._compile_once.cache_info().misses
    found = run(kernel, given, init=earlier)
    assert _programs._compile_once.cache_info().misses == misses
    assert found["posterior"]["output.bias"].dtype == precision
    assert found.attrs["seconds"] > earlier.attrs["seconds"]
    assert_same(found, expected)


def test_a_part_of_a_stacked_fit_is_extended_by_itself():
    part = wp.unstack_fit(run(prior=STACK, num_samples=SHORT))["moved"]
    assert_same(run(init=part), whole())


def test_an_extension_of_an_extension_in_a_folder(tmp_path):
    once = run(num_samples=25, init=run(num_samples=SHORT))
    assert_same(run(init=once, checkpoint=tmp_path), whole())
    assert_same(run(init=once, checkpoint=tmp_path), whole())


@pytest.mark.parametrize(
    "other",
    [
        {"rng_key": 1},
        {"num_warmup": 40},
        {"target_accept_prob": 0.8},
        {"thinning": 1},
        {"num_samples": SHORT},
        {"num_chains": 1},
        {"prior": NET.prior(scale=0.8)},
        {"row_weights": np.arange(15.0)},
    ],
    ids=lambda other: next(iter(other)),
)
def test_any_other_call_starts_at_the_last_draws_with_a_new_warm_up(other):
    earlier, [name] = whole(num_samples=SHORT), other
    # Another prior and other data are another question: there is nothing to extend.
    if name in ("prior", "row_weights"):
        found = run(init=earlier, **other)
    else:
        why = f"holds {SHORT} draws" if name == "num_samples" else f"another call: {name} .*there"
        with pytest.warns(UserWarning, match=rf"init is not extended, since it (is of )?{why}"):
            found = run(init=earlier, **other)
    assert json.loads(found.attrs["options"])["init"] == "fit"
    first = found["posterior"]["output.bias"][:1, :SHORT].to_numpy()
    assert not np.array_equal(first, earlier["posterior"]["output.bias"][:1])
    iterations = found["chain_state"]["iteration"].to_numpy()
    plan = {**PLAN, "num_samples": LONG, **other}
    assert np.all(iterations == plan["num_warmup"] + plan["num_samples"] * plan["thinning"])


def test_a_fit_that_lost_draws_is_not_extended():
    earlier = whole(num_samples=SHORT).isel(draw=slice(5, None))
    with pytest.warns(UserWarning, match=r"others have been removed\. Chains start anew"):
        found = run(init=earlier)
    assert json.loads(found.attrs["options"])["init"] == "fit"
    assert found["posterior"].sizes["draw"] == LONG


# Without the log likelihood of every row.


def test_the_log_likelihood_can_be_left_out(tmp_path):
    without = run(log_likelihood=False)
    expected = xr.DataTree.from_dict(
        {
            name: group.dataset
            for name, group in whole().children.items()
            if name != "log_likelihood"
        }
    )
    expected.attrs = whole().attrs
    assert_same(without, expected)
    scores = wp.score(NET.bnn, without, NET.x, NET.y)
    xr.testing.assert_identical(scores, wp.score(NET.bnn, whole(), NET.x, NET.y))
    # It is no part of the run.
    assert_same(run(init=run(num_samples=SHORT, log_likelihood=False)), whole())


def test_what_is_missing_without_it_is_said():
    with pytest.raises(ValueError, match="log_likelihood=False"):
        log_likelihood_of(run(log_likelihood=False))
    assert log_likelihood_of(whole()).sizes["obs_id"] == 15
