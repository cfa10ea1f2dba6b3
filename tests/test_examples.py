"""The experiments under examples/ run, briefly, and leave a table and figures behind."""

import importlib
from pathlib import Path

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("palmerpenguins")
matplotlib.use("Agg")

EXAMPLES = Path(__file__).parent.parent / "examples"


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


@pytest.mark.slow
def test_same_width_other_center(run, capsys):
    table, folder = run("same_width_other_center", 2)
    assert set(table.index.unique("data")) == {"penguins", "teacher"}
    centers = ["zero", "reference", "random", "permuted", "mirrored", "0.5", "1.5"]
    for key in (("penguins", "tanh", "MAP"), ("teacher", "tanh", "posterior")):
        assert table.loc[key].index.tolist() == centers
        assert table.loc[(*key, "zero"), "gain"] == 0
    assert np.isfinite(table[["elpd", "elpd_se", "gain", "gap"]]).all(axis=None)
    assert is_png(folder / "other_centers.png")
    assert is_png(folder / "center_path.png")
    assert "nats per row" in capsys.readouterr().out


@pytest.mark.slow
def test_centered_at_truth(run, capsys):
    table, folder = run("centered_at_truth", 2)
    assert table.index.tolist() == [10, 20]
    assert np.isfinite(table).all(axis=None)
    np.testing.assert_allclose(table["truth_gain"], table["truth"] - table["zero"], rtol=1e-6)
    assert is_png(folder / "centered_at_truth.png")
    assert "the prior centred at the truth" in " ".join(capsys.readouterr().out.split())


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
    assert "L2-SP against L2" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_posterior_worth(run, capsys):
    table, folder = run("posterior_worth", 2)
    ways = table.loc["penguins", 20]
    assert {"MAP, cv", "posterior, cv", "posterior, evidence"} <= set(ways.index)
    assert ways.loc["MAP, cv", "elpd_gain"] == 0
    assert np.isfinite(table[["elpd", "elpd_se", "error", "calibration_error"]]).all(axis=None)
    assert ways.loc["MAP, wide", "scale"] >= ways.loc["MAP, cv", "scale"]
    assert is_png(folder / "posterior_worth.png")
    assert "'posterior, cv' against 'MAP, cv'" in " ".join(capsys.readouterr().out.split())
