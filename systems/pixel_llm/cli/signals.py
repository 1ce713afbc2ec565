"""Ctrl-C and the signals by which a cluster ends a job: finish what is under way, save it, stop.

`ending_on_signals` stands around a whole command. Where nothing is under way that is worth saving, the first signal
raises `StoppedBySignal`, so that what is half written is cleared away. Where there is, `stop_on_signals` has it ask for
a stop instead. A second one leaves at once, whatever the program is waiting for: what was saved before is whole, since
files are put in place by renaming.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import active_children
from types import FrameType

__all__ = ["SignalGuard", "StoppedBySignal", "ending_on_signals", "signal_told", "stop_on_signals"]

STOPPING_SIGNALS = [signal.SIGINT, signal.SIGTERM]
for _name in ("SIGHUP", "SIGUSR1"):  # the terminal was closed; a cluster's word that time is almost up
    if hasattr(signal, _name):
        STOPPING_SIGNALS.append(getattr(signal, _name))

STANDARD_OUTPUTS = (1, 2)  # stdout, stderr

ECHO_SECONDS = 1.0
"""`timeout` and a closed terminal send their signal to the process and to its group: the second one is no second wish.
Ctrl-C is: a person's fingers are quick."""


class StoppedBySignal(KeyboardInterrupt):
    """A signal ends the command where it stands.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class SignalGuard:
    """The handler of all signals that stop a command; it knows whether one came before.

    Attributes:
        received: the number of the first signal, once one has come.
        has_raised: whether it was answered with `StoppedBySignal`. Then an error that comes out of the command may be
            nothing but what became of that on its way.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self.has_raised = False
        self._received_at = 0.0
        self._process = os.getpid()
        self._terminals = [output for output in STANDARD_OUTPUTS if os.isatty(output)]
        self._request_stop: Callable[[], None] | None = None
        self._promise = ""

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal."""
        if os.getpid() != self._process:
            return  # a loader's worker, which inherited this: the main process ends it
        if self.received:
            is_echo = number == self.received[0] != signal.SIGINT
            if not is_echo or time.monotonic() - self._received_at > ECHO_SECONDS:
                self._leave_at_once(number)
            return
        self.received.append(number)
        self._received_at = time.monotonic()
        _leave_closed(self._terminals)
        if self._request_stop is None:
            self.has_raised = True
            raise StoppedBySignal(number)
        _tell(f"{self._promise}; {'Ctrl-C again' if number == signal.SIGINT else 'a second signal'} stops at once")
        self._request_stop()

    @contextmanager
    def asking(self, request_stop: Callable[[], None], promise: str) -> Iterator[None]:
        """Inside, the first signal calls `request_stop`."""
        self._request_stop, self._promise = request_stop, promise
        try:
            yield
        finally:
            self._request_stop = None

    def _leave_at_once(self, number: int) -> None:
        """End the process here and now, and those it has started.

        An exception would have to find its way out, and those who wait for a thread that reads from a dead disk, or
        for a worker, would keep it.
        """
        for child in active_children():
            child.kill()
        _leave_closed(self._terminals)
        shown_again = b"\x1b[?25h\n" if os.isatty(2) else b""  # a progress bar has hidden the cursor
        try:
            os.write(2, shown_again + f"pixel-llm: stopped at once by {signal_told(number)}.\n".encode())
        finally:
            os._exit(128 + number)


@contextmanager
def ending_on_signals() -> Iterator[SignalGuard]:
    """Inside, the first signal raises `StoppedBySignal`, a second ends the process at once.

    A signal that the program was started to ignore (`nohup pixel-llm train ... &`) stays ignored.
    """
    guard = SignalGuard()
    before = {number: signal.getsignal(number) for number in STOPPING_SIGNALS}
    ours = [number for number, handler in before.items() if handler != signal.SIG_IGN]
    for number in ours:
        signal.signal(number, guard)
    try:
        yield guard
    finally:
        for number in ours:
            signal.signal(number, before[number])


@contextmanager
def stop_on_signals(
    request_stop: Callable[[], None], *, promise: str = "stopping after this step and saving"
) -> Iterator[list[int]]:
    """Inside, the first signal calls `request_stop`; a second one ends the process at once.

    `promise` is what is told then. Inside `ending_on_signals`, one that came before it counts.

    Yields:
        A list that holds the number of the signal, once one has come.
    """
    handlers = map(signal.getsignal, STOPPING_SIGNALS)
    around = next((handler for handler in handlers if isinstance(handler, SignalGuard)), None)
    if around is not None:
        with around.asking(request_stop, promise):
            yield around.received
    else:
        with ending_on_signals() as guard, guard.asking(request_stop, promise):
            yield guard.received


def signal_told(number: int) -> str:
    """A signal as a person knows it."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


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
