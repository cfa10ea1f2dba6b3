"""Hold draws, optima, densities and evidences of two commits against one another.

    python benchmarks/same_numbers.py write OLD.npz         at the one commit
    python benchmarks/same_numbers.py write NEW.npz         at the other
    python benchmarks/same_numbers.py compare OLD.npz NEW.npz

A refactoring leaves log densities and their gradients alone to 1e-12 (float64), optima to the
tolerance of the search, and draws to the last bit wherever the compiled program stayed the same.
Only names that both commits have are used here.
"""

import argparse
import sys
import time
import warnings
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import weightprior as wp

NUM_POINTS = 1000
# Relative, of log densities and gradients in float64.
DENSITY_TOLERANCE = 1e-12
# In units of the prior's scale: the gradient vanishes to 1e-8, the curvature is at least 1.
OPTIMUM_TOLERANCE = 1e-6


class Problem(NamedTuple):
    """A model, its data, and two priors side by side."""

    bnn: wp.BNN
    x: np.ndarray
    y: np.ndarray

    @property
    def prior(self) -> wp.NormalPrior:
        """One around zero, and one around something else."""
        scale = wp.fan_in_scale(self.bnn)
        return wp.stack_priors(
            {
                "zero": wp.normal_prior(self.bnn, scale=scale),
                "moved": wp.normal_prior(self.bnn, loc={"weight": 0.3, "bias": -0.1}, scale=scale),
            }
        )


def problems() -> dict[str, Problem]:
    """Known noise; learned noise; classes behind two hidden layers."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4))
    signal = np.sin(2 * x[:, 0]) + x[:, 1]
    classes = np.digitize(signal, [-0.7, 0.7])
    noisy = signal + 0.3 * rng.normal(size=60)
    relu = wp.mlp(4, hidden=(5, 4), num_outputs=3, activation=["relu", "tanh"])
    return {
        "known noise": Problem(wp.BNN(wp.mlp(2, hidden=(3,)), wp.Gaussian(0.5)), x[:, :2], noisy),
        "learned noise": Problem(wp.BNN(wp.mlp(4, hidden=(3,)), wp.Gaussian()), x, noisy),
        "classes": Problem(wp.BNN(relu, wp.Categorical(3)), x, classes),
    }


_chains = {"num_warmup": 100, "num_samples": 100, "num_chains": 2, "progress_bar": False}
FITS: dict[str, Any] = {
    "map": partial(wp.fit_map, num_restarts=4, tolerance=1e-8),
    "hmc": partial(wp.fit_mcmc, kernel="hmc", **_chains),
    "nuts": partial(wp.fit_mcmc, kernel="nuts", **_chains),
    "mclmc": partial(wp.fit_mcmc, kernel="mclmc", **_chains),
    "laplace": partial(wp.fit_laplace, num_samples=100),
    "laplace, last layer": partial(wp.fit_laplace, num_samples=100, structure="last_layer"),
    "vi": partial(wp.fit_vi, num_steps=500, num_samples=100),
    "tempered": partial(
        wp.fit_tempered, num_temperatures=6, num_samples=60, num_chains=4, progress_bar=False
    ),
    "ensemble": partial(wp.fit_ensemble, num_members=4, tolerance=1e-8),
    "deep ensemble": partial(wp.fit_ensemble, num_members=4, tolerance=1e-8, anchored=False),
}
# Without a kink: where no gradient vanishes, there is no Laplace approximation.
SMOOTH_ONLY = ("laplace", "laplace, last layer")
WITH_EVIDENCE = ("laplace", "laplace, last layer", "vi", "tempered")


def numbers_of(name: str, problem: Problem) -> dict[str, np.ndarray]:
    """All that is held against the other commit, by what it is."""
    found = densities_of(problem)
    bnn, x, y, prior = *problem, problem.prior
    for method, fit in FITS.items():
        if name == "classes" and method in SMOOTH_ONLY:
            continue
        tree = fit(bnn, x, y, prior=prior, rng_key=3)
        kind = "optimum" if method in ("map", "deep ensemble", "ensemble") else "draws"
        for site in bnn.sites:
            found[f"{kind}/{method}/{site}"] = tree["posterior"][site].to_numpy()
        found[f"draws/{method}/lp"] = tree["sample_stats"]["lp"].to_numpy()
        found[f"draws/{method}/log_likelihood"] = tree["log_likelihood"]["y"].to_numpy()
        if method in WITH_EVIDENCE:
            evidence = wp.log_evidence(tree)
            found[f"evidence/{method}"] = evidence["log_evidence"].to_numpy()
            found[f"evidence/{method}, error"] = evidence["error"].to_numpy()
        predicted, scores = wp.predict(bnn, tree, x[:5]), wp.score(bnn, tree, x[:5], y[:5])
        found[f"draws/{method}/predict mean"] = predicted["mean"].to_numpy()
        found[f"draws/{method}/predict y"] = predicted["y"].to_numpy()
        found[f"draws/{method}/score elpd_i"] = scores["elpd_i"].to_numpy()
    options = {"num_folds": 4, "rng_key": 1}
    folds = wp.cross_validate(bnn, x, y, prior=prior, fit=FITS["map"], **options)
    for part in ("elpd_i", "train", "effective_parameters", "prob_best"):
        found[f"optimum/cross_validate/{part}"] = folds[part].to_numpy()
    learned = wp.hierarchical_prior(bnn, "layer")
    tree = FITS["hmc"](bnn, x, y, prior=learned, rng_key=3)
    for site in (*learned.sites, *bnn.sites):
        found[f"draws/hierarchical/{site}"] = tree["posterior"][site].to_numpy()
    found["draws/hierarchical/lp"] = tree["sample_stats"]["lp"].to_numpy()
    drawn = wp.prior_predictive(bnn, x, prior=learned, num_samples=20, rng_key=2)
    found["draws/prior_predictive/y"] = drawn["prior_predictive"]["y"].to_numpy()
    return found


def densities_of(problem: Problem) -> dict[str, np.ndarray]:
    """Log joint densities and their gradients at many points, in float64."""
    bnn = problem.bnn
    priors = {
        "": problem.prior["moved"],
        "under a learned prior, ": wp.hierarchical_prior(bnn, "layer"),
    }
    found = {}
    for words, prior in priors.items():
        rng = np.random.default_rng(1)
        sites = {**bnn.sites, **prior.sites} if words else bnn.sites
        points = {n: rng.normal(size=(NUM_POINTS, *site.shape)) for n, site in sites.items()}
        with jax.enable_x64(True):
            x, y = jnp.asarray(problem.x), jnp.asarray(problem.y)

            def log_joint(weights, prior=prior, x=x, y=y):
                return bnn.log_joint(weights, x, y, prior)

            values, gradients = jax.jit(jax.vmap(jax.value_and_grad(log_joint)))(points)
        found[f"density/{words}value"] = np.asarray(values)
        for name, gradient in gradients.items():
            found[f"density/{words}gradient of {name}"] = np.asarray(gradient)
    return found


def write(file: str) -> None:
    found = {}
    for name, problem in problems().items():
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # so short that they are told to run longer
            numbers = numbers_of(name, problem)
        found |= {f"{name}/{key}": array for key, array in numbers.items()}
        print(f"{name}: {len(numbers)} arrays, {time.perf_counter() - began:.0f} s")
    np.savez(file, **{key.replace("/", "|"): array for key, array in found.items()})


def compare(old_file: str, new_file: str) -> bool:
    """Print what differs, and return whether all of it stays within its tolerance."""
    old, new = np.load(old_file), np.load(new_file)
    names = sorted({*old.files, *new.files})
    equal = [n for n in names if n in old and n in new and np.array_equal(old[n], new[n], True)]
    print(f"{len(equal)} of {len(names)} arrays are equal to the last bit")
    whole = True
    for name in (n for n in names if n not in equal):
        words = name.replace("|", "/")
        if name not in old or name not in new or old[name].shape != new[name].shape:
            print(f"  {words}: not there, or of another shape")
            whole = False
            continue
        apart = np.abs(old[name] - new[name])
        size = np.maximum(np.abs(old[name]), 1.0)
        largest = float(np.nanmax(apart / size))
        limit = {"density": DENSITY_TOLERANCE, "optimum": OPTIMUM_TOLERANCE}.get(name.split("|")[1])
        within = limit is not None and largest <= limit
        told = "within" if within else "BEYOND" if limit is not None else "to be looked at"
        print(f"  {words}: at most {largest:.1e} of max(1, size): {told}")
        whole &= within or limit is None
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("write").add_argument("file")
    held = commands.add_parser("compare")
    held.add_argument("old")
    held.add_argument("new")
    given = parser.parse_args()
    if given.command == "write":
        write(given.file)
    else:
        sys.exit(0 if compare(given.old, given.new) else 1)


if __name__ == "__main__":
    main()
