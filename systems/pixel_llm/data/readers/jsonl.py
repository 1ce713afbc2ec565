"""`jsonl`: one JSON object a line, `{"file_name": "cat.jpg", "text": "a cat"}`; a caption may be a list of them."""

from pathlib import Path

from systems.pixel_llm.data.folder import FolderListing, quoted, shown
from systems.pixel_llm.data.readers.captions import MAX_MANIFEST_BYTES, json_kind, keys_told, read_text
from systems.pixel_llm.data.readers.json_text import parse_json
from systems.pixel_llm.data.readers.named_pictures import reading_of_rows
from systems.pixel_llm.data.readers.reader import Reader, ReaderOptions, Reading
from systems.pixel_llm.data.readers.rows import METADATA_STEM, ROW_OPTIONS, Columns, Rows, find_columns
from systems.pixel_llm.errors import DatasetError

__all__ = ["EXTENSIONS", "READER", "read_jsonl_rows"]

TITLE = "JSON lines"

EXTENSIONS = (".jsonl", ".ndjson")


def find(listing: FolderListing) -> list[Path | None]:
    """All .jsonl files of the folder but `metadata.jsonl`."""
    return [path for name in listing.tables if fits(path := listing.folder / name)]


def fits(path: Path) -> bool:
    """Whether a file is named as lines of JSON, and not as an image folder's."""
    return path.suffix.lower() in EXTENSIONS and path.stem.lower() != METADATA_STEM


def read(dataset_dir: Path, manifest: Path | None, options: ReaderOptions) -> Reading:
    """Read a file.

    Raises:
        DatasetError: a line is not as told here, or no picture is there.
    """
    assert manifest is not None, "a format with a manifest is read with one"
    return reading_of_rows(
        read_jsonl_rows(manifest, options), caption_format="jsonl", title=TITLE, dataset_dir=dataset_dir
    )


def read_jsonl_rows(path: Path, options: ReaderOptions) -> Rows:
    """The rows of a file. The first line tells which keys hold the name and the caption.

    Raises:
        DatasetError: a line is no JSON object, or lacks a key; the message names the line.
    """
    rows = Rows(path)
    columns: Columns | None = None
    # By line feeds alone: JSON may hold the other marks that end a line for Python.
    lines = read_text(path, max_bytes=MAX_MANIFEST_BYTES, what="manifest").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line or line.isspace():
            continue
        record = parse_json(line, path=path, expected="one object a line", line=number)
        if not isinstance(record, dict):
            raise DatasetError(
                f'The manifest {shown(path)}, line {number}, must be a JSON object such as {{"file_name": "cat.jpg", '
                f'"text": "a cat"}}; found {json_kind(record)}.'
            )
        if columns is None:
            columns = find_columns(list(record), options=options, path=path)
        for key in columns:
            if key not in record:
                raise DatasetError(
                    f"{shown(path)}, line {number}, lacks the key {quoted(key)}; it has {keys_told(record)}. "
                    "Add it there."
                )
        rows.add(record[columns.image], record[columns.caption], line=number)
    return rows


READER = Reader(
    name="jsonl",
    title=TITLE,
    find=find,
    read=read,
    fits=fits,
    looked_for="a .jsonl file of names and captions",
    options=ROW_OPTIONS,
)
