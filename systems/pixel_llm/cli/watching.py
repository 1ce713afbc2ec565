"""`--watch`: folders looked at again and again, and the pictures in them that have come to rest.

Looking is all it takes, so it works on network disks, which send no word of changes. A picture is given once its size
and times are the same at two looks: before that somebody is still copying it. One that could not be read is given again
when it changes, and a few times though it does not, since a disk has its moods.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from systems.pixel_llm.cli.picture_arguments import natural_order, walk_pictures
from systems.pixel_llm.errors import DatasetError

__all__ = ["FolderWatch"]

logger = logging.getLogger(__name__)

MAX_TRIES = 3
"""A picture that does not change is tried so many times."""

Stamp = tuple[int, int, int]


class FolderWatch:
    """Iterating gives lists of pictures that are ready, each picture once, for as long as `should_stop` says no."""

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        seconds: float,
        wait: Callable[[float], None],
        should_stop: Callable[[], bool],
        given: Sequence[Path] = (),
    ) -> None:
        """`wait` is called with `seconds` between two looks; it may return earlier where a stop is wanted. The pictures
        `given` are somebody else's.
        """
        self._folders, self._seconds, self._wait, self._should_stop = folders, seconds, wait, should_stop
        self._stamps: dict[Path, Stamp] = {}
        """Of what is not given yet, at the last look; of what is, when it was given."""
        self._given = set(map(_place, given))
        self._failed: dict[Path, tuple[Stamp, int]] = {}
        """Picture -> how it was when it could not be read, and how often that was."""
        self._missing: set[Path] = set()

    def __iter__(self) -> Iterator[list[Path]]:
        while not self._should_stop():
            if ready := self.look():
                yield ready
            if not self._should_stop():
                self._wait(self._seconds)

    def look(self) -> list[Path]:
        """The pictures that are as they were at the last look, and were not given before; in natural order."""
        ready = []
        for path in self._waiting():
            stamp = _stamp(path)
            if stamp is None:
                continue
            is_resting = self._stamps.get(path) == stamp
            self._stamps[path] = stamp
            failed_stamp, tries = self._failed.get(path, (None, 0))
            if is_resting and (stamp != failed_stamp or tries < MAX_TRIES):
                ready.append(path)
        self._given.update(map(_place, ready))
        return ready

    def could_not_read(self, path: Path) -> bool:
        """Tell of a picture that was given; whether it is tried again as it is."""
        stamp = self._stamps[path]
        failed_stamp, tries = self._failed.get(path, (None, 0))
        tries = tries + 1 if stamp == failed_stamp else 1
        self._failed[path] = (stamp, tries)
        self._given.discard(_place(path))
        return tries < MAX_TRIES

    def _waiting(self) -> list[Path]:
        found: dict[str, Path] = {}  # by place: folders may lie in one another and be spelled in two ways
        for folder in self._folders:
            try:
                for path in walk_pictures(folder):
                    if (place := _place(path)) not in self._given:
                        found.setdefault(place, path)
            except DatasetError as error:  # a disk that was taken out may come back
                if folder not in self._missing:
                    logger.warning("%s Still watching it.", error)
                self._missing.add(folder)
            else:
                self._missing.discard(folder)
        return sorted(found.values(), key=natural_order)


def _place(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100  it does not follow links


def _stamp(path: Path) -> Stamp | None:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:  # gone since the look
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
