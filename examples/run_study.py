"""The study: common reasons for small weights, measured on four real data sets and on teachers.

Networks are fitted as MAP and by their posterior, under priors of five widths around zero and, at
one width, around four other centres. ``study/claims.py`` says what each claim means in numbers.
Differences are paired by split, and judged by their standard errors over splits. Everything that is
measured is kept, in ``measured.csv``, and the same call goes on after an interrupt.

    python examples/run_study.py --out docs/study
    python examples/run_study.py --seed 100 --out demo_output/other
    python examples/run_study.py --brief --hidden 32 --out demo_output/wide
    python examples/run_study.py --judge --out docs/study --beside "32 units=demo_output/wide"
"""

import argparse
from pathlib import Path

from experiments import REAL, arguments_of
from study.measure import CHAINS, LADDER, Size
from study.runs import UNITS, judge, measure

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo_output/study"))
    parser.add_argument("--splits", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0, help="of the first split")
    parser.add_argument("--units", nargs="+", default=UNITS, choices=(*UNITS, "residual"))
    parser.add_argument("--hidden", type=int, default=8, help="hidden units")
    parser.add_argument("--rows", type=int, default=40, help="rows that are fitted")
    parser.add_argument("--data", nargs="+", default=(*REAL, "teacher"), help="data sets")
    parser.add_argument("--brief", action="store_true", help="no evidence, most of the time")
    parser.add_argument("--judge", action="store_true", help="measure nothing")
    parser.add_argument("--beside", nargs="*", default=[], help="NAME=FOLDER of other runs")
    told = arguments_of(parser)
    if not told.judge:
        splits = range(told.seed, told.seed + told.splits)
        options = CHAINS, None if told.brief else LADDER
        measure(told.out, splits, Size(told.hidden, told.rows), told.units, told.data, options)
    if not told.brief:
        judge(told.out, {name: Path(path) for name, path in (p.split("=") for p in told.beside)})
