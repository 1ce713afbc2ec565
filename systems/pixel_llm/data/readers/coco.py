"""`coco`: one JSON file with `images` (id, file_name) and `annotations` (image_id, caption), the pictures elsewhere."""

from pathlib import Path
from typing import Any

from systems.pixel_llm.data.folder import FolderListing, quoted, shown
from systems.pixel_llm.data.readers.captions import captions_of, json_kind, keys_told
from systems.pixel_llm.data.readers.json_text import load_json
from systems.pixel_llm.data.readers.named_pictures import read_named_pictures
from systems.pixel_llm.data.readers.reader import Reader, ReaderOptions, Reading
from systems.pixel_llm.data.readers.sniffing import file_holds
from systems.pixel_llm.errors import DatasetError

__all__ = ["READER", "fits"]

TITLE = "COCO captions"

_EXPECTED = (
    'an object with "images", a list of {"id": 1, "file_name": "cat.jpg"}, and "annotations", a list of '
    '{"image_id": 1, "caption": "a cat"}'
)
_WORDS = ['"images"', '"annotations"', '"image_id"', '"caption"']


def find(listing: FolderListing) -> list[Path | None]:
    """The .json files in the folder and in those directly below it that hold the words of the format."""
    return [path for each in listing.near for name in each.manifests if fits(path := each.folder / name)]


def fits(path: Path) -> bool:
    """Whether a .json file holds the words of the format."""
    return path.suffix.lower() == ".json" and file_holds(path, _WORDS)


def read(dataset_dir: Path, manifest: Path | None, options: ReaderOptions) -> Reading:
    """Read a file.

    Raises:
        DatasetError: it is not as told here, or no picture of it is there.
    """
    assert manifest is not None, "a format with a manifest is read with one"
    content = load_json(manifest, expected=_EXPECTED)
    name_by_id: dict[Any, str] = {}
    for place, image in _records(content, "images", ("id", "file_name"), path=manifest):
        image_id, name = image["id"], image["file_name"]
        _check_id(image_id, f"{place}, has the id")
        if not isinstance(name, str):
            raise DatasetError(f"{place}, has a file_name that is {json_kind(name)}; expected a string.")
        if name_by_id.setdefault(image_id, name) != name:
            raise DatasetError(
                f"{place}, has the id {image_id!r:.200} of another image, {quoted(name_by_id[image_id])}. Give each "
                "its own."
            )
    captions_by_name: dict[str, list[str]] = {name: [] for name in name_by_id.values()}
    without_image: list[str] = []
    for place, annotation in _records(content, "annotations", ("image_id", "caption"), path=manifest):
        image_id = annotation["image_id"]
        _check_id(image_id, f"{place}, has the image_id")
        captions = captions_of(annotation["caption"], where=f"in {place}")
        if image_id in name_by_id:
            captions_by_name[name_by_id[image_id]] += captions
        else:
            without_image.append(f"image_id {image_id}")
    if not captions_by_name:
        raise DatasetError(f"{shown(manifest)} names no images. It must hold {_EXPECTED}.")
    return read_named_pictures(
        captions_by_name,
        caption_format="coco",
        title=TITLE,
        dataset_dir=dataset_dir,
        manifest=manifest,
        passed_over={"an image_id that no image has": without_image},
    )


def _records(content: Any, key: str, needed: tuple[str, str], *, path: Path) -> Any:
    """(where it stands, the object) for each of a list of the file, all of them with the keys that are needed."""
    found = content.get(key) if isinstance(content, dict) else None
    if not isinstance(found, list):
        what = json_kind(content) if not isinstance(content, dict) else f"{key!r}: {json_kind(found)}"
        if isinstance(content, dict) and key not in content:
            what = f"the keys {keys_told(content)}"
        raise DatasetError(f"{shown(path)} must hold {_EXPECTED}; found {what}.")
    for number, record in enumerate(found):
        place = f"{shown(path)}, {key} number {number}"
        if not isinstance(record, dict):
            raise DatasetError(f"{place}, is {json_kind(record)}; expected an object.")
        for name in needed:
            if name not in record:
                raise DatasetError(
                    f"{place}, lacks {name!r}; it has {keys_told(record)}. Add it there: expected {_EXPECTED}."
                )
        yield place, record


def _check_id(value: Any, place: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise DatasetError(f"{place} {json_kind(value)}; expected a whole number or a string.")


READER = Reader(
    name="coco",
    title=TITLE,
    find=find,
    read=read,
    fits=fits,
    looked_for="a COCO captions file, such as annotations/captions.json",
)
