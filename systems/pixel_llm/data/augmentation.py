"""What is done to pictures in training, so that a small set of them is not soon learned by heart: crop, color, flip.

All of it leaves captions true. The crop keeps most of the picture. The change of colour moves light and contrast by a
curve that holds black and white where they are, and saturation towards or away from grey, which leaves greys grey:
a white background stays white, and no hue is turned, so what is called red stays red. Only a mirror makes captions
wrong, and `mirroring.py` tells which pictures it may be held up to. Each follows from a seed alone.
"""

import math
from random import Random

import numpy as np
from numpy.typing import NDArray

from systems.pixel_llm.data.transforms import scaled

__all__ = ["mirrored", "random_color", "random_crop"]

LEAST_AREA = 0.7
"""Share of the picture's area that is always kept."""
MOST_STRETCH = 1.15
"""How much wider, or higher, than the picture's own the crop's shape may be."""
# As strong as leaves the name of a colour alone, by looking at photographs and icons: with twice as much a red apple
# became brown, and one skin tone another.
MOST_GAMMA = 1.15
"""Middle grey (128) becomes 115 to 140."""
MOST_CONTRAST = 0.2
"""The curve is steeper, or flatter, by up to half of this in the middle."""
MOST_SATURATION = 0.15
"""Colours come to lie this share farther from grey, or nearer to it."""


def random_crop(pixels: NDArray[np.uint8], *, seed: int) -> NDArray[np.uint8]:
    """A part of `pixels` [3, H, W] with 70 % to 100 % of the area, stretched to [3, H, W].

    Place, area and shape are drawn from `seed` (Szegedy et al. 2015, section 6, with narrower ranges).
    """
    random = Random(seed)
    _, height, width = pixels.shape
    area = LEAST_AREA + (1 - LEAST_AREA) * random.random()
    stretch = math.exp(math.log(MOST_STRETCH) * (2 * random.random() - 1))
    crop_height = max(1, round(height * min(1.0, math.sqrt(area / stretch))))
    crop_width = max(1, round(width * min(1.0, math.sqrt(area * stretch))))
    top, left = random.randint(0, height - crop_height), random.randint(0, width - crop_width)
    return scaled(pixels[:, top : top + crop_height, left : left + crop_width].copy(), (height, width))


def random_color(pixels: NDArray[np.uint8], *, seed: int) -> NDArray[np.uint8]:
    """`pixels` [3, H, W] a little lighter or darker, harder or softer, more or less colourful; drawn from `seed`."""
    random = Random(seed)
    gamma = math.exp(math.log(MOST_GAMMA) * (2 * random.random() - 1))
    contrast = MOST_CONTRAST * (2 * random.random() - 1)
    saturation = MOST_SATURATION * (2 * random.random() - 1)
    curve = _tone_curve(gamma, contrast)
    # By bytes: numpy would first make an index of eight bytes of each value.
    toned = np.frombuffer(pixels.tobytes().translate(curve), np.uint8).reshape(pixels.shape)
    red, green, blue = toned.astype(np.uint16)
    grey = ((77 * red + 150 * green + 29 * blue) >> 8).astype(np.int16)  # weights of ITU-R BT.601
    colors = toned.astype(np.int16)
    colors += ((colors - grey) * np.int16(round(128 * saturation))) >> 7
    return np.clip(colors, 0, 255, out=colors).astype(np.uint8)


def mirrored(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`pixels` [3, H, W] with left and right swapped."""
    return np.ascontiguousarray(pixels[:, :, ::-1])


def _tone_curve(gamma: float, contrast: float) -> bytes:
    """256 levels: a power, then an S about the middle (a lying one where `contrast` is below 0); 0 and 255 stay."""
    light = (np.arange(256) / 255) ** gamma
    light += contrast * light * (1 - light) * (2 * light - 1)
    return np.rint(255 * light).astype(np.uint8).tobytes()
