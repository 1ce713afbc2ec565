"""`pixel-llm inspect DATA...`: read the folders as `train` would, look at everything in them, and say what was found.

A folder that cannot be read at all is a finding too: the summary and the JSON file tell it, and the exit status is 1.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from systems.pixel_llm.cli.inspection_summary import print_summary
from systems.pixel_llm.cli.options import InspectOptions
from systems.pixel_llm.cli.reading import Sides, read_sides
from systems.pixel_llm.cli.scan_progress import scan_shown
from systems.pixel_llm.data import samples
from systems.pixel_llm.data.inspection import Inspection, inspect_samples
from systems.pixel_llm.data.inspection_checks import Check, check_inspection
from systems.pixel_llm.data.options import DataOptions
from systems.pixel_llm.data.scan_cache import ScanCache
from systems.pixel_llm.data.unpaired import UnpairedFiles, find_unpaired
from systems.pixel_llm.errors import DatasetError, PixelLLMError
from systems.pixel_llm.evaluation.inspection_page import write_page

__all__ = ["run"]


def run(options: InspectOptions) -> int:
    """Run the command; the exit status is 1 where training should not start."""
    with ScanCache(*options.data) as cache:
        sides, problem = _read(options, cache)
        train, validation = (sides.train, sides.validation) if sides is not None else ([], [])
        unpaired = _unpaired(options, sides)
        paths = list(dict.fromkeys(sample.image_path for sample in (*train, *validation)))
        scan_shown(cache, paths, num_workers=options.num_workers)
        inspection = inspect_samples(
            train, validation, image_size=options.image_size, max_seq_len=options.max_seq_len, unpaired=unpaired,
            cache=cache,
        )  # fmt: skip
    checks = check_inspection(inspection, problem=problem)
    folders = _folders(options, sides)
    if options.json is not None:
        _write_json(options.json, sides, inspection, checks)
    if options.html is not None:
        _write_html(options.html, inspection, checks, folders=folders)
    print_summary(inspection, checks, folders=folders, num_draws=None if sides is None else sides.num_draws)
    for name, path in (("page", options.html), ("findings", options.json)):
        if path is not None:
            print(f"{name}: {path}")
    return 1 if any(check.status == "stop" for check in checks) else 0


def _read(options: InspectOptions, cache: ScanCache) -> tuple[Sides | None, str | None]:
    """Both sides, as `train` would have them, or why they cannot be read."""
    try:
        fraction = DataOptions().validation_fraction
        with _formats_untold():
            sides = read_sides(
                options.data, options.reading, val=options.val, val_manifest=options.val_manifest, fraction=fraction,
                cache=cache, num_workers=options.num_workers,
            )  # fmt: skip
    except DatasetError as error:
        return None, str(error)
    return sides, None


@contextmanager
def _formats_untold() -> Iterator[None]:
    """The line that tells a folder's format is in the summary: on a terminal it would be there twice."""
    logger = logging.getLogger(samples.__name__)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _folders(options: InspectOptions, sides: Sides | None) -> list[tuple[str, str]]:
    """Each folder, with its share of the pictures where there are several, and what it was read as."""
    if sides is None:
        return [(str(folder), "not read: see below") for folder in options.data]
    if len(sides.readings) == 1:
        return [(str(options.data[0]), f"read as: {sides.readings[0].told_in_full}")]
    return [
        (f"{folder} ({len(reading.samples):,} pictures)", f"read as: {reading.told_in_full}")
        for folder, reading in zip(options.data, sides.readings, strict=True)
    ]


def _unpaired(options: InspectOptions, sides: Sides | None) -> UnpairedFiles:
    readings = () if sides is None else sides.readings
    used = {sample.image_path for reading in readings for sample in reading.samples}
    used |= {sample.image_path for sample in (() if sides is None else sides.validation)}
    pictures: list[Path] = []
    captions: list[str] = []
    for place, folder in enumerate(options.data):
        if folder.is_dir():
            passed_over = readings[place].passed_over if readings else {}
            found = find_unpaired(folder, used, passed_over=passed_over)
            pictures += found.pictures
            captions += found.captions
    # Who names a file of captions may mean to use a part of the pictures.
    return UnpairedFiles(
        pictures=() if options.reading.manifest is not None else tuple(dict.fromkeys(pictures)),
        captions=tuple(captions),
    )


def _write_json(path: Path, sides: Sides | None, inspection: Inspection, checks: tuple[Check, ...]) -> None:
    readings = () if sides is None else sides.readings
    folders = [
        {
            "path": str(reading.dataset_dir),
            "format": reading.caption_format,
            "manifest": None if reading.manifest is None else str(reading.manifest),
            "samples": len(reading.samples),
        }
        for reading in readings
    ]
    formats = list(dict.fromkeys(reading.caption_format for reading in readings))
    content: dict[str, Any] = {
        "format": ", ".join(formats) or None,
        "manifest": folders[0]["manifest"] if len(folders) == 1 else None,
        "folders": folders,
        "train_samples_an_epoch": 0 if sides is None else sides.num_draws,
        "should_train": all(check.status != "stop" for check in checks),
        "checks": [asdict(check) for check in checks],
        **inspection.to_dict(),
    }
    # ASCII: a name of bytes that are no text has no other form in JSON.
    _write(path, json.dumps(content, indent=1) + "\n", flag="--json")


def _write_html(
    path: Path, inspection: Inspection, checks: tuple[Check, ...], *, folders: Sequence[tuple[str, str]]
) -> None:
    try:
        write_page(inspection, checks, path, folders=folders)
    except OSError as error:
        raise PixelLLMError(f"--html {path} cannot be written: {error.strerror}. Name another file.") from error


def _write(path: Path, text: str, *, flag: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PixelLLMError(f"{flag} {path} cannot be written: {error.strerror}. Name another file.") from error
