"""Captioner: the one facade for using a trained model. A picture, a path or a list of either in, captions out.

`prepare` is the half that needs no model, for whoever reads pictures in threads of its own (`caption_files`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import torch
from PIL import Image
from torch import Tensor

from systems.pixel_llm.data.images import open_image, open_pixels
from systems.pixel_llm.data.picture_path import PicturePath
from systems.pixel_llm.data.transforms import make_transform, scaled
from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.inference.find import find_checkpoint
from systems.pixel_llm.models import PixelLLM
from systems.pixel_llm.models.generation import GeneratedCaption
from systems.pixel_llm.models.precision import resolve_precision

__all__ = ["Captioner"]

Picture = str | PicturePath | Image.Image | Tensor
"""A Tensor is what `Captioner.prepare` gave: uint8 [3, H, W]."""


class Captioner:
    """A model with the picture preparation that it was trained with.

    >>> captioner = Captioner.from_checkpoint("runs/holiday")  # doctest: +SKIP
    >>> captioner.caption("beach.jpg")  # doctest: +SKIP
    'two children run along the beach'
    """

    def __init__(self, model: PixelLLM) -> None:
        self.model = model.eval()
        self._transform = make_transform(model.preprocessing)

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, *, device: torch.device | str | None = None, precision: str = "auto"
    ) -> "Captioner":
        """Load a run folder's best checkpoint, or the checkpoint or model folder at `path`.

        Args:
            path: see `find_checkpoint`.
            device: where to run; left out: a GPU where there is one.
            precision: of the weights, "fp32" or "bf16". "auto" is bf16 where the device is fast at it: captions come
                up to twice as quickly, and about one in seven is worded otherwise (docs/experiments.md).

        Raises:
            CheckpointError: there is no model, or it is damaged.
            ConfigError: the device does not know this precision.
        """
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        resolved = resolve_precision(precision, torch.device(device))
        model = PixelLLM.from_pretrained(find_checkpoint(path), device=device)
        return cls(model.to(torch.bfloat16) if resolved == "bf16" else model)

    @overload
    def caption(self, pictures: Picture, *, batch_size: int = 16, **settings: Any) -> str: ...

    @overload
    def caption(self, pictures: Sequence[Picture], *, batch_size: int = 16, **settings: Any) -> list[str]: ...

    def caption(
        self, pictures: Picture | Sequence[Picture], *, batch_size: int = 16, **settings: Any
    ) -> str | list[str]:
        """Caption one picture, or each of several.

        Args:
            pictures: a path or a PIL picture, or a sequence of such. A PIL picture is taken as it is: it is not turned
                as its EXIF note says.
            batch_size: how many to caption at once.
            **settings: those of `PixelLLM.generate`, such as `max_length`, `num_beams` or `do_sample`.

        Returns:
            A caption, or a list of captions in the order of the pictures; with `num_return_sequences` above 1, of one
            picture the best, of several so many of each in turn.

        Raises:
            DatasetError: a picture cannot be read.
            ConfigError: a setting is out of range.
        """
        if isinstance(pictures, Picture):
            return self.caption_scored([pictures], batch_size=batch_size, **settings)[0][0].text
        scored = self.caption_scored(pictures, batch_size=batch_size, **settings)
        return [caption.text for captions in scored for caption in captions]

    def caption_scored(
        self, pictures: Sequence[Picture], *, batch_size: int = 16, **settings: Any
    ) -> list[list[GeneratedCaption]]:
        """As `caption`, with the log-probability of each caption.

        Returns:
            Of each picture its captions, `num_return_sequences` of them, the best first.

        Raises:
            DatasetError, ConfigError: as `caption`.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, not {batch_size}.")
        captions: list[list[GeneratedCaption]] = []
        for start in range(0, len(pictures), batch_size):
            images = torch.stack([self._image(each) for each in pictures[start : start + batch_size]])
            captions += self.model.generate_scored(images, **settings)
        return captions

    def open(self, path: str | PicturePath) -> Image.Image:
        """The picture as `caption` takes it: decoded as in training, a large JPEG at a part of its size.

        Raises:
            DatasetError: it cannot be read.
        """
        return open_image(path, at_least=self.model.preprocessing.image_size)

    def prepare(self, path: str | PicturePath) -> Tensor:
        """The picture as the model takes it, but for the normalisation: uint8 [3, H, W]. It is safe to call in threads.

        Raises:
            DatasetError: it cannot be read.
        """
        size = self.model.preprocessing.image_size
        return torch.from_numpy(scaled(open_pixels(path, at_least=size), size))

    def _image(self, picture: Picture) -> Tensor:
        """float32 [3, H, W], to the last bit what training had."""
        if isinstance(picture, Image.Image):
            return self._transform(picture)
        return self._transform.normalise((picture if isinstance(picture, Tensor) else self.prepare(picture)).numpy())
