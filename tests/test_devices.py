"""Rows that are divided among two devices, in a process that is made to have them."""

import json
import os
import socket
import subprocess
import sys
import textwrap

import numpy as np
import pytest

BEGIN = """
import json, warnings
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
import weightprior as wp
from weightprior.fits import fingerprint
from weightprior.fits.problem import Problem
from weightprior.fits.programs import compiled
from weightprior.inference._coordinates import choose
from weightprior.model import blocks

mesh = jax.make_mesh((2,), ("rows",))
rng = np.random.default_rng(0)
x = rng.normal(size=(640, 3)).astype(np.float32)
y = np.sin(x[:, 0]) + 0.3 * rng.normal(size=640)
counts = rng.integers(0, 3, size=640).astype(float)
divided = jax.device_put(x, NamedSharding(mesh, PartitionSpec("rows")))
bnn = wp.BNN(wp.mlp(3, hidden=(8,)), wp.Gaussian())
prior = wp.normal_prior(bnn)
"""


def run(script):
    """What a script prints, as JSON."""
    flags = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + textwrap.dedent(script)],
        env=flags,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def test_densities_and_gradients_are_those_of_one_device():
    """Values to the rounding of sums in double precision, gradients in single precision to 1e-5."""
    found = run("""
        def value_and_gradient(collapse, shared, item):
            of = choose.coordinates_of(collapse, shared, item[0])
            return jax.value_and_grad(of.log_density)(item[1])

        def information(collapse, shared, item):
            return choose.coordinates_of(collapse, shared, item[0]).precision(item[1])

        def compare(task, collapse):
            answers = []
            for inputs in (x, divided):
                problem = Problem.checked(bnn, inputs, y, prior=prior, row_weights=counts)
                shared, item = problem.data, problem.tasks[0]
                size = choose.coordinates_of(collapse, shared, item).size
                given = item, jnp.linspace(-1, 1, size, dtype=jnp.float32)
                program = compiled(task, collapse, shared, given, False)
                answers.append([np.asarray(a) for a in jax.tree.leaves(program(shared, given))])
                text = program.executable.result().as_text()
            apart = [float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip(*answers)]
            return apart, text.count(" all-gather("), text.count(" all-reduce(")

        told = {}
        for size in ("blocks", "at once"):
            if size == "blocks":
                blocks._MOST_AT_ONCE, blocks._OF_A_BLOCK = 1000, 8 * 64
            else:
                blocks._MOST_AT_ONCE = 2**20
            from weightprior.fits.programs import clear_programs
            clear_programs()
            for collapse in (False, True):
                told[f"{collapse}, {size}"] = compare(value_and_gradient, collapse)
            told[f"matrix, {size}"] = compare(information, False)
        print(json.dumps(told))
    """)
    assert len(found) == 6
    for apart, gathered, summed in found.values():
        assert max(apart) < 1e-5
        assert gathered == 0
        assert summed > 0


@pytest.mark.slow
def test_a_fit_is_that_of_one_device():
    found = run("""
        told = {}
        for name, inputs in (("one", x), ("two", divided)):
            linear = wp.BNN(wp.mlp(3, hidden=()), wp.Gaussian())
            fit = wp.fit_map(linear, inputs, y, prior=wp.normal_prior(linear), num_restarts=2)
            kept = fit["constant_data"]["x"].to_numpy()
            problem = Problem.checked(bnn, inputs, y, prior=prior)
            chains = wp.fit_mcmc(
                linear, inputs, y, prior=wp.normal_prior(linear), init=fit, num_chains=1,
                num_warmup=0, num_samples=1,
            )
            told[name] = {
                "weights": fit["posterior"]["output.weight"].to_numpy().ravel().tolist(),
                "converged": bool(fit["restarts"]["converged"].all()),
                "kept": bool((kept == x).all()),
                "lp": chains["sample_stats"]["lp"].to_numpy().ravel().tolist(),
                "run": fingerprint.of_call(problem, {}).run.get("devices of rows"),
            }
        print(json.dumps(told))
    """)
    one, two = found["one"], found["two"]
    assert all(told[name] for told in (one, two) for name in ("kept", "converged"))
    np.testing.assert_allclose(two["weights"], one["weights"], atol=1e-6)
    np.testing.assert_allclose(two["lp"], one["lp"], rtol=1e-5)  # in single precision
    assert (one["run"], two["run"]) == (None, 2)


@pytest.mark.slow
def test_what_is_placed_otherwise_is_told_or_taken_as_it_is():
    found = run("""
        square = jax.make_mesh((2,), ("columns",))
        columns = jax.device_put(
            np.zeros((4, 2)), NamedSharding(square, PartitionSpec(None, "columns"))
        )
        everywhere = jax.device_put(x, NamedSharding(mesh, PartitionSpec()))
        two = wp.BNN(wp.mlp(2, hidden=()), wp.Gaussian())
        told = []
        try:
            wp.fit_map(two, columns, np.zeros(4), prior=wp.normal_prior(two))
        except ValueError as error:
            told.append(str(error))
        told.append(Problem.checked(bnn, everywhere, y, prior=prior).devices)
        print(json.dumps(told))
    """)
    assert "x: expected rows of its own on every device; got P(None" in found[0]
    assert found[1] == []


OF_A_PROCESS = """
import sys
import time
import jax
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
# Clocks differ, so that calls must not be cut by them.
real = time.perf_counter
time.perf_counter = lambda: real() * (1 + 30 * int(sys.argv[2]))
import json
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
import weightprior as wp

rng = np.random.default_rng(0)
x = rng.normal(size=(400, 3)).astype(np.float32)
y = np.sin(x[:, 0]) + 0.3 * rng.normal(size=400)
bnn = wp.BNN(wp.mlp(3, hidden=()), wp.Gaussian())
prior = wp.normal_prior(bnn)
mine = np.split(x, 2)[jax.process_index()]
sharding = NamedSharding(jax.make_mesh((2,), ("rows",)), PartitionSpec("rows"))
divided = jax.make_array_from_process_local_data(sharding, mine)
fit = wp.fit_map(bnn, divided, y, prior=prior, num_restarts=2)
chains = wp.fit_mcmc(bnn, divided, y, prior=prior, num_chains=2, num_warmup=50, num_samples=50)
alone = wp.fit_map(bnn, x, y, prior=prior, num_restarts=2)
# Every restart draws its batches at its own pace.
batches = {"batch_size": 20, "num_epochs": 20, "num_restarts": 4}
near, near_alone = (wp.fit_map(bnn, rows, y, prior=prior, **batches) for rows in (divided, x))
quantiles = wp.predict(bnn, fit, divided, quantiles=(0.5,))["quantiles"]
print(json.dumps({
    "near weights": [
        one["restarts"]["output.weight"].to_numpy().ravel().tolist() for one in (near, near_alone)
    ],
    "score": [wp.score(bnn, fit, rows, y)["elpd"].item() for rows in (divided, x)],
    "quantiles": quantiles.shape,
    "lp": [one["sample_stats"]["lp"].item() for one in (fit, alone)],
    "chains": chains["posterior"]["output.weight"].to_numpy().ravel().tolist(),
    "converged": bool(fit["restarts"]["converged"].all()),
}))
"""


@pytest.mark.slow
def test_two_processes_have_half_of_the_rows_each():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OF_A_PROCESS, address, number],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in ("0", "1")
    ]
    answers = [process.communicate(timeout=300) for process in processes]
    assert not any(process.returncode for process in processes), answers
    first, second = (json.loads(told.splitlines()[-1]) for told, _ in answers)
    assert first == second
    assert first["converged"]
    assert first["lp"][0] == pytest.approx(first["lp"][1], abs=1e-8)
    np.testing.assert_allclose(*first["near weights"], atol=1e-6)
    assert first["score"][0] == pytest.approx(first["score"][1], abs=1e-8)
    assert first["quantiles"] == [400, 1]
