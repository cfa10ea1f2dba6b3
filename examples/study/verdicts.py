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
_MARKS = {1: " ✓", -1: " ✗", 0: ""}


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
    span : tuple of two (str, float), optional
        Where the claim is that the two numbers are the same: they are if they differ, the whole
        interval, by no more than a tenth of the difference between these.
    """

    says: str
    column: str
    more: tuple[str, float]
    less: tuple[str, float] | None
    fits: tuple[str, ...] = ("MAP", "posterior")
    units: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    against: str = ""
    span: tuple[tuple[str, float], tuple[str, float]] | None = None


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
            found["span"] = _paired(chosen, fit, asked.span[0], fit, asked.span[1]).mean().abs()
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
    said = f"Of {len(cells)} networks, by {LEVEL:.0%} intervals over splits, {told}."
    if verdict(cells) != "depends":
        return said
    for level in ("fit", "units", "data"):
        groups = cells["says"].groupby(level=level, sort=False).mean()
        if len(groups) > 1 and np.ptp(groups) > 0.5:
            high = [str(name) for name in groups.index[groups > groups.mean()]]
            low = [str(name) for name in groups.index[groups <= groups.mean()]]
            return f"{said} By {level}: {', '.join(high)} rather than {', '.join(low)}."
    return said


def table(cells: pd.DataFrame) -> str:
    """Differences as a Markdown table: a row per data set, a column per kind of units and fit."""
    numbers = zip(cells["mean"], cells["error"], cells["says"], strict=True)
    texts = [_estimate(m, e) + _MARKS[says] for m, e, says in numbers]
    wide = pd.Series(texts, cells.index).unstack(["units", "fit"]).fillna("")
    wide.columns = [f"{units}, {fit}" for units, fit in wide.columns]
    order = cells.index.get_level_values("data").unique()
    lines = ["| | " + " | ".join(wide.columns) + " |", "| --- |" + " ---: |" * wide.shape[1]]
    lines += [f"| {name} | " + " | ".join(wide.loc[name]) + " |" for name in order]
    return "\n".join(lines)


def _estimate(mean: float, error: float) -> str:
    """A mean and its error, to two digits of the latter and three decimals at most."""
    if np.isnan(error):  # a single split has the number
        return f"{mean:.3f}"
    decimals = 3 if error == 0 else int(np.clip(1 - np.floor(np.log10(error)), 0, 3))
    return f"{mean:.{decimals}f} ± {error:.{decimals}f}"
