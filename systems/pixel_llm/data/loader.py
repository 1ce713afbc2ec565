"""A dataset -> batches, by the means that suit it and this machine: what the command line uses.

`make_loader` gives a `PictureLoader` for the pictures of an `ImageCaptionDataset`, and torch's DataLoader, with worker
processes, for all else: a user's transform draws from global generators, which threads share.
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from systems.pixel_llm.data.dataset import ImageCaptionDataset
from systems.pixel_llm.data.options import WORKER_TIMEOUT_SECONDS
from systems.pixel_llm.data.picture_loader import PictureLoader
from systems.pixel_llm.data.threads import usable_cores
from systems.pixel_llm.errors import ConfigError

__all__ = ["CaptionDataset", "choose_num_workers", "make_loader"]

_SMALL_DATASET = 256
"""Below this many pictures, starting workers takes longer than they save."""

_MAX_WORKERS = 8
"""What one training process can use; beyond it, memory goes for nothing."""


class CaptionDataset(Protocol):
    """What a loader needs of a dataset."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...

    def get_collate_fn(self) -> Any:
        """The function that makes a batch of a list of items."""


def make_loader(
    dataset: CaptionDataset,
    *,
    batch_size: int,
    shuffle: bool,
    num_workers: int | None = None,
    weights: Sequence[float] | NDArray[np.float64] | None = None,
    worker_timeout_seconds: float = WORKER_TIMEOUT_SECONDS,
) -> PictureLoader | DataLoader[Any]:
    """A loader of the dataset's own batches.

    Args:
        dataset: an `ImageCaptionDataset`, or any with `get_collate_fn`.
        batch_size: pictures a batch; the last one of an epoch may have fewer.
        shuffle: another order each epoch.
        num_workers: threads that decode, of a `PictureLoader`, else processes. 0 reads in the main process. Left out:
            threads by measuring, processes by the number of processor cores and pictures.
        weights: one a sample, how often it comes in an epoch, as `epoch_order` tells; left out, all come once. Only of
            a `PictureLoader`.
        worker_timeout_seconds: where none of the threads or processes has given anything for so long, that is an error;
            0 waits for ever, as reading in the main process does.

    Raises:
        ConfigError: `batch_size`, `num_workers`, `worker_timeout_seconds` or a weight is out of range.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, not {batch_size}.")
    if num_workers is not None and num_workers < 0:
        raise ConfigError(f"num_workers must be at least 0 (0 reads in the main process), not {num_workers}.")
    if not 0 <= worker_timeout_seconds < math.inf:
        raise ConfigError(
            f"worker_timeout_seconds must be at least 0 (0 waits for ever), not {worker_timeout_seconds}."
        )
    if isinstance(dataset, ImageCaptionDataset) and dataset.has_own_pixels:
        return PictureLoader(
            dataset, batch_size=batch_size, shuffle=shuffle, num_workers=num_workers, weights=weights,
            timeout_seconds=worker_timeout_seconds,
        )  # fmt: skip
    if weights is not None:
        raise ConfigError(
            "weights need an ImageCaptionDataset without a transform of its own. For others give torch's DataLoader a "
            "sampler."
        )
    if num_workers is None:
        num_workers = choose_num_workers(len(dataset), num_cores=usable_cores())
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # torch asks for its own class, what it uses is the protocol
        batch_size=batch_size,
        shuffle=shuffle,
        num_workers=num_workers,
        collate_fn=dataset.get_collate_fn(),
        pin_memory=torch.cuda.is_available(),
        persistent_workers=num_workers > 0,
        timeout=worker_timeout_seconds if num_workers else 0,
    )


def choose_num_workers(num_samples: int, *, num_cores: int) -> int:
    """Processes for a dataset: none where they cost more than they give, else as many as leave a core to training."""
    if num_cores < 3 or num_samples < _SMALL_DATASET:
        return 0
    return min(_MAX_WORKERS, num_cores - 1)
