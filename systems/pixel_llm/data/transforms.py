"""A picture -> what the model sees, by the record that travels with the weights.

The picture is stretched to the record's size, scaled to 0..1 and normalised per channel. Training, validation and
captioning all take this same transform; where many pictures are trained on, its two halves are apart: whoever reads
pictures scales them to uint8, and the model normalises whole batches on its own device.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from systems.pixel_llm.data.images import to_rgb
from systems.pixel_llm.preprocessing import Preprocessing

__all__ = ["PictureTransform", "make_transform", "scaled"]

_HAS_VECTOR_CODE = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


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
        return scaled(np.array(to_rgb(image)).transpose(2, 0, 1), self.preprocessing.image_size)

    def normalise(self, pixels: NDArray[np.uint8]) -> Tensor:
        """The second half: uint8 [3, H, W] -> float32 [3, H, W]."""
        # In numpy: torch would spread these small sums over all cores, which the training step is using.
        normalised = pixels * self._scale
        normalised += self._shift
        return torch.from_numpy(normalised)

    def __repr__(self) -> str:
        return f"PictureTransform({self.preprocessing})"


def scaled(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """uint8 [3, h, w], writable, stretched to `size` (H, W): bicubic, smoothed where it becomes smaller; contiguous.

    torch and Pillow compute the same weights, and differ by a level here and there (more than 70 dB). torch is five
    times as fast where it has vector code for bytes.
    """
    height, width = size
    if pixels.shape[1:] == (height, width):
        return np.ascontiguousarray(pixels)
    if _HAS_VECTOR_CODE:
        # The layout of a decoded picture, colours last, is the one that the vector code takes.
        stretched = torch.nn.functional.interpolate(
            torch.from_numpy(pixels)[None], size=size, mode="bicubic", antialias=True
        )[0]
        return stretched.contiguous().numpy()
    picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    resized = picture.resize((width, height), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))
