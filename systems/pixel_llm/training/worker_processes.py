"""The worker processes of a DataLoader: batches are waited for, and what became of a worker that died or hangs is told.

torch tells of a death by raising in its handler of SIGCHLD, and so out of any line of the main thread: in the middle of
a step, with half of the weights changed, or of a save. Here it is told where a batch is waited for, and nowhere else.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from torch.utils.data import ConcatDataset, Subset

from systems.pixel_llm.data.folder import shown_some
from systems.pixel_llm.errors import LoaderError

__all__ = ["WorkerProcesses", "defer_deaths", "deferred_deaths", "sample_names"]

_CAUSES = {
    "SIGKILL": (
        "The system ends processes so when memory runs out: choose fewer workers (num_workers), a smaller batch_size, "
        "or a dataset that keeps less in memory"
    ),
    "SIGBUS": (
        "The shared memory in /dev/shm is too small: give it more room (docker run --shm-size=8g), or choose "
        "num_workers=0 or a smaller batch_size"
    ),
}


class WorkerProcesses:
    """The workers behind one iterator of a DataLoader; none where it reads in the main process."""

    def __init__(self, iterator: Any, *, timeout_seconds: float) -> None:
        # Not public in torch: without it a death is still an error, in torch's words.
        self._processes: Sequence[Any] = getattr(iterator, "_workers", ())
        self._timeout_seconds = timeout_seconds

    @contextmanager
    def watched(self, awaited: Callable[[], Sequence[str]]) -> Iterator[None]:
        """Around the wait for a batch, whose samples `awaited` names.

        Raises:
            LoaderError: a worker died, or none gave anything for the timeout.
        """
        if not self._processes:
            yield
            return
        if dead := self._dead():
            raise LoaderError(dead)
        try:
            with _deaths_are_told():
                yield
        except (RuntimeError, OSError, EOFError) as error:
            # A worker that dies breaks what it was just sending: that error says nothing.
            if (dead := self._dead()) or (dead := _told_by_torch(error)):
                raise LoaderError(dead) from error
            if str(error).startswith("DataLoader timed out after"):
                raise LoaderError(self._hanging(awaited())) from error
            raise

    def end(self) -> None:
        """End those that are left, which may hang: torch would wait some seconds for each."""
        for process in self._processes:
            process.terminate()

    def _dead(self) -> str | None:
        for number, process in enumerate(self._processes):
            if process.exitcode:
                what = f"Worker {number} of the {len(self._processes)} of the DataLoader (process {process.pid})"
                if process.exitcode > 0:
                    return f"{what} ended by itself, with exit status {process.exitcode}. Its last words are above."
                name = _signal_name(-process.exitcode)
                cause = _CAUSES.get(name, "num_workers=0 reads in the main process, which shows where it happens")
                return f"{what} was killed by signal {-process.exitcode} ({name}). {cause}."
        return None

    def _hanging(self, samples: Sequence[str]) -> str:
        waited = f" The batch that is waited for holds {shown_some(samples)}." if samples else ""
        return (
            f"None of the {len(self._processes)} workers of the DataLoader gave a batch for {self._timeout_seconds:g} "
            f"seconds: they hang.{waited} A file on a disk that no longer answers does this, or a dataset that never "
            "comes to an end. Where it is only slow, give the DataLoader another timeout=, in seconds."
        )


def sample_names(dataset: Any, numbers: Sequence[Any]) -> list[str]:
    """What these samples are called: by their pictures, where the dataset tells them as `ImageCaptionDataset` does."""
    return [_sample_name(dataset, number) for number in numbers]


def _sample_name(dataset: Any, number: Any) -> str:
    if isinstance(dataset, Subset):
        return _sample_name(dataset.dataset, dataset.indices[number])
    if isinstance(dataset, ConcatDataset):
        for part in dataset.datasets:
            if number < len(part):  # type: ignore[arg-type]
                return _sample_name(part, number)
            number -= len(part)  # type: ignore[arg-type]
    names = getattr(getattr(dataset, "samples", None), "names", None)
    return f"sample {number}" if names is None else str(names[number])


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _told_by_torch(error: BaseException) -> str | None:
    text = str(error).strip()
    return text.splitlines()[0] if text.startswith("DataLoader worker (pid") else None


# --- when deaths are told ---------------------------------------------------------------------------------------------


class _DeferringHandler:
    """Torch's handler of SIGCHLD, heard only while a batch is waited for; a death is found at the next wait."""

    is_waiting = False

    def __init__(self, handler: Callable[[int, FrameType | None], Any]) -> None:
        self.handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> None:
        try:
            self.handler(number, frame)
        except RuntimeError:
            if self.is_waiting:
                raise


def _current() -> Any:
    # Windows has no such signal, and torch no such handler there.
    return signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None


def defer_deaths() -> None:
    """From here on a death raises nothing but inside `WorkerProcesses.watched`. Called when workers are there, since
    torch puts its handler in place with the first of them.
    """
    handler = _current()
    is_torch = getattr(handler, "__module__", "") == "torch.utils.data._utils.signal_handling"
    if is_torch and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, _DeferringHandler(handler))


@contextmanager
def deferred_deaths() -> Iterator[None]:
    """What `defer_deaths` did inside is undone at the end; not after an error, on whose way out workers are ended."""
    yield
    handler = _current()
    if isinstance(handler, _DeferringHandler) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, handler.handler)


@contextmanager
def _deaths_are_told() -> Iterator[None]:
    handler = _current()
    if not isinstance(handler, _DeferringHandler):
        yield
        return
    handler.is_waiting = True
    try:
        yield
    finally:
        handler.is_waiting = False
