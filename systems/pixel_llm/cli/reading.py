"""The data of a command line -> samples to train on and to validate on; the same for every command that takes DATA.

Each folder is read in its own format and divided by itself; then the sides are put together, with the weights. Where
nothing is named to validate on, a part of the pictures is held back, those that look the same on one side. That takes a
look at every picture, which `ScanCache` remembers. What it remembers changes no split: a run that is resumed finds the
sides that it had.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import numpy as np
from numpy.typing import NDArray

from systems.pixel_llm.cli.scan_progress import scan_shown
from systems.pixel_llm.data.folder import shown
from systems.pixel_llm.data.options import MixOptions, ReadingOptions
from systems.pixel_llm.data.order import mean_draws
from systems.pixel_llm.data.picture_path import PicturePath
from systems.pixel_llm.data.same_pictures import MAX_LOOKED_AT, groups_of_coco_ids, groups_of_like_pictures
from systems.pixel_llm.data.samples import ReaderOptions, Reading, Sample, SampleTable, read_folder
from systems.pixel_llm.data.scan_cache import ScanCache
from systems.pixel_llm.data.several_folders import sample_weights, without_shared_pictures
from systems.pixel_llm.data.split import split_rows
from systems.pixel_llm.errors import ConfigError, DatasetError

__all__ = ["Sides", "read_data_folder", "read_sides"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Sides:
    """The data folders, read and divided."""

    readings: tuple[Reading, ...]
    """One a folder, all that was read in it."""
    train: SampleTable
    validation: SampleTable
    """Empty where there is a single picture, or one picture over and over."""
    is_held_back: bool
    """Whether it is a part of the training data that was held back: then no file is on both sides."""
    train_weights: NDArray[np.float64] | None = None
    """[count] how often each of `train` comes in an epoch; None where each comes once."""

    @property
    def is_divided_by_looks(self) -> bool:
        """Whether pictures that look the same are on one side."""
        return self.is_held_back and all(len(reading.samples) <= MAX_LOOKED_AT for reading in self.readings)

    @property
    def num_draws(self) -> int:
        """How many pictures come in an epoch of training."""
        return mean_draws(len(self.train), self.train_weights)

    @property
    def told_epoch(self) -> str:
        """For a line after the number of pictures to train on: how many come in an epoch, where not each comes once."""
        return "" if self.train_weights is None else _told_epoch(self.train_weights)


def read_sides(
    data: Sequence[Path],
    options: MixOptions,
    *,
    val: Path | None,
    val_manifest: Path | None,
    fraction: float,
    cache: ScanCache,
    num_workers: int | None = None,
) -> Sides:
    """Read DATA and what there is to validate on: what was named, else of each folder the lists that lie in it, or a
    part of it.

    For the latter the pictures are looked at by `num_workers` threads, as far as `cache` does not know them.

    Raises:
        DatasetError: a folder, manifest or its content cannot be used.
        ConfigError: the format does not go with the other options, or an option not with the folders.
    """
    _check_options(data, options, val=val, val_manifest=val_manifest)
    use_repeats = options.repeats == "use"
    readings = [read_data_folder(folder, options.manifest, options, use_repeats=use_repeats) for folder in data]
    if use_repeats and all(reading.repeats is None for reading in readings):
        raise ConfigError(
            "repeats='use' needs a folder that is read as kohya, pictures in folders named N_name: here is none. Leave "
            "it out, or name the format with --format kohya."
        )
    held_back = None if val is not None or val_manifest is not None else fraction
    train: list[SampleTable] = []
    validation: list[SampleTable] = []
    weights: list[NDArray[np.float64]] = []
    for reading, weight in zip(without_shared_pictures(readings), _folder_weights(data, options), strict=True):
        sides = _divide(reading, val=val, fraction=held_back, cache=cache, num_workers=num_workers)
        weights.append(sample_weights(sides[0], reading, weight=weight, use_repeats=use_repeats))
        train.append(sides[0])
        validation.append(sides[1])
        if len(data) > 1:
            _tell(reading, *sides, weights[-1])
    if held_back is None:
        validation = [read_data_folder(val or data[0], val_manifest, options).samples]
    train_weights = np.concatenate(weights)
    if not train_weights.any():
        raise DatasetError(
            f"In {', '.join(map(shown, data))} every picture to train on has the weight 0: their folders are called "
            "0_name, and repeats='use' has them come 0 times. Rename the folders, or leave it out."
        )
    return Sides(
        readings=tuple(readings),
        train=SampleTable.joined(train),
        validation=SampleTable.joined(validation),
        is_held_back=held_back is not None and not any(reading.split.get("dev") for reading in readings),
        train_weights=None if (train_weights == 1).all() else train_weights,
    )


def _check_options(data: Sequence[Path], options: MixOptions, *, val: Path | None, val_manifest: Path | None) -> None:
    """What can be said of the options before anything is read."""
    names = ", ".join(map(shown, data))
    if options.weights is not None and len(options.weights) != len(data):
        given = ",".join(f"{weight:g}" for weight in options.weights)
        raise ConfigError(
            f"weights={given} must have as many numbers as DATA names folders, which are {len(data)}: {names}. Give a "
            f"number for each, in one word: --weights {','.join(['1'] * len(data))}. (--weights none takes them away.)"
        )
    if len(data) < 2:
        return
    if options.manifest is not None:
        raise ConfigError(
            f"manifest={str(options.manifest)!r} names the pictures of one folder, and DATA names {len(data)}: "
            f"{names}. Leave it out and put each file into its folder, where it is found by looking."
        )
    if val_manifest is not None and val is None:
        raise ConfigError(
            f"val_manifest={str(val_manifest)!r} needs --val FOLDER, the folder of its pictures, where DATA names "
            f"several: {names}."
        )
    folder_of: dict[str, Path] = {}
    for folder in data:
        other = folder_of.setdefault(os.path.realpath(folder), folder)
        if other is not folder:
            raise ConfigError(
                f"DATA names a folder twice: {shown(other)}, {shown(folder)}. Name it once; for its pictures to come "
                "twice in an epoch give it the weight 2 (--weights)."
            )


def _folder_weights(data: Sequence[Path], options: MixOptions) -> Sequence[float]:
    return options.weights if options.weights is not None else [1.0] * len(data)


def _divide(
    reading: Reading, *, val: Path | None, fraction: float | None, cache: ScanCache, num_workers: int | None
) -> tuple[SampleTable, SampleTable]:
    """(train, validation) of one folder; without `fraction` no validation, which comes from elsewhere."""
    data = reading.dataset_dir
    train = reading.split.get("train", reading.samples)
    if val is not None:
        train = _without(train, data, val)
    if fraction is None:
        return train, train.select(())
    if reading.split.get("dev"):
        return train, reading.split["dev"]
    groups = _groups(train, data, cache, num_workers=num_workers)
    rows, rows_held_back = split_rows(train.names, dataset_dir=data, fraction=fraction, groups=groups)
    if not rows_held_back and len(train) > 1:
        logger.warning("All %d pictures look the same: none is held back to validate on.", len(train))
    return train.select(rows), train.select(rows_held_back)


def _groups(samples: SampleTable, data: Path, cache: ScanCache, *, num_workers: int | None) -> list[list[PicturePath]]:
    """The pictures that must not be divided."""
    groups = groups_of_coco_ids(map(samples.path, range(len(samples))))
    if len(samples) <= MAX_LOOKED_AT:
        paths = list(dict.fromkeys(map(samples.path, range(len(samples)))))
        return groups + groups_of_like_pictures(scan_shown(cache, paths, num_workers=num_workers))
    logger.info(
        "%d pictures are too many to look for like ones at every start, so a validation picture may be one of training "
        "again. pixel-llm split %s --out FOLDER divides them once, like ones on one side.",
        len(samples), quote(str(data)),
    )  # fmt: skip
    return groups


def _tell(
    reading: Reading, train: Sequence[Sample], validation: Sequence[Sample], weights: NDArray[np.float64]
) -> None:
    logger.info(
        "%s: %s pictures to train on%s, %s to validate on",
        shown(reading.dataset_dir), f"{len(train):,}", _told_epoch(weights), f"{len(validation):,}",
    )  # fmt: skip


def _told_epoch(weights: NDArray[np.float64]) -> str:
    return "" if (weights == 1).all() else f" ({mean_draws(len(weights), weights):,} an epoch)"


def _without(samples: SampleTable, folder: Path, val: Path) -> SampleTable:
    """Without the pictures of a folder for validation that lies inside: a folder is read with all below it."""
    below = os.path.relpath(val.resolve(), folder.resolve())
    if below == os.curdir or below.startswith(os.pardir):
        return samples
    inside = folder / below
    return samples.select(row for row, name in enumerate(samples.names) if not Path(name).is_relative_to(inside))


def read_data_folder(
    folder: Path, manifest: Path | None, options: ReadingOptions, *, use_repeats: bool = False
) -> Reading:
    """Read one folder as the options tell; `use_repeats` is whether `Reading.repeats` will be used.

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
            use_repeats=use_repeats,
        ),
    )
