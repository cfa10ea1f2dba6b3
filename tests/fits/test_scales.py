"""Data far from the scale of a prior are told of, by the prior and the data together."""

import numpy as np
import pandas as pd
import pytest

import weightprior as wp
from weightprior.fits.problem import Problem
from weightprior.fits.scales import scale_doubt

_rng = np.random.default_rng(0)
X = _rng.normal(size=(50, 3))
Y = X @ [1.0, 2.0, 3.0] + _rng.normal(size=50)
NET = wp.BNN(wp.mlp(3, hidden=(8,)), wp.Gaussian())
RELU = wp.BNN(wp.mlp(3, hidden=(8, 4), activation="relu"), wp.Gaussian())
LINEAR = wp.BNN(wp.mlp(3, hidden=()), wp.Gaussian())
KNOWN = wp.BNN(wp.mlp(3, hidden=(8,)), wp.Gaussian(noise=1.0))
LOGIT = wp.BNN(wp.mlp(3, hidden=()), wp.Bernoulli())
COUNTS = _rng.poisson(20.0, size=(50, 3)).astype(float)
ONE_HOT = np.eye(3)[_rng.integers(3, size=50)]


def doubt(bnn, x, y, prior=None):
    return scale_doubt(bnn, x, y, prior or wp.normal_prior(bnn), ["a", "b", "c"])


@pytest.mark.parametrize("bnn", [NET, RELU, KNOWN, LINEAR], ids=["tanh", "relu", "known", "linear"])
@pytest.mark.parametrize(
    ("y", "told"),
    [
        (Y * 1e9, "y: mean 7.46e+08 and sd 3.57e+09, where the outputs reach about"),
        (Y + 1e8, r"y: mean 1e\+08 and sd 3.57, where the outputs reach about"),
    ],
)
def test_targets_out_of_reach(bnn, y, told):
    found = doubt(bnn, X, y)
    assert told.replace("\\", "") in found
    assert found.endswith("Standardise y: (y - y.mean(axis=0)) / y.std(axis=0).")
    assert doubt(bnn, X, (y - y.mean(axis=0)) / y.std(axis=0)) == ""


def test_targets_far_below_the_noise_that_is_learned():
    assert "18 prior sds below the noise that is expected" in doubt(NET, X, Y * 1e-9)
    assert doubt(KNOWN, X, Y) == ""


@pytest.mark.parametrize("bnn", [NET, LOGIT], ids=["hidden units", "logits"])
@pytest.mark.parametrize(
    "change", [lambda x: x * [1, 1e5, 1], lambda x: x + np.array([0, 2000, 0])]
)
def test_columns_that_saturate(bnn, change):
    y = Y if bnn is NET else (Y > 0).astype(float)
    x = change(X)
    found = doubt(bnn, x, y)
    assert found.startswith("x: the column 'b' has mean ")
    assert doubt(bnn, (x - x.mean(axis=0)) / x.std(axis=0), y) == ""


@pytest.mark.parametrize("bnn", [NET, LINEAR], ids=["net", "linear"])
def test_columns_that_do_nothing(bnn):
    assert "moves" in doubt(bnn, X * [1, 1, 1e-9], Y)
    assert doubt(bnn, X * [1, 1, 1e-9], Y).startswith("x: the column 'c' has mean")


@pytest.mark.parametrize(
    ("bnn", "x", "y", "prior"),
    [
        (NET, X, Y, {}),
        (NET, ONE_HOT, Y, {}),
        (NET, COUNTS, Y, {}),
        (NET, np.column_stack([np.ones(50), X[:, :2]]), Y, {}),
        (NET, X, Y, {"scale": 1e5}),  # wide on purpose
        (NET, X, Y, {"scale": 1e-4}),  # and narrow
        (NET, X / 100, Y, {"scale": {"hidden_0.weight": 100.0, "output.weight": 1.0, "bias": 1.0}}),
        (LINEAR, X * 1e5, Y * 1e9, {"scale": np.inf}),
        (LINEAR, X + 2000, Y, {"scale": 1e3}),
        (LOGIT, X * 1e5, (Y > 0).astype(float), {"scale": np.inf}),
        (wp.BNN(wp.mlp(3, hidden=()), wp.Poisson()), COUNTS / 10, COUNTS[:, 0] * 100, {}),
    ],
)
def test_no_false_alarm(bnn, x, y, prior):
    assert doubt(bnn, x, y, wp.normal_prior(bnn, **prior)) == ""


def test_of_a_sweep_all_priors_have_to_be_far():
    path = {s: wp.normal_prior(NET, scale=s) for s in (1e-3, 1.0, 1e6)}
    assert doubt(NET, X, Y * 1e4, wp.stack_priors(path)) == ""
    assert doubt(NET, X, Y * 1e4, wp.stack_priors({s: path[s] for s in (1e-3, 1.0)})) != ""


def test_rows_that_never_count_say_nothing():
    y = np.where(np.arange(50) == 3, 1e30, Y)
    Problem.checked(NET, X, y, prior=wp.normal_prior(NET), row_weights=np.arange(50) != 3)


def test_one_warning_names_columns_and_targets_and_verdicts_do_not_ask_for_more_draws():
    frame = pd.DataFrame(X * 3000 + 1e4, columns=["lot", "area", "rooms"])
    linear = wp.BNN(wp.mlp(list(frame.columns), hidden=()), wp.Gaussian(noise=1.0))
    with pytest.warns(UserWarning, match="Standardise y") as caught:
        fit = wp.fit_mcmc(
            linear,
            frame,
            Y * 1e9,
            prior=wp.normal_prior(linear, scale=0.5),
            num_warmup=50,
            num_samples=20,
        )
    first, *others = [str(one.message) for one in caught]
    assert first.startswith("y: mean 7.46e+08")
    assert all("num_samples" not in message for message in others)
    told = wp.diagnostics.convergence(linear, fit, frame)["verdict"].item()
    assert "Standardise y" in told
