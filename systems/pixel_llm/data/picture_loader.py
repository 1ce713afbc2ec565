"""`PictureLoader`: batches of an `ImageCaptionDataset` as bytes, decoded by threads straight into their place.

Pillow and torch leave Python's lock while they decode and scale, so threads of this process use all cores, and nothing
goes through a pipe; what the cache holds is copied. The model normalises the batch on its own device. On a processor a
batch is read when it is asked for, since a step that shares its cores with decoding takes several times as long; beside
a GPU some batches are read ahead.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from systems.pixel_llm.data.collate import BadPicture, CaptionBatch
from systems.pixel_llm.data.dataset import ImageCaptionDataset
from systems.pixel_llm.data.folder import shown_some
from systems.pixel_llm.data.options import WORKER_TIMEOUT_SECONDS
from systems.pixel_llm.data.order import EpochOrder, checked_weights, epoch_order, mean_draws
from systems.pixel_llm.data.reading_threads import ReadingThreads, is_finished
from systems.pixel_llm.data.threads import default_threads
from systems.pixel_llm.errors import DatasetError, LoaderError

__all__ = ["PictureLoader"]

logger = logging.getLogger(__name__)

_BATCHES_AHEAD = 4
_MEASURED_SECONDS = 0.5
_MEASURED_PICTURES = 16
_LEAST_GAIN = 1.1
"""More threads are taken only where they are faster by this much."""


class PictureLoader:
    """Gives batches with "images" as uint8 [B, 3, H, W]; otherwise they are those of `collate_captions`.

    Each iteration is one epoch, in an order that follows from the dataset's seed and the epoch that `set_epoch` told.
    `epoch` begins at any batch, and decodes nothing before it.
    """

    def __init__(
        self,
        dataset: ImageCaptionDataset,
        *,
        batch_size: int,
        shuffle: bool,
        num_workers: int | None = None,
        batches_ahead: int | None = None,
        weights: Sequence[float] | NDArray[np.float64] | None = None,
        timeout_seconds: float = WORKER_TIMEOUT_SECONDS,
    ) -> None:
        """`num_workers` threads decode (0: the caller's; None: measured at the first batch), up to `batches_ahead`
        batches before they are asked for (None: none on a processor, some beside a GPU). `weights`, one a sample, say
        how often each comes in an epoch. Where no thread has come to the end of a picture for `timeout_seconds` (0: for
        ever), that is an error.
        """
        self.dataset, self.batch_size, self.shuffle = dataset, batch_size, shuffle
        self.num_workers, self.timeout_seconds = num_workers, timeout_seconds
        self.batches_ahead = batches_ahead
        if batches_ahead is None:
            self.batches_ahead = _BATCHES_AHEAD if torch.cuda.is_available() else 0
        self.weights = None if weights is None else checked_weights(weights, num_samples=len(dataset))
        self._epoch = 0

    def __len__(self) -> int:
        return -(-mean_draws(len(self.dataset), self.weights) // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Iterate `epoch`, counted from 0, next, and those after it."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[CaptionBatch]:
        self._epoch += 1
        return self.epoch(self._epoch - 1)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[CaptionBatch]:
        """The batches of `epoch` from number `start` on.

        Raises:
            DatasetError: a picture cannot be read, and the dataset does not leave such out.
            LoaderError: the threads hang.
        """
        order = epoch_order(
            len(self.dataset), seed=self.dataset.seed, epoch=epoch, shuffle=self.shuffle, weights=self.weights
        )
        starts = range(start * self.batch_size, len(order.samples), self.batch_size)
        batches = (EpochOrder(*(column[first : first + self.batch_size] for column in order)) for first in starts)
        if self.num_workers is None:
            self.num_workers = self._measured_num_workers()
        try:
            if self.num_workers == 0:
                for batch in batches:
                    yield _Filling(self.dataset, batch, epoch, pool=None).finished()
            else:
                with ReadingThreads(self.num_workers) as pool:
                    yield from self._read_ahead(batches, epoch, pool)
        finally:  # also where the run ends in the middle of the epoch, which may be hours of decoding
            if self.dataset.cache is not None:
                self.dataset.cache.flush()

    def _read_ahead(self, batches: Iterator[EpochOrder], epoch: int, pool: ReadingThreads) -> Iterator[CaptionBatch]:
        waiting: deque[_Filling] = deque()
        try:
            for batch in batches:
                waiting.append(_Filling(self.dataset, batch, epoch, pool=pool, num_threads=self.num_workers or 0))
                if len(waiting) > (self.batches_ahead or 0):
                    yield waiting.popleft().finished(timeout_seconds=self.timeout_seconds)
            while waiting:
                yield waiting.popleft().finished(timeout_seconds=self.timeout_seconds)
        finally:
            for filling in waiting:
                filling.cancel()

    def _measured_num_workers(self) -> int:
        """The number of threads that decode fastest, found by decoding: what is decoded stays in the cache."""
        cores, cache = default_threads(), self.dataset.cache
        if cores == 1 or len(self.dataset) < 4 * _MEASURED_PICTURES:
            return min(cores, len(self.dataset))
        candidates = [count for count in (1, 2, 4, 8, 16) if count < cores] + [cores]
        chosen, best = 1, 0.0
        seconds = _MEASURED_SECONDS / len(candidates)
        open_rows = (row for row in range(len(self.dataset)) if cache is None or cache.get(row) is None)
        for count in candidates:
            rate = _pictures_per_second(self.dataset, open_rows, count, seconds, timeout_seconds=self.timeout_seconds)
            if rate is None:  # all are in the cache: nothing is left to decode
                break
            if rate > best * _LEAST_GAIN:
                chosen, best = count, rate
        if best:
            # A run has another loader for validation: one line of this kind is enough.
            level = logging.INFO if self.shuffle else logging.DEBUG
            told = f"{chosen} thread{'s' * (chosen > 1)}: about {best:,.0f} a second"
            logger.log(level, "Pictures are decoded by %s.", told)
        return chosen if best else cores


class _Filling:
    """One batch on its way: its memory, and who still writes into it."""

    def __init__(
        self,
        dataset: ImageCaptionDataset,
        order: EpochOrder,
        epoch: int,
        *,
        pool: ReadingThreads | None,
        num_threads: int = 0,
    ) -> None:
        self._dataset, self._order, self._epoch = dataset, order, epoch
        assert dataset.preprocessing is not None
        shape = (len(order.samples), 3, *dataset.preprocessing.image_size)
        self._images = torch.empty(shape, dtype=torch.uint8, pin_memory=torch.cuda.is_available())
        self._rows: NDArray[np.uint8] = self._images.numpy()
        self._found: list[BadPicture | None] = [None] * len(order.samples)
        self._waiting_rows = iter(range(len(order.samples)))
        self._begun: list[int] = []
        self._ended: list[int] = []
        self._jobs: list[Future[None]] = []
        is_kept = dataset.cache is not None and not dataset.augment
        self._is_copied = is_kept and dataset.cache is not None and dataset.cache.take(order.samples, self._rows)
        if pool is not None and not self._is_copied:
            # Each thread takes the next row that waits: a job a row would cost more in handing over.
            self._jobs = [pool.submit(self._fill_rows) for _ in range(min(num_threads, len(order.samples)))]

    def finished(self, *, timeout_seconds: float = 0.0) -> CaptionBatch:
        """The batch, when all of it is there.

        Raises:
            LoaderError: threads hang for `timeout_seconds`.
        """
        if self._jobs:
            try:
                if not is_finished(self._jobs, progress=lambda: len(self._ended), timeout_seconds=timeout_seconds):
                    raise self._hanging(timeout_seconds)
                for job in self._jobs:
                    job.result()
            except BaseException:
                self.cancel()
                raise
        elif not self._is_copied:
            self._fill_rows()
        good = [row for row, bad in enumerate(self._found) if bad is None]
        samples, draws = self._order.samples.tolist(), self._order.draws.tolist()
        captions = [self._dataset.captions_of(samples[row], epoch=self._epoch, draw=draws[row]) for row in good]
        names = self._dataset.samples.names
        batch: CaptionBatch = {
            "images": self._images if len(good) == len(self._found) else self._images[good],
            "captions": [caption for of_picture in captions for caption in of_picture],
            "image_paths": [names[samples[row]] for row in good],
        }
        if self._dataset.caption_choice == "all":
            counts = torch.tensor([len(of_picture) for of_picture in captions], dtype=torch.int64)
            batch["caption_image_index"] = torch.arange(len(good)).repeat_interleave(counts)
        if bad_pictures := [bad for bad in self._found if bad is not None]:
            batch["bad_pictures"] = bad_pictures
        return batch

    def cancel(self) -> None:
        """Begin nothing more of it."""
        for _ in self._waiting_rows:
            pass

    def _hanging(self, seconds: float) -> LoaderError:
        names = self._dataset.samples.names
        return hanging_pictures([names[self._order.samples[row]] for row in {*self._begun} - {*self._ended}], seconds)

    def _fill_rows(self) -> None:
        """Decode pictures into their rows until none waits."""
        for row in self._waiting_rows:
            self._begun.append(row)
            sample, draw = int(self._order.samples[row]), int(self._order.draws[row])
            try:
                self._rows[row] = self._dataset.pixels(sample, epoch=self._epoch, draw=draw)
            except DatasetError as error:
                if self._dataset.on_bad_sample != "skip":
                    raise DatasetError(f"{error} (on_bad_sample='skip' leaves such pictures out.)") from error
                self._found[row] = BadPicture(self._dataset.samples.names[sample], str(error))
            self._ended.append(row)


def hanging_pictures(paths: Sequence[str], seconds: float) -> LoaderError:
    """The error for pictures that threads have been reading for so long without an end."""
    return LoaderError(
        f"For {seconds:g} seconds no picture was read; the threads hang at {shown_some(paths)}. A disk that no longer "
        "answers, such as one of another computer, does this: look at these files. Where reading is only slow, raise "
        "worker_timeout_seconds (0 waits for ever)."
    )


def _pictures_per_second(
    dataset: ImageCaptionDataset, open_rows: Iterator[int], num_threads: int, seconds: float, *, timeout_seconds: float
) -> float | None:
    """Pictures decoded a second by so many threads, over about so long; None where there are none left."""
    ended: list[int] = []

    def decode(row: int) -> None:
        with suppress(DatasetError):  # met again, and told, in its turn
            dataset.pixels(row, epoch=0)
        ended.append(row)

    count, started = 0, time.perf_counter()
    with ReadingThreads(num_threads) as pool:
        while time.perf_counter() - started < seconds:
            rows = [row for row, _ in zip(open_rows, range(_MEASURED_PICTURES), strict=False)]
            if not rows:
                break
            jobs = [pool.submit(partial(decode, row)) for row in rows]
            if not is_finished(jobs, progress=lambda: len(ended), timeout_seconds=timeout_seconds):
                left = [row for row in rows if row not in ended]
                raise hanging_pictures([dataset.samples.names[row] for row in left], timeout_seconds)
            for job in jobs:
                job.result()
            count += len(rows)
    return count / (time.perf_counter() - started) if count else None
