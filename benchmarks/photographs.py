"""Photographs to measure with: real ones where they lie beside the repository, else drawn ones that are said to be so.

`photograph_folder` repeats the originals under as many names as asked for, as hard links where the file system allows,
with captions in `metadata.jsonl`, which Pixel LLM and Hugging Face's imagefolder both read. `enlarge` makes
12-megapixel pictures of them, with the slight noise that a camera adds, so that they are as hard to decode as
photographs are.
"""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["Photographs", "enlarge", "link_or_copy", "originals", "photograph_folder"]

REAL_PHOTOGRAPHS = Path(__file__).resolve().parents[2] / "shared" / "data" / "coco_mini_val" / "val2017"
LARGE_SIZE = (4000, 3000)

_NUM_DRAWN = 24
GRAIN = 5.0
"""Standard deviation in gray levels; with it a 12-megapixel picture of quality 90 has 2.3 MB or more, without 1 MB."""


@dataclass(frozen=True)
class Photographs:
    """A folder of pictures with captions."""

    folder: Path
    files: tuple[Path, ...]
    """In order of their names."""
    are_real: bool
    num_different: int
    """That many come first; the others repeat them."""

    def told(self) -> str:
        """How many there are, of which kind and size, in words."""
        with Image.open(self.files[0]) as image:
            width, height = image.size
        kind = "photographs" if self.are_real else "MADE-UP pictures (no real photographs lie beside the repository)"
        size = sum(file.stat().st_size for file in self.files) / len(self.files)
        count = f"{len(self.files)} {kind}, {self.num_different} different"
        return f"{count}, such as {width} x {height}, of {size / 1000:.0f} kB"


def originals(folder: Path) -> tuple[list[Path], bool]:
    """Files of about 640 x 480, and whether they are real; drawn ones are made in `folder`."""
    real = sorted(REAL_PHOTOGRAPHS.glob("*.jpg"))
    if real:
        return real, True
    folder.mkdir(parents=True)
    files = []
    for number in range(_NUM_DRAWN):
        files.append(folder / f"{number:02}.jpg")
        _drawn(number).save(files[-1], quality=90)
    return files, False


def photograph_folder(
    folder: Path, count: int, *, sources: Sequence[Path], are_real: bool, captions: Sequence[str] = ("a picture",)
) -> Photographs:
    """`folder` with `count` files, the sources in turn, and a caption of each, the captions in turn."""
    folder.mkdir(parents=True)
    files, lines = [], []
    for number, source in enumerate(islice(cycle(sources), count)):
        files.append(folder / f"{number:06}.jpg")
        link_or_copy(source, files[-1])
        lines.append(json.dumps({"file_name": files[-1].name, "text": captions[number % len(captions)]}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Photographs(folder, tuple(files), are_real, min(count, len(sources)))


def enlarge(sources: Sequence[Path], folder: Path, *, grain: float) -> list[Path]:
    """Each source as a 12-megapixel JPEG of quality 90 in `folder`, with noise of so many gray levels; an upright one
    is turned.
    """
    folder.mkdir(parents=True)
    files, draw = [], np.random.default_rng(0)
    # One sheet of noise, shifted for each picture: drawing 36 million numbers takes longer than all the rest.
    noise = draw.normal(0, grain, (LARGE_SIZE[1], LARGE_SIZE[0], 3)).astype(np.float32)
    for number, source in enumerate(sources):
        with Image.open(source) as image:
            picture = image.convert("RGB")
        if picture.height > picture.width:
            picture = picture.transpose(Image.Transpose.ROTATE_90)
        pixels = np.asarray(picture.resize(LARGE_SIZE, Image.Resampling.LANCZOS), np.float32)
        pixels = pixels + np.roll(noise, tuple(draw.integers(0, LARGE_SIZE[1], 2)), axis=(0, 1))
        files.append(folder / f"{number:06}.jpg")
        Image.fromarray(np.rint(pixels).clip(0, 255).astype(np.uint8)).save(files[-1], quality=90)
    return files


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under another name, or a copy where it cannot be linked."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _drawn(number: int) -> Image.Image:
    """Waves of colour with noise, 640 x 480: about as many bytes as a photograph."""
    draw = np.random.default_rng(number)
    rows, columns = np.mgrid[0:480, 0:640].astype(np.float32)
    pixels = np.zeros((480, 640, 3), np.float32)
    for wave in range(12):
        along, down = draw.normal(0, 0.01 * (wave + 1), 2)
        pixels += draw.normal(0, 30 / (wave + 1), 3) * np.sin(along * columns + down * rows + wave)[..., None]
    pixels += 128 + draw.normal(0, 8, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
