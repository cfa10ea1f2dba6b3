"""Which symmetries are found, and that relabelling finds the nearest labels."""

from itertools import permutations, product

import jax.numpy as jnp
import numpy as np
import pytest

import shared_fits as fits
import weightprior as wp
from weightprior.model import symmetry
from weightprior.model.activations import ACTIVATIONS

NET = wp.BNN(wp.mlp(2, hidden=(4,)), wp.Gaussian())
DEEP = wp.BNN(wp.mlp(2, hidden=(4, 3), activation=["tanh", "relu"], num_outputs=2), wp.Gaussian())
# Where a layer reads units of the layer below, and where it is read.
SITES = {"hidden_0.weight": (slice(None), 2), "hidden_0.bias": 2, "output.weight": 2}


def moved(name, value, fill=0.0):
    """Numbers for every site of NET that single out the third unit at one site."""
    values = {site: np.full(s.shape, fill) for site, s in NET.sites.items()}
    values[name][SITES[name]] = value
    return values


def classes(bnn, prior):
    return [layer.classes.tolist() for layer in symmetry.symmetries(bnn, prior)]


def mirrorable(bnn, prior):
    return [layer.mirrorable.tolist() for layer in symmetry.symmetries(bnn, prior)]


class TestFreedoms:
    def test_equal_priors_make_one_class(self):
        assert classes(DEEP, wp.normal_prior(DEEP)) == [[0] * 4, [0] * 3]
        prior = wp.normal_prior(DEEP, loc=0.5, scale=wp.fan_in_scale(DEEP))
        assert classes(DEEP, prior) == [[0] * 4, [0] * 3]

    @pytest.mark.parametrize("name", SITES)
    def test_a_centre_of_its_own_sets_a_unit_apart(self, name):
        prior = wp.normal_prior(NET, loc=moved(name, 0.3))
        assert classes(NET, prior) == [[0, 0, 1, 0]]
        assert mirrorable(NET, prior) == [[True, True, False, True]]

    @pytest.mark.parametrize("name", SITES)
    def test_a_scale_of_its_own_sets_a_unit_apart(self, name):
        prior = wp.normal_prior(NET, scale=moved(name, 0.3, fill=1.0))
        assert classes(NET, prior) == [[0, 0, 1, 0]]
        assert mirrorable(NET, prior) == [[True] * 4]

    @pytest.mark.parametrize("name", SITES)
    def test_a_flat_prior_is_centred_nowhere(self, name):
        scale = {"weight": 1.0, "bias": 1.0, name: np.inf}
        prior = wp.normal_prior(NET, loc=moved(name, 0.3), scale=scale)
        assert classes(NET, prior) == [[0] * 4]
        assert mirrorable(NET, prior) == [[True] * 4]

    def test_a_zero_is_a_zero_whatever_its_sign(self):
        assert classes(NET, wp.normal_prior(NET, loc=moved("hidden_0.bias", -0.0))) == [[0] * 4]

    def test_weights_between_layers_may_tell_the_units_of_one_only(self):
        def prior(loc):
            return wp.normal_prior(DEEP, loc={"weight": 0.0, "bias": 0.0, "hidden_1.weight": loc})

        rows = np.broadcast_to([[0.0], [1.0], [0.0], [2.0]], (4, 3))
        assert classes(DEEP, prior(rows)) == [[0, 1, 0, 2], [0] * 3]
        columns = np.broadcast_to([3.0, 3.0, 1.0], (4, 3))
        assert classes(DEEP, prior(columns)) == [[0] * 4, [0, 0, 1]]

    def test_without_hidden_layers_there_are_none(self):
        assert symmetry.symmetries(fits.LINEAR, wp.normal_prior(fits.LINEAR)) == []

    @pytest.mark.parametrize(
        ("activation", "odd"),
        [
            *((name, name in ("tanh", "identity")) for name in ACTIVATIONS),
            (jnp.sin, True),
            (jnp.cos, False),
        ],
    )
    def test_units_of_odd_activations_alone_are_mirrored(self, activation, odd):
        bnn = wp.BNN(wp.mlp(2, hidden=(2,), activation=activation), wp.Gaussian())
        assert mirrorable(bnn, wp.normal_prior(bnn)) == [[odd] * 2]


def relabelled(bnn, weights, orders, signs):
    """One draw with the units of every hidden layer in another order and with other signs."""
    new = dict(weights)
    for i, (order, sign) in enumerate(zip(orders, signs, strict=True)):
        layer, following = bnn.network.layers[i : i + 2]
        new[f"{layer}.weight"] = new[f"{layer}.weight"][:, order] * sign
        new[f"{layer}.bias"] = new[f"{layer}.bias"][order] * sign
        new[f"{following}.weight"] = new[f"{following}.weight"][order] * np.asarray(sign)[:, None]
    return new


def scrambled(bnn, weights, rng, keep):
    """Draws with units in any order and, where they are tanh, of any sign; one stays as it is."""
    shape, draws = weights["output.bias"].shape[:2], []
    for place in np.ndindex(shape):
        draw = {name: values[place] for name, values in weights.items()}
        orders = [rng.permutation(width) for width in bnn.network.hidden]
        signs = [
            rng.choice([-1.0, 1.0], width) if activation == "tanh" else np.ones(width)
            for width, activation in zip(bnn.network.hidden, bnn.network.activations, strict=True)
        ]
        draws.append(draw if place == keep else relabelled(bnn, draw, orders, signs))
    return {
        name: np.stack([d[name] for d in draws]).reshape(values.shape)
        for name, values in weights.items()
    }


def near_one_point(bnn, rng, lead=(2, 30), sd=0.05):
    return {
        name: rng.normal(size=site.shape) + sd * rng.normal(size=(*lead, *site.shape))
        for name, site in bnn.sites.items()
    }


class TestAlign:
    @pytest.mark.parametrize(
        ("hidden", "activation", "num_outputs"),
        [
            ((6,), "tanh", 1),
            ((6,), "relu", 2),
            ((50,), "tanh", 1),
            ((8, 6), ["tanh", "relu"], 2),
            ((6, 5, 4), ["relu", "tanh", "tanh"], 1),
        ],
    )
    def test_scrambled_labels_are_recovered_exactly(self, hidden, activation, num_outputs):
        bnn = wp.BNN(wp.mlp(3, hidden, num_outputs, activation), wp.Gaussian())
        rng = np.random.default_rng(0)
        weights, best = near_one_point(bnn, rng), (1, 7)
        lp = rng.normal(size=(2, 30))
        lp[best] = 10.0
        given = scrambled(bnn, weights, rng, keep=best)
        free = symmetry.symmetries(bnn, wp.normal_prior(bnn))
        found = symmetry.align(free, given, lp)
        for name, values in weights.items():
            assert name in ("output.bias", "log_noise") or np.any(given[name] != values)
            np.testing.assert_array_equal(found[name], values)

    @pytest.mark.parametrize("flat", [False, True])
    def test_no_labels_are_nearer_to_the_mean_in_the_priors_scales(self, flat):
        """By trying all orders and signs of three units, at draws that have no order."""
        bnn = wp.BNN(wp.mlp(2, hidden=(3,)), wp.Gaussian(noise=1.0))
        # Scales far apart, and a centre that hides what the draws differ in.
        loc = {"hidden_0": 0.0, "output.weight": 0.0 if flat else 50.0, "output.bias": 0.0}
        scale = {"hidden_0.weight": 0.2, "bias": 3.0, "output.weight": np.inf if flat else 1.0}
        prior = wp.normal_prior(bnn, loc, scale)
        unit = {**scale, "hidden_0.bias": 3.0, "output.weight": 3**-0.5 if flat else 1.0}
        rng = np.random.default_rng(1)
        weights = {
            name: prior.loc[name] + unit.get(name, 3.0) * rng.normal(size=(2, 10, *site.shape))
            for name, site in bnn.sites.items()
        }
        found = symmetry.align(symmetry.symmetries(bnn, prior), weights, rng.normal(size=(2, 10)))
        mean = {name: values.mean((0, 1)) for name, values in found.items()}

        def distance(draw):
            names = ("hidden_0.weight", "hidden_0.bias", "output.weight")
            return sum(np.square((draw[n] - mean[n]) / unit[n]).sum() for n in names)

        all_signs = list(product([-1.0, 1.0], repeat=3)) if flat else [(1.0, 1.0, 1.0)]
        nearer = 0
        for place in np.ndindex(2, 10):
            draw, given = ({n: w[place] for n, w in of.items()} for of in (found, weights))
            others = [
                distance(relabelled(bnn, given, [list(order)], [signs]))
                for order in permutations(range(3))
                for signs in all_signs
            ]
            np.testing.assert_allclose(distance(draw), min(others), rtol=1e-12)
            nearer += distance(given) > distance(draw)
        assert nearer > 5

    @pytest.mark.parametrize("loc", [0.0, 0.3])
    def test_units_move_within_their_class_and_are_mirrored_at_zero_only(self, loc):
        scale = {"weight": 1.0, "bias": 1.0, "hidden_0.bias": np.array([1.0, 0.5, 1.0, 0.5])}
        prior = wp.normal_prior(NET, loc, scale)
        rng = np.random.default_rng(2)
        weights = fits.random_weights(NET, rng, (2, 20))
        assert classes(NET, prior) == [[0, 1, 0, 1]]
        found = symmetry.align(symmetry.symmetries(NET, prior), weights, rng.normal(size=(2, 20)))
        size = np.abs if loc == 0.0 else np.positive
        old, new = weights["hidden_0.bias"], found["hidden_0.bias"]
        for units in ([0, 2], [1, 3]):
            np.testing.assert_array_equal(*(np.sort(size(b[..., units])) for b in (old, new)))
            assert np.any(size(old[..., units]) != size(new[..., units]))
        assert np.any(np.sort(old) != np.sort(new)) == (loc == 0.0)

    def test_where_every_unit_has_its_own_centre_nothing_moves(self):
        rng = np.random.default_rng(3)
        loc = {name: rng.normal(size=site.shape) for name, site in DEEP.sites.items()}
        weights = fits.random_weights(DEEP, rng, (2, 20))
        prior = wp.normal_prior(DEEP, loc=loc)
        assert classes(DEEP, prior) == [[0, 1, 2, 3], [0, 1, 2]]
        found = symmetry.align(symmetry.symmetries(DEEP, prior), weights, rng.normal(size=(2, 20)))
        for name, values in weights.items():
            np.testing.assert_array_equal(found[name], values)

    def test_where_layers_take_turns_none_can_do_better_by_itself(self):
        rng = np.random.default_rng(5)
        weights = fits.random_weights(DEEP, rng, (2, 10))
        free = symmetry.symmetries(DEEP, wp.normal_prior(DEEP))
        found = symmetry.align(free, weights, rng.normal(size=(2, 10)))
        mean = {name: values.mean((0, 1)) for name, values in found.items()}

        def distance(draw):
            return sum(np.square(values - mean[name]).sum() for name, values in draw.items())

        kept, plain = [np.arange(4), np.arange(3)], [np.ones(4), np.ones(3)]
        for place in np.ndindex(2, 10):
            draw = {name: values[place] for name, values in found.items()}
            others = [
                distance(relabelled(DEEP, draw, [list(order), kept[1]], [signs, plain[1]]))
                for order in permutations(range(4))
                for signs in product([-1.0, 1.0], repeat=4)
            ]
            others += [
                distance(relabelled(DEEP, draw, [kept[0], list(order)], plain))
                for order in permutations(range(3))
            ]
            np.testing.assert_allclose(distance(draw), min(others), rtol=1e-12)

    @pytest.mark.parametrize("sd", [0.0, 1.0])
    def test_units_that_are_alike_but_for_rounding_stay_where_they_are(self, sd):
        bnn = wp.BNN(wp.mlp(3, hidden=(20, 15)), wp.Gaussian(noise=1.0))
        rng = np.random.default_rng(6)
        weights = {}
        for name, site in bnn.sites.items():
            # Features and outputs may differ, units may not.
            shape = [
                1 if dim.startswith("hidden") else size
                for dim, size in zip(site.dims, site.shape, strict=True)
            ]
            alike = 1.0 + 1e-14 * rng.random((2, 5, *site.shape))
            weights[name] = sd * rng.normal(size=(2, 5, *shape)) * alike
        free = symmetry.symmetries(bnn, wp.normal_prior(bnn, loc=0.1))
        found = symmetry.align(free, weights, np.zeros((2, 5)))
        for name, values in weights.items():
            np.testing.assert_array_equal(found[name], values)

    def test_cutting_draws_into_blocks_changes_nothing(self, monkeypatch):
        rng = np.random.default_rng(4)
        weights, lp = fits.random_weights(DEEP, rng, (2, 20)), rng.normal(size=(2, 20))
        free = symmetry.symmetries(DEEP, wp.normal_prior(DEEP))
        whole = symmetry.align(free, weights, lp)
        monkeypatch.setattr(symmetry, "_OVERLAPS_AT_ONCE", 50)
        for name, values in symmetry.align(free, weights, lp).items():
            np.testing.assert_array_equal(values, whole[name])
