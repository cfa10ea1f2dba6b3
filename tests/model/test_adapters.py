"""Networks from elsewhere: every form of a reference is the same function here."""

import re

import jax
import numpy as np
import pytest
import scipy
from sklearn.neural_network import MLPClassifier, MLPRegressor

import weightprior as wp
from shared_fits import made_fit, random_weights
from weightprior.model.adapters import reference_weights

BNN = wp.BNN(wp.mlp(3, (4, 4)), wp.Gaussian())
NETWORK = list(BNN.network.sites)
_rng = np.random.default_rng(0)
WEIGHTS = {name: _rng.normal(size=BNN.sites[name].shape) for name in NETWORK}
X = _rng.normal(size=(30, 3))
_PAIR = ("weight", "bias")


def outputs(bnn, weights, x):
    with jax.enable_x64(True):
        return np.asarray(bnn.network.apply(weights, x))


def assert_found(reference):
    found = reference_weights(BNN, reference)
    for name in NETWORK:
        np.testing.assert_array_equal(found[name], WEIGHTS[name])


def draws(bnn):
    return random_weights(bnn, np.random.default_rng(1), (2, 5))


def fit_of(bnn, *parts, **options):
    """A fit of made-up draws."""
    return made_fit(bnn, X, X[:, 0], *(parts or [draws(bnn)]), **options)


@pytest.mark.parametrize("learned", [False, True])
def test_a_fit_stands_for_its_posterior_mean(learned):
    """Hyperparameters, and the noise on its natural scale, stand beside the weights."""
    prior = wp.hierarchical_prior(BNN) if learned else None
    weights = draws(BNN)
    above = {name: np.zeros((2, 5)) for name in prior.sites} if prior else {}
    fit = fit_of(BNN, above | weights, prior=prior)
    found = reference_weights(BNN, fit)
    assert list(found) == list(BNN.sites)
    centers = wp.matched_centers(BNN, fit, scale=1.0)
    for name in BNN.sites:
        np.testing.assert_allclose(found[name], weights[name].mean((0, 1)), rtol=1e-12)
        np.testing.assert_array_equal(centers["reference"].loc[name], found[name])


def test_a_fit_may_have_learned_a_noise_that_is_known_here():
    known = wp.BNN(BNN.network, wp.Gaussian(noise=0.5))
    found = reference_weights(known, fit_of(BNN))
    assert list(found) == NETWORK
    for name in NETWORK:
        np.testing.assert_allclose(found[name], draws(BNN)[name].mean((0, 1)), rtol=1e-12)


@pytest.mark.parametrize("hidden", [(4,), (4, 4, 4)])
def test_a_fit_of_another_depth_is_an_error_even_where_every_shape_is_there(hidden):
    """What the layers have in common has equal shapes, so that no shape would tell."""
    other = fit_of(wp.BNN(wp.mlp(3, hidden), wp.Gaussian()))
    for call in (
        lambda: wp.matched_centers(BNN, other, scale=1.0),
        lambda: wp.center_path(BNN, other, (0.0, 1.0), scale=1.0),
    ):
        with pytest.raises(ValueError, match=r"^reference: .*architecture"):
            call()


def test_a_stacked_fit_is_no_one_network():
    stack = wp.stack_priors({"a": wp.normal_prior(BNN), "b": wp.normal_prior(BNN)})
    fit = fit_of(BNN, draws(BNN), draws(BNN), prior=stack)
    with pytest.raises(ValueError, match=r"^reference: .*stacked.*unstack_fit\(fit\)\[label\]"):
        wp.matched_centers(BNN, fit, scale=1.0)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_perceptron_of_scikit_learn_is_the_same_function():
    perceptron = MLPRegressor(hidden_layer_sizes=(4, 4), activation="tanh", max_iter=3).fit(
        X, X[:, 0]
    )
    found = reference_weights(BNN, perceptron)
    np.testing.assert_allclose(
        outputs(BNN, found, X)[:, 0], perceptron.predict(X), rtol=1e-12, atol=1e-13
    )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_classifier_of_scikit_learn_has_our_probabilities():
    perceptron = MLPClassifier(hidden_layer_sizes=(4,), activation="tanh", max_iter=3)
    perceptron.fit(X, X[:, 0] > 0)
    bnn = wp.BNN(wp.mlp(3, (4,)), wp.Bernoulli())
    found = reference_weights(bnn, perceptron)
    expected = perceptron.predict_proba(X)[:, 1]
    ours = scipy.special.expit(outputs(bnn, found, X)[:, 0])
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_perceptron_of_other_units_is_another_function():
    perceptron = MLPRegressor(hidden_layer_sizes=(4, 4), activation="logistic", max_iter=2)
    perceptron.fit(X, X[:, 0])
    with pytest.warns(
        UserWarning, match=r"^reference: .*activation='sigmoid'\) has the same"
    ) as told:
        reference_weights(BNN, perceptron)
    assert len(told) == 1
    # As the message says.
    bnn = wp.BNN(wp.mlp(3, (4, 4), activation="sigmoid"), wp.Gaussian())
    found = wp.normal_prior(bnn, loc=perceptron).loc
    with jax.enable_x64(True):
        ours = bnn.outputs({n: found[n] for n in bnn.sites}, X)[:, 0]
    np.testing.assert_allclose(ours, perceptron.predict(X), rtol=1e-12, atol=1e-13)


def test_a_state_dict_of_pytorch_is_turned():
    state = {}
    for i, layer in enumerate(BNN.network.layers):
        state[f"{2 * i}.weight"] = WEIGHTS[f"{layer}.weight"].T
        state[f"{2 * i}.bias"] = WEIGHTS[f"{layer}.bias"]
    assert_found(state)


def test_layers_of_one_shape_are_told_apart_by_their_numbers():
    """Of eight layers those of indices 10 and 12 come after that of index 8."""
    bnn = wp.BNN(wp.mlp(4, (4,) * 7, 4), wp.Gaussian())
    rng = np.random.default_rng(2)
    weights = {name: rng.normal(size=site.shape) for name, site in bnn.network.sites.items()}
    layers = list(enumerate(bnn.network.layers))
    torch = {f"{2 * i}.{n}": weights[f"{layer}.{n}"].T for i, layer in layers for n in _PAIR}
    linen = {f"Dense_{i}": {n: weights[f"{layer}.{n}"] for n in _PAIR} for i, layer in layers}
    for reference in (torch, dict(reversed(torch.items())), linen):
        found = reference_weights(bnn, reference)
        for name, values in weights.items():
            np.testing.assert_array_equal(found[name], values)


def test_layers_that_nothing_tells_apart_are_none():
    """In the order of the alphabet, into which JAX puts them, another function would come out."""
    bnn = wp.BNN(wp.mlp(4, (4,), 4), wp.Gaussian())
    layers = {name: {"weight": np.eye(4), "bias": np.zeros(4)} for name in ("enter", "decide")}
    with pytest.raises(ValueError, match=r"^reference: .*'decide', 'enter', of one shape") as told:
        wp.matched_centers(bnn, layers, scale=1.0)
    names = re.findall(r"'(\S+\.\S+)'", str(told.value))
    by_site = {name: np.ones(bnn.sites[name].shape) for name in names}
    assert list(reference_weights(bnn, by_site)) == list(bnn.network.sites)
    wide = wp.BNN(wp.mlp(4, (5,), 3), wp.Gaussian())
    shapes = {"enter": (4, 5), "decide": (5, 3)}
    other = {n: {"weight": np.ones(s), "bias": np.ones(s[1:])} for n, s in shapes.items()}
    assert reference_weights(wide, other)["hidden_0.weight"].shape == (4, 5)


def test_weights_by_site_stay():
    assert_found(WEIGHTS)
    assert_found({name: WEIGHTS[name].tolist() for name in reversed(NETWORK)})


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        ({n: WEIGHTS[n] for n in NETWORK[1:]}, ValueError, "this architecture"),
        (WEIGHTS | {"hidden_0.weight": np.zeros((4, 3))}, ValueError, "this architecture"),
        (WEIGHTS | {"output.bias": np.array([np.nan])}, ValueError, "'output.bias'.*finite"),
        (WEIGHTS | {"outputs.bias": np.zeros(1)}, ValueError, "outputs.bias"),
        ({"0.weight": np.zeros((4, 3)), "0.bias": np.zeros(4)}, ValueError, "0.weight"),
        ({f"{i}.weight": np.zeros((4, 4)) for i in range(3)}, ValueError, "a bias beside"),
        (np.zeros(3), TypeError, "got ndarray"),
        (MLPRegressor(hidden_layer_sizes=(4,)), TypeError, "got MLPRegressor"),
    ],
    ids=["missing", "turned", "nan", "unknown", "shallow", "no bias", "array", "not fitted"],
)
def test_what_is_none_is_an_error(reference, error, message):
    with pytest.raises(error, match=f"^reference.*{message}"):
        wp.matched_centers(BNN, reference, scale=1.0)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_perceptron_of_another_depth_is_an_error():
    perceptron = MLPRegressor(hidden_layer_sizes=(4,), max_iter=2).fit(X, X[:, 0])
    with pytest.raises(ValueError, match="architecture"):
        wp.matched_centers(BNN, perceptron, scale=1.0)
