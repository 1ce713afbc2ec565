"""Synthetic pictures of shapes with captions, for the demo, tests and benchmarks: a data set without files.

`ShapesDataset` gives the items of `ImageCaptionDataset`, drawn when asked for; `write_folder` puts the same pictures on
disk in either format that the trainer reads. What is shown and said stands in `shapes_grammar`, how it is drawn in
`shapes_drawing`.
"""

import json
import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from systems.pixel_llm.data.collate import CaptionBatch, CaptionItem, collate_captions
from systems.pixel_llm.data.shapes_drawing import draw_scene_pixels
from systems.pixel_llm.data.shapes_grammar import SPLITS, draw_scene
from systems.pixel_llm.errors import ConfigError, DatasetError, nearest_name_hint
from systems.pixel_llm.preprocessing import Preprocessing
from systems.pixel_llm.seeding import derive_seed

__all__ = ["MIN_IMAGE_SIZE", "ShapesDataset", "write_folder"]

MIN_IMAGE_SIZE = 32
"""Below this a small star can no longer be told from a small circle."""


class ShapesDataset(Dataset[CaptionItem]):
    """`num_samples` pictures of one or two shapes; item i = {"image": [3, H, W] float32, "caption", "image_path"}.

    The splits: "train" (one object, or two in about 30 % of the pictures), and three that share no caption with it:
    "combinations" (one object; each two attributes were seen together in training, all of them together were not),
    "two" (two objects, in combinations not trained on) and "pairs" (one object of a colour that training never shows
    with that shape).

    Sample i is a function of (split, seed, epoch, i); with `fresh_each_epoch=False`, of (split, seed, i). No picture is
    on disk: `image_path` is a name only.

    Raises:
        ConfigError: an unknown split, a size below 32, or fewer than one sample.
    """

    def __init__(
        self,
        num_samples: int,
        *,
        split: str = "train",
        image_size: int = 64,
        seed: int = 0,
        fresh_each_epoch: bool = True,
    ) -> None:
        if num_samples < 1:
            raise ConfigError(f"num_samples must be 1 or more, not {num_samples}.")
        if split not in SPLITS:
            raise ConfigError(f"Unknown split {split!r} of the shapes. {nearest_name_hint(split, SPLITS)}")
        if image_size < MIN_IMAGE_SIZE:
            raise ConfigError(
                f"image_size must be {MIN_IMAGE_SIZE} or more for shapes to be told apart, not {image_size}."
            )
        self.num_samples = num_samples
        self.split = split
        self.image_size = image_size
        self.seed = seed
        self.fresh_each_epoch = fresh_each_epoch
        self.preprocessing = Preprocessing(image_size=(image_size, image_size))
        self._mean = np.array(self.preprocessing.mean, np.float32).reshape(3, 1, 1)
        self._std = np.array(self.preprocessing.std, np.float32).reshape(3, 1, 1)
        # Shared memory: persistent workers hold a copy of this object and still see the epoch.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int) -> CaptionItem:
        caption, pixels = self._draw(index)
        pixels -= self._mean
        pixels /= self._std
        return {"image": torch.from_numpy(pixels), "caption": caption, "image_path": self._image_path(index)}

    def set_epoch(self, epoch: int) -> None:
        """Draw the pictures of `epoch` (0-based) from now on, in running workers too."""
        self._epoch.fill_(epoch)

    @property
    def captions(self) -> list[str]:
        """The caption of each sample of epoch 0, in order: enough to fit a tokenizer. Draws no picture."""
        return [draw_scene(self.split, self._random(index, epoch=0)).caption for index in range(self.num_samples)]

    def picture(self, index: int) -> Image.Image:
        """Sample `index` of the current epoch as an RGB picture, for contact sheets and files."""
        _, pixels = self._draw(index)
        return Image.fromarray(np.rint(pixels.transpose(1, 2, 0) * 255).astype(np.uint8))

    def get_collate_fn(self) -> Callable[[Sequence[CaptionItem]], CaptionBatch]:
        """The function that makes a batch of items: the one of `ImageCaptionDataset`."""
        return collate_captions

    def _draw(self, index: int) -> tuple[str, NDArray[np.float32]]:
        """The caption and the `[3, H, W]` pixels in 0..1 of sample `index` of the current epoch."""
        random = self._random(index, epoch=int(self._epoch))
        scene = draw_scene(self.split, random)
        return scene.caption, draw_scene_pixels(scene, self.image_size, random)

    def _random(self, index: int, *, epoch: int) -> Random:
        index = operator.index(index)
        if not 0 <= index < self.num_samples:
            raise IndexError(f"sample {index} of {self.num_samples} shapes")
        return Random(derive_seed("shapes-" + self.split, self.seed, epoch if self.fresh_each_epoch else 0, index))

    def _image_path(self, index: int) -> str:
        return f"shapes/{self.split}/{_file_name(index)}"


def write_folder(
    folder: str | Path,
    num_samples: int,
    *,
    split: str = "train",
    image_size: int = 64,
    seed: int = 0,
    caption_format: str = "json",
) -> Path:
    """Write the pictures of epoch 0 as PNG with their captions, and give the folder back.

    `caption_format` "json" writes one `manifest.json` (file name -> caption), "text" a `.txt` beside each picture.

    Raises:
        ConfigError: an unknown caption format, or a setting that `ShapesDataset` refuses.
        DatasetError: the folder holds something already.
    """
    formats = ("json", "text")
    if caption_format not in formats:
        raise ConfigError(f"Unknown caption_format {caption_format!r}. {nearest_name_hint(caption_format, formats)}")
    dataset = ShapesDataset(num_samples, split=split, image_size=image_size, seed=seed)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise DatasetError(f"{folder} is not empty: expected a new or empty folder. Remove it, or name another.")
    captions = {_file_name(index): caption for index, caption in enumerate(dataset.captions)}
    for index, (name, caption) in enumerate(captions.items()):
        dataset.picture(index).save(folder / name)
        if caption_format == "text":
            (folder / name).with_suffix(".txt").write_text(caption + "\n", encoding="utf-8")
    if caption_format == "json":
        (folder / "manifest.json").write_text(json.dumps(captions, indent=2) + "\n", encoding="utf-8")
    return folder


def _file_name(index: int) -> str:
    return f"{index:06d}.png"
