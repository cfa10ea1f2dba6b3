"""Parts of a stacked prior on one worker and on two, of one core each; and what a part costs.

Forty priors, chains of which take at least a second each on one core. Workers have everything
compiled before the clock starts. One worker and two take turns, and the ratio is that of the
seconds. What travels is measured as it is pickled; what a part costs beside its fit, by a fit
function that returns a fit made before.

    python benchmarks/many_machines.py                  spawned processes, then dask: ten minutes
    python benchmarks/many_machines.py --parts 8 --repeats 1
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial

import cloudpickle
from posterior import problem, spread

import weightprior as wp

CHAINS = {"num_samples": 2500, "num_chains": 4, "log_likelihood": False}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    bnn, x, y, prior = problem("10-32-1", 0.0, False)
    path = wp.stack_priors(dict.fromkeys(range(options.parts), prior))
    local = wp.fit_mcmc(bnn, x, y, prior=prior, **CHAINS)
    kilobytes = [len(cloudpickle.dumps(one)) / 1000 for one in ((bnn, x, y, prior), local)]
    print("Kilobytes of a part, up and down: {:.0f} and {:.0f}".format(*kilobytes))
    for name, workers in {"spawned processes": spawned, "dask": dask}.items():
        compare(name, workers, (bnn, x, y), path, local, options)


def compare(name, workers, data, path, local, options) -> None:
    """Print seconds of one worker and of two, in turn."""
    seconds = {1: [], 2: []}
    fit = partial(wp.fit_mcmc, **CHAINS)
    for _ in range(options.repeats):
        for number in seconds:
            with workers(number) as executor:
                distributed = wp.distribute(fit, executor)
                warm(distributed, data, path, number)
                began = time.perf_counter()
                distributed(*data, prior=path)
                seconds[number].append(time.perf_counter() - began)
                began = time.perf_counter()
                wp.distribute(Nothing(local), executor)(*data, prior=path)
                idle = (time.perf_counter() - began) / options.parts
    ratios = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    print(
        f"{name}: {options.parts} parts, one worker {spread(seconds[1])} s, two "
        f"{spread(seconds[2])} s, ratio {spread(ratios)}; a part that does nothing "
        f"{1000 * idle:.0f} ms; seconds of a part {seconds[1][-1] / options.parts:.2f}",
        flush=True,
    )


class Nothing:
    """A fit function that returns a fit made before."""

    def __init__(self, made) -> None:
        self.made = made

    def __call__(self, bnn, x, y, *, prior):
        return self.made.copy()


def warm(distributed, data, path, number) -> None:
    """Let every worker compile: so many parts at once that each has some."""
    labels = path.labels[: 4 * number]
    distributed(*data, prior=wp.stack_priors({label: path[label] for label in labels}))


def pin(queue) -> None:
    """Hold this process to a core of its own, before it has threads."""
    os.sched_setaffinity(0, {queue.get()})


@contextmanager
def spawned(number: int) -> Iterator:
    """Processes of one core each."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        queue = manager.Queue()
        for core in range(number):
            queue.put(core)
        with ProcessPoolExecutor(number, context, initializer=pin, initargs=(queue,)) as pool:
            yield pool


@contextmanager
def dask(number: int) -> Iterator:
    """Workers of a dask cluster, of one core each."""
    from distributed import Client, LocalCluster

    cluster = LocalCluster(n_workers=0, dashboard_address=":0", silence_logs=40)
    with cluster, Client(cluster) as client:
        command = [sys.executable, "-m", "distributed.cli.dask_worker", client.scheduler.address]
        command += ["--nthreads", "1", "--no-dashboard"]
        workers = [
            subprocess.Popen(["taskset", "-c", str(core), *command], stderr=subprocess.DEVNULL)
            for core in range(number)
        ]
        try:
            client.wait_for_workers(number)
            yield client.get_executor()
        finally:
            for worker in workers:
                worker.terminate()
                worker.wait()


if __name__ == "__main__":
    main()
