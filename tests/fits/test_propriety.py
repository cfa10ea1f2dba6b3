"""What flat priors leave open, where the data themselves say whether they do."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightprior as wp
from weightprior.fits.problem import Problem
from weightprior.fits.propriety import Open, check_proper, open_ends, open_ends_at, warn_open
from weightprior.fits.recession import Design, level, rising
from weightprior.model.likelihoods.terms import Recession

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
GROUP = np.column_stack([X[:, :2], np.arange(40) % 2])
COUNTS = 1 + RNG.poisson(2, size=40)
TIES = np.where(np.arange(40) < 6, 0.0, X[:, 1])
NAMES = ["a", "b", "c"]
LIKELIHOODS = {
    "bernoulli": wp.Bernoulli(),
    "categorical": wp.Categorical(3),
    "binomial": wp.Binomial(),
    "poisson": wp.Poisson(),
    "negative binomial": wp.NegativeBinomial(),
    "gaussian": wp.Gaussian(),
    "student": wp.StudentT(),
    "heteroscedastic": wp.HeteroscedasticGaussian(),
}
OUTPUTS = {"categorical": 3, "heteroscedastic": 2}


def problem(name, y, x=X, hidden=(), row_weights=None, **scale):
    bnn = wp.BNN(wp.mlp(NAMES[: x.shape[1]], hidden, OUTPUTS.get(name, 1)), LIKELIHOODS[name])
    scale = {"weight": np.inf, "bias": np.inf, **scale} | dict.fromkeys(bnn.latents, 1.0)
    prior = wp.normal_prior(bnn, scale=scale)
    return Problem.checked(bnn, x, y, prior=prior, row_weights=row_weights)


def found(name, y, **options):
    (one,) = open_ends(problem(name, y, **options))
    return one


CLASSES, COUNTED = "the classes are separated by", "counts of 0 are separated from others by"
TRIALS = "rows without a success or without a failure are separated from the others by"
APART = {
    "complete separation": ("bernoulli", X[:, 1] > 0, X, f"{CLASSES} 'b'"),
    "by a combination": ("bernoulli", X.sum(axis=1) > 0.3, X, f"{CLASSES} 'a', 'b', 'c'"),
    "quasi-complete separation": (
        "bernoulli",
        np.where(TIES == 0, np.arange(40) % 2, TIES > 0),
        np.column_stack([X[:, 0], TIES, X[:, 2]]),
        f"{CLASSES} 'b'",
    ),
    "one class": ("bernoulli", np.ones(40), X, "a class has no rows"),
    "three classes": ("categorical", np.digitize(X[:, 0], [-0.5, 0.5]), X, f"{CLASSES} 'a'"),
    "one of three": (
        "categorical",
        np.where(X[:, 0] > 0, 2, np.arange(40) % 2),
        X,
        f"{CLASSES} 'a'",
    ),
    "a class without rows": ("categorical", np.arange(40) % 2, X, "a class has no rows"),
    "no failures": ("binomial", np.stack([COUNTS, 0 * COUNTS], 1), X, "all trials ended alike"),
    "a group without failures": (
        "binomial",
        np.stack([COUNTS, np.where(GROUP[:, 2] == 1, 0, COUNTS)], 1),
        GROUP,
        f"{TRIALS} 'c'",
    ),
    "no counts": ("poisson", np.zeros(40), X, "all counts are 0"),
    "a group of zeros": ("poisson", np.where(GROUP[:, 2] == 1, 0, COUNTS), GROUP, f"{COUNTED} 'c'"),
    "scattered counts": (
        "negative binomial",
        np.where(GROUP[:, 2] == 1, 0, COUNTS),
        GROUP,
        f"{COUNTED} 'c'",
    ),
}
OVERLAPPING = {
    "bernoulli": np.arange(40) % 2,
    "categorical": np.arange(40) % 3,
    "binomial": np.stack([COUNTS, COUNTS], 1),
    "poisson": COUNTS - 1,
    "negative binomial": COUNTS - 1,
    "gaussian": X[:, 0],
    "student": X[:, 0],
    "heteroscedastic": X[:, 0],
}


@pytest.mark.parametrize("name", APART)
def test_data_without_a_finite_optimum_are_named(name):
    likelihood, y, x, reason = APART[name]
    assert found(likelihood, y, x=x) == Open(rises=reason)
    # Scales that hold the weights leave nothing open.
    assert found(likelihood, y, x=x, weight=3.0, bias=3.0) == Open()


@pytest.mark.parametrize("name", OVERLAPPING)
def test_data_that_overlap_leave_nothing_open(name):
    expected = "only differences of the outputs count" if name == "categorical" else ""
    assert found(name, OVERLAPPING[name]) == Open(level=expected)


def test_only_flat_weights_can_run_off():
    y = X[:, 1] > 0
    for flat, reason in (("b", f"{CLASSES} 'b'"), ("a", "")):
        scale = np.where(np.array(NAMES) == flat, np.inf, 1.0)[:, None]
        found_here = found("bernoulli", y, bias=1.0, **{"output.weight": scale})
        assert found_here == Open(rises=reason)


def test_rows_that_do_not_count_hold_nothing():
    y = X[:, 1] > 0
    y[:4] = ~y[:4]
    assert found("bernoulli", y) == Open()
    counts = np.r_[np.zeros(4), np.ones(36)]
    assert found("bernoulli", y, row_weights=counts) == Open(rises=f"{CLASSES} 'b'")


def test_an_offset_is_no_input():
    bnn = wp.BNN(wp.mlp(NAMES, (), offset="b"), wp.Bernoulli())
    prior = wp.normal_prior(bnn, scale=np.inf)
    for column, reason in ((1, ""), (2, f"{CLASSES} 'c'")):
        known = Problem.checked(bnn, X, X[:, column] > 0, prior=prior)
        assert open_ends(known) == [Open(rises=reason)]


ALIKE = {
    "a column twice": (X[:, [0, 1, 0]], "the rows do not tell apart what 'a', 'c' do"),
    "a constant column": (
        np.column_stack([X[:, :2], np.full(40, 7.0)]),
        "the rows do not tell apart what 'c' and the bias do",
    ),
    "a column per category": (
        np.eye(3)[np.arange(40) % 3],
        "the rows do not tell apart what 'a', 'b', 'c' and the bias do",
    ),
    "few rows": (X[:3], "3 rows do not tell 4 weights of an output apart"),
}


@pytest.mark.parametrize("name", ALIKE)
@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_columns_that_rows_do_not_tell_apart_are_named(name, likelihood):
    x, reason = ALIKE[name]
    y = COUNTS[: len(x)]
    assert found(likelihood, y, x=x) == Open(level=reason, unique=False)
    assert found(likelihood, y, x=x, weight=1.0) == Open()


def test_with_hidden_units_the_biases_alone_are_known():
    hidden = {"hidden": (4,), "hidden_0": 1.0, "x": X}
    assert found("bernoulli", X[:, 1] > 0, **hidden) == Open()
    assert found("bernoulli", np.zeros(40), **hidden) == Open(rises="a class has no rows")
    assert found("bernoulli", np.zeros(40), **hidden, bias=1.0) == Open()


def test_hidden_units_that_separate_are_known_once_their_weights_are():
    flat = problem("bernoulli", X[:, 1] > 0, hidden=(2,), hidden_0=1.0)
    rng = np.random.default_rng(0)
    weights = {n: rng.normal(size=site.shape) for n, site in flat.bnn.sites.items()}
    weights["hidden_0.bias"] = np.zeros(2)
    weights["hidden_0.weight"] = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    assert open_ends_at(flat, [weights]) == [Open()]
    weights["hidden_0.weight"] = np.array([[0.0, 1.0], [5.0, 0.0], [0.0, 1.0]])
    assert open_ends_at(flat, [weights]) == [Open(rises=f"{CLASSES} 'output.weight[0]'")]
    held = problem("bernoulli", X[:, 1] > 0, hidden=(2,), hidden_0=1.0, weight=1.0)
    assert open_ends_at(held, [weights]) == [Open()]


def test_rows_of_which_none_counts_ask_for_nothing():
    assert found("bernoulli", np.zeros(40), row_weights=np.zeros(40)) == Open()


# The linear programme, against what arithmetic says of one column.


def test_one_column_separates_where_the_classes_do_not_cross():
    rng, seen = np.random.default_rng(0), []
    for _ in range(200):
        x = rng.integers(-3, 4, size=(int(rng.integers(2, 8)), 1)).astype(float)
        y = rng.integers(0, 2, size=(len(x), 1)) == 1
        asked = Recession.of_each(y, ~y).constraints
        design = Design(np.column_stack([x, np.ones(len(x))]), asked, np.ones((2, 1), bool))
        zeros, ones = x[~y], x[y]
        apart = not (zeros.size and ones.size)
        if not apart and np.ptp(x) > 0:
            apart = zeros.max() <= ones.min() or ones.max() <= zeros.min()
        assert (rising(design) is not None) == apart
        assert apart or (level(design) is not None) == (np.ptp(x) == 0)
        seen.append(apart)
    assert 20 < sum(seen) < 180


def test_rows_beyond_the_first_are_asked_as_well():
    """The programme begins with some rows: two that are against it come last."""
    x = np.random.default_rng(0).normal(size=(3000, 1))
    y = x > 0
    design = [np.column_stack([x, np.ones(3000)]), Recession.of_each(y, ~y).constraints]
    assert rising(Design(*design, np.ones((2, 1), bool))) is not None
    y[[int(x.argmin()), int(x.argmax())]] ^= True
    order = np.argsort(np.abs(x[:, 0]))
    design = [design[0][order], Recession.of_each(y[order], ~y[order]).constraints]
    assert rising(Design(*design, np.ones((2, 1), bool))) is None


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_likelihoods_directions_are_those_that_never_lower_its_density(name):
    likelihood, y = LIKELIHOODS[name], np.asarray(OVERLAPPING[name][:12], float)
    if name == "binomial":
        y[:4, 0], y[4:8, 1] = 0, 0
    size = OUTPUTS.get(name, 1)
    weights = {n: jnp.asarray(latent.prior[0]) for n, latent in likelihood.latents(size).items()}
    rng = np.random.default_rng(1)
    asked = likelihood.recession(y, size).constraints
    start = rng.normal(size=(12, size))
    steps = np.r_[0.0, np.geomspace(0.1, 30, 12)]
    many = np.tile(y, (13, *[1] * (y.ndim - 1)))
    for direction in rng.normal(size=(10, size)):
        direction /= np.abs(direction).max()
        outputs = (start + steps[:, None, None] * direction).reshape(-1, size)
        with jax.enable_x64(True):
            law = likelihood.targets(jnp.asarray(outputs), weights)
            path = law.log_prob(likelihood.observed(many, jnp.float64)).reshape(13, 12)
        change = np.diff(np.array(path), axis=0)
        products = asked @ direction
        never = products.min(axis=1) >= 0
        assert np.all(change[:, never] >= -1e-9)
        assert np.all(change[:, ~never].min(axis=0, initial=0.0) < 0)
        rises = never & (products.max(axis=1) > 0)
        assert np.all(change[0, rises] > 0)


# What is said.


def test_a_proper_posterior_is_asked_for_before_chains_run():
    with pytest.raises(ValueError, match="improper one: the classes are separated by 'b', where"):
        check_proper("fit_mcmc", problem("bernoulli", X[:, 1] > 0))
    with pytest.raises(ValueError, match="only differences of the outputs count"):
        check_proper("fit_mcmc", problem("categorical", np.arange(40) % 3))
    with pytest.raises(ValueError, match="do not tell apart what 'a', 'c' do"):
        check_proper("fit_mcmc", problem("gaussian", X[:, 1], x=X[:, [0, 1, 0]]))


def test_what_may_be_improper_is_said_to_be_that():
    flat = problem("bernoulli", X[:, 1] > 0, hidden=(4,), hidden_0=1.0)
    with pytest.warns(UserWarning, match="may be improper: the prior is flat on 'output.weight'"):
        check_proper("fit_mcmc", flat)
    check_proper(
        "fit_mcmc", problem("bernoulli", X[:, 1] > 0, hidden=(4,), weight=1.0, hidden_0=1.0)
    )


def test_the_prior_of_a_stack_is_named():
    bnn = wp.BNN(wp.mlp(NAMES, ()), wp.Bernoulli())
    priors = {"flat": wp.normal_prior(bnn, scale=np.inf), "proper": wp.normal_prior(bnn)}
    both = Problem.checked(bnn, X, X[:, 1] > 0, prior=wp.stack_priors(priors))
    with pytest.warns(UserWarning, match="no finite optimum under prior 'flat'") as caught:
        warn_open("fit_map", both, open_ends(both))
    assert len(caught) == 1


def test_nothing_is_said_of_what_is_well():
    fine = problem("bernoulli", np.arange(40) % 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_open("fit_map", fine, open_ends(fine))
        check_proper("fit_mcmc", fine)
