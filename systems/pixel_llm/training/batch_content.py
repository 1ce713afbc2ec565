"""What a batch of any loader holds, checked: captions, the picture each belongs to, and the pictures left out of it."""

from typing import Any

import torch
from torch import Tensor

from systems.pixel_llm.data.collate import BadPicture
from systems.pixel_llm.data.folder import quoted, shown
from systems.pixel_llm.errors import ConfigError, DatasetError

__all__ = ["bad_pictures_of_batch", "captions_of_batch", "image_index_of_batch"]


def captions_of_batch(batch: Any) -> list[str]:
    """The captions of one batch; none where no picture of it could be read.

    Raises:
        ConfigError: the batch is not the mapping that `ImageCaptionDataset` and its collate function make.
        DatasetError: a caption is no string; the message names its picture.
    """
    try:
        captions = list(batch["captions"])
        has_images = "images" in batch
    except (TypeError, KeyError, IndexError):
        captions, has_images = [], False
    if not has_images:
        found = f"keys {sorted(map(str, batch))}" if isinstance(batch, dict) else type(batch).__name__
        raise ConfigError(
            "A batch must be a dict with 'images' [B, 3, H, W] and 'captions', a list of B strings; found "
            f"{found}. Pass collate_fn=dataset.get_collate_fn() to the DataLoader."
        )
    for number, caption in enumerate(captions):
        if not isinstance(caption, str):
            raise DatasetError(
                f"A caption must be a string: that of {_picture_of(batch, number)} is {quoted(repr(caption))}, "
                f"{type(caption).__name__}. Put it right where the dataset makes its items."
            )
    return captions


def _picture_of(batch: Any, number: int) -> str:
    """What the picture of caption `number` is called."""
    paths, index = batch.get("image_paths", ()), batch.get("caption_image_index")
    row = number if index is None else int(index[number])
    return shown(str(paths[row])) if row < len(paths) else f"picture {row} of the batch"


def image_index_of_batch(batch: Any) -> Tensor | None:
    """[C] whole numbers, the row in `images` of each of the C captions; None where each picture has one caption.

    Raises:
        ConfigError: 'caption_image_index' is there and is not such a tensor.
    """
    if "caption_image_index" not in batch:
        return None
    index, num_images, num_captions = batch["caption_image_index"], len(batch["images"]), len(batch["captions"])
    is_index = isinstance(index, Tensor) and index.dtype in (torch.int64, torch.int32)
    if not is_index or index.shape != (num_captions,) or bool(((index < 0) | (index >= num_images)).any()):
        found = f"{index.dtype} {list(index.shape)}" if isinstance(index, Tensor) else type(index).__name__
        raise ConfigError(
            f"'caption_image_index' must hold for each of the {num_captions} captions the row of its picture, a whole "
            f"number from 0 to {num_images - 1}, as int64 [{num_captions}]; found {found}."
        )
    return index


def bad_pictures_of_batch(batch: Any) -> list[BadPicture]:
    """The pictures that were left out of the batch; none where the loader does not tell of such."""
    return list(batch.get("bad_pictures", ())) if isinstance(batch, dict) else []
