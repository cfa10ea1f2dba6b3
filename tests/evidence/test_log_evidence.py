"""Evidence and code lengths as read off a fit, and what is said where they cannot be relied on."""

import numpy as np
import pytest

import weightprior as wp
from problems import LINEAR, NET
from weightprior.inference.free_energy import reliability_issues


@pytest.fixture(scope="module")
def fitted():
    priors = wp.stack_priors({"a": LINEAR.prior(), "b": LINEAR.prior(loc=1.0)})
    # So many draws at each temperature that chains agree whatever the key.
    options = {"num_temperatures": 16, "num_samples": 600, "num_chains": 8}
    return wp.fit_tempered(LINEAR.bnn, LINEAR.x, LINEAR.y, prior=priors, **options)


def test_a_bit_is_the_log_of_two_nats(fitted):
    nats, bits = wp.log_evidence(fitted), wp.code_length(fitted)
    np.testing.assert_allclose(bits["bits"] * np.log(2), -nats["log_evidence"])
    np.testing.assert_allclose(bits["bits_error"] * np.log(2), nats["error"])
    np.testing.assert_allclose(bits["bits_per_observation"] * 40, bits["bits"])
    np.testing.assert_allclose(bits["bits_per_observation_error"] * 40, bits["bits_error"])
    assert bits["prior"].to_numpy().tolist() == ["a", "b"]
    assert bits["reliable"].all()


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        ({"overlap": 0.01}, "share too few draws"),
        ({"rhat": 1.5}, "chains disagree"),
        ({"log_evidence_coarse": 0.0}, "every second temperature"),
    ],
)
def test_an_estimate_that_cannot_be_relied_on_says_why(fitted, number, reason):
    found = wp.log_evidence(fitted)
    assert found["reliable"].all()
    assert not found["reason"].to_numpy().any()
    ladder = fitted["tempered"].dataset.isel(prior=0)
    assert not reliability_issues(ladder)
    [name] = number
    doubtful = reliability_issues(ladder.assign({name: ladder[name] * 0 + number[name]}))
    assert reason in doubtful
    told = fitted.copy(deep=True)
    told["evidence"] = told["evidence"].dataset.assign(reason=("prior", [doubtful, ""]))
    assert wp.log_evidence(told)["reliable"].to_numpy().tolist() == [False, True]


def test_a_fit_without_evidence_is_refused():
    fit = wp.fit_map(NET.bnn, NET.x, NET.y, prior=NET.prior())
    for read in (wp.log_evidence, wp.code_length):
        with pytest.raises(ValueError, match=r"fit_tempered"):
            read(fit)
        with pytest.raises(TypeError, match="DataTree"):
            read(None)


def test_compare_has_the_evidence(fitted):
    table = wp.compare(LINEAR.bnn, {"tempered": fitted})
    found = wp.log_evidence(fitted)
    np.testing.assert_allclose(table["evidence"], found["log_evidence"])
    np.testing.assert_allclose(table["evidence_se"], found["error"])
    np.testing.assert_allclose(table["bits"], wp.code_length(fitted)["bits"])
    # Four weights, which forty rows determine.
    assert table["parameters"].between(3.5, 4).all()


def test_the_evidence_against_a_centre_at_zero(fitted):
    """Of centres that data contradict, `prior_data_conflict` says by how much."""
    found = wp.diagnostics.prior_data_conflict(LINEAR.bnn, fitted, LINEAR.x, LINEAR.y)
    evidence = wp.log_evidence(fitted)
    assert found["log_bayes_factor"][0] == found["log_bayes_factor_se"][0] == 0
    gain = evidence["log_evidence"][1] - evidence["log_evidence"][0]
    np.testing.assert_allclose(found["log_bayes_factor"][1], gain)
    np.testing.assert_allclose(found["log_bayes_factor_se"][1], np.hypot(*evidence["error"]))
    alone = wp.unstack_fit(fitted)["b"]
    found = wp.diagnostics.prior_data_conflict(LINEAR.bnn, alone, LINEAR.x, LINEAR.y)
    assert np.isnan(found["log_bayes_factor"])
