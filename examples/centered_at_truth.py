"""Centred at the truth: how much does such a prior gain, and up to how many rows?

Networks are drawn from a Gaussian prior around zero, and data from each network. Posteriors see the
first 10 to 1,000 rows, under priors of one width. These are centred at the true weights, at zero,
and at the weights of four other networks, over which the mean is taken. Without knowing more, zero
is the best centre, as the truth was drawn around it. So the log density of 500 other rows is
compared with that under the prior around zero, network by network.

    python examples/centered_at_truth.py             # a few minutes on two cores
"""

from pathlib import Path

import experiments as ex
import numpy as np
import pandas as pd

import weightprior as wp

# Nearly as many inputs as the fewest rows, so that these rows leave much to the prior.
NUM_INPUTS, NUM_TEST, NUM_RANDOM = 8, 500, 4


def main(folder: Path, teachers: int, seed: int, width: float = 1.0, quick: bool = False):
    """Score the posteriors of every teacher's data; print, draw and return the means."""
    measured = ex.repeat(of_teacher, [width, quick], range(seed, seed + teachers))
    elpd = measured[["elpd"]]
    table = ex.summarise(elpd.assign(gain=ex.gains(elpd, "center", "zero")))
    rhat = measured["rhat"].groupby(level=["rows", "split"]).max().groupby(level="rows")
    table = table.join(rhat.quantile(0.9), on="rows").loc[["truth", "zero", "random"]]
    table.to_csv(folder / "centered_at_truth.csv")

    title = "Held-out nats per row by the prior's centre: mean ± standard error over teachers."
    text = {"nats": ex.cells(table, "elpd", ""), "against zero": ex.cells(table, "gain")}
    text["R-hat of 9 in 10"] = table["rhat"].map("up to {:.2f}".format)
    ex.show(title, pd.DataFrame(text))
    few, *_, many = table.index.unique("rows")
    gain, ratio = table["gain"], table["gain"] / table["gain_se"]
    ex.say(
        f"With {few} rows the prior centred at the truth gains {gain['truth', few]:+.3f} nats per "
        f"row over the one at zero ({ratio['truth', few]:+.1f} standard errors), and those centred "
        f"at other networks {gain['random', few]:+.3f} ({ratio['random', few]:+.1f}). With "
        f"{many:,} rows this is {gain['truth', many]:+.4f} and {gain['random', many]:+.4f}."
    )
    columns = {"log density": "elpd", "difference from the prior at zero": "gain"}
    panels = {t: ex.spread_out(table, name, "center") for t, name in columns.items()}
    styles = [(ex.GREEN, "o-"), (ex.BLUE, "s-"), (ex.ORANGE, "^-")]
    ex.draw(folder / "centered_at_truth.png", panels, styles, "rows that were fitted")
    return table


def of_teacher(seed: int, width: float, quick: bool) -> pd.DataFrame:
    """Score the posteriors of one teacher's data, by centre and number of rows."""
    # Every fit of a call takes as long as those of its most rows.
    calls = [[10, 20]] if quick else [[10, 30, 100], [1000]]
    options = ex.chains(50, 50) if quick else ex.chains(250, 300)
    bnn = wp.BNN(wp.mlp(NUM_INPUTS, hidden=(5,)), wp.Gaussian(noise=0.5))
    world = wp.normal_prior(bnn, scale=wp.fan_in_scale(bnn))
    x = np.random.default_rng(seed).normal(size=(max(calls[-1]) + NUM_TEST, NUM_INPUTS))
    truth, y = wp.simulate(bnn, x, prior=world, rng_key=seed)
    drawn = {"num_samples": NUM_RANDOM, "rng_key": 10_000 + seed}
    others = wp.prior_predictive(bnn, x[:1], prior=world, **drawn)["prior"].isel(chain=0)
    locs = {f"random {i}": others.isel(draw=i) for i in range(NUM_RANDOM)}
    locs, scale = {"truth": truth, "zero": 0.0} | locs, wp.fan_in_scale(bnn, width)
    priors = wp.stack_priors({n: wp.normal_prior(bnn, loc, scale) for n, loc in locs.items()})
    test, found = ex.Data(x[-NUM_TEST:], y[-NUM_TEST:]), []
    for counts in calls:
        data = bnn, ex.Data(x[: max(counts)], y[: max(counts)]), test
        scores = ex.over_rows(ex.short_chains, *data, priors, counts, rng_key=seed, **options)
        found.append(scores.rename(lambda label: label.split()[0], level="fit"))
    by_center = pd.concat(found).rename_axis(["center", "rows"]).groupby(level=[0, 1], sort=False)
    return by_center.agg({"elpd": "mean", "rhat": "max"})


if __name__ == "__main__":
    ex.run(main, teachers=50, width=1.0)
