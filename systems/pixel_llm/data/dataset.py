"""`ImageCaptionDataset`: a folder of captioned pictures as a torch dataset.

It reads the samples once, then opens a picture each time one is asked for and not in the cache. All that is drawn at
random for an item (which of several captions; crop, colour and mirror; what the user's transform draws) follows from
(seed, epoch, index), so neither the number of workers nor the moment of a restart can change it. The epoch lies in
shared memory, where worker processes that live on from epoch to epoch see it change. A picture that cannot be read is
an error, or is left out of its batch: then the item is a `BadPicture`, so that no other item moves.

`dataset[i]` is for any loader and gives normalised floats. `make_loader` asks for the parts, `pixels` and
`captions_of`: bytes, a quarter as large, which the model normalises.
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
from torch.utils.data import Dataset

from systems.pixel_llm.data.augmentation import mirrored, random_color, random_crop
from systems.pixel_llm.data.collate import BadPicture, CaptionBatch, DatasetItem, collate_captions
from systems.pixel_llm.data.folder import shown
from systems.pixel_llm.data.images import open_image, open_pixels
from systems.pixel_llm.data.mirroring import mirrored_caption, survives_mirror
from systems.pixel_llm.data.options import DEFAULT_AUGMENT, BadSamplePolicy, CaptionChoice, augmentation_steps
from systems.pixel_llm.data.picture_path import PicturePath
from systems.pixel_llm.data.pixel_cache import PixelCache
from systems.pixel_llm.data.samples import Sample, SampleTable, read_samples
from systems.pixel_llm.data.transforms import make_transform, scaled
from systems.pixel_llm.errors import ConfigError, DatasetError, nearest_name_hint
from systems.pixel_llm.global_generators import seeded_global_generators
from systems.pixel_llm.preprocessing import Preprocessing
from systems.pixel_llm.seeding import derive_seed

__all__ = ["ImageCaptionDataset"]

_NOT_LOOKED, _MAY_BE_MIRRORED, _STAYS_AS_IT_IS = range(3)
"""What is known of a picture's captions; they are read once, when a mirror is first held up to it."""


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
        augment: what is done to the pictures anew every epoch: "crop", "color" and "flip", several with commas between
            them, or "none". True is "crop,color", which leaves every caption true; "flip" mirrors every other picture
            and swaps left and right in its captions, leaving out those of which a caption might become wrong
            (`data/mirroring.py`), and knows English only. Not with a transform of your own.
        on_bad_sample: a picture that cannot be read is an error ("raise"), or its batch is smaller by one ("skip").
        caption_choice: of several captions of a picture, one drawn anew each epoch ("sample"), the first, or all; with
            "all" the model looks at the picture once and learns every caption.
        captions_per_file: "one" caption in a caption file, or a caption a line ("lines").
        image_column: column or key of the picture's name in a table, where it has no usual name.
        caption_column: the same of the caption.
        cache: where decoded pictures are kept for later epochs: in memory as far as a GiB goes (left out, or False),
            in a file that later runs read too (True), or in a `PixelCache` of these samples. Not with a transform of
            your own, whose result may be another one each time.

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
        augment: str | bool = False,
        on_bad_sample: BadSamplePolicy = "raise",
        caption_choice: CaptionChoice = "sample",
        captions_per_file: str = "one",
        image_column: str | None = None,
        caption_column: str | None = None,
        cache: PixelCache | bool = False,
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
        if isinstance(augment, bool):
            augment = DEFAULT_AUGMENT if augment else "none"
        self.augment = augmentation_steps(augment)
        """The steps that are done to pictures."""
        if self.augment and transform is not None:
            raise ConfigError(
                f"augment={augment!r} has no effect with a transform of your own: put a crop into the transform."
            )
        self.seed = seed
        self.on_bad_sample = on_bad_sample
        self.caption_choice = caption_choice
        self._user_transform = transform
        self._own_transform = None if self.preprocessing is None else make_transform(self.preprocessing)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._mirror_findings = np.full(len(self.samples) if "flip" in self.augment else 0, _NOT_LOOKED, np.uint8)
        self._cache = self._chosen_cache(cache)

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
        index, epoch = index % len(self.samples), int(self._epoch)
        path = self.samples.names[index]
        try:
            image = self._image(index, epoch)
        except DatasetError as error:
            if self.on_bad_sample == "skip":
                return BadPicture(path, str(error))
            raise DatasetError(f"{error} (on_bad_sample='skip' leaves such pictures out.)") from error
        captions = self.captions_of(index, epoch=epoch)
        if self.caption_choice == "all":
            return {"image": image, "captions": captions, "image_path": path}
        return {"image": image, "caption": captions[0], "image_path": path}

    # --- the parts of an item -----------------------------------------------------------------------------------------

    @property
    def has_own_pixels(self) -> bool:
        """Whether `pixels` can be asked for: not with a transform of the user's."""
        return self._own_transform is not None

    @property
    def cache(self) -> PixelCache | None:
        """The decoded pictures by index, as they are before a crop; None with a transform of the user's."""
        return self._cache

    def captions_of(self, index: int, *, epoch: int, draw: int = 0) -> list[str]:
        """What is to be learned of a picture in `epoch`: the caption chosen, or all of them.

        `draw` counts how often the picture came before in this epoch: each time it is drawn anew.
        """
        captions = self._chosen_captions(index, epoch, draw)
        if self._is_mirrored(index, epoch, draw):
            return [mirrored_caption(caption) for caption in captions]
        return captions

    def pixels(self, index: int, *, epoch: int, draw: int = 0) -> NDArray[np.uint8]:
        """uint8 [3, H, W] of a picture as it is seen in `epoch`, not to be written to. Threads may ask side by side.

        Raises:
            DatasetError: the picture cannot be read.
        """
        pixels = self._stretched_pixels(index)
        place = self._place(index, epoch, draw)
        if "crop" in self.augment:
            pixels = random_crop(pixels, seed=derive_seed("augment", *place))
        if "color" in self.augment:
            pixels = random_color(pixels, seed=derive_seed("color", *place))
        return mirrored(pixels) if self._is_mirrored(index, epoch, draw) else pixels

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy gets an epoch of its own, which its workers must see change too."""
        self.__dict__.update(state)
        self._epoch.share_memory_()

    def _place(self, index: int, epoch: int, draw: int) -> tuple[int, ...]:
        """What all that is drawn for an item is seeded by."""
        return (self.seed, epoch, index, draw) if draw else (self.seed, epoch, index)

    def _chosen_captions(self, index: int, epoch: int, draw: int) -> list[str]:
        captions = self.samples[index].captions
        if self.caption_choice == "all":
            return list(captions)
        if self.caption_choice == "first":
            return [captions[0]]
        return [captions[derive_seed("caption", *self._place(index, epoch, draw)) % len(captions)]]

    def _is_mirrored(self, index: int, epoch: int, draw: int) -> bool:
        """Whether a picture is seen mirrored: by lot, where none of its captions, chosen or not, speaks against it."""
        if "flip" not in self.augment or derive_seed("flip", *self._place(index, epoch, draw)) % 2:
            return False
        if self._mirror_findings[index] == _NOT_LOOKED:
            survive = all(map(survives_mirror, self.samples[index].captions))
            self._mirror_findings[index] = _MAY_BE_MIRRORED if survive else _STAYS_AS_IT_IS
        return bool(self._mirror_findings[index] == _MAY_BE_MIRRORED)

    def _image(self, index: int, epoch: int) -> Tensor:
        if self._own_transform is not None:
            return self._own_transform.normalise(self.pixels(index, epoch=epoch))
        assert self._user_transform is not None
        path = self.samples.path(index)
        picture = open_image(path)
        with seeded_global_generators(derive_seed("transform", *self._place(index, epoch, 0))):
            image = self._user_transform(picture)
        return _checked(image, path)

    def _stretched_pixels(self, index: int) -> NDArray[np.uint8]:
        """uint8 [3, H, W] of a picture, decoded once where there is room to keep it."""
        assert self._own_transform is not None, "a user's transform gives no pixels"
        pixels = None if self._cache is None else self._cache.get(index)
        if pixels is None:
            transform = self._own_transform
            size = transform.preprocessing.image_size
            pixels = scaled(open_pixels(self.samples.path(index), at_least=size), size)
            if self._cache is not None:
                self._cache.put(index, pixels)
        return pixels

    def _chosen_cache(self, cache: PixelCache | bool) -> PixelCache | None:
        if self.preprocessing is None:
            if cache is not False:
                raise ConfigError(
                    "cache keeps pictures as they are before anything random happens to them, and cannot know what a "
                    "transform of your own does: leave cache out, or the transform (image_size and augment remain)."
                )
            return None
        if isinstance(cache, PixelCache):
            return cache
        size = self.preprocessing.image_size
        kept = PixelCache.on_disk(self.samples, size) if cache else None
        return kept or PixelCache.in_memory(len(self.samples), size)


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
