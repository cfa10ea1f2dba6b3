"""Meetings of chains during warm-up, where chains of one posterior learn from one another.

They are at fixed iterations, so the adaptation does not depend on the clock, which cuts the calls
between them.
"""

import math
from collections.abc import Collection, Sequence
from itertools import groupby
from typing import Any

from weightprior.fits.task import Task

__all__ = ["meet", "until_meeting"]


def until_meeting(iteration: int, meetings: Collection[int]) -> float:
    """Count the iterations up to the next meeting; infinite if there is none."""
    return min((at - iteration for at in meetings if at > iteration), default=math.inf)


def meet(kernel: Any, shared: Any, tasks: Sequence[Task], chains: list[Any]) -> list[Any]:
    """Let chains of each task learn from one another, if they have reached a meeting."""
    num_warmup, iteration = int(shared[3]["num_warmup"]), int(chains[0].iteration)
    if iteration not in kernel.meetings(num_warmup):
        return chains
    learned = []
    for _, group in groupby(zip(tasks, chains, strict=True), key=lambda pair: id(pair[0])):
        own = [chain for _, chain in group]
        states = kernel.learn([chain.state for chain in own], iteration, num_warmup)
        learned += [c._replace(state=state) for c, state in zip(own, states, strict=True)]
    return learned
