"""`webdataset`: tar shards in which `cat.jpg` and `cat.txt`, `cat.caption` or `cat.json` are a picture and its caption.

What belongs together has one key: the name up to the first dot of its last part, folders and all. A shard's headers are
read once, and its pictures then from where they lie in it, in any order; nothing is unpacked. No index is kept: ten
shards of 1,000 pictures, each with a .txt and a .json, are indexed in half a second.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from systems.pixel_llm.data.folder import (
    PICTURE_EXTENSIONS,
    TEXT_EXTENSIONS,
    FolderListing,
    is_archive,
    list_folder,
    shown,
)
from systems.pixel_llm.data.picture_path import MAX_PACKED_BYTES, PackedPicture
from systems.pixel_llm.data.readers.captions import MAX_TEXT_BYTES, captions_of, clean_caption, decode_text
from systems.pixel_llm.data.readers.json_text import parse_json
from systems.pixel_llm.data.readers.reader import LONE_CAPTION, Reader, ReaderOptions, Reading
from systems.pixel_llm.data.readers.rows import CAPTION_COLUMNS
from systems.pixel_llm.data.readers.shards import (
    EMPTY_CAPTION,
    NO_CAPTION,
    NO_FILE,
    TOO_LARGE,
    Shard,
    clean_name,
    find_shards,
    reading_of_shards,
)
from systems.pixel_llm.data.readers.tar_headers import TarMember, read_members
from systems.pixel_llm.errors import DatasetError

__all__ = ["READER", "pictures_in_tar"]

TITLE = "tar shards"

_EXPECTED = "members of one key, such as cat.jpg with cat.txt, cat.caption or cat.json"
_CAPTION_EXTENSIONS = (*sorted(TEXT_EXTENSIONS, reverse=True), ".json")
"""Where a key has several, the first of them is read: a .json often has all there is to know of a picture."""


def find(listing: FolderListing) -> list[Path | None]:
    """All tar files of the folder and of those directly below it, as one."""
    return [None] if any(each.archives for each in (listing, *listing.children)) else []


def fits(path: Path) -> bool:
    """Whether a file is named as a tar file."""
    return is_archive(path.name)


def read(dataset_dir: Path, manifest: Path | None, options: ReaderOptions) -> Reading:
    """Read one shard, or all.

    Raises:
        DatasetError: a shard is damaged or compressed, a name in it is there twice or leads out of it, a caption cannot
            be read, or no picture has one.
    """
    found = [manifest] if manifest is not None else find_shards(list_folder(dataset_dir), lambda each: each.archives)
    plain = [path for path in found if path.suffix.lower() == ".tar"]
    compressed = [path for path in found if path.suffix.lower() != ".tar"] if plain else []
    return reading_of_shards(
        # If all are compressed, the error of the first says what to do.
        [_read_shard(path, options) for path in plain or found[:1]],
        caption_format="webdataset",
        title=TITLE,
        dataset_dir=dataset_dir,
        manifest=manifest,
        expected=_EXPECTED,
        passed_over={"a compressed archive: decompress it to a .tar": list(map(str, compressed))},
    )


def pictures_in_tar(path: Path) -> dict[str, PackedPicture]:
    """Name inside a shard -> picture, with a caption there or without.

    Raises:
        DatasetError: the shard is damaged or compressed, or a name in it is there twice or leads out of it.
    """
    shard = Shard(path=path)
    with _opened(path) as file:
        groups = _groups(read_members(file, path), shard)
    return {
        name: PackedPicture(str(path), member.offset, member.size, shard.label(name))
        for group in groups.values()
        for extension, member in group.items()
        if extension.endswith(tuple(PICTURE_EXTENSIONS)) and (name := clean_name(member.name)) is not None
    }


def _read_shard(path: Path, options: ReaderOptions) -> Shard:
    shard = Shard(path=path)
    with _opened(path) as file:
        for key, members in _groups(read_members(file, path), shard).items():
            _add(shard, key, members, file, options)
    return shard


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise DatasetError(f"{shown(path)} cannot be read: {error.strerror}. Check its permissions.") from error


def _groups(members: Iterable[TarMember], shard: Shard) -> dict[str, dict[str, TarMember]]:
    """Key -> extension, from the first dot on and in lower case -> the member of that name."""
    groups: dict[str, dict[str, TarMember]] = {}
    for member in members:
        name = clean_name(member.name)
        if not member.is_file:
            if name is not None and PurePosixPath(name).suffix.lower() in PICTURE_EXTENSIONS:
                shard.passed_over[NO_FILE].append(name)
            continue
        if name is None:
            raise DatasetError(
                f"{shown(shard.path)} has a member that is called {member.name[:200]!r}: expected a name inside the "
                "archive. Make it anew, with names relative to its folder."
            )
        folder, slash, base = name.rpartition("/")
        stem, dot, extension = base.partition(".")
        if not stem or not dot:
            continue
        before = groups.setdefault(folder + slash + stem, {}).setdefault(dot + extension.lower(), member)
        if before is not member:
            raise DatasetError(
                f"{shown(shard.path)} has two members of one name: {shown(before.name)} with its data at byte "
                f"{before.offset:,}, and {shown(member.name)} at byte {member.offset:,}. Keep one of them."
            )
    return groups


def _add(shard: Shard, key: str, members: Mapping[str, TarMember], file: BinaryIO, options: ReaderOptions) -> None:
    """Take in the picture and the captions of one key, or say why not."""
    picture = _one_of(members, sorted(PICTURE_EXTENSIONS), shard)
    kinds = _CAPTION_EXTENSIONS if options.caption_column is None else (".json",)
    said = next((found for kind in kinds if (found := _one_of(members, [kind], shard)) is not None), None)
    if picture is None:
        # A .json alone, or a .cls, may be anything.
        if said is not None and not said.name.lower().endswith(".json"):
            shard.passed_over[LONE_CAPTION].append(clean_name(said.name) or key)
        return
    name = clean_name(picture.name) or key
    if picture.size > MAX_PACKED_BYTES:
        shard.passed_over[TOO_LARGE].append(name)
    elif said is None or (captions := _captions_of(said, shard, file, options)) is None:
        shard.passed_over[NO_CAPTION].append(name)
    elif not captions:
        shard.passed_over[EMPTY_CAPTION].append(name)
    else:
        label = shard.label(name)
        shard.pictures.append(PackedPicture(str(shard.path), picture.offset, picture.size, label))
        shard.captions.append(tuple(captions))


def _one_of(members: Mapping[str, TarMember], extensions: Sequence[str], shard: Shard) -> TarMember | None:
    """The member with one of these extensions, "cat.jpg" before "cat.seg.png"; several that are alike are an error."""
    found = [member for extension, member in members.items() if extension in extensions]
    found = found or [member for extension, member in members.items() if extension.endswith(tuple(extensions))]
    if len(found) > 1:
        names = " and ".join(shown(member.name) for member in found[:2])
        raise DatasetError(
            f"{shown(shard.path)} has {names}, which have one key: the name up to its first dot. Keep one of them, or "
            "rename one."
        )
    return found[0] if found else None


def _captions_of(member: TarMember, shard: Shard, file: BinaryIO, options: ReaderOptions) -> list[str] | None:
    """The captions in a member; None where it is an object without a caption."""
    name = shard.label(member.name)
    where = f"in {shown(name)}"
    if member.size > MAX_TEXT_BYTES:
        raise DatasetError(
            f"The caption {where} is too large: {member.size:,} bytes, at most {MAX_TEXT_BYTES:,} are read."
        )
    file.seek(member.offset)
    text = decode_text(file.read(member.size), name=f"The caption {where}")
    if member.name.lower().endswith(".json"):
        content = parse_json(text, path=name, expected='an object such as {"caption": "a cat"}', line=None, what="file")
        if isinstance(content, dict):
            keys = CAPTION_COLUMNS if options.caption_column is None else (options.caption_column,)
            content = next((content[key] for key in keys if content.get(key) is not None), None)
        return None if content is None else captions_of(content, where=where)
    caption = clean_caption(text, where=where)
    return [caption] if caption else []


READER = Reader(
    name="webdataset",
    title=TITLE,
    find=find,
    read=read,
    fits=fits,
    looked_for="tar shards of pictures with captions, such as train-000.tar",
    options=frozenset({"caption_column"}),
)
