"""The discussion, claim by claim: what each would mean in numbers."""

from typing import NamedTuple

from study.measure import GAIN
from study.verdicts import Question

__all__ = ["CLAIMS", "Claim"]

_NARROW, _RIGHT, _WIDE = ("zero", 0.1), ("zero", GAIN), ("zero", 10.0)
_BOUNDED = ("tanh", "sigmoid")
# Half a decade to each side of gain 1: what a width changes, beside which a centre's part is small.
_WIDTHS = ("zero", 0.3), _RIGHT, ("zero", 3.0)


class Claim(NamedTuple):
    """One claim and the questions that it comes to; `column` is drawn."""

    name: str
    title: str
    questions: tuple[Question, ...]
    column: str
    label: str


CLAIMS = (
    Claim(
        "improbable",
        "The prior rules out improbable functions, and where it is right the answer generalises",
        (
            Question(
                "Before any data, a wide prior holds steeper functions than one of gain 1.",
                "Lipschitz", _WIDE, _RIGHT, ("prior",),
            ),
            Question(
                "After the data they are still steeper under the wide prior.",
                "Lipschitz", _WIDE, _RIGHT,
            ),
            Question(
                "Where the truth was drawn from the prior, it predicts better than a wide one.",
                "test", _RIGHT, _WIDE, data=("teacher",),
            ),
            Question(
                "Where the truth was drawn from the prior, it predicts better than a narrow one.",
                "test", _RIGHT, _NARROW, data=("teacher",),
            ),
        ),
        "test", "held-out log density (nats per row)",
    ),
    Claim(
        "capacity",
        "L2 lowers capacity, and leaves the network flexible",
        (
            Question(
                "A wide prior leaves more effective parameters than a narrow one.",
                "parameters", _WIDE, _NARROW,
            ),
            Question(
                "A wide prior leaves a larger gap between fitted and held-out rows than gain 1.",
                "gap", _WIDE, _RIGHT,
            ),
            Question(
                "At gain 1 it predicts better than the MAP of a linear model with the same prior.",
                "test", _RIGHT, _RIGHT, against="linear MAP",
            ),
        ),
        "parameters", "effective parameters",
    ),
    Claim(
        "center",
        "Any prior of the same width limits capacity as much, wherever it is centred",
        (
            Question(
                "Around a random point there are as many effective parameters as around zero.",
                "parameters", ("random", GAIN), _RIGHT, span=_WIDTHS,
            ),
            Question(
                "Around a random point the gap between fitted and held-out rows is that of zero.",
                "gap", ("random", GAIN), _RIGHT, span=_WIDTHS,
            ),
            Question(
                "Held-out rows are predicted as well around a random point as around zero.",
                "test", ("random", GAIN), _RIGHT, span=_WIDTHS,
            ),
        ),
        "gap", "fitted less held-out log density (nats per row)",
    ),
    Claim(
        "saturation",
        "Small weights keep sigmoid units out of saturation",
        (
            Question(
                "More units are saturated under a wide prior than under a narrow one.",
                "saturated", _WIDE, _NARROW, units=_BOUNDED,
            ),
            Question(
                "Fewer units are nearly linear under a wide prior than under a narrow one.",
                "near linear", _NARROW, _WIDE, units=_BOUNDED,
            ),
        ),
        "saturated", "saturated share of units and rows",
    ),
    Claim(
        "kinks",
        "Small weights keep relu units near their kink, where they are nonlinear",
        (
            Question(
                "Before any data, more units have a kink among the rows under a narrow prior than "
                "under a wide one.",
                "kink inside", _NARROW, _WIDE, ("prior",), units=("relu",),
            ),
            Question(
                "After the data, more units have a kink among the rows under a narrow prior than "
                "under a wide one.",
                "kink inside", _NARROW, _WIDE, units=("relu",),
            ),
            Question(
                "After the data, more units have a kink among the rows at gain 1 than under a wide "
                "prior.",
                "kink inside", _RIGHT, _WIDE, units=("relu",),
            ),
            Question(
                "The function is less linear under a narrow prior than under a wide one.",
                "nonlinear", _NARROW, _WIDE, units=("relu",),
            ),
            Question(
                "The function is less linear at gain 1 than under a wide prior.",
                "nonlinear", _RIGHT, _WIDE, units=("relu",),
            ),
        ),
        "nonlinear", "share of the output's variance that is not linear",
    ),
    Claim(
        "reliance",
        "Large weights mean heavy reliance on single units, and L2 balances",
        (
            Question(
                "Units of large weights are those whose removal costs most (rank correlation).",
                "rank correlation", _RIGHT, None,
            ),
            Question(
                "The load is spread over more units under a narrow prior than under a wide one.",
                "effective units", _NARROW, _WIDE,
            ),
            Question(
                "The load is spread over more units at gain 1 than under a wide prior.",
                "effective units", _RIGHT, _WIDE,
            ),
        ),
        "effective units", "units that bear the load (participation ratio)",
    ),
    Claim(
        "codes",
        "Codes are short where the prior holds the truth",
        (
            Question(
                "Around the reference the targets take fewer bits than around zero.",
                "bits", _RIGHT, ("reference", GAIN), ("posterior",),
            ),
            Question(
                "Around a random point they take more bits than around zero.",
                "bits", ("random", GAIN), _RIGHT, ("posterior",),
            ),
            Question(
                "At the teacher's own width they take fewer bits than under a wide prior.",
                "bits", _WIDE, _RIGHT, ("posterior",), data=("teacher",),
            ),
            Question(
                "At the teacher's own width they take fewer bits than under a narrow prior.",
                "bits", _NARROW, _RIGHT, ("posterior",), data=("teacher",),
            ),
        ),
        "bits", "code length (bits)",
    ),
)  # fmt: skip
