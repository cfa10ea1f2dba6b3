"""From numbers to a plain verdict: confirmed, refuted, or depends on what."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

# The level of a difference's interval over splits; the share of networks that settles a claim.
LEVEL, MOST = 0.95, 0.75
# Of what a width changes: what a centre may change and still be called the same.
NEGLIGIBLE = 0.1
# Beside a number: it supports the claim, contradicts it, or does neither.
_MARKS = {1: "\N{NO-BREAK SPACE}✓", -1: "\N{NO-BREAK SPACE}✗", 0: ""}


class Question(NamedTuple):
    """A claim about one number, asked of every network.

    Attributes
    ----------
    says : str
        The claim, as a sentence about the number.
    column : str
        The number.
    more, less : tuple of str and float
        Centre and gain of the number that should be larger, and of the one that should be smaller.
        Without the second, the number should be above 0.
    fits : tuple of str
        Fits that the question is about.
    units, data : tuple of str
        Networks that it is about; all by default.
    against : str, optional
        Fit of the second number, if it is another one.
    span : tuple of (str, float), optional
        Given if the claim is that the two numbers are equal. They are if the interval of their
        difference stays within a tenth of the range of the means at these.
    """

    says: str
    column: str
    more: tuple[str, float]
    less: tuple[str, float] | None
    fits: tuple[str, ...] = ("MAP", "posterior")
    units: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    against: str = ""
    span: tuple[tuple[str, float], ...] | None = None


def differences(measured: pd.DataFrame, asked: Question) -> pd.DataFrame:
    """Average each network's difference over splits, with its standard error and its sign."""
    names = ("data", "units")
    nothing = pd.DataFrame(
        columns=["mean", "error", "says"],
        index=pd.MultiIndex.from_arrays([[]] * 3, names=[*names, "fit"]),
    )
    if asked.column not in measured:
        return nothing
    chosen = measured[asked.column]
    for name, wanted in zip(names, (asked.data, asked.units), strict=True):
        if wanted:
            chosen = chosen[chosen.index.get_level_values(name).isin(wanted)]
    if chosen.empty:
        return nothing
    rows = []
    for fit in asked.fits:
        paired = _paired(chosen, fit, asked.more, asked.against or fit, asked.less)
        found = pd.DataFrame({"mean": paired.mean(), "error": paired.sem(), "n": paired.count()})
        if asked.span is not None:
            found["span"] = _span(chosen, fit, asked.span)
        rows.append(found.assign(fit=fit).set_index("fit", append=True))
    cells = pd.concat(rows)
    half = stats.t.isf((1 - LEVEL) / 2, cells.pop("n") - 1) * cells["error"]
    low, high = cells["mean"] - half, cells["mean"] + half
    if asked.span is None:
        return cells.assign(says=np.where(low > 0, 1, np.where(high < 0, -1, 0)))
    most = NEGLIGIBLE * cells["span"]
    same, other = (low > -most) & (high < most), (low > most) | (high < -most)
    return cells.assign(says=np.where(same, 1, np.where(other, -1, 0)))


def _paired(chosen: pd.Series, fit: str, more: Any, other_fit: str, less: Any) -> Any:
    """Take the differences of every split, by network."""
    levels = ("fit", "center", "gain")
    found = chosen.xs((fit, *more), level=levels)
    if less is not None:
        found = found - chosen.xs((other_fit, *less), level=levels)
    return found.dropna().groupby(level=["data", "units"], sort=False)


def _span(chosen: pd.Series, fit: str, among: tuple[Any, ...]) -> pd.Series:
    """Measure the range of the means over splits, by network."""
    means = [_paired(chosen, fit, one, fit, None).mean() for one in among]
    return pd.concat(means, axis="columns").agg(np.ptp, axis="columns")


def verdict(cells: pd.DataFrame) -> str:
    """Judge a claim by the networks for it and against it; nothing where none was asked."""
    if not len(cells):
        return ""
    support, contradict = (cells["says"] == 1).mean(), (cells["says"] == -1).mean()
    if support >= MOST and contradict <= 1 - MOST:
        return "confirmed"
    if support <= 1 - MOST and contradict >= support:
        return "refuted" if contradict >= MOST else "not confirmed"
    return "depends"


def sentence(cells: pd.DataFrame, asked: Question) -> str:
    """Tell the counts behind a verdict, and the groups that differ."""
    counts = [int((cells["says"] == sign).sum()) for sign in (1, -1, 0)]
    words = ("for it", "against it", "undecided")
    told = ", ".join(f"{n} {word}" for n, word in zip(counts, words, strict=True))
    said = f"Of {len(cells)} networks, by {100 * LEVEL:.0f} % intervals over splits: {told}."
    if verdict(cells) != "depends":
        return said
    level = max(cells.index.names, key=lambda name: np.ptp(_means(cells, name)))
    if np.ptp(_means(cells, level)) <= MOST - 0.5:
        return said
    groups = cells["says"].groupby(level=level, sort=False)
    by = ", ".join(
        f"{name} {(said_by == 1).sum()} and {(said_by == -1).sum()}" for name, said_by in groups
    )
    return f"{said} By {level}, for and against: {by}."


def _means(cells: pd.DataFrame, level: str) -> pd.Series:
    """Average the answers of each group: 1 where all support a claim, -1 where all contradict."""
    return cells["says"].groupby(level=level, sort=False).mean()


def table(cells: pd.DataFrame) -> str:
    """Format differences as a Markdown table, a row per fit and data set, a column per units."""
    numbers = zip(cells["mean"], cells["error"], cells["says"], strict=True)
    texts = [_estimate(m, e) + _MARKS[says] for m, e, says in numbers]
    wide = pd.Series(texts, cells.index).unstack("units", sort=False).fillna("")
    heads = ("fit", "data", *wide.columns)
    lines = [_line(heads), _line(["---"] * 2 + ["---:"] * wide.shape[1])]
    order = wide.reset_index().groupby(["fit", "data"], sort=False)
    told = ""
    for (fit, data), row in order:
        lines.append(_line(["" if fit == told else fit, data, *row[wide.columns].iloc[0]]))
        told = fit
    return "\n".join(lines)


def _line(cells: Any) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _estimate(mean: float, error: float) -> str:
    """Write a mean and its error, to two digits of the latter and three decimals at most."""
    if np.isnan(error):  # a single split has the number
        return f"{mean:.3f}"
    decimals = 3 if error == 0 else int(np.clip(1 - np.floor(np.log10(error)), 0, 3))
    return f"{mean:.{decimals}f} ± {error:.{decimals}f}".replace(" ", "\N{NO-BREAK SPACE}")
