"""Cross-validation chooses a strength that predicts new rows, on the standard splits of UCI data.

The data are not distributed with the package: they are looked for in a folder `shared/references`
beside the checkout.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

import weightprior as wp

FOLDER = Path(__file__).resolve().parent.parent.parent / "shared" / "references" / "uci"
SCALES = np.geomspace(0.03, 3.0, 9)
FIT = partial(wp.fit_map, num_restarts=4, max_iterations=20_000)
# Runs to average over. On concrete they differ, by where searches and folds begin, as much as a
# standard error.
NUM_RUNS = {"concrete": 3}


def split_of(name, split):
    path = FOLDER / f"uci_{name}.npz"
    if not path.is_file():
        pytest.skip(f"{path.name} is not distributed with the package")
    with np.load(path) as file:
        x, y = file["X"], file["y"].ravel()
        rows = [np.asarray(file[part][split]).astype(int) for part in ("train", "test")]
    train = rows[0]
    # Some columns are constant among the training rows.
    spread = np.where(x[train].std(0) > 0, x[train].std(0), 1.0)
    x, y = (x - x[train].mean(0)) / spread, (y - y[train].mean()) / y[train].std()
    return [(x[part], y[part]) for part in rows]


def scores_of_split(name, split, run):
    """Mean log density of the test rows at each scale, and at the scale chosen, in one run."""
    (x, y), (x_test, y_test) = split_of(name, split)
    bnn = wp.BNN(wp.mlp(x.shape[1], hidden=(16,)), wp.Gaussian())
    path = wp.stack_priors({float(s): wp.normal_prior(bnn, scale=s) for s in SCALES})
    fit = partial(FIT, rng_key=run)
    found = wp.cross_validate(bnn, x, y, prior=path, fit=fit, num_folds=10, rng_key=run)
    test = wp.score(bnn, fit(bnn, x, y, prior=path), x_test, y_test)["elpd"] / len(y_test)
    return np.append(test, test.sel(prior=found["best"]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:fit_map. the best restart did not reach")
@pytest.mark.parametrize("name", ["boston", "concrete", "energy", "yacht"])
def test_the_chosen_scale_predicts_about_as_well_as_the_best_in_the_grid(name):
    # A split has some dozens of test rows, too few to tell neighbours in the grid apart.
    runs = range(NUM_RUNS.get(name, 1))
    scores = np.array(
        [np.mean([scores_of_split(name, i, run) for run in runs], axis=0) for i in range(20)]
    )
    test, chosen = scores[:, :-1], scores[:, -1]
    best = test[:, test.mean(0).argmax()]
    assert chosen.mean() >= best.mean() - best.std(ddof=1) / np.sqrt(len(best))
