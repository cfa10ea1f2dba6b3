"""Peak memory and seconds against the number of rows, method by method.

Every measurement is a process of its own, which makes its data, takes note of the memory that it
holds, and runs one method on a network of 10-32-1. What a fit is needed for is fitted to 1,000 of
the rows, by a process before it.

    python benchmarks/many_rows.py                  1e4, 1e5 and 1e6 rows: an hour on two cores
    python benchmarks/many_rows.py --rows 10000 100000
    python benchmarks/many_rows.py --docs           fills the table of docs/many_rows.md as well
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np
from pages import fill

import weightprior as wp

FEATURES = 10
BRIEF = {"num_chains": 1, "num_warmup": 5, "num_samples": 5}
LEAN = {"log_likelihood": False}


def data(num_rows):
    """Inputs and targets of a smooth function, with noise; and the model."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(num_rows, FEATURES))
    y = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] / 2 + 0.3 * rng.normal(size=num_rows)
    return wp.BNN(wp.mlp(FEATURES, hidden=(32,)), wp.Gaussian()), x, y


def small_fit(bnn, x, y):
    """A fit of 100 draws, whatever the number of rows."""
    chains = {"num_chains": 2, "num_samples": 50, "num_warmup": 100, **LEAN}
    return wp.fit_mcmc(bnn, x[:500], y[:500], prior=wp.normal_prior(bnn), **chains)


def fit_map(bnn, x, y, prior):
    """Five epochs of mini-batches, and 100 steps with all rows, which is not to convergence."""
    batches = {"batch_size": 1000, "num_epochs": 5, "max_iterations": 100}
    return wp.fit_map(bnn, x, y, prior=prior, num_restarts=1, **batches, **LEAN)


def fit_map_from_disk(bnn, x, y, prior):
    """As `fit_map`, of a memory map."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/x.npy", x)
        fit_map(bnn, np.load(f"{folder}/x.npy", mmap_mode="r"), y, prior)


def fit_laplace(bnn, x, y, prior):
    """Around the end of a short search: a tolerance so large takes it for an optimum."""
    options = {"num_restarts": 1, "tolerance": len(x), "num_samples": 100}
    return wp.fit_laplace(bnn, x, y, prior=prior, **options, **LEAN)


def fit_mcmc(bnn, x, y, prior):
    wp.fit_mcmc(bnn, x, y, prior=prior, **BRIEF, **LEAN)


def predict(bnn, x, y, fit):
    wp.predict(bnn, fit, x, quantiles=(0.05, 0.95))


def score(bnn, x, y, fit):
    wp.score(bnn, fit, x, y)


def compare(bnn, x, y, prior):
    """As `fit_laplace`, and then the leave-one-out of its draws."""
    wp.compare(bnn, {"laplace": fit_laplace(bnn, x, y, prior)})


OF_A_PRIOR = {
    "fit_map": fit_map,
    "fit_map, from a disk": fit_map_from_disk,
    "fit_laplace": fit_laplace,
    "compare": compare,
    "fit_mcmc": fit_mcmc,
}
OF_A_FIT = {"predict": predict, "score": score}
METHODS = OF_A_PRIOR | OF_A_FIT


def measure(method: str, num_rows: int) -> None:
    """Print the gigabytes that the data take, the most that was held, and the seconds."""
    warnings.simplefilter("ignore")
    bnn, x, y = data(num_rows)
    given = small_fit(bnn, x, y) if method in OF_A_FIT else wp.normal_prior(bnn)
    held, began = gigabytes(), time.perf_counter()
    METHODS[method](bnn, x, y, given)
    print(x.nbytes / 1e9, held, gigabytes(), time.perf_counter() - began)


def gigabytes() -> float:
    """Most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=float, nargs="+", default=[1e4, 1e5, 1e6])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=[*METHODS])
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(options.one[0], int(options.one[1]))
        return
    table = {}
    for method in options.methods:
        found = [of_process(method, int(rows)) for rows in options.rows]
        for rows, (of_x, before, most, seconds) in zip(options.rows, found, strict=True):
            print(
                f"{method}, {rows:.0e} rows: x {of_x:.3f} GB, before {before:.2f} GB, most "
                f"{most:.2f} GB, {seconds:.1f} s",
                flush=True,
            )
        grown = "" if len(found) == 1 else f"{copies(found):.1f}"
        print(f"{method}: grows by copies of x: {grown}", flush=True)
        cells = [f"{most:.2f} GB, {seconds:.0f} s" for _, _, most, seconds in found]
        name, *where = method.split(", ")
        table[", ".join([f"`{name}`", *where])] = [*cells, grown]
    if options.docs:
        fill("many_rows", "memory and seconds", table)


def copies(found: list[list[float]]) -> float:
    """Growth of the peak from the first to the last, over that of x."""
    (first, _, least, _), (last, _, most, _) = found[0], found[-1]
    return (most - least) / (last - first)


def of_process(method: str, num_rows: int) -> list[float]:
    command = [sys.executable, __file__, "--one", method, str(num_rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return [float(number) for number in done.stdout.split()]


if __name__ == "__main__":
    main()
