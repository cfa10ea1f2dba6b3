"""Seconds from the start of a process to a first answer: posterior, MAP, comparison.

Every run is a process of its own, and those that are compared take turns, so that all see the same
machine. Data come from a file, so that nobody's imports hold what made them. Imports end before the
first line that computes: of `weightprior` the functions that are called, of NumPyro
`numpyro.infer`, of scikit-learn its perceptron. A posterior is four chains of 1,000 draws, with the
warm-up of the package's default, and of 500 for NumPyro's NUTS, which has a device per chain; what
counts is the smallest bulk effective sample size of the network's outputs at 20 inputs. A MAP is
one search; scikit-learn's is asked for the same gradient norm.

    python benchmarks/first_answer.py                     10-32-1: a few minutes
    python benchmarks/first_answer.py 1-20-1 --repeats 5
    python benchmarks/first_answer.py --before FOLDER     this against another copy of src
    python benchmarks/first_answer.py --docs              fills the documentation's table
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pages
from posterior import DEVICES, PROBLEMS, inputs_of, outputs, problem

NUM_SAMPLES, NUM_CHAINS, NUTS_WARMUP = 1000, 4, 500
SOURCE = Path(__file__).parent.parent / "src"

OURS = """
import json, sys, time, warnings
import numpy as np
import weightprior as wp
wp.BNN, wp.mlp, wp.Gaussian, wp.Categorical, wp.normal_prior, wp.fan_in_scale
fit_map, fit_mcmc, compare = wp.fit_map, wp.fit_mcmc, wp.compare
imported = time.time()
warnings.simplefilter("ignore")
data, given = np.load(sys.argv[1] + "/data.npz"), json.loads(sys.argv[2])
x, y = data["x"], data["y"]
likelihood = wp.Gaussian(given["noise"]) if given["noise"] else wp.Categorical(given["sizes"][-1])
bnn = wp.BNN(wp.mlp(given["sizes"][0], given["sizes"][1:-1], given["sizes"][-1]), likelihood)
prior = wp.normal_prior(bnn, scale=wp.fan_in_scale(bnn))
"""
TASKS = {
    "fit_mcmc": OURS
    + """
fit = fit_mcmc(bnn, x, y, prior=prior, progress_bar=False)
done = time.time()
np.savez(sys.argv[1] + "/draws.npz", **{n: fit["posterior"][n].to_numpy() for n in bnn.sites})
""",
    "fit_map": OURS
    + """
fit = fit_map(bnn, x, y, prior=prior, num_restarts=1, progress_bar=False)
done = time.time()
""",
    "compare": OURS
    + """
kept = np.arange(len(x)) % 5 > 0
quiet = {"prior": prior, "progress_bar": False}
fits = {
    "map": fit_map(bnn, x[kept], y[kept], num_restarts=1, **quiet),
    "mcmc": fit_mcmc(bnn, x[kept], y[kept], **quiet),
}
compare(bnn, fits, x[~kept], y[~kept])
done = time.time()
""",
    "NUTS": """
import json, sys, time
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS
imported = time.time()
data, given = np.load(sys.argv[1] + "/data.npz"), json.loads(sys.argv[2])
sizes, noise = given["sizes"], given["noise"]
x = np.asarray(data["x"], np.float32)
y = np.asarray(data["y"], np.float32) if noise else data["y"]
names = [f"hidden_{i}" for i in range(len(sizes) - 2)] + ["output"]

def model():
    signal = x
    for name, below, above in zip(names, sizes, sizes[1:]):
        of_weight = dist.Normal(0, below**-0.5).expand([below, above]).to_event()
        w = numpyro.sample(f"{name}.weight", of_weight)
        b = numpyro.sample(f"{name}.bias", dist.Normal(0, 1).expand([above]).to_event())
        signal = (jnp.tanh(signal) if name != names[0] else signal) @ w + b
    law = dist.Normal(signal[:, 0], noise) if noise else dist.Categorical(logits=signal)
    numpyro.sample("y", law, obs=y)

chains = {"num_warmup": given["warmup"], "num_samples": 1000, "num_chains": 4}
mcmc = MCMC(NUTS(model), **chains, progress_bar=False)
mcmc.run(jax.random.key(0))
draws = jax.device_get(mcmc.get_samples(group_by_chain=True))
done = time.time()
np.savez(sys.argv[1] + "/draws.npz", **draws)
""",
    "scikit-learn": """
import json, sys, time, warnings
import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor
imported = time.time()
warnings.simplefilter("ignore")
data, given = np.load(sys.argv[1] + "/data.npz"), json.loads(sys.argv[2])
kind = MLPRegressor if given["noise"] else MLPClassifier
options = {"solver": "lbfgs", "activation": "tanh", "max_iter": 5000, "tol": given["tol"]}
options |= {"hidden_layer_sizes": given["sizes"][1:-1], "alpha": given["alpha"]}
kind(**options).fit(data["x"], data["y"])
done = time.time()
""",
}
END = "\nprint(json.dumps({'imported': imported, 'done': done}), flush=True)\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problems", nargs="*", default=["10-32-1"], metavar="problem")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--before", metavar="FOLDER", help="another copy of src to compare with")
    parser.add_argument("--docs", action="store_true", help="fill the documentation's table")
    options = parser.parse_args()
    if unknown := set(options.problems) - set(PROBLEMS):
        parser.error(f"problems are {', '.join(PROBLEMS)}; got {', '.join(unknown)}")
    for name in options.problems:
        with tempfile.TemporaryDirectory() as folder:
            answer(Path(folder), name, options)


def answer(folder: Path, name: str, options: argparse.Namespace) -> None:
    """Run everything in turn, and print it."""
    bnn, given = prepare(folder, name)
    wanted = [(task, SOURCE) for task in options.tasks]
    if options.before:
        wanted += [(task, Path(options.before)) for task in options.tasks if OURS in TASKS[task]]
    rows = {key: [] for key in wanted}
    for task, source in wanted:  # fills the caches of files and of bytecode
        run(folder, task, source, given)
    for _ in range(options.repeats):
        for key in wanted:
            rows[key].append(measured(folder, bnn, *key, given))
    print(f"\n{name}: seconds, median (range) of {options.repeats}")
    for (task, source), found in rows.items():
        told = {k: spread([row[k] for row in found]) for k in found[0]}
        label = task if source == SOURCE else f"{task}, before"
        print(f"  {label:22} " + ", ".join(f"{k} {v}" for k, v in told.items()))
    ratios(rows, options)
    if options.docs:
        write(rows, options)


def prepare(folder: Path, name: str):
    """Save the data; the model, and what the processes are told of it."""
    bnn, x, y, _ = problem(name, 0.0, False)
    np.savez(folder / "data.npz", x=x, y=y, at=inputs_of(x))
    sizes = [int(size) for size in name.split("-")]
    noise = None if sizes[-1] > 1 else float(bnn.likelihood.noise)
    # The penalty and the tolerance in the units of scikit-learn's mean over rows.
    per_row = 1.0 if noise is None else noise**2
    alpha, tol = sizes[0] * per_row, 1e-4 * per_row / len(x)
    told = {"sizes": sizes, "noise": noise, "alpha": alpha, "tol": tol, "warmup": NUTS_WARMUP}
    return bnn, json.dumps(told)


def run(folder: Path, task: str, source: Path, given: str) -> dict[str, float]:
    """Seconds of a process: to the end of its imports, and to its answer."""
    env = {**os.environ, "PYTHONPATH": str(source)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    if task == "NUTS":
        env["XLA_FLAGS"] = DEVICES
    command = [sys.executable, "-c", TASKS[task] + END, str(folder), given]
    began = time.time()
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
    told = json.loads(done.stdout.splitlines()[-1])
    imports, total = told["imported"] - began, told["done"] - began
    return {"imports": imports, "beyond": total - imports, "total": total}


def measured(folder: Path, bnn, task: str, source: Path, given: str) -> dict[str, float]:
    """Seconds, and of chains how many draws they are worth."""
    row = run(folder, task, source, given)
    if task in ("fit_mcmc", "NUTS"):
        from arviz_stats.base import array_stats

        draws = np.load(folder / "draws.npz")
        found = outputs(bnn, draws, np.load(folder / "data.npz")["at"])
        row["ess"] = float(array_stats.ess(found, method="bulk", chain_axis=0, draw_axis=1).min())
    return row


def ratios(rows, options: argparse.Namespace) -> None:
    """Print ours against each peer, run by run."""
    peers = {"fit_mcmc": "NUTS", "fit_map": "scikit-learn"}
    for (task, source), found in rows.items():
        if source != SOURCE:
            pairs = zip(rows[task, SOURCE], found, strict=True)
            shares = [100 * new["beyond"] / old["beyond"] for new, old in pairs]
            print(f"  {task}: beyond its imports {spread(shares)} % of the seconds before")
        elif peers.get(task) in options.tasks:
            pairs = list(zip(found, rows[peers[task], SOURCE], strict=True))
            for part in ("beyond", "total"):
                won = [
                    theirs[part] / ours[part] * ours.get("ess", 1) / theirs.get("ess", 1)
                    for ours, theirs in pairs
                ]
                print(f"  {peers[task]} / {task}, {part}: {spread(won)}")


def write(rows, options: argparse.Namespace) -> None:
    """Fill the table of the documentation."""
    labels = {
        "fit_mcmc": "`fit_mcmc`, 4 x 1,000 draws",
        "fit_map": "`fit_map`, one search",
        "compare": "both, on four fifths of the rows, and `compare`",
        "NUTS": "NumPyro's NUTS, 4 x 1,000 draws",
        "scikit-learn": "scikit-learn's `MLPRegressor`, one search",
    }

    def seconds(task: str, source: Path, part: str) -> str:
        found = rows.get((task, source))
        return f"{statistics.median(row[part] for row in found):.2g}" if found else ""

    before = Path(options.before) if options.before else SOURCE / "none"
    table = {
        labels[task]: [
            *(seconds(task, SOURCE, p) for p in ("imports", "beyond")),
            seconds(task, before, "beyond"),
        ]
        for task in options.tasks
    }
    pages.fill("first_answer", "seconds", table)


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


if __name__ == "__main__":
    main()
