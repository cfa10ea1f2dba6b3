"""Executors for tests: some that fail on purpose, and a comparison of fits to the last bit."""

from concurrent.futures import BrokenExecutor, Executor, Future
from concurrent.futures.process import BrokenProcessPool


class Inline(Executor):
    """Runs every call at once, in this process; counts them."""

    future = Future

    def __init__(self):
        self.num_calls, self.closed = 0, False

    def submit(self, function, /, *args, **options):
        self.num_calls += 1
        future = self.future()
        try:
            future.set_result(function(*args, **options))
        except BaseException as error:
            future.set_exception(error)
        return future

    def shutdown(self, wait=True, *, cancel_futures=False):
        self.closed = True


class Losing(Inline):
    """Loses the worker of the calls with these numbers."""

    def __init__(self, *numbers):
        super().__init__()
        self.numbers = numbers

    def submit(self, function, /, *args, **options):
        if self.num_calls not in self.numbers:
            return super().submit(function, *args, **options)
        self.num_calls += 1
        future = Future()
        future.set_exception(ConnectionError("the worker is gone"))
        return future


class Breaking(Inline):
    """Breaks with the call of this number, and all that were not over with it."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def submit(self, function, /, *args, **options):
        if self.num_calls < self.number:
            return super().submit(function, *args, **options)
        self.num_calls += 1
        if self.num_calls > self.number + 1:
            raise BrokenProcessPool("the pool is broken")
        future = Future()
        future.set_exception(BrokenExecutor("a process died"))
        return future


def assert_same_fit(found, expected):
    """Compare fits to the last bit: every group, coordinate and attribute but the seconds."""
    assert set(found.children) == set(expected.children)
    for name in expected.children:
        assert found[name].dataset.identical(expected[name].dataset), name
    attrs = [{k: v for k, v in fit.attrs.items() if k != "seconds"} for fit in (found, expected)]
    assert attrs[0] == attrs[1]
