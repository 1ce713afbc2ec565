"""RUN and DATA of `pixel-llm evaluate` -> the pictures that are meant, and those that the run was trained on.

What a run was trained on stands in its `options.toml`, and is read and divided again by the function that `train` used,
so that `--split val` on the run's own data is its validation side to the picture. Other data has the sides that `train`
would make of it. Training pictures that cannot be found cost the baselines, not the evaluation.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from systems.pixel_llm.cli.evaluate_options import EvaluateOptions
from systems.pixel_llm.cli.reading import Sides, read_data_folder, read_sides
from systems.pixel_llm.cli.run_folder import recorded_data
from systems.pixel_llm.cli.settings_file import read_settings
from systems.pixel_llm.data.folder import shown
from systems.pixel_llm.data.options import DataOptions, ReadingOptions
from systems.pixel_llm.data.same_pictures import files_on_both_sides
from systems.pixel_llm.data.samples import Reading, SampleTable
from systems.pixel_llm.data.scan_cache import ScanCache
from systems.pixel_llm.errors import ConfigError, DatasetError, PixelLLMError
from systems.pixel_llm.evaluation.run_files import RunFolder

__all__ = ["EvaluatedData", "enclosing_run", "read_evaluated_data"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EvaluatedData:
    """What is evaluated, and what was learned from."""

    folders: tuple[Path, ...]
    split: str
    samples: SampleTable
    train: SampleTable | None
    without_train: str
    """Why there are no training pictures, where there are none."""
    num_trained_on: int
    """How many of `samples` are training pictures too."""

    @property
    def name(self) -> str:
        """For a folder: what data and which split of it."""
        name = self.folders[0].resolve().name
        return name if self.split == "all" else f"{name}-{self.split}"


@dataclass(frozen=True, kw_only=True)
class _RunData:
    """The data of a run, as its `options.toml` tells."""

    folders: tuple[Path, ...]
    options: DataOptions
    val: Path | None

    def sides(self, cache: ScanCache) -> Sides:
        return read_sides(
            self.folders, self.options, val=self.val, val_manifest=self.options.val_manifest,
            fraction=self.options.validation_fraction, cache=cache,
        )  # fmt: skip


def enclosing_run(path: Path) -> RunFolder | None:
    """The run folder that is at `path` or around it, a checkpoint or the folder of them; None where there is none."""
    around = [path, path.resolve().parent, path.resolve().parent.parent]
    return next((RunFolder(each) for each in around if RunFolder(each).options.is_file()), None)


def read_evaluated_data(options: EvaluateOptions) -> EvaluatedData:
    """Read what is to be evaluated, and the training pictures of the run.

    Raises:
        ConfigError: DATA is left out and the run does not tell its own; or options do not go together.
        DatasetError: the data cannot be read, or has no such side.
    """
    run = enclosing_run(options.run)
    of_run = None if run is None else _run_data(run)
    folders = options.data or (() if of_run is None else of_run.folders)
    if not folders:
        raise ConfigError(
            f"{options.run} does not tell what it was trained on. Name the folder of the pictures to score, DATA."
        )
    is_own = of_run is not None and {each.resolve() for each in folders} == {each.resolve() for each in of_run.folders}
    is_read_alike = is_own and options.reading == ReadingOptions()
    split: str = options.split
    if split == "auto":
        split = "val" if is_read_alike else "all"
    if options.split == "auto" and is_read_alike:
        logger.info("The run was trained on this data: scoring the pictures that it was validated on (--split val).")
    train: SampleTable | None
    recorded = () if of_run is None else of_run.folders
    with ScanCache(*(each for each in dict.fromkeys([*folders, *recorded]) if each.is_dir())) as cache:
        if is_read_alike and of_run is not None:
            sides = of_run.sides(cache)
            samples = _side(sides, split, folders)
            train, reason = (sides.train, "") if options.train_data is None else _named_training(options.train_data)
        else:
            samples = _other_samples(options, folders, split, cache)
            train, reason = _training(options, of_run, cache)
    seen = [] if train is None else files_on_both_sides(samples.names, train.names)
    if options.num_pictures is not None:
        samples = samples.evenly_spaced(options.num_pictures)
        kept = set(samples.names)
        seen = [each for each in seen if each in kept]
    return EvaluatedData(
        folders=tuple(folders), split=split, samples=samples, train=train, without_train=reason,
        num_trained_on=len(seen),
    )  # fmt: skip


def _run_data(run: RunFolder) -> _RunData | None:
    folders = recorded_data(run)
    if folders is None:
        return None
    settings = read_settings(run.options)
    names = {each.name for each in fields(DataOptions)}
    of_data: dict[str, Any] = {name: value for name, value in settings.items() if name in names}
    return _RunData(folders=folders, options=DataOptions(**of_data), val=settings.get("val"))


def _other_samples(options: EvaluateOptions, folders: Sequence[Path], split: str, cache: ScanCache) -> SampleTable:
    """The pictures of data that the run does not have, or not in this reading."""
    reading = options.reading
    if reading.manifest is not None and len(folders) > 1:
        raise ConfigError(
            f"manifest={str(reading.manifest)!r} names the pictures of one folder, and DATA names {len(folders)}: "
            f"{', '.join(map(shown, folders))}. Leave it out, or name one folder."
        )
    if split in ("all", "test"):  # nothing has to be divided, so no picture is looked at
        return _all_or_test([read_data_folder(each, reading.manifest, reading) for each in folders], split, folders)
    of_data = DataOptions(**{each.name: getattr(reading, each.name) for each in fields(ReadingOptions)})
    return _side(_RunData(folders=tuple(folders), options=of_data, val=None).sides(cache), split, folders)


def _side(sides: Sides, split: str, folders: Sequence[Path]) -> SampleTable:
    if split == "train":
        return sides.train
    if split != "val":
        return _all_or_test(sides.readings, split, folders)
    if not sides.validation:
        raise DatasetError(
            f"{', '.join(map(shown, folders))} has no pictures to validate on: there is one picture alone, or all look "
            "the same. Score all of them with --split all."
        )
    return sides.validation


def _all_or_test(readings: Sequence[Reading], split: str, folders: Sequence[Path]) -> SampleTable:
    parts = [reading.samples if split == "all" else reading.split.get("test") for reading in readings]
    tables = [part for part in parts if part]
    if not tables:
        raise DatasetError(
            f"{', '.join(map(shown, folders))} has no list or shards for a test. Name one with --manifest FILE, as "
            "pixel-llm split writes it (test.json), or score other pictures with --split val or --split all."
        )
    return SampleTable.joined(tables)


def _training(options: EvaluateOptions, of_run: _RunData | None, cache: ScanCache) -> tuple[SampleTable | None, str]:
    """The pictures that were learned from, or why they are not known."""
    if options.train_data is not None:
        return _named_training(options.train_data)
    if of_run is None:
        return None, f"{options.run} does not tell what it was trained on (--train-data FOLDER names it)"
    try:
        return of_run.sides(cache).train, ""
    except PixelLLMError as error:
        logger.warning("The training pictures of the run cannot be read: %s", error)
        return None, f"the training pictures of the run cannot be read: {error}"


def _named_training(folder: Path) -> tuple[SampleTable, str]:
    reading = read_data_folder(folder, None, ReadingOptions())
    return reading.split.get("train", reading.samples), ""
