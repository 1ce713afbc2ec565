"""The largest batch that fits, for `batch_size="auto"`: found by training steps on the worst batch of the data.

A copy of the model takes the steps (`trial_steps.py`), so that the model itself, and all that is drawn at random later,
stay as they were. On a processor, where a larger batch is hardly faster, 64 is the most; on a GPU it is 1024. An epoch
keeps 32 steps at least, where that leaves a batch of 8: from few pictures, many small steps learn more than few large
ones.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from systems.pixel_llm.data.dataset import ImageCaptionDataset
from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.training.model_place import captioner_in, choose_device
from systems.pixel_llm.training.options import TrainingOptions
from systems.pixel_llm.training.trial_steps import TrialSteps, expected_to_fit, gpu_memory_kept_free

__all__ = ["find_batch_size", "largest_fitting"]

logger = logging.getLogger(__name__)

UNIT = 8
"""Sizes are multiples of it, or 1, 2 and 4: matrix products like them."""
MAX_ON_GPU, MAX_ON_PROCESSOR = 1024, 64
MIN_STEPS_AN_EPOCH = 32


def find_batch_size(
    model: nn.Module,
    dataset: ImageCaptionDataset,
    *,
    device: torch.device | str | None = None,
    weights: Sequence[float] | NDArray[np.float64] | None = None,
    options: TrainingOptions | None = None,
    **settings: Any,
) -> int:
    """The largest number of pictures a step that fits into memory, for a loader of `dataset`.

    What counts beside the model and the data is what the `Trainer` will do with its default optimizer: precision,
    gradient checkpointing, averaged weights and so on, in `options` or by name. The learning rate is left as it is.

    Args:
        model: to be trained; it is not changed.
        dataset: to train on.
        device: where to train, as for the Trainer.
        weights: one a picture, how often it comes in an epoch, as for `make_loader`.
        options: a `TrainingOptions`; single settings may be given by name instead or on top.
        **settings: the fields of `TrainingOptions`.

    Raises:
        ConfigError: not even a single picture fits, or a setting is unknown or out of range.
    """
    options = (options or TrainingOptions()).replaced(**settings)
    place = choose_device(device, model)
    try:
        if place.type == "cuda":
            with gpu_memory_kept_free(place):
                steps = TrialSteps(captioner_in(model), dataset, device=place, weights=weights, options=options)
                # The first step makes the optimizer's state, which is there from then on.
                found = _found(lambda size: steps.is_possible(1) and steps.is_possible(size), steps.num_pictures, place)
                del steps
        else:
            steps = TrialSteps(captioner_in(model), dataset, device=place, weights=weights, options=options)
            found = _found(expected_to_fit(steps), steps.num_pictures, place)
    except torch.OutOfMemoryError:  # not even the copy does
        found = None
    if found is None:
        raise ConfigError(
            "batch_size='auto' found that not even a single picture fits into memory. Choose a smaller image_size or "
            "model, gradient_checkpointing or precision='bf16'."
        )
    size, reason = found
    logger.info("batch_size auto: %d, %s. The learning rate stays %g.", size, reason, options.learning_rate)
    return size


def largest_fitting(fits: Callable[[int], bool], *, limit: int) -> int | None:
    """The largest of 1, 2, 4, 8, 16, 24, 32 and so on up to `limit` that fits; None if 1 does not.

    From 8 on sizes are doubled until one does not fit, then what lies between is halved; below 8 they go down.

    Args:
        fits: whether a size does; where it does, every smaller one does. Asked once of each size.
        limit: at least 1.
    """
    smallest = min(UNIT, 1 << (limit.bit_length() - 1))
    if not fits(smallest):
        return next((size for size in (4, 2, 1) if size < smallest and fits(size)), None)
    largest = max(smallest, limit // UNIT * UNIT)
    good = smallest
    while good < largest:
        size = min(2 * good, largest)
        if not fits(size):
            return _largest_between(fits, good, size)
        good = size
    return good


def _largest_between(fits: Callable[[int], bool], good: int, bad: int) -> int:
    """Of the multiples of 8 from `good`, which fits, to `bad`, which does not."""
    while bad - good > UNIT:
        middle = (good + bad) // 2 // UNIT * UNIT
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def _found(fits: Callable[[int], bool], num_pictures: int, place: torch.device) -> tuple[int, str] | None:
    """The size, and why it is no larger."""
    of_epoch = min(num_pictures, max(UNIT, num_pictures // MIN_STEPS_AN_EPOCH))
    of_device = MAX_ON_GPU if place.type == "cuda" else MAX_ON_PROCESSOR
    limit = min(of_epoch, of_device)
    size = largest_fitting(fits, limit=limit)
    if size is None:
        return None
    if size < (largest_fitting(lambda _: True, limit=limit) or 0):
        return size, "the largest that fits into memory"
    if of_device <= of_epoch:
        return size, f"the most on a {'GPU' if place.type == 'cuda' else 'processor'}: more is hardly faster"
    return size, f"so that {num_pictures:,} pictures make enough steps an epoch"
