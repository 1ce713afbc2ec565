"""What captions score while a model trains, on a fixed part of the validation pictures, the same at every call.

CIDEr-D tells how good they are, the share of different ones whether they follow the pictures at all.

A `ValidationScorer` is given to the Trainer as its scorer. Captions are made by a narrow beam search: how well a model
captions greedily says less of how well it captions at its best, and the best checkpoint is chosen by this score.
Pictures are decoded once, and kept as bytes.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from systems.pixel_llm.data.images import open_pixels
from systems.pixel_llm.data.samples import Sample
from systems.pixel_llm.data.transforms import scaled
from systems.pixel_llm.errors import DatasetError
from systems.pixel_llm.evaluation.score import score_captions
from systems.pixel_llm.models import PixelLLM

__all__ = ["ValidationScorer"]

logger = logging.getLogger(__name__)

NUM_PICTURES = 200
"""Enough for a standard error of about 0.02 where the score is 0.2."""
NUM_BEAMS = 3
BATCH_SIZE = 25


class ValidationScorer:
    """Callable: a model and whether to stop -> `{"cider_d": score, "distinct_captions": share of different ones}`.

    Empty where no picture can be read, None where it stopped.

    Args:
        samples: the validation pictures with their references; `num_pictures` of them, evenly spaced, are scored.
        num_pictures: at most so many.
        with_cider_d: False leaves CIDEr-D out, where the pictures are too few for it to be more than chance.
    """

    def __init__(
        self, samples: Sequence[Sample], *, num_pictures: int = NUM_PICTURES, with_cider_d: bool = True
    ) -> None:
        self._with_cider_d = with_cider_d
        count = min(len(samples), num_pictures)
        self._samples = [samples[place * len(samples) // count] for place in range(count)]
        self._pixels: list[NDArray[np.uint8]] | None = None
        self._batch_size = BATCH_SIZE

    def __call__(self, model: PixelLLM, is_stopped: Callable[[], bool]) -> Mapping[str, float] | None:
        """Caption and score; `is_stopped` is asked between batches."""
        if self._pixels is None:
            # Not before the first call: by then the Trainer has given the model its preprocessing.
            self._read_pictures(model.preprocessing.image_size)
        pixels = self._pixels or []
        # What no reference needs is not waited for: a model that has learned little may never come to an end.
        longest = 1 + max(model.tokenizer.count_tokens(self._references()), default=0)
        max_length = min(longest, model.config.max_seq_len)
        captions: list[str] = []
        while len(captions) < len(pixels):
            if is_stopped():
                return None
            images = torch.from_numpy(np.stack(pixels[len(captions) :][: self._batch_size]))
            try:
                captions += model.generate(images, num_beams=NUM_BEAMS, max_length=max_length)
            except torch.OutOfMemoryError:
                # Beams take room that training may not have left.
                if len(images) == 1:
                    raise
                self._batch_size = len(images) // 2
                logger.warning("Memory ran out: captions are scored %d pictures at a time.", self._batch_size)
        if not captions:
            return {}
        scores = {}
        if self._with_cider_d:
            found = score_captions(captions, [sample.captions for sample in self._samples])
            scores["cider_d"] = float(found.cider_d.mean())
        return scores | {"distinct_captions": len(set(captions)) / len(captions)}

    def _references(self) -> Iterable[str]:
        return (caption for sample in self._samples for caption in sample.captions)

    def _read_pictures(self, image_size: tuple[int, int]) -> None:
        """Those that can be read, and only their samples; validation itself tells of the others."""
        read, self._pixels = [], []
        for sample in self._samples:
            try:
                self._pixels.append(scaled(open_pixels(sample.image_path, at_least=image_size), image_size))
            except DatasetError as error:
                logger.debug("Left out of the score: %s", error)
            else:
                read.append(sample)
        self._samples = read
