"""Before the first step: the captions of a loader, the tokenizer fitted to them, and what the length limit would cut.

An embedding of 50,000 rows for a thousand captions costs time at every step and most of the disk, so the model's
tokenizer is trained on the training captions the first time it is needed.
"""

import logging
from collections.abc import Sequence
from typing import Any

import torch

from systems.pixel_llm.data.inner_datasets import captions_of
from systems.pixel_llm.errors import DatasetError
from systems.pixel_llm.models import PixelLLM
from systems.pixel_llm.training.batch_content import captions_of_batch
from systems.pixel_llm.training.optim import cut_optimizer_state

__all__ = ["fit_vocabulary", "prepare_vocabulary", "warn_of_cut_captions"]

logger = logging.getLogger(__name__)


def prepare_vocabulary(model: PixelLLM, loader: Any, optimizer: torch.optim.Optimizer) -> None:
    """Fit the model's tokenizer to the training captions unless it has one, and warn of captions that will be cut.

    The captions are those of the loader's dataset, seen through Subset and ConcatDataset. A dataset that does not tell
    them is read by one pass, if there is a tokenizer to fit.

    Raises:
        DatasetError: there is no caption.
    """
    captions = captions_of(getattr(loader, "dataset", None))
    if captions is None:
        if model.tokenizer.is_fitted:
            return
        logger.info("The dataset has no `captions`: reading them by one pass over the loader, pictures included.")
        captions = [caption for batch in loader for caption in captions_of_batch(batch)]
    if not captions:
        raise DatasetError("The training data holds no caption. Add pictures with captions.")
    fit_vocabulary(model, captions, optimizer)
    warn_of_cut_captions(model, captions)


def fit_vocabulary(model: PixelLLM, captions: Sequence[str], optimizer: torch.optim.Optimizer) -> None:
    """Fit the model's tokenizer unless it has one, and cut the optimizer's state to the rows that stay."""
    if model.tokenizer.is_fitted:
        return
    embeddings = {name: parameter.shape for name, parameter in model.named_parameters()}
    model.fit_tokenizer(captions)
    for name, parameter in model.named_parameters():
        if parameter.shape != embeddings[name]:
            cut_optimizer_state(optimizer, parameter, rows_before=embeddings[name][0])
    logger.info(
        "Tokenizer fitted to %s captions: %s tokens of at most %s.",
        *(f"{count:,}" for count in (len(captions), model.tokenizer.vocab_size, model.config.vocab_size)),
    )


def warn_of_cut_captions(model: PixelLLM, captions: Sequence[str]) -> None:
    """Log one warning that counts the captions longer than `max_seq_len`, with the length that would hold them all."""
    max_seq_len = model.config.max_seq_len
    lengths = [count + 1 for count in model.tokenizer.count_tokens(captions)]  # the end mark takes a place
    num_cut = sum(length > max_seq_len for length in lengths)
    if num_cut:
        logger.warning(
            "%d of %d captions (%.1f %%) are longer than max_seq_len=%d tokens and are cut there; the longest needs "
            "max_seq_len=%d.", num_cut, len(captions), 100 * num_cut / len(captions), max_seq_len, max(lengths),
        )  # fmt: skip
