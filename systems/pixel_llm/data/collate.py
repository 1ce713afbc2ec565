"""Items -> one batch: pictures stacked, captions and paths in lists. A plain function: workers can be sent it.

An item has one caption or, where all are learned at once, several; then the batch holds the picture once and tells of
each caption which picture it belongs to. In the place of an item there may be a `BadPicture`: it is left out, never
replaced, and named beside the batch, so that the process that trains hears of it from whichever worker met it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor

from systems.pixel_llm.errors import DatasetError

__all__ = ["BadPicture", "CaptionBatch", "CaptionItem", "CaptionsItem", "DatasetItem", "collate_captions"]


class CaptionItem(TypedDict):
    """One picture with the caption drawn for this epoch."""

    image: Tensor
    """[3, H, W], float32."""
    caption: str
    image_path: str


class CaptionsItem(TypedDict):
    """One picture with all its captions."""

    image: Tensor
    """[3, H, W], float32."""
    captions: list[str]
    image_path: str


@dataclass(frozen=True)
class BadPicture:
    """In the place of an item: a picture that cannot be read, and why."""

    path: str
    reason: str


DatasetItem = CaptionItem | CaptionsItem | BadPicture


class CaptionBatch(TypedDict):
    """What a loader gives the Trainer: B pictures with C captions; C is B where each picture has one."""

    images: Tensor
    """[B, 3, H, W]: float32, normalised, of `collate_captions`; uint8 of a `PictureLoader`. B is 0 where none of the
    pictures could be read; `collate_captions` then knows no H and W: [0, 3, 0, 0]."""
    captions: list[str]
    image_paths: list[str]
    """B paths."""
    caption_image_index: NotRequired[Tensor]
    """[C] int64, the row in `images` of each caption. Not there where each picture has one caption."""
    bad_pictures: NotRequired[list[BadPicture]]
    """What was left out. Not there where nothing was."""


def collate_captions(samples: Sequence[DatasetItem]) -> CaptionBatch:
    """Stack the items of a dataset into one batch.

    Raises:
        DatasetError: a picture is no tensor, or two differ in size; the message names them.
    """
    items: list[Mapping[str, Any]] = [sample for sample in samples if not isinstance(sample, BadPicture)]
    bad_pictures = [sample for sample in samples if isinstance(sample, BadPicture)]
    for item in items:
        if not isinstance(item["image"], Tensor):
            raise DatasetError(
                f"The picture {item['image_path']} must be a tensor [3, H, W], found {type(item['image']).__name__}."
            )
        if item["image"].shape != items[0]["image"].shape:
            raise DatasetError(
                f"The pictures of a batch must have one size: {items[0]['image_path']} is {_size(items[0])}, "
                f"{item['image_path']} is {_size(item)} after the transform. Give the transform a fixed output "
                "size, such as Resize((224, 224))."
            )
    captions = [item["captions"] if "captions" in item else [item["caption"]] for item in items]
    batch: CaptionBatch = {
        "images": torch.stack([item["image"] for item in items]) if items else torch.empty(0, 3, 0, 0),
        "captions": [caption for of_picture in captions for caption in of_picture],
        "image_paths": [item["image_path"] for item in items],
    }
    if any("captions" in item for item in items):
        rows = [row for row, of_picture in enumerate(captions) for _ in of_picture]
        batch["caption_image_index"] = torch.tensor(rows, dtype=torch.int64)
    if bad_pictures:
        batch["bad_pictures"] = bad_pictures
    return batch


def _size(item: Mapping[str, Any]) -> str:
    shape = item["image"].shape
    return f"{shape[1]} x {shape[2]} (height x width)" if len(shape) == 3 and shape[0] == 3 else f"{list(shape)}"
