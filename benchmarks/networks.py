"""Microseconds per gradient of a network by `network`, over those of the same one by `mlp`.

Every network is the perceptron 10-32-1 with tanh units on the diabetes data. A gradient is that of
the density along which `fit_mcmc` moves by default, in single precision: with `readout` the output
layer is integrated out of it, and without there is none to integrate out, so that chains move
through all weights. All are timed in turn, in loops that are compiled, and the ratio is printed
with its spread over the turns. A gradient of all weights moves chains less far: so the second table
has effective draws (the smallest bulk effective sample size of the outputs at 20 inputs) per
thousand gradients of `fit_mcmc`, which no machine changes.

    python benchmarks/networks.py --repeats 20
"""

import argparse
import time
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx
from sklearn.datasets import load_diabetes

import weightprior as wp
from weightprior.fits.problem import Problem
from weightprior.inference._coordinates.choose import coordinates_of

NUM_FEATURES, WIDTH, STEPS = 10, 32, 2000


class InNNX(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.hidden = nnx.Linear(NUM_FEATURES, WIDTH, rngs=rngs)
        self.out = nnx.Linear(WIDTH, 1, rngs=rngs)

    def __call__(self, x):
        return self.out(jnp.tanh(self.hidden(x)))


class InLinen(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(1, name="out")(jnp.tanh(linen.Dense(WIDTH, name="hidden")(x)))


def function(params, x):
    hidden = jnp.tanh(x @ params["hidden"]["weight"] + params["hidden"]["bias"])
    return hidden @ params["out"]["weight"] + params["out"]["bias"]


def networks():
    params = {
        "hidden": {"weight": np.zeros((NUM_FEATURES, WIDTH)), "bias": np.zeros(WIDTH)},
        "out": {"weight": np.zeros((WIDTH, 1)), "bias": np.zeros(1)},
    }
    module = eqx.nn.MLP(NUM_FEATURES, 1, WIDTH, 1, activation=jnp.tanh, key=jax.random.key(0))
    return {
        "mlp": wp.mlp(NUM_FEATURES, (WIDTH,)),
        "nnx": wp.network(InNNX(), NUM_FEATURES, readout="out"),
        "linen": wp.network(InLinen(), NUM_FEATURES, readout="out"),
        "equinox": wp.network(module, NUM_FEATURES, readout="layers.1"),
        "function": wp.network(function, NUM_FEATURES, params=params, readout="out"),
        "nnx, no readout": wp.network(InNNX(), NUM_FEATURES),
    }


def model(network):
    """A model of the diabetes data, and its prior."""
    x, y = load_diabetes(return_X_y=True)
    x, y = ((a - a.mean(0)) / a.std(0) for a in (x, y))
    bnn = wp.BNN(network, wp.Gaussian(noise=0.7))
    return bnn, x, y, wp.normal_prior(bnn, scale=wp.fan_in_scale(bnn))


def moves(network):
    """A compiled loop of gradient steps, which begins at one place for all, and its start."""
    bnn, x, y, prior = model(network)
    problem = Problem.checked(bnn, x, y, prior=prior)

    @partial(jax.jit, static_argnums=1)
    def run(position, steps, task, data):
        coordinates = coordinates_of(True, data, task)

        def step(_, z):
            return z + 1e-5 * jax.grad(coordinates.log_density)(z)

        return jax.lax.fori_loop(0, steps, step, position)

    [task] = problem.tasks
    start = 0.1 * jnp.sin(jnp.arange(coordinates_of(True, problem.data, task).size, dtype=float))
    return lambda steps: run(start, steps, task, problem.data).block_until_ready()


def effective_draws(network):
    """Effective draws per thousand gradients of the draws, warm-up left out."""
    bnn, x, y, prior = model(network)
    fit = wp.fit_mcmc(bnn, x, y, prior=prior)
    found = wp.diagnostics.convergence(bnn, fit, x[:: len(x) // 20])
    return 1e3 * float(found["ess_bulk"].min() / fit["sample_stats"]["n_steps"].sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats
    runs = {name: moves(network) for name, network in networks().items()}
    for run in runs.values():
        run(STEPS)
    seconds = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            began = time.perf_counter()
            run(STEPS)
            seconds[name].append(time.perf_counter() - began)
    base = np.array(seconds["mlp"])
    print(f"{'network':16} {'us per gradient':>16} {'over mlp':>10}  (10 % to 90 %)")
    for name, taken in seconds.items():
        ratio = np.array(taken) / base
        low, high = np.quantile(ratio, [0.1, 0.9])
        each = 1e6 * np.median(taken) / STEPS
        print(f"{name:16} {each:16.1f} {np.median(ratio):10.2f}  ({low:.2f} to {high:.2f})")
    print("effective draws per 1,000 gradients")
    for name in ("mlp", "nnx", "nnx, no readout"):
        print(f"{name:16} {effective_draws(networks()[name]):16.1f}")


if __name__ == "__main__":
    main()
