"""The experiments under examples/ run, briefly, and leave a table and figures behind."""

import importlib
from pathlib import Path

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("palmerpenguins")
matplotlib.use("Agg")

EXAMPLES = Path(__file__).parent.parent / "examples"
HELPER, MAX_LINES = "experiments.py", 80


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run one script's main in its tiny version: the table, and the folder that it wrote to."""
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def run(name, repetitions):
        script = importlib.import_module(name)
        return script.main(tmp_path, repetitions, seed=0, quick=True), tmp_path

    return run


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000


def said(capsys):
    return " ".join(capsys.readouterr().out.split())


def test_scripts_are_short():
    scripts = [path for path in EXAMPLES.glob("*.py") if path.name != HELPER]
    lengths = {path.name: len(path.read_text().splitlines()) for path in scripts}
    assert len(lengths) > 4
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


@pytest.mark.slow
def test_compare_priors(run, capsys):
    table, folder = run("compare_priors", 1.0)
    centers = ("zero", "random", "learned")
    rows = [f"{method}[{center}]" for method in ("MAP", "posterior") for center in centers]
    assert table.index.tolist() == ["flat MAP", *rows]
    assert table.loc["MAP[zero]", "test_diff"] == 0
    assert table.loc["flat MAP", "scale"] == "flat"
    assert np.isfinite(table[["lpd_train", "lpd_test", "test_diff", "rmse"]]).all(axis=None)
    # The random point is as far from zero as the learned weights.
    assert table.loc["MAP[random]", "loc"] == table.loc["MAP[learned]", "loc"]
    for name in ("comparison", "weights", "predictions"):
        assert is_png(folder / f"{name}.png")
    assert {path.stem for path in folder.glob("*.nc")} == {"flat_MAP", "MAP", "posterior"}
    assert (folder / "table.csv").exists()
    assert "posterior[learned] against posterior[zero]" in said(capsys)


@pytest.mark.slow
def test_same_width_other_center(run, capsys):
    table, folder = run("same_width_other_center", 2)
    assert set(table.index.unique("data")) == {"penguins", "teacher"}
    centers = ["zero", "reference", "random", "permuted", "mirrored", "0.5", "1.5"]
    for key in (("penguins", "tanh", "MAP"), ("teacher", "tanh", "posterior")):
        assert table.loc[key].index.tolist() == centers
        assert table.loc[(*key, "zero"), "gain"] == 0
    assert np.isfinite(table[["elpd", "elpd_se", "gain", "gap"]]).all(axis=None)
    assert (folder / "same_width_other_center.csv").exists()
    assert is_png(folder / "same_width_other_center.png")
    assert "posterior, of 2 networks against zero: reference" in said(capsys)


@pytest.mark.slow
def test_centered_at_truth(run, capsys):
    table, folder = run("centered_at_truth", 2)
    assert table.index.unique("rows").tolist() == [10, 20]
    assert np.isfinite(table).all(axis=None)
    assert (table.loc["zero", "gain"] == 0).all()
    for center in ("truth", "random"):
        gain = table.loc[center, "elpd"] - table.loc["zero", "elpd"]
        np.testing.assert_allclose(table.loc[center, "gain"], gain, rtol=1e-6)
    assert (folder / "centered_at_truth.csv").exists()
    assert is_png(folder / "centered_at_truth.png")
    assert "the prior centred at the truth" in said(capsys)


@pytest.mark.slow
def test_transfer(run, capsys):
    table, folder = run("transfer", 2)
    fits = table.index.unique("fit")
    assert {"from scratch", "L2", "L2-SP", "posterior as prior", "source only"} <= set(fits)
    assert table.loc["penguins"].index.unique("rows").tolist() == [5, 40]
    assert np.isfinite(table[["elpd", "elpd_se"]]).all(axis=None)
    # Without rows of the target, their number cannot matter.
    assert table.loc[("penguins", "source only"), "elpd"].nunique() == 1
    assert is_png(folder / "transfer.png")
    assert (folder / "transfer.csv").exists()
    assert "L2-SP against L2" in said(capsys)


@pytest.mark.slow
def test_posterior_worth(run, capsys):
    table, folder = run("posterior_worth", 2)
    ways = table.loc["penguins", 20]
    assert {"MAP, cv", "posterior, cv", "posterior, evidence"} <= set(ways.index)
    assert ways.loc["MAP, cv", "elpd_gain"] == 0
    assert np.isfinite(table[["elpd", "elpd_se", "error", "calibration_error"]]).all(axis=None)
    assert ways.loc["MAP, wide", "scale"] >= ways.loc["MAP, cv", "scale"]
    assert is_png(folder / "posterior_worth.png")
    assert (folder / "posterior_worth.csv").exists()
    assert "'posterior, cv' against 'MAP, cv'" in said(capsys)
