"""From what a person names (a run, a folder of checkpoints, a checkpoint) to the one folder of weights meant by it."""

import logging
from pathlib import Path

from systems.pixel_llm import checkpoint_folder
from systems.pixel_llm.checkpoint_folder import CheckpointRecord, list_checkpoints, verify_files
from systems.pixel_llm.checkpoint_ranking import rank_records
from systems.pixel_llm.errors import CheckpointError, ConfigError
from systems.pixel_llm.models.pretrained import CONFIG_FILE

__all__ = ["find_checkpoint"]

logger = logging.getLogger(__name__)


def find_checkpoint(path: str | Path, *, name: str | None = None) -> Path:
    """The model folder that `path` means.

    Args:
        path: a model folder (a checkpoint, or what `save_pretrained` wrote), a folder of checkpoints, or a run folder,
            which holds such a folder as `checkpoints`. Of several checkpoints the best is meant, by the metric of
            the run, else the newest; a damaged one is passed over with a warning.
        name: the one of several checkpoints that is meant instead.

    Raises:
        CheckpointError: there is no model, or no checkpoint `name`.
        ConfigError: `name` is given with a single model, or cannot be a checkpoint's name.
    """
    path = Path(path)
    if not path.is_dir():
        raise CheckpointError(f"{path}: there is no such folder. Name a run folder or a checkpoint.")
    if (path / CONFIG_FILE).is_file():
        if name is not None:
            raise ConfigError(f"{path} is one model: there is no checkpoint {name!r} to choose in it. Name its run.")
        return path
    folders = [folder for folder in (path / "checkpoints", path) if folder.is_dir()]
    for folder in folders:
        records = list_checkpoints(folder)
        if name is not None and records:
            return checkpoint_folder.find_checkpoint(folder, name)
        if (record := _first_good(records)) is not None:
            return record.path
    raise CheckpointError(
        f"{path} holds no checkpoint. Name a run folder (runs/...), a folder of checkpoints or one checkpoint."
    )


def _first_good(records: list[CheckpointRecord]) -> CheckpointRecord | None:
    """The best whose every byte is as it was saved; where none with a metric is, the newest such one."""
    ranked = rank_records(records)
    for record in [*ranked, *(record for record in reversed(records) if record not in ranked)]:
        try:
            verify_files(record.path, deep=True)
        except CheckpointError as error:
            logger.warning("Checkpoint passed over: %s", error)
        else:
            return record
    return None
