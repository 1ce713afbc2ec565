"""What lies in a data folder: pictures, caption files, manifests; and which of the two formats that makes.

`list_folder` looks once, `find_format` decides, and `hint_from` turns what was found instead into the next step, for
this module's error and for that of `read_samples`.
"""

import os
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from systems.pixel_llm.errors import DatasetError

__all__ = ["MANIFEST_FILE", "PICTURE_EXTENSIONS", "FolderListing", "find_format", "list_folder", "shown"]

MANIFEST_FILE = "manifest.json"

PICTURE_EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
"""Names that are taken for pictures beside .txt files, in any case. What a file is, its content tells later."""

_KNOWN_EXTENSIONS = PICTURE_EXTENSIONS | {".txt", ".json"}
_MAX_SUBFOLDERS_LOOKED_AT = 50


@dataclass(frozen=True, kw_only=True)
class FolderListing:
    """The files directly in a folder, by what their names make of them."""

    folder: Path
    pictures: list[str] = field(default_factory=list)
    """Names, sorted."""
    texts: dict[str, list[str]] = field(default_factory=dict)
    """Stem in composed form (NFC: macOS may store accents apart) -> names of its .txt files."""
    manifests: list[str] = field(default_factory=list)
    """Names ending in .json, sorted."""
    subfolders: list[str] = field(default_factory=list)
    """Names, sorted, without hidden ones."""
    links: set[str] = field(default_factory=set)
    """Those of the files that are symbolic links."""

    @property
    def paired(self) -> list[str]:
        """The pictures that have a .txt file."""
        return [name for name in self.pictures if stem_of(name) in self.texts]


def find_format(
    dataset_dir: str | os.PathLike[str], *, manifest: str | os.PathLike[str] | None = None
) -> tuple[str, Path | None]:
    """The caption format of a folder and its manifest: ("json", path) or ("text", None).

    A manifest that is given decides; else `manifest.json` in the folder; else pictures with .txt files beside them.

    Raises:
        DatasetError: the folder or the manifest does not exist, or nothing of this is there; the message names what
            was looked for, what was found, and what to do.
    """
    listing = list_folder(dataset_dir)
    if manifest is not None:
        return "json", find_manifest(listing.folder, manifest)
    if MANIFEST_FILE in listing.manifests:
        return "json", listing.folder / MANIFEST_FILE
    if listing.paired:
        return "text", None
    raise DatasetError(
        f"No captions found in {shown(listing.folder)}: looked for {MANIFEST_FILE}, and for pictures with a .txt file "
        f"of the same name beside them (cat.jpg and cat.txt). {hint_from(listing)}"
    )


def find_manifest(dataset_dir: Path, manifest: str | os.PathLike[str] | None) -> Path:
    """The manifest's path: `manifest` as given or, where there is no such file, inside the folder.

    Raises:
        DatasetError: it is in neither place.
    """
    if manifest is None:
        looked_at = [dataset_dir / MANIFEST_FILE]
    else:
        looked_at = [Path(manifest), dataset_dir / manifest]
    for path in looked_at:
        if os.path.isfile(path):  # noqa: PTH113  Path.is_file raises where a folder may not be entered
            return path
    raise DatasetError(
        f"The manifest {shown(looked_at[0])} does not exist or is not a file: expected a JSON file that maps picture "
        f"names to captions. {hint_from(list_folder(dataset_dir))}"
    )


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
    for names in (listing.pictures, listing.manifests, listing.subfolders):
        names.sort()
    return listing


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
    if not is_file or extension not in _KNOWN_EXTENSIONS:
        return
    if entry.is_symlink():
        listing.links.add(name)
    if extension == ".txt":
        listing.texts.setdefault(stem_of(name), []).append(name)
    else:
        (listing.manifests if extension == ".json" else listing.pictures).append(name)


def stem_of(name: str) -> str:
    """A file's name without its extension, in composed form (NFC)."""
    stem = name.rpartition(".")[0]
    return stem if stem.isascii() else unicodedata.normalize("NFC", stem)


def hint_from(listing: FolderListing) -> str:
    """What to do, judged by what lies in a folder that did not hold what was looked for."""
    folder = listing.folder
    if listing.manifests:
        named = MANIFEST_FILE if MANIFEST_FILE in listing.manifests else listing.manifests[0]
        return (
            f"Found {_some(listing.manifests)} there: if that is the manifest, pass --manifest {shown(folder / named)} "
            f'(in Python: caption_format="json", manifest_file={str(folder / named)!r}).'
        )
    if listing.paired:
        return f'It holds {len(listing.paired)} pictures with .txt files: use caption_format="text".'
    inside = []
    for name in listing.subfolders[:_MAX_SUBFOLDERS_LOOKED_AT]:
        try:
            below = list_folder(folder / name)
        except DatasetError:  # unreadable: nothing to point at
            continue
        if below.paired or MANIFEST_FILE in below.manifests:
            inside.append(str(folder / name))
    if inside:
        return f"Captions are in a folder below it: give that one as the data folder ({_some(inside)})."
    counts = {"picture": len(listing.pictures), ".txt file": len(listing.texts), "folder": len(listing.subfolders)}
    found = [f"{count} {what}{'s' * (count > 1)}" for what, count in counts.items() if count]
    return (
        f"Found there: {', '.join(found) or 'nothing of use'}. Write a .txt file beside each picture, or name the "
        "file that holds the captions with --manifest FILE."
    )


def shown(path: str | os.PathLike[str]) -> str:
    """A path or name fit for a message: one with control characters or bytes that are no text is shown escaped."""
    text = os.fspath(path)
    return text if text.isprintable() else repr(text)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(shown, names[:3])) + more
