"""Training steps for trial, on a copy of a model: what does a batch of so many pictures need, does it fit?

On a GPU it is tried, within a share of the memory that is free. A process that takes too much main memory is ended
without a word, so on a processor what a few pictures took tells what more would take.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray

from systems.pixel_llm.data.dataset import ImageCaptionDataset
from systems.pixel_llm.models import PixelLLM
from systems.pixel_llm.models.precision import resolve_precision
from systems.pixel_llm.training.compilation import FewShapes
from systems.pixel_llm.training.free_memory import free_memory_bytes, peak_bytes_of
from systems.pixel_llm.training.freezing import freeze, hold_still
from systems.pixel_llm.training.loss import loss_of_training
from systems.pixel_llm.training.optim import default_optimizer
from systems.pixel_llm.training.optimizer_step import OptimizerStep
from systems.pixel_llm.training.options import TrainingOptions
from systems.pixel_llm.training.weight_average import WeightAverage
from systems.pixel_llm.training.worst_batch import WorstBatch

__all__ = ["TrialSteps", "expected_to_fit", "gpu_memory_kept_free"]

SHARE = 0.9
"""Of the free memory, for a step: validation, and other programs, take some too."""
NUM_MEASURED = 8
"""Pictures of the step whose memory is measured on a processor."""


class TrialSteps:
    """Steps as the Trainer takes them with its default optimizer, each on the worst batch of its size.

    Args:
        model: copied; it stays as it is, and so does every generator.
        dataset: whose captions count.
        device: where the steps are taken.
        weights: one a picture, how often it comes in an epoch.
        options: of the training.
    """

    def __init__(
        self,
        model: PixelLLM,
        dataset: ImageCaptionDataset,
        *,
        device: torch.device,
        weights: Sequence[float] | NDArray[np.float64] | None,
        options: TrainingOptions,
    ) -> None:
        copy = deepcopy(model)
        if not copy.tokenizer.is_fitted:
            copy.fit_tokenizer(dataset.captions)
        self._worst = WorstBatch(copy, dataset, weights=weights)
        if options.gradient_checkpointing:  # else as the model has it
            copy.gradient_checkpointing = True
        self._model = copy.to(device).train()
        hold_still(freeze(copy, options.frozen_parts))
        loss = loss_of_training(
            None, label_smoothing=options.label_smoothing, target_ids=lambda: copy.tokenizer.target_ids
        )
        self._step = OptimizerStep(
            copy, default_optimizer(copy, options), loss,
            device=device, precision=resolve_precision(options.precision, device),
            max_grad_norm=options.max_grad_norm, seed=options.seed,
        )  # fmt: skip
        self._average = None if options.ema_decay is None else WeightAverage(copy, decay=options.ema_decay)
        self._options = options

    @property
    def num_pictures(self) -> int:
        """Of an epoch."""
        return len(self._worst)

    @property
    def gradient_bytes(self) -> int:
        """What a step takes however small its batch is."""
        trained = (each for each in self._model.parameters() if each.requires_grad)
        return sum(each.numel() * each.element_size() for each in trained)

    def take(self, size: int) -> None:
        """One step of `size` pictures; where batches are accumulated, of two batches of them."""
        part = self._worst.of_size(size)
        if self._options.compile:
            part = FewShapes(size, self._model.config.max_seq_len)(part)
        parts = [part] * min(2, self._options.gradient_accumulation_steps)
        self._step.change(self._step.accumulate(parts, step=0), parts)

    def is_possible(self, size: int) -> bool:
        """Whether a step of `size` pictures can be taken before a GPU's memory runs out."""
        try:
            self.take(size)
        except torch.OutOfMemoryError:
            is_possible = False
        else:
            is_possible = True
        self.release_memory()
        return is_possible

    def release_memory(self) -> None:
        """Let gradients go, and what a step left behind."""
        gc.collect()
        self._step.release_memory()


@contextmanager
def gpu_memory_kept_free(device: torch.device) -> Iterator[None]:
    """Within this, torch may take a share of what is free on `device` now; beyond, its memory counts as run out."""
    before = torch.cuda.get_per_process_memory_fraction(device)
    free, total = torch.cuda.mem_get_info(device)
    usable = torch.cuda.memory_reserved(device) + SHARE * free
    torch.cuda.set_per_process_memory_fraction(min(before, usable / total), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(before, device)
        torch.cuda.empty_cache()


def expected_to_fit(
    steps: TrialSteps, *, free_bytes: Callable[[], int | None] = free_memory_bytes
) -> Callable[[int], bool]:
    """Takes a step of one picture, then of a few, and gives the function that says whether more will fit.

    Where memory cannot be measured, that function says yes to all.
    """
    steps.take(1)  # the optimizer's state is there from now on, and counts as taken
    steps.release_memory()
    room = free_bytes()

    def expected_from(size: int) -> Callable[[int], bool] | None:
        peak = peak_bytes_of(lambda: steps.take(size))
        steps.release_memory()
        if peak is None or room is None:
            return None
        of_a_picture = max(0, peak - steps.gradient_bytes) / size
        return lambda count: steps.gradient_bytes + of_a_picture * count <= SHARE * room

    expected = expected_from(1)
    if expected is not None and expected(NUM_MEASURED):
        expected = expected_from(min(NUM_MEASURED, steps.num_pictures))
    return expected or (lambda _: True)
