"""A folder -> its samples: each a picture's path with its captions, sorted by name, no picture opened yet.

One reader a format: `text` pairs each picture with the .txt file of its name; `json` reads a manifest and finds the
pictures it names. Both clean captions alike, refuse what would leave the folder, and say in one warning what was
passed over. What cannot be read at all is a DatasetError that names the file and the cure.
"""

import codecs
import json
import logging
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from systems.pixel_llm.data.formats import find_manifest, hint_from, list_folder, shown, stem_of
from systems.pixel_llm.data.places import PicturePlaces
from systems.pixel_llm.errors import ConfigError, DatasetError, nearest_name_hint

__all__ = ["MAX_MANIFEST_BYTES", "MAX_TEXT_BYTES", "Sample", "read_samples"]

logger = logging.getLogger(__name__)

MAX_TEXT_BYTES = 1 << 20
"""A caption file above this (1 MiB) is no caption."""

MAX_MANIFEST_BYTES = 1 << 30
"""A manifest above this (1 GiB) would not fit the memory of a small machine once read."""

_CONTROL_TO_SPACE = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], " ")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Sample:
    """One picture and what is said of it: at least one caption."""

    image_path: Path
    captions: tuple[str, ...]


def read_samples(
    dataset_dir: str | os.PathLike[str], caption_format: str, manifest_file: str | os.PathLike[str] | None = None
) -> list[Sample]:
    """The samples of a folder in one of the formats "text" and "json", sorted by name.

    "text": every picture directly in the folder that has a .txt file of the same name beside it, which holds its
    caption in UTF-8. "json": `manifest_file` (default `manifest.json` in the folder) maps picture names to a caption
    or a list of captions; names are relative to the manifest's own folder, else to `dataset_dir`, else to the one
    folder below `dataset_dir` that holds them.

    Captions are stripped, runs of white space and line breaks become one space. Pictures without a caption and names
    without a picture are passed over, counted and named in one logged warning.

    Raises:
        DatasetError: nothing is left, or something cannot be read or leaves the folder; the message names file and
            cure.
        ConfigError: the format is unknown, or a manifest is given with the format "text".
    """
    if caption_format not in _READERS:
        raise ConfigError(
            f"caption_format must be 'text' or 'json', not {caption_format!r}. "
            f"{nearest_name_hint(str(caption_format), _READERS)}"
        )
    return _READERS[caption_format](Path(dataset_dir), manifest_file)


def _read_text_pairs(dataset_dir: Path, manifest_file: str | os.PathLike[str] | None) -> list[Sample]:
    if manifest_file is not None:
        raise ConfigError(
            f"manifest_file={str(manifest_file)!r} is read with caption_format='json' only, and caption_format is "
            "'text'. Set caption_format='json', or leave manifest_file out."
        )
    listing = list_folder(dataset_dir)
    places = PicturePlaces(roots=[dataset_dir])
    samples, without_file, empty = [], [], []
    for name in listing.pictures:
        text_names = listing.texts.get(stem_of(name))
        if text_names is None:
            without_file.append(name)
            continue
        if len(text_names) > 1:
            raise DatasetError(
                f"{shown(dataset_dir / name)} has more than one caption file: {', '.join(map(shown, text_names))}. "
                "Keep one of them."
            )
        for file_name in (name, text_names[0]):
            if file_name in listing.links:
                places.check_link(str(dataset_dir / file_name))
        caption = _clean(_read_text(dataset_dir / text_names[0], max_bytes=MAX_TEXT_BYTES, what="caption file"))
        if caption:
            samples.append(Sample(dataset_dir / name, (caption,)))
        else:
            empty.append(name)
    if not samples:
        raise DatasetError(
            f"No captioned pictures in {shown(dataset_dir)}: expected pictures with a .txt file of the same name "
            f"beside them (cat.jpg and cat.txt) that holds the caption. {_hint_without_pairs(dataset_dir, empty)}"
        )
    _warn_of_skipped(dataset_dir, {"no .txt file beside them": without_file, "an empty caption": empty})
    return samples


def _hint_without_pairs(dataset_dir: Path, empty: Sequence[str]) -> str:
    if empty:
        return f"All {len(empty)} caption files are empty. Write a caption into them."
    return hint_from(list_folder(dataset_dir))


def _read_manifest(dataset_dir: Path, manifest_file: str | os.PathLike[str] | None) -> list[Sample]:
    list_folder(dataset_dir)  # a folder that does not exist is the first thing to say
    manifest = find_manifest(dataset_dir, manifest_file)
    captions_by_name = {
        name: _captions_of(value, name=name, manifest=manifest) for name, value in _load_manifest(manifest).items()
    }
    if not captions_by_name:
        raise DatasetError(f"The manifest {shown(manifest)} is empty. It must map picture names to captions.")
    places = PicturePlaces(roots=[manifest.parent, dataset_dir], named_in=manifest)
    found = places.find(list(captions_by_name))
    samples, missing, empty = [], [], []
    for name in sorted(captions_by_name):
        path, captions = found.get(name), captions_by_name[name]
        if path is None:
            missing.append(name)
        elif captions:
            samples.append(Sample(path, captions))
        else:
            empty.append(name)
    if not samples:
        what = "has a caption" if empty and not missing else "is there"
        raise DatasetError(
            f"None of the {len(captions_by_name)} pictures that {shown(manifest)} names {what} "
            f"({_first(missing or empty)}). Names are looked for beside the manifest, then in {shown(dataset_dir)} and "
            "in the one folder below it that holds them. Correct the names, or give the folder that holds the pictures."
        )
    _warn_of_skipped(manifest, {"no such picture": missing, "an empty caption": empty})
    return samples


_READERS: dict[str, Callable[[Path, str | os.PathLike[str] | None], list[Sample]]] = {
    "text": _read_text_pairs,
    "json": _read_manifest,
}


def _load_manifest(manifest: Path) -> dict[str, Any]:
    text = _read_text(manifest, max_bytes=MAX_MANIFEST_BYTES, what="manifest")

    def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) != len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise DatasetError(
                f"The manifest {shown(manifest)} has the key {twice!r} twice. Give several captions of one picture as "
                "a list."
            )
        return record

    try:
        content = json.loads(text, object_pairs_hook=unique_keys)
    except json.JSONDecodeError as error:
        raise DatasetError(
            f"The manifest {shown(manifest)} is not valid JSON: {error.msg} at line {error.lineno}, column "
            f"{error.colno}. Correct it there."
        ) from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"The manifest {shown(manifest)} cannot be read as JSON: {error}. It must map picture names to captions."
        ) from error
    if not isinstance(content, dict):
        raise DatasetError(
            f"The manifest {shown(manifest)} must be a JSON object that maps picture names to captions, "
            f'{{"cat.jpg": "a cat"}}; found {_json_kind(content)}.'
        )
    return content


def _captions_of(value: Any, *, name: str, manifest: Path) -> tuple[str, ...]:
    """The cleaned captions of one manifest entry; empty ones are left out."""
    texts = value if isinstance(value, list) else [value]
    for text in texts:
        if not isinstance(text, str):
            found = f"a list with {_json_kind(text)} in it" if isinstance(value, list) else _json_kind(value)
            raise DatasetError(
                f"The manifest {shown(manifest)} has no caption at the key {name!r}: expected a string or a list of "
                f"strings, found {found}."
            )
        if _SURROGATE.search(text):
            raise DatasetError(
                f"The manifest {shown(manifest)} holds half a character (a lone surrogate) in the caption of {name!r}. "
                "Correct the caption there."
            )
    return tuple(caption for text in texts if (caption := _clean(text)))


def _json_kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _read_text(path: Path, *, max_bytes: int, what: str) -> str:
    """The text of a file in UTF-8, or in UTF-16 where it begins with that mark."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = b"" if size > max_bytes else file.read()
    except OSError as error:
        raise DatasetError(
            f"The {what} {shown(path)} cannot be read: {error.strerror}. Check its permissions."
        ) from error
    if size > max_bytes:
        raise DatasetError(
            f"The {what} {shown(path)} is too large: {size:,} bytes, at most {max_bytes:,} are read. Is it the right "
            "file?"
        )
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"The {what} {shown(path)} is not text in UTF-8: {error.reason} at byte {error.start}. Save it as UTF-8."
        ) from error


def _clean(text: str) -> str:
    """One line: control characters and runs of white space become one space."""
    return " ".join(text.translate(_CONTROL_TO_SPACE).split())


def _warn_of_skipped(place: Path, names_by_reason: dict[str, list[str]]) -> None:
    reasons = [f"{len(names)} with {reason} ({_first(names)})" for reason, names in names_by_reason.items() if names]
    if reasons:
        logger.warning("%s: passed over %s.", shown(place), " and ".join(reasons))


def _first(names: Sequence[str]) -> str:
    return ", ".join(map(shown, names[:3])) + (", ..." if len(names) > 3 else "")
