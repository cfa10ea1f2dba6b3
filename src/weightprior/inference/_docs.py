"""Parts of docstrings that fit functions share, written once."""

from collections.abc import Callable

__all__ = ["shares_docs"]

_SHARED = {
    "<data>": """
    bnn : BNN
        The model.
    x : array or data frame of shape (rows, features)
        Inputs. A data frame's column names become the coordinate `feature`. Its index becomes
        `obs_id` if netCDF can hold it: unique integers, strings or dates without a time zone. Any
        other index is kept as text in the coordinate `row`.
    y : array of shape (rows,) or (rows, outputs)
        Targets. If there are several columns, their names become the coordinate `output`.
    """,
    "<options>": """
    row_weights : array of shape (rows,) or (priors, rows), optional
        Number of times each row's log likelihood counts: once by default. 0 leaves the row out. For
        a stacked prior there can be one set for each part. The fit's `log_likelihood` still counts
        each row once.
    log_likelihood : bool
        If true, the fit has the group `log_likelihood`, from which LOO is computed: 8 bytes for
        every row and draw.
    progress_bar : bool
        If true, show progress in a terminal or a notebook if it takes longer than two seconds.
    """,
}


def shares_docs[Function: Callable](function: Function) -> Function:
    """Fill in the parts of a fit function's docstring that all of them share."""
    text = function.__doc__ or ""
    for name, shared in _SHARED.items():
        text = text.replace(f"    {name}\n", shared.strip("\n").rstrip(" "))
    function.__doc__ = text
    return function
