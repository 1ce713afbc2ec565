"""Signals ask for a stop; a second one does not wait; what a program was started to ignore stays ignored."""

import os
import signal
import subprocess
import sys

import pytest

from systems.pixel_llm.cli import signals
from systems.pixel_llm.cli.signals import (
    STOPPING_SIGNALS,
    SignalGuard,
    StoppedBySignal,
    ending_on_signals,
    stop_on_signals,
)


@pytest.mark.parametrize("number", STOPPING_SIGNALS)
def test_the_first_signal_asks_for_a_stop_and_is_remembered(number, capsys):
    requests = []
    with stop_on_signals(lambda: requests.append("stop")) as stopped_by:
        signal.raise_signal(number)
        assert requests == ["stop"]
    assert stopped_by == [number]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "stopping after this step and saving" in captured.err


def test_outside_of_what_can_be_saved_the_first_signal_ends_the_command(capfd):
    for number in STOPPING_SIGNALS:
        with pytest.raises(StoppedBySignal) as raised, ending_on_signals() as guard:
            signal.raise_signal(number)
        assert (raised.value.number, guard.received, guard.has_raised) == (number, [number], True)
    assert capfd.readouterr().err == ""


def test_a_stop_that_is_asked_for_inside_a_command_is_the_command_s_first_signal(capfd):
    requests = []
    with ending_on_signals() as guard:
        with stop_on_signals(lambda: requests.append("stop")) as stopped_by:
            signal.raise_signal(signal.SIGTERM)
        assert (requests, stopped_by, guard.received, guard.has_raised) == (["stop"], [15], [15], False)
    with ending_on_signals() as guard:
        with stop_on_signals(lambda: pytest.fail("it came later")) as stopped_by:
            pass
        with pytest.raises(StoppedBySignal):
            signal.raise_signal(signal.SIGTERM)
        assert stopped_by == [signal.SIGTERM]


def test_an_echo_of_a_signal_is_no_second_one(monkeypatch, capsys):
    """`timeout` sends SIGTERM to the process and to its group, a terminal that is closed SIGHUP likewise."""
    requests, left = [], []
    monkeypatch.setattr(SignalGuard, "_leave_at_once", lambda guard, number: left.append(number))
    now = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    with stop_on_signals(lambda: requests.append("stop")) as stopped_by:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert (requests, left) == (["stop"], [])
        now[0] += 2
        signal.raise_signal(signal.SIGTERM)
        assert (requests, left) == (["stop"], [signal.SIGTERM])
        signal.raise_signal(signal.SIGINT)
    assert (stopped_by, left) == ([signal.SIGTERM], [signal.SIGTERM, signal.SIGINT])
    assert capsys.readouterr().err.count("\n") == 1


SECOND = """
import multiprocessing, signal, sys, threading
from systems.pixel_llm.cli.signals import stop_on_signals

def sleep_for_ever():
    threading.Event().wait()

first, second = map(int, sys.argv[1:])
thread = threading.Thread(target=sleep_for_ever)  # no daemon: Python would wait for it
child = multiprocessing.get_context("fork").Process(target=sleep_for_ever)
child.start()
thread.start()
with stop_on_signals(lambda: None):
    signal.raise_signal(first)
    try:
        signal.raise_signal(second)
    finally:
        print("found its way out")
"""


@pytest.mark.parametrize(
    ("first", "second"),
    [(signal.SIGINT, signal.SIGINT), (signal.SIGUSR1, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)],
)
def test_a_second_signal_leaves_at_once_and_leaves_nobody_behind(repository_root, first, second):
    ended = subprocess.run(
        [sys.executable, "-c", SECOND, str(int(first)), str(int(second))],
        cwd=repository_root, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 128 + second
    assert "stopped at once by" in ended.stderr
    assert "Traceback" not in ended.stderr
    # The child holds the other end of these pipes too: they were read to their end, so it is gone.
    assert ended.stdout == ""


def test_afterwards_the_signals_are_handled_as_before():
    before = [signal.getsignal(number) for number in STOPPING_SIGNALS]
    with stop_on_signals(lambda: None):
        assert all(signal.getsignal(number) not in before for number in STOPPING_SIGNALS)
    assert [signal.getsignal(number) for number in STOPPING_SIGNALS] == before


@pytest.mark.parametrize("number", STOPPING_SIGNALS)
def test_a_signal_that_nohup_ignores_stays_ignored(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with stop_on_signals(lambda: None) as stopped_by:
            signal.raise_signal(number)
        assert stopped_by == []
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), RuntimeError("reentrant call")])
def test_a_terminal_that_cannot_be_written_to_does_not_hinder_the_stop(monkeypatch, error):
    class Gone:
        def write(self, text):
            raise error

    monkeypatch.setattr(sys, "stderr", Gone())
    with stop_on_signals(lambda: None) as stopped_by:
        signal.raise_signal(signal.SIGHUP)
    assert stopped_by == [signal.SIGHUP]


def test_a_loaders_worker_leaves_the_signal_to_the_main_process(capfd):
    requests = []
    with stop_on_signals(lambda: requests.append("stop")):
        worker = os.fork()
        if worker == 0:
            signal.raise_signal(signal.SIGTERM)
            os._exit(len(requests))
        _, status = os.waitpid(worker, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert capfd.readouterr().err == ""
