"""What an accelerator has to show: gradients, lanes and effective draws, in both precisions.

It runs on whatever JAX's default backend is, so that a CPU gives the numbers to compare with. A
gradient is one of the log density of all weights of a network with one hidden layer; microseconds
are those of one, the median of the repeats, of a compiled loop over ten.

    python benchmarks/accelerator.py                   a minute on two cores, rows up to 1e5
    python benchmarks/accelerator.py --rows 1e5 1e6    other numbers of rows
    python benchmarks/accelerator.py --chains          effective draws per second as well
"""

import argparse
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np

import weightprior as wp
from weightprior.fits.programs import compiled, placed
from weightprior.fits.task import Task
from weightprior.inference._coordinates.choose import coordinates_of

FEATURES, GRADIENTS, REPEATS = 10, 10, 7
PRECISIONS = {"float32": False, "float64": True}


def main() -> None:
    options = parse()
    warnings.simplefilter("ignore")
    print(f"{jax.devices()[0].device_kind}, {len(jax.devices())} device(s)")
    print("\nMicroseconds per gradient: rows, width, float32, float64")
    for rows in options.rows:
        for width in options.widths:
            took = [one(int(rows), width, precision) for precision in PRECISIONS.values()]
            print(f"  {rows:9.0e} {width:5d}   " + " ".join(f"{t:12.1f}" for t in took), flush=True)
    print("\nMicroseconds per gradient of a lane, side by side: lanes, vmapped, in threads")
    for count in options.lanes:
        print(f"  {count:5d} {lanes(count):12.1f} {threads(count):12.1f}", flush=True)
    if options.chains:
        chains(int(options.rows[-1]))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=float, nargs="+", default=[1e3, 1e4, 1e5])
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--chains", action="store_true", help="sample at the last number of rows")
    return parser.parse_args()


def problem(rows: int, width: int):
    """Model, rows and prior."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, FEATURES))
    y = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] / 2 + 0.3 * rng.normal(size=rows)
    bnn = wp.BNN(wp.mlp(FEATURES, hidden=(width,)), wp.Gaussian())
    return bnn, x, y, wp.normal_prior(bnn)


def gradients(static, shared, item):
    """Ten gradients, one after the other."""
    prior, counts, position = item
    coordinates = coordinates_of(False, shared, Task(prior, counts))
    move = jax.grad(coordinates.log_density)
    return jax.lax.fori_loop(0, GRADIENTS, lambda _, z: z + 1e-9 * move(z), position)


def program_of(rows: int, width: int, count: int | None = None):
    """Compile for one position, or for so many side by side; return a call of no arguments."""
    bnn, x, y, prior = problem(rows, width)
    shared = placed((bnn, x, y))
    size = coordinates_of(False, shared, Task(prior, np.ones(rows))).size
    position = np.random.default_rng(1).normal(size=size).astype(jnp.result_type(float))
    item = prior, np.ones(rows), position
    if count is not None:
        item = jax.tree.map(lambda a: np.stack([np.asarray(a)] * count), item)
    item = placed(item)
    program = compiled(gradients, None, shared, item, count is not None)
    program.wait()
    return lambda: jax.block_until_ready(program(shared, item))


def median(call, per: int) -> float:
    """Microseconds of one of `per` gradients, the median of the repeats."""
    call()
    took = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return float(np.median(took)) / per * 1e6


def one(rows: int, width: int, precise: bool) -> float:
    with jax.enable_x64(precise):
        return median(program_of(rows, width), GRADIENTS)


def lanes(count: int, rows: int = 5000, width: int = 32) -> float:
    return median(program_of(rows, width, count), GRADIENTS * count)


def threads(count: int, rows: int = 5000, width: int = 32) -> float:
    call = program_of(rows, width)
    with ThreadPoolExecutor(min(count, jax.local_device_count() * 8)) as pool:
        return median(lambda: list(pool.map(lambda _: call(), range(count))), GRADIENTS * count)


def chains(rows: int) -> None:
    """Print effective draws per second, and how long lanes wait for one another."""
    bnn, x, y, prior = problem(rows, 32)
    options = {"num_chains": 4, "num_warmup": 200, "num_samples": 200, "log_likelihood": False}
    fit = wp.fit_mcmc(bnn, x, y, prior=prior, **options)
    ess = float(az.ess(fit["sample_stats"]["lp"]).to_array().min())
    steps = fit["sample_stats"]["n_steps"].transpose("chain", "draw").to_numpy()
    idle = 1 - steps.mean() / steps.max(axis=0).mean()
    print(
        f"\nfit_mcmc, {rows:.0e} rows, 4 chains: {ess / fit.attrs['seconds']:.3f} effective draws "
        f"of the log density per second; lanes wait {idle:.0%} of the time"
    )


if __name__ == "__main__":
    main()
