"""What lies in a data folder and was not paired: pictures that no caption belongs to, captions without a picture.

Pictures are looked for in all folders below the data folder, by their names. Captions are the .txt files of the format
"text" and the entries of a JSON manifest; of other formats only the pictures are told.
"""

import json
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from systems.pixel_llm.data.folder import PICTURE_EXTENSIONS, stem_of

__all__ = ["UnpairedFiles", "find_unpaired"]

_CAPTION_EXTENSIONS = frozenset({".txt", ".caption"})
_FORMATS_OF_CAPTION_FILES = frozenset({"text", "kohya"})


@dataclass(frozen=True)
class UnpairedFiles:
    """What training passes over."""

    pictures: tuple[Path, ...] = ()
    """Picture files that no caption belongs to, or an empty one."""
    captions: tuple[str, ...] = ()
    """Caption files, or names in a manifest, whose picture is not there."""


def find_unpaired(
    dataset_dir: Path, paired: Collection[Path], *, caption_format: str | None, manifest: Path | None
) -> UnpairedFiles:
    """What was left over in `dataset_dir` by a reader that found the pictures `paired`."""
    used = {os.path.normpath(path) for path in paired}
    pictures, captions = [], []
    for folder, names in _files_below(dataset_dir):
        stems = {stem_of(name) for name in names if _extension(name) in PICTURE_EXTENSIONS}
        for name in names:
            path = Path(folder, name)
            if _extension(name) in PICTURE_EXTENSIONS and os.path.normpath(path) not in used:
                pictures.append(path)
            elif (
                caption_format in _FORMATS_OF_CAPTION_FILES
                and _extension(name) in _CAPTION_EXTENSIONS
                and stem_of(name) not in stems
            ):
                captions.append(str(path))
    if caption_format == "json" and manifest is not None:
        captions += _names_without_picture(manifest, dataset_dir, used)
    return UnpairedFiles(tuple(pictures), tuple(captions))


def _files_below(folder: Path) -> Iterator[tuple[str, Sequence[str]]]:
    """(folder, names of its files) for `folder` and all below it but hidden ones; links to folders are not followed."""
    for inside, subfolders, names in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield inside, sorted(name for name in names if not name.startswith("."))


def _extension(name: str) -> str:
    stem, dot, extension = name.rpartition(".")
    return dot + extension.lower() if stem else ""


def _names_without_picture(manifest: Path, dataset_dir: Path, used: Collection[str]) -> list[str]:
    """The keys of a manifest of which no picture was used, nor is there without a caption."""
    try:
        content = json.loads(manifest.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return []  # the reader has said what is wrong with it
    folders = [manifest.parent, dataset_dir, *{Path(path).parent for path in used}]
    return [
        name
        for name in (content if isinstance(content, dict) else {})
        if not any(os.path.normpath(folder / name) in used for folder in folders)
        and not any(os.path.isfile(folder / name) for folder in folders[:2])  # noqa: PTH113  no error for any name
    ]
