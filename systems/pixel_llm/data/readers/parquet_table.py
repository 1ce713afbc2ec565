"""Parquet files -> rows. The one file that needs pyarrow, which the extra `parquet` installs."""

from pathlib import Path

from systems.pixel_llm.data.folder import shown
from systems.pixel_llm.data.readers.captions import MAX_MANIFEST_BYTES
from systems.pixel_llm.data.readers.reader import ReaderOptions
from systems.pixel_llm.data.readers.rows import Rows, find_columns
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
    except (ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
        raise DatasetError(f"{shown(path)} cannot be read as Parquet: {shown(str(error))}. Write it anew.") from error
