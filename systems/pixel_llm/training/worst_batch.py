"""The batch of a data set that takes most memory: pictures of the most captions, all as long as the longest one.

Memory goes by the pictures, by the captions times the length of the longest, and by the tokens that logits are computed
for. Each is taken at its largest, though no batch need have all three.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from systems.pixel_llm.data.dataset import ImageCaptionDataset
from systems.pixel_llm.models import PixelLLM
from systems.pixel_llm.tokenizer import IGNORE_INDEX, TokenBatch
from systems.pixel_llm.training.micro_batches import MicroBatch

__all__ = ["WorstBatch"]


class WorstBatch:
    """Makes the worst batch of any size, for `model`, whose tokenizer is fitted already.

    Args:
        model: whose tokenizer, lengths and picture size count.
        dataset: whose captions, and choice of them, count.
        weights: one a picture, how often it comes in an epoch.
    """

    def __init__(
        self,
        model: PixelLLM,
        dataset: ImageCaptionDataset,
        *,
        weights: Sequence[float] | NDArray[np.float64] | None = None,
    ) -> None:
        self._image_size = model.config.image_height_width
        self._eos_id = model.tokenizer.eos_id
        self._takes_all = dataset.caption_choice == "all"
        counts = np.array([len(sample.captions) for sample in dataset.samples])
        lengths = np.array(model.tokenizer.count_tokens(dataset.samples.captions)) + 1  # the end mark
        lengths = np.minimum(lengths, model.config.max_seq_len)
        starts = np.cumsum(counts) - counts
        tokens = (np.add if self._takes_all else np.maximum).reduceat(lengths, starts)
        if weights is not None:  # a picture that comes several times may do so in one batch
            times = np.ceil(np.asarray(weights)).astype(np.int64)
            counts, tokens = counts.repeat(times), tokens.repeat(times)
        self._length = int(lengths.max())
        self._captions_of_each: NDArray[np.int64] = np.sort(counts)[::-1] if self._takes_all else np.ones_like(counts)
        self._tokens_of_each: NDArray[np.int64] = np.sort(tokens)[::-1]

    def __len__(self) -> int:
        """Pictures of an epoch."""
        return len(self._captions_of_each)

    def of_size(self, size: int) -> MicroBatch:
        """The batch of `size` pictures, black ones, on the CPU."""
        counts = torch.from_numpy(self._captions_of_each[:size].copy())
        input_ids = torch.full((int(counts.sum()), self._length), self._eos_id)
        supervised = torch.arange(int(self._tokens_of_each[:size].sum()))
        targets = torch.full_like(input_ids, IGNORE_INDEX)
        targets.view(-1)[supervised] = self._eos_id
        tokens = TokenBatch(input_ids=input_ids, targets=targets, supervised=supervised, num_truncated=0)
        images = torch.zeros(len(counts), 3, *self._image_size, dtype=torch.uint8)
        index = torch.arange(len(counts)).repeat_interleave(counts) if self._takes_all else None
        return MicroBatch(images, tokens, index)
