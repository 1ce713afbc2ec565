"""Where captions go: the methods that each way has, and two of the ways, rows on stdout and rows in a file.

The others are in `caption_manifest` and `caption_text_files`. Each way knows from its files alone which pictures are
done, so that the same command, typed again after whatever ended the last one, goes on where that was. Rows are appended
a batch at a time, and a row torn by a kill is cut off at the next call.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from systems.pixel_llm.cli.caption_rows import LineRows, RowForm
from systems.pixel_llm.cli.output_file import content_of, foreign, opened_alone, refuse_odd_output, unwritable
from systems.pixel_llm.errors import DatasetError
from systems.pixel_llm.inference.picture_files import CaptionedPicture

__all__ = ["AppendedRows", "CaptionWriter", "PrintedRows"]


class CaptionWriter(Protocol):
    """A way to keep captions."""

    is_kept: bool
    """Whether the next call knows what this one did."""

    def is_done(self, path: Path) -> bool:
        """Whether the picture has its caption already."""

    def objection(self, path: Path) -> str | None:
        """Why the caption of this picture cannot be kept in this way; None where it can."""

    def write(self, pictures: Sequence[CaptionedPicture]) -> None:
        """Keep the captions of a batch.

        Raises:
            DatasetError: the disk is full, or may not be written to.
        """

    def settle(self) -> None:
        """What is there is whole for whoever reads it, until more is written."""

    def close(self) -> None:
        """Nothing more will be written."""


class PrintedRows:
    """Rows on stdout, which nobody remembers."""

    is_kept = False

    def __init__(self, form: RowForm) -> None:
        self._form = form
        self._head = form.head

    def is_done(self, path: Path) -> bool:
        """Never."""
        return False

    def objection(self, path: Path) -> str | None:
        """None: stdout takes any."""
        return None

    def write(self, pictures: Sequence[CaptionedPicture]) -> None:
        """Print a batch, and let it out at once."""
        text, self._head = self._head + "".join(map(self._form.rows, pictures)), ""
        if isinstance(self._form, LineRows):
            sys.stdout.write(text)
        else:  # for programs: UTF-8 and its own line ends, whatever the terminal has
            sys.stdout.flush()
            sys.stdout.buffer.write(text.encode())
        sys.stdout.flush()

    def settle(self) -> None:
        """Nothing is to be done."""

    def close(self) -> None:
        """Nothing is to be done."""


class AppendedRows:
    """Rows in a file."""

    is_kept = True

    def __init__(self, file: Path, form: RowForm, *, overwrite: bool = False) -> None:
        """Look at what `file` holds, and cut off a torn row. `overwrite`: the first batch takes the place of all that.

        Raises:
            DatasetError: it holds something else, cannot be read or written, or another process is writing to it.
        """
        refuse_odd_output(file)
        self._path, self._form = file, form
        self._file = opened_alone(file)
        self._is_cut = not overwrite
        try:
            names = self._names_there()
            if overwrite:
                names, self._size = [], 0
            elif os.fstat(self._file.fileno()).st_size > self._size:
                self._file.truncate(self._size)
        except BaseException as error:
            self._file.close()
            if isinstance(error, OSError):
                raise unwritable(file, error) from error
            raise
        self._done = {os.path.abspath(name) for name in names}  # noqa: PTH100  it does not follow links

    def _names_there(self) -> list[str]:
        """The names in the whole rows of the file, whose size is noted."""
        data = content_of(self._path)
        self._size = self._form.whole(data)
        try:
            names = list(self._form.names(data[: self._size].decode()))
        except (DatasetError, UnicodeDecodeError) as error:
            raise foreign(self._path, error) from error
        if data and self._size == 0 and not self._form.is_begun(data):
            raise foreign(self._path, "no line of it is whole")
        return names

    def is_done(self, path: Path) -> bool:
        """Whether the file has a row of the picture."""
        return os.path.abspath(self._form.name(path)) in self._done  # noqa: PTH100

    def objection(self, path: Path) -> str | None:
        """None: a row takes any."""
        return None

    def write(self, pictures: Sequence[CaptionedPicture]) -> None:
        """Append the rows of a batch."""
        self.append("".join(map(self._form.rows, pictures)))
        self._done.update(os.path.abspath(self._form.name(picture.path)) for picture in pictures)  # noqa: PTH100

    def append(self, rows: str) -> None:
        """Append whole rows, or nothing."""
        data = (rows if self._size else self._form.head + rows).encode()
        try:
            if not self._is_cut:
                self._file.truncate(0)
                self._is_cut = True
            written = 0
            while written < len(data):  # a nearly full disk takes a part first
                written += self._file.write(data[written:])
        except OSError as error:
            with suppress(OSError):  # else the next call cuts it off
                self._file.truncate(self._size)
            raise unwritable(self._path, error) from error
        self._size += len(data)

    def empty(self) -> None:
        """Go back to a file without rows."""
        self._file.truncate(0)
        self._size = 0

    def settle(self) -> None:
        """Nothing is to be done: rows are whole."""

    def close(self) -> None:
        """End writing; a file without rows is removed."""
        if self._size == 0 and self._is_cut:
            self._path.unlink(missing_ok=True)
        self._file.close()
