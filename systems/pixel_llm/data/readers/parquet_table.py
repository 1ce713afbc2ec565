"""Parquet files -> rows: names with captions, or pictures with captions. The one file that needs pyarrow, which the
extra `parquet` installs.

A table of pictures has a column of bytes or, as Hugging Face writes them, of structs with `bytes` and `path`. Rows are
taken in batches of few, so that never more than some of the pictures are in memory. What a file says of its own sizes
need not be true: it decides how many rows are taken at once, and all that comes is measured.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from systems.pixel_llm.data.folder import shown
from systems.pixel_llm.data.readers.captions import MAX_MANIFEST_BYTES
from systems.pixel_llm.data.readers.reader import ReaderOptions
from systems.pixel_llm.data.readers.rows import CAPTION_COLUMNS, IMAGE_COLUMNS, Rows, find_column, find_columns
from systems.pixel_llm.errors import DatasetError

__all__ = [
    *("PictureRow", "has_picture_column", "holds_pictures", "picture_bytes_in"),
    *("read_parquet_pictures", "read_parquet_rows"),
]

MAX_BATCH_ROWS = 256
_FILE_NAME = "file_name"
"""The column that metadata beside pictures must have; old writers leave it in bytes."""
_BATCH_BYTES = 32 << 20
_BUFFER_BYTES = 1 << 20


class PictureRow(NamedTuple):
    """One row of a table of pictures."""

    number: int
    """Counted from 0."""
    picture: bytes | None
    """The file as it was before it was put into the table."""
    name: str | None
    """What it was called then, where that is known."""
    caption: Any
    """A string, a list of them, None, or whatever else the column holds."""


def read_parquet_rows(path: Path, options: ReaderOptions) -> Rows:
    """The rows of a file.

    Raises:
        DatasetError: pyarrow is not installed, the file is too large or damaged, or a column is not there.
    """
    with _opened(path) as file:
        names = [str(name) for name in file.schema_arrow.names]
        columns = find_columns(names, options=options, path=path)
        rows, size, line = Rows(path), 0, 0
        # In parts, and measured as they come: what the file says of its own sizes need not be true.
        for part in file.iter_batches(columns=list(columns)):
            size += part.nbytes
            if size > MAX_MANIFEST_BYTES:
                raise DatasetError(
                    f"{shown(path)} is too large: names and captions have more than {MAX_MANIFEST_BYTES:,} bytes. "
                    "Is it the right file?"
                )
            for name, value in zip(*(part.column(column).to_pylist() for column in columns), strict=True):
                line += 1
                rows.add(name, value, line=line)
        return rows


def holds_pictures(path: Path) -> bool:
    """Whether a file called metadata has pictures in it and names none, at a glance; False where that stays unknown."""
    try:
        with _opened(path) as file:
            return _FILE_NAME not in file.schema_arrow.names and bool(_picture_columns(file.schema_arrow))
    except DatasetError:  # whoever reads it says why
        return False


def has_picture_column(path: Path) -> bool:
    """Whether a file has a column that could be of pictures.

    Raises:
        DatasetError: pyarrow is not installed, or the file is damaged.
    """
    with _opened(path) as file:
        return bool(_picture_columns(file.schema_arrow))


def picture_bytes_in(path: Path, options: ReaderOptions) -> int:
    """About how many bytes the pictures of a file have, by what it says itself.

    Raises:
        DatasetError: as `read_parquet_pictures`.
    """
    with _opened(path) as file:
        _columns(file, options, path)
        return _bytes_of(file.metadata)


def read_parquet_pictures(path: Path, options: ReaderOptions) -> Iterator[PictureRow]:
    """The rows of a table of pictures, in their order.

    Raises:
        DatasetError: pyarrow is not installed, the file is damaged, or a column is not there or has no pictures.
    """
    with _opened(path) as file:
        image, caption = _columns(file, options, path)
        mean_bytes = max(1, _bytes_of(file.metadata) // max(1, file.metadata.num_rows))
        batch_rows = max(1, min(MAX_BATCH_ROWS, _BATCH_BYTES // mean_bytes))
        number = 0
        for part in file.iter_batches(columns=[image, caption], batch_size=batch_rows):
            pictures, captions = part.column(image), part.column(caption)
            for row in range(len(part)):
                value = pictures[row].as_py()
                data, name = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
                yield PictureRow(number, data, name if isinstance(name, str) else None, captions[row].as_py())
                number += 1


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file, pyarrow being there. Whatever goes wrong with it, inside too, is a DatasetError."""
    try:
        from pyarrow import ArrowException, default_memory_pool, parquet
    except ImportError as error:
        raise DatasetError(
            f"{shown(path)} needs pyarrow, which is not installed. Run: pip install 'pixel-llm[parquet]', or put the "
            "pictures into a folder with a table of their captions, metadata.csv."
        ) from error
    try:
        # Else the whole of a column's group of rows, which may be gigabytes, is read at once.
        with parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
            yield file
    except (ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
        raise DatasetError(f"{shown(path)} cannot be read as Parquet: {shown(str(error))}. Write it anew.") from error
    finally:
        # pyarrow keeps what it has used, gigabytes where a damaged page claimed as much; training needs it.
        default_memory_pool().release_unused()


def _columns(file: Any, options: ReaderOptions, path: Path) -> tuple[str, str]:
    """The names of the columns of pictures and captions."""
    pictures = _picture_columns(file.schema_arrow)
    told = ", ".join(f"{shown(field.name)!r} ({shown(str(field.type))[:80]})" for field in list(file.schema_arrow)[:12])
    if not pictures:
        raise DatasetError(
            f"{shown(path)} has no column of pictures: expected bytes, or structs with bytes in them; found {told}. "
            "If it names picture files, call it metadata.parquet and put it beside them."
        )
    image = pictures[0]
    if len(pictures) > 1 or options.image_column is not None:
        image = find_column(
            pictures, option="image_column", given=options.image_column, usual=IMAGE_COLUMNS,
            what="pictures in bytes", path=path,
        )  # fmt: skip
    texts = _text_columns(file.schema_arrow)
    caption = find_column(
        texts, option="caption_column", given=options.caption_column, usual=(*CAPTION_COLUMNS, "txt"),
        what="captions in text", path=path,
    )  # fmt: skip
    return image, caption


def _picture_columns(schema: Any) -> list[str]:
    """Columns of bytes, and of structs with a field of them, each name once."""
    from pyarrow import types

    def is_bytes(kind: Any) -> bool:
        return types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)

    def is_picture(kind: Any) -> bool:
        return is_bytes(kind) or (
            types.is_struct(kind) and any(field.name == "bytes" and is_bytes(field.type) for field in kind)
        )

    return [field.name for field in schema if is_picture(field.type) and schema.names.count(field.name) == 1]


def _text_columns(schema: Any) -> list[str]:
    """Columns of strings, and of lists of them, each name once."""
    from pyarrow import types

    def is_text(kind: Any) -> bool:
        if types.is_dictionary(kind) or types.is_list(kind) or types.is_large_list(kind):
            return is_text(kind.value_type)
        return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)

    return [field.name for field in schema if is_text(field.type) and schema.names.count(field.name) == 1]


def _bytes_of(metadata: Any) -> int:
    """What a file says that its columns have in bytes once uncompressed: little more than its pictures.

    The parts of a column say so themselves, but to ask them ends the process where a damaged file contradicts itself.
    """
    return sum(max(0, metadata.row_group(group).total_byte_size) for group in range(metadata.num_row_groups))
