"""What a terminal shows while something takes long: in a real one, byte by byte."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
import types
from io import StringIO

import pytest

from weightprior._running import progress
from weightprior._running.progress import compiling, counting, shows_progress


class Terminal:
    """A terminal of 120 columns, and all that is written to it."""

    def __init__(self):
        self._reader, self.writer = pty.openpty()
        fcntl.ioctl(self.writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
        self._pieces = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        while True:
            try:
                piece = os.read(self._reader, 4096)
            except OSError:  # as Linux says that nobody writes any more
                return
            if not piece:
                return
            self._pieces.append(piece)

    def text(self):
        """All that was written, after which nobody writes any more."""
        self._thread.join(60)
        os.close(self._reader)
        return b"".join(self._pieces).decode()


def screen(text):
    """Lines as one sees them at the end, without blanks behind."""
    lines = [""]
    for part in re.split(r"(\r\n|\r|\n|\x1b\[A)", text):
        if part == "\r":
            column = 0
        elif part in ("\r\n", "\n"):
            lines.append("")
            column = 0
        elif part == "\x1b[A":
            raise AssertionError("a bar moved the cursor to another line")
        elif part:
            lines[-1] = part + lines[-1][len(part) :] if column == 0 else lines[-1] + part
            column = len(part)
        column = 0 if not part else column
    return [line.rstrip() for line in lines]


@pytest.fixture
def shown(monkeypatch):
    """Run a function in a terminal, whose clock goes quicker, and return what was written."""
    monkeypatch.setattr(progress, "_DELAY", 0.05)
    monkeypatch.setattr(progress, "_TICK", 0.05)

    def run(function, error=None):
        terminal = Terminal()
        with monkeypatch.context() as patch, os.fdopen(terminal.writer, "w") as file:
            patch.setattr(sys, "stderr", file)
            if error is None:
                function()
            else:
                with pytest.raises(error):
                    function()
        return terminal.text()

    return run


def wait():
    time.sleep(0.25)


@shows_progress
def fit_all(stop=None, progress_bar=True):
    with compiling():
        wait()
    with counting(4, " runs", doing="searching") as count:
        for _ in range(4):
            wait()
            count.advance()
            count.beside = "all well"
    if stop:
        raise stop


def test_a_terminal_shows_that_it_compiles_then_counts(shown):
    text = shown(fit_all)
    drawn = [line.strip() for line in text.split("\r")]
    first = next(i for i, line in enumerate(drawn) if "searching" in line)
    assert {"fit_all compiling [00:00]"} == {line for line in drawn[:first] if line}
    half = re.compile(r"fit_all searching:  50%\|.*\| 2/4 \[.*runs.*, all well\]")
    assert any(map(half.match, drawn))
    *_, last, empty = screen(text)
    assert empty == ""
    assert len(screen(text)) == 2
    assert re.fullmatch(r"fit_all: 4/4 runs \[00:0\d\], all well", last)


def test_after_an_interrupt_the_line_is_ended_and_the_thread_with_it(shown):
    threads = {*threading.enumerate()}
    for stop in (KeyboardInterrupt, ValueError):
        text = shown(lambda stop=stop: fit_all(stop=stop), error=stop)
        assert text.endswith("\n")
        assert progress._here.progress is None
    assert {thread for thread in threading.enumerate() if thread.is_alive()} <= threads


@pytest.mark.parametrize("what", ["forbidden", "quick"])
def test_nothing_is_shown_where_nobody_waits_or_wants_it(what, shown, monkeypatch):
    if what == "quick":
        monkeypatch.setattr(progress, "_DELAY", 60)
    assert shown(lambda: fit_all(progress_bar=what == "quick")) == ""


def test_nothing_is_written_to_pipes_and_files(shown, monkeypatch, tmp_path):
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as pipe, open(tmp_path / "log", "w") as file:
        for stream in (pipe, file, None):
            monkeypatch.setattr(sys, "stderr", stream)
            fit_all()
    assert os.read(reader, 1) == b""
    os.close(reader)
    assert (tmp_path / "log").read_bytes() == b""
    monkeypatch.setattr(sys, "stderr", file)  # which is closed
    assert not progress._is_seen()


def test_a_notebook_shows_though_its_stream_is_no_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", StringIO())
    assert not progress._is_seen()
    for kernel, seen in (({"kernel": object()}, True), ({}, False)):
        shell = types.SimpleNamespace(**kernel)
        ipython = types.SimpleNamespace(get_ipython=lambda shell=shell: shell)
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        assert progress._is_seen() is seen


def test_calls_within_calls_share_one_line(shown):
    @shows_progress
    def outer():
        fit_all()

    @shows_progress
    def simulated():
        with counting(2, " simulations") as count:
            for _ in range(2):
                fit_all()
                count.advance()

    text = shown(outer)
    assert len(screen(text)) == 2
    assert "outer compiling [" in text
    assert "outer searching:  50%|" in text
    assert "fit_all" not in text
    text = shown(simulated)
    assert len(screen(text)) == 2
    assert "simulated:  50%|" in text
    assert "searching" not in text


def test_what_a_part_forbids_the_whole_does_not_show(shown):
    @shows_progress
    def outer():
        fit_all(progress_bar=False)

    assert shown(outer) == ""


FIT = """
import numpy as np
import weightprior as wp

bnn = wp.BNN(wp.mlp(3, hidden=(7,)), wp.Gaussian())
x = np.random.default_rng(0).normal(size=(30, 3))
prior = wp.normal_prior(bnn)
y = np.random.default_rng(1).normal(size=30)
fit = wp.fit_mcmc(bnn, x, y, prior=prior, num_samples=2000)
wp.cross_validate(bnn, x, y, prior=prior, num_folds=5)
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["terminal", "pipe"])
def test_a_fit_in_another_process(where):
    terminal = Terminal()
    given = terminal.writer if where == "terminal" else subprocess.PIPE
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FIT], stderr=given, check=True)
    os.close(terminal.writer)
    text = terminal.text()
    if where == "pipe":
        assert (text, done.stderr) == ("", b"")
        return
    seconds = [int(s) for s in re.findall(r"fit_mcmc compiling \[00:(\d\d)\]", text)]
    assert seconds == sorted(seconds)
    assert len(set(seconds)) >= 3
    assert re.search(r"fit_mcmc: 2500/2500 it \[..:..\], acceptance 0\.\d\d, divergences \d+", text)
    assert "-00:00" not in text
    assert "cross_validate compiling [" in text
    assert all(len(line) <= 120 for line in screen(text))
    assert len(screen(text)) == 3
