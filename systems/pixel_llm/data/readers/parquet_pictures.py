"""`parquet`: tables that hold the pictures themselves, as Hugging Face spreads them: bytes and a caption a row.

The pages of such a table are compressed, so a picture in it cannot be opened alone. Its pictures are therefore written
into one plain file in the cache folder, once (`unpacked`), and read from there in any order. The very same picture in
several rows of a table is one picture with several captions.
"""

import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from systems.pixel_llm.data.folder import PICTURE_EXTENSIONS, FolderListing, list_folder, shown
from systems.pixel_llm.data.picture_path import MAX_PACKED_BYTES, PackedPicture
from systems.pixel_llm.data.readers.captions import captions_of
from systems.pixel_llm.data.readers.parquet_table import (
    PictureRow,
    has_picture_column,
    holds_pictures,
    picture_bytes_in,
    read_parquet_pictures,
)
from systems.pixel_llm.data.readers.reader import Reader, ReaderOptions, Reading
from systems.pixel_llm.data.readers.rows import METADATA_STEM, ROW_OPTIONS
from systems.pixel_llm.data.readers.shards import (
    EMPTY_CAPTION,
    NO_CAPTION,
    TOO_LARGE,
    Shard,
    clean_name,
    find_shards,
    reading_of_shards,
)
from systems.pixel_llm.data.readers.unpacked import Unpacking, load_unpacked, unpacking
from systems.pixel_llm.errors import DatasetError

__all__ = ["READER", "pictures_in_table"]

logger = logging.getLogger(__name__)

TITLE = "Parquet tables"

NO_PICTURE = "no bytes of a picture"

_EXPECTED = "rows with a picture in bytes and a caption"
_SUFFIX = ".parquet"


def find(listing: FolderListing) -> list[Path | None]:
    """All .parquet files of the folder and of those directly below it, as one; no metadata that only names pictures."""
    return [None] if any(_tables_in(each) for each in (listing, *listing.children)) else []


def fits(path: Path) -> bool:
    """Whether a file is named as a Parquet table, and is not metadata that only names pictures."""
    if path.suffix.lower() != _SUFFIX:
        return False
    return path.stem.lower() != METADATA_STEM or holds_pictures(path)


def _tables_in(listing: FolderListing) -> list[str]:
    return [name for name in listing.tables if fits(listing.folder / name)]


def read(dataset_dir: Path, manifest: Path | None, options: ReaderOptions) -> Reading:
    """Read one table, or all, after unpacking those that are not unpacked yet.

    Raises:
        DatasetError: a table is damaged or has not the columns, pyarrow is not installed, there is no room for the
            pictures, or none has a caption.
    """
    paths = [manifest] if manifest is not None else find_shards(list_folder(dataset_dir), _tables_in)
    columns = [options.image_column, options.caption_column]
    shards, others = [], []
    for path in paths:
        shard = load_unpacked(path, columns=columns)
        if shard is None and len(paths) > 1 and not has_picture_column(path):
            others.append(str(path))
        else:
            shards.append(shard or _unpack(path, options, columns=columns))
    return reading_of_shards(
        # If none has pictures, the error of the first says what to do.
        shards or [_unpack(path, options, columns=columns) for path in paths[:1]],
        caption_format="parquet",
        title=TITLE,
        dataset_dir=dataset_dir,
        manifest=manifest,
        expected=_EXPECTED,
        passed_over={"no column of pictures": others},
    )


def pictures_in_table(path: Path) -> dict[str, PackedPicture]:
    """Name inside a table -> picture, of those with a caption; they are unpacked where that has not been done yet.

    Raises:
        DatasetError: as `read`.
    """
    columns = (None, None)
    shard = load_unpacked(path, columns=columns) or _unpack(path, ReaderOptions(), columns=columns)
    return {picture.path.removeprefix(shard.label("")): picture for picture in shard.pictures}


def _unpack(path: Path, options: ReaderOptions, *, columns: Sequence[str | None]) -> Shard:
    num_bytes = picture_bytes_in(path, options)
    # A reader logs nothing, but this may take minutes, and room on a disk.
    logger.info("Unpacking the pictures of %s, about %s, once.", shown(path), f"{-(-num_bytes // 10**6):,} MB")
    with unpacking(path, columns=columns, about_bytes=num_bytes) as unpacked:
        for row in read_parquet_pictures(path, options):
            _add(unpacked, row, path)
    shard = load_unpacked(path, columns=columns)
    if shard is None:
        raise DatasetError(f"{shown(path)}, or what was unpacked of it, was changed meanwhile. Start again.")
    return shard


def _add(unpacked: Unpacking, row: PictureRow, path: Path) -> None:
    names = [f"row-{row.number:06}"]
    own = clean_name(row.name) if row.name is not None else None
    if own is not None and PurePosixPath(own).suffix.lower() in PICTURE_EXTENSIONS:
        names.insert(0, own)
    where = f"in {shown(path)}, row {row.number}"
    captions = [] if row.caption is None else captions_of(row.caption, where=where)
    if not row.picture:
        unpacked.pass_over(names[0], NO_PICTURE)
    elif len(row.picture) > MAX_PACKED_BYTES:
        unpacked.pass_over(names[0], TOO_LARGE)
    elif not captions:
        unpacked.pass_over(names[0], NO_CAPTION if row.caption is None else EMPTY_CAPTION)
    else:
        unpacked.add(row.picture, captions, names=names)


READER = Reader(
    name="parquet",
    title=TITLE,
    find=find,
    read=read,
    fits=fits,
    looked_for="Parquet tables of pictures with captions, such as train-00000-of-00002.parquet",
    options=ROW_OPTIONS,
)
