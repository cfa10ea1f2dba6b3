"""Unknown options of a function, answered with their name in this package."""

from collections.abc import Callable
from functools import wraps
from inspect import signature

from weightprior import _checks

__all__ = ["names_its_options"]

# Names of our options in other libraries.
_ELSEWHERE = {
    "chains": "num_chains",
    "draws": "num_samples",
    "epochs": "num_epochs",
    "key": "rng_key",
    "learning_rate_init": "learning_rate",
    "lr": "learning_rate",
    "n_splits": "num_folds",
    "progressbar": "progress_bar",
    "random_seed": "rng_key",
    "random_state": "rng_key",
    "sample_weight": "row_weights",
    "samples": "num_samples",
    "seed": "rng_key",
    "tol": "tolerance",
    "tune": "num_warmup",
    "warmup": "num_warmup",
}


def names_its_options[**Given, Answer](
    function: Callable[Given, Answer],
) -> Callable[Given, Answer]:
    """Make a function answer an unknown option with the one that was probably meant."""
    names = tuple(signature(function).parameters)

    @wraps(function)
    def checked(*args: Given.args, **options: Given.kwargs) -> Answer:
        for option in options:
            if option not in names:
                raise TypeError(
                    f"{function.__name__}: expected arguments among {', '.join(names)}; "
                    f"got {option!r}.{_suggestion(option, names)}"
                )
        return function(*args, **options)

    return checked


def _suggestion(option: str, names: tuple[str, ...]) -> str:
    meant = _ELSEWHERE.get(option)
    return f" Did you mean {meant!r}?" if meant in names else _checks.close_name(option, names)
