"""All methods on one posterior: what each costs, and how far its predictions are from a long run.

The long run is `fit_mcmc`'s, of another key, eight chains of 5,000 draws, every second kept. Each
method runs with its defaults in a process of its own: the first call is cold, compilation included,
and later ones are warm, with other keys. Seconds are of processors' time, all threads together,
which other work on the machine changes less than it does the clock's. On two cores that have
nothing else to do the clock shows half as many where a method has several tasks, as most do.
What is compared, at 50 inputs that were held out, are outputs of the network (log odds of a
classifier): the error of their mean in sds of the long run (root of the mean square), and that of
their sd in percent (median over inputs, and the range of its middle four fifths); and on all rows
that were held out the log predictive density per row, as a difference from the long run with its
standard error over rows. The evidence is compared with `fit_tempered`'s. Medians over warm runs.

    python benchmarks/methods.py                              # a quarter of an hour on two cores
    python benchmarks/methods.py 10-8-1 --repeats 3
"""

import argparse
import multiprocessing
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

PROBLEMS = ("10-8-1", "30-8-1")
NUM_INPUTS = 50
LONG = {"num_chains": 8, "num_warmup": 1000, "num_samples": 5000, "thinning": 2}
# Every method, by the name of its fit function and its options.
METHODS = {
    "map": ("fit_map", {}),
    "mcmc, hmc": ("fit_mcmc", {}),
    "mcmc, nuts": ("fit_mcmc", {"kernel": "nuts"}),
    "mcmc, mclmc": ("fit_mcmc", {"kernel": "mclmc"}),
    "tempered": ("fit_tempered", {}),
    "laplace, full": ("fit_laplace", {}),
    "laplace, full, hessian": ("fit_laplace", {"curvature": "hessian"}),
    "laplace, diagonal": ("fit_laplace", {"structure": "diagonal"}),
    "laplace, last_layer": ("fit_laplace", {"structure": "last_layer"}),
    "vi, normal": ("fit_vi", {}),
    "vi, low_rank": ("fit_vi", {"guide": "low_rank"}),
    "vi, full": ("fit_vi", {"guide": "full"}),
    "ensemble, anchored": ("fit_ensemble", {}),
    "ensemble, anchored, 100": ("fit_ensemble", {"num_members": 100}),
    "ensemble, deep": ("fit_ensemble", {"anchored": False}),
}


# What is fitted.


def problem(name):
    """A model, its prior, rows to fit and rows that are held out."""
    from sklearn.datasets import load_breast_cancer, load_diabetes

    import weightprior as wp

    if name == "10-8-1":
        (x, y), count, likelihood = load_diabetes(return_X_y=True), 200, wp.Gaussian(noise=0.7)
        y = standardised(y)
    else:
        (x, y), count, likelihood = load_breast_cancer(return_X_y=True), 100, wp.Bernoulli()
    x = standardised(x)
    rows = np.random.default_rng(0).permutation(len(y))
    fitted, held = rows[:count], rows[count:]
    num_features, *hidden, num_outputs = map(int, name.split("-"))
    bnn = wp.BNN(wp.mlp(num_features, hidden, num_outputs), likelihood)
    prior = wp.normal_prior(bnn, scale=wp.fan_in_scale(bnn))
    return bnn, prior, (x[fitted], y[fitted]), (x[held], y[held])


def standardised(values):
    return (values - values.mean(0)) / values.std(0)


# Who fits it, each in a process of its own.


def prepare():
    """Import what a first call would, which is no part of a method's cost."""
    warnings.simplefilter("ignore")
    import jax

    import weightprior as wp

    jax.numpy.zeros(1).block_until_ready()
    bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(1.0))
    wp.fit_map(bnn, np.zeros((2, 1)), np.zeros(2), prior=wp.normal_prior(bnn))


def measure(name, fit_name, options, seed) -> dict[str, Any]:
    """Fit once: seconds, outputs at held-out inputs, scores and evidence."""
    import weightprior as wp

    bnn, prior, (x, y), (x_held, y_held) = problem(name)
    options = {"progress_bar": False, **options}
    began = time.process_time()
    try:
        fit = getattr(wp, fit_name)(bnn, x, y, prior=prior, rng_key=seed, **options)
    except ValueError as error:
        return {"refused": str(error)}
    row: dict[str, Any] = {"seconds": time.process_time() - began}
    mean = wp.predict(bnn, fit, x_held[:NUM_INPUTS])["mean"]
    outputs = mean.stack(sample=("chain", "draw")).transpose("sample", ...).to_numpy()
    if isinstance(bnn.likelihood, wp.Bernoulli):
        inside = np.clip(outputs, 1e-12, 1 - 1e-12)
        outputs = np.log(inside) - np.log1p(-inside)
    row |= {"mean": outputs.mean(0), "sd": outputs.std(0)}
    row["elpd_i"] = wp.score(bnn, fit, x_held, y_held)["elpd_i"].to_numpy()
    if "evidence" in fit.children:
        found = wp.log_evidence(fit)
        row |= {key: found[key].item() for key in ("log_evidence", "error", "reliable")}
    if "num_chains" in options:
        rhat = wp.diagnostics.convergence(bnn, fit, x_held[:NUM_INPUTS])["rhat"]
        row["rhat"] = float(rhat.max())
    return row


def process():
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=context, initializer=prepare)


def of_method(name, method, repeats):
    """Rows of a method: the cold run, then warm ones. One process at a time: each takes a GB."""
    fit_name, options = METHODS[method]
    with process() as pool:
        seeds = range(repeats + 1)
        tasks = [pool.submit(measure, name, fit_name, options, s) for s in seeds]
        return [task.result() for task in tasks]


# What comes out.


def against(row, long):
    """Errors of one run."""
    apart = 100 * (row["sd"] / long["sd"] - 1)
    differences = row["elpd_i"] - long["elpd_i"]
    return {
        "mean": np.sqrt(np.mean(((row["mean"] - long["mean"]) / long["sd"]) ** 2)),
        "sd": np.median(apart),
        "least": np.quantile(apart, 0.1),
        "most": np.quantile(apart, 0.9),
        "elpd": differences.mean(),
        "elpd_se": differences.std(ddof=1) / np.sqrt(len(differences)),
    }


def compare(name, methods, repeats):
    with process() as pool:
        long = pool.submit(measure, name, "fit_mcmc", LONG, 1_000).result()
    elpd_i = long["elpd_i"]
    print(
        f"\n{name}: long run {long['seconds']:.0f} s, R-hat {long['rhat']:.4f}, held-out log "
        f"density {elpd_i.mean():.3f} ± {elpd_i.std(ddof=1) / np.sqrt(len(elpd_i)):.3f} per row "
        f"of {len(elpd_i)}\n",
        flush=True,
    )
    rows = {method: of_method(name, method, repeats) for method in methods}
    titles = ("", "cold s", "warm s", "of hmc's", "mean", "sd %", "log density", "evidence")
    print("| " + " | ".join(titles) + " |\n" + "| --- " * len(titles) + "|")
    truth = values(rows.get("tempered", []), "log_evidence")
    for method, (first, *warm) in rows.items():
        if told := next((row["refused"] for row in (first, *warm) if "refused" in row), ""):
            print(f"| {method} | refused: {told.split(';')[0]} |" + " |" * (len(titles) - 2))
            continue
        seconds = values(warm, "seconds")
        ratio = ""
        if "mcmc, hmc" in rows:
            of_hmc = values(rows["mcmc, hmc"][1:], "seconds")
            ratio = f"{np.median(seconds) / np.median(of_hmc):.2g}"
        errors = [against(row, long) for row in warm]
        of = {key: np.median([one[key] for one in errors]) for key in errors[0]}
        sd = f"{of['sd']:+.0f} ({of['least']:+.0f} to {of['most']:+.0f})".replace("-0 ", "+0 ")
        cells = (
            method,
            f"{first['seconds']:.1f}",
            spread(seconds, ".2f"),
            ratio,
            f"{of['mean']:.2f}",
            sd if of["sd"] > -99.5 else "no sd",
            f"{of['elpd']:+.4f} ± {of['elpd_se']:.4f}",
            evidence(method, warm, truth),
        )
        print("| " + " | ".join(cells) + " |", flush=True)


def values(rows, key):
    return np.array([row[key] for row in rows if key in row])


def evidence(method, warm, truth):
    found = values(warm, "log_evidence")
    if not len(found):
        return ""
    if method == "tempered":
        error, reliable = values(warm, "error"), values(warm, "reliable")
        doubt = "" if reliable.all() else f", reliable {reliable.mean():.0%}"
        return f"{np.median(found):.2f} ± {np.median(error):.2f}{doubt}"
    if not len(truth):
        return ""
    return spread(found - np.median(truth), "+.1f")


def spread(found, form):
    """The median, and the range where it is one."""
    middle, least, most = (f"{f(found):{form}}" for f in (np.median, np.min, np.max))
    return middle if least == most else f"{middle} ({least} to {most})"


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("problems", nargs="*", default=[], metavar="problem")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--repeats", type=int, default=5, help="warm runs")
    options = parser.parse_args()
    if unknown := set(options.problems) - set(PROBLEMS):
        parser.error(f"problems are {', '.join(PROBLEMS)}; got {', '.join(unknown)}")
    for name in options.problems or PROBLEMS:
        compare(name, options.methods, options.repeats)


if __name__ == "__main__":
    main()
