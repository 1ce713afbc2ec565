"""`imagefolder`: `metadata.jsonl`, `.csv` or `.parquet` with a `file_name` beside the pictures, as on Hugging Face."""

from pathlib import Path

from systems.pixel_llm.data.folder import FolderListing, shown
from systems.pixel_llm.data.readers.csv_table import read_csv_rows
from systems.pixel_llm.data.readers.jsonl import read_jsonl_rows
from systems.pixel_llm.data.readers.named_pictures import reading_of_rows
from systems.pixel_llm.data.readers.parquet_table import holds_pictures, read_parquet_rows
from systems.pixel_llm.data.readers.reader import Reader, ReaderOptions, Reading
from systems.pixel_llm.data.readers.rows import METADATA_STEM, ROW_OPTIONS
from systems.pixel_llm.errors import DatasetError

__all__ = ["READER"]

TITLE = "image folder"

_READ_ROWS = {".jsonl": read_jsonl_rows, ".csv": read_csv_rows, ".parquet": read_parquet_rows}


def find(listing: FolderListing) -> list[Path | None]:
    """The metadata files in the folder and in those directly below it."""
    return [path for each in listing.near for name in each.tables if fits(path := each.folder / name)]


def fits(path: Path) -> bool:
    """Whether a file has one of the three names, and is not a table that holds the pictures themselves."""
    if path.stem.lower() != METADATA_STEM or path.suffix.lower() not in _READ_ROWS:
        return False
    return path.suffix.lower() != ".parquet" or not holds_pictures(path)


def read(dataset_dir: Path, manifest: Path | None, options: ReaderOptions) -> Reading:
    """Read a metadata file.

    Raises:
        DatasetError: it has another ending, is not what its ending says, or no picture is there.
    """
    assert manifest is not None, "a format with a manifest is read with one"
    read_rows = _READ_ROWS.get(manifest.suffix.lower())
    if read_rows is None:
        raise DatasetError(
            f"{shown(manifest)} is no metadata file of an image folder: expected one of {', '.join(_READ_ROWS)}. "
            "Rename it after what it holds."
        )
    return reading_of_rows(
        read_rows(manifest, options), caption_format="imagefolder", title=TITLE, dataset_dir=dataset_dir
    )


READER = Reader(
    name="imagefolder",
    title=TITLE,
    find=find,
    read=read,
    fits=fits,
    looked_for="metadata.jsonl, metadata.csv or metadata.parquet",
    options=ROW_OPTIONS,
)
