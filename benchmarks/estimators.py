"""Estimators on real data: ours against scikit-learn's perceptrons, boosted trees, and bde.

Numbers: UCI sets in the splits of Hernandez-Lobato and Adams, from ``uci_NAME.npz`` (arrays `X`,
`y`, `train`, `test`) in the folder ``--data``. Classes: four sets of scikit-learn, a tenth of
their rows held out in each split. Everybody sees the same rows of a split. Strengths are chosen, of
five, by five folds of the training rows:

- ``map``: `BayesianMLPRegressor` and `BayesianMLPClassifier` as they are;
- ``mcmc``: the same by chains, the scale being the one that predicts best a fifth of the training
  rows, held out once;
- ``mlp``: `MLPRegressor` and `MLPClassifier`, standardised, with `GridSearchCV` over `alpha`;
- ``trees``: `HistGradientBoosting...` with `GridSearchCV` over its learning rate;
- ``bde`` (where ``--bde`` names the interpreter of an environment with sklearn-contrib-bde).

Neither ``mlp`` nor ``trees`` tells a spread: theirs is the root mean squared error in the folds.
The table has means over splits, and standard errors where there are several: log density (nats per
row, in units of y), RMSE or accuracy, coverage of 90 % intervals, seconds of fit and prediction.
`scales` are log densities of `map` and `mcmc` on the rows held out at every scale, beside those at
the chosen one.

``python benchmarks/estimators.py --data FOLDER --splits 5`` takes hours; ``--sets yacht
--peers map mlp`` a minute.
"""

import argparse
import json
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.base import clone

NUMBERS = ("boston", "concrete", "energy", "wine", "yacht")
# By the names that scikit-learn loads them by.
CLASSES = {
    "breast_cancer": "breast_cancer",
    "iris": "iris",
    "cultivars": "wine",
    "digits": "digits",
}
PEERS = ("map", "mcmc", "mlp", "trees")
HIDDEN, SCALES, ALPHAS = (32,), (0.3, 0.6, 1.2, 2.4, 4.8), (100.0, 10.0, 1.0, 0.1, 0.01)
LBFGS = {"activation": "tanh", "solver": "lbfgs", "tol": 1e-6, "max_iter": 10_000}
SHORT = {"num_warmup": 300, "num_samples": 250}


# Data: (x, y, x_test, y_test).


def numbers(folder, name, split):
    data = np.load(folder / f"uci_{name}.npz", allow_pickle=True)
    train, test = data["train"][split], data["test"][split]
    return data["X"][train], data["y"][train], data["X"][test], data["y"][test]


def classes(name, split):
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    x, y = getattr(datasets, f"load_{CLASSES[name]}")(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.1, stratify=y, random_state=split)
    return x, y, x_test, y_test


# Peers: from data to (log density of each row, mean or classes, interval or None, further numbers).


def ours(method, split, is_classes, data):
    from sklearn.model_selection import GridSearchCV, ShuffleSplit

    from weightprior.sklearn import (
        BayesianMLPClassifier,
        BayesianMLPRegressor,
        log_density_scorer,
    )

    x, y, x_test, y_test = data
    kind = BayesianMLPClassifier if is_classes else BayesianMLPRegressor
    model = kind(HIDDEN, method=method, random_state=split)
    if method == "mcmc":
        model.set_params(fit_options=SHORT)
        once = ShuffleSplit(1, test_size=0.2, random_state=split)
        grid = {"scale": SCALES}
        model = GridSearchCV(model, grid, scoring=log_density_scorer, cv=once).fit(x, y)
        model = model.best_estimator_
    else:
        model.fit(x, y)
    told = {"scale": model.scale_}
    interval = None if is_classes else model.predict_interval(x_test)
    return model.log_density(x_test, y_test), model.predict(x_test), interval, told


def scales_of(method, split, is_classes, data):
    """Log density per held-out row at every scale."""
    from weightprior.sklearn import BayesianMLPClassifier, BayesianMLPRegressor

    x, y, x_test, y_test = data
    kind = BayesianMLPClassifier if is_classes else BayesianMLPRegressor
    scales, options = (SCALES, SHORT) if method == "mcmc" else (kind.scales_of_optima, None)
    model = kind(HIDDEN, method=method, fit_options=options, random_state=split)
    fits = (clone(model).set_params(scale=scale).fit(x, y) for scale in scales)
    return {fit.scale: float(fit.log_density(x_test, y_test).mean()) for fit in fits}


def theirs(peer, split, is_classes, data):
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.model_selection import GridSearchCV
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y, x_test, y_test = data
    if peer == "trees":
        kind = HistGradientBoostingClassifier if is_classes else HistGradientBoostingRegressor
        model, grid = kind(random_state=split), {"learning_rate": (0.01, 0.03, 0.1, 0.2, 0.4)}
    else:
        kind = MLPClassifier if is_classes else MLPRegressor
        model = make_pipeline(
            StandardScaler(), kind(hidden_layer_sizes=HIDDEN, random_state=split, **LBFGS)
        )
        step = f"{kind.__name__.lower()}__alpha"
        if not is_classes:
            model = TransformedTargetRegressor(model, transformer=StandardScaler())
            step = f"regressor__{step}"
        grid = {step: ALPHAS}
    scoring = "neg_log_loss" if is_classes else "neg_mean_squared_error"
    search = GridSearchCV(model, grid, scoring=scoring, cv=5).fit(x, y)
    if is_classes:
        probability = search.predict_proba(x_test)
        at = np.searchsorted(search.classes_, y_test)
        own = probability[np.arange(len(at)), at]
        return np.log(np.maximum(own, 1e-15)), search.predict(x_test), None, {}
    mean, sd = search.predict(x_test), np.sqrt(-search.best_score_)
    interval = mean[:, None] + sd * norm.ppf([0.05, 0.95])
    return norm.logpdf(y_test, mean, sd), mean, interval, {}


def bde(python, data):
    """Ask the peer of another environment, which reads and writes arrays."""
    script = Path(__file__).parent / "peers" / "fit_with_bde.py"
    with tempfile.TemporaryDirectory() as folder:
        names = ("x", "y", "at", "of")
        np.savez(Path(folder) / "data.npz", **dict(zip(names, data, strict=True)))
        subprocess.run([python, script, folder], check=True, stdout=subprocess.DEVNULL)
        with np.load(Path(folder) / "found.npz") as found:
            return (*(found[name] for name in ("log_density", "mean", "interval")), {})


# The table.


def measure(options, name, split, peer):
    is_classes = name in CLASSES
    data = classes(name, split) if is_classes else numbers(options.data, name, split)
    began = time.perf_counter()
    if peer == "bde":
        density, mean, interval, told = bde(options.bde, data)
    elif peer in ("map", "mcmc"):
        density, mean, interval, told = ours(peer, split, is_classes, data)
    else:
        density, mean, interval, told = theirs(peer, split, is_classes, data)
    seconds = time.perf_counter() - began
    y = data[3]
    found = {"set": name, "split": split, "peer": peer, "log_density": density.mean()}
    found["error"] = np.mean(mean != y) if is_classes else np.sqrt(np.mean((mean - y) ** 2))
    if interval is not None:
        found["coverage"] = np.mean((interval[:, 0] <= y) & (y <= interval[:, 1]))
    found |= {"seconds": seconds, **told}
    if peer in ("map", "mcmc"):
        found["scales"] = scales_of(peer, split, is_classes, data)
    return found


def table(rows):
    columns = ["log_density", "error", "coverage", "seconds"]
    found = pd.DataFrame(rows)
    found = found.reindex(columns=found.columns.union(columns, sort=False))
    grouped = found.groupby(["set", "peer"], sort=False)[columns]
    print(grouped.mean().round(3).to_string())
    if found["split"].nunique() > 1:
        print("standard errors over splits")
        print(grouped.sem().round(3).to_string())
    chosen = found[found["peer"].isin(["map", "mcmc"])]
    for (name, peer), of_set in chosen.groupby(["set", "peer"], sort=False):
        grid = pd.DataFrame(of_set["scales"].tolist())
        best = grid.mean().idxmax()
        lost = grid[best].to_numpy() - of_set["log_density"].to_numpy()
        error = of_set["log_density"].sem()
        print(
            f"{name}, {peer}: best scale afterwards {best}, which the chosen ones miss by "
            f"{lost.mean():.3f} (standard error of their log density {error:.3f})"
        )
    inside = found[found["coverage"].notna()].groupby("peer", sort=False)["coverage"].mean()
    print("coverage of 90 % intervals, mean over sets:", inside.round(3).to_dict())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="the folder with uci_NAME.npz")
    parser.add_argument("--sets", nargs="+", default=[*NUMBERS, *CLASSES])
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=[*PEERS, "bde"])
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--bde", metavar="PYTHON", help="an interpreter that has bde")
    parser.add_argument("--save", type=Path, help="where to write every number, as JSON")
    options = parser.parse_args()
    if options.data is None:
        options.sets = [name for name in options.sets if name in CLASSES]
    peers = [*options.peers, *(["bde"] if options.bde and "bde" not in options.peers else [])]
    warnings.simplefilter("ignore")
    rows = []
    for name in options.sets:
        for split in range(options.splits):
            for peer in peers:
                if peer == "bde" and name in CLASSES:
                    continue
                rows.append(measure(options, name, split, peer))
                print(json.dumps(rows[-1], default=float), flush=True)
    if options.save:
        options.save.write_text(json.dumps(rows, default=float))
    table(rows)


if __name__ == "__main__":
    main()
