"""Effective draws per second of the posterior: `fit_mcmc` against NumPyro's NUTS, and bde.

The same model, data and single precision for all; four chains of 1,000 draws, after the warm-up of
the package's default and after 500 iterations of the others (`--warmup`). What counts is the
smallest bulk effective sample size of the network's outputs at 20 inputs, over the seconds of the
whole call: starts, warm-up, draws and, for `fit_mcmc`, the fit with its log likelihoods and its
verdict. Every peer runs in a process of its own, with the settings that are best for it: NumPyro
with a device per chain, which is what lets its chains run side by side (`numpyro:sequential` and
`numpyro:vectorized` are its other ways; `numpyro:300` has so many iterations of warm-up). The first
call of a process is cold, compilation included; later ones are warm, with other keys, each peer in
turn so that all see the same machine. Predictions are held against a long run: errors of the
predictive mean in posterior sds, and of the predictive sd in percent.

Run one problem and options with, say, ``python benchmarks/posterior.py 1-20-1 --repeats 5``;
``--loc 1`` centres the prior at one, ``--docs`` fills the documentation's table. NUTS takes many
minutes on the larger problems. ``--bde`` takes the interpreter of an environment with
sklearn-contrib-bde, which has a model of its own: see ``peers/sample_with_bde.py``; the other peers
then sample one as near to it as ours comes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pages

PROBLEMS = ("1-20-1", "10-32-1", "10-32-32-1", "8-50-1", "64-32-10")
PEERS = ("hmc", "mclmc", "numpyro")
NUM_SAMPLES, NUM_CHAINS, NUM_INPUTS = 1000, 4, 20
DEVICES = "--xla_force_host_platform_device_count=4"


# What is sampled.


def standardised(values):
    return (values - values.mean(0)) / values.std(0)


def data_of(name):
    from sklearn.datasets import load_diabetes, load_digits, make_friedman1

    rng = np.random.default_rng(0)
    if name == "1-20-1":
        x = np.sort(rng.uniform(-2, 2, 100))[:, None]
        return x, np.sin(2 * x[:, 0]) + 0.3 * x[:, 0] + 0.1 * rng.normal(size=100)
    if name == "8-50-1":
        x, y = make_friedman1(1000, n_features=8, noise=1.0, random_state=0)
        return standardised(x), standardised(y)
    if name == "64-32-10":
        x, y = load_digits(return_X_y=True)
        rows = rng.permutation(len(y))[:1000]
        return x[rows] / 16, y[rows]
    x, y = load_diabetes(return_X_y=True)
    rows = rng.permutation(len(y))[:353]
    return standardised(x[rows]), standardised(y[rows])


def problem(name, loc, as_bde):
    """A model, its data and its prior: one over the root of the fan-in, centred at `loc`."""
    import weightprior as wp

    num_features, *hidden, num_outputs = map(int, name.split("-"))
    noise = {"1-20-1": 0.1, "8-50-1": 0.2}.get(name, 0.7)
    likelihood = wp.Categorical(10) if name == "64-32-10" else wp.Gaussian(noise)
    if as_bde:
        bnn = wp.BNN(wp.mlp(num_features, hidden, 2, "sigmoid"), wp.HeteroscedasticGaussian())
        return bnn, *data_of(name), wp.normal_prior(bnn)
    bnn = wp.BNN(wp.mlp(num_features, hidden, num_outputs), likelihood)
    return bnn, *data_of(name), wp.normal_prior(bnn, loc=loc, scale=wp.fan_in_scale(bnn))


def inputs_of(x):
    return x[np.linspace(0, len(x) - 1, NUM_INPUTS).astype(int)]


# Who samples it, each in a process of its own.


def ours(bnn, x, y, prior, kernel):
    import weightprior as wp

    def run(seed, num_samples):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = wp.fit_mcmc(
                *(bnn, x, y),
                prior=prior,
                rng_key=seed,
                kernel=kernel,
                num_samples=num_samples,
                num_chains=NUM_CHAINS,
                progress_bar=False,
            )
        steps = float(fit["sample_stats"]["n_steps"].mean())
        return {n: fit["posterior"][n].to_numpy() for n in bnn.sites}, steps

    return run


def numpyro(bnn, x, y, prior, chain_method, num_warmup):
    import jax
    from numpyro.infer import MCMC, NUTS

    # One object for all runs: it compiles once.
    mcmc = MCMC(
        NUTS(bnn.model),
        num_warmup=num_warmup,
        num_samples=NUM_SAMPLES,
        num_chains=NUM_CHAINS,
        chain_method=chain_method,
        progress_bar=False,
    )
    x = np.asarray(x, np.float32)
    y = np.asarray(y, np.float32) if y.dtype.kind == "f" else y

    def run(seed, num_samples):
        mcmc.run(jax.random.key(seed), x, y, prior=prior, extra_fields=("num_steps",))
        draws = jax.device_get(mcmc.get_samples(group_by_chain=True))
        return draws, float(np.mean(mcmc.get_extra_fields()["num_steps"]))

    return run


def outputs(bnn, weights, x):
    """The network's outputs, (chain, draw, input, output), in double precision."""
    import jax

    with jax.enable_x64(True):
        apply = jax.jit(lambda draws: jax.lax.map(lambda w: bnn.network.apply(w, x), draws))
        chains = [
            apply({n: np.asarray(weights[n][c], np.float64) for n in bnn.sites})
            for c in range(len(weights["output.bias"]))
        ]
        return np.stack([np.asarray(chain) for chain in chains])


def work(folder, name, loc, peer, as_bde, warmup):
    """Sample for every line that comes: a seed and a number of draws."""
    made = problem(name, loc, as_bde)
    method, _, way = peer.partition(":")
    chains, warmup = ("parallel", int(way)) if way.isdigit() else (way or "parallel", warmup)
    run = numpyro(*made, chains, warmup) if method == "numpyro" else ours(*made, peer)
    for line in sys.stdin:
        began = time.perf_counter()
        weights, steps = run(*map(int, line.split()))
        seconds = time.perf_counter() - began
        np.save(folder / "outputs.npy", outputs(made[0], weights, inputs_of(made[1]))[..., :10])
        print(json.dumps({"seconds": seconds, "gradients": steps}), flush=True)


class Peer:
    """A process that samples when told to."""

    def __init__(self, folder, peer, name, options):
        self.folder, self.draws = folder / peer.replace(":", "-"), peer != "bde"
        self.folder.mkdir()
        if peer == "bde":
            x, y = data_of(name)
            np.savez(self.folder / "data.npz", x=x, y=y, at=inputs_of(x))
            told = {
                "hidden": [int(width) for width in name.split("-")[1:-1]],
                "activation": "sigmoid",
                "num_chains": NUM_CHAINS,
                "num_samples": NUM_SAMPLES,
                "num_warmup": options.warmup,
            }
            script = Path(__file__).parent / "peers" / "sample_with_bde.py"
            command = [options.bde, script, self.folder, json.dumps(told)]
        else:
            task = [
                self.folder,
                name,
                options.loc,
                peer,
                int(options.bde is not None),
                options.warmup,
            ]
            command = [sys.executable, __file__, "--work", *map(str, task)]
        flags = {"XLA_FLAGS": DEVICES} if peer.startswith("numpyro") else {}
        self.process = subprocess.Popen(
            command,
            env=os.environ | flags,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if options.verbose else subprocess.DEVNULL,
            text=True,
        )

    def __call__(self, seed, num_samples=NUM_SAMPLES):
        self.process.stdin.write(f"{seed} {num_samples}\n" if self.draws else f"{seed}\n")
        self.process.stdin.flush()
        told = self.process.stdout.readline()
        if not told:
            raise SystemExit(f"a process of a peer ended: {self.folder.name}; see --verbose")
        return np.load(self.folder / "outputs.npy"), json.loads(told)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


# What comes out.


def measures(found, told, reference):
    from arviz_stats.base import array_stats

    axes = {"chain_axis": 0, "draw_axis": 1}
    ess = float(array_stats.ess(found, method="bulk", **axes).min())
    rhat = float(array_stats.rhat(found, **axes).max())
    row = told | {"ess": ess, "rate": ess / told["seconds"], "rhat": rhat}
    if reference is not None:
        mean, sd = reference
        row["mean_error"] = float(np.max(np.abs(found.mean((0, 1)) - mean) / sd))
        apart = (found.std((0, 1)) / sd - 1) * 100
        row["sd_error"] = float(np.max(np.abs(apart)))
        row["sd_rms"] = float(np.sqrt(np.mean(apart**2)))
        row["sd_bias"] = float(np.mean(apart))
    return row


def long_run(folder, name, options):
    """Mean and sd of the outputs from a run of another seed, long enough to count as the truth."""
    peer = Peer(folder / "long", "hmc", name, options)
    found, _ = peer(1_000, options.long)
    peer.close()
    return found.mean((0, 1)), found.std((0, 1))


def spread(values, digits=4):
    told = [f"{value:.{digits}g}" for value in (np.median(values), min(values), max(values))]
    return "{} ({} to {})".format(*told)


def compare(folder, name, options):
    print(f"\n{name}, prior centred at {options.loc:g}", flush=True)
    (folder / "long").mkdir()
    reference = long_run(folder, name, options) if options.long else None
    names = [*options.peers, *(["bde"] if options.bde else [])]
    rows = {peer: [] for peer in names}
    running = {peer: Peer(folder, peer, name, options) for peer in names}
    for seed in range(options.repeats + 1):
        for peer, sample in running.items():
            # Of a peer that takes minutes one warm run is enough to compare with.
            if len(rows[peer]) > 1 and rows[peer][-1]["seconds"] > options.patience:
                continue
            rows[peer].append(measures(*sample(seed), reference))
    for sample in running.values():
        sample.close()
    for peer, (first, *warm) in rows.items():
        told = [f"{key} {spread([row[key] for row in warm])}" for key in first]
        print(f"  {peer}: cold {first['seconds']:.1f} s; warm " + ", ".join(told), flush=True)
    others = [peer for peer in rows if peer.startswith("numpyro") or peer == "bde"]
    for own in [peer for peer in rows if peer not in others]:
        for peer in others:
            warm, cold = ratios(rows[own], rows[peer])
            print(f"  {own} / {peer}: warm {spread(warm)}, cold {cold:.3g}", flush=True)
    if options.docs:
        write(name, rows, options)


def ratios(own, other):
    """Effective draws per second over those of another: of each warm run, and of the first."""
    first, *warm = [row["rate"] for row in other]
    pairs = [row["rate"] / warm[min(i, len(warm) - 1)] for i, row in enumerate(own[1:])]
    return pairs, own[0]["rate"] / first


def write(name, rows, options):
    """Fill the row of a problem in the documentation."""
    rates = [np.median([row["rate"] for row in rows[p][1:]]) for p in ("hmc", "numpyro")]
    warm, cold = ratios(rows["hmc"], rows["numpyro"])
    cells = [*(f"{rate:.3g}" for rate in rates), spread(warm, 3)]
    if "numpyro:300" in rows:
        cells.append(spread(ratios(rows["hmc"], rows["numpyro:300"])[0], 3))
    table = f"draws per second, prior centred at {options.loc:g}"
    pages.fill("measured", table, {name: [*cells, f"{cold:.2g}"]})


def main():
    if sys.argv[1:2] == ["--work"]:
        folder, name, loc, peer, as_bde, warmup = sys.argv[2:]
        work(Path(folder), name, float(loc), peer, bool(int(as_bde)), int(warmup))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problems", nargs="*", default=[], metavar="problem")
    parser.add_argument("--peers", nargs="+", default=PEERS)
    parser.add_argument("--repeats", type=int, default=3, help="warm runs")
    parser.add_argument("--warmup", type=int, default=500, help="iterations, of the others")
    parser.add_argument("--loc", type=float, default=0.0, help="centre of the prior")
    parser.add_argument("--long", type=int, default=20_000, help="draws of the long run; 0: none")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds; one run beyond it")
    parser.add_argument("--bde", metavar="PYTHON", help="an interpreter that has bde")
    parser.add_argument("--docs", action="store_true", help="fill the documentation's table")
    parser.add_argument("--verbose", action="store_true", help="show what the processes say")
    options = parser.parse_args()
    if unknown := set(options.problems) - set(PROBLEMS):
        parser.error(f"problems are {', '.join(PROBLEMS)}; got {', '.join(unknown)}")
    for name in options.problems or PROBLEMS:
        with tempfile.TemporaryDirectory() as folder:
            compare(Path(folder), name, options)


if __name__ == "__main__":
    main()
