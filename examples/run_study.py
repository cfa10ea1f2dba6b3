"""The study: what people say of small weights, measured on four real data sets and on teachers.

Networks of tanh, sigmoid and relu units are fitted to forty rows, as MAP and by their posterior,
under priors of five widths around zero and, at one width, around four other centres. What each
claim comes to in numbers stands in ``study/claims.py``; differences are paired by split, and judged
by their standard errors over splits. Everything that was measured is kept, in ``measured.csv``.

    python examples/run_study.py --splits 6 --out docs/study
    python examples/run_study.py --judge --out docs/study      # anew, from what was measured
    python examples/run_study.py --splits 6 --seed 100 --out demo_output/again
    python examples/run_study.py --judge --out docs/study --again demo_output/again
"""

import argparse
import time
from itertools import product
from pathlib import Path

import pandas as pd
from datasets import REAL
from many_fits import arguments_of
from study import identity, report
from study.measure import CHAINS, LADDER, of_split

UNITS = ("tanh", "sigmoid", "relu")
# For every split of a real data set: teachers differ more than splits do, and are fitted faster.
TEACHERS = 3
INDEX = ["data", "units", "split", "fit", "center", "gain"]
QUICK = (
    {"num_chains": 2, "num_warmup": 50, "num_samples": 50},
    {"num_temperatures": 4, "num_samples": 50, "num_chains": 4},
)


def main(folder: Path, num_splits: int, seed: int, quick: bool = False) -> pd.DataFrame:
    """Measure, judge, write; return the verdicts."""
    began = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    names, units, options = (*REAL, "teacher"), UNITS, (CHAINS, LADDER)
    if quick:
        names, units, options, num_splits = ("penguins", "teacher"), ("tanh", "relu"), QUICK, 2
    print("weightprior: the study", flush=True)
    for name, kind in product(names, units):
        count = num_splits * (TEACHERS if name == "teacher" else 1)
        measured = read(folder)
        for split in range(seed, seed + count):
            if (name, kind, split) not in measured.index.droplevel(INDEX[3:]):
                found: dict = {(name, kind, split): of_split(name, kind, split, *options)}
                measured = pd.concat([measured, pd.concat(found, names=INDEX[:3])])
        # After each, so that an interrupt loses none of those before: the same call goes on.
        measured.to_csv(folder / "measured.csv")
        print(f"  {name}, {kind} after {time.perf_counter() - began:.0f} s", flush=True)
    return judge(folder)


def judge(folder: Path, again: Path | None = None) -> pd.DataFrame:
    """From what was measured: tables, figures, verdicts; beside them those of another run."""
    other = None if again is None else read(again)
    verdicts = report.write(folder, read(folder), identity.table(), other)
    print(verdicts.to_string(index=False, max_colwidth=90))
    return verdicts


def read(folder: Path) -> pd.DataFrame:
    """What a run has measured so far; `split` is the seed of each."""
    path = folder / "measured.csv"
    if path.exists():
        return pd.read_csv(path).set_index(INDEX)
    return pd.DataFrame(index=pd.MultiIndex.from_arrays([[]] * len(INDEX), names=INDEX))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo_output/study"))
    parser.add_argument("--splits", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0, help="of the first split")
    parser.add_argument("--judge", action="store_true", help="measure nothing")
    parser.add_argument("--again", type=Path, help="folder of another run, judged beside")
    parser.add_argument("--quick", action="store_true", help="two data sets, two splits: a test")
    arguments = arguments_of(parser)
    if arguments.judge:
        judge(arguments.out, arguments.again)
    else:
        main(arguments.out, arguments.splits, arguments.seed, arguments.quick)
