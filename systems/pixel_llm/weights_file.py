"""A file of weights from anywhere into a model: names, shapes and dtypes are compared first, and then it takes them.

`load_weights_file` is for a plain `model.safetensors`, which says nothing of settings or vocabulary: the model must
have been made alike. `read_weights` is what all loading of weights is made of.
Layer 1.
"""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from systems.pixel_llm.errors import CheckpointError
from systems.pixel_llm.folder_reader import FolderReader
from systems.pixel_llm.tensor_bytes import tensors_in
from systems.pixel_llm.tensor_fit import ExpectedTensor, misfits, told_misfits

__all__ = ["WEIGHTS_FILE", "expected_tensors", "load_weights_file", "read_weights", "warn_of_left"]

logger = logging.getLogger(__name__)

WEIGHTS_FILE = "model.safetensors"


def load_weights_file(
    model: nn.Module,
    path: str | Path,
    *,
    strict: bool = True,
    ignored: Collection[str] = (),
    device: torch.device | str | None = None,
) -> dict[str, str]:
    """Take the weights in a safetensors file into `model`, in place.

    Nothing is changed where they do not fit. Numbers of another width are converted.

    Args:
        model: its parameters and buffers stay the same objects, where they are.
        path: the file, or a folder with a `model.safetensors`. A link to a file is followed.
        strict: every tensor of the model must be in the file with its shape, and no other. Otherwise what fits is taken
            and a warning lists what was left.
        ignored: names that are left in any case.
        device: where the tensors are read to on their way; the CPU if None.

    Returns:
        Name -> why, of each tensor that was left; without `strict` alone can there be any.

    Raises:
        CheckpointError: there is no such file, it is no sound one, or it does not fit.
    """
    path = Path(path)
    file = (path / WEIGHTS_FILE if path.is_dir() else path).resolve()
    reader = FolderReader(file.parent, None)
    wrong = misfits(reader.header(file.name).tensors, expected_tensors(model), ignored=ignored)
    if wrong and strict:
        raise CheckpointError(
            f"{file} does not fit this {type(model).__name__}: {told_misfits(wrong)}. Make the model with the settings "
            "of the one that was saved, or pass strict=False to take what fits."
        )
    tensors = read_weights(reader, file.name, device=torch.device(device or "cpu"))
    taken = {name: tensor for name, tensor in tensors.items() if name not in wrong and name not in ignored}
    if not taken:
        raise CheckpointError(f"{file}: none of its tensors fits this {type(model).__name__}: {told_misfits(wrong)}.")
    model.load_state_dict(taken, strict=False)
    warn_of_left(wrong, file)
    return wrong


def expected_tensors(model: nn.Module) -> dict[str, ExpectedTensor]:
    """What `model` has, by the names of its state dict."""
    return {
        name: ExpectedTensor(tuple(value.shape), value.is_floating_point())
        for name, value in model.state_dict().items()
        if isinstance(value, Tensor)
    }


def read_weights(reader: FolderReader, name: str, *, device: torch.device | None) -> dict[str, Tensor]:
    """The tensors of a file, by name, in memory of their own, on `device` (the CPU if None).

    Raises:
        CheckpointError: it is missing, damaged, or no sound file of tensors.
    """
    header, content = reader.tensor_file(name)
    return tensors_in(content, header, device=device)


def warn_of_left(left: Mapping[str, str], path: Path) -> None:
    """One warning that lists what a partial loading has left."""
    if left:
        logger.warning("Not taken from %s, and left as it was: %s", path, told_misfits(left))
