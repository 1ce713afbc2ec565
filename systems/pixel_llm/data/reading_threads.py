"""Threads that read pictures, which can be left behind: a file on a disk that no longer answers is waited for no longer
than one wants to.

The threads of `concurrent.futures` are joined when Python ends, so that one such file would hold the process for ever.
These are daemons.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait

__all__ = ["ReadingThreads", "is_finished"]

_LOOK_SECONDS = 1.0
_CLOSING_SECONDS = 2.0
"""Longer than a picture takes: only a thread that hangs is left behind."""


class ReadingThreads:
    """So many threads that do jobs in the order in which they are handed over. As a context, closed at its end."""

    def __init__(self, count: int) -> None:
        self._jobs: queue.SimpleQueue[tuple[Future[None], Callable[[], None]] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"pictures_{number}", daemon=True) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "ReadingThreads":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def submit(self, job: Callable[[], None]) -> Future[None]:
        """Hand over a job; the future has its end, or its error."""
        future: Future[None] = Future()
        self._jobs.put((future, job))
        return future

    def close(self) -> None:
        """Let the threads end when they have done what they were given, and wait for those that do so soon."""
        for _ in self._threads:
            self._jobs.put(None)
        deadline = time.monotonic() + _CLOSING_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while (given := self._jobs.get()) is not None:
            future, job = given
            if not future.set_running_or_notify_cancel():
                continue
            try:
                job()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(None)


def is_finished(jobs: Sequence[Future[None]], *, progress: Callable[[], int], timeout_seconds: float) -> bool:
    """Wait until all jobs are done; False where `progress` has stood still for the timeout (0: waits for ever).

    Time is counted in looks, so that a process that was stopped (Ctrl-Z) does not take that for a dead disk.
    """
    done, waited = progress(), 0.0
    look = min(_LOOK_SECONDS, timeout_seconds or _LOOK_SECONDS)
    while wait(jobs, timeout=look).not_done:
        before, done = done, progress()
        waited = waited + look if done == before else 0.0
        if timeout_seconds and waited >= timeout_seconds:
            return False
    return True
