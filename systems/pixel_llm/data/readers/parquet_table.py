"""Parquet files -> rows. The one file that needs pyarrow, which the extra `parquet` installs."""

from pathlib import Path
from typing import Any

from systems.pixel_llm.data.folder import shown
from systems.pixel_llm.data.readers.captions import MAX_MANIFEST_BYTES
from systems.pixel_llm.data.readers.reader import ReaderOptions
from systems.pixel_llm.data.readers.rows import Columns, Rows, find_columns
from systems.pixel_llm.errors import DatasetError

__all__ = ["read_parquet_rows"]


def read_parquet_rows(path: Path, options: ReaderOptions) -> Rows:
    """The rows of a file.

    Raises:
        DatasetError: pyarrow is not installed, the file is too large or damaged, or a column is not there.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise DatasetError(
            f"{shown(path)} needs pyarrow, which is not installed. Run: pip install 'pixel-llm[parquet]', or save the "
            "table as metadata.csv."
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            names = [str(name) for name in file.schema_arrow.names]
            columns = find_columns(names, options=options, path=path)
            size = _bytes_of(file.metadata, columns)
            if size > MAX_MANIFEST_BYTES:
                raise DatasetError(
                    f"{shown(path)} is too large: names and captions have {size:,} bytes, at most "
                    f"{MAX_MANIFEST_BYTES:,} are read. Is it the right file?"
                )
            table = file.read(columns=list(columns))
            values = [table.column(column).to_pylist() for column in columns]
    except (ArrowException, OSError, ValueError, MemoryError) as error:
        raise DatasetError(f"{shown(path)} cannot be read as Parquet: {error}. Write it anew.") from error
    rows = Rows(path)
    for number, (name, value) in enumerate(zip(*values, strict=True), start=1):
        rows.add(name, value, line=number)
    return rows


def _bytes_of(metadata: Any, columns: Columns) -> int:
    """What the columns take when they are unpacked, as the file itself says."""
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    chunks = (group.column(number) for group in groups for number in range(group.num_columns))
    return sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns)
