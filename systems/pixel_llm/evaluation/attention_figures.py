"""A picture once for each word of its caption, coloured where the model looked as it said that word.

After Xu et al. 2015 ("Show, Attend and Tell", figure 3) the grid of weights is enlarged smoothly to the picture and
laid over it, here as heat over gray, which dark pictures survive. All words of a caption share one scale, and a patch
that got no more than its even share stays gray: a word that looked everywhere is seen to have looked everywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from systems.pixel_llm.data.picture_path import PicturePath
from systems.pixel_llm.data.transforms import make_transform
from systems.pixel_llm.evaluation.thumbnails import data_uri, shrunk
from systems.pixel_llm.inference import Captioner
from systems.pixel_llm.models.attention_maps import attention_maps

__all__ = ["AttentionFigure", "WordPicture", "attention_figure"]

TILE_SIDE = 132
"""Longer side of a word's picture, in pixels."""
MAX_WORDS = 24
HOT_QUANTILE = 0.985
"""Of the weights of a caption: from here on a patch is at full heat. A single strong one would leave all else cold."""
COLD, HOT = (214, 40, 20), (255, 214, 64)
MOST_OPAQUE = 0.8
GRAY_FLOOR = 24
"""Black becomes this gray, so that dark pictures can be made out."""


@dataclass(frozen=True)
class WordPicture:
    """A word and the picture as the model looked at it then."""

    word: str
    image: str
    """A data URI."""


@dataclass(frozen=True, kw_only=True)
class AttentionFigure:
    """A caption, word by word."""

    image: str
    """The picture as it is, as a data URI."""
    caption: str
    words: tuple[WordPicture, ...]
    num_left_out: int
    """Words beyond those shown."""


def attention_figure(captioner: Captioner, path: PicturePath, caption: str) -> AttentionFigure:
    """What the model looked at for each word of a caption.

    Raises:
        DatasetError: the picture cannot be read.
    """
    picture = captioner.open(path)
    maps = attention_maps(captioner.model, make_transform(captioner.model.preprocessing)(picture), caption)
    small = shrunk(picture, TILE_SIDE)
    shown = maps[:MAX_WORDS]
    weights = [each.weights.numpy() for each in shown]
    return AttentionFigure(
        image=data_uri(small),
        caption=caption,
        words=tuple(
            WordPicture(each.word, data_uri(_heated(small, heat)))
            for each, heat in zip(shown, _heats(weights), strict=True)
        ),
        num_left_out=len(maps) - len(shown),
    )


def _heats(weights: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Weights [rows, columns] of each word as 0..1, on one scale: 0 where a patch got no more than its even share."""
    if not weights:
        return []
    even = 1 / weights[0].size
    hottest = max(float(np.quantile(np.stack(weights), HOT_QUANTILE)), 1.5 * even)
    return [np.clip((each - even) / (hottest - even), 0, 1) for each in weights]


def _heated(picture: Image.Image, heat: NDArray[np.float32]) -> Image.Image:
    """The picture in gray, with colour over it where `heat` [rows, columns] is high."""
    grid = Image.fromarray((255 * heat).astype(np.uint8)).resize(picture.size, Image.Resampling.BICUBIC)
    share = np.asarray(grid, dtype=np.float32)[..., None] / 255
    gray = np.asarray(picture.convert("L"), dtype=np.float32)[..., None]
    # Yellow where it is hottest, so that strong and weak differ in brightness too.
    colour = (1 - share) * np.array(COLD, np.float32) + share * np.array(HOT, np.float32)
    alpha = MOST_OPAQUE * share**0.7
    mixed = (1 - alpha) * (GRAY_FLOOR + (1 - GRAY_FLOOR / 255) * gray) + alpha * colour
    return Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8))
