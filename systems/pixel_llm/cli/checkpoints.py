"""`pixel-llm checkpoints RUN`: what a run has saved, whether it is whole, why it is kept; and pruning by hand.

All is read from the folder: manifests and sizes or, with `--verify`, every byte. What is found damaged is told, counts
for nothing in what is best or kept, and is never removed. No torch is loaded.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote

from systems.pixel_llm.checkpoint_folder import (
    CheckpointRecord,
    CheckpointScan,
    checkpoint_folders,
    is_checkpoint_folder,
    scan_checkpoints,
    verify_files,
)
from systems.pixel_llm.checkpoint_ranking import best_record, latest_record
from systems.pixel_llm.checkpoint_retention import Reasons, prune, reasons_to_keep
from systems.pixel_llm.cli.checkpoints_options import CheckpointsOptions
from systems.pixel_llm.cli.checkpoints_table import CheckpointList, print_json, print_table
from systems.pixel_llm.cli.settings_file import read_settings
from systems.pixel_llm.errors import CheckpointError, ConfigError
from systems.pixel_llm.evaluation.run_files import OPTIONS_FILE, RunFolder
from systems.pixel_llm.training.durable import clear_leftovers
from systems.pixel_llm.training.options import TrainingOptions
from systems.pixel_llm.training.previous_runs import previous_runs

__all__ = ["run"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """What is to be listed."""

    folder: Path
    """Of checkpoints."""
    only: str | None = None
    """Name of the one that is meant; None for all."""


def run(options: CheckpointsOptions) -> int:
    """Run the command; the exit status is 1 where `--verify` finds a damaged checkpoint."""
    place = find_place(options.run)
    if options.prune and place.only is not None:
        raise ConfigError(f"prune=True is for all checkpoints of a run, and {options.run} is one. Name its run.")
    if options.prune and not options.dry_run:
        clear_leftovers(place.folder)
    found = listed(place, options)
    removed: list[CheckpointRecord] = []
    if options.prune and not options.dry_run:
        removed = prune(found.records, found.reasons)
        gone = {record.name for record in removed}
        found = replace(found, records=tuple(each for each in found.records if each.name not in gone))
    if options.json:
        print_json(found, removed=removed)
    else:
        print_table(found)
        tell(found, removed, options)
    return 1 if options.verify and found.damaged else 0


def find_place(path: Path) -> Place:
    """The folder of checkpoints that `path` means.

    Raises:
        CheckpointError: there is none.
    """
    if not path.is_dir():
        raise CheckpointError(f"{path}: there is no such folder. Name a run folder, or a folder of checkpoints.")
    if is_checkpoint_folder(path):
        return Place(path.resolve().parent, only=path.resolve().name)
    for folder in (RunFolder(path).checkpoints, path):
        if folder.is_dir() and (checkpoint_folders(folder) or previous_runs(folder)):
            return Place(folder)
    raise CheckpointError(f"{path} holds no checkpoint. Name a run folder (runs/...) or a folder of checkpoints.")


def listed(place: Place, options: CheckpointsOptions) -> CheckpointList:
    """What is there, and why it stays."""
    scan = scan_checkpoints(place.folder)
    if options.verify:
        scan = verified(scan, only=place.only)
    best, latest = best_record(scan.records), latest_record(scan.records)
    reasons: Reasons = {}
    if latest is not None:
        kept = options.max_checkpoints or max_checkpoints_of(place.folder)
        reasons = reasons_to_keep(scan.records, latest.lineage, max_checkpoints=kept)
    is_meant = [name for name in (*reasons, *scan.damaged) if place.only in (None, name)]
    return CheckpointList(
        folder=place.folder,
        records=tuple(record for record in scan.records if record.name in is_meant),
        reasons=reasons,
        best=None if best is None else best.name,
        latest=None if latest is None else latest.name,
        damaged={name: why for name, why in scan.damaged.items() if name in is_meant},
        is_every_byte_read=options.verify,
        previous=() if place.only else tuple(previous_runs(place.folder)),
    )


def verified(scan: CheckpointScan, *, only: str | None) -> CheckpointScan:
    """`scan` after every byte was read: what is damaged is among the damaged."""
    sound, damaged = [], dict(scan.damaged)
    for record in scan.records:
        try:
            if only in (None, record.name):
                verify_files(record.path, deep=True)
            sound.append(record)
        except CheckpointError as error:
            damaged[record.name] = str(error)
    return replace(scan, records=tuple(sound), damaged=damaged)


def max_checkpoints_of(folder: Path) -> int:
    """How many of the best the run keeps, as its options tell; the default where there are none."""
    path = folder.resolve().parent / OPTIONS_FILE
    settings = read_settings(path) if path.is_file() else {}
    return int(settings.get("max_checkpoints", TrainingOptions().max_checkpoints))


def tell(found: CheckpointList, removed: list[CheckpointRecord], options: CheckpointsOptions) -> None:
    """What came of it, and what to type next."""
    doomed = [record for record in found.records if not found.reasons[record.name]]
    if removed:
        print(f"removed: {', '.join(record.name for record in removed)}")
    elif options.dry_run and doomed:
        print(f"would be removed: {', '.join(record.name for record in doomed)}")
    elif options.prune and not doomed:
        print("nothing to remove")
    for reason in found.damaged.values():
        logger.warning("%s", reason)
    if not options.verify:
        logger.info("Only sizes were compared with what was saved; --verify reads every byte.")
    for path in found.previous:
        logger.info("An earlier run: pixel-llm checkpoints %s", quote(str(path)))
