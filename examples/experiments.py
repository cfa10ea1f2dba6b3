"""Parts that the experiments share: data, many small fits, their scores, tables and figures.

Nothing is downloaded: three data sets are scikit-learn's, one is palmerpenguins'. An experiment
repeats a comparison over splits, or over teachers: networks that are drawn from a prior. It prints
means over these, with standard errors. With ``--dask ADDRESS`` its fits go to a cluster.
"""

import argparse
import textwrap
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial, wraps
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from jax.scipy.special import logsumexp
from palmerpenguins import load_penguins
from sklearn import datasets
from sklearn.linear_model import LinearRegression
from tqdm import tqdm

import weightprior as wp

# Rows that teach a reference; outputs by which the agreement of chains is judged.
NUM_OTHER, NUM_WATCHED = 40, 5
TEACHER_NOISE = 0.5
NATS, OVER_SPLITS = "held-out nats per row", "mean ± standard error over splits"
# Okabe and Ito's colours.
BLUE, ORANGE, GREEN, RED, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
MAP_AND_POSTERIOR = [(RED, "s-"), (BLUE, "o-")]


class Data(NamedTuple):
    """Inputs, targets, and the number of classes: 0 where the targets are numbers."""

    x: pd.DataFrame
    y: pd.Series
    num_classes: int = 0

    def rows(self, chosen) -> "Data":
        """Take these rows."""
        return Data(self.x.iloc[chosen], self.y.iloc[chosen], self.num_classes)


def diabetes() -> Data:
    """Progression of the diabetes of 442 patients in a year, from ten measurements."""
    return Data(*datasets.load_diabetes(return_X_y=True, as_frame=True, scaled=False))


def penguins() -> Data:
    """Weights of 333 penguins of three species, from bill, flipper and sex."""
    found = load_penguins().dropna()
    x = found[["bill_length_mm", "bill_depth_mm", "flipper_length_mm"]]
    return Data(x.assign(male=(found["sex"] == "male") * 1.0), found["body_mass_g"])


def cancer() -> Data:
    """Tumours, 569 of them, benign or not, from thirty measurements of their cells."""
    return Data(*datasets.load_breast_cancer(return_X_y=True, as_frame=True), num_classes=2)


def wine() -> Data:
    """Wines, 178 of them, of three growers, from thirteen measurements."""
    return Data(*datasets.load_wine(return_X_y=True, as_frame=True), num_classes=3)


REAL = {"diabetes": diabetes, "penguins": penguins, "cancer": cancer, "wine": wine}


def shuffled(data: Data, sizes: Sequence[int], seed: int) -> list[Data]:
    """Parts of so many rows, chosen by chance, and last a part of all other rows."""
    order = np.random.default_rng(seed).permutation(len(data.y))
    return [data.rows(part) for part in np.split(order, np.cumsum(sizes))]


def standardised(training: Data, *others: Data) -> list[Data]:
    """Put all parts into units in which the training rows have mean 0 and deviation 1.

    Classes stay what they are. So does a column that does not vary over the training rows, but
    for its mean.
    """

    def like(part, reference):
        deviation = reference.std()
        return (part - reference.mean()) / np.where(deviation > 0, deviation, 1.0)

    return [
        part._replace(
            x=like(part.x, training.x),
            y=part.y if part.num_classes else like(part.y, training.y),
        )
        for part in (training, *others)
    ]


def halves(data: Data, column: str, most: int | None = None) -> tuple[Data, Data]:
    """Rows up to the median of an input, so many at most, and above it, in units of the former."""
    low = (data.x[column] <= data.x[column].median()).to_numpy()
    source, target = standardised(data.rows(low), data.rows(~low))
    return source.rows(slice(most)), target


def likelihood(training: Data):
    """Choose the likelihood of such targets; numbers have the noise of a linear regression."""
    if training.num_classes == 2:
        return wp.Bernoulli()
    if training.num_classes > 2:
        return wp.Categorical(training.num_classes)
    fitted = LinearRegression().fit(training.x, training.y).predict(training.x)
    freedom = len(training.y) - training.x.shape[1] - 1
    return wp.Gaussian(noise=float(np.sqrt(((training.y - fitted) ** 2).sum() / freedom)))


class Case(NamedTuple):
    """Model, weights to centre a prior at (the MAP of other rows, or the truth), and its rows."""

    bnn: wp.BNN
    reference: Any
    fitted: Data
    test: Data


def case(
    name: str, network: Callable[[Data], Any], gain: float, seed: int, num_fitted: int = 40
) -> Case:
    """Split one of the `REAL` data sets, or make a "teacher" at the penguins' inputs."""
    is_teacher = name == "teacher"
    data = REAL["penguins" if is_teacher else name]()
    other, fitted, test = shuffled(data, [NUM_OTHER, num_fitted], seed)
    fitted, other, test = standardised(fitted, other, test)
    law = wp.Gaussian(noise=TEACHER_NOISE) if is_teacher else likelihood(other)
    bnn = wp.BNN(network(fitted), law)
    prior = wp.normal_prior(bnn, scale=wp.fan_in_scale(bnn, gain))
    if not is_teacher:
        return Case(bnn, optima(bnn, other.x, other.y, prior=prior, rng_key=seed), fitted, test)
    truth, y = wp.simulate(bnn, pd.concat([fitted.x, test.x]), prior=prior, rng_key=seed)
    targets = np.split(y, [num_fitted])
    fitted, test = (
        part._replace(y=pd.Series(y, index=part.x.index))
        for part, y in zip((fitted, test), targets, strict=True)
    )
    return Case(bnn, truth, fitted, test)


def perceptron(activation: str, hidden: tuple[int, ...] = (8,)) -> Callable[[Data], Any]:
    """Make networks with an output for every class where there are more than two."""

    def network(data: Data) -> Any:
        outputs = data.num_classes if data.num_classes > 2 else 1
        return wp.mlp(data.x.columns, hidden=hidden, num_outputs=outputs, activation=activation)

    return network


_cluster: dict[str, Any] = {}


def arguments_of(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line; fits go to the cluster that it names from now on."""
    parser.add_argument("--dask", metavar="ADDRESS", help="of a scheduler that fits are sent to")
    arguments = parser.parse_args()
    if arguments.dask:
        from distributed import Client  # pip install distributed

        _cluster["client"] = Client(arguments.dask)
    return arguments


def spread(fit: Callable[..., xr.DataTree]) -> Callable[..., xr.DataTree]:
    """Let the cluster fit each prior, where there is one."""
    return wp.distribute(fit, _cluster["client"].get_executor()) if _cluster else fit


def quiet(fit: Callable[..., Any]) -> Callable[..., Any]:
    """Leave out the warnings of a fit: tables have R-hat, and the share that converged."""

    @wraps(fit)
    def run(*args, **options):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="fit_")
            return fit(*args, **options)

    return run


def timed(fit: Callable[..., Any], /, *args, **options) -> tuple[Any, float]:
    """Fit, and measure the seconds of processors' time that it takes."""
    began = time.process_time()
    return quiet(fit)(*args, **options), time.process_time() - began


def chains(warmup: int, samples: int, number: int = 2) -> dict[str, int]:
    """Name the lengths of chains, as options of a fit."""
    return {"num_warmup": warmup, "num_samples": samples, "num_chains": number}


@quiet
def short_chains(bnn: wp.BNN, x, y, **options) -> xr.DataTree:
    """Sample posteriors by chains as short as a mean over many of them allows."""
    return spread(wp.fit_mcmc)(bnn, x, y, log_likelihood=False, progress_bar=False, **options)


@quiet
def ladders(bnn: wp.BNN, x, y, **options) -> xr.DataTree:
    """Sample posteriors by way of tempered ones, which gives their evidence."""
    lengths = {"num_temperatures": 16, "num_samples": 100, "num_chains": 8}
    silent = {"log_likelihood": False, "progress_bar": False}
    return spread(wp.fit_tempered)(bnn, x, y, **silent, **(lengths | options))


few_starts = partial(wp.fit_map, num_restarts=4)


@quiet
def optima(bnn: wp.BNN, x, y, **options) -> xr.DataTree:
    """Find MAPs from few starts. Those of relu units often lie on kinks, where no gradient is 0."""
    return spread(few_starts)(bnn, x, y, **options)


def largest_rhat(bnn: wp.BNN, fit: xr.DataTree, x) -> np.ndarray:
    """R-hat of the outputs under each prior, 1 where the chains agree."""
    watched = np.unique(np.linspace(0, len(x) - 1, NUM_WATCHED).round().astype(int))
    found = wp.diagnostics.convergence(bnn, fit, np.asarray(x)[watched])
    return found["rhat"].max(("obs_id", "output")).to_numpy()


def held_out(bnn: wp.BNN, fit: xr.DataTree, x, y) -> np.ndarray:
    """Log predictive density per held-out row, in nats, of each prior: `score` has it, and more."""
    posterior = fit["posterior"].dataset
    posterior = posterior if "prior" in posterior.dims else posterior.expand_dims("prior")
    posterior = posterior.transpose("prior", "chain", "draw", ...)
    draws = {name: posterior[name].to_numpy() for name in bnn.sites}
    draws = {name: d.reshape(len(d), -1, *d.shape[3:]) for name, d in draws.items()}
    rows = jnp.asarray(np.asarray(x), float), jnp.asarray(np.asarray(y), float)
    return np.asarray(_log_predictive(bnn, draws, *rows), float)


@jax.jit
def _log_predictive(bnn, draws, x, y):
    def of_prior(weights):
        terms = jax.vmap(of_draw)(weights)
        return (logsumexp(terms, axis=0) - jnp.log(len(terms))).mean()

    def of_draw(weights):
        of_row = jax.vmap(lambda x, y: bnn.log_likelihood(weights, x[None], y[None]))
        return of_row(x, y)

    return jax.lax.map(of_prior, draws)


def scored(bnn: wp.BNN, fit: xr.DataTree, test: Data, keys: pd.Index) -> pd.DataFrame:
    """Score every prior: nats per held-out row, R-hat of chains, share of optima that converged."""
    table = pd.DataFrame({"elpd": held_out(bnn, fit, test.x, test.y)}, keys)
    if fit["posterior"].sizes["draw"] > 1:
        return table.assign(rhat=largest_rhat(bnn, fit, test.x), converged=np.nan)
    return table.assign(rhat=np.nan, converged=fit["sample_stats"]["converged"].to_numpy().ravel())


def all_scores(bnn: wp.BNN, fit: xr.DataTree, test: Data, gain: float, seconds: float):
    """Score a fit of one prior; `error` is the RMSE, or the share of wrong classes."""
    found, of_classes = wp.score(bnn, fit, test.x, test.y), test.num_classes > 0
    several = min(fit["posterior"].sizes[dim] for dim in ("chain", "draw")) > 1
    scores = {
        "elpd": found["elpd"] / len(test.y),
        "error": 1 - found["accuracy"] if of_classes else found["rmse"],
        "calibration_error": found["calibration_error"],
        "coverage": np.nan if of_classes else found["coverage"].sel(level=0.9),
        "rhat": largest_rhat(bnn, fit, test.x).max() if several else np.nan,
        "log2_gain": np.log2(gain),
        "seconds": seconds,
        "doubtful": not wp.log_evidence(fit)["reliable"] if "evidence" in fit.children else False,
    }
    return {name: float(score) for name, score in scores.items()}


def over_rows(fit, bnn: wp.BNN, known: Data, test: Data, priors, counts, **options):
    """Score fits of the first rows only, as many as each count says, under every prior.

    The other rows have weight 0, so that all fits have one shape, and compile once.
    """
    keys = pd.MultiIndex.from_product([priors.labels, counts], names=["fit", "rows"])
    prior = wp.stack_priors({f"{label}, {count}": priors[label] for label, count in keys})
    weights = np.array([np.arange(len(known.y)) < count for _, count in keys], float)
    made = fit(bnn, known.x, known.y, prior=prior, row_weights=weights, **options)
    return scored(bnn, made, test, keys)


def repeat(measure: Callable[..., pd.DataFrame], options: Sequence[Any], splits, **levels):
    """Measure at every combination of levels, on every split: the last level of the index."""
    keys = tqdm(list(product(*levels.values(), splits)))
    found = {key: measure(*key, *options) for key in keys}
    table = pd.concat(found, names=[*levels, "split"])
    return table.reorder_levels([*(n for n in table.index.names if n != "split"), "split"])


def gains(measured: pd.DataFrame, level: str, baseline: str) -> pd.DataFrame:
    """Subtract, from every row, the row of the baseline on the same split."""
    base = measured.xs(baseline, level=level).reindex(measured.index.droplevel(level))
    return (measured - base.to_numpy()).add_suffix("_gain")


def summarise(measured: pd.DataFrame) -> pd.DataFrame:
    """Average over the last level of the index: splits, teachers. Columns `_se` are the errors."""
    groups = measured.groupby(level=list(range(measured.index.nlevels - 1)), sort=False)
    return groups.mean().join(groups.sem().add_suffix("_se"))


def cell(mean: float, error: float, sign: str = "+") -> str:
    """Write a number and its standard error, if any, as text that no table breaks."""
    text = "" if np.isnan(mean) else f"{mean:{sign}.3f} ± {error:.3f}"
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def cells(table: pd.DataFrame, column: str, sign: str = "+") -> pd.Series:
    """Write a column of means with its standard errors."""
    pairs = table[[column, f"{column}_se"]].to_numpy()
    return pd.Series([cell(*pair, sign) for pair in pairs], table.index)


def verdict(gain: float, error: float) -> str:
    """Judge a difference at two standard errors."""
    return "better" if gain > 2 * error else "worse" if gain < -2 * error else "no different"


def judged(differences: pd.Series) -> str:
    """Write the mean of paired differences, with its standard error and verdict."""
    mean, error = differences.mean(), differences.sem()
    return f"{cell(mean, error)} ({verdict(mean, error)})"


def tally(table: pd.DataFrame, column: str, sign: int = 1) -> str:
    """Count the rows of a table that are better, and worse, at two standard errors."""
    pairs = table[[column, f"{column}_se"]].to_numpy()
    words = [verdict(sign * gain, error) for gain, error in pairs]
    return f"{words.count('better')} better, {words.count('worse')} worse"


def say(*sentences: str) -> None:
    """Print sentences, each on lines of its own."""
    print("", *(textwrap.fill(text, 96) for text in sentences), sep="\n", flush=True)


def show(title: str, table: pd.DataFrame) -> None:
    """Print a title, and a table below it."""
    say(title)
    print("\n" + table.round(3).to_string(na_rep=""))


def write_tables(path: Path, text: pd.DataFrame, by: list[str], title: str, sentences) -> None:
    """Write every part of a table as a table in Markdown, with a title, and sentences below."""
    parts = text.groupby(level=by, sort=False)
    tables = [_table(part.droplevel(by), title.format(*key)) for key, part in parts]
    path.write_text("\n".join([*tables, "".join(f"- {sentence}\n" for sentence in sentences)]))


def _table(text: pd.DataFrame, title: str) -> str:
    rows = text.rename(columns=lambda name: name.replace("_", " ")).reset_index(names=title)
    lines = rows.to_csv(sep="|", float_format="%.3f", index=False).splitlines()
    lines.insert(1, "|".join(["---", *["---:"] * (rows.shape[1] - 1)]))
    return "".join(f"| {line.replace('|', ' | ')} |\n" for line in lines)


def spread_out(table: pd.DataFrame, column: str, level: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give every entry of a level a column of its own: of means, and of their errors."""
    mean, error = table[column], table[f"{column}_se"]
    return mean.unstack(level, sort=False), error.unstack(level, sort=False)


def panels(table: pd.DataFrame, column: str, level: str, by: list[str], title: str) -> dict:
    """Spread a level out in every part of a table, by the title of that part."""
    parts = table.groupby(level=by, sort=False)
    return {title.format(*k): spread_out(part.droplevel(by), column, level) for k, part in parts}


def draw(path: Path, panels, styles, across: str = "", label: str = NATS, depth=np.inf) -> None:
    """Draw means with bars of one standard error, a panel by title, two side by side.

    A panel is a pair of tables: means, and errors. Their columns have styles: a colour and a mark.
    Their index are numbers, which lie `across`, or names, which are written from above. In view is
    what is up to `depth` below the highest mean.
    """
    styles, columns, height = list(styles), min(2, len(panels)), -(-len(panels) // 2)
    size = (7, 1 + max(2.8, 2 * height))
    figure, grid = plt.subplots(height, columns, figsize=size, layout="constrained", squeeze=False)
    for axis, (title, (mean, error)) in zip(grid.flat, panels.items(), strict=True):
        axis.set_title(title, loc="left", fontsize="medium")
        axis.grid(alpha=0.3)
        for i, (name, (color, mark)) in enumerate(zip(mean, styles, strict=False)):
            style = {"color": color, "fmt": mark, "ms": 5, "capsize": 2, "label": name}
            if across:
                axis.errorbar(mean.index, mean[name], error[name], **style)
            else:
                at = np.arange(len(mean)) + 0.2 * (i - (mean.shape[1] - 1) / 2)
                axis.errorbar(mean[name], at, xerr=error[name], **style)
        if across:
            axis.set_xscale("log")
            axis.set_xticks(mean.index, [f"{number:,g}" for number in mean.index])
            axis.minorticks_off()
            bottom, top = (mean - error).min(axis=None), (mean + error).max(axis=None)
            if top - bottom > depth:
                axis.set_ylim(top - depth, top + 0.05 * depth)
                axis.set_title(f"{title} (cut off below)", loc="left", fontsize="medium")
        else:
            axis.set_yticks(range(len(mean)), mean.index)
            axis.set_ylim(len(mean) - 0.5, -0.5)
            axis.axvline(0, color="black", lw=0.8)
    figure.supxlabel(across or f"{label}, ± 1 s.e.", fontsize="medium")
    figure.supylabel(f"{label}, ± 1 s.e." if across else "", fontsize="medium")
    lines = grid.flat[0].get_legend_handles_labels()
    style = {"ncols": 4, "frameon": False, "fontsize": "small", "handlelength": 3}
    figure.legend(*lines, loc="outside upper center", **style)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def run(main: Callable[..., Any], **defaults: float) -> None:
    """Call an experiment as the command line says. Its parameters are the options."""
    began, text = time.perf_counter(), main.__globals__["__doc__"]
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=text, formatter_class=layout)
    parser.add_argument("--out", type=Path, default=Path("demo_output"), help="folder to write to")
    for name, value in (defaults | {"seed": 0}).items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"default: {value}")
    parser.add_argument("--quick", action="store_true", help="fit little, and briefly: a test")
    options = vars(arguments_of(parser))
    folder, _ = options.pop("out"), options.pop("dask")
    if options["quick"]:
        options |= dict.fromkeys(options.keys() & {"splits", "teachers"}, 2)
    folder.mkdir(parents=True, exist_ok=True)
    print(f"weightprior: {text.splitlines()[0]}", flush=True)
    main(folder, **options)
    print(f"\nDone in {time.perf_counter() - began:.0f} s: see {folder}/", flush=True)
