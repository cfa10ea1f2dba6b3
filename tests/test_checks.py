"""The checks of what a user passes in: what they let through, and what they say."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import weightprior as wp
from weightprior import _arrays, _checks, _data
from weightprior.model.linearised import linearised


class TestNames:
    VALID = ("weight", "bias", "log_noise")

    def test_names_are_listed_as_they_are_written(self):
        assert _checks.several(["a", 1]) == "'a', 1"

    @pytest.mark.parametrize(
        ("name", "hint"),
        [("wieght", " Did you mean 'weight'?"), ("biases", " Did you mean 'bias'?"), ("zzz", "")],
    )
    def test_a_misspelt_name_comes_with_a_suggestion(self, name, hint):
        assert _checks.close_name(name, self.VALID) == hint
        expected = f"loc: expected names among 'weight', 'bias', 'log_noise'; got {name!r}.{hint}"
        with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
            _checks.known_names("loc", ["bias", name], self.VALID)

    def test_known_names_pass(self):
        _checks.known_names("loc", ["bias", "weight"], self.VALID)
        _checks.known_names("loc", [], self.VALID)

    def test_an_option_is_one_of_a_few_words(self):
        _checks.one_of("kernel", "nuts", ("hmc", "nuts"))
        expected = "kernel: expected one of 'hmc', 'nuts'; got 'nut'. Did you mean 'nuts'?"
        with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
            _checks.one_of("kernel", "nut", ("hmc", "nuts"))

    @pytest.mark.parametrize("value", [None, 3, ["hmc"], {"hmc"}])
    def test_an_option_is_a_word(self, value):
        with pytest.raises(ValueError, match=r"^kernel: expected one of 'hmc', 'nuts'"):
            _checks.one_of("kernel", value, ("hmc", "nuts"))


class TestNumbers:
    @pytest.mark.parametrize("value", [3, np.int32(3), np.uint8(3)])
    def test_whole_numbers_pass(self, value):
        checked = _checks.integer("n", value, 3)
        assert checked == 3
        assert type(checked) is int

    @pytest.mark.parametrize("value", [3.0, True, "3", None, np.array([3]), np.float32(3)])
    def test_nothing_else_is_a_whole_number(self, value):
        with pytest.raises(TypeError, match=r"^n: expected a whole number; got"):
            _checks.integer("n", value, 1)

    def test_a_whole_number_has_a_least_value(self):
        with pytest.raises(ValueError, match=r"^n: expected at least 4; got 3\.$"):
            _checks.integer("n", 3, 4)

    @pytest.mark.parametrize(
        "value", [0.5, np.float32(0.5), np.array(0.5), jnp.asarray(0.5), np.float64(0.5)]
    )
    def test_numbers_pass(self, value):
        checked = _checks.number("noise", value, above=0)
        assert checked == 0.5
        assert type(checked) is float

    @pytest.mark.parametrize("value", ["0.5", None, True, [0.5], np.array([0.5]), 0.5j])
    def test_nothing_else_is_a_number(self, value):
        with pytest.raises(TypeError, match=r"^noise: expected a number; got"):
            _checks.number("noise", value, above=0)

    @pytest.mark.parametrize("value", [0, -1.0, np.inf, -np.inf, np.nan])
    def test_a_number_lies_above_its_bound_and_is_finite(self, value):
        with pytest.raises(ValueError, match=r"^noise: expected a number above 0 and finite; got"):
            _checks.number("noise", value, above=0)

    @pytest.mark.parametrize("value", [0.0, 1, 2.0, np.nan])
    def test_a_number_lies_between_its_bounds(self, value):
        with pytest.raises(ValueError, match=r"^p: expected a number above 0 and below 1; got"):
            _checks.number("p", value, above=0, below=1)


class TestArrays:
    @pytest.mark.parametrize(
        "values",
        [
            [1, 2],
            (1.0, 2.0),
            np.array([1, 2], np.uint8),
            jnp.asarray([1.0, 2.0], jnp.bfloat16),
            pd.Series([1, 2], dtype="Int64"),
            np.array([1, 2.0], object),
        ],
        ids=lambda values: type(values).__name__,
    )
    def test_numbers_become_float64(self, values):
        array = _arrays.finite("x", values)
        assert array.dtype == np.float64
        np.testing.assert_array_equal(array, [1.0, 2.0])

    def test_truth_is_a_number(self):
        np.testing.assert_array_equal(_arrays.finite("y", [True, False]), [1.0, 0.0])

    @pytest.mark.parametrize(
        "values",
        [
            "1.0",
            ["1", "2"],
            [b"1", b"2"],
            ["a", "b"],
            pd.DataFrame({"a": ["u", "v"], "b": [1, 2]}),
            pd.Series(["1", "2"], dtype="category"),
        ],
        ids=repr,
    )
    def test_text_is_no_number(self, values):
        advice = r"Encode categories|asarray\(x, float\)|astype\(float\)|get_dummies\(x"
        with pytest.raises(TypeError, match=f"^x: expected numbers; got .*({advice})"):
            _arrays.finite("x", values)

    @pytest.mark.parametrize(
        "values",
        [
            None,
            1j,
            np.array([1 + 1j]),
            np.array(["2020-01-01"], "datetime64[D]"),
            pd.Series(pd.to_timedelta([1, 2], "s")),
            [[1.0], [1.0, 2.0]],
            {"a": 1},
            object(),
        ],
        ids=lambda values: type(values).__name__,
    )
    def test_other_things_are_no_numbers(self, values):
        with pytest.raises(TypeError, match=r"^x: expected (numbers|an array .*); got"):
            _arrays.finite("x", values)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_numbers_are_finite_and_the_first_that_is_not_is_pointed_at(self, bad):
        values = np.zeros((3, 4))
        values[1, 2] = values[2, 0] = bad
        with pytest.raises(ValueError, match=r"^x: .*got 2 NaN .* of 12, .* at index \(1, 2\)"):
            _arrays.finite("x", values)

    @pytest.mark.parametrize(
        "values", [[1.0, None], pd.Series([1, None], dtype="Int64"), pd.Series([1.0, np.nan])]
    )
    def test_a_missing_value_is_not_finite(self, values):
        with pytest.raises(ValueError, match=r"^y: .*got 1 NaN .* at index \(1,\)"):
            _arrays.finite("y", values)


class TestRows:
    NAMES = ("age", "dose")
    FRAME = pd.DataFrame({"age": [1, 2, 3], "dose": [0.1, 0.2, 0.3]})

    def test_a_data_frame_has_the_columns_of_the_network(self):
        np.testing.assert_array_equal(_data.inputs(self.FRAME, self.NAMES), self.FRAME)

    def test_an_array_has_only_to_be_wide_enough(self):
        array = self.FRAME.to_numpy()
        np.testing.assert_array_equal(_data.inputs(array, self.NAMES), array)

    def test_a_network_without_names_takes_any_columns(self):
        np.testing.assert_array_equal(_data.inputs(self.FRAME, (0, 1)), self.FRAME)

    def test_columns_are_not_reordered_silently(self):
        with pytest.raises(ValueError, match=r"^x: .*'age', 'dose'; got 'dose', 'age'. Reorder"):
            _data.inputs(self.FRAME[["dose", "age"]], self.NAMES)

    @pytest.mark.parametrize("columns", [["age"], ["age", "height"], ["age", "dose", "height"]])
    def test_columns_are_the_features(self, columns):
        frame = pd.DataFrame(np.zeros((3, len(columns))), columns=columns)
        with pytest.raises(
            ValueError, match=r"^x: expected the columns 'age', 'dose'; got.*Select"
        ):
            _data.inputs(frame, self.NAMES)

    @pytest.mark.parametrize("shape", [(), (2,), (3, 1), (3, 3), (3, 2, 1), (2, 3)])
    def test_other_shapes(self, shape):
        expected = re.escape(
            f"x: expected shape (rows, 2), a column per feature of the network; got {shape}."
        )
        with pytest.raises(ValueError, match=f"^{expected}$"):
            _data.inputs(np.zeros(shape), self.NAMES)

    def test_a_single_feature_needs_its_axis(self):
        with pytest.raises(ValueError, match=r"Pass numpy\.reshape\(x, \(-1, 1\)\)\.$"):
            _data.inputs(np.zeros(3), ("age",))

    def test_at_least_one_row(self):
        with pytest.raises(ValueError, match=r"^x: expected at least one row; got none\.$"):
            _data.inputs(np.zeros((0, 2)), self.NAMES)
        assert _data.inputs(np.zeros((1, 2)), self.NAMES).shape == (1, 2)


class TestRowWeights:
    @pytest.mark.parametrize("values", [[1, 0, 2.5], (0.0, 0.0, 0.0), np.ones(3, bool)])
    def test_numbers_of_at_least_zero_for_every_row_pass(self, values):
        checked = _data.row_weights(values, np.zeros((3, 1)), None)
        assert checked.dtype == np.float64
        np.testing.assert_array_equal(checked, np.asarray(values, float))

    def test_parts_of_a_stacked_prior_may_have_their_own(self):
        values = np.arange(6.0).reshape(2, 3)
        np.testing.assert_array_equal(_data.row_weights(values, np.zeros((3, 1)), 2), values)
        assert _data.row_weights(values[0], np.zeros((3, 1)), 2).shape == (3,)

    @pytest.mark.parametrize(
        ("values", "num_parts", "expected"),
        [
            (np.ones(2), None, r"shape \(3,\), a number for every row of x; got \(2,\)"),
            (np.ones((3, 1)), None, r"shape \(3,\), .*got \(3, 1\)"),
            (1.0, None, r"shape \(3,\), .*got \(\)"),
            (np.ones((2, 3)), None, r"shape \(3,\), .*got \(2, 3\)"),
            (np.ones((3, 2)), 2, r"shape \(3,\) or \(2, 3\), .*got \(3, 2\)"),
            ([1.0, -0.5, -1.0], None, r"numbers of at least 0; got -0\.5"),
            ([1.0, np.nan, 1.0], None, r"finite numbers; got 1 NaN"),
            ([1.0, np.inf, 1.0], None, r"finite numbers; got 1 NaN or infinite"),
        ],
    )
    def test_others_do_not(self, values, num_parts, expected):
        with pytest.raises(ValueError, match=rf"^row_weights: expected {expected}"):
            _data.row_weights(values, np.zeros((3, 1)), num_parts)


class TestModel:
    def test_it_is_known_by_what_it_has(self):
        bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian())
        _checks.model(bnn)
        center = {name: np.zeros(site.shape) for name, site in bnn.sites.items()}
        _checks.model(linearised(bnn, center))

    @pytest.mark.parametrize("thing", [wp.BNN, wp.mlp(1), wp.Gaussian(), None, "bnn"])
    def test_nothing_else_is_one(self, thing):
        with pytest.raises(TypeError, match=r"^bnn: expected a model, BNN\(network, likelihood\)"):
            _checks.model(thing)


class TestSites:
    SITES = {  # noqa: RUF012
        "bias": wp.Site((2,), ("output",), 3, "bias", "output"),
        "noise": wp.Site((), (), None, "latent", "noise"),
    }
    GOOD = {"bias": np.zeros(2), "noise": jnp.zeros(())}  # noqa: RUF012

    def test_good_ones_pass_and_so_do_others_beside_them(self):
        _checks.arrays("weights", {**self.GOOD, "more": None}, self.SITES)

    def test_tracers_pass(self):
        jax.eval_shape(lambda weights: _checks.arrays("weights", weights, self.SITES), self.GOOD)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"bias": np.zeros(3)}, r"^weights\['bias'\]: expected shape \(2,\); got \(3,\)"),
            ({"bias": np.zeros(())}, r"^weights\['bias'\]: expected shape \(2,\); got \(\)"),
            ({"noise": np.zeros(1)}, r"^weights\['noise'\]: expected shape \(\); got \(1,\)"),
            ({"bias": [0.0, 0.0]}, r"^weights\['bias'\]: expected a floating-point.*got list"),
            ({"bias": np.zeros(2, int)}, r"^weights\['bias'\]: expected a floating.*got int64"),
            ({"noise": 1.0}, r"^weights\['noise'\]: expected a floating-point.*got float"),
        ],
    )
    def test_bad_ones_do_not(self, change, message):
        with pytest.raises((ValueError, TypeError), match=message):
            _checks.arrays("weights", {**self.GOOD, **change}, self.SITES)

    def test_missing_ones_are_named_among_all(self):
        with pytest.raises(ValueError, match=r"^weights: .* 'bias', 'noise'; got none for 'noise'"):
            _checks.arrays("weights", {"bias": np.zeros(2)}, self.SITES)


class TestKeys:
    def test_all_forms_of_a_key_are_the_same_key(self):
        expected = jax.random.key_data(jax.random.key(7))
        old = jax.random.PRNGKey(7)
        for key in (7, np.int64(7), jax.random.key(7), old, np.asarray(old)):
            assert _checks.random_key(key).shape == ()
            np.testing.assert_array_equal(jax.random.key_data(_checks.random_key(key)), expected)

    @pytest.mark.parametrize("key", [-1, 2**32, 2**70])
    def test_a_seed_that_jax_would_cut_off(self, key):
        with pytest.raises(ValueError, match=r"^rng_key: expected an int from 0 to"):
            _checks.random_key(key)

    def test_the_largest_seed_is_a_key_of_its_own(self):
        largest = jax.random.key_data(_checks.random_key(2**32 - 1))
        assert not np.array_equal(largest, jax.random.key_data(_checks.random_key(0)))

    @pytest.mark.parametrize("key", [None, True, 1.0, "0", [0, 1], np.zeros(2), np.arange(3)])
    def test_other_things_are_no_keys(self, key):
        with pytest.raises(TypeError, match=r"^rng_key: expected an int or one JAX key"):
            _checks.random_key(key)

    def test_several_keys_are_not_one(self):
        with pytest.raises(TypeError, match=r"^rng_key: expected an int or one JAX key"):
            _checks.random_key(jax.random.split(jax.random.key(0), 2))


class TestHeldWarnings:
    def test_are_kept_for_whoever_looks_at_them_first(self):
        with _checks.held_warnings() as told:
            _checks.warn("fit: one")
            with _checks.held_warnings() as inner:
                _checks.warn("fit: two")
        assert (told, inner) == (["fit: one"], ["fit: two"])
        with pytest.warns(UserWarning, match="fit: three"):
            _checks.warn("fit: three")
