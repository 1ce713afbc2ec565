"""One save at a time in a thread beside the training loop; what came of it is asked for between steps."""

import threading
from collections.abc import Callable
from pathlib import Path

__all__ = ["BackgroundSave"]


class BackgroundSave:
    """Runs a save in a thread, and keeps what came of it until somebody asks.

    The thread is no daemon: an interpreter that ends waits for it. Whoever trains waits before that (`wait`), since the
    threads that hash are gone by then.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._path: Path | None = None
        self._error: BaseException | None = None

    @property
    def is_running(self) -> bool:
        """Whether a save is under way."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, save: Callable[[], Path]) -> None:
        """Begin a save; the one before must have been asked for."""
        assert self._thread is None, "the save before was not asked for"
        self._path = self._error = None
        self._thread = threading.Thread(target=self._run, args=(save,), name="pixel-llm-save")
        self._thread.start()

    def outcome(self, *, wait: bool) -> Path | None:
        """The checkpoint that a save made, told once; None where none is done. `wait` waits for one that is under way.

        Raises:
            CheckpointError: it could not be written; told once.
        """
        if self._thread is None or (self.is_running and not wait):
            return None
        self._thread.join()
        self._thread = None
        if self._error is not None:
            raise self._error
        return self._path

    def _run(self, save: Callable[[], Path]) -> None:
        try:
            self._path = save()
        except Exception as error:  # raised where the outcome is asked for
            self._error = error
