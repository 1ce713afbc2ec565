"""The data of a command line -> samples to train on and to validate on; the same for every command that takes DATA.

Where nothing is named to validate on, a part of the pictures is held back, those that look the same on one side. That
takes a look at every picture, which `ScanCache` remembers. What it remembers changes no split: a run that is resumed
finds the sides that it had.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from systems.pixel_llm.cli.scan_progress import scan_shown
from systems.pixel_llm.data.options import ReadingOptions
from systems.pixel_llm.data.same_pictures import MAX_LOOKED_AT, groups_of_coco_ids, groups_of_like_pictures
from systems.pixel_llm.data.samples import ReaderOptions, Reading, Sample, read_folder
from systems.pixel_llm.data.scan_cache import ScanCache
from systems.pixel_llm.data.split import split_samples

__all__ = ["Sides", "read_data_folder", "read_sides"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Sides:
    """A data folder, read and divided."""

    reading: Reading
    train: list[Sample]
    validation: list[Sample]
    """Empty where there is a single picture, or one picture over and over."""
    is_held_back: bool
    """Whether it is a part of the training data that was held back: then no file is on both sides."""


def read_sides(
    data: Path,
    options: ReadingOptions,
    *,
    val: Path | None,
    val_manifest: Path | None,
    fraction: float,
    cache: ScanCache,
    num_workers: int | None = None,
) -> Sides:
    """Read DATA and what there is to validate on: what was named, else the lists that lie in DATA, else a part of it.

    For the latter the pictures are looked at by `num_workers` threads, as far as `cache` does not know them.

    Raises:
        DatasetError: a folder, manifest or its content cannot be used.
        ConfigError: the format does not go with the other options.
    """
    reading = read_data_folder(data, options.manifest, options)
    train = list(reading.split.get("train", reading.samples))
    if val is not None:
        train = _without(train, data, val)
    is_held_back = False
    if val is not None or val_manifest is not None:
        validation = list(read_data_folder(val or data, val_manifest, options).samples)
    elif reading.split.get("dev"):
        validation = list(reading.split["dev"])
    else:
        is_held_back = True
        groups = _groups(train, data, cache, num_workers=num_workers)
        train, validation = split_samples(train, dataset_dir=data, fraction=fraction, groups=groups)
        if not validation and len(train) > 1:
            logger.warning("All %d pictures look the same: none is held back to validate on.", len(train))
    return Sides(reading=reading, train=train, validation=validation, is_held_back=is_held_back)


def _groups(samples: list[Sample], data: Path, cache: ScanCache, *, num_workers: int | None) -> list[list[Path]]:
    """The pictures that must not be divided."""
    paths = [sample.image_path for sample in samples]
    groups = groups_of_coco_ids(paths)
    if len(paths) <= MAX_LOOKED_AT:
        paths = list(dict.fromkeys(paths))
        return groups + groups_of_like_pictures(scan_shown(cache, paths, num_workers=num_workers))
    logger.info(
        "%d pictures are too many to look for like ones at every start, so a validation picture may be one of training "
        "again. pixel-llm split %s --out FOLDER divides them once, like ones on one side.",
        len(paths), quote(str(data)),
    )  # fmt: skip
    return groups


def _without(samples: list[Sample], folder: Path, val: Path) -> list[Sample]:
    """Without the pictures of a folder for validation that lies inside: a folder is read with all below it."""
    below = os.path.relpath(val.resolve(), folder.resolve())
    if below == os.curdir or below.startswith(os.pardir):
        return samples
    return [sample for sample in samples if not sample.image_path.is_relative_to(folder / below)]


def read_data_folder(folder: Path, manifest: Path | None, options: ReadingOptions) -> Reading:
    """Read one folder as the options tell.

    Raises:
        DatasetError, ConfigError: as `read_sides`.
    """
    return read_folder(
        folder,
        options.format,
        manifest,
        options=ReaderOptions(
            captions_per_file=options.captions_per_file,
            image_column=options.image_column,
            caption_column=options.caption_column,
        ),
    )
