"""What lies in a data folder: pictures, caption files, and files that may name pictures, by what their names say.

`list_folder` looks at one folder, once; `walk_folder` goes into those below it too. Neither opens a file nor follows a
link into another folder. `hint_from` turns what was found into the next step, for the errors of those who looked for
something else.
"""

import contextlib
import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from systems.pixel_llm.errors import DatasetError

__all__ = [
    "MANIFEST_FILE",
    "PICTURE_EXTENSIONS",
    "TEXT_EXTENSIONS",
    "FolderListing",
    "hint_from",
    "is_archive",
    "list_folder",
    "quoted",
    "shown",
    "shown_some",
    "stem_of",
    "walk_folder",
]

MANIFEST_FILE = "manifest.json"

PICTURE_EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
"""Names that are taken for pictures beside caption files, in any case. What a file is, its content tells later."""

TEXT_EXTENSIONS = frozenset({".txt", ".caption"})
"""Names that are taken for the caption of the picture of the same name, in any case."""

TABLE_EXTENSIONS = frozenset({".jsonl", ".ndjson", ".csv", ".tsv", ".parquet"})

ARCHIVE_EXTENSIONS = frozenset({".tar", ".tgz", ".tbz2", ".txz"})

COMPRESSION_EXTENSIONS = frozenset({".gz", ".bz2", ".xz", ".zst"})
"""After `.tar`: the name of a compressed archive."""

_KNOWN_EXTENSIONS = PICTURE_EXTENSIONS | TEXT_EXTENSIONS | TABLE_EXTENSIONS | {".json"}
_MAX_FOLDERS = 100_000
"""Below more folders than this lies no data set, but somebody's whole disk."""

_ABOUT_THE_FOLDER = {"readme", "license", "licence"}

_MAX_NEAR = 50
"""A file that names pictures is looked for in that many folders below."""


@dataclass(frozen=True, kw_only=True)
class FolderListing:
    """The files directly in a folder, by what their names make of them."""

    folder: Path
    pictures: list[str] = field(default_factory=list)
    """Names, sorted."""
    texts: dict[str, list[str]] = field(default_factory=dict)
    """Stem in composed form (NFC: macOS may store accents apart) -> names of its .txt and .caption files."""
    manifests: list[str] = field(default_factory=list)
    """Names ending in .json, sorted."""
    tables: list[str] = field(default_factory=list)
    """Names ending in .jsonl, .ndjson, .csv, .tsv or .parquet, sorted."""
    archives: list[str] = field(default_factory=list)
    """Names of tar files, compressed ones too, sorted."""
    subfolders: list[str] = field(default_factory=list)
    """Names, sorted, without hidden ones."""
    links: set[str] = field(default_factory=set)
    """Those of the files and folders that are symbolic links."""

    @property
    def paired(self) -> list[str]:
        """The pictures that have a caption file."""
        return [name for name in self.pictures if stem_of(name) in self.texts] if self.texts else []

    @property
    def lone_texts(self) -> list[str]:
        """The names, sorted, of .txt and .caption files that no picture has the name of, but for a README."""
        stems = {stem_of(name) for name in self.pictures} | {
            stem for stem in self.texts if stem.lower() in _ABOUT_THE_FOLDER
        }
        return sorted(name for stem, names in self.texts.items() if stem not in stems for name in names)

    @cached_property
    def children(self) -> Sequence["FolderListing"]:
        """The folders directly below, as of when they are first asked for; no links, none unreadable.

        This is for a glance: who reads a folder says what cannot be read.
        """
        found = []
        for name in self.subfolders:
            if name not in self.links:
                with contextlib.suppress(DatasetError):
                    found.append(list_folder(self.folder / name))
        return found

    @property
    def near(self) -> Sequence["FolderListing"]:
        """The folder and those directly below it: where a file that names pictures may lie."""
        return (self, *self.children[:_MAX_NEAR])


def list_folder(folder: str | os.PathLike[str]) -> FolderListing:
    """Look at a folder, once, without going into it.

    Raises:
        DatasetError: it does not exist, is no folder, or cannot be read.
    """
    folder = Path(folder)
    listing = FolderListing(folder=folder)
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                _add(entry, listing)
    except FileNotFoundError as error:
        raise DatasetError(
            f"The data folder {shown(folder)} does not exist (the current folder is {shown(Path.cwd())}). Give the "
            "folder that holds the pictures."
        ) from error
    except NotADirectoryError as error:
        raise DatasetError(
            f"The data folder {shown(folder)} is a file. Give the folder that holds the pictures."
        ) from error
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"The data folder {shown(folder)} cannot be read: {error}. Check its permissions."
        ) from error
    for names in (listing.pictures, listing.manifests, listing.tables, listing.archives, listing.subfolders):
        names.sort()
    return listing


def walk_folder(top: FolderListing, *, at_a_glance: bool = False) -> Iterator[FolderListing]:
    """The folder and all below it, each before those in it, by name. Hidden folders and links are not gone into.

    At a glance, folders that cannot be read are left out, and what was listed before is not listed again.

    Raises:
        DatasetError: a folder cannot be read, or there are too many of them.
    """
    waiting = [top]
    count = 0
    while waiting:
        listing = waiting.pop()
        yield listing
        count += len(listing.subfolders)
        if count > _MAX_FOLDERS:
            raise DatasetError(
                f"There are more than {_MAX_FOLDERS:,} folders below {shown(top.folder)}. Give the folder that holds "
                "the pictures."
            )
        if at_a_glance:
            waiting += reversed(listing.children)
        else:
            names = [name for name in reversed(listing.subfolders) if name not in listing.links]
            waiting += [list_folder(listing.folder / name) for name in names]


def _add(entry: os.DirEntry[str], listing: FolderListing) -> None:
    name = entry.name
    stem, dot, extension = name.rpartition(".")
    extension = dot + extension.lower() if stem else ""
    try:
        is_folder, is_file = entry.is_dir(), entry.is_file()
    except OSError:  # a link in a circle, or into a folder that may not be entered, leads to nothing
        return
    if is_folder and not name.startswith("."):
        listing.subfolders.append(name)
    # A pipe or a device would block whoever opens it: only regular files count.
    elif not is_file or not (extension in _KNOWN_EXTENSIONS or is_archive(name)):
        return
    if entry.is_symlink():
        listing.links.add(name)
    if is_folder:
        return
    if extension in TEXT_EXTENSIONS:
        listing.texts.setdefault(stem_of(name), []).append(name)
    elif extension in PICTURE_EXTENSIONS:
        listing.pictures.append(name)
    elif is_archive(name):
        listing.archives.append(name)
    else:
        (listing.manifests if extension == ".json" else listing.tables).append(name)


def is_archive(name: str) -> bool:
    """Whether a file is named as a tar archive, compressed or not."""
    stem, extension = os.path.splitext(name.lower())  # noqa: PTH122  a Path for each name is slow
    return extension in ARCHIVE_EXTENSIONS or (extension in COMPRESSION_EXTENSIONS and stem.endswith(".tar"))


def stem_of(name: str) -> str:
    """A file's name without its extension, in composed form (NFC)."""
    stem = name.rpartition(".")[0]
    return stem if stem.isascii() else unicodedata.normalize("NFC", stem)


def hint_from(listing: FolderListing) -> str:
    """What to do, judged by what lies in a folder that did not hold what was looked for."""
    folder = listing.folder
    named_files = [*listing.manifests, *listing.tables]
    if named_files:
        named = MANIFEST_FILE if MANIFEST_FILE in listing.manifests else named_files[0]
        return (
            f"Found {shown_some(named_files)} there: if that is what names the pictures, pass --manifest "
            f'{shown(folder / named)} (in Python: caption_format="auto", manifest_file={str(folder / named)!r}).'
        )
    if listing.archives:
        return f'Found {shown_some(listing.archives)} there: for captioned pictures in tar files use "webdataset".'
    if listing.paired:
        return f'It holds {len(listing.paired)} pictures with .txt files: use caption_format="text".'
    counts = {
        "picture": len(listing.pictures),
        ".txt file": sum(map(len, listing.texts.values())),
        "folder": len(listing.subfolders),
    }
    found = [f"{count} {what}{'s' * (count > 1)}" for what, count in counts.items() if count]
    return (
        f"Found there: {', '.join(found) or 'nothing of use'}. Write a .txt file beside each picture, or name the "
        "file that holds the captions with --manifest FILE."
    )


def shown(path: str | os.PathLike[str]) -> str:
    """A path or name fit for a message: one with control characters or bytes that are no text is shown escaped."""
    text = os.fspath(path)
    return text if text.isprintable() else repr(text)


def quoted(text: str, *, at_most: int = 200) -> str:
    """What a file says, in quotes for a message: control characters escaped, a long one cut."""
    return repr(text if len(text) <= at_most else f"{text[:at_most]}...")


def shown_some(names: Sequence[str]) -> str:
    """The first three of these names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(shown, names[:3])) + more
