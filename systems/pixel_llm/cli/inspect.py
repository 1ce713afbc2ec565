"""`pixel-llm inspect DATA`: read the folder as `train` would, look at everything in it, and say what was found.

A folder that cannot be read at all is a finding too: the summary and the JSON file tell it, and the exit status is 1.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from systems.pixel_llm.cli.inspection_summary import print_summary
from systems.pixel_llm.cli.options import InspectOptions
from systems.pixel_llm.cli.scan_progress import scan_progress
from systems.pixel_llm.data import find_format, read_samples, split_samples
from systems.pixel_llm.data.inspection import Inspection, inspect_samples
from systems.pixel_llm.data.inspection_checks import Check, check_inspection
from systems.pixel_llm.data.options import DataOptions
from systems.pixel_llm.data.samples import Sample
from systems.pixel_llm.data.unpaired import UnpairedFiles, find_unpaired
from systems.pixel_llm.errors import DatasetError, PixelLLMError
from systems.pixel_llm.evaluation.inspection_page import write_page

__all__ = ["run"]


@dataclass(kw_only=True)
class _Read:
    """What became of reading the folder."""

    train: list[Sample] = field(default_factory=list)
    validation: list[Sample] = field(default_factory=list)
    caption_format: str | None = None
    manifest: Path | None = None
    problem: str | None = None
    """Why it could not be read."""


def run(options: InspectOptions) -> int:
    """Run the command; the exit status is 1 where training should not start."""
    read = _read_data(options)
    paired = [sample.image_path for sample in (*read.train, *read.validation)]
    with scan_progress(len(set(paired))) as on_progress:
        inspection = inspect_samples(
            read.train, read.validation, image_size=options.image_size, max_seq_len=options.max_seq_len,
            unpaired=_unpaired(options, read, paired), num_workers=options.num_workers, on_progress=on_progress,
        )  # fmt: skip
    checks = check_inspection(inspection, problem=read.problem)
    data, read_as = str(options.data), _told_format(read, options.data)
    if options.json is not None:
        _write_json(options.json, read, inspection, checks)
    if options.html is not None:
        _write_html(options.html, inspection, checks, data=data, read_as=read_as)
    print_summary(inspection, checks, data=data, read_as=read_as)
    for name, path in (("page", options.html), ("findings", options.json)):
        if path is not None:
            print(f"{name}: {path}")
    return 1 if any(check.status == "stop" for check in checks) else 0


def _read_data(options: InspectOptions) -> _Read:
    """The samples of both sides, as `train` would have them; what it would refuse is told as the problem."""
    read = _Read()
    try:
        read.caption_format, read.manifest = find_format(options.data, manifest=options.manifest)
        samples = read_samples(options.data, read.caption_format, read.manifest)
        if options.val is None and options.val_manifest is None:
            fraction = DataOptions().validation_fraction
            read.train, read.validation = split_samples(samples, dataset_dir=options.data, fraction=fraction)
        else:
            read.train = samples
            val = options.val or options.data
            read.validation = read_samples(val, *find_format(val, manifest=options.val_manifest))
    except DatasetError as error:
        read.problem = str(error)
    return read


def _unpaired(options: InspectOptions, read: _Read, paired: Sequence[Path]) -> UnpairedFiles:
    if not options.data.is_dir():
        return UnpairedFiles()
    found = find_unpaired(options.data, paired, caption_format=read.caption_format, manifest=read.manifest)
    # Who names a manifest may mean to use a part of the pictures.
    return found if options.manifest is None else replace(found, pictures=())


def _told_format(read: _Read, data: Path) -> str:
    if read.caption_format is None:
        return "nothing known"
    if read.manifest is None:
        return read.caption_format
    manifest = read.manifest.relative_to(data) if read.manifest.is_relative_to(data) else read.manifest
    return f"{read.caption_format}, {manifest}"


def _write_json(path: Path, read: _Read, inspection: Inspection, checks: tuple[Check, ...]) -> None:
    content: dict[str, Any] = {
        "format": read.caption_format,
        "manifest": None if read.manifest is None else str(read.manifest),
        "should_train": all(check.status != "stop" for check in checks),
        "checks": [asdict(check) for check in checks],
        **inspection.to_dict(),
    }
    # ASCII: a name of bytes that are no text has no other form in JSON.
    _write(path, json.dumps(content, indent=1) + "\n", flag="--json")


def _write_html(path: Path, inspection: Inspection, checks: tuple[Check, ...], *, data: str, read_as: str) -> None:
    try:
        write_page(inspection, checks, path, data=data, read_as=read_as)
    except OSError as error:
        raise PixelLLMError(f"--html {path} cannot be written: {error.strerror}. Name another file.") from error


def _write(path: Path, text: str, *, flag: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PixelLLMError(f"{flag} {path} cannot be written: {error.strerror}. Name another file.") from error
