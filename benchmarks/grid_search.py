"""A grid search, first call included: `BayesianMLPRegressor` against `MLPRegressor`.

Three widths times three strengths in five folds on scikit-learn's diabetes data: 46 fits. Every
search runs in a process of its own, so that ours compiles all its programs; imports are not
counted. The peer comes in three ways, for its seconds depend on what it is given: the data as they
are, standardised inputs, and inputs and targets standardised with penalties like ours. Printed are
seconds, ours over each peer's with the range over repeats, and how many programs ours compiled for
searches of optima.

``python benchmarks/grid_search.py --repeats 3`` takes some minutes.
"""

import argparse
import json
import subprocess
import sys
import time
import warnings

import numpy as np

WIDTHS = ((8,), (16,), (32,))
PEERS = ("as they are", "inputs standardised", "all standardised")


def ours():
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import GridSearchCV

    from weightprior.fits import programs as _programs
    from weightprior.sklearn import BayesianMLPRegressor

    x, y = load_diabetes(return_X_y=True)
    grid = {"scale": [0.3, 0.6, 1.0], "hidden_layer_sizes": WIDTHS}
    began = time.perf_counter()
    GridSearchCV(BayesianMLPRegressor(random_state=0), grid, cv=5).fit(x, y)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "programs": _programs._compile_once.cache_info().misses}


def theirs(way):
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import GridSearchCV
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = load_diabetes(return_X_y=True)
    options = {"solver": "lbfgs", "tol": 1e-6, "max_iter": 10_000, "random_state": 0}
    if way == "as they are":
        model, alphas, prefix = MLPRegressor(**options), (1e-4, 1e-2, 1.0), ""
    elif way == "inputs standardised":
        model = make_pipeline(StandardScaler(), MLPRegressor(**options))
        alphas, prefix = (1e-4, 1e-2, 1.0), "mlpregressor__"
    else:
        # The noise of about 0.7, squared, over the squared scales of ten inputs' weights.
        perceptron = MLPRegressor(activation="tanh", **options)
        model = TransformedTargetRegressor(
            make_pipeline(StandardScaler(), perceptron), transformer=StandardScaler()
        )
        alphas, prefix = (54.0, 14.0, 4.9), "regressor__mlpregressor__"
    grid = {f"{prefix}alpha": alphas, f"{prefix}hidden_layer_sizes": WIDTHS}
    began = time.perf_counter()
    GridSearchCV(model, grid, cv=5).fit(x, y)
    return {"seconds": time.perf_counter() - began}


def run(way):
    done = subprocess.run(
        [sys.executable, __file__, "--one", way], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.one:
        print(json.dumps(ours() if options.one == "ours" else theirs(options.one)))
        return
    rounds = [{way: run(way) for way in ("ours", *PEERS)} for _ in range(options.repeats)]
    seconds = {way: np.array([r[way]["seconds"] for r in rounds]) for way in rounds[0]}
    print(f"ours: {np.median(seconds['ours']):.1f} s, {rounds[0]['ours']['programs']} programs")
    for way in PEERS:
        ratio = seconds["ours"] / seconds[way]
        print(
            f"{way}: {np.median(seconds[way]):.1f} s; ours takes {np.median(ratio):.2f} times as "
            f"long ({ratio.min():.2f} to {ratio.max():.2f})"
        )


if __name__ == "__main__":
    main()
