"""The one change made to pictures in training: a random crop, stretched back to full size.

A small set of pictures is soon learned by heart; a slightly different cut of each, every epoch, puts that off. The crop
keeps most of the picture and nothing is mirrored, so that "on the left" stays true. It follows from a seed alone.
"""

import math
from random import Random

import numpy as np
from numpy.typing import NDArray

from systems.pixel_llm.data.transforms import scaled

__all__ = ["random_crop"]

LEAST_AREA = 0.7
"""Share of the picture's area that is always kept."""
MOST_STRETCH = 1.15
"""How much wider, or higher, than the picture's own the crop's shape may be."""


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
