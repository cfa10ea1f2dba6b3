"""Penalties as priors: exact inverses, the gradients of the libraries' losses, and their optima."""

import re
import warnings
from functools import cache, partial
from itertools import product

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from threadpoolctl import threadpool_limits

import oracle
import shared_fits
import weightprior as wp
from shared_fits import ROUNDING

# The rows, and without a second hidden layer the shape of the network, are those of `problems.NET`.
ROWS, PENALTY, NOISE = 15, 0.7, 0.6
_rng = np.random.default_rng(0)
X = _rng.normal(size=(ROWS, 2))
CONTINUOUS = np.sin(X @ [[1.0, -1.0], [2.0, 0.5]]) + 0.3 * _rng.normal(size=(ROWS, 2))
LABELS, COUNTS = np.arange(30.0).reshape(15, 2) // 2 % 2, np.arange(30.0).reshape(15, 2) % 5
CLASSES = np.arange(15.0) % 3
# What only tests run, once or twice, takes longer to optimise than to run.
UNOPTIMISED = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def network(num_outputs, activation="tanh", hidden=(3, 2)):
    return wp.mlp(2, hidden=hidden, num_outputs=num_outputs, activation=activation)


# Model and targets by the name of the loss.
PROBLEMS = {
    "gaussian": (wp.BNN(network(1), wp.Gaussian(NOISE)), CONTINUOUS[:, 0]),
    "gaussian, two": (wp.BNN(network(2), wp.Gaussian(NOISE)), CONTINUOUS),
    "bernoulli": (wp.BNN(network(1), wp.Bernoulli()), LABELS[:, 0]),
    "bernoulli, two": (wp.BNN(network(2), wp.Bernoulli()), LABELS),
    "categorical": (wp.BNN(network(3), wp.Categorical(3)), CLASSES),
    "poisson": (wp.BNN(network(1), wp.Poisson()), COUNTS[:, 0]),
    "poisson, two": (wp.BNN(network(2), wp.Poisson()), COUNTS),
    "heteroscedastic": (wp.BNN(network(2), wp.HeteroscedasticGaussian()), CONTINUOUS[:, 0]),
    "student": (wp.BNN(network(1), wp.StudentT(4.0, NOISE)), CONTINUOUS[:, 0]),
}


# The libraries' losses, as their manuals have them: of outputs (rows, K) and targets. In numpy,
# and of complex numbers as well, so that complex steps differentiate them.


def columns(y):
    return y[:, None] if y.ndim == 1 else y


def squares(f, y):
    return (f - columns(y)) ** 2


def binary(f, y):
    return np.log1p(np.exp(f)) - columns(y) * f


def classes(f, y):
    of_the_class = f[np.arange(len(y)), y.astype(int)]
    return np.log(np.exp(f).sum(axis=1)) - of_the_class


def counts(f, y):
    return np.exp(f) - columns(y) * f


def heteroscedastic(f, y):
    var = np.exp(2 * f[:, 1])
    return (np.log(var) + (y - f[:, 0]) ** 2 / var) / 2


def student(f, y):
    return 2.5 * np.log1p((f[:, 0] - y) ** 2 / (4 * NOISE**2))


def mean(terms):
    return terms.mean()


def total(terms):
    return terms.sum()


def per_row(loss):
    return lambda f, y: loss(f, y).sum() / len(y)


def keras_mean(loss):
    return lambda f, y: loss(f, y).mean(axis=-1).mean()


def keras_sum(loss):
    return lambda f, y: loss(f, y).mean(axis=-1).sum()


def all_of(reduce, **other):
    terms = {"gaussian": squares, "bernoulli": binary, "categorical": classes, "poisson": counts}
    return {name: (lambda f, y, t=term: reduce(t(f, y))) for name, term in terms.items()} | other


LOSSES = {
    ("sum", "mean"): all_of(
        total,
        gaussian=lambda f, y: squares(f, y).sum() / 2,
        heteroscedastic=lambda f, y: heteroscedastic(f, y).sum(),
        student=lambda f, y: student(f, y).sum(),
    ),
    ("ridge", "mean"): {"gaussian": lambda f, y: squares(f, y).sum()},
    ("sklearn_mlp", "mean"): {
        "gaussian": lambda f, y: squares(f, y).sum() / (2 * len(y)),
        "bernoulli": per_row(binary),
        "categorical": per_row(classes),
        "poisson": per_row(counts),
    },
    ("logistic_C", "mean"): {
        "bernoulli": lambda f, y: PENALTY * binary(f, y).sum(),
        "categorical": lambda f, y: PENALTY * classes(f, y).sum(),
    },
    ("torch", "mean"): all_of(mean, heteroscedastic=per_row(heteroscedastic)),
    ("torch", "sum"): all_of(total, heteroscedastic=lambda f, y: heteroscedastic(f, y).sum()),
    ("keras", "mean"): {
        "gaussian": keras_mean(squares),
        "bernoulli": keras_mean(binary),
        "categorical": per_row(classes),
        "poisson": keras_mean(counts),
    },
    ("keras", "sum"): {
        "gaussian": keras_sum(squares),
        "bernoulli": keras_sum(binary),
        "categorical": lambda f, y: classes(f, y).sum(),
        "poisson": keras_sum(counts),
    },
}


def decay(convention, weights, loc, batch):
    """The penalty as the library writes it."""
    kernels = sum(np.sum((w - loc[k]) ** 2) for k, w in weights.items() if "weight" in k)
    biases = sum(np.sum((w - loc[k]) ** 2) for k, w in weights.items() if "bias" in k)
    return {
        "sum": PENALTY / 2 * (kernels + biases),
        "ridge": PENALTY * kernels,
        "sklearn_mlp": PENALTY / (2 * batch) * kernels,
        "logistic_C": kernels / 2,
        "torch": PENALTY / 2 * (kernels + biases),
        "keras": PENALTY * kernels,
    }[convention]


def objective(convention, reduction, name, loc, batch=ROWS):
    """What the library minimises; of mini-batches, their mean."""
    bnn, y = PROBLEMS[name]
    loss = LOSSES[convention, reduction][name.split(",")[0]]
    slices = [slice(i, i + batch) for i in range(0, ROWS, batch)]

    def function(weights):
        f = shared_fits.outputs(bnn, weights, X)
        batches = [loss(f[rows], y[rows]) for rows in slices]
        return sum(batches) / len(batches) + decay(convention, weights, loc, batch)

    return function


CASES = [
    (convention, reduction, name)
    for (convention, reduction), losses in LOSSES.items()
    for name in PROBLEMS
    if name.split(",")[0] in losses
]


STEP = 1e-30  # of what is imaginary: nothing is subtracted, so that it may be tiny


def complex_steps(function, weights):
    """The gradient of a function of numpy arrays, exact but for rounding."""
    found = {name: np.empty(values.shape) for name, values in weights.items()}
    for name, values in weights.items():
        for index in np.ndindex(values.shape):
            moved = values.astype(complex)
            moved[index] += STEP * 1j
            found[name][index] = function({**weights, name: moved}).imag / STEP
    return found


ACTIVATIONS = {"tanh": "tanh", "sigmoid": "logistic", "relu": "relu", "identity": "identity"}


@partial(jax.jit, compiler_options=UNOPTIMISED)
def gradients(weights, models, y, prior):
    """Gradients of minus the log density of several models, which compile as one program."""
    return {
        name: jax.grad(lambda w, bnn=bnn: -bnn.log_joint(w, X, y, prior))(weights)
        for name, bnn in models.items()
    }


def our_gradient(name, activation, weights, prior):
    bnn, y = PROBLEMS[name]
    chosen = ACTIVATIONS if name in PERCEPTRONS else ["tanh"]
    models = {a: wp.BNN(network(bnn.network.num_outputs, a), bnn.likelihood) for a in chosen}
    with jax.enable_x64(True):
        return gradients(weights, models, y, prior)[activation]


PERCEPTRONS = [name for convention, _, name in CASES if convention == "sklearn_mlp"]


def random_weights(bnn, seed):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=site.shape) for name, site in bnn.sites.items()}


def assert_proportional(theirs, ours):
    """Assert that two gradients vanish together: one is a positive multiple of the other."""
    theirs, ours = (np.concatenate([np.ravel(g[k]) for k in ours]) for g in (theirs, ours))
    factor = theirs @ ours / (ours @ ours)
    assert factor > 0
    size = np.abs(theirs).max()
    np.testing.assert_allclose(theirs / size, factor * ours / size, **ROUNDING)


# Gradients.


BATCHES = [
    pytest.param(*case, batch, marks=[pytest.mark.slow] * (batch < ROWS and case[2] != "gaussian"))
    for case, batch in product(CASES, [ROWS, 5])
    if batch == ROWS or case[0] in ("sklearn_mlp", "torch", "keras")
]


NOISES = wp.BNN(network(2), wp.Gaussian(noise=(0.5, 2.0)))


def test_a_noise_of_each_output_makes_a_sum_of_log_likelihoods():
    prior = wp.prior_from_l2(NOISES, PENALTY, convention="sum")
    for scale in prior.scale.values():
        np.testing.assert_allclose(scale, PENALTY**-0.5, rtol=1e-14)


@pytest.mark.parametrize("num_targets", [1, 2])
def test_gaussian_nll_is_a_mean_over_rows_and_means(num_targets):
    bnn = wp.BNN(network(2 * num_targets), wp.HeteroscedasticGaussian())
    prior = wp.prior_from_l2(bnn, PENALTY, convention="torch", num_obs=ROWS)
    expected = (ROWS * num_targets * PENALTY) ** -0.5
    np.testing.assert_allclose(prior.scale["output.weight"], expected, rtol=1e-14)


@pytest.mark.parametrize(("convention", "reduction", "name", "batch"), BATCHES)
def test_the_density_has_the_gradient_of_the_loss(convention, reduction, name, batch):
    counts_in_full = convention == "sklearn_mlp" or reduction == "sum"
    bnn, _ = PROBLEMS[name]
    loc, weights = random_weights(bnn, 1), random_weights(bnn, 2)
    prior = wp.prior_from_l2(
        bnn,
        PENALTY,
        convention=convention,
        num_obs=ROWS,
        loc=loc,
        reduction=reduction,
        batch_size=batch if batch < ROWS and counts_in_full else None,
    )
    theirs = complex_steps(objective(convention, reduction, name, loc, batch), weights)
    assert_proportional(theirs, our_gradient(name, "tanh", weights, prior))


def perceptron(bnn, y, activation, **options):
    """A network of scikit-learn's of the model's shape, not yet trained."""
    neural_network = pytest.importorskip("sklearn.neural_network")
    make = neural_network.MLPClassifier
    if not bnn.likelihood.has_classes:
        make = neural_network.MLPRegressor
    if isinstance(bnn.likelihood, wp.Poisson):
        options["loss"] = "poisson"
    model = make(
        hidden_layer_sizes=bnn.network.hidden,
        activation=ACTIVATIONS[activation],
        solver="lbfgs",
        **options,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that one iteration is not enough
        return train(model, y, max_iter=1)


def train(model, y, **options):
    # Products of so few numbers: a second thread would only wait.
    with threadpool_limits(1, user_api="blas"):
        return model.set_params(**options).fit(X, y)


def put(model, weights):
    arrays = [np.array(w) for w in weights.values()]
    model.coefs_, model.intercepts_ = arrays[::2], [a.copy() for a in arrays[1::2]]


def taken(model, bnn):
    pairs = zip(model.coefs_, model.intercepts_, strict=True)
    arrays = [array for pair in pairs for array in pair]
    return dict(zip(bnn.sites, arrays, strict=True))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", PERCEPTRONS)
def test_the_density_has_the_gradient_that_scikit_learn_computes(name, activation):
    bnn, y = PROBLEMS[name]
    bnn = wp.BNN(network(bnn.network.num_outputs, activation), bnn.likelihood)
    weights = random_weights(bnn, 3)
    model = perceptron(bnn, y, activation, alpha=PENALTY)
    put(model, weights)
    layers = len(model.coefs_)
    blank = [[None] * layers for _ in range(3)]
    targets = np.eye(3)[y.astype(int)] if name == "categorical" else columns(y)
    _, kernels, biases = model._backprop(X, targets, None, [X, *[None] * layers], *blank)
    pairs = zip(kernels, biases, strict=True)
    theirs = dict(zip(bnn.sites, [array for pair in pairs for array in pair], strict=True))
    prior = wp.prior_from_l2(bnn, PENALTY, convention="sklearn_mlp")
    assert_proportional(theirs, our_gradient(name, activation, weights, prior))


# Inverses.


ROUND_TRIP = {"rtol": 8 * np.finfo(float).eps}


@hypothesis.given(
    case=st.sampled_from(CASES),
    penalty=st.just(0.0) | st.floats(1e-9, 1e9),
    num_obs=st.integers(1, 10**6),
    batch_size=st.none() | st.integers(1, 10**6),
    loc=st.floats(-1e3, 1e3),
    learned=st.booleans(),
)
def test_a_number_comes_back(case, penalty, num_obs, batch_size, loc, learned):
    convention, reduction, name = case
    bnn = PROBLEMS[name][0]
    options = {"convention": convention, "num_obs": num_obs, "reduction": reduction}
    if convention == "sklearn_mlp" or reduction == "sum":
        options["batch_size"] = batch_size
    if learned and isinstance(bnn.likelihood, wp.Gaussian):
        bnn, options["noise"] = wp.BNN(bnn.network, wp.Gaussian()), 0.3
    if convention == "logistic_C":
        penalty = penalty or np.inf
    prior = wp.prior_from_l2(bnn, penalty, loc=loc, **options)
    np.testing.assert_allclose(wp.l2_from_prior(bnn, prior, **options), penalty, **ROUND_TRIP)
    assert all(np.all(prior.loc[site] == loc) for site in bnn.network.sites)


NET = PROBLEMS["gaussian"][0]
DICTS = {
    "by kind": {"weight": 0.1, "bias": 0.2},
    "by layer": {"hidden_0": 0.1, "hidden_1": 0.0, "output": 3.0, "bias": 0.4},
    "by site": {"weight": 1.0, "bias": 0.0, "output.weight": 2.0, "hidden_0.bias": 0.5},
    "arrays": {"weight": 1.0, "bias": 2.0, "hidden_0.weight": np.arange(6.0).reshape(2, 3)},
    "all free": {"weight": 0.0, "bias": 0.0},
}


@pytest.mark.parametrize("convention", ["sum", "torch", "keras"])
@pytest.mark.parametrize("name", DICTS)
def test_a_dict_comes_back_site_by_site(convention, name):
    options = {"convention": convention, "num_obs": 50}
    prior = wp.prior_from_l2(NET, DICTS[name], **options)
    back = wp.l2_from_prior(NET, prior, **options)
    again = wp.prior_from_l2(NET, back, **options)
    for site in NET.sites:
        np.testing.assert_allclose(again.scale[site], prior.scale[site], **ROUND_TRIP)
    if name == "all free":
        assert back == 0.0
        return
    assert list(back) == list(NET.sites)
    assert isinstance(back["output.weight"], float)
    assert isinstance(back["hidden_0.weight"], np.ndarray if name == "arrays" else float)


def test_the_most_specific_penalty_wins():
    penalty = {"weight": 1.0, "bias": 4.0, "hidden_0": 16.0, "hidden_0.bias": 64.0}
    scale = wp.prior_from_l2(NET, penalty, convention="sum").scale
    found = {name: NOISE / values.flat[0] for name, values in scale.items()}
    expected = {"hidden_0.weight": 4.0, "hidden_0.bias": 8.0, "hidden_1.weight": 1.0}
    expected |= {"hidden_1.bias": 2.0, "output.weight": 1.0, "output.bias": 2.0}
    assert found == pytest.approx(expected)


def test_in_keras_biases_are_free_unless_named():
    options = {"convention": "keras", "num_obs": 10}
    penalty = {"weight": 1.0, "hidden_0": 2.0, "output.bias": 3.0, "output.weight": 4.0}
    prior = wp.prior_from_l2(NET, penalty, **options)
    assert wp.l2_from_prior(NET, prior, **options) == pytest.approx(
        {
            "hidden_0.weight": 2.0,
            "hidden_0.bias": 0.0,
            "hidden_1.weight": 1.0,
            "hidden_1.bias": 0.0,
            "output.weight": 4.0,
            "output.bias": 3.0,
        }
    )


def test_a_learned_noise_is_centred_at_what_was_assumed():
    bnn = wp.BNN(network(2), wp.Gaussian())
    prior = wp.prior_from_l2(bnn, 0.5, convention="ridge", noise=0.3)
    np.testing.assert_array_equal(prior.loc["log_noise"], np.log(0.3))
    np.testing.assert_array_equal(prior.scale["log_noise"], 1.0)
    named = {"weight": 0.0, "bias": 0.0, "log_noise": -2.0}
    prior = wp.prior_from_l2(bnn, 0.5, convention="ridge", noise=0.3, loc=named)
    np.testing.assert_array_equal(prior.loc["log_noise"], -2.0)


# Optima.


@partial(jax.jit, compiler_options=UNOPTIMISED)
def expansion(weights, bnn, y, prior):
    """Minus the log density, its gradient and its Hessian, of one flat vector."""
    vector, unravel = ravel_pytree(weights)

    def slope(v):
        value, gradient = jax.value_and_grad(lambda v: -bnn.log_joint(unravel(v), X, y, prior))(v)
        return gradient, (value, gradient)

    hessian, (value, gradient) = jax.jacfwd(slope, has_aux=True)(vector)
    return value, gradient, hessian


def expanded(bnn, y, prior, weights):
    with jax.enable_x64(True):
        return jax.tree.map(
            np.asarray, expansion(jax.tree.map(jnp.asarray, weights), bnn, y, prior)
        )


def best(bnn, fit):
    return {name: fit["posterior"][name].to_numpy()[0, 0] for name in bnn.sites}


def assert_maximum(bnn, y, prior, weights, *, atol, free=0):
    """Assert that a Newton step would stay there, and that the density bends but for some axes."""
    _, gradient, hessian = expanded(bnn, y, prior, weights)
    values = np.linalg.eigvalsh(hessian) / np.linalg.norm(hessian, ord=2)
    assert np.all(np.abs(values[:free]) < 1e-12)
    assert np.all(values[free:] > 1e-3)
    np.testing.assert_allclose(newton_step(gradient, hessian), 0.0, atol=atol)


def newton_step(gradient, hessian):
    return np.linalg.pinv(hessian, rcond=1e-10) @ gradient


def ridge(targets):
    """The model of a ridge regression, its targets, its prior, and its coefficients."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    y = CONTINUOUS[:, 0] if targets == 1 else CONTINUOUS
    model = linear_model.Ridge(alpha=PENALTY).fit(X, y)
    bnn = wp.BNN(wp.mlp(2, hidden=(), num_outputs=targets), wp.Gaussian(NOISE))
    theirs = {"output.weight": model.coef_.reshape(targets, 2).T}
    theirs["output.bias"] = np.ravel(model.intercept_)
    return bnn, y, wp.prior_from_l2(bnn, PENALTY, convention="ridge"), theirs


def logistic(num_classes):
    """The same of a logistic regression."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    y = LABELS[:, 0] if num_classes == 2 else CLASSES
    model = linear_model.LogisticRegression(C=PENALTY, solver="newton-cholesky", tol=1e-12).fit(
        X, y
    )
    outputs, likelihood = (1, wp.Bernoulli()) if num_classes == 2 else (3, wp.Categorical(3))
    bnn = wp.BNN(wp.mlp(2, hidden=(), num_outputs=outputs), likelihood)
    theirs = {"output.weight": model.coef_.T, "output.bias": model.intercept_}
    return bnn, y, wp.prior_from_l2(bnn, PENALTY, convention="logistic_C"), theirs


# Both densities are concave: what is stationary is the only maximum.


@pytest.mark.parametrize("targets", [1, 2])
def test_ridge_is_the_map(targets):
    bnn, y, prior, theirs = ridge(targets)
    assert_maximum(bnn, y, prior, theirs, atol=1e-12)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_logistic_regression_is_the_map(num_classes):
    bnn, y, prior, theirs = logistic(num_classes)
    # A constant added to the free intercepts of three classes changes nothing.
    assert_maximum(bnn, y, prior, theirs, atol=1e-8, free=num_classes - 2)


def small(name, activation):
    """A model with one hidden layer, and its targets."""
    bnn, y = PROBLEMS[name]
    return wp.BNN(network(bnn.network.num_outputs, activation, (3,)), bnn.likelihood), y


# None with relu: their optima are on kinks, where there is no Hessian to bound anything with.
@pytest.mark.parametrize(
    ("name", "activation"),
    [
        ("gaussian", "tanh"),
        pytest.param("categorical", "sigmoid", marks=pytest.mark.slow),
        pytest.param("bernoulli", "tanh", marks=pytest.mark.slow),
        pytest.param("gaussian", "identity", marks=pytest.mark.slow),
        pytest.param("poisson", "sigmoid", marks=pytest.mark.slow),
    ],
)
def test_near_an_optimum_perceptrons_of_scikit_learn_fall_into_it(name, activation):
    alpha = 0.1
    bnn, y = small(name, activation)
    prior = wp.prior_from_l2(bnn, alpha, convention="sklearn_mlp")
    found = wp.fit_map(bnn, X, y, prior=prior, num_restarts=4)
    ours = best(bnn, found)
    model = perceptron(bnn, y, activation, alpha=alpha, tol=1e-12, warm_start=True)
    rng = np.random.default_rng(0)
    put(model, {site: w + 1e-3 * rng.normal(size=w.shape) for site, w in ours.items()})
    train(model, y, max_iter=20_000, max_fun=10**6)
    ours, theirs = (expanded(bnn, y, prior, weights) for weights in (ours, taken(model, bnn)))
    gap = found["sample_stats"]["lp"].item() + theirs[0]
    bound = ROUNDING["atol"]
    for _, gradient, hessian in (ours, theirs):
        values, vectors = np.linalg.eigh(hessian)
        # Directions in which nothing changes: a dead unit's bias, rotations of identity units.
        stiff = values > 1e-6 * values.max()
        bound += np.sum((vectors.T @ gradient)[stiff] ** 2 / values[stiff])
    assert abs(gap) <= bound


RESTARTS = [
    pytest.param(name, activation, marks=pytest.mark.slow)
    for name, activation in product(["gaussian", "bernoulli", "categorical"], ACTIVATIONS)
    if (name, activation) != ("gaussian", "tanh")
]


@pytest.mark.filterwarnings("ignore:fit_map. the best restart did not reach")  # relu
@pytest.mark.parametrize(("name", "activation"), [("gaussian", "tanh"), *RESTARTS])
def test_restarts_are_no_worse_than_twenty_fits_of_scikit_learn(name, activation):
    alpha = 0.1
    bnn, y = small(name, activation)
    prior = wp.prior_from_l2(bnn, alpha, convention="sklearn_mlp")
    # Relu's optima lie on kinks, where both stop early: with as many restarts as fits, either may
    # be ahead by half a nat.
    num_restarts = 200 if activation == "relu" else 20
    found = wp.fit_map(bnn, X, y, prior=prior, num_restarts=num_restarts)
    ours = found["sample_stats"]["lp"].item()
    theirs = []
    for seed in range(20):
        model = perceptron(bnn, y, activation, alpha=alpha, tol=1e-12, random_state=seed)
        train(model, y, max_iter=20_000, max_fun=10**6)
        theirs.append(-expanded(bnn, y, prior, taken(model, bnn))[0])
    assert ours >= max(theirs) - ROUNDING["atol"]


def test_without_hidden_layer_weight_decay_has_a_closed_form():
    bnn = wp.BNN(wp.mlp(2, hidden=()), wp.Gaussian(NOISE))
    prior = wp.prior_from_l2(bnn, PENALTY, convention="torch", num_obs=ROWS)
    y = CONTINUOUS[:, 0]
    design = np.column_stack([X, np.ones(ROWS)])
    # Half of weight_decay, over the mean of squares.
    by_hand = np.linalg.solve(
        design.T @ design / ROWS + PENALTY / 2 * np.eye(3), design.T @ y / ROWS
    )
    numbers = oracle.from_sites(prior.loc), oracle.from_sites(prior.scale)
    closed = oracle.LinearGaussian(X, y, NOISE, *numbers).map
    np.testing.assert_allclose(closed, by_hand, rtol=1e-12)


# Optimisers: where they stay.

STEPS, RATE, MOMENTUM = 100, 1e-3, 0.9


@cache
def optimum(convention, reduction, penalty=0.05):
    bnn, y = small("gaussian", "tanh")
    prior = wp.prior_from_l2(bnn, penalty, convention=convention, num_obs=ROWS, reduction=reduction)
    return best(bnn, wp.fit_map(bnn, X, y, prior=prior, num_restarts=4, tolerance=1e-9))


def optimiser(kind, penalty):
    # Adam divides by the root of the gradient's square plus eps: a small one would blow rounding
    # up, and where it stops does not depend on it.
    adam = {"learning_rate": RATE, "eps": 1.0}
    return {
        "sgd": optax.chain(optax.add_decayed_weights(penalty), optax.sgd(RATE, momentum=MOMENTUM)),
        "adam": optax.chain(optax.add_decayed_weights(penalty), optax.adam(**adam)),
        "adamw": optax.adamw(**adam, weight_decay=penalty),
    }[kind]


@partial(jax.jit, static_argnums=0, compiler_options=UNOPTIMISED)
def course(kind, start, penalty, keras, summed):
    """How far an optimiser goes, and the size of the start and of its loss's gradient there."""
    bnn, y = small("gaussian", "tanh")
    keys = product(["torch", "keras"], ["mean", "sum"])
    losses = [LOSSES[key]["gaussian"] for key in keys]
    # In Keras the penalty is part of the loss, in torch the optimiser adds it to the gradient.
    in_loss, added = jnp.where(keras, penalty, 0.0), jnp.where(keras, 0.0, penalty)
    steps = optimiser(kind, added)

    def library(w):
        f = bnn.network.apply(w, X)
        kernels = sum(jnp.sum(v**2) for k, v in w.items() if "weight" in k)
        data = jnp.stack([loss(f, y) for loss in losses])[2 * keras + summed]
        return data + in_loss * kernels

    def whole(w):
        return library(w) + added / 2 * sum(jnp.sum(v**2) for v in w.values())

    def step(_, state):
        weights, memory = state
        updates, memory = steps.update(jax.grad(library)(weights), memory, weights)
        return optax.apply_updates(weights, updates), memory

    end, _ = jax.lax.fori_loop(0, STEPS, step, (start, steps.init(start)))
    vectors = (jax.tree.map(jnp.subtract, end, start), start, jax.grad(whole)(start))
    return [jnp.linalg.norm(ravel_pytree(vector)[0]) for vector in vectors]


def moved(kind, reduction, penalty=0.05):
    """How far an optimiser goes from our optimum, and how far the optimum's gradient lets it."""
    library, name = "keras" if kind.startswith("keras") else "torch", kind.split()[-1]
    which = int(library == "keras"), int(reduction == "sum")
    with jax.enable_x64(True):
        found = course(name, optimum(library, reduction), penalty, *which)
        distance, size, slope = map(float, found)
    # Momentum adds up 1 / (1 - momentum) gradients, which shrink towards the optimum; each step
    # rounds weights and gradients, sums of a hundred terms, once.
    rounding = 100 * np.finfo(float).eps * size
    return distance, STEPS * (RATE * slope / (1 - MOMENTUM) + rounding)


STATIONARY = list(product(["sgd", "adam", "keras sgd", "keras adam"], ["mean", "sum"]))


@pytest.mark.parametrize(("kind", "reduction"), STATIONARY)
def test_optimisers_stay_at_our_optimum(kind, reduction):
    distance, bound = moved(kind, reduction)
    assert distance <= bound < 1e-6


@pytest.mark.parametrize(("kind", "reduction"), STATIONARY)
def test_with_another_penalty_they_leave(kind, reduction):
    distance, _ = moved(kind, reduction, penalty=0.1)
    assert distance > 1e-3


def test_adamw_leaves_it():
    # With the very numbers with which Adam stays.
    for reduction in ("mean", "sum"):
        distance, bound = moved("adamw", reduction)
        assert distance > 100 * bound


# Wrong input.


def raises(message, error=ValueError):
    pattern = ".*".join(re.escape(part) for part in message.split("..."))
    return pytest.raises(error, match=f"(?s)^{pattern}")


GIVEN = {"bnn": NET, "penalty": 1.0, "convention": "sum"}
LEARNED = wp.BNN(network(1), wp.Gaussian())
TORCH = {"convention": "torch"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convention": "adamw"}, "convention: ...'adamw'...second moments...Gaussian prior"),
        ({"convention": "AdamW"}, "convention: ...'AdamW'...convention='torch'"),
        ({"convention": "lion"}, "convention: ...'lion'...convention='torch'"),
        ({"convention": "sgdw"}, "convention: ...'sgdw'...learning rate...convention='torch'"),
        ({"convention": "decoupled"}, "convention: ...'decoupled'...convention='torch'"),
        ({"convention": "Ridge"}, "convention: expected one of 'sum', ...Did you mean 'ridge'?"),
        ({"convention": None}, "convention: expected one of 'sum'"),
        (
            {"bnn": PROBLEMS["poisson"][0], "convention": "ridge"},
            "convention: ...is for squared error.",
        ),
        (
            {"convention": "logistic_C"},
            "convention: ...is for binary cross entropy, cross entropy.",
        ),
        (
            {"bnn": PROBLEMS["student"][0], **TORCH},
            "convention: expected one with the loss of StudentT(df=4.0, noise=0.6); got 'torch'",
        ),
        ({"bnn": PROBLEMS["heteroscedastic"][0], "convention": "keras"}, "convention: "),
        (
            {"bnn": NOISES, **TORCH},
            "convention: expected one with the loss of Gaussian(noise=(0.5, 2.0)); got 'torch', "
            "which is for ...The convention 'sum' is for all.",
        ),
        ({"bnn": NOISES, "convention": "sum", "noise": 1.0}, "noise: expected None"),
        (
            {"bnn": wp.BNN(network(2), wp.Categorical(2)), "convention": "logistic_C"},
            "convention: expected more than two classes ...Use Bernoulli()",
        ),
        (TORCH, "num_obs: expected the number of training rows, since the loss is a mean"),
        ({"convention": "keras"}, "num_obs: expected"),
        ({"convention": "sklearn_mlp", "batch_size": 5}, "num_obs: ...a sum over a batch"),
        ({**TORCH, "reduction": "sum", "batch_size": 5}, "num_obs: ...a sum over a batch"),
        ({"num_obs": 0}, "num_obs: expected at least 1; got 0"),
        ({"reduction": "sum"}, "reduction: ...'sum'...It is for 'torch' and 'keras'"),
        ({**TORCH, "reduction": "none"}, "reduction: expected one of 'mean', 'sum'; got 'none'"),
        ({"batch_size": 5, "num_obs": 9}, "batch_size: expected None for convention='sum'"),
        ({**TORCH, "batch_size": 5, "num_obs": 9}, "batch_size: ...no effect; got 5"),
        ({"convention": "sklearn_mlp", "batch_size": 0}, "batch_size: expected at least 1"),
        ({"bnn": LEARNED}, "noise: ...relative to the noise; got None"),
        ({"noise": 0.5}, "noise: expected that of the model, 0.6; got 0.5"),
        ({"noise": -0.6}, "noise: expected a number above 0"),
        (
            {"bnn": PROBLEMS["bernoulli"][0], "noise": 3.0},
            "noise: expected None, since it does not matter to the loss of Bernoulli(); got 3.0",
        ),
        (
            {"penalty": -1.0},
            "penalty: expected finite numbers of at least 0 (0 for a flat prior); got -1",
        ),
        ({"penalty": np.nan}, "penalty: ...got nan"),
        ({"penalty": np.inf}, "penalty: ...got inf"),
        ({"penalty": {"weight": 1.0, "bias": -2.0}}, "penalty['hidden_0.bias']: ...got -2"),
        ({"penalty": {"weight": 1.0}}, "penalty: expected a value for every site; got none for"),
        ({"penalty": {"hidden_0": 1.0}, "convention": "keras", "num_obs": 9}, "penalty: ...every"),
        ({"penalty": {"wieght": 1.0, "bias": 1.0}}, "penalty: ...Did you mean 'weight'?"),
        ({"penalty": {"weight": 1.0, "bias": 1.0, "log_noise": 1.0}}, "penalty: ...'log_noise'"),
        ({"penalty": {"weight": np.ones(2), "bias": 1.0}}, "penalty['weight']: expected a number"),
        ({"loc": np.nan}, "loc['weight']: "),
    ],
)
def test_wrong_input_is_named(options, message):
    with raises(message):
        wp.prior_from_l2(**{**GIVEN, **options})


@pytest.mark.parametrize("c", [0.0, -1.0, np.nan])
def test_an_impossible_c_is_named(c):
    with raises("penalty: expected a C above 0 (inf: a flat prior); got "):
        wp.prior_from_l2(PROBLEMS["bernoulli"][0], c, convention="logistic_C")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bnn": None}, "bnn: expected a model"),
        ({"penalty": "1"}, "penalty: expected numbers; got str"),
        ({"penalty": None}, "penalty: expected numbers; got NoneType"),
        ({"penalty": np.ones(3)}, "penalty: expected a number or a dict by site; got shape (3,)"),
        ({"penalty": {"weight": 1.0}, "convention": "ridge"}, "penalty: expected a number, since"),
        ({"num_obs": 10.0}, "num_obs: expected a whole number"),
        ({"noise": "0.6"}, "noise: expected a number"),
    ],
)
def test_wrong_types_are_named(options, message):
    with raises(message, TypeError):
        wp.prior_from_l2(**{**GIVEN, **options})


@pytest.mark.parametrize(
    ("scale", "got"),
    [
        (1.0, "'output.bias': '1 to 1'"),
        ({"weight": 1.0, "output.weight": 2.0, "bias": np.inf}, "'output.weight': '2 to 2'"),
    ],
)
@pytest.mark.parametrize("convention", ["ridge", "sklearn_mlp"])
def test_a_prior_that_needs_more_than_a_number_is_refused(convention, scale, got):
    with raises(f"prior: expected one scale for all weights and inf for all biases...{got}"):
        wp.l2_from_prior(NET, wp.normal_prior(NET, scale=scale), convention=convention)


def test_a_prior_of_another_kind_is_refused():
    prior = wp.normal_prior(NET)
    with raises("prior: expected a single prior; got a stacked one"):
        wp.l2_from_prior(NET, wp.stack_priors({"a": prior}), convention="sum")
    with raises("prior: expected a NormalPrior", TypeError):
        wp.l2_from_prior(NET, 1.0, convention="sum")  # pyright: ignore[reportArgumentType]
