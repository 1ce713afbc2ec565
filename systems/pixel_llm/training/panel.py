"""The panel: the same few pictures, captioned at each validation, so that a person sees what is being learned."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from systems.pixel_llm.models import PixelLLM

__all__ = ["Panel", "PanelCaption"]


@dataclass(frozen=True, kw_only=True, eq=False)
class PanelCaption:
    """What the model says of one picture of the panel."""

    image: str
    """Its path, absolute."""
    caption: str
    references: tuple[str, ...]
    """What people say of it."""
    pixels: NDArray[np.uint8]
    """[H, W, 3], the picture as the model sees it."""


Panel = Callable[[PixelLLM], Sequence[PanelCaption]]
"""Captions its pictures, always the same in the same order; gives nothing where none could be read."""
