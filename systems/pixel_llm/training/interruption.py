"""Ctrl-C during training: the step under way is finished and a checkpoint saved before the interruption goes on."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["deferred_interrupt"]


@contextmanager
def deferred_interrupt(request_stop: Callable[[], None]) -> Iterator[None]:
    """Inside, the first Ctrl-C calls `request_stop`, a second one raises KeyboardInterrupt at once.

    When the context ends after a first Ctrl-C, KeyboardInterrupt is raised, so that a script does not go on as if its
    training had ended. Nothing changes where the program handles SIGINT in its own way, or outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread() or (
        signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    is_interrupted = False

    def on_interrupt(signal_number: int, frame: FrameType | None) -> None:
        nonlocal is_interrupted
        if is_interrupted:
            signal.default_int_handler(signal_number, frame)
        is_interrupted = True
        request_stop()

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if is_interrupted:
        raise KeyboardInterrupt
