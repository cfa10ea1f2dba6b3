"""The evidence of the data: `fit_tempered` against blackjax's tempered and persistent particles.

The same model and data for all, each in turn in one process, with other keys every time. The first
call is cold, compilation included. What counts is the work for an error of a tenth of a nat: the
seconds of a warm call times the square of its estimates' spread over keys, which falls with their
number. `fit_tempered` has an error of its own to hold against that spread.

Run with, say, ``python benchmarks/evidence.py 1-20-1 --repeats 5``.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np

import weightprior as wp

sys.path.append(str(Path(__file__).parent / "peers"))
import particles

PROBLEMS = ("2-3-1", "1-20-1", "4-4-3")


def problem_of(name):
    rng = np.random.default_rng(0)
    if name == "1-20-1":
        x = np.sort(rng.uniform(-2, 2, 100))[:, None]
        y = np.sin(2 * x[:, 0]) + 0.3 * x[:, 0] + 0.1 * rng.normal(size=100)
        return wp.BNN(wp.mlp(1, hidden=(20,)), wp.Gaussian(noise=0.1)), x, y
    if name == "4-4-3":
        from sklearn.datasets import load_iris

        x, y = load_iris(return_X_y=True)
        x = (x - x.mean(0)) / x.std(0)
        return wp.BNN(wp.mlp(4, hidden=(4,), num_outputs=3), wp.Categorical(3)), x[::2], y[::2]
    x = rng.normal(size=(15, 2))
    y = np.sin(2 * x[:, 0]) + 0.5 * rng.normal(size=15)
    return wp.BNN(wp.mlp(2, hidden=(3,)), wp.Gaussian(noise=0.5)), x, y


def ours(bnn, x, y, seed):
    fit = wp.fit_tempered(bnn, x, y, prior=wp.normal_prior(bnn), rng_key=seed, log_likelihood=False)
    found = wp.log_evidence(fit)
    return float(found["log_evidence"]), float(found["error"]), bool(found["reliable"])


def of_particles(persistent):
    def run(bnn, x, y, seed):
        prior = wp.normal_prior(bnn)
        value = particles.log_evidence(bnn, x, y, prior, seed, persistent=persistent)
        return float(value), np.nan, True

    return run


PEERS = {
    "fit_tempered": ours,
    "tempered particles": of_particles(False),
    "persistent particles": of_particles(True),
}


def compare(name, repeats):
    problem = problem_of(name)
    rows = {peer: [] for peer in PEERS}
    for seed in range(repeats + 1):
        for peer, run in PEERS.items():
            began = time.perf_counter()
            found = run(*problem, seed)
            rows[peer].append((time.perf_counter() - began, *found))
    print(name)
    work = {}
    for peer, table in rows.items():
        seconds, values, errors, reliable = (
            np.array(column) for column in zip(*table, strict=True)
        )
        warm, spread = seconds[1:], values.std(ddof=1)
        work[peer] = np.median(warm) * (spread / 0.1) ** 2
        told = f", own error {errors.mean():.3f}, reliable {reliable.sum()} of {len(values)}"
        print(
            f"  {peer}: cold {seconds[0]:.1f} s; warm {np.median(warm):.1f} s "
            f"({warm.min():.1f} to {warm.max():.1f}); {values.mean():.3f}, spread {spread:.3f}"
            + (told if np.isfinite(errors).all() else "")
            + f"; {work[peer]:.1f} s for 0.1 nats"
        )
    for peer in list(PEERS)[1:]:
        # Of two spreads over so few keys the ratio is rough: its square has an F distribution.
        print(f"  {peer} / fit_tempered, work: {work[peer] / work['fit_tempered']:.2g}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problems", nargs="*", default=[], metavar="problem")
    parser.add_argument("--repeats", type=int, default=5, help="warm runs")
    options = parser.parse_args()
    if unknown := set(options.problems) - set(PROBLEMS):
        parser.error(f"problems are {', '.join(PROBLEMS)}; got {', '.join(unknown)}")
    warnings.simplefilter("ignore")
    for name in options.problems or PROBLEMS:
        compare(name, options.repeats)


if __name__ == "__main__":
    main()
