"""Checkpoints of earlier runs, moved out of the way of one that begins in their directory; nothing is removed.

They go to `previous/<run>/` beside, which readers of the directory do not look into; it is a directory of checkpoints
like any other, and may be read, resumed and pruned by its own name. No torch.
"""

import logging
from pathlib import Path

from systems.pixel_llm.checkpoint_folder import checkpoint_folders, is_checkpoint_folder, read_manifest
from systems.pixel_llm.errors import CheckpointError, NotSavedError
from systems.pixel_llm.training.durable import clear_leftovers
from systems.pixel_llm.whole_folder import move_folders

__all__ = ["previous_runs", "set_aside"]

logger = logging.getLogger(__name__)

PREVIOUS_FOLDER = "previous"
UNNAMED_RUN = "unnamed"
"""Where those go that were saved before runs had names, or whose manifest cannot be read."""


def set_aside(checkpoint_dir: Path) -> None:
    """Move all checkpoints in `checkpoint_dir` to a folder of their run's name; which one, is told in the log.

    The newest goes last: stopped in between, what is left is still the newest part of the run, and the next call moves
    the rest.

    Raises:
        NotSavedError: `checkpoint_dir` cannot be read, or a folder cannot be made or moved.
    """
    try:
        clear_leftovers(checkpoint_dir)
        _set_aside(checkpoint_dir)
    except OSError as error:
        raise NotSavedError(
            f"The checkpoints of an earlier run in {checkpoint_dir} could not be moved aside ({error}). Move them "
            "away, or choose another folder."
        ) from error


def _set_aside(checkpoint_dir: Path) -> None:
    runs: dict[str, list[tuple[int, Path]]] = {}
    for _, path in checkpoint_folders(checkpoint_dir):
        run, sequence = _run_of(path)
        runs.setdefault(run, []).append((sequence, path))
    for run, found in runs.items():
        folders = [path for _, path in sorted(found)]
        target = _free_folder(checkpoint_dir, run, folders)
        move_folders(folders, target)
        logger.warning(
            "%s held %d checkpoints of an earlier run, and this one begins anew: they are in %s now. To go on with a "
            "run instead, resume it.", checkpoint_dir, len(folders), target,
        )  # fmt: skip


def previous_runs(checkpoint_dir: Path) -> list[Path]:
    """The folders of checkpoints of earlier runs, by name."""
    parents = sorted(checkpoint_dir.glob(f"{PREVIOUS_FOLDER}*"))
    found = [folder for parent in parents if not is_checkpoint_folder(parent) for folder in sorted(parent.glob("*"))]
    return [folder for folder in found if folder.is_dir() and not folder.is_symlink() and checkpoint_folders(folder)]


def _run_of(path: Path) -> tuple[str, int]:
    try:
        manifest = read_manifest(path)
    except CheckpointError:
        return UNNAMED_RUN, 0
    return manifest.get("run") or UNNAMED_RUN, manifest["sequence"]


def _free_folder(checkpoint_dir: Path, run: str, folders: list[Path]) -> Path:
    """`previous/<run>`, with a number behind where a folder of one of these names is there already."""
    parent = checkpoint_dir / PREVIOUS_FOLDER
    number = 1
    while is_checkpoint_folder(parent) or (parent.exists() and not parent.is_dir()):  # a checkpoint may have this name
        number += 1
        parent = checkpoint_dir / f"{PREVIOUS_FOLDER}-{number}"
    target, number = parent / run, 1
    while any((target / folder.name).exists() for folder in folders):
        number += 1
        target = parent / f"{run}-{number}"
    return target
