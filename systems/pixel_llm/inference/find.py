"""From what a person names (a run, a folder of checkpoints, a checkpoint) to the one folder of weights meant by it."""

from pathlib import Path

from systems.pixel_llm.checkpoint_folder import best_record, latest_record, list_checkpoints
from systems.pixel_llm.errors import CheckpointError
from systems.pixel_llm.models.pretrained import CONFIG_FILE

__all__ = ["find_checkpoint"]


def find_checkpoint(path: str | Path) -> Path:
    """The model folder that `path` means.

    Args:
        path: a model folder (a checkpoint, or what `save_pretrained` wrote), a folder of checkpoints, or a run folder,
            which holds such a folder as `checkpoints`. Of several checkpoints the best is meant, by the metric of
            the run, else the newest.

    Raises:
        CheckpointError: there is no model.
    """
    path = Path(path)
    if not path.is_dir():
        raise CheckpointError(f"{path}: there is no such folder. Name a run folder or a checkpoint.")
    if (path / CONFIG_FILE).is_file():
        return path
    for folder in (path / "checkpoints", path):
        if folder.is_dir():
            records = list_checkpoints(folder)
            record = best_record(records) or latest_record(records)
            if record is not None:
                return record.path
    raise CheckpointError(
        f"{path} holds no checkpoint. Name a run folder (runs/...), a folder of checkpoints or one checkpoint."
    )
