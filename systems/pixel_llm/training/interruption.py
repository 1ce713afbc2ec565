"""Ctrl-C and the signals that end a job, during training: the step under way is finished and a checkpoint saved first.

`deferred_stop` turns the first signal into a request, and lets it go on its way when the training has come to its end.
`DataWait` is for the one place where a step boundary may never come: a loader that waits for a disk.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

__all__ = ["DataWait", "WaitEnded", "deferred_stop"]

_DEFAULTS: dict[int, Any] = {signal.SIGINT: signal.default_int_handler}
for _name in ("SIGTERM", "SIGHUP", "SIGUSR1"):  # what ends a job, a terminal; a cluster's word that time is almost up
    if hasattr(signal, _name):
        _DEFAULTS[getattr(signal, _name)] = signal.SIG_DFL


@contextmanager
def deferred_stop(request_stop: Callable[[], None]) -> Iterator[None]:
    """Inside, the first signal calls `request_stop`, a second one ends the context at once.

    When the context ends after a first one, it goes on its way, so that a script does not go on as if its training had
    ended: KeyboardInterrupt is raised for Ctrl-C, SystemExit(128 + n) for signal n of those that would have ended the
    program, which lets it clean up. Nothing changes for a signal that the program handles or ignores by itself, or
    outside the main thread.
    """
    ours = [number for number, default in _DEFAULTS.items() if signal.getsignal(number) is default]
    if threading.current_thread() is not threading.main_thread() or not ours:
        yield
        return
    process = os.getpid()
    received: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:
            _as_if_not_inherited(number)
        elif received:
            _go_on(number)
        else:
            received.append(number)
            request_stop()

    for number in ours:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, _DEFAULTS[number])
    if received:
        _go_on(received[0])


def _go_on(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def _as_if_not_inherited(number: int) -> None:
    """In a process that was forked meanwhile: Ctrl-C is left to the main process, anything else ends it."""
    if number != signal.SIGINT:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


class WaitEnded(BaseException):
    """Ends a wait for data from inside. No Exception: a dataset that passes over what fails must not swallow it."""


class DataWait:
    """As a context around the wait for a batch: a signal that asks for a stop then ends it, however long it would be.

    The batch is lost, but not its place in the epoch.
    """

    def __init__(self) -> None:
        self._waiting: int | None = None  # the thread that does

    def __enter__(self) -> Self:
        self._waiting = threading.get_ident()
        return self

    def __exit__(self, *error: object) -> None:
        self._waiting = None

    def end(self) -> None:
        """End the wait under way, where the thread that waits is the one that asks: in a signal handler, that is.

        Raises:
            WaitEnded: there is one.
        """
        if self._waiting == threading.get_ident():
            self._waiting = None
            raise WaitEnded
