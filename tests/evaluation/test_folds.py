"""Folds by chance, by labels, by splitters and of groups, and the errors that go with them."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import weightprior as wp
from shared_fits import FRAME, LINEAR, ROUNDING, TARGET, point_fit

PRIOR = wp.stack_priors({s: wp.normal_prior(LINEAR, scale=s) for s in (0.3, 1.0, 3.0)})
GROUPS = np.array(list("aabbbbccddddddeefggg"))
selection = pytest.importorskip("sklearn.model_selection")


def validated(**options):
    return wp.cross_validate(LINEAR, FRAME, TARGET, prior=PRIOR, fit=point_fit, **options)


def test_groups_stay_together_and_errors_are_those_of_groups():
    found = validated(groups=GROUPS, num_folds=3)
    fold = found["fold_of_row"].to_numpy()
    assert all(len(set(fold[group == GROUPS])) == 1 for group in set(GROUPS))
    assert sorted(np.bincount(fold)) == [6, 7, 7]
    assert found["group"].to_numpy().tolist() == GROUPS.tolist()
    sums = found["elpd_i"].groupby("group").sum().transpose("prior", "group").to_numpy()
    np.testing.assert_allclose(found["elpd_se"], 7 * stats.sem(sums, axis=1), **ROUNDING)
    apart = sums - sums[found["elpd"].to_numpy().argmax()]
    np.testing.assert_allclose(found["elpd_diff_se"], 7 * stats.sem(apart, axis=1), **ROUNDING)


def test_groups_of_one_row_are_rows():
    by_row, by_group = validated(rng_key=1), validated(groups=np.arange(20) * 10, rng_key=1)
    np.testing.assert_array_equal(by_row["fold_of_row"], by_group["fold_of_row"])
    np.testing.assert_allclose(by_row["elpd_se"], by_group["elpd_se"], **ROUNDING)
    np.testing.assert_array_equal(by_row["prob_best"], by_group["prob_best"])


def test_labels_leave_errors_to_rows():
    found = validated(folds=GROUPS)
    assert found["fold"].to_numpy().tolist() == list("abcdefg")
    terms = found["elpd_i"].transpose("prior", "obs_id").to_numpy()
    np.testing.assert_allclose(found["elpd_se"], 20 * stats.sem(terms, axis=1), **ROUNDING)


def test_a_splitter_may_let_the_past_predict():
    splitter = selection.TimeSeriesSplit(n_splits=4, gap=1)
    seen = []

    def watched(*data, row_weights, **options):
        seen.append(row_weights[:4] > 0)
        return point_fit(*data, row_weights=row_weights, **options)

    found = wp.cross_validate(LINEAR, FRAME, TARGET, prior=PRIOR, fit=watched, folds=splitter)
    pairs = list(splitter.split(FRAME))
    for fold, (train, test) in enumerate(pairs):
        assert np.flatnonzero(seen[0][fold]).tolist() == train.tolist()
        np.testing.assert_array_equal(
            found["obs_id"][found["fold_of_row"] == fold], FRAME.index[test]
        )
    assert found.sizes["obs_id"] == sum(len(test) for _, test in pairs) < 20


def test_a_splitter_is_the_labels_that_it_makes():
    splitter = selection.GroupKFold(3)
    fold = np.empty(20, int)
    for label, (_, test) in enumerate(splitter.split(FRAME, TARGET, GROUPS)):
        fold[test] = label
    found, expected = (validated(folds=f, groups=GROUPS) for f in (splitter, fold))
    np.testing.assert_array_equal(found["fold_of_row"], expected["fold_of_row"])
    np.testing.assert_array_equal(found["elpd_se"], expected["elpd_se"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": GROUPS}, "num_folds: expected at most a fold per group, 7; got 10"),
        ({"groups": GROUPS[:5]}, r"groups: expected shape \(20,\)"),
        ({"groups": ["a"] * 20}, "groups: expected at least two different groups"),
        ({"groups": [None, *GROUPS[1:]]}, "groups: expected the group of every row; got None"),
        (
            {"groups": GROUPS, "folds": np.arange(20) % 2},
            "rows 1 and 0, of one group, on both sides of fold 0",
        ),
        (
            {"folds": selection.RepeatedKFold(n_splits=2, n_repeats=3)},
            "row 0 held out 3 times. Pass each repetition",
        ),
        (
            {"groups": pd.Series(GROUPS, index=FRAME.index[::-1])},
            r"groups: expected the index of x; .*Pass groups\.loc\[x\.index\]",
        ),
    ],
)
def test_folds_that_cannot_be_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        validated(**options)


def test_a_splitter_divides_the_rows_that_count():
    some = np.arange(20) % 5 != 2
    found = validated(folds=selection.KFold(4), row_weights=some)
    assert found["obs_id"].to_numpy().tolist() == np.asarray(FRAME.index)[some].tolist()
    np.testing.assert_array_equal(found["fold_of_row"], np.repeat(range(4), 4))
