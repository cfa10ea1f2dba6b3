"""From numbers to a plain verdict: confirmed, refuted, or depends on what."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

# The level of a difference's interval over splits; the share of networks that settles a claim.
LEVEL, MOST = 0.95, 0.75
# Of what a width changes: what a centre may change and still be called the same.
NEGLIGIBLE = 0.1
# Beside a number: it bears the claim out, contradicts it, or does neither.
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
        Centre and gain at which it is to be larger, and at which smaller; than nought where there
        is no second.
    fits : tuple of str
        Of which fits it is asked.
    units, data : tuple of str
        Of which networks; all by default.
    against : str, optional
        The fit that the second number is of, where it is another one.
    span : tuple of (str, float), optional
        Where the claim is that the two numbers are the same: they are if they differ, the whole
        interval, by no more than a tenth of what the means at these span.
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
    """Mean over splits of each network's difference, its standard error, and what that says."""
    chosen = measured[asked.column]
    names = ("data", "units")
    for name, wanted in zip(names, (asked.data, asked.units), strict=True):
        if wanted:
            chosen = chosen[chosen.index.get_level_values(name).isin(wanted)]
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
    """Differences of every split, by network."""
    levels = ("fit", "center", "gain")
    found = chosen.xs((fit, *more), level=levels)
    if less is not None:
        found = found - chosen.xs((other_fit, *less), level=levels)
    return found.dropna().groupby(level=["data", "units"], sort=False)


def _span(chosen: pd.Series, fit: str, among: tuple[Any, ...]) -> pd.Series:
    """How far apart the means over splits are, by network."""
    means = [_paired(chosen, fit, one, fit, None).mean() for one in among]
    return pd.concat(means, axis="columns").agg(np.ptp, axis="columns")


def verdict(cells: pd.DataFrame) -> str:
    """One word for a claim, by how many networks bear it out and how many contradict it."""
    borne_out, contradicted = (cells["says"] == 1).mean(), (cells["says"] == -1).mean()
    if borne_out >= MOST and contradicted <= 1 - MOST:
        return "confirmed"
    if borne_out <= 1 - MOST and contradicted >= borne_out:
        return "refuted" if contradicted >= MOST else "not confirmed"
    return "depends"


def sentence(cells: pd.DataFrame, asked: Question) -> str:
    """The counts behind a verdict, and which groups differ."""
    counts = [int((cells["says"] == sign).sum()) for sign in (1, -1, 0)]
    words = ("bear it out", "contradict it", "do neither")
    told = ", ".join(f"{n} {word}" for n, word in zip(counts, words, strict=True))
    said = f"Of {len(cells)} networks, by {100 * LEVEL:.0f} % intervals over splits, {told}."
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
    """How far each group bears a claim out: from minus one to one."""
    return cells["says"].groupby(level=level, sort=False).mean()


def table(cells: pd.DataFrame) -> str:
    """Differences as a Markdown table: a row per fit and data set, a column per kind of units."""
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
    """A mean and its error, to two digits of the latter and three decimals at most."""
    if np.isnan(error):  # a single split has the number
        return f"{mean:.3f}"
    decimals = 3 if error == 0 else int(np.clip(1 - np.floor(np.log10(error)), 0, 3))
    return f"{mean:.{decimals}f} ± {error:.{decimals}f}".replace(" ", "\N{NO-BREAK SPACE}")
