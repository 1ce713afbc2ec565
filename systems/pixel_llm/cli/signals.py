"""Ctrl-C and the signals by which a cluster ends a job: finish the step under way, save a checkpoint, stop."""

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["stop_on_signals"]

logger = logging.getLogger(__name__)

STOPPING_SIGNALS = [signal.SIGINT, signal.SIGTERM]
if hasattr(signal, "SIGHUP"):
    STOPPING_SIGNALS.append(signal.SIGHUP)  # the terminal was closed


@contextmanager
def stop_on_signals(request_stop: Callable[[], None]) -> Iterator[list[int]]:
    """Inside, the first signal calls `request_stop`; a second Ctrl-C ends the program at once.

    Yields:
        A list that holds the number of the signal, once one has come.
    """
    received: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not received:
            received.append(number)
            request_stop()
            print("stopping after this step and saving; Ctrl-C again stops at once", file=sys.stderr)

    before = {number: signal.signal(number, on_signal) for number in STOPPING_SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
