"""Captioning by looking up: each picture gets a caption of the training picture that looks most like it to the model.

What a picture looks like is the mean of its image features, and likeness is the cosine. The caption is the most central
one of that training picture. It is a baseline that a model has to beat to have learned more than to recognise (J.
Devlin et al., "Exploring Nearest Neighbor Approaches for Image Captioning", 2015), and it has the model's own eyes: no
other network is needed.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import normalize

from systems.pixel_llm.data import ImageCaptionDataset, make_loader
from systems.pixel_llm.data.collate import CaptionBatch
from systems.pixel_llm.data.pixel_cache import PixelCache
from systems.pixel_llm.data.samples import SampleTable
from systems.pixel_llm.errors import DatasetError
from systems.pixel_llm.inference import Captioner

__all__ = ["MAX_PICTURES", "NearestNeighbour", "picture_features", "read_pictures"]

MAX_PICTURES = 5_000
"""Training pictures looked at: some minutes on a processor, seconds on a GPU."""


class NearestNeighbour:
    """Some training pictures, by their features."""

    def __init__(self, features: Tensor, rows: Tensor, samples: SampleTable) -> None:
        """`features` [M, D] of unit length, of the pictures in `rows` [M] of `samples`."""
        self._features, self._rows, self._samples = features, rows, samples

    @classmethod
    def of(
        cls,
        captioner: Captioner,
        samples: SampleTable,
        *,
        batch_size: int,
        num_workers: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> "NearestNeighbour":
        """Look at all of `samples`; those that cannot be read are left out.

        Raises:
            DatasetError: none of them can be read.
        """
        rows_of = {name: row for row, name in enumerate(samples.names)}
        features, rows, done = [], [], 0
        for batch in read_pictures(captioner, samples, batch_size=batch_size, num_workers=num_workers):
            if len(batch["images"]):
                features.append(picture_features(captioner, batch["images"]))
                rows += [rows_of[name] for name in batch["image_paths"]]
            done += len(batch["image_paths"]) + len(batch.get("bad_pictures", ()))
            if on_progress is not None:
                on_progress(done, len(samples))
        if not rows:
            raise DatasetError(f"None of {len(samples)} training pictures can be read.")
        return cls(torch.cat(features), torch.tensor(rows), samples)

    def __len__(self) -> int:
        return len(self._rows)

    def nearest(self, features: Tensor) -> list[int]:
        """For pictures with these `features` [B, D], of unit length, the number of the training picture most alike."""
        likeness = features.to(self._features.device) @ self._features.T
        return self._rows[likeness.argmax(dim=1).cpu()].tolist()

    def captions_of(self, number: int) -> tuple[str, ...]:
        """The captions of a training picture."""
        return self._samples[number].captions


@torch.no_grad()
def picture_features(captioner: Captioner, images: Tensor) -> Tensor:
    """[B, D], of unit length: the mean of a picture's image features, in fp32. `images` as `encode_images` takes."""
    features = captioner.model.encode_images(images.to(captioner.model.device))
    return normalize(features.float().mean(dim=1), dim=-1)


def read_pictures(
    captioner: Captioner, samples: SampleTable, *, batch_size: int, num_workers: int | None = None
) -> Iterator[CaptionBatch]:
    """The samples in order, in batches, with all their captions; pictures as the model takes them, as in training.

    One that cannot be read is left out and named under "bad_pictures". None is kept in memory: each comes once.
    """
    size = captioner.model.preprocessing.image_size
    dataset = ImageCaptionDataset(
        "", samples=samples, image_size=size, on_bad_sample="skip", caption_choice="all",
        cache=PixelCache.in_memory(0, size),
    )  # fmt: skip
    yield from make_loader(dataset, batch_size=batch_size, shuffle=False, num_workers=num_workers)
