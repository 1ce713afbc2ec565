"""The data of a command line -> samples to train on and to validate on; the same for every command that takes DATA."""

import os
from dataclasses import dataclass
from pathlib import Path

from systems.pixel_llm.data.options import ReadingOptions
from systems.pixel_llm.data.samples import ReaderOptions, Reading, Sample, read_folder
from systems.pixel_llm.data.split import split_samples

__all__ = ["Sides", "read_data_folder", "read_sides"]


@dataclass(frozen=True, kw_only=True)
class Sides:
    """A data folder, read and divided."""

    reading: Reading
    train: list[Sample]
    validation: list[Sample]
    """None where there is a single picture."""


def read_sides(
    data: Path, options: ReadingOptions, *, val: Path | None, val_manifest: Path | None, fraction: float
) -> Sides:
    """Read DATA and what there is to validate on: what was named, else the lists that lie in DATA, else a part of it.

    Raises:
        DatasetError: a folder, manifest or its content cannot be used.
        ConfigError: the format does not go with the other options.
    """
    reading = read_data_folder(data, options.manifest, options)
    train = list(reading.split.get("train", reading.samples))
    if val is not None:
        train = _without(train, data, val)
    if val is not None or val_manifest is not None:
        validation = list(read_data_folder(val or data, val_manifest, options).samples)
    elif reading.split.get("dev"):
        validation = list(reading.split["dev"])
    else:
        train, validation = split_samples(train, dataset_dir=data, fraction=fraction)
    return Sides(reading=reading, train=train, validation=validation)


def _without(samples: list[Sample], folder: Path, val: Path) -> list[Sample]:
    """Without the pictures of a folder for validation that lies inside: a folder is read with all below it."""
    below = os.path.relpath(val.resolve(), folder.resolve())
    if below == os.curdir or below.startswith(os.pardir):
        return samples
    return [sample for sample in samples if not Path(sample.image_path).is_relative_to(folder / below)]


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
