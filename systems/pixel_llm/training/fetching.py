"""Batches on their way from loader to the model: what the wait for each takes is measured, what it lacks is told."""

from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import Any

from systems.pixel_llm.errors import LoaderError
from systems.pixel_llm.training.batch_content import bad_pictures_of_batch
from systems.pixel_llm.training.interruption import DataWait, WaitEnded
from systems.pixel_llm.training.recorder import RunRecorder

__all__ = ["Fetching"]


class Fetching:
    """Takes batches from iterators of loaders, for one run.

    Args:
        recorder: is told of waits, and of pictures that could not be read.
        is_stopped: whether the run was asked to stop.

    Attributes:
        wait: for a batch; a signal may end it.
    """

    def __init__(self, recorder: RunRecorder, *, is_stopped: Callable[[], bool]) -> None:
        self._recorder, self._is_stopped = recorder, is_stopped
        self.wait = DataWait()

    def next(self, batches: Generator[Any, None, None]) -> Any:
        """The next batch; None at the end, or where a stop is requested meanwhile."""
        started = self._recorder.clock()
        try:
            with self.wait:
                batch = None if self._is_stopped() else next(batches, None)
        except WaitEnded:
            with suppress(WaitEnded):  # the signal may have come a moment before the wait began in there
                batches.throw(WaitEnded())
            return None
        except (RuntimeError, OSError, LoaderError):
            # A signal sent to the whole process group ends the loader's workers too: that is no error of its own.
            if self._is_stopped():
                return None
            raise
        self._recorder.add_wait(self._recorder.clock() - started)
        self._recorder.tell_bad_pictures(bad_pictures_of_batch(batch))
        return batch

    def all(self, batches: Generator[Any, None, None]) -> Iterator[Any]:
        """The batches to the end."""
        while (batch := self.next(batches)) is not None:
            yield batch

    def of_step(self, batches: Generator[Any, None, None], *, count: int) -> list[Any]:
        """The `count` batches of the next step, or what is left of the epoch.

        None at the epoch's end, or where a stop came before they were all there.
        """
        found: list[Any] = []
        while len(found) < count:
            if (batch := self.next(batches)) is None:
                return [] if self._is_stopped() else found
            found.append(batch)
        return found
