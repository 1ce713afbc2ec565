"""How pictures and captions are written a row each, and found again in a file: lines, JSON lines, CSV.

One class a form. A form knows its rows and the names in them, nothing of files: `caption_writers` appends, repairs and
resumes. What a form reads must be what it writes: a file of another kind is refused, never added to.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any, Protocol

from systems.pixel_llm.cli.lines import escaped, one_line
from systems.pixel_llm.errors import DatasetError
from systems.pixel_llm.inference.picture_files import CaptionedPicture

__all__ = ["CsvRows", "JsonRows", "LineRows", "RowForm", "caption_or_list"]


class RowForm(Protocol):
    """A form of file to which pictures are appended."""

    head: str
    """What the file begins with, a line end included."""

    def name(self, path: Path) -> str:
        """The picture's name as a row has it."""

    def rows(self, picture: CaptionedPicture) -> str:
        """The rows of a picture, the line end of each included."""

    def whole(self, data: bytes) -> int:
        """How many bytes are whole rows: what follows them was torn by a kill or a full disk."""

    def is_begun(self, data: bytes) -> bool:
        """Whether a file without one whole row was torn in the first one, and nobody else's."""

    def names(self, text: str) -> Iterator[str]:
        """The name in each row of a file, as of `name`.

        Raises:
            DatasetError: it holds something else; the message tells the line, not the file.
        """


class LineRows:
    """A line a picture, for people: its name, a tab, the caption; further captions follow, a tab before each."""

    head = ""

    def name(self, path: Path) -> str:
        """Fit for one field of one line."""
        return _without_half_characters(escaped(str(path)))

    def rows(self, picture: CaptionedPicture) -> str:
        """One line."""
        captions = [_without_half_characters(one_line(caption.text)) for caption in picture.captions]
        return "\t".join([self.name(picture.path), *captions]) + "\n"

    def whole(self, data: bytes) -> int:
        """Up to the last line end."""
        return data.rfind(b"\n") + 1

    def is_begun(self, data: bytes) -> bool:
        """By its tab."""
        return b"\t" in data

    def names(self, text: str) -> Iterator[str]:
        """What stands before the first tab of each line."""
        for number, line in enumerate(text.split("\n")[:-1], start=1):
            name, tab, _ = line.partition("\t")
            if not tab or not name:
                raise DatasetError(f"line {number} is not a name, a tab and a caption")
            yield name


class JsonRows:
    """One JSON object a line: `image`, `caption` and `log_probability`, the latter two lists for several captions."""

    head = ""

    def __init__(self, *, is_list: bool) -> None:
        """`is_list`: several captions a picture were asked for."""
        self._is_list = is_list

    def name(self, path: Path) -> str:
        """The path as it is: JSON can hold any, bytes that are no text as halves of characters."""
        return str(path)

    def rows(self, picture: CaptionedPicture) -> str:
        """One line."""
        return self.row(self.name(picture.path), picture)

    def row(self, name: str, picture: CaptionedPicture) -> str:
        """The line of a picture under another name."""
        log_probabilities = [caption.log_probability for caption in picture.captions]
        record = {
            "image": name,
            "caption": caption_or_list(picture, is_list=self._is_list),
            "log_probability": log_probabilities if self._is_list else log_probabilities[0],
        }
        return _without_half_characters(json.dumps(record, ensure_ascii=False)) + "\n"

    def whole(self, data: bytes) -> int:
        """Up to the last line end."""
        return data.rfind(b"\n") + 1

    def is_begun(self, data: bytes) -> bool:
        """By its first key."""
        return _share_beginning(data, b'{"image": ')

    def names(self, text: str) -> Iterator[str]:
        """The `image` of each line."""
        for record in self.records(text):
            yield record["image"]

    def records(self, text: str) -> Iterator[dict[str, Any]]:
        """The object of each line.

        Raises:
            DatasetError: a line is none of this form's.
        """
        for number, line in enumerate(text.split("\n")[:-1], start=1):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DatasetError(f"line {number} is not JSON") from error
            if not isinstance(record, dict) or not isinstance(record.get("image"), str) or "caption" not in record:
                raise DatasetError(f'line {number} is not an object {{"image": ..., "caption": ...}}')
            yield record


class CsvRows:
    """A table as RFC 4180 has it: `image,caption,log_probability`; several captions of a picture are several rows."""

    COLUMNS = ("image", "caption", "log_probability")

    def __init__(self, *, num_captions: int) -> None:
        """`num_captions`: how many each picture gets."""
        self._num_captions = num_captions
        self.head = self._line(self.COLUMNS)

    def name(self, path: Path) -> str:
        """The path; bytes that are no text as the numbers of half characters, since a table is text."""
        return _without_half_characters(str(path))

    def rows(self, picture: CaptionedPicture) -> str:
        """A row a caption."""
        return "".join(
            self._line([self.name(picture.path), _without_half_characters(each.text), repr(each.log_probability)])
            for each in picture.captions
        )

    def whole(self, data: bytes) -> int:
        """Up to the last line end that stands in no quotes, and without a last picture that lacks captions."""
        ends, quotes = [0], 0
        for line in re.finditer(rb"[^\n]*\n", data):
            quotes += line[0].count(b'"')
            if quotes % 2 == 0:
                ends.append(line.end())
        names = [_first_field(data[start:end]) for start, end in pairwise(ends[-self._num_captions - 1 :])]
        num_last = sum(1 for _ in takewhile(lambda name: name == names[-1], reversed(names)))
        is_lacking = len(ends) > 2 and num_last < self._num_captions  # the first row is the head
        return ends[-1 - num_last] if is_lacking else ends[-1]

    def is_begun(self, data: bytes) -> bool:
        """By its head."""
        return _share_beginning(data, self.head.encode())

    def names(self, text: str) -> Iterator[str]:
        """The first field of each row."""
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        try:
            for fields in reader:
                is_head = reader.line_num == 1
                if is_head and tuple(fields) != self.COLUMNS:
                    raise DatasetError(f"its first line is not {self.head.strip()}")
                if len(fields) != len(self.COLUMNS):
                    raise DatasetError(f"line {reader.line_num} has {len(fields)} fields, not {len(self.COLUMNS)}")
                if not is_head:
                    yield fields[0]
        except csv.Error as error:
            raise DatasetError(f"line {reader.line_num} is no row of a table ({error})") from error

    def _line(self, fields: Sequence[str]) -> str:
        line = io.StringIO(newline="")
        csv.writer(line, lineterminator="\r\n").writerow(fields)
        return line.getvalue()


def caption_or_list(picture: CaptionedPicture, *, is_list: bool) -> str | list[str]:
    """The captions as JSON has them."""
    texts = [caption.text for caption in picture.captions]
    return texts if is_list else texts[0]


def _first_field(row: bytes) -> str:
    try:
        return next(csv.reader(io.StringIO(row.decode(), newline="")), [""])[0]
    except (csv.Error, UnicodeDecodeError, IndexError):  # a file of another kind, which `names` will refuse
        return ""


def _share_beginning(data: bytes, start: bytes) -> bool:
    return data[: len(start)] == start[: len(data)]


def _without_half_characters(text: str) -> str:
    r"""`text` as UTF-8 can hold it: a half character (a byte of a name that is no text) as `\udc..`, as JSON has it."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()
