"""`csv`: a table with a head, comma- or tab-separated, a picture's name and a caption a row.

Semicolons and bars are known too: the separator is the one at which the head falls into the columns that are wanted.
Fields in quotes may hold separators, quotes (doubled) and line breaks.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from systems.pixel_llm.data.folder import FolderListing, shown
from systems.pixel_llm.data.readers.captions import MAX_MANIFEST_BYTES, read_text
from systems.pixel_llm.data.readers.named_pictures import reading_of_rows
from systems.pixel_llm.data.readers.reader import Reader, ReaderOptions, Reading
from systems.pixel_llm.data.readers.rows import METADATA_STEM, ROW_OPTIONS, Rows, find_columns
from systems.pixel_llm.data.readers.sniffing import file_head
from systems.pixel_llm.errors import DatasetError

__all__ = ["READER", "read_csv_rows"]

TITLE = "table"

_SEPARATORS = (",", "\t", ";", "|")
_EXTENSIONS = (".csv", ".tsv")
_CAPTIONS_TEXT = "captions.txt"
"""The name under which the Flickr8k captions go round as a comma-separated table."""


def find(listing: FolderListing) -> list[Path | None]:
    """All .csv and .tsv files of the folder but `metadata.csv`, and a `captions.txt` that is a table."""
    names = [*listing.tables, *(name for name in listing.texts.get("captions", []) if name == _CAPTIONS_TEXT)]
    return [path for name in names if fits(path := listing.folder / name)]


def fits(path: Path) -> bool:
    """Whether a file is named as a table, or begins as one."""
    if path.suffix.lower() == ".txt":
        return _begins_as_table(path)
    return path.suffix.lower() in _EXTENSIONS and path.stem.lower() != METADATA_STEM


def read(dataset_dir: Path, manifest: Path | None, options: ReaderOptions) -> Reading:
    """Read a table.

    Raises:
        DatasetError: a column is not there, a row is not as told here, or no picture is there.
    """
    assert manifest is not None, "a format with a manifest is read with one"
    return reading_of_rows(read_csv_rows(manifest, options), caption_format="csv", title=TITLE, dataset_dir=dataset_dir)


def read_csv_rows(path: Path, options: ReaderOptions) -> Rows:
    """The rows of a table.

    Raises:
        DatasetError: a column is not there, or a row has another number of fields than the head; the message names
            the line.
    """
    text = read_text(path, max_bytes=MAX_MANIFEST_BYTES, what="manifest")
    separator = _separator(text, options, path=path)
    table = _records(text, separator, path=path)
    _, head = next(table, (1, []))
    names = [name.strip() for name in head]
    columns = find_columns(names, options=options, path=path)
    image, caption = names.index(columns.image), names.index(columns.caption)
    rows = Rows(path)
    for line, fields in table:
        if len(fields) != len(names):
            raise DatasetError(
                f"{shown(path)}, line {line}, has {len(fields)} fields, and the head has {len(names)}. Put a field "
                f"that holds {separator!r} in double quotes, and close every quote."
            )
        rows.add(fields[image], fields[caption], line=line)
    return rows


def _separator(text: str, options: ReaderOptions, *, path: Path) -> str:
    """The separator at which the head has both columns, else the one at which it has most."""
    separators = sorted(_SEPARATORS, key=lambda each: (path.suffix.lower() == ".tsv") != (each == "\t"))
    most, best = 0, separators[0]
    for separator in separators:
        names = []
        try:
            names = [name.strip() for name in next(_records(text, separator, path=path), (1, []))[1]]
            find_columns(names, options=options, path=path)
        except DatasetError:
            if len(names) > most:
                most, best = len(names), separator
        else:
            return separator
    return best


def _records(text: str, separator: str, *, path: Path) -> Iterator[tuple[int, list[str]]]:
    """The number of the line where it begins, and the fields, of every row that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    line = 1
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reason = str(error).replace("\t", "\\t")
            raise DatasetError(
                f"{shown(path)} cannot be read as a table: {shown(reason)}, in the row that begins at line {line}. "
                "Look there for a quote that is not closed or not doubled."
            ) from error
        if len(fields) > 1 or any(map(str.strip, fields)):
            yield line, fields
        line = reader.line_num + 1


def _begins_as_table(path: Path) -> bool:
    head = file_head(path).splitlines()[:1]
    try:
        _, names = next(_records("".join(head), ",", path=path), (1, []))
        find_columns(names, options=ReaderOptions(), path=path)
    except DatasetError:
        return False
    return True


READER = Reader(
    name="csv",
    title=TITLE,
    find=find,
    read=read,
    fits=fits,
    looked_for="a .csv or .tsv table with columns of names and captions",
    options=ROW_OPTIONS,
)
