"""The batches of an epoch in an order that follows from (seed, epoch), from any position, decoding nothing before it.

A plain `DataLoader(shuffle=True)` draws its order from the global generator when an epoch begins. `EpochBatches` has
it draw under a generator seeded by (seed, epoch), keeps the drawn lists of sample numbers, and hands those from the
wanted position on to a loader of the same settings. Resuming in the middle of an epoch is then a slice of a list.
"""

import logging
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset

from systems.pixel_llm.errors import DatasetError
from systems.pixel_llm.seeding import derive_seed

__all__ = ["EpochBatches", "set_dataset_epoch"]

logger = logging.getLogger(__name__)


class EpochBatches:
    """Iterates a loader epoch by epoch, reproducibly.

    Loaders that torch cannot rebuild (a subclass of DataLoader, an iterable dataset, any other iterable) are iterated
    as they are, under the same seeds; there a position is reached by loading and dropping what comes before it.
    """

    def __init__(self, loader: Any, *, seed: int) -> None:
        self._loader = loader
        self._seed = seed
        self._remaining = _BatchList()
        self._rebuilt = _rebuild(loader, self._remaining) if _can_be_rebuilt(loader) else None
        generator = _own_generator(loader)
        self._generator_seed = 0 if generator is None else generator.initial_seed()

    @property
    def num_batches(self) -> int | None:
        """Batches an epoch, or None where the loader does not know."""
        try:
            return len(self._loader)
        except TypeError:
            return None

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Any]:
        """The batches of `epoch` from number `start` on.

        Raises:
            DatasetError: the loader gives no batch at all.
        """
        set_dataset_epoch(getattr(self._loader, "dataset", None), epoch)
        samplers: tuple[Any, ...] = (
            getattr(self._loader, "sampler", None),
            getattr(self._loader, "batch_sampler", None),
        )
        for sampler in samplers:
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
        with _global_generators(derive_seed("order", self._seed, epoch)):
            if self._rebuilt is not None:
                # A generator the user gave is seeded too: left alone, it would go on from where a kill left it.
                if (generator := _own_generator(self._loader)) is not None:
                    generator.manual_seed(derive_seed("order", self._seed, epoch, self._generator_seed))
                batches = list(self._loader.batch_sampler)
                self._check_not_empty(len(batches))
                self._remaining.batches = batches[start:]
                iterator: Iterator[Any] = iter(self._rebuilt)
            else:
                iterator = iter(self._loader)
        if self._rebuilt is None and start > 0:
            logger.info("This loader cannot start in the middle of an epoch: loading and dropping %d batches.", start)
            iterator = islice(iterator, start, None)
        yield from self._counted(iterator) if self._rebuilt is None and start == 0 else iterator

    def _counted(self, iterator: Iterator[Any]) -> Iterator[Any]:
        count = 0
        for batch in iterator:
            count += 1
            yield batch
        self._check_not_empty(count)

    def _check_not_empty(self, count: int) -> None:
        if count == 0:
            raise DatasetError(
                "The loader gives no batch: its dataset is empty, or smaller than one batch with drop_last=True. "
                "Add pictures, lower batch_size, or set drop_last=False."
            )


def set_dataset_epoch(dataset: Any, epoch: int) -> None:
    """Call `set_epoch(epoch)` on the dataset, or on those inside a Subset or ConcatDataset, where they have it."""
    if isinstance(dataset, Subset):
        set_dataset_epoch(dataset.dataset, epoch)
    elif isinstance(dataset, ConcatDataset):
        for part in dataset.datasets:
            set_dataset_epoch(part, epoch)
    elif hasattr(dataset, "set_epoch"):
        dataset.set_epoch(epoch)


class _BatchList:
    """A batch sampler whose batches are given anew for each epoch."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def _own_generator(loader: Any) -> torch.Generator | None:
    return getattr(getattr(loader, "sampler", None), "generator", None) or getattr(loader, "generator", None)


def _can_be_rebuilt(loader: Any) -> bool:
    return type(loader) is DataLoader and getattr(loader, "batch_sampler", None) is not None


def _rebuild(loader: DataLoader[Any], batches: _BatchList) -> DataLoader[Any]:
    return DataLoader(
        loader.dataset,
        batch_sampler=batches,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=_WorkerStart(loader.worker_init_fn) if loader.num_workers else None,
        multiprocessing_context=loader.multiprocessing_context,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )


class _WorkerStart:
    """Workers leave Ctrl-C to the main process, which finishes its step and saves. Then the user's function runs."""

    def __init__(self, then: Callable[[int], None] | None) -> None:
        self._then = then

    def __call__(self, worker: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self._then is not None:
            self._then(worker)


@contextmanager
def _global_generators(seed: int) -> Iterator[None]:
    """Python's, numpy's and torch's global generators seeded inside, and afterwards as they were."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
