"""Effective draws per second of the posterior: `fit_mcmc` against NumPyro's NUTS, and bde.

The same model, data and single precision for all; four chains of 1,000 draws after 500 of warm-up.
What counts is the smallest bulk effective sample size of the network's outputs at 20 inputs, over
the seconds of the whole call: starts, warm-up, draws and, for `fit_mcmc`, the fit with its log
likelihoods. Cold is the first call of a fresh process, compilation included; warm are later calls
with other keys, each side in turn so that both see the same machine. Predictions are held against a
long run: errors of the predictive mean in posterior sds, and of the predictive sd in percent.

Run one problem and options with, say, ``python benchmarks/posterior.py 1-20-1 --repeats 5``;
``--loc 1`` centres the prior at one. NUTS takes many minutes on the larger problems.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

# NumPyro's chains run side by side on as many devices, of which a CPU is one unless told.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")

import jax
import numpy as np
from arviz_stats.base import array_stats
from numpyro.infer import MCMC, NUTS
from sklearn.datasets import load_diabetes, load_digits, make_friedman1

import weightprior as wp

PROBLEMS = ("1-20-1", "10-32-1", "10-32-32-1", "8-50-1", "64-32-10")
PEERS = ("hmc", "mclmc", "numpyro")
NUM_WARMUP, NUM_SAMPLES, NUM_CHAINS, NUM_INPUTS = 500, 1000, 4, 20


def standardised(values):
    return (values - values.mean(0)) / values.std(0)


def problem(name, loc):
    """A model, its data and its prior: one over the root of the fan-in, centred at `loc`."""
    rng = np.random.default_rng(0)
    likelihood = wp.Gaussian(noise={"1-20-1": 0.1, "8-50-1": 0.2}.get(name, 0.7))
    if name == "1-20-1":
        x = np.sort(rng.uniform(-2, 2, 100))[:, None]
        y = np.sin(2 * x[:, 0]) + 0.3 * x[:, 0] + 0.1 * rng.normal(size=100)
        network = wp.mlp(1, (20,))
    elif name == "8-50-1":
        x, y = make_friedman1(1000, n_features=8, noise=1.0, random_state=0)
        x, y, network = standardised(x), standardised(y), wp.mlp(8, (50,))
    elif name == "64-32-10":
        x, y = load_digits(return_X_y=True)
        rows = rng.permutation(len(y))[:1000]
        x, y = x[rows] / 16, y[rows]
        network, likelihood = wp.mlp(64, (32,), 10), wp.Categorical(10)
    else:
        x, y = load_diabetes(return_X_y=True)
        rows = rng.permutation(len(y))[:353]
        x, y = standardised(x[rows]), standardised(y[rows])
        network = wp.mlp(10, (32,) if name == "10-32-1" else (32, 32))
    bnn = wp.BNN(network, likelihood)
    return bnn, x, y, wp.normal_prior(bnn, loc=loc, scale=wp.fan_in_scale(bnn))


def inputs_of(x):
    return x[np.linspace(0, len(x) - 1, NUM_INPUTS).astype(int)]


def outputs(bnn, weights, x):
    """The network's outputs, (chain, draw, input, output), in double precision."""
    with jax.enable_x64(True):
        apply = jax.jit(lambda draws: jax.lax.map(lambda w: bnn.network.apply(w, x), draws))
        chains = [
            apply({n: np.asarray(weights[n][c], np.float64) for n in bnn.sites})
            for c in range(len(weights["output.bias"]))
        ]
        return np.stack([np.asarray(chain) for chain in chains])


def ours(bnn, x, y, prior, kernel):
    def run(seed, num_samples=NUM_SAMPLES):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = wp.fit_mcmc(
                *(bnn, x, y),
                prior=prior,
                rng_key=seed,
                kernel=kernel,
                num_warmup=NUM_WARMUP,
                num_samples=num_samples,
                num_chains=NUM_CHAINS,
                progress_bar=False,
            )
        steps = float(fit["sample_stats"]["n_steps"].mean())
        return {n: fit["posterior"][n].to_numpy() for n in bnn.sites}, steps

    return run


def numpyro(bnn, x, y, prior, chain_method):
    # One object for all runs: it compiles once.
    mcmc = MCMC(
        NUTS(bnn.model),
        num_warmup=NUM_WARMUP,
        num_samples=NUM_SAMPLES,
        num_chains=NUM_CHAINS,
        chain_method=chain_method,
        progress_bar=False,
    )
    x = np.asarray(x, np.float32)
    y = np.asarray(y, np.float32) if y.dtype.kind == "f" else y

    def run(seed):
        mcmc.run(jax.random.key(seed), x, y, prior=prior, extra_fields=("num_steps",))
        draws = jax.device_get(mcmc.get_samples(group_by_chain=True))
        return draws, float(np.mean(mcmc.get_extra_fields()["num_steps"]))

    return run


def runner(peer, bnn, x, y, prior):
    if peer.startswith("numpyro"):
        return numpyro(bnn, x, y, prior, peer.partition(":")[2] or "parallel")
    return ours(bnn, x, y, prior, peer)


def timed(run, seed):
    began = time.perf_counter()
    weights, steps = run(seed)
    return weights, steps, time.perf_counter() - began


def measures(bnn, x, weights, steps, seconds, reference):
    found = outputs(bnn, weights, inputs_of(x))
    axes = {"chain_axis": 0, "draw_axis": 1}
    ess = float(array_stats.ess(found, method="bulk", **axes).min())
    row = {
        "seconds": seconds,
        "ess": ess,
        "rate": ess / seconds,
        "gradients": steps,
        "rhat": float(array_stats.rhat(found, **axes).max()),
    }
    if reference is not None:
        mean, sd = reference
        row["mean_error"] = float(np.max(np.abs(found.mean((0, 1)) - mean) / sd))
        row["sd_error"] = float(np.max(np.abs(found.std((0, 1)) / sd - 1)) * 100)
        row["sd_bias"] = float(np.mean(found.std((0, 1)) / sd - 1) * 100)
    return row


def long_run(bnn, x, y, prior, num_samples):
    """Mean and sd of the outputs from a run of other seeds, long enough to count as the truth."""
    weights, _ = ours(bnn, x, y, prior, "hmc")(1_000, num_samples)
    found = outputs(bnn, weights, inputs_of(x))
    return found.mean((0, 1)), found.std((0, 1))


def cold(name, loc, peer):
    """Seconds and effective draws of the first call in a fresh process."""
    command = [sys.executable, Path(__file__), name, "--loc", str(loc), "--cold", peer]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(printed.splitlines()[-1])


def spread(rows, key):
    values = [row[key] for row in rows]
    return f"{np.median(values):.4g} ({min(values):.4g} to {max(values):.4g})"


def compare(name, options):
    made = problem(name, options.loc)
    bnn, x, *_ = made
    print(f"\n{name}, {len(x)} rows, prior centred at {options.loc:g}", flush=True)
    reference = long_run(*made, options.long) if options.long else None
    runs = {peer: runner(peer, *made) for peer in options.peers}
    rows = {peer: [] for peer in runs}
    for seed in range(options.repeats + 1):
        for peer, run in runs.items():
            # Of a peer that takes minutes one warm run is enough to compare with.
            if len(rows[peer]) > 1 and rows[peer][-1]["seconds"] > options.patience:
                continue
            weights, steps, seconds = timed(run, seed)
            rows[peer].append(measures(bnn, x, weights, steps, seconds, reference))
    for peer in runs:
        warm = rows[peer][1:]
        told = ["rate", "seconds", "ess", "gradients", "rhat"]
        told += ["mean_error", "sd_error", "sd_bias"] if reference else []
        print(f"  {peer}: " + ", ".join(f"{key} {spread(warm, key)}" for key in told), flush=True)
    peer = next((p for p in runs if p.startswith("numpyro")), None)
    for ours_ in [p for p in runs if p != peer] if peer else []:
        theirs = rows[peer][1:]
        pairs = [
            a["rate"] / theirs[min(i, len(theirs) - 1)]["rate"]
            for i, a in enumerate(rows[ours_][1:])
        ]
        told = f"{np.median(pairs):.3g} ({min(pairs):.3g} to {max(pairs):.3g})"
        print(f"  {ours_} / {peer}, warm: {told}", flush=True)
        if options.with_cold:
            a, b = cold(name, options.loc, ours_), cold(name, options.loc, peer)
            print(
                f"  {ours_} / {peer}, cold: {a['rate'] / b['rate']:.3g} "
                f"({a['seconds']:.1f} s against {b['seconds']:.1f} s)",
                flush=True,
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problems", nargs="*", default=[], metavar="problem")
    parser.add_argument("--peers", nargs="+", default=PEERS)
    parser.add_argument("--repeats", type=int, default=3, help="warm runs")
    parser.add_argument("--loc", type=float, default=0.0, help="centre of the prior")
    parser.add_argument("--long", type=int, default=20_000, help="draws of the long run; 0: none")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds; one run beyond it")
    parser.add_argument("--with-cold", action="store_true", help="first calls of fresh processes")
    parser.add_argument("--cold", metavar="PEER", help="one first call, in JSON")
    options = parser.parse_args()
    if unknown := set(options.problems) - set(PROBLEMS):
        parser.error(f"problems are {', '.join(PROBLEMS)}; got {', '.join(unknown)}")
    if options.cold:
        made = problem(options.problems[0], options.loc)
        weights, steps, seconds = timed(runner(options.cold, *made), 0)
        print(json.dumps(measures(*made[:2], weights, steps, seconds, None)))
        return
    if find_spec("bde") is None:
        print("bde is not installed: left out")
    for name in options.problems or PROBLEMS:
        compare(name, options)


if __name__ == "__main__":
    main()
