"""The table that says what a prior is, site by site."""

import numpy as np
import pytest

import weightprior as wp

BNN = wp.BNN(wp.mlp(3, hidden=(4, 2)), wp.Gaussian())
SITES = list(BNN.sites)


def test_a_row_for_every_site():
    loc = {"weight": 2.0, "bias": 0.0, "hidden_1.bias": np.array([3.0, 4.0])}
    scale = {"weight": 0.5, "bias": np.inf, "hidden_1.bias": np.array([1.0, np.inf])}
    table = wp.prior_summary(BNN, wp.normal_prior(BNN, loc, scale))
    assert list(table.index) == SITES
    assert table.index.name == "site"
    assert table.loc["hidden_0.weight"].to_dict() == {
        "shape": (3, 4),
        "size": 12,
        "loc_mean": 2.0,
        "loc_norm": pytest.approx(2 * 12**0.5),
        "scale_min": 0.5,
        "scale_max": 0.5,
        "density": "normal",
    }
    mixed = table.loc["hidden_1.bias"]
    assert (mixed["loc_mean"], mixed["loc_norm"]) == (3.5, 5.0)
    assert (mixed["scale_min"], mixed["scale_max"]) == (1.0, np.inf)
    assert dict(table["density"]) == dict.fromkeys(SITES, "normal") | {
        "hidden_0.bias": "flat",
        "hidden_1.bias": "part flat",
        "output.bias": "flat",
    }


def test_a_row_for_every_label_and_site():
    stack = wp.stack_priors({s: wp.normal_prior(BNN, scale=s) for s in (0.5, 2.0)})
    table = wp.prior_summary(BNN, stack)
    assert list(table.index) == [(s, site) for s in (0.5, 2.0) for site in SITES]
    assert table.index.names == ["prior", "site"]
    assert table.loc[(2.0, "output.bias"), "scale_max"] == 2.0
    single = wp.prior_summary(BNN, stack[0.5])
    np.testing.assert_array_equal(table.loc[0.5].to_numpy(), single.to_numpy())
