"""Forty good runs on real data: nothing is said where nothing is the matter.

Data of the field are looked for in a folder `shared/cases` beside the checkout; runs that need an
absent file are skipped.
"""

import re
import warnings
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import weightprior as wp
from weightprior.fits.problem import Problem

datasets = pytest.importorskip("sklearn.datasets")
FOLDER = Path(__file__).resolve().parents[2] / "shared" / "cases"
FITTERS = {
    "map": wp.fit_map,
    "mcmc": partial(wp.fit_mcmc, progress_bar=False),
    "tempered": wp.fit_tempered,
    "ensemble": wp.fit_ensemble,
    "laplace": wp.fit_laplace,
    # Where inputs go together, as those of diabetes do, independent weights are far from them.
    "vi": partial(wp.fit_vi, guide="full"),
}
# Approximations by one normal distribution are good where there is no hidden layer.
HIDDEN = {"laplace": (), "vi": ()}
RUNS = {
    "diabetes": wp.Gaussian(),
    "starsCYG": wp.StudentT(),
    "mcycle": wp.HeteroscedasticGaussian(),
    "breast_cancer": wp.Bernoulli(["malignant", "benign"]),
    "iris": wp.Categorical(["setosa", "versicolor", "virginica"]),
    "Insurance": wp.Poisson(),
    "quine": wp.NegativeBinomial(),
    "esoph": wp.Binomial(),
}
# Posteriors with narrow places, where chains diverge by default. Of mcycle, whose noise all but
# vanishes among the first rows, NumPyro's do as well. Of Insurance theirs do not; of ours 1 to 8 of
# 4,000 transitions do in two runs of three.
NARROW = ("mcycle", "Insurance")
# A choice of forty, each function and each likelihood often.
CHOSEN = [
    (d, f)
    for i, d in enumerate(RUNS)
    for j, f in enumerate(FITTERS)
    if ((i + j) % 6 or (d, f) == ("diabetes", "map")) and (d, f) != ("mcycle", "mcmc")
]
# Further data, which are only checked.
CHECKED = {
    "wine": wp.Categorical(3),
    "digits": wp.Categorical(10),
    "sleepstudy": wp.Gaussian(),
    "hprice1": wp.StudentT(4.0),
    "badhealth": wp.NegativeBinomial(),
}


def standardised(values):
    """As the documentation says."""
    return (values - values.mean(axis=0)) / values.std(axis=0)


def of_scikit_learn(name):
    rows = getattr(datasets, f"load_{name}")(as_frame=True)
    x, y = rows.data.loc[:, rows.data.std() > 0], rows.target
    if name == "diabetes":
        return standardised(x), standardised(y)
    if name == "digits":
        some = x.iloc[:300]
        return standardised(some.loc[:, some.std() > 0]), y.iloc[:300]
    named = name in ("iris", "breast_cancer")
    return standardised(x), pd.Series(rows.target_names[y]) if named else y


def of_the_field(name):
    path = FOLDER / f"{name}.csv"
    if not path.is_file():
        pytest.skip(f"{name}.csv is not distributed with the package")
    rows = pd.read_csv(path)
    dummies = partial(pd.get_dummies, drop_first=True, dtype=float)
    match name:
        case "esoph":
            rows = rows[rows["ncases"] + rows["ncontrols"] > 0]
            return dummies(rows[["agegp", "alcgp", "tobgp"]]), rows[["ncases", "ncontrols"]]
        case "Insurance":
            columns = dummies(rows[["District", "Group", "Age"]], columns=["District"])
            columns = dummies(columns, columns=["Group", "Age"])
            return columns.assign(exposure=np.log(rows["Holders"])), rows["Claims"]
        case "quine":
            return dummies(rows[["Eth", "Sex", "Age", "Lrn"]]), rows["Days"]
        case "badhealth":
            return standardised(rows[["badh", "age"]]), rows["numvisit"]
    target = {"mcycle": "accel", "sleepstudy": "Reaction", "hprice1": "price"}
    inputs = {"mcycle": ["times"], "sleepstudy": ["Days"], "starsCYG": ["log.Te"]}
    x = rows[inputs.get(name, ["sqrft", "lotsize", "bdrms"])]
    return standardised(x), standardised(rows[target.get(name, "log.light")])


@cache
def run_of(name, hidden=(8,)):
    """A model, its data and a prior that suits them."""
    find = of_scikit_learn if hasattr(datasets, f"load_{name}") else of_the_field
    likelihood = (RUNS | CHECKED)[name]
    x, y = find(name)
    classes = getattr(likelihood, "num_classes", 0)
    outputs = 2 if name == "mcycle" else classes if classes > 2 else 1
    offset = "exposure" if name == "Insurance" else None
    bnn = wp.BNN(wp.mlp(list(x.columns), hidden, outputs, offset=offset), likelihood)
    return bnn, x, y, wp.normal_prior(bnn, scale=wp.fan_in_scale(bnn))


@pytest.mark.parametrize("name", RUNS | CHECKED)
@pytest.mark.parametrize("hidden", [(), (8,)], ids=["linear", "net"])
def test_data_as_documented_are_taken_without_a_word(name, hidden):
    bnn, x, y, prior = run_of(name, hidden)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for some in (prior, wp.normal_prior(bnn)):
            problem = Problem.checked(bnn, x, y, prior=some)
    assert len(problem.x) == len(x)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "function"), CHOSEN)
def test_a_good_run_raises_no_warning(name, function):
    bnn, x, y, prior = run_of(name, HIDDEN.get(function, (8,)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = FITTERS[function](bnn, x, y, prior=prior)
        scores = wp.score(bnn, fit, x, y)
    assert np.isfinite(scores["elpd"])


@pytest.mark.slow
@pytest.mark.parametrize("rng_key", [0, 1])
def test_where_our_chains_diverge_most_those_of_numpyro_do(rng_key):
    bnn, x, y, prior = run_of("mcycle")
    with pytest.warns(UserWarning, match="diverged"):
        peer = wp.fit_mcmc(bnn, x, y, prior=prior, rng_key=rng_key, kernel="nuts")
    assert peer["sample_stats"]["diverging"].sum() >= 10


@pytest.mark.slow
# Of Insurance half of the runs diverge.
@pytest.mark.parametrize(
    ("name", "rng_key"), [("mcycle", 0), ("mcycle", 1), ("Insurance", 1), ("Insurance", 3)]
)
def test_where_chains_diverge_following_the_advice_ends_without_a_word(name, rng_key):
    bnn, x, y, prior = run_of(name)
    options = {}
    for _ in range(4):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            fit = wp.fit_mcmc(bnn, x, y, prior=prior, rng_key=rng_key, **options)
        if not told:
            break
        advice = re.search(r"raise (target_accept_prob) to (0\.\d+)\.", str(told[0].message))
        options = {advice[1]: float(advice[2])}
    assert not told
    assert options
    assert fit["sample_stats"]["diverging"].sum() == 0


def test_there_are_forty():
    assert len(CHOSEN) == 40
    assert {d for d, _ in CHOSEN} == {*RUNS}
    assert {f for _, f in CHOSEN} == {*FITTERS}
