"""The regularisation path, and its cross-validation, against a loop over scikit-learn's MLP.

Both sides minimise the same objective from the same starts to the same gradient norm, in one
process. scikit-learn's L-BFGS would stop earlier, by a rule of its own on the objective: it is
turned off, and its gradient is asked to vanish as ours is. Ratios are scikit-learn's seconds over
ours, ours with everything compiled anew.

    python benchmarks/map.py            about twenty minutes
    python benchmarks/map.py --quick    about two: a fifth of the scales, two restarts, three folds
"""

import argparse
import time
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

import weightprior as wp
from weightprior.fits import programs as _programs

NOISE, HIDDEN, ROWS = 0.7, 32, 353
# Of the log density, in nats per prior sd of a weight.
TOLERANCE, MAX_ITERATIONS = 1e-6, 30_000
SCALES = np.geomspace(0.03, 3.0, 20)


def main() -> None:
    arguments = parse()
    scales = SCALES[2::5] if arguments.quick else SCALES
    restarts, folds = (2, 3) if arguments.quick else (10, 10)
    x, y = data()
    bnn = wp.BNN(wp.mlp(x.shape[1], hidden=(HIDDEN,)), wp.Gaussian(noise=NOISE))
    options = {"num_restarts": restarts, "max_iterations": MAX_ITERATIONS, "tolerance": TOLERANCE}
    warm_up()

    print(
        f"\nPath: {len(scales)} scales x {restarts} restarts, {ROWS} rows, 10-{HIDDEN}-1, float64"
    )
    runs = [timed(lambda: fit_path(bnn, x, y, scales, options)) for _ in range(3)]
    _, warm = timed(lambda: fit_path(bnn, x, y, scales, options), fresh=False)
    theirs, loop = timed(lambda: sklearn_path(bnn, x, y, scales, restarts))
    ours = runs[0][0]
    for _, seconds in runs:
        report("weightprior, compilation included", seconds, loop)
    report("weightprior, once more", warm, loop)
    report("scikit-learn's loop", loop, loop)
    compare_optima(bnn, scales, ours["restarts"].dataset, theirs)

    print(f"\n{folds}-fold cross-validation of the path")
    fit = partial(wp.fit_map, **options)
    path = prior_path(bnn, scales)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found, seconds = timed(
            lambda: wp.cross_validate(bnn, x, y, prior=path, fit=fit, num_folds=folds)
        )
    kept = [found["fold_of_row"].to_numpy() != fold for fold in found["fold"].to_numpy()]
    _, loop = timed(lambda: [sklearn_path(bnn, x[k], y[k], scales, restarts) for k in kept])
    report("weightprior, compilation included", seconds, loop)
    report("scikit-learn's loop", loop, loop)
    print(
        f"  best scale {found['best'].item():.3g}, within one standard error "
        f"{found['one_se'].item():.3g}"
    )

    print("\nSingle fits, one restart, everything compiled (median and range of the ratios)")
    single_fits(bnn, x, y, (0.05, 0.2, 0.5, 1.0), 2 if arguments.quick else 5)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small part of it")
    return parser.parse_args()


def data():
    x, y = load_diabetes(return_X_y=True)
    x, y = x[:ROWS], y[:ROWS]
    return (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()


def warm_up() -> None:
    """Load and initialise what any program that uses JAX needs once."""
    bnn = wp.BNN(wp.mlp(1, hidden=(2,)), wp.Gaussian(noise=1.0))
    wp.fit_map(bnn, np.zeros((3, 1)), np.zeros(3), prior=wp.normal_prior(bnn))


def timed(call, *, fresh: bool = True):
    if fresh:
        jax.clear_caches()
        _programs.clear_programs()
    began = time.perf_counter()
    result = call()
    return result, time.perf_counter() - began


def report(name: str, seconds: float, reference: float) -> None:
    print(f"  {name:36} {seconds:8.2f} s   ratio {reference / seconds:6.2f}")


def prior_of(bnn, scale):
    """scikit-learn's MLP leaves biases free."""
    return wp.normal_prior(bnn, scale={"weight": scale, "bias": np.inf})


def prior_path(bnn, scales):
    return wp.stack_priors({float(scale): prior_of(bnn, scale) for scale in scales})


def fit_path(bnn, x, y, scales, options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # those that do not converge are counted
        return wp.fit_map(bnn, x, y, prior=prior_path(bnn, scales), **options)


def starts(bnn, scale, restarts):
    """The draws that `fit_map` begins at, as scikit-learn's coefficients and intercepts."""
    unit = prior_of(bnn, scale).length_scale(bnn.sites)
    names = sorted(bnn.sites)
    sizes = [int(np.prod(bnn.sites[name].shape)) for name in names]
    with jax.enable_x64(True):
        for index in range(restarts):
            key = jax.random.fold_in(jax.random.key(0), index)
            flat = np.asarray(jax.random.normal(key, (sum(sizes),)))
            pieces = np.split(flat, np.cumsum(sizes)[:-1])
            z = {n: p.reshape(bnn.sites[n].shape) for n, p in zip(names, pieces, strict=True)}
            yield {name: np.asarray(unit[name]) * z[name] for name in names}


class FromStart(MLPRegressor):
    """scikit-learn's MLP, from given weights, to a given gradient norm."""

    def start_at(self, weights):
        self.start = weights
        return self

    def _initialize(self, y, layer_units, dtype):
        super()._initialize(y, layer_units, dtype)
        layers = ("hidden_0", "output")
        self.coefs_ = [self.start[f"{layer}.weight"].copy() for layer in layers]
        self.intercepts_ = [self.start[f"{layer}.bias"].copy() for layer in layers]


def sklearn_path(bnn, x, y, scales, restarts):
    """Log density, up to a constant, and gradient norm of every fit: (scales, restarts)."""
    found = np.empty((2, len(scales), restarts))
    per_nat = NOISE**2 / len(y)  # its objective is the mean over rows, ours the sum in nats
    ends = {}
    minimise = scipy.optimize.minimize

    def without_stopping_early(*args, options, **kwargs):
        ends["last"] = minimise(*args, options=options | {"ftol": 0.0}, **kwargs)
        return ends["last"]

    scipy.optimize.minimize = without_stopping_early
    try:
        for i, scale in enumerate(scales):
            for j, start in enumerate(starts(bnn, scale, restarts)):
                mlp = FromStart(
                    hidden_layer_sizes=(HIDDEN,),
                    activation="tanh",
                    solver="lbfgs",
                    alpha=wp.l2_from_prior(bnn, prior_of(bnn, scale), convention="sklearn_mlp"),
                    max_iter=MAX_ITERATIONS,
                    max_fun=10 * MAX_ITERATIONS,
                    tol=TOLERANCE * per_nat / scale,
                )
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    mlp.start_at(start).fit(x, y)
                gradient = np.abs(ends["last"].jac).max() / per_nat * scale
                found[:, i, j] = -mlp.loss_ / per_nat, gradient
    finally:
        scipy.optimize.minimize = minimise
    return found


def compare_optima(bnn, scales, ours, theirs) -> None:
    """Objectives are compared without constants, gradient norms in our units."""
    print("  columns in pairs: ours, theirs")
    print("  scale    converged     gradient norm (median)   best log density: ours - theirs")
    num_weights = sum(np.prod(s.shape) for n, s in bnn.sites.items() if s.kind == "weight")
    for i, scale in enumerate(scales):
        part = ours.isel(prior=i)
        constants = ROWS * np.log(NOISE) + num_weights * np.log(scale)
        constants += (ROWS + num_weights) * np.log(2 * np.pi) / 2
        best = part["lp"].to_numpy().max() + constants
        print(
            f"  {scale:5.3f}  {part['converged'].to_numpy().mean():5.0%} "
            f"{(theirs[1, i] <= TOLERANCE).mean():5.0%}    "
            f"{np.median(part['gradient_norm']):8.1e} {np.median(theirs[1, i]):8.1e}"
            f"     {best - theirs[0, i].max():+10.6f}"
        )


def single_fits(bnn, x, y, scales, repeats: int) -> None:
    optax_fit = jax.jit(optax_lbfgs, static_argnums=0)
    for scale in scales:
        prior = prior_of(bnn, scale)
        ratios = {"scikit-learn": [], "optax": []}
        for repeat in range(repeats + 1):
            options = {"num_restarts": 1, "max_iterations": MAX_ITERATIONS, "rng_key": 0}
            _, ours = timed(
                lambda p=prior, o=options: wp.fit_map(bnn, x, y, prior=p, **o), fresh=False
            )
            _, loop = timed(lambda s=scale: sklearn_path(bnn, x, y, [s], 1), fresh=False)
            with jax.enable_x64(True):
                start = next(iter(starts(bnn, scale, 1)))
                _, plain = timed(
                    lambda p=prior, s=start: jax.block_until_ready(optax_fit(bnn, x, y, p, s)),
                    fresh=False,
                )
            if repeat:  # the first one compiles
                ratios["scikit-learn"].append(loop / ours)
                ratios["optax"].append(plain / ours)
        print(
            f"  scale {scale:4.2f}  "
            + "   ".join(
                f"{name} {np.median(r):5.2f} ({min(r):.2f} to {max(r):.2f})"
                for name, r in ratios.items()
            )
        )


def optax_lbfgs(bnn, x, y, prior, start):
    """optax's own solver with its own line search, in double precision."""
    scale = prior.length_scale(bnn.sites)

    def objective(z):
        weights = {name: z[name] * scale[name] for name in z}
        return -bnn.log_joint(weights, x, y, prior)

    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(objective)

    def step(carry):
        z, state, count, _ = carry
        value, gradient = value_and_grad(z, state=state)
        updates, state = solver.update(
            gradient, state, z, value=value, grad=gradient, value_fn=objective
        )
        norm = optax.tree.norm(optax.tree.get(state, "grad"), ord=jnp.inf)
        return optax.apply_updates(z, updates), state, count + 1, norm

    z = {name: jnp.asarray(start[name] / scale[name]) for name in start}
    first = (z, solver.init(z), 0, jnp.inf)
    return jax.lax.while_loop(lambda c: (c[3] > TOLERANCE) & (c[2] < MAX_ITERATIONS), step, first)[
        0
    ]


if __name__ == "__main__":
    main()
