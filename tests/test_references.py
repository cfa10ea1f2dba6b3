"""The reading of FBM's files: its own log densities come out of plain numpy."""

import numpy as np
import pytest
from scipy import special, stats

import references

# FBM prints nine significant digits; sk_diab1d is the worst, at 2.7e-7.
PRINTED = 3e-7

ACTIVATIONS = {"tanh": np.tanh, "softplus": lambda u: np.logaddexp(0.0, u)}


def forward(sites, x, activation):
    layers = [name.removesuffix(".weight") for name in sites if name.endswith(".weight")]
    h = x
    for layer in layers:
        h = h @ sites[f"{layer}.weight"] + sites[f"{layer}.bias"]
        h = h if layer == "output" else ACTIVATIONS[activation](h)
    return h


def log_likelihood(reference, sites):
    f, y = forward(sites, reference.train_x, reference.activation), reference.train_y
    options = reference.likelihood_options
    match reference.likelihood:
        case "Gaussian":
            return stats.norm.logpdf(y, f[:, 0], options["noise"]).sum()
        case "StudentT":
            return stats.t.logpdf(y, options["df"], f[:, 0], options["noise"]).sum()
        case "Bernoulli":
            return special.log_expit(np.where(y == 1, f[:, 0], -f[:, 0])).sum()
        case "Categorical":
            return special.log_softmax(f, axis=1)[np.arange(len(y)), y].sum()


def log_prior(reference, sites):
    return sum(
        stats.norm.logpdf(value, reference.prior_loc[site], reference.prior_scale[site]).sum()
        for site, value in sites.items()
    )


@pytest.fixture(params=references.NAMES)
def reference(request):
    return references.load_or_skip(request.param)


def test_states_have_the_log_likelihood_that_fbm_reports(reference):
    ours = [log_likelihood(reference, sites) for sites in reference.states]
    np.testing.assert_allclose(ours, reference.state_loglik, rtol=0, atol=PRINTED)


def test_states_have_the_log_prior_that_fbm_reports(reference):
    ours = [log_prior(reference, sites) for sites in reference.states]
    np.testing.assert_allclose(ours, reference.state_logprior, rtol=0, atol=PRINTED)


def test_a_transposed_weight_would_be_noticed():
    reference = references.load("sk_iris")
    sites = dict(reference.states[0])
    sites["hidden_0.weight"] = sites["hidden_0.weight"].T
    assert abs(log_likelihood(reference, sites) - reference.state_loglik[0]) > 1.0


def test_shapes_agree(reference):
    shapes = references.site_shapes(
        (reference.num_features, *reference.hidden, reference.num_outputs)
    )
    for sites in (reference.prior_loc, reference.prior_scale, *reference.states):
        assert {site: value.shape for site, value in sites.items()} == shapes
    rows = len(reference.test_x)
    several = reference.likelihood == "Categorical"
    outputs = (rows, reference.num_outputs) if several else (rows,)
    classes = reference.likelihood in ("Bernoulli", "Categorical")
    for moment in references.MOMENTS:
        assert getattr(reference, f"f_{moment}").shape == outputs
        prob = getattr(reference, f"prob_{moment}")
        assert prob.shape == outputs if classes else prob is None
    assert reference.train_x.shape == (len(reference.train_y), reference.num_features)
    assert reference.test_x.shape[1] == reference.num_features


def test_functionals_are_named_by_their_sites(reference):
    # The mean log prior is linear in the mean squares, so swapped names would break the identity.
    expected = 0.0
    for site, loc in reference.prior_loc.items():
        scale = reference.prior_scale[site]
        if f"mean_square.{site}" in reference.functionals:
            square = reference.functionals[f"mean_square.{site}"]["mean"]
        else:
            square = np.empty(loc.shape)
            for index in np.ndindex(loc.shape):
                moments = reference.functionals[f"{site}{list(index)}"]
                variance = moments["sd"] ** 2 * (1 - 1 / reference.num_draws)
                square[index] = variance + (moments["mean"] - loc[index]) ** 2
        expected += np.sum(-square / scale**2 / 2 - np.log(scale) - np.log(2 * np.pi) / 2)
    mean = reference.functionals["log_prior"]["mean"]
    np.testing.assert_allclose(mean, expected, rtol=0, atol=PRINTED)


@pytest.mark.parametrize("name", ["sk_diab1d", "sk_iris"])
def test_redistributable_files_are_here(name):
    assert references.find(name).parent == references.FOLDERS[0]


def test_an_absent_file_is_skipped_with_a_reason():
    assert references.find("no_such_posterior") is None
    with pytest.raises(FileNotFoundError, match="no_such_posterior"):
        references.load("no_such_posterior")
    with pytest.raises(pytest.skip.Exception, match="not distributed"):
        references.load_or_skip("no_such_posterior")
