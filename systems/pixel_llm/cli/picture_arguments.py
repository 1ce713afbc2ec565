"""The words PICTURE... of a command line -> picture files, each once, in an order that people expect.

A word is a file, a folder (all pictures below it), a pattern that the shell left alone (`'photos/**/*.jpg'`), or `-`:
names from stdin. Nothing is opened here. A file that is named is taken as it is, there or not: whoever opens it says
what is wrong with it. In folders and for patterns, names decide, hidden ones are left out and links to folders are not
followed, so that none leads in a circle.
"""

import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from systems.pixel_llm.data.folder import PICTURE_EXTENSIONS, list_folder, shown
from systems.pixel_llm.errors import DatasetError

__all__ = ["NamedPictures", "find_pictures", "natural_order", "pictures_below", "read_names", "walk_pictures"]

STDIN = "-"
MAGIC = re.compile(r"[*?\[]")
DIGITS = re.compile(r"([0-9]+)")


@dataclass
class NamedPictures:
    """What was found; `find_pictures` fills it."""

    paths: list[Path] = field(default_factory=list)
    """Each picture once."""
    files: list[Path] = field(default_factory=list)
    """Those of them that were named themselves, not by their folder."""
    folders: list[Path] = field(default_factory=list)
    """Those that were named."""
    unreadable: dict[Path, str] = field(default_factory=dict)
    """Folders below them that could not be looked into, and why."""


def find_pictures(words: Sequence[Path], *, null_separated: bool = False, may_be_empty: bool = False) -> NamedPictures:
    """The pictures that the words name.

    Args:
        words: what stands on the command line.
        null_separated: names on stdin end with NUL, as `find -print0` writes them, not with a line end.
        may_be_empty: folders without a picture are no error.

    Raises:
        DatasetError: a word names nothing, a named folder cannot be read, or stdin has no names.
    """
    found = NamedPictures()
    places: set[str] = set()

    def add(paths: Iterable[Path]) -> None:
        for path in paths:
            place = os.path.abspath(path)  # noqa: PTH100  it does not follow links
            if place not in places:
                places.add(place)
                found.paths.append(path)

    for word in words:
        if os.fspath(word) == STDIN:
            for path in read_names(null_separated=null_separated):
                add(_below_or_itself(path, found))
        elif MAGIC.search(os.fspath(word)) and not os.path.lexists(word):
            for path in _matches(word):
                add(_below_or_itself(path, found))
        else:
            add(_below_or_itself(word, found))
    if not (found.paths or found.unreadable or may_be_empty):
        raise DatasetError(_nothing_in(found.folders))
    return found


def pictures_below(folder: Path, unreadable: dict[Path, str] | None = None) -> list[Path]:
    """The pictures of `walk_pictures` in natural order: `2.jpg` before `10.jpg`.

    Raises:
        DatasetError: the folder itself cannot be read.
    """
    return sorted(walk_pictures(folder, unreadable), key=natural_order)


def walk_pictures(folder: Path, unreadable: dict[Path, str] | None = None) -> Iterator[Path]:
    """All pictures in a folder and those below it, by name, in no order.

    Folders below that cannot be read go to `unreadable`, each with the reason.

    Raises:
        DatasetError: the folder itself cannot be read.
    """
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            listing = list_folder(place)
        except DatasetError as error:
            if place == folder:
                raise
            if unreadable is not None:
                unreadable[place] = str(error)
            continue
        yield from (place / name for name in listing.pictures if not name.startswith("."))
        waiting += [place / name for name in listing.subfolders if name not in listing.links]


def natural_order(path: Path) -> list[list[tuple[float, str]]]:
    """A key by which paths are sorted as people do: part by part, numbers by their value, capitals beside small."""
    return [
        [
            (int(piece), "") if DIGITS.fullmatch(piece) else (math.inf, piece.casefold())
            for piece in DIGITS.split(part)
            if piece
        ]
        for part in path.parts
    ]


def read_names(*, null_separated: bool) -> list[Path]:
    """The names on stdin, as bytes, since that is what names are; empty ones are passed over.

    Raises:
        DatasetError: there is none.
    """
    if sys.stdin.isatty():
        print("pixel-llm: reading names of pictures, one a line, up to Ctrl-D", file=sys.stderr)
    data = sys.stdin.buffer.read()
    names = data.split(b"\0") if null_separated else [line.removesuffix(b"\r") for line in data.split(b"\n")]
    paths = [Path(os.fsdecode(name)) for name in names if name]
    if not paths:
        raise DatasetError("There are no names of pictures on stdin, and PICTURE - reads them from there, one a line.")
    return paths


def _below_or_itself(path: Path, found: NamedPictures) -> list[Path]:
    if not path.is_dir():
        found.files.append(path)
        return [path]
    found.folders.append(path)
    return pictures_below(path, found.unreadable)


def _matches(pattern: Path) -> Iterator[Path]:
    """The files and folders that a pattern matches; files by any name only if the pattern says how they end."""
    parts = pattern.parts
    first = next(index for index, part in enumerate(parts) if MAGIC.search(part))
    base, rest = Path(*parts[:first]), Path(*parts[first:])
    ending = os.path.splitext(rest.name)[1]  # noqa: PTH122
    takes_any = bool(ending) and not MAGIC.search(ending)
    takes_hidden = any(part.startswith(".") for part in rest.parts)
    try:
        paths = sorted(base.glob(os.fspath(rest)), key=natural_order)
    except ValueError as error:  # such as ** beside other letters
        raise DatasetError(f"The pattern {shown(pattern)} cannot be used: {error}.") from error
    found = [
        path
        for path in paths
        if (takes_hidden or not any(part.startswith(".") for part in path.relative_to(base).parts))
        and (takes_any or path.suffix.lower() in PICTURE_EXTENSIONS or path.is_dir())
    ]
    if not found:
        raise DatasetError(
            f"No picture matches the pattern {shown(pattern)}: looked for it in {shown(base.absolute())}"
            f"{'' if base.is_dir() else ', which is no folder'}. Correct it, or name the folder alone to take all "
            "pictures below it."
        )
    yield from found


def _nothing_in(folders: Sequence[Path]) -> str:
    some = ", ".join(map(shown, folders[:3])) + (f" and {len(folders) - 3} more" if len(folders) > 3 else "")
    return (
        f"No picture in {some}: looked there and in all folders below for names that end in "
        f"{', '.join(sorted(PICTURE_EXTENSIONS))}; hidden ones and links to folders are left out. Name the folder that "
        "holds the pictures, or the files themselves."
    )
