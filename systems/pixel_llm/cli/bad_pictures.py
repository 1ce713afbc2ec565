"""`bad_pictures.jsonl`: the pictures that a run could not read, and the end of the run where they are too many.

One JSON object a line, `{"path", "reason"}`, each picture once, also over resumes. A few bad files should not cost a
night's run, but many are a sign that something else is wrong.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from systems.pixel_llm.data.folder import shown
from systems.pixel_llm.data.inspection_pictures import BadPicture
from systems.pixel_llm.errors import DatasetError
from systems.pixel_llm.training.events import BadPictureEvent, Event
from systems.pixel_llm.training.json_lines import JsonLines

__all__ = ["BadPictureList"]

# One bad picture of ten would be a tenth, and is still only one.
FEWEST = 2


class BadPictureList:
    """A callback of the Trainer that writes the list.

    Args:
        path: the file.
        num_pictures: how many pictures the data has, those of validation included.
        max_share: the share of them that may be bad.
    """

    def __init__(self, path: Path, *, num_pictures: int, max_share: float) -> None:
        self._lines, self._num_pictures, self._max_share = JsonLines(path), num_pictures, max_share
        self._num_bad = 0
        self._listed = _listed_in(path)

    def __call__(self, event: Event) -> None:
        """List the picture where `event` tells of one.

        Raises:
            DatasetError: it is one too many.
        """
        if not isinstance(event, BadPictureEvent):
            return
        self._num_bad += 1
        self._list(event.path, event.reason)
        if self._are_too_many(self._num_bad):
            raise self._error(self._num_bad, "cannot be read so far")

    def foresee(self, bad: Sequence[BadPicture]) -> None:
        """List the pictures, found by a look before training, where they are too many: then no step is worth it.

        Raises:
            DatasetError: they are.
        """
        if self._are_too_many(len(bad)):
            for each in bad:
                self._list(str(each.path), f"{shown(each.path)} {each.reason}")
            raise self._error(len(bad), "cannot be read")

    def _list(self, path: str, reason: str) -> None:
        if path not in self._listed:
            self._listed.add(path)
            self._lines.append({"path": path, "reason": reason})

    def _are_too_many(self, count: int) -> bool:
        return count >= FEWEST and count > self._max_share * self._num_pictures

    def _error(self, count: int, what: str) -> DatasetError:
        return DatasetError(
            f"{count} of the {self._num_pictures} pictures {what}: more than --max-bad-share {self._max_share:g} "
            f"allows. They are listed in {self._lines.path}. Replace them or take them out of the data; or raise "
            "--max-bad-share to train without them."
        )


def _listed_in(path: Path) -> set[str]:
    """The paths in a list that an earlier part of the run wrote; a line torn by a kill counts for nothing."""
    listed = set()
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            listed.add(json.loads(line)["path"])
        except ValueError:
            continue
    return listed
