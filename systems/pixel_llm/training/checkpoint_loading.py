"""One checkpoint from the disk: every byte compared, all held against model and optimizer, and only then taken."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from systems.pixel_llm.checkpoint_folder import AVERAGE_FILE, MODEL_FILE, OPTIMIZER_FILE
from systems.pixel_llm.errors import CheckpointError
from systems.pixel_llm.folder_reader import FolderReader
from systems.pixel_llm.training.checkpoint_contents import (
    prepare_model,
    prepare_optimizer,
    read_average,
    read_training_state,
    unwrapped,
)
from systems.pixel_llm.weights_file import warn_of_left

__all__ = ["take_checkpoint", "verified_reader"]

_SMALL_BYTES = 32 << 20
"""Files up to this size are read into memory as they are compared, whatever they hold."""


def verified_reader(
    path: Path, manifest: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer | None
) -> FolderReader:
    """A reader of a checkpoint of which every byte was compared, with what will be used in memory.

    A file that is far larger than the model is compared alone: whether it fits is seen before memory is taken.

    Raises:
        CheckpointError: it is damaged.
    """
    num_bytes = sum(value.nbytes for value in model.state_dict().values() if isinstance(value, Tensor))
    wanted = {MODEL_FILE, AVERAGE_FILE} if optimizer is None else {MODEL_FILE, AVERAGE_FILE, OPTIMIZER_FILE}
    reader = FolderReader(path, manifest["files"])
    reader.verify(
        keep=lambda name, size: (
            size <= _SMALL_BYTES or (name in wanted and (name == OPTIMIZER_FILE or size <= 4 * num_bytes))
        )
    )
    return reader


def take_checkpoint(
    reader: FolderReader,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    *,
    device: torch.device | None,
    strict: bool,
) -> dict[str, Any]:
    """Check all that is in a verified folder, then let model and optimizer take it.

    Returns:
        `{"training_state", "average", "left"}`; see `CheckpointManager.load`.

    Raises:
        CheckpointError: it does not fit; nothing is changed.
    """
    model = unwrapped(model)
    training_state, saved_optimizer = read_training_state(reader)
    average = read_average(reader)
    take_model = prepare_model(model, reader, device, strict=strict)
    why_not: str | None = None
    take_optimizer = None
    if optimizer is not None:
        try:
            take_optimizer = prepare_optimizer(optimizer, model, reader, saved_optimizer)
        except CheckpointError as error:
            if strict:
                raise
            why_not = str(error)
    left = dict(take_model())
    if take_optimizer is not None and left:
        why_not = "it belongs to weights of which some were left"
    elif take_optimizer is not None:
        take_optimizer()
    if why_not is not None:
        left[OPTIMIZER_FILE] = why_not
    warn_of_left(left, reader.folder)
    return {"training_state": training_state, "average": average, "left": left}
