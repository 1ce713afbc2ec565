"""A picture -> what the model sees, by the record that travels with the weights.

The picture is stretched to the record's size, scaled to 0..1 and normalised per channel. Training, validation and
captioning all take this same transform.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from systems.pixel_llm.data.images import to_rgb
from systems.pixel_llm.preprocessing import Preprocessing

__all__ = ["PictureTransform", "make_transform"]


def make_transform(preprocessing: Preprocessing) -> "PictureTransform":
    """The transform of a preprocessing record: picture -> float32 [3, H, W]. It can be sent to worker processes."""
    return PictureTransform(preprocessing)


class PictureTransform:
    """Callable: a PIL picture -> float32 [3, H, W], contiguous."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing
        std = np.array(preprocessing.std, dtype=np.float32).reshape(3, 1, 1)
        # (value / 255 - mean) / std, as one multiplication and one addition.
        self._scale = 1 / (255 * std)
        self._shift = -np.array(preprocessing.mean, dtype=np.float32).reshape(3, 1, 1) / std

    def __call__(self, image: Image.Image) -> Tensor:
        """Picture of any size -> float32 [3, H, W]."""
        return self.normalise(self.pixels(image))

    def pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        """The first half, which is the slow one: picture of any size -> uint8 [3, H, W]."""
        height, width = self.preprocessing.image_size
        image = to_rgb(image)
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BICUBIC)
        return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))

    def normalise(self, pixels: NDArray[np.uint8]) -> Tensor:
        """The second half: uint8 [3, H, W] -> float32 [3, H, W]."""
        # In numpy: torch would spread these small sums over all cores, which the training step is using.
        normalised = pixels * self._scale
        normalised += self._shift
        return torch.from_numpy(normalised)

    def __repr__(self) -> str:
        return f"PictureTransform({self.preprocessing})"
