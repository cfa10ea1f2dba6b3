"""A distributed call under way: parts are submitted, lost ones again, and results come back."""

import time
from collections import Counter
from collections.abc import Collection, Iterable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from typing import NamedTuple
from uuid import uuid4

import cloudpickle
import xarray as xr

from weightprior import _checks
from weightprior._running.interrupts import held_back
from weightprior._running.progress import counting
from weightprior.inference._distribution.call import Call
from weightprior.inference._distribution.executors import Supply
from weightprior.inference._distribution.outcome import Failed, Finished, Lost, Outcome
from weightprior.inference._distribution.recording import Warned
from weightprior.inference._distribution.store import NoStore, Store
from weightprior.inference._distribution.worker import work

__all__ = ["Pending"]

# Largest number of priors that a message names.
_MAX_NAMED = 5
# Seconds that the other parts of a broken executor may take to report it.
_SECONDS_TO_BREAK = 10.0
# Seconds to wait at a time: if another thread received an interrupt, it does not end a wait. On
# some systems it ends no wait without a time limit.
_SECONDS_AT_A_TIME = 0.5


class _OnWorkerError(Exception):
    """Error that shows the traceback on a worker."""


class _Try(NamedTuple):
    """Number of a part, and the executor to which it was submitted."""

    part: int
    executor: Executor


class Pending:
    """A call with parts that are being fitted.

    Parameters
    ----------
    call : Call
        The call.
    supply : Supply
        Supply of executors.
    store : Store or NoStore
        Store that keeps the parts.
    retries : int
        Number of times a part is tried again after its worker died.
    """

    def __init__(self, call: Call, supply: Supply, store: Store | NoStore, retries: int) -> None:
        self._call, self._supply, self._store, self._retries = call, supply, store, retries
        self._began = time.perf_counter()
        self._finished: dict[int, Finished] = {}
        self._waiting: dict[Future, _Try] = {}
        self._lost: Counter[int] = Counter()
        self._num_broken = 0  # executors, since a part was finished
        for index, part in enumerate(call.parts):
            if (kept := store.read(part.name)) is not None:
                self._finished[index] = kept
        try:
            self._submit([i for i in range(len(call.parts)) if i not in self._finished])
        except BaseException:
            self.cancel()
            raise

    def result(self) -> xr.DataTree:
        """Wait for all parts.

        Returns
        -------
        DataTree
            The fit.

        Raises
        ------
        Exception
            The error that the fit function raised, for the first part that failed.
        RuntimeError
            If a part was lost more often than `retries`, or the executor broke.
        """
        number = len(self._call.parts)
        try:
            with counting(number, " fits", done=len(self._finished)) as count:
                while self._waiting:
                    ended = wait(self._waiting, _SECONDS_AT_A_TIME, FIRST_COMPLETED).done
                    self._collect(ended)
                    count.done = len(self._finished)
                    if lost := self._lost.total():
                        count.beside = f"{lost} tried again"
        except BaseException as error:
            self.cancel()
            if isinstance(error, KeyboardInterrupt) and self._store.where and self._finished:
                raise KeyboardInterrupt(self._told_finished()) from None
            raise
        parts = [self._finished[index] for index in range(number)]
        seconds = time.perf_counter() - self._began
        tree = self._call.joined([part.fit for part in parts], seconds)
        self._warn([part.warned for part in parts])
        return tree

    def cancel(self) -> None:
        """Submit nothing more, and drop parts that have not begun."""
        for future in self._waiting:
            future.cancel()
        self._waiting = {}

    def _submit(self, indices: Iterable[int]) -> None:
        left, code = list(indices), self._call.code
        while left:
            executor, given = self._supply.open(), self._call.parts[left[0]].given
            try:
                future = executor.submit(work, code.digest, code.pickled, given, uuid4().hex)
            except Exception as error:  # it broke, or was closed
                lost = {index: Lost(_text(error), broken=executor) for index in left}
                ended = wait(self._waiting, timeout=_SECONDS_TO_BREAK).done
                self._take(self._outcomes(ended) | lost)
                return
            self._waiting[future] = _Try(left.pop(0), executor)

    def _collect(self, done: Collection[Future]) -> None:
        """Collect parts that have ended."""
        outcomes = self._outcomes(done)
        if any(isinstance(one, Lost) and one.broken for one in outcomes.values()):
            # All others of that executor end with it.
            outcomes |= self._outcomes(wait(self._waiting, timeout=_SECONDS_TO_BREAK).done)
        self._take(outcomes)

    def _outcomes(self, done: Collection[Future]) -> dict[int, Outcome]:
        tries = {future: self._waiting.pop(future) for future in done}
        return {one.part: _outcome(future, one.executor) for future, one in tries.items()}

    def _take(self, outcomes: dict[int, Outcome]) -> None:
        """Keep finished parts, raise the error of a failed part, and submit lost parts again."""
        with held_back():  # an interrupt could damage a file, or be lost while it is written
            for index, outcome in outcomes.items():
                if isinstance(outcome, Finished):  # first, since it is kept
                    self._store.keep(self._call.parts[index].name, outcome)
                    self._finished[index], self._num_broken = outcome, 0
        for index, outcome in outcomes.items():
            if isinstance(outcome, Failed):
                self._raise(index, outcome)
        lost = {index: one for index, one in outcomes.items() if isinstance(one, Lost)}
        broken = [one for one in lost.values() if one.broken]
        if broken:
            self._renew(broken[0])
            # All other parts on that executor are lost as well.
            for future, one in [*self._waiting.items()]:
                if one.executor is broken[0].broken:
                    lost[one.part] = broken[0]
                    del self._waiting[future]
        else:
            self._count(lost)
        self._submit(sorted(lost))

    def _count(self, lost: dict[int, Lost]) -> None:
        """Count how often parts were lost, and raise if that has been too often."""
        for index, one in lost.items():
            self._lost[index] += 1
            if self._lost[index] > self._retries:
                raise RuntimeError(
                    f"distribute: {self._told(index)} was lost {self._lost[index]} times: "
                    f"{one.reason}. Give its worker more memory or time, or raise "
                    f"retries={self._retries}.{self._told_finished()}"
                )

    def _renew(self, lost: Lost) -> None:
        """Make another executor in place of a broken one, or raise."""
        self._num_broken += 1
        if self._supply.renewable and self._num_broken <= self._retries:
            self._supply.renew(lost.broken)
            return
        advice = (
            f"It broke {self._num_broken} times without a part finished in between. Give its "
            "workers more memory."
            if self._supply.renewable
            else "Pass a function that makes one: then it is made again."
        )
        raise RuntimeError(
            f"distribute: the executor broke ({lost.reason}). {advice}{self._told_finished()}"
        )

    def _raise(self, index: int, failed: Failed) -> None:
        label = self._call.parts[index].label
        if label is not None:
            failed.error.add_note(f"That was {self._told(index)}.{self._told_finished()}")
        raise failed.error from _OnWorkerError(f"\n{failed.where}")

    def _told(self, index: int) -> str:
        label = self._call.parts[index].label
        return "the fit" if label is None else f"prior {label!r}"

    def _told_finished(self) -> str:
        """Name the finished parts, and the folder that holds them."""
        labels = [repr(self._call.parts[index].label) for index in sorted(self._finished)]
        if not labels or self._call.prior.labels is None:
            return ""
        told = f" Finished: {len(labels)} of {len(self._call.parts)}, {_listed(labels)}."
        return told + self._store.where

    def _warn(self, warned: list[list[Warned]]) -> None:
        """Pass on the warnings of parts; equal ones of several parts become one."""
        labels: dict[Warned, list[str]] = {}
        for part, found in zip(self._call.parts, warned, strict=True):
            for one in dict.fromkeys(found):
                labels.setdefault(one, []).append(repr(part.label))
        shown = list(labels.items())
        for (category, message), named in shown[:_MAX_NAMED]:
            if self._call.prior.labels is None:
                _checks.warn(message, category)
            else:
                _checks.warn(f"{message} (prior {_listed(named)})", category)
        if rest := [label for _, named in shown[_MAX_NAMED:] for label in named]:
            others = [*dict.fromkeys(rest)]
            _checks.warn(
                f"{self._call.function}: there were more warnings than are shown, under prior "
                f"{_listed(others)}. Fit one of them alone to read it."
            )


def _listed(labels: list[str]) -> str:
    more = len(labels) - _MAX_NAMED
    return ", ".join(labels[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _outcome(future: Future, executor: Executor) -> Outcome:
    if future.cancelled():
        return Lost("it was cancelled")
    error = future.exception()
    if error is None:
        return cloudpickle.loads(future.result())
    return Lost(_text(error), broken=executor if isinstance(error, BrokenExecutor) else None)


def _text(error: BaseException) -> str:
    first = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first}".rstrip(": ")
