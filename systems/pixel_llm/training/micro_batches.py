"""The batches of one optimizer step, as the model takes them: pictures with their captions as ids, on the CPU.

A step may take several batches (gradient accumulation), and a batch that does not fit into memory is taken in parts, a
few pictures at a time with all their captions. How much each part weighs is its share of the step's tokens, so that the
gradient is that of the one large batch, however unequal the captions are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from systems.pixel_llm.tokenizer import TokenBatch
from systems.pixel_llm.training.batch_content import captions_of_batch, image_index_of_batch

__all__ = ["MicroBatch", "micro_batches"]


@dataclass(frozen=True)
class MicroBatch:
    """What goes through the model at once."""

    images: Tensor
    """[B, 3, H, W]"""
    tokens: TokenBatch
    """C captions."""
    image_index: Tensor | None
    """[C] the row in `images` of each caption's picture; None where each picture has one caption."""

    @property
    def num_tokens(self) -> int:
        """Positions with a target."""
        return len(self.tokens.supervised)

    @property
    def num_captions(self) -> int:
        """C."""
        return len(self.tokens.input_ids)

    def to(self, device: torch.device) -> "MicroBatch":
        """The same on `device`."""
        index = None if self.image_index is None else self.image_index.to(device, non_blocking=True)
        return MicroBatch(self.images.to(device, non_blocking=True), self.tokens.to(device), index)


def micro_batches(
    batches: Sequence[Any], encode: Callable[[Sequence[str]], TokenBatch], *, parts: int = 1
) -> list[MicroBatch]:
    """The micro-batches of one step, in order; batches without a caption give none.

    Args:
        batches: of the loader, one for each accumulated.
        encode: captions -> ids and targets.
        parts: into how many each is divided, or as many as it has pictures.

    Raises:
        ConfigError: a batch is not what the loader's collate function should make.
    """
    return [micro for batch in batches for micro in _parts(batch, encode, parts)]


def _parts(batch: Any, encode: Callable[[Sequence[str]], TokenBatch], parts: int) -> list[MicroBatch]:
    captions = captions_of_batch(batch)
    if not captions:
        return []
    images, index = batch["images"], image_index_of_batch(batch)
    if parts == 1:
        return [MicroBatch(images, encode(captions), index)]
    divided = []
    picture_of_each = list(range(len(captions))) if index is None else index.tolist()
    for rows in torch.arange(len(images)).tensor_split(min(parts, len(images))):
        first, last = int(rows[0]), int(rows[-1])
        own = [
            (caption, row - first)
            for caption, row in zip(captions, picture_of_each, strict=True)
            if first <= row <= last
        ]
        if own:
            own_index = None if index is None else torch.tensor([row for _, row in own])
            divided.append(MicroBatch(images[first : last + 1], encode([caption for caption, _ in own]), own_index))
    return divided
