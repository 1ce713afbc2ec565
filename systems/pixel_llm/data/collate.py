"""Items -> one batch: pictures stacked, captions and paths in lists. A plain function: workers can be sent it."""

from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor

from systems.pixel_llm.errors import DatasetError

__all__ = ["CaptionBatch", "CaptionItem", "collate_captions"]


class CaptionItem(TypedDict):
    """One picture with the caption drawn for this epoch."""

    image: Tensor
    """[3, H, W], float32."""
    caption: str
    image_path: str


class CaptionBatch(TypedDict):
    """What a loader gives the Trainer."""

    images: Tensor
    """[B, 3, H, W], float32."""
    captions: list[str]
    image_paths: list[str]


def collate_captions(samples: Sequence[CaptionItem]) -> CaptionBatch:
    """Stack the items of a dataset into one batch.

    Raises:
        DatasetError: two pictures differ in size; the message names both.
    """
    first = samples[0]
    for sample in samples:
        if sample["image"].shape != first["image"].shape:
            raise DatasetError(
                f"The pictures of a batch must have one size: {first['image_path']} is {_size(first)}, "
                f"{sample['image_path']} is {_size(sample)} after the transform. Give the transform a fixed output "
                "size, such as Resize((224, 224))."
            )
    return {
        "images": torch.stack([sample["image"] for sample in samples]),
        "captions": [sample["caption"] for sample in samples],
        "image_paths": [sample["image_path"] for sample in samples],
    }


def _size(sample: CaptionItem) -> str:
    height, width = sample["image"].shape[-2:]
    return f"{height} x {width} (height x width)"
