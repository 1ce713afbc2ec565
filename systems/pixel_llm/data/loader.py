"""A dataset -> a DataLoader with the settings that suit this machine: what the command line uses."""

import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from systems.pixel_llm.data.order import checked_weights
from systems.pixel_llm.data.weighted_sampler import WeightedSampler
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
) -> DataLoader[Any]:
    """A loader of the dataset's own batches; `num_workers=None` chooses by processor cores and number of pictures.

    `weights`, one a sample, say how often each comes in an epoch, as `epoch_order` tells; left out, all come once.
    Workers live on from epoch to epoch. Batches are put into page-locked memory where there is a GPU to copy them to.

    Raises:
        ConfigError: `batch_size`, `num_workers` or a weight is out of range.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, not {batch_size}.")
    if num_workers is None:
        num_workers = choose_num_workers(len(dataset), num_cores=_usable_cores())
    if num_workers < 0:
        raise ConfigError(f"num_workers must be at least 0 (0 reads in the main process), not {num_workers}.")
    sampler = None
    if weights is not None:
        sampler = WeightedSampler(checked_weights(weights, num_samples=len(dataset)), shuffle=shuffle)
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # torch asks for its own class, what it uses is the protocol
        batch_size=batch_size,
        shuffle=shuffle and sampler is None,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=dataset.get_collate_fn(),
        pin_memory=torch.cuda.is_available(),
        persistent_workers=num_workers > 0,
    )


def choose_num_workers(num_samples: int, *, num_cores: int) -> int:
    """Workers for a dataset of this size: none where they cost more than they give, else a core is left to training."""
    if num_cores < 3 or num_samples < _SMALL_DATASET:
        return 0
    return min(_MAX_WORKERS, num_cores - 1)


def _usable_cores() -> int:
    """The cores this process may run on; in a container fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
