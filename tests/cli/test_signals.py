"""Signals ask for a stop; a second Ctrl-C does not wait; what a program was started to ignore stays ignored."""

import os
import signal
import sys

import pytest

from systems.pixel_llm.cli.signals import STOPPING_SIGNALS, stop_on_signals


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


def test_a_second_ctrl_c_ends_at_once_but_a_second_sigterm_waits(capsys):
    requests = []
    with stop_on_signals(lambda: requests.append("stop")) as stopped_by:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert len(requests) == 1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert stopped_by == [signal.SIGTERM]
    assert capsys.readouterr().err.count("\n") == 1


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
