"""Ctrl-C and the signals by which a cluster ends a job: finish what is under way, save it, stop."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["stop_on_signals"]

STOPPING_SIGNALS = [signal.SIGINT, signal.SIGTERM]
if hasattr(signal, "SIGHUP"):
    STOPPING_SIGNALS.append(signal.SIGHUP)  # the terminal was closed

STANDARD_OUTPUTS = (1, 2)  # stdout, stderr


@contextmanager
def stop_on_signals(
    request_stop: Callable[[], None], *, promise: str = "stopping after this step and saving"
) -> Iterator[list[int]]:
    """Inside, the first signal calls `request_stop`; a second Ctrl-C ends the program at once.

    `promise` is what is told then. A signal that the program was started to ignore (`nohup pixel-llm train ... &`)
    stays ignored.

    Yields:
        A list that holds the number of the signal, once one has come.
    """
    received: list[int] = []
    process = os.getpid()
    terminals = [output for output in STANDARD_OUTPUTS if os.isatty(output)]

    def on_signal(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:
            return  # a loader's worker, which inherited this: the main process ends it
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        _leave_closed(terminals)
        if not received:
            received.append(number)
            request_stop()
            _tell(f"{promise}; Ctrl-C again stops at once")

    before = {number: signal.getsignal(number) for number in STOPPING_SIGNALS}
    ours = [number for number, handler in before.items() if handler != signal.SIG_IGN]
    for number in ours:
        signal.signal(number, on_signal)
    try:
        yield received
    finally:
        for number in ours:
            signal.signal(number, before[number])


def _leave_closed(terminals: list[int]) -> None:
    """Send to nowhere what would go to a terminal that is no more: each further line would fail, saving included."""
    for output in terminals:
        if not os.isatty(output):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, output)
            os.close(nowhere)


def _tell(message: str) -> None:
    """A line on stderr; none where that is gone, or the main program was interrupted in the middle of a line."""
    try:
        print(message, file=sys.stderr)
    except (OSError, RuntimeError):
        # The terminal was closed, or Python refuses to begin a line inside another. An error raised in a signal handler
        # would come out of whatever line of the training was running, and the message is not worth that.
        return
