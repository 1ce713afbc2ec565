"""`ImageCaptionDataset`: a folder of captioned pictures as a torch dataset.

It reads the samples once, then opens a picture each time one is asked for. All that is drawn at random for an item
(which of several captions, what the user's transform draws) follows from (seed, epoch, index), so neither the number
of workers nor the moment of a restart can change it. The epoch lies in shared memory, where worker processes that
live on from epoch to epoch see it change. A picture that cannot be read is an error, or is left out of its batch: then
the item is a `BadPicture`, so that no other item moves.
"""

import operator
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from systems.pixel_llm.data.augmentation import random_crop
from systems.pixel_llm.data.collate import BadPicture, CaptionBatch, DatasetItem, collate_captions
from systems.pixel_llm.data.folder import shown
from systems.pixel_llm.data.images import open_image
from systems.pixel_llm.data.options import BadSamplePolicy, CaptionChoice
from systems.pixel_llm.data.picture_path import PicturePath
from systems.pixel_llm.data.samples import Sample, SampleTable, read_samples
from systems.pixel_llm.data.transforms import PictureTransform, make_transform
from systems.pixel_llm.errors import ConfigError, DatasetError, nearest_name_hint
from systems.pixel_llm.global_generators import seeded_global_generators
from systems.pixel_llm.preprocessing import Preprocessing
from systems.pixel_llm.seeding import derive_seed

__all__ = ["ImageCaptionDataset"]

_MAX_KEPT_BYTES = 2**30
"""Scaled pictures kept in memory, so that later epochs need not decode again: some 28,000 of 112 x 112 pixels."""


class ImageCaptionDataset(Dataset[DatasetItem]):
    """The captioned pictures of a folder; `dataset[i]` is `{"image": [3, H, W] float32, "caption", "image_path"}`.

    With `caption_choice="all"` it has "captions", a list, in the place of "caption". With `on_bad_sample="skip"` it is
    a `BadPicture` (path, reason) where the picture cannot be read; the collate function leaves those out of the batch
    and names them there under "bad_pictures".

    Args:
        dataset_dir: the folder that holds the pictures.
        caption_format: "text" (cat.jpg and cat.txt), "json" (a manifest maps names to captions), another name that
            `read_samples` tells, or "auto": found by looking.
        manifest_file: the file that names pictures and captions; left out, it is found in the folder (`manifest.json`
            for the format "json").
        transform: called with each picture (PIL, RGB), must give a float tensor [3, H, W]. Left out, the picture is
            stretched to `image_size` and normalised, as `preprocessing` tells. What it draws from the global
            generators of Python, numpy and torch follows from (seed, epoch, index); their state is put back afterwards.
        image_size: (height, width) in pixels; not used with a transform of your own.
        seed: what is drawn at random follows from it.
        samples: takes the place of what would be read from the folder, as for one side of a split.
        augment: cut each picture a little differently every epoch (`random_crop`); not with a transform of your own.
        on_bad_sample: a picture that cannot be read is an error ("raise"), or its batch is smaller by one ("skip").
        caption_choice: of several captions of a picture, one drawn anew each epoch ("sample"), the first, or all; with
            "all" the model looks at the picture once and learns every caption.
        captions_per_file: "one" caption in a caption file, or a caption a line ("lines").
        image_column: column or key of the picture's name in a table, where it has no usual name.
        caption_column: the same of the caption.

    Raises:
        DatasetError: the folder does not hold what the format asks for; the message names file and cure. Reading an
            item raises it too, where the picture cannot be opened and `on_bad_sample` is "raise".
        ConfigError: an argument is not of the kind told here.
    """

    def __init__(
        self,
        dataset_dir: str | os.PathLike[str],
        caption_format: str = "text",
        manifest_file: str | os.PathLike[str] | None = None,
        transform: Callable[[Image.Image], Tensor] | None = None,
        image_size: tuple[int, int] = (224, 224),
        *,
        seed: int = 0,
        samples: Sequence[Sample] | None = None,
        augment: bool = False,
        on_bad_sample: BadSamplePolicy = "raise",
        caption_choice: CaptionChoice = "sample",
        captions_per_file: str = "one",
        image_column: str | None = None,
        caption_column: str | None = None,
    ) -> None:
        if transform is not None and not callable(transform):
            raise ConfigError(f"transform must be callable with a picture, found {type(transform).__name__}.")
        if not isinstance(image_size, (tuple, list)):
            raise ConfigError(f"image_size must be (height, width), two whole numbers above 0, not {image_size!r}.")
        _check_choice("on_bad_sample", on_bad_sample, get_args(BadSamplePolicy))
        _check_choice("caption_choice", caption_choice, get_args(CaptionChoice))
        self.preprocessing = Preprocessing(image_size=tuple(image_size)) if transform is None else None  # type: ignore[arg-type]
        self.dataset_dir = Path(dataset_dir)
        if samples is None:
            samples = read_samples(
                dataset_dir,
                caption_format,
                manifest_file,
                captions_per_file=captions_per_file,
                image_column=image_column,
                caption_column=caption_column,
            )
        self.samples = SampleTable.of(samples)
        """One record a picture, sorted by name where they were read from the folder."""
        if not self.samples:
            raise DatasetError(f"A dataset of {shown(dataset_dir)} was given no samples. Give it at least one.")
        if augment and transform is not None:
            raise ConfigError("augment=True has no effect with a transform of your own: put a crop into the transform.")
        self.seed = seed
        self.augment = augment
        self.on_bad_sample = on_bad_sample
        self.caption_choice = caption_choice
        self._user_transform = transform
        self._own_transform = None if self.preprocessing is None else make_transform(self.preprocessing)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._kept_bytes = 0

    @property
    def captions(self) -> list[str]:
        """All captions of all samples, in order: what a tokenizer is fitted to."""
        return list(self.samples.captions)

    def set_epoch(self, epoch: int) -> None:
        """Draw captions and transforms for this epoch from now on, in worker processes too."""
        self._epoch.fill_(epoch)

    def get_collate_fn(self) -> Callable[[Sequence[DatasetItem]], CaptionBatch]:
        """What a DataLoader needs as `collate_fn` to make `{"images", "captions", "image_paths"}` of these items."""
        return collate_captions

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> DatasetItem:
        index = operator.index(index)
        if not -len(self.samples) <= index < len(self.samples):
            raise IndexError(f"The dataset has {len(self.samples)} samples; there is none at {index}.")
        index %= len(self.samples)
        sample, place = self.samples[index], (self.seed, int(self._epoch), index)
        path = str(sample.image_path)
        try:
            image = self._image(index, place)
        except DatasetError as error:
            if self.on_bad_sample == "skip":
                return BadPicture(path, str(error))
            raise DatasetError(f"{error} (on_bad_sample='skip' leaves such pictures out.)") from error
        if self.caption_choice == "all":
            return {"image": image, "captions": list(sample.captions), "image_path": path}
        drawn = derive_seed("caption", *place) % len(sample.captions) if self.caption_choice == "sample" else 0
        return {"image": image, "caption": sample.captions[drawn], "image_path": path}

    def __getstate__(self) -> dict[str, Any]:
        """Without the pictures kept: a copy reads its own."""
        return self.__dict__ | {"_kept": {}, "_kept_bytes": 0}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy gets an epoch of its own, which its workers must see change too."""
        self.__dict__.update(state)
        self._epoch.share_memory_()

    def _image(self, index: int, place: tuple[int, int, int]) -> Tensor:
        path = self.samples[index].image_path
        if self._own_transform is not None:
            pixels = self._pixels(index, self._own_transform)
            if self.augment:
                pixels = random_crop(pixels, seed=derive_seed("augment", *place))
            return self._own_transform.normalise(pixels)
        assert self._user_transform is not None
        picture = open_image(path)
        with seeded_global_generators(derive_seed("transform", *place)):
            image = self._user_transform(picture)
        return _checked(image, path)

    def _pixels(self, index: int, transform: PictureTransform) -> NDArray[np.uint8]:
        """uint8 [3, H, W] of a picture, decoded once where there is room to keep it."""
        pixels = self._kept.get(index)
        if pixels is None:
            path = self.samples[index].image_path
            pixels = transform.pixels(open_image(path, at_least=transform.preprocessing.image_size))
            # Worker processes are many and share the samples out anew each epoch: each would keep them all.
            if get_worker_info() is None and self._kept_bytes + pixels.nbytes <= _MAX_KEPT_BYTES:
                self._kept[index] = pixels
                self._kept_bytes += pixels.nbytes
        return pixels


def _check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigError(
            f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}. "
            f"{nearest_name_hint(str(value), allowed)}"
        )


def _checked(image: object, path: PicturePath) -> Tensor:
    """The transform's result as float32 [3, H, W]."""
    if isinstance(image, Tensor):
        found = f"a tensor {list(image.shape)} of {image.dtype}"
        if image.is_floating_point() and image.ndim == 3 and image.shape[0] == 3:
            return image.to(torch.float32)
    else:
        found = type(image).__name__
    raise ConfigError(
        f"transform must give a float tensor [3, H, W]; for {shown(path)} it gave {found}. With torchvision, end it "
        "with ToTensor() and Normalize(...)."
    )
