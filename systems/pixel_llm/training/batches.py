"""The batches of an epoch in an order that follows from (seed, epoch), from any position, decoding nothing before it.

A plain `DataLoader(shuffle=True)` draws its order from the global generator when an epoch begins. `EpochBatches` has
it draw under a generator seeded by (seed, epoch), keeps the drawn lists of sample numbers, and hands those from the
wanted position on to a loader of the same settings. Resuming in the middle of an epoch is then a slice of a list. A
`PictureLoader` does all that by itself.
"""

import logging
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from itertools import count
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from systems.pixel_llm.data.inner_datasets import innermost_datasets
from systems.pixel_llm.data.options import WORKER_TIMEOUT_SECONDS
from systems.pixel_llm.data.picture_loader import PictureLoader
from systems.pixel_llm.errors import DatasetError
from systems.pixel_llm.global_generators import seeded_global_generators
from systems.pixel_llm.seeding import derive_seed
from systems.pixel_llm.training.worker_processes import WorkerProcesses, defer_deaths, sample_names

__all__ = ["EpochBatches"]

logger = logging.getLogger(__name__)

_END = object()


class EpochBatches:
    """Iterates a loader epoch by epoch, reproducibly.

    Loaders that torch cannot rebuild (a subclass of DataLoader, an iterable dataset, any other iterable) are iterated
    as they are, each batch under seeds of its own; there a position is reached by loading and dropping what comes
    before it.
    """

    def __init__(self, loader: Any, *, seed: int, beside: Any = None) -> None:
        """`beside` is a loader that goes on meanwhile: the epoch of a dataset that both look at is left to that one."""
        self._loader = loader
        self._seed = seed
        others = [] if beside is None else innermost_datasets(getattr(beside, "dataset", None))
        own = innermost_datasets(getattr(loader, "dataset", None))
        self._datasets = [dataset for dataset in own if not any(dataset is other for other in others)]
        self._remaining = _BatchList()
        self._rebuilt = _rebuild(loader, self._remaining) if _can_be_rebuilt(loader) else None

    @property
    def num_batches(self) -> int | None:
        """Batches an epoch, or None where the loader does not know."""
        try:
            return len(self._loader)
        except TypeError:
            return None

    def epoch(self, epoch: int, *, start: int = 0) -> Generator[Any, None, None]:
        """The batches of `epoch` from number `start` on.

        Raises:
            DatasetError: the loader gives no batch at all.
            LoaderError: one of its workers died, or they hang.
        """
        for dataset in self._datasets:
            if hasattr(dataset, "set_epoch"):
                dataset.set_epoch(epoch)
        samplers: tuple[Any, ...] = (
            getattr(self._loader, "sampler", None),
            getattr(self._loader, "batch_sampler", None),
        )
        for sampler in samplers:
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
        if isinstance(self._loader, PictureLoader):
            self._check_not_empty(len(self._loader))
            yield from self._loader.epoch(epoch, start=start)
            return
        if self._rebuilt is not None:
            batches = self._draw_order(epoch)
            self._check_not_empty(len(batches))
            self._remaining.batches = batches[start:]
            yield from self._seeded(
                self._rebuilt, epoch, start=start,
                names=lambda number: sample_names(self._loader.dataset, batches[number]),
            )  # fmt: skip
            return
        if start > 0:
            logger.info("This loader cannot start in the middle of an epoch: loading and dropping %d batches.", start)
        num_batches = 0
        for num_batches, batch in enumerate(self._seeded(self._loader, epoch, start=0), 1):
            if num_batches > start:
                yield batch
        self._check_not_empty(num_batches)

    def _draw_order(self, epoch: int) -> list[list[int]]:
        """The sample numbers of each batch of `epoch`; all generators are afterwards as they were."""
        seed = derive_seed("order", self._seed, epoch)
        with seeded_global_generators(seed):
            # A generator the user gave is seeded too: left alone, it would go on from where a kill left it.
            generator = _own_generator(self._loader)
            if generator is None:
                return list(self._loader.batch_sampler)
            state = generator.get_state()
            try:
                generator.manual_seed(derive_seed("order", self._seed, epoch, generator.initial_seed()))
                return list(self._loader.batch_sampler)
            finally:
                generator.set_state(state)

    def _seeded(
        self, loader: Any, epoch: int, *, start: int, names: Callable[[int], Sequence[str]] = lambda number: ()
    ) -> Iterator[Any]:
        """The batches of `loader`, the global generators seeded for each by its number, for whatever draws from them:
        an order of the loader's own, a picture's transform. `names` tells the samples of a batch by that number.
        """
        with seeded_global_generators(derive_seed("loader", self._seed, epoch)):
            iterator = iter(loader)
        defer_deaths()
        workers = WorkerProcesses(iterator, timeout_seconds=getattr(loader, "timeout", 0.0))
        try:
            for number in count(start):
                with (
                    seeded_global_generators(derive_seed("batch", self._seed, epoch, number)),
                    workers.watched(partial(names, number)),
                ):
                    batch = next(iterator, _END)
                if batch is _END:
                    return
                yield batch
        except GeneratorExit:
            raise
        except BaseException:
            workers.end()
            if loader is self._rebuilt:  # one with persistent workers would go on with what is left of these
                self._rebuilt = _rebuild(self._loader, self._remaining)
            raise

    def _check_not_empty(self, num_batches: int) -> None:
        if num_batches == 0:
            raise DatasetError(
                "The loader gives no batch: its dataset is empty, or smaller than one batch with drop_last=True. "
                "Add pictures, lower batch_size, or set drop_last=False."
            )


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
    # The loader of an iterable dataset has a batch sampler too, but an endless one that numbers nothing.
    is_plain = type(loader) is DataLoader and not isinstance(loader.dataset, IterableDataset)
    return is_plain and loader.batch_sampler is not None


def _rebuild(loader: DataLoader[Any], batches: _BatchList) -> DataLoader[Any]:
    return DataLoader(
        loader.dataset,
        batch_sampler=batches,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout or (WORKER_TIMEOUT_SECONDS if loader.num_workers else 0),
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
