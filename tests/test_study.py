"""What the study makes of numbers: differences by split, and verdicts; and that it runs."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("matplotlib").use("Agg")
pytest.importorskip("palmerpenguins")

EXAMPLES = Path(__file__).parent.parent / "examples"
NO_BREAK = "\N{NO-BREAK SPACE}"
NARROW, RIGHT, WIDE = ("zero", 0.1), ("zero", 1.0), ("zero", 10.0)


@pytest.fixture
def verdicts(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("study.verdicts")


def measured(values):
    """A number of one fit, by data, kind of units, centre and gain: as many splits as values."""
    rows = {
        (data, units, split, "MAP", *prior): value
        for (data, units, prior), splits in values.items()
        for split, value in enumerate(splits)
    }
    index = pd.MultiIndex.from_tuples(
        rows, names=["data", "units", "split", "fit", "center", "gain"]
    )
    return pd.DataFrame({"number": list(rows.values())}, index)


def test_differences_are_paired_by_split(verdicts):
    found = measured(
        {("a", "tanh", WIDE): [11.0, 21.0, 31.3], ("a", "tanh", RIGHT): [10.0, 20.0, 30.0]}
    )
    asked = verdicts.Question("", "number", WIDE, RIGHT, fits=("MAP",))
    [cell] = verdicts.differences(found, asked).itertuples()
    assert cell.mean == pytest.approx(1.1)
    assert cell.error == pytest.approx(np.std([1.0, 1.0, 1.3], ddof=1) / np.sqrt(3))
    assert cell.says == 1
    turned = verdicts.Question("", "number", RIGHT, WIDE, fits=("MAP",))
    assert verdicts.differences(found, turned)["says"].tolist() == [-1]
    alone = verdicts.Question("", "number", WIDE, None, fits=("MAP",))
    assert verdicts.differences(found, alone)["mean"].item() == pytest.approx(21.1)


def test_the_same_is_what_differs_little_beside_what_widths_change(verdicts):
    random = ("random", 1.0)
    # Gain 1 is best of all: what widths change is not the difference between the other two.
    widths = {("a", "tanh", NARROW): [0.0, 0.0], ("a", "tanh", WIDE): [0.0, 0.0]}
    asked = verdicts.Question(
        "", "number", random, RIGHT, fits=("MAP",), span=(NARROW, RIGHT, WIDE)
    )
    for at_random, says in (([9.6, 9.6], 1), ([8.0, 8.0], -1), ([8.1, 10.0], 0)):
        found = measured(
            widths | {("a", "tanh", RIGHT): [10.0, 10.0], ("a", "tanh", random): at_random}
        )
        assert verdicts.differences(found, asked)["says"].tolist() == [says]


@pytest.mark.parametrize(
    ("says", "word"),
    [
        ([1, 1, 1, 0], "confirmed"),
        ([-1, -1, -1, 0], "refuted"),
        ([0, 0, 0, 0], "not confirmed"),
        ([1, 1, -1, -1], "depends"),
    ],
)
def test_verdicts_count_networks(verdicts, says, word):
    index = pd.MultiIndex.from_product([["a", "b"], ["tanh", "relu"], ["MAP"]])
    cells = pd.DataFrame(
        {"mean": 1.0, "error": 0.1, "says": says}, index.set_names(["data", "units", "fit"])
    )
    assert verdicts.verdict(cells) == word


def test_what_a_claim_depends_on_is_named(verdicts):
    index = pd.MultiIndex.from_product(
        [["a", "b"], ["tanh", "relu"], ["MAP"]], names=["data", "units", "fit"]
    )
    cells = pd.DataFrame({"mean": 1.0, "error": 0.1, "says": [1, -1, 1, -1]}, index)
    asked = verdicts.Question("", "number", WIDE, RIGHT)
    told = verdicts.sentence(cells, asked)
    assert "By units, for and against: tanh 2 and 0, relu 0 and 2." in told


def test_the_table_shows_what_there_is(verdicts):
    index = pd.MultiIndex.from_product(
        [["a", "b"], ["tanh"], ["MAP"]], names=["data", "units", "fit"]
    )
    cells = pd.DataFrame({"mean": [1.2345, 2.0], "error": [0.034, np.nan], "says": [1, 0]}, index)
    assert verdicts.table(cells).splitlines()[2:] == [
        f"| MAP | a | {'1.234 ± 0.034 ✓'.replace(' ', NO_BREAK)} |",
        "|  | b | 2.000 |",
    ]


def test_a_claim_that_is_asked_of_no_network_has_no_verdict(verdicts):
    asked = verdicts.Question("", "number", WIDE, RIGHT, units=("relu",))
    found = measured({("a", "tanh", WIDE): [11.0, 21.0], ("a", "tanh", RIGHT): [10.0, 20.0]})
    assert verdicts.verdict(verdicts.differences(found, asked)) == ""


QUICK = (
    {"num_chains": 2, "num_warmup": 50, "num_samples": 50},
    {"num_temperatures": 4, "num_samples": 50, "num_chains": 4},
)


@pytest.fixture
def runs(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("study.runs")


@pytest.mark.slow
def test_it_runs(runs, monkeypatch, tmp_path):
    given = range(2), runs.Size(), ("tanh", "relu"), ("penguins", "teacher"), QUICK
    runs.measure(tmp_path, *given)
    found = runs.judge(tmp_path, {})
    assert found["verdict"].isin(["confirmed", "refuted", "not confirmed", "depends"]).all()
    assert found["verdict"][0] == "confirmed"  # the claim that is exact
    assert len(list(tmp_path.glob("*.png"))) == len(sys.modules["study.claims"].CLAIMS)
    # The same call again has nothing left to measure.
    monkeypatch.setattr(runs, "of_split", None)
    runs.measure(tmp_path, *given)
    pd.testing.assert_frame_equal(runs.judge(tmp_path, {}), found)
    # Beside itself, all is the same.
    beside = runs.judge(tmp_path, {"again": tmp_path})[1:]
    assert (beside["verdict"] == beside["again"]).all()
    told = (tmp_path / "verdicts.md").read_text()
    assert f"Again: {len(beside)} of {len(beside)} verdicts are the same, and none of" in told


@pytest.mark.slow
def test_other_sizes_and_a_network_from_elsewhere_run(runs, tmp_path):
    runs.measure(tmp_path, range(2), runs.Size(4, 60), ("residual",), ("penguins",), QUICK)
    found = runs.judge(tmp_path, {}).set_index("question")["verdict"]
    of_relu = found.index.str.contains("kink|linear at gain|linear under a narrow")
    assert (found[of_relu] == "").all()
    assert found["A wide prior leaves more effective parameters than a narrow one."]
