"""Runs of the study: measured split by split, so that an interrupt loses little, and judged."""

import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from experiments import REAL

from study import identity, report
from study.measure import CHAINS, LADDER, Size, of_split

__all__ = ["UNITS", "judge", "measure"]

UNITS = ("tanh", "sigmoid", "relu")
# For every split of a real data set: teachers differ more than splits do, and are fitted faster.
TEACHERS = 3
INDEX = ["data", "units", "split", "fit", "center", "gain"]


def measure(
    folder: Path,
    splits: range,
    size: Size,
    units: Sequence[str] = UNITS,
    names: Sequence[str] = (*REAL, "teacher"),
    options: tuple[Any, Any] = (CHAINS, LADDER),
) -> None:
    """Measure each data set and kind of units; leave out those that the folder has already."""
    began = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    for name, kind in product(names, units):
        measured = _read(folder)
        count = len(splits) * (TEACHERS if name == "teacher" else 1)
        for split in range(splits.start, splits.start + count):
            if (name, kind, split) not in measured.index.droplevel(INDEX[3:]):
                found = {(name, kind, split): of_split(name, kind, split, size, *options)}
                measured = pd.concat([measured, pd.concat(found, names=INDEX[:3])])
        measured.to_csv(folder / "measured.csv")
        print(f"  {name}, {kind} after {time.perf_counter() - began:.0f} s", flush=True)


def judge(folder: Path, beside: Mapping[str, Path]) -> pd.DataFrame:
    """Write tables, figures and verdicts of a run; return the verdicts, beside those of others."""
    others = {name: _read(path) for name, path in beside.items()}
    verdicts = report.write(folder, _read(folder), identity.table(), others)
    print(verdicts.to_string(index=False, max_colwidth=90))
    return verdicts


def _read(folder: Path) -> pd.DataFrame:
    """Read what a run has measured so far; `split` is the seed of each."""
    path = folder / "measured.csv"
    if path.exists():
        return pd.read_csv(path).set_index(INDEX)
    return pd.DataFrame(index=pd.MultiIndex.from_arrays([[]] * len(INDEX), names=INDEX))
