"""Outcome of a method: plain arrays, which `results` makes into a fit."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

__all__ = ["ChainState", "DrawKind", "Evidence", "Outcome"]

# Kinds of draws: states of Markov chains; independent draws from an approximation; separate optima,
# one per chain; or a single point.
DrawKind = Literal["chains", "independent", "members", "point"]


class ChainState(NamedTuple):
    """State from which Markov chains continue, and all that decides their draws.

    Attributes
    ----------
    chains : list of dict of str to array
        Per part of the prior, the arrays of the chains, with the axis chain in front.
    run, parts : dict, list of dict
        Everything that decides the draws of all parts, and of each; stored as JSON.
    """

    chains: list[dict[str, np.ndarray]]
    run: dict[str, Any]
    parts: list[dict[str, Any]]


class Evidence(NamedTuple):
    """Estimate of the log evidence of one prior by a method.

    Attributes
    ----------
    log_evidence, error : float
        In nats, and its standard error; NaN if it is not known.
    reason : str
        Reason why it is not reliable; empty if it is.
    is_bound : bool
        True if it is a lower bound.
    """

    log_evidence: float
    error: float
    reason: str = ""
    is_bound: bool = False


@dataclass(frozen=True)
class Outcome:
    """Outcome of a method: plain arrays, one set per part of the prior.

    Attributes
    ----------
    weights : list of dict of str to array
        Per part of the prior, every site with two axes in front: chain and draw.
    stats : list of dict of str to array
        Per part of the prior, sampler statistics of shape (chain, draw).
    draws : {"chains", "independent", "members", "point"}
        Kind of the draws.
    exact : bool
        True if they converge to the posterior.
    groups : dict of str to (tuple of str, list of dict), optional
        Further groups, such as the restarts of a MAP: the axes that all of their arrays have in
        front, and the arrays per part of the prior.
    evidence : list of Evidence, optional
        Per part of the prior.
    linearised_at : list of dict of str to array, optional
        Per part of the prior, the weights at which the network was linearised. The draws are
        weights of that linear model.
    chain_state : ChainState, optional
        State from which the draws can be extended.
    """

    weights: list[dict[str, np.ndarray]]
    stats: list[dict[str, np.ndarray]]
    draws: DrawKind
    exact: bool
    groups: dict[str, tuple[tuple[str, ...], list[dict[str, Any]]]] = field(default_factory=dict)
    evidence: list[Evidence] | None = None
    linearised_at: list[dict[str, np.ndarray]] | None = None
    chain_state: ChainState | None = None
