"""Rows with a picture's name and a caption, as tables and lines of JSON hold them: which columns, and what they say.

Columns have the names that people use, or those that the options give. Several rows of one picture are several
captions of it; the very same row again counts once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from systems.pixel_llm.data.folder import quoted, shown
from systems.pixel_llm.data.readers.captions import captions_of, json_kind, keys_told
from systems.pixel_llm.data.readers.reader import ReaderOptions
from systems.pixel_llm.errors import DatasetError, nearest_name_hint

__all__ = [
    *("CAPTION_COLUMNS", "IMAGE_COLUMNS", "ROW_OPTIONS", "Columns", "Rows"),
    *("METADATA_STEM", "find_column", "find_columns"),
]

ROW_OPTIONS = frozenset({"image_column", "caption_column"})
"""The options that a reader of rows knows."""

IMAGE_COLUMNS = (
    *("file_name", "filename", "image_file", "image_path", "image_name", "image_filename", "image", "images"),
    *("img_path", "img_name", "img", "file_path", "filepath", "path", "file", "picture", "photo", "name"),
)
"""Usual names of the column of pictures; the first that is there is taken."""

CAPTION_COLUMNS = (
    *("caption", "captions", "text", "texts", "caption_text", "image_caption", "description", "descriptions"),
    *("sentence", "sentences", "comment", "title", "prompt", "label"),
)
"""Usual names of the column of captions; the first that is there is taken."""

_NAMES_HINTED = 12
_NAME_HINTED = 60

METADATA_STEM = "metadata"
"""A table of this name belongs to the format `imagefolder`."""


class Columns(NamedTuple):
    """The names of the two columns, as the file spells them."""

    image: str
    caption: str


class Rows:
    """The rows of a file as they come: name -> captions, and the names of which a row came twice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._place = shown(path)
        self.repeated: list[str] = []
        self._captions: dict[str, dict[str, None]] = {}  # the inner one is a set that keeps its order

    @property
    def captions_by_name(self) -> dict[str, tuple[str, ...]]:
        """Name as written -> its captions, without the empty ones."""
        return {name: tuple(captions) for name, captions in self._captions.items()}

    def add(self, name: Any, value: Any, *, line: int) -> None:
        """Take in one row.

        Raises:
            DatasetError: the name is no text or empty, or the caption is neither text nor a list of texts.
        """
        where = f"in {self._place}, line {line}"
        if not isinstance(name, str) or not (name := name.strip()):
            found = "nothing" if isinstance(name, str) else json_kind(name)
            raise DatasetError(f"No picture's name {where}: expected a file name, found {found}. Correct it there.")
        before = self._captions.setdefault(name, {})
        for caption in captions_of(value, where=where):
            if caption in before:
                self.repeated.append(name)
            before[caption] = None


def find_columns(names: Sequence[str], *, options: ReaderOptions, path: Path) -> Columns:
    """The columns of the picture's name and of the caption, among those of a file.

    Raises:
        DatasetError: one is not there; the message names those that are.
    """
    image = find_column(
        names, option="image_column", given=options.image_column, usual=IMAGE_COLUMNS, what="the pictures' names",
        path=path,
    )  # fmt: skip
    caption = find_column(
        names, option="caption_column", given=options.caption_column, usual=CAPTION_COLUMNS, what="the captions",
        path=path,
    )  # fmt: skip
    if image == caption:
        raise DatasetError(
            f"{shown(path)} has {quoted(image)} for both the names and the captions. Name another column."
        )
    return Columns(image, caption)


def find_column(
    names: Sequence[str], *, option: str, given: str | None, usual: Sequence[str], what: str, path: Path
) -> str:
    """The column that is `given` by the option of that name, else the first of the usual ones that is there.

    Raises:
        DatasetError: it is not there; the message names those that are.
    """
    if given is not None and given in names:
        return given
    by_usual_name = {_usual(name): name for name in reversed(names)}
    for name in usual if given is None else (given,):
        if _usual(name) in by_usual_name:
            return by_usual_name[_usual(name)]
    expected = f"one of {', '.join(usual)}" if given is None else quoted(given)
    hint = f"Say which it is with {option} (--{option.replace('_', '-')})."
    if given is not None:
        hint = nearest_name_hint(given, [each[:_NAME_HINTED] for each in names[:_NAMES_HINTED]])
    raise DatasetError(f"{shown(path)} has no column of {what}: expected {expected}, found {keys_told(names)}. {hint}")


def _usual(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")
