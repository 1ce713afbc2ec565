"""A folder -> its samples: each a picture's path with its captions, sorted by name, no picture opened yet.

The formats are in `readers`, one module each, and `formats` chooses between them. Here the chosen reading is handed
out, after a line that tells the format and one warning that says what was passed over.
"""

import logging
import os

from systems.pixel_llm.data.folder import shown
from systems.pixel_llm.data.formats import read_best
from systems.pixel_llm.data.readers.captions import MAX_CAPTION_CHARACTERS, MAX_MANIFEST_BYTES, MAX_TEXT_BYTES
from systems.pixel_llm.data.readers.reader import ReaderOptions, Reading
from systems.pixel_llm.data.sample_table import Sample, SampleTable

__all__ = [
    "MAX_CAPTION_CHARACTERS",
    "MAX_MANIFEST_BYTES",
    "MAX_TEXT_BYTES",
    "ReaderOptions",
    "Reading",
    "Sample",
    "SampleTable",
    "read_folder",
    "read_samples",
]

logger = logging.getLogger(__name__)


def read_samples(
    dataset_dir: str | os.PathLike[str],
    caption_format: str,
    manifest_file: str | os.PathLike[str] | None = None,
    *,
    captions_per_file: str = "one",
    image_column: str | None = None,
    caption_column: str | None = None,
) -> SampleTable:
    """The samples of a folder, sorted by name; the captions are stripped, and white space in them is one space.

    "text": every picture, in the folder or below, that has a .txt or .caption file of the same name beside it.
    "kohya": the same in folders of the form N_name. "json": `manifest_file` (default `manifest.json` in the folder)
    maps picture names to a caption or a list of captions. "jsonl": an object a line. "csv": a table with a head,
    comma- or tab-separated. "imagefolder": metadata.jsonl, .csv or .parquet beside the pictures. "coco": one JSON file
    of images and annotations. "flickr8k": a token file, `cat.jpg#0<TAB>a cat` a line. "webdataset": tar shards in which
    cat.jpg and cat.txt are a pair, all or the one that `manifest_file` names. "parquet": the same of tables that hold
    the pictures themselves. "auto": looks, and takes what reads most captions.

    Names in a file are relative to that file's own folder, else to `dataset_dir`, else to the one folder below
    `dataset_dir` that holds them. Pictures without a caption and names without a picture are passed over, counted and
    named in one logged warning.

    `captions_per_file="lines"` reads a caption a line of a caption file. `image_column` and `caption_column` name the
    columns of a table that are not found by their usual names.

    Raises:
        DatasetError: nothing is left, or something cannot be read or leaves the folder; the message names file and
            cure.
        ConfigError: the format is unknown, or does not go with the manifest or the options.
    """
    options = ReaderOptions(
        captions_per_file=captions_per_file, image_column=image_column, caption_column=caption_column
    )
    return read_folder(dataset_dir, caption_format, manifest_file, options=options).samples


def read_folder(
    dataset_dir: str | os.PathLike[str],
    caption_format: str = "auto",
    manifest_file: str | os.PathLike[str] | None = None,
    *,
    options: ReaderOptions | None = None,
) -> Reading:
    """As `read_samples`, with all there is to say about it: the format, what was passed over, what else could be read.

    Raises:
        DatasetError, ConfigError: as `read_samples`.
    """
    reading = read_best(dataset_dir, caption_format, manifest_file, options=options or ReaderOptions())
    logger.info("%s read as: %s", shown(reading.dataset_dir), reading.told_in_full)
    if reading.skipped:
        logger.warning("%s: passed over %s.", shown(reading.manifest or reading.dataset_dir), reading.skipped)
    return reading
