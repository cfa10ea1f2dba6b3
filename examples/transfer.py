"""Transfer: what to carry over from many rows of one kind to few rows of another?

A data set is halved by one of its inputs. The lower half, the source, pretrains a network. Of the
upper half, the target, only 5 to 40 rows are known, and all others are for testing. Compared are

- from scratch: the MAP under a prior ten times as wide, which hardly regularises;
- L2, zero posterior: MAP and posterior under a prior around zero;
- L2-SP, centred posterior: the same under a prior as wide around the pretrained weights;
- posterior as prior: the source's posterior is the prior, as it is, or four times as wide;
- source only: the source's posterior, without any row of the target.

    python examples/transfer.py             # a few minutes on two cores
"""

from functools import cache
from pathlib import Path

import experiments as ex
import pandas as pd

import weightprior as wp

HALVED_BY = {"diabetes": "bmi", "penguins": "flipper_length_mm"}
AS_PRIOR, WIDER = "posterior as prior", "posterior as prior, 4 x wider"
PAIRS = [("L2-SP", "L2"), (AS_PRIOR, "zero posterior"), (WIDER, AS_PRIOR)]
MARKS = ["x-", "s-", "s-", "o--", "o--", "D--", "^--", ":"]
COLORS = [ex.ORANGE, ex.BLUE, ex.GREEN, ex.BLUE, ex.GREEN, ex.RED, ex.PURPLE, "black"]


def main(folder: Path, splits: int, seed: int, gain: float = 1.0, quick: bool = False):
    """Fit in every way on every split; print, draw and return the means."""
    names = ["penguins"] if quick else list(HALVED_BY)
    measured = ex.repeat(on_target, [gain, quick], range(seed, seed + splits), data=names)
    table = ex.summarise(measured[["elpd"]])
    table["rhat"] = measured["rhat"].groupby(level=table.index.names).quantile(0.9)
    table.to_csv(folder / "transfer.csv")
    text = ex.cells(table, "elpd", "").unstack("rows", sort=False)
    ex.show(f"Held-out nats per row, by rows of the target ({ex.OVER_SPLITS}):", text)
    for (name, rows), elpd in measured["elpd"].unstack("fit").groupby(level=["data", "rows"]):
        said = [f"{a} against {b} {ex.judged(elpd[a] - elpd[b])}" for a, b in PAIRS]
        ex.say(f"{name}, {rows} rows: {'; '.join(said)}. Best on average: {elpd.mean().idxmax()}.")
    panels = ex.panels(table, "elpd", "fit", ["data"], "{}")
    across = "rows of the target that were fitted (solid: MAP, dashed: posterior)"
    ex.draw(folder / "transfer.png", panels, zip(COLORS, MARKS, strict=True), across, depth=1.5)
    return table


@cache
def pretrain(name: str, gain: float, quick: bool):
    """Fit the source, and make priors for the target: once for all splits."""
    source, target = ex.halves(ex.REAL[name](), HALVED_BY[name], 40 if quick else None)
    bnn = wp.BNN(ex.perceptron("tanh")(source), ex.likelihood(source))
    zero = wp.normal_prior(bnn, scale=wp.fan_in_scale(bnn, gain))
    weak = wp.normal_prior(bnn, scale=wp.fan_in_scale(bnn, 10 * gain))
    centred = wp.normal_prior(bnn, ex.optima(bnn, *source[:2], prior=zero), zero.scale)
    # All chains start at one optimum: the mean over several would lie between them.
    options = ex.chains(100, 50) if quick else ex.chains(300, 500, 4)
    posterior = ex.short_chains(bnn, *source[:2], prior=zero, init=centred.loc, **options)
    maps = {"from scratch": weak, "L2": zero, "L2-SP": centred}
    posteriors = {"zero posterior": zero, "centred posterior": centred}
    posteriors[AS_PRIOR] = wp.posterior_as_prior(bnn, posterior)
    posteriors[WIDER] = wp.posterior_as_prior(bnn, posterior, widen=4.0)
    return target, bnn, posterior, wp.stack_priors(maps), wp.stack_priors(posteriors)


def on_target(name: str, seed: int, gain: float, quick: bool) -> pd.DataFrame:
    """Score every way on one split of the target, at every number of rows."""
    target, bnn, source, maps, posteriors = pretrain(name, gain, quick)
    known, test = ex.shuffled(target, [40], seed)
    data, chains = (bnn, known, test), ex.chains(100, 50) if quick else ex.chains(200, 250)
    options = {"counts": [5, 40] if quick else [5, 10, 20, 40], "rng_key": seed}
    found = [ex.over_rows(ex.optima, *data, maps, **options)]
    found.append(ex.over_rows(ex.short_chains, *data, posteriors, **options, **chains))
    keys = pd.MultiIndex.from_product([["source only"], options["counts"]], names=["fit", "rows"])
    found.append(pd.DataFrame({"elpd": ex.held_out(bnn, source, *test[:2]).item()}, keys))
    return pd.concat(found)


if __name__ == "__main__":
    ex.run(main, splits=20, gain=1.0)
