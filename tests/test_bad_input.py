"""Wrong input: one error that names the argument; and any right input: a finite density."""

import re
from dataclasses import dataclass

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from hypothesis import strategies as st

import weightprior as wp
from weightprior import _arrays, _checks, _data
from weightprior.model import density
from weightprior.model.activations import ACTIVATIONS

BNN = wp.BNN(wp.mlp(["age", "dose"], hidden=(3,)), wp.Gaussian())
PRIOR = wp.normal_prior(BNN)
STACK = wp.stack_priors({"a": PRIOR, "b": PRIOR})
WEIGHTS = {name: np.zeros(site.shape, np.float32) for name, site in BNN.sites.items()}
X, Y = np.zeros((4, 2)), np.zeros(4)
ALL_SITES = "'hidden_0.weight', 'hidden_0.bias', 'output.weight', 'output.bias', 'log_noise'"


class Undecorated(wp.Likelihood):
    """Without a field, but no dataclass."""

    def distribution(self, output, weights):
        return dist.Normal(output[:, 0], 1.0)


@dataclass(frozen=True)
class Unfinished(wp.Likelihood):
    """Without a distribution."""


@dataclass(frozen=True)
class Worded(Undecorated):
    """With a field that is no number, and not said to be none."""

    link: str = "log"


def raises(message, error=ValueError):
    """Expect an error that begins with this text; `...` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in message.split("..."))
    return pytest.raises(error, match=f"(?s)^{pattern}")


def without(values, name):
    return {key: value for key, value in values.items() if key != name}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_features": 0}, ValueError, "num_features: expected at least 1; got 0"),
        ({"num_features": -2}, ValueError, "num_features: expected at least 1; got -2"),
        ({"num_features": 2.0}, TypeError, "num_features: expected a whole number; got 2.0"),
        ({"num_features": None}, TypeError, "num_features: expected a whole number; got None"),
        ({"num_features": "age"}, TypeError, "num_features: ...got 'age'. For one feature pass 1"),
        ({"num_features": []}, ValueError, "num_features: expected at least one name"),
        ({"num_features": ["a", "b", "a"]}, ValueError, "num_features: ...doubled: 'a'"),
        ({"num_features": X}, TypeError, "num_features: expected a count or a list of names"),
        ({"hidden": 32}, TypeError, "hidden: expected a sequence of layer widths, such as (32,)"),
        ({"hidden": "32"}, TypeError, "hidden: expected a sequence of layer widths"),
        ({"hidden": None}, TypeError, "hidden: expected a sequence of layer widths"),
        ({"hidden": (3, 0)}, ValueError, "hidden[1]: expected at least 1; got 0"),
        ({"hidden": (3.0,)}, TypeError, "hidden[0]: expected a whole number; got 3.0"),
        ({"num_outputs": 0}, ValueError, "num_outputs: expected at least 1; got 0"),
        ({"num_outputs": True}, TypeError, "num_outputs: expected a whole number; got True"),
        ({"activation": "tahn"}, ValueError, "activation: ...'tahn'. Did you mean 'tanh'?"),
        ({"activation": None}, TypeError, "activation: expected one of 'tanh', ...got None"),
        ({"activation": 3}, TypeError, "activation: expected one of 'tanh', ...got 3"),
        ({"activation": ["tanh", 3]}, ValueError, "activation: ...got 2"),
        ({"activation": [None]}, ValueError, "activation: expected one of 'tanh', ...got None"),
        ({"activation": ["relu", "relu"]}, ValueError, "activation: ...each of the 1; got 2"),
        ({"activation": []}, ValueError, "activation: ...each of the 1; got 0"),
        ({"activation": jnp.sum}, ValueError, "activation: expected a function that keeps"),
        ({"activation": np.array}, TypeError, "activation: expected an elementwise function"),
        ({"activation": jnp.add}, TypeError, "activation: expected an elementwise function"),
        ({"hidden": (), "activation": "tahn"}, ValueError, "activation: ...Did you mean 'tanh'?"),
    ],
)
def test_network(options, error, message):
    with raises(message, error):
        wp.mlp(**{"num_features": 2, "hidden": (3,), **options})


@pytest.mark.parametrize("number", [0, -1.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (wp.Gaussian, "noise"),
        (lambda v: wp.StudentT(4.0, v), "noise"),
        (wp.StudentT, "df"),
        (lambda v: wp.fan_in_scale(BNN, gain=v), "gain"),
    ],
)
def test_positive_numbers(make, name, number):
    with raises(f"{name}: expected a number above 0 and finite; got {number}"):
        make(number)
    with raises(f"{name}: expected a number; got str '0.5'", TypeError):
        make("0.5")


@pytest.mark.parametrize("make", [wp.Gaussian, lambda noise: wp.StudentT(noise=noise)])
@pytest.mark.parametrize(
    ("noise", "error", "message"),
    [
        ([0.5, 0.0], ValueError, "noise[1]: expected a number above 0 and finite; got 0.0"),
        ((np.nan, 1.0), ValueError, "noise[0]: expected a number above 0 and finite; got nan"),
        (["0.5", 1.0], TypeError, "noise[0]: expected a number; got str '0.5'"),
        (np.ones((2, 2)), TypeError, "noise[0]: expected a number"),
        ({0.5, 1.0}, TypeError, "noise: expected a number"),
    ],
)
def test_noise_of_each_output(make, noise, error, message):
    with raises(message, error):
        make(noise)


def test_noise_of_each_output_is_one_for_each():
    for likelihood in (wp.Gaussian([0.5, 1.0]), wp.StudentT(4.0, np.array([0.5, 1.0]))):
        for count in (1, 3):
            with raises(
                f"noise: expected a number, or one for each of the {count} outputs of the network; "
                "got 2"
            ):
                wp.BNN(wp.mlp(2, num_outputs=count), likelihood)
        assert wp.BNN(wp.mlp(2, num_outputs=2), likelihood).likelihood.noise == (0.5, 1.0)
    assert wp.BNN(wp.mlp(2), wp.Gaussian([0.5])).likelihood.noise == (0.5,)


@pytest.mark.parametrize("classes", [1, 0, -3])
def test_too_few_classes(classes):
    with raises(f"classes: expected at least 2; got {classes}"):
        wp.Categorical(classes)
    with raises("classes: expected a whole number; got 3.0", TypeError):
        wp.Categorical(3.0)


@pytest.mark.parametrize(
    ("network", "likelihood", "error", "message"),
    [
        (
            None,
            wp.Gaussian(),
            TypeError,
            "network: expected a network, as weightprior.mlp(...) makes, or an object with ...None",
        ),
        (2, wp.Gaussian(), TypeError, "network: expected a network"),
        (wp.mlp(2), None, TypeError, "likelihood: expected an instance"),
        (wp.mlp(2), wp.Gaussian, TypeError, "likelihood: expected an instance"),
        (wp.mlp(2), "gaussian", TypeError, "likelihood: expected an instance"),
        (
            wp.mlp(2),
            wp.Likelihood(),
            TypeError,
            "likelihood: expected a frozen dataclass",
        ),
        (
            wp.mlp(2),
            Undecorated(),
            TypeError,
            "likelihood: ...without the decorator",
        ),
        (wp.mlp(2), Unfinished(), TypeError, "likelihood: ...got a Unfinished without `distribut"),
        (
            wp.mlp(2),
            Worded(),
            TypeError,
            "likelihood: expected numbers as leaves...static",
        ),
        (wp.mlp(2), wp.Categorical(3), ValueError, "network: expected num_outputs=3...got 1"),
        (
            wp.mlp(2),
            wp.HeteroscedasticGaussian(),
            ValueError,
            "network: expected num_outputs=2...or twice the number of targets; got 1",
        ),
    ],
)
def test_model(network, likelihood, error, message):
    with raises(message, error):
        wp.BNN(network, likelihood)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"loc": np.nan}, ValueError, "loc['weight']: expected numbers; got NaN"),
        ({"loc": np.inf}, ValueError, "loc['hidden_0.weight']: expected finite numbers"),
        ({"loc": "0"}, TypeError, "loc['weight']: expected numbers; got str"),
        ({"loc": None}, TypeError, "loc['weight']: expected numbers; got NoneType"),
        ({"loc": [0.0, 1.0]}, TypeError, f"loc: expected a number or a dict...{ALL_SITES}"),
        ({"loc": {}}, ValueError, "loc: expected a value for every site; got none for 'hidden_0"),
        (
            {"loc": {"hidden_0": 0.0, "weight": 0.0}},
            ValueError,
            "loc: expected a value for every site; got none for 'output.bias'. Name the site, "
            "its layer ('hidden_0', 'output') or its kind ('weight', 'bias')",
        ),
        (
            {"loc": {"wieght": 0.0, "bias": 0.0}},
            ValueError,
            f"loc: expected names among {ALL_SITES}, 'hidden_0', 'output', 'weight', 'bias'; "
            "got 'wieght'. Did you mean 'weight'?",
        ),
        (
            {"scale": {"hidden_1": 1.0, "weight": 1.0, "bias": 1.0}},
            ValueError,
            "scale: expected names among ...'hidden_1'. Did you mean 'hidden_0'?",
        ),
        ({"scale": {0: 1.0}}, ValueError, "scale: expected names among ...got 0"),
        (
            {"loc": {"weight": 0.0, "bias": np.zeros(3)}},
            ValueError,
            "loc['bias']: expected a number; got shape (3,)",
        ),
        (
            {"loc": {"weight": 0.0, "bias": 0.0, "hidden_0.weight": np.zeros((3, 2))}},
            ValueError,
            "loc['hidden_0.weight']: expected a number or an array of shape (2, 3); got shape (3",
        ),
        ({"scale": 0.0}, ValueError, "scale['hidden_0.weight']: expected positive numbers"),
        ({"scale": -1}, ValueError, "scale['hidden_0.weight']: expected positive...got -1"),
        ({"scale": -np.inf}, ValueError, "scale['hidden_0.weight']: expected positive"),
        ({"scale": np.nan}, ValueError, "scale['weight']: expected numbers; got NaN"),
        (
            {"scale": "wide"},
            TypeError,
            "scale['weight']: expected numbers; got str (text such as 'wide'",
        ),
        (
            {"scale": {"weight": 1.0, "bias": 1.0, "hidden_0.bias": [1.0, 1.0, 0.0]}},
            ValueError,
            "scale['hidden_0.bias']: expected positive numbers (inf for a flat prior); got 0",
        ),
        (
            {"latents": {"log_noise": 1.0}},
            ValueError,
            "latents['log_noise']: expected (centre, scale); got 1.0",
        ),
        (
            {"latents": {"log_noise": None}},
            ValueError,
            "latents['log_noise']: expected (centre, scale); got None",
        ),
        (
            {"latents": {"log_noise": (0.0, [1.0, 2.0])}},
            ValueError,
            "latents['log_noise']: expected (centre, scale); got (0.0, [1.0, 2.0])",
        ),
        (
            {"latents": {"log_noise": (0.0, 1.0, 2.0)}},
            ValueError,
            "latents['log_noise']: expected (centre, scale)",
        ),
        (
            {"latents": {"log_noise": (0.0, -1.0)}},
            ValueError,
            "scale['log_noise']: expected positive",
        ),
        (
            {"latents": {"log_noise": (np.inf, 1.0)}},
            ValueError,
            "loc['log_noise']: expected finite",
        ),
        (
            {"latents": (0.0, 1.0)},
            TypeError,
            "latents: expected a dict of (centre, scale) by the name of a latent...got (0.0, 1.0)",
        ),
        (
            {"latents": {"log_nois": (0.0, 1.0)}},
            ValueError,
            "latents: expected names among 'log_noise'; got 'log_nois'. Did you mean 'log_noise'?",
        ),
    ],
)
def test_prior(options, error, message):
    with raises(message, error):
        wp.normal_prior(BNN, **options)


@pytest.mark.parametrize("bnn", [None, wp.mlp(2), PRIOR, wp.Gaussian()])
@pytest.mark.parametrize(
    "function", [wp.normal_prior, wp.fan_in_scale, lambda bnn: wp.prior_summary(bnn, PRIOR)]
)
def test_functions_of_a_model(function, bnn):
    with raises("bnn: expected a model, BNN(network, likelihood); got ", TypeError):
        function(bnn)


OTHER = wp.normal_prior(wp.BNN(wp.mlp(2, hidden=(4,)), wp.Gaussian()))
KNOWN_NOISE = wp.normal_prior(wp.BNN(wp.mlp(2, hidden=(3,)), wp.Gaussian(1.0)))


def changed(part, name, value):
    loc, scale = dict(PRIOR.loc), dict(PRIOR.scale)
    {"loc": loc, "scale": scale}[part][name] = value
    return wp.NormalPrior(loc, scale)


@pytest.mark.parametrize(
    ("prior", "error", "message"),
    [
        (None, TypeError, "prior: expected a NormalPrior, as weightprior.normal_prior(bnn) makes"),
        (1.0, TypeError, "prior: expected a NormalPrior"),
        (
            {"loc": 0.0, "scale": 1.0},
            TypeError,
            "prior: expected a NormalPrior...got dict of 2. To fit several, use stack_priors",
        ),
        (OTHER, ValueError, "prior.loc: expected the sites and shapes...another model?"),
        (KNOWN_NOISE, ValueError, "prior.loc: expected the sites and shapes...'log_noise'"),
        (wp.NormalPrior({}, {}), ValueError, "prior.loc: expected the sites and shapes...got {}"),
        (
            wp.NormalPrior(PRIOR.loc, without(PRIOR.scale, "output.bias")),
            ValueError,
            "prior.scale: expected the sites and shapes",
        ),
        (changed("loc", "output.bias", np.array([np.nan])), ValueError, "loc['output.bias']: "),
        (changed("scale", "output.bias", np.array([-1.0])), ValueError, "scale['output.bias']: "),
        (changed("scale", "output.bias", np.array([np.nan])), ValueError, "scale['output.bias']"),
    ],
)
@pytest.mark.parametrize(
    "function",
    [
        lambda prior: _checks.prior(BNN, prior),
        lambda prior: wp.prior_summary(BNN, prior),
        lambda prior: BNN.log_prior(WEIGHTS, prior),
        lambda prior: BNN.log_joint(WEIGHTS, X, Y, prior),
        lambda prior: BNN.model(X, Y, prior=prior),
    ],
    ids=["check", "prior_summary", "log_prior", "log_joint", "model"],
)
def test_prior_of_a_model(function, prior, error, message):
    with raises(message, error):
        function(prior)


@pytest.mark.parametrize(
    "function",
    [
        lambda prior: BNN.log_prior(WEIGHTS, prior),
        lambda prior: BNN.log_joint(WEIGHTS, X, Y, prior),
        lambda prior: BNN.model(X, Y, prior=prior),
        lambda prior: _checks.prior(BNN, prior, stacked=False),
    ],
)
def test_a_stacked_prior_where_one_is_needed(function):
    with raises("prior: expected a single prior...with a label among 'a', 'b'"):
        function(STACK)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (
            without(WEIGHTS, "output.bias"),
            ValueError,
            f"weights: expected an array for each of {ALL_SITES}; got none for 'output.bias'",
        ),
        (without(WEIGHTS, "log_noise"), ValueError, "weights: ...got none for 'log_noise'"),
        ({}, ValueError, "weights: expected an array for each of 'hidden_0.weight'"),
        (
            {**WEIGHTS, "hidden_0.weight": np.zeros((3, 2))},
            ValueError,
            "weights['hidden_0.weight']: expected shape (2, 3); got (3, 2)",
        ),
        # These two would be broadcast.
        (
            {**WEIGHTS, "hidden_0.bias": np.zeros(1)},
            ValueError,
            "weights['hidden_0.bias']: expected shape (3,); got (1,)",
        ),
        (
            {**WEIGHTS, "log_noise": np.zeros(4)},
            ValueError,
            "weights['log_noise']: expected shape (); got (4,)",
        ),
        (
            {**WEIGHTS, "output.bias": np.zeros(1, int)},
            TypeError,
            "weights['output.bias']: expected a floating-point array; got int64",
        ),
        ({**WEIGHTS, "output.bias": ["0"]}, TypeError, "weights['output.bias']: expected a float"),
    ],
)
@pytest.mark.parametrize(
    "function",
    [
        lambda weights: BNN.log_prior(weights, PRIOR),
        lambda weights: density.log_prior_by_site(BNN, weights, PRIOR),
        lambda weights: BNN.log_likelihood(weights, X, Y),
        lambda weights: density.pointwise_log_likelihood(BNN, weights, X, Y),
        lambda weights: BNN.log_joint(weights, X, Y, PRIOR),
        lambda weights: density.mean(BNN, weights, X),
        lambda weights: density.targets(BNN, weights, X),
    ],
)
def test_weights(function, weights, error, message):
    with raises(message, error):
        function(weights)


@pytest.mark.parametrize("function", [BNN.network.apply, BNN.network.hidden_units])
def test_weights_of_a_network(function):
    with raises("weights: ...got none for 'output.bias'"):
        function(without(WEIGHTS, "output.bias"), X)
    with raises("weights['hidden_0.bias']: expected shape (3,); got (1,)"):
        function({**WEIGHTS, "hidden_0.bias": np.zeros(1)}, X)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (None, TypeError, "init: expected a dict of arrays by site; got None"),
        ([1.0], TypeError, "init: expected a dict of arrays by site; got [1.0]"),
        ({"a": 1.0}, ValueError, "init: expected the sites and shapes...'output.bias': (1,)"),
        ({**WEIGHTS, "more": 1.0}, ValueError, "init: expected the sites and shapes"),
        ({**WEIGHTS, "output.bias": [np.nan]}, ValueError, "init['output.bias']: expected finite"),
        ({**WEIGHTS, "output.bias": ["a"]}, TypeError, "init['output.bias']: expected numbers"),
    ],
)
def test_weights_with_their_numbers(weights, error, message):
    with raises(message, error):
        _arrays.weights("init", weights, BNN.sites)


FRAME = pd.DataFrame(X, columns=["age", "dose"])
WRONG_SHAPES = [np.zeros(2), np.zeros((4, 1)), np.zeros((4, 3)), np.zeros((2, 4)), np.zeros(())]


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        *((x, ValueError, f"x: expected shape (rows, 2)...got {x.shape}") for x in WRONG_SHAPES),
        (np.zeros((0, 2)), ValueError, "x: expected at least one row; got none"),
        (
            np.full((4, 2), np.nan),
            ValueError,
            "x: expected finite numbers; got 8 NaN...2 columns have no finite number",
        ),
        (np.full((4, 2), -np.inf), ValueError, "x: expected finite numbers"),
        ([["a", "b"]] * 4, TypeError, "x: expected numbers; got list (text such as 'a'"),
        (None, TypeError, "x: expected numbers; got NoneType"),
        (FRAME[["dose", "age"]], ValueError, "x: expected the columns 'age', 'dose'; ...Reorder"),
        (FRAME[["age"]], ValueError, "x: expected the columns 'age', 'dose'; got 'age'. Select"),
        (FRAME.rename(columns={"age": "Age"}), ValueError, "x: expected the columns"),
        (FRAME.astype(str), TypeError, "x: expected numbers; got DataFrame (text such as '0.0'"),
        (FRAME.where(FRAME > 0), ValueError, "x: expected finite numbers; got 8 NaN"),
    ],
)
def test_inputs(x, error, message):
    with raises(message, error):
        _data.checked(BNN, x, Y)


def test_inputs_of_one_feature():
    one = wp.BNN(wp.mlp(1), wp.Gaussian())
    with raises("x: expected shape (rows, 1)...got (4,). Pass numpy.reshape(x, (-1, 1))."):
        _data.checked(one, Y, Y)
    assert _data.checked(one, [[0.0]], [0.0])[0].shape == (1, 1)


TWO = wp.BNN(wp.mlp(2, hidden=(), num_outputs=2), wp.Gaussian(1.0))
WRONG_TARGETS = [
    (BNN, np.zeros(3), "y: expected shape (4,), a target for every row of x; got (3,)"),
    (BNN, np.zeros((4, 1)), "y: expected shape (4,)...got (4, 1). Pass numpy.ravel(y), or y.iloc"),
    (BNN, np.zeros((1, 4)), "y: expected shape (4,)...got (1, 4)"),
    (BNN, 0.0, "y: expected shape (4,)...got ()"),
    (BNN, np.zeros(0), "y: expected shape (4,)...got (0,)"),
    (TWO, Y, "y: expected shape (4, 2)...got (4,)"),
    (TWO, np.zeros((2, 4)), "y: expected shape (4, 2)...got (2, 4)"),
]


@pytest.mark.parametrize(("bnn", "y", "message"), WRONG_TARGETS)
def test_shapes_of_targets(bnn, y, message):
    weights = {name: np.zeros(site.shape, np.float32) for name, site in bnn.sites.items()}
    prior = wp.normal_prior(bnn)
    for function in (
        lambda: _data.checked(bnn, X, y),
        lambda: jax.eval_shape(bnn.log_likelihood, weights, X, y),
        lambda: jax.eval_shape(bnn.log_joint, weights, X, y, prior),
    ):
        with raises(message):
            function()


def test_shapes_of_targets_in_numpyro():
    # A column of targets would be broadcast to four rows of four.
    with raises("y: expected shape (4,)...got (4, 1). Pass numpy.ravel(y)"):
        numpyro.handlers.seed(BNN.model, 0)(X, Y[:, None], prior=PRIOR)


@pytest.mark.parametrize("x", WRONG_SHAPES, ids=lambda x: str(x.shape))
def test_shapes_of_inputs(x):
    for function in (
        lambda: BNN.network.apply(WEIGHTS, x),
        lambda: BNN.network.hidden_units(WEIGHTS, x),
        lambda: density.mean(BNN, WEIGHTS, x),
        lambda: BNN.log_likelihood(WEIGHTS, x, Y),
    ):
        with raises(f"x: expected shape (rows, 2)...got {x.shape}"):
            function()


@pytest.mark.parametrize(
    ("likelihood", "num_outputs", "y", "error", "message"),
    [
        (wp.Gaussian(), 1, [0, 1, np.nan], ValueError, "y: expected finite numbers; got 1 NaN"),
        (wp.Gaussian(), 1, [0, 1, np.inf], ValueError, "y: expected finite numbers"),
        (wp.Gaussian(), 1, [0, 1, None], ValueError, "y: expected finite numbers"),
        (wp.Gaussian(), 1, ["a", "b", "c"], TypeError, "y: expected numbers; got list (text"),
        (wp.Gaussian(), 1, None, TypeError, "y: expected numbers; got NoneType"),
        (wp.Bernoulli(), 1, [0, 1, 2], ValueError, "y: expected class labels 0 to 1; got 2"),
        (wp.Bernoulli(), 1, [-1, 1, 1], ValueError, "y: expected class labels 0 to 1; got -1"),
        (wp.Bernoulli(), 1, [0, 0.5, 1], ValueError, "y: expected class labels 0 to 1; got 0.5"),
        (wp.Bernoulli(), 1, ["no", "yes", "no"], TypeError, "y: ...Bernoulli(['no', 'yes'])"),
        (wp.Categorical(3), 3, [0, 1, 3], ValueError, "y: expected class labels 0 to 2; got 3"),
        (wp.Categorical(3), 3, [1, 2, -1], ValueError, "y: ...Categorical([-1, 1, 2])"),
        (wp.Categorical(3), 3, np.eye(3), ValueError, "y: expected shape (3,)...got one-hot"),
        (wp.Poisson(), 1, [0, 1, -1], ValueError, "y: expected counts 0, 1, 2, ...got -1"),
        (wp.Poisson(), 1, [0, 1, 1.5], ValueError, "y: expected counts 0, 1, 2, ...got 1.5"),
        (wp.Poisson(), 1, [0, 1, 1.5], ValueError, "y: ...log of the exposure...mlp(..., offset="),
        (wp.HeteroscedasticGaussian(), 2, np.zeros((3, 2)), ValueError, "y: expected shape (3,)"),
        (wp.HeteroscedasticGaussian(), 4, np.zeros(3), ValueError, "y: expected shape (3, 2)"),
    ],
)
def test_targets(likelihood, num_outputs, y, error, message):
    bnn = wp.BNN(wp.mlp(2, num_outputs=num_outputs), likelihood)
    with raises(message, error):
        _data.checked(bnn, np.zeros((3, 2)), y)


LIKELIHOODS = {
    "continuous": [wp.Gaussian(0.5), wp.Gaussian(), wp.StudentT(3.0), wp.StudentT(3.0, 0.5)],
    "heteroscedastic": [wp.HeteroscedasticGaussian()],
    "binary": [wp.Bernoulli()],
    "count": [wp.Poisson()],
    "class": [wp.Categorical(3)],
}


@st.composite
def problems(draw, kind):
    """Any model, its data, its weights and a prior that may be flat."""
    sizes = st.integers(1, 4)
    num_outputs = {"class": 3, "heteroscedastic": 2}.get(kind) or draw(st.integers(1, 3))
    network = wp.mlp(
        draw(sizes),
        hidden=draw(st.lists(sizes, max_size=3)),
        num_outputs=num_outputs,
        activation=draw(st.sampled_from(list(ACTIVATIONS))),
    )
    bnn = wp.BNN(network, draw(st.sampled_from(LIKELIHOODS[kind])))
    num_rows = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    single = num_outputs == 1 or kind in ("class", "heteroscedastic")
    y = rng.integers(0, 2, (num_rows,) if single else (num_rows, num_outputs))
    scale = {"weight": draw(st.floats(1e-3, 1e3)), "bias": draw(st.sampled_from([1.0, np.inf]))}
    prior = wp.normal_prior(bnn, loc=draw(st.floats(-10, 10)), scale=scale)
    weights = {
        name: rng.normal(size=site.shape).astype(np.float32) for name, site in bnn.sites.items()
    }
    return (
        bnn,
        weights,
        *_data.checked(bnn, rng.normal(size=(num_rows, network.num_features)), y),
        prior,
    )


# Every new shape compiles anew, whence so few; the same ones every time.
@pytest.mark.parametrize("kind", LIKELIHOODS)
@hypothesis.settings(deadline=None, max_examples=4, derandomize=True, database=None)
@hypothesis.given(data=st.data())
def test_every_model_has_a_finite_density_that_is_the_sum_of_its_parts(kind, data):
    bnn, weights, x, y, prior = data.draw(problems(kind))

    @jax.jit
    def densities(weights):
        joint, gradient = jax.value_and_grad(bnn.log_joint)(weights, x, y, prior)
        by_site = density.log_prior_by_site(bnn, weights, prior).values()
        rows = density.pointwise_log_likelihood(bnn, weights, x, y)
        return joint, gradient, jnp.stack([*by_site, *rows])

    joint, gradient, terms = jax.tree.map(np.asarray, densities(weights))
    assert np.isfinite(joint)
    assert all(np.all(np.isfinite(values)) for values in gradient.values())
    # Some eighty weights and five rows, each added up with a few roundings.
    tolerance = 100 * np.finfo(np.float32).eps
    np.testing.assert_allclose(
        np.sum(terms, dtype=np.float64), joint, rtol=0, atol=tolerance * np.sum(np.abs(terms))
    )
