"""How pixels become the model's input: the one record that travels with the weights as `preprocessing.json`.

Training, evaluation and captioning all build their picture transform from this record, so they cannot drift apart.
Mean and standard deviation live here and nowhere else. Layer 1: no torch.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from systems.pixel_llm.errors import CheckpointError, ConfigError
from systems.pixel_llm.folder_reader import FolderReader

__all__ = ["PREPROCESSING_FILE", "Preprocessing"]

PREPROCESSING_FILE = "preprocessing.json"
MAX_FILE_BYTES = 2**16  # a real one has about two hundred


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Picture -> `[3, H, W]` float32: stretched to `image_size`, scaled to 0..1, then (value - mean) / std per channel.

    The picture is stretched, not cropped: what a caption names often stands at the edge.
    """

    image_size: tuple[int, int] = (224, 224)
    """(height, width) in pixels."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Per channel, of 0..1 values; those of ImageNet, as torchvision's and timm's models use."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        # JSON gives lists; records hold tuples.
        for name in ("image_size", "mean", "std"):
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)
        if not _is_size(self.image_size):
            raise ConfigError(
                f"image_size must be (height, width), two whole numbers above 0, not {self.image_size!r}."
            )
        if not (_are_three_numbers(self.mean) and _are_three_numbers(self.std) and min(self.std) > 0):
            raise ConfigError(
                f"mean and std must be three numbers each, std above 0; found mean={self.mean!r}, std={self.std!r}."
            )

    def save(self, folder: Path) -> None:
        """Write `folder/preprocessing.json`."""
        (folder / PREPROCESSING_FILE).write_text(self.to_json(), encoding="utf-8")

    def to_json(self) -> str:
        """The content of that file."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def load(cls, folder: Path) -> "Preprocessing":
        """Read `folder/preprocessing.json`.

        Raises:
            CheckpointError: the file is missing or does not hold these fields.
        """
        return cls.read(FolderReader(folder, None))

    @classmethod
    def read(cls, reader: FolderReader) -> "Preprocessing":
        """As `load`, from a folder that is being read.

        Raises:
            CheckpointError: as `load`.
        """
        text = reader.text(PREPROCESSING_FILE, max_bytes=MAX_FILE_BYTES, what="preprocessing record")
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError, RecursionError) as error:
            path = reader.folder / PREPROCESSING_FILE
            raise CheckpointError(f"{path}: not a readable preprocessing record ({error}).") from error


def _is_size(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(type(side) is int and side > 0 for side in value)


def _are_three_numbers(value: Any) -> bool:
    if not (isinstance(value, tuple) and len(value) == 3):
        return False
    return all(isinstance(each, int | float) and math.isfinite(each) for each in value)
