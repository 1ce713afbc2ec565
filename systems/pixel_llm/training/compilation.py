"""Compiled training: whether this machine can, and batches brought to a few shapes, each of which is compiled once.

The length of captions, their number and the number of pictures change from batch to batch, and code is made for a shape
(`models/block_runs.py`). So captions are padded to a multiple of 8 tokens, their number to a multiple of 8 or of a
quarter of the batch size, and a batch with fewer pictures than usual to the next quarter: a handful of shapes in a run.
What is padded has no target. The loss stays the mean over the very same tokens, and its gradient what it was.
"""

import os
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.models import PixelLLM
from systems.pixel_llm.tokenizer import IGNORE_INDEX, CaptionTokenizer
from systems.pixel_llm.training.micro_batches import MicroBatch

__all__ = ["FewShapes", "check_compiler", "padding_for"]

LENGTH_UNIT = 8
"""Matrix products on a GPU like such lengths, too."""
CAPTION_UNIT = 8
USUAL_BATCH_SIZE = 32
"""Where the loader does not tell its own, as with a batch sampler."""


@dataclass(frozen=True)
class FewShapes:
    """Brings micro-batches to a few shapes by padding. The targets, and their order, stay as they are."""

    batch_size: int
    """Of the loader: a full batch is not padded."""
    max_seq_len: int
    """Of the model: no caption is padded beyond."""

    def __call__(self, part: MicroBatch) -> MicroBatch:
        """`part`, on the CPU, with rows of zeros after its pictures and padding after and below its captions."""
        num_captions, length = part.tokens.input_ids.shape
        new_length = max(length, min(_up_to(LENGTH_UNIT, length), self.max_seq_len))
        num_images = self._up_to_quarter(len(part.images))
        new_captions = num_images
        if part.image_index is not None:
            new_captions = _up_to(max(CAPTION_UNIT, self.batch_size // 4), num_captions)
        added = (0, new_length - length, 0, new_captions - num_captions)
        targets = F.pad(part.tokens.targets, added, value=IGNORE_INDEX)
        tokens = replace(
            part.tokens,
            input_ids=F.pad(part.tokens.input_ids, added, value=CaptionTokenizer.pad_id),
            targets=targets,
            supervised=(targets.flatten() != IGNORE_INDEX).nonzero().flatten(),
        )
        index = None if part.image_index is None else _with_zeros(part.image_index, new_captions)
        return MicroBatch(_with_zeros(part.images, num_images), tokens, index)

    def _up_to_quarter(self, count: int) -> int:
        """The next of a quarter, a half, three quarters of the batch size, the whole, five quarters and so on."""
        quarters = -(-4 * count // self.batch_size)
        return -(-self.batch_size * quarters // 4)


def padding_for(model: PixelLLM, loader: object) -> FewShapes | None:
    """What the batches of `loader` are brought to few shapes by; None where the model's blocks are not compiled."""
    if not model.has_compiled_blocks:
        return None
    batch_size = getattr(loader, "batch_size", None)
    return FewShapes(batch_size if isinstance(batch_size, int) else USUAL_BATCH_SIZE, model.config.max_seq_len)


def check_compiler(device: torch.device) -> None:
    """Compile a trifle for `device`, and run it.

    Raises:
        ConfigError: that does not work; the message tells what is missing.
    """
    # A number of this process's own, so that nothing is taken from what an earlier one compiled.
    number = float(os.getpid())
    try:
        torch.compile(lambda values: (values * number).sin(), dynamic=False)(torch.ones(8, device=device))
    except Exception as error:  # torch raises many kinds, from as many libraries
        needed = "a C++ compiler and Python's headers" if device.type == "cpu" else "Triton and a C compiler"
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ConfigError(
            f"compile=True does not work on this machine: torch could not compile for {device}, for which it needs "
            f"{needed} (on Debian and Ubuntu the packages g++ and python3-dev). Install what is missing, or leave "
            f"compile out. torch says: {reason.strip()}"
        ) from error


def _up_to(unit: int, count: int) -> int:
    return -(-count // unit) * unit


def _with_zeros(rows: Tensor, count: int) -> Tensor:
    """`rows` followed by rows of zeros, `count` in all."""
    if len(rows) == count:
        return rows
    return torch.cat([rows, rows.new_zeros(count - len(rows), *rows.shape[1:])])
