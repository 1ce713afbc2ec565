"""A file of JSON objects, one a line, only ever appended to, that neither a kill nor a full disk spoils.

A line that was cut off is closed before the next one, so that it alone is lost. Where the disk is full, lines are lost
until it has room again: what is written here are notes on a run, and no reason to end it.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from systems.pixel_llm.free_space import is_out_of_space

__all__ = ["JsonLines"]

logger = logging.getLogger(__name__)


class JsonLines:
    """Appends to the file `path`, which is made, with its folder, for the first line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_full = False

    def append(self, record: Mapping[str, Any]) -> None:
        """Append one object. On a full disk it is left out, and the first time a warning says so.

        Raises:
            OSError: the file cannot be written, for another reason than room.
        """
        # The name of a file may hold bytes that are no text: they become the escapes that JSON has for them.
        line = json.dumps(record, ensure_ascii=False).encode(errors="backslashreplace")
        try:
            self._append(line)
        except OSError as error:
            if not is_out_of_space(error):
                raise
            if not self._is_full:
                logger.warning("%s lacks lines from here on, until there is room: %s", self.path, error)
            self._is_full = True
        else:
            self._is_full = False

    def _append(self, line: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            if file.tell() > 0:
                file.seek(-1, 2)
                if file.read(1) != b"\n":  # a line that was cut off: close it, so that only that one is lost
                    file.write(b"\n")
            file.write(line + b"\n")
