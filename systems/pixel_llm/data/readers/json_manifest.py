"""`json`: one file that maps picture names to a caption or a list of captions, `{"cat.jpg": "a cat"}`."""

import re
from pathlib import Path

from systems.pixel_llm.data.folder import MANIFEST_FILE, FolderListing, quoted, shown
from systems.pixel_llm.data.readers import coco
from systems.pixel_llm.data.readers.captions import captions_of, json_kind
from systems.pixel_llm.data.readers.json_text import load_json
from systems.pixel_llm.data.readers.named_pictures import read_named_pictures
from systems.pixel_llm.data.readers.reader import Reader, ReaderOptions, Reading
from systems.pixel_llm.data.readers.sniffing import file_head
from systems.pixel_llm.errors import DatasetError

__all__ = ["READER"]

TITLE = "JSON manifest"

_A_NAME_AND_A_CAPTION = re.compile(r'\s*\{\s*"(?:[^"\\]|\\.)+"\s*:\s*["\[]')


def find(listing: FolderListing) -> list[Path | None]:
    """`manifest.json`, which is what its name says, or any .json file that begins like one."""
    if MANIFEST_FILE in listing.manifests:
        return [listing.folder / MANIFEST_FILE]
    paths = [listing.folder / name for name in listing.manifests]
    return [path for path in paths if _A_NAME_AND_A_CAPTION.match(file_head(path)) and not coco.fits(path)]


def fits(path: Path) -> bool:
    """Whether a file is named as JSON, and is not one of COCO's."""
    return path.suffix.lower() == ".json" and not coco.fits(path)


def read(dataset_dir: Path, manifest: Path | None, options: ReaderOptions) -> Reading:
    """Read a manifest.

    Raises:
        DatasetError: it is not as told here, or no picture of it is there.
    """
    assert manifest is not None, "a format with a manifest is read with one"
    content = load_json(manifest, expected="an object that maps picture names to captions")
    if not isinstance(content, dict):
        raise DatasetError(
            f"The manifest {shown(manifest)} must be a JSON object that maps picture names to captions, "
            f'{{"cat.jpg": "a cat"}}; found {json_kind(content)}.'
        )
    if not content:
        raise DatasetError(f"The manifest {shown(manifest)} is empty. It must map picture names to captions.")
    place = shown(manifest)
    captions_by_name = {
        name: captions_of(value, where=f"in the manifest {place} at the key {quoted(name)}")
        for name, value in content.items()
    }
    return read_named_pictures(
        captions_by_name, caption_format="json", title=TITLE, dataset_dir=dataset_dir, manifest=manifest
    )


READER = Reader(name="json", title=TITLE, find=find, read=read, looked_for="manifest.json", fits=fits)
