"""What `checkpoints` prints: a table for people, or JSON for scripts, of the same facts.

The table is plain text whose columns stand under each other, at most 100 columns wide with names of usual length.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from systems.pixel_llm.checkpoint_folder import CheckpointRecord
from systems.pixel_llm.checkpoint_retention import BEST, NEWEST, Reasons
from systems.pixel_llm.cli.lines import escaped

__all__ = ["CheckpointList", "print_json", "print_table"]

HEADINGS = ("name", "epoch", "step", "metric", "size", "holds", "checked", "kept as")
RIGHT = ("epoch", "step", "size")
"""Columns of numbers."""


@dataclass(frozen=True, kw_only=True)
class CheckpointList:
    """The checkpoints of a folder."""

    folder: Path
    records: tuple[CheckpointRecord, ...]
    """Those that are not damaged as far as was looked, oldest first."""
    reasons: Reasons
    best: str | None
    """Name of the one with the best metric."""
    latest: str | None
    """Name of the one saved last."""
    damaged: Mapping[str, str]
    """Name -> what is wrong with it."""
    is_every_byte_read: bool
    previous: tuple[Path, ...]
    """Folders of the checkpoints of earlier runs."""


def print_table(found: CheckpointList) -> None:
    """Print a line for each, damaged ones last, and the sum."""
    rows = [_row(record, found) for record in found.records]
    rows += [(escaped(name), "", "", "", "", "", "DAMAGED", "") for name in found.damaged]
    if rows:
        _print_columns([HEADINGS, *rows])
    total = _size(sum(record.num_bytes for record in found.records))
    damaged = f", and {len(found.damaged)} damaged" if found.damaged else ""
    print(f"{_counted(len(found.records))} in {found.folder}, {total}{damaged}")


def print_json(found: CheckpointList, *, removed: Sequence[CheckpointRecord]) -> None:
    """Print one object."""
    content = {
        "folder": str(found.folder),
        "checkpoints": [_entry(record, found) for record in found.records],
        "damaged": dict(found.damaged),
        "is_every_byte_read": found.is_every_byte_read,
        "removed": [record.name for record in removed],
        "previous": [str(path) for path in found.previous],
    }
    print(json.dumps(content, indent=2))


def _row(record: CheckpointRecord, found: CheckpointList) -> tuple[str, ...]:
    metric = "-" if record.metric is None else f"{record.metric:.4f} {record.metric_name or ''}".rstrip()
    kept = list(found.reasons[record.name])
    for mark, name, reason in (("latest", found.latest, NEWEST), ("best", found.best, BEST)):
        if record.name == name:
            kept = [mark, *(each for each in kept if each != reason)]
    return (
        escaped(record.name),
        str(record.epoch),
        "-" if record.step is None else str(record.step),
        metric,
        _size(record.num_bytes),
        "weights, optimizer" if record.has_optimizer else "weights",
        "every byte" if found.is_every_byte_read else "sizes",
        ", ".join(kept) or "(not kept by the next save)",
    )


def _entry(record: CheckpointRecord, found: CheckpointList) -> dict[str, Any]:
    return {
        "name": record.name,
        "path": str(record.path),
        "epoch": record.epoch,
        "step": record.step,
        "metric": record.metric,
        "metric_name": record.metric_name,
        "num_bytes": record.num_bytes,
        "has_optimizer": record.has_optimizer,
        "run": record.lineage.run,
        "sequence": record.sequence,
        "is_best": record.name == found.best,
        "is_latest": record.name == found.latest,
        "kept_as": list(found.reasons[record.name]),
    }


def _print_columns(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if heading in RIGHT else cell.ljust(width)
            for heading, cell, width in zip(HEADINGS, row, widths, strict=True)
        )
        print("  ".join(cells).rstrip())


def _counted(number: int) -> str:
    return f"{number} checkpoint" if number == 1 else f"{number} checkpoints"


def _size(num_bytes: int) -> str:
    if num_bytes < 100_000:
        return f"{num_bytes:,} B"
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes < 1e9 else f"{num_bytes / 1e9:,.2f} GB"
