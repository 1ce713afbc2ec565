"""Captions the slow, plain way: one picture at a time, everything computed anew at every token, rules as loops.

What the quick ways over the cache must agree with, and what a reader may check them against: `generate_slow` knows
every setting but drawing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.models.generation import longest_caption, prefix_of
from systems.pixel_llm.models.generation_options import GenerationOptions

if TYPE_CHECKING:
    from systems.pixel_llm.models.pixel_llm import PixelLLM

__all__ = ["SlowCaption", "generate_slow"]


@dataclass(frozen=True)
class SlowCaption:
    """One caption as ids, the prefix and, if said, the end mark included."""

    ids: list[int]
    score: float
    """The sum of log-probabilities under the rules."""
    log_probability: float
    """The sum of the model's own."""


def generate_slow(
    model: "PixelLLM", image_features: Tensor, options: GenerationOptions | None = None
) -> list[list[SlowCaption]]:
    """Of each picture with features [N, D] in `image_features` [B, N, D] its captions, the best first.

    Raises:
        ConfigError: a setting does not fit this model, or asks for drawing.
    """
    options = options or GenerationOptions()
    if options.do_sample:
        raise ConfigError("generate_slow follows the likeliest captions: do_sample must be False.")
    return [_search(model, features[None], options) for features in image_features]


def _search(model: "PixelLLM", features: Tensor, options: GenerationOptions) -> list[SlowCaption]:
    """Beam search; with one beam it takes the likeliest token each time."""
    prefix, eos_id = prefix_of(model, options), model.tokenizer.eos_id
    max_length = longest_caption(model, options, prefix)
    going, finished = [SlowCaption(prefix, 0.0, 0.0)], list[SlowCaption]()

    def rank(caption: SlowCaption) -> float:
        return caption.score / (len(caption.ids) - len(prefix)) ** options.length_penalty

    while len(going[0].ids) < max_length:
        continued = [longer for caption in going for longer in _continued(model, features, caption, options)]
        continued.sort(key=lambda caption: caption.score, reverse=True)
        finished += [caption for caption in continued[: options.num_beams] if caption.ids[-1] == eos_id]
        going = [caption for caption in continued if caption.ids[-1] != eos_id][: options.num_beams]
        finished.sort(key=rank, reverse=True)
        if not going or (options.num_beams == 1 and finished):
            break
        if options.early_stopping and len(finished) >= options.num_beams:
            break
    else:
        if not (options.early_stopping and len(finished) >= options.num_beams):
            finished += going
    finished.sort(key=rank, reverse=True)
    return finished[: options.num_return_sequences]


def _continued(
    model: "PixelLLM", features: Tensor, caption: SlowCaption, options: GenerationOptions
) -> list[SlowCaption]:
    """`caption` with each token that may follow."""
    tokenizer, ids = model.tokenizer, caption.ids
    input_ids = torch.tensor([[tokenizer.bos_id, *ids]], device=features.device)
    logits = model.decode(input_ids, features)[0, -1].double()
    sayable = [id for id in range(tokenizer.vocab_size) if id not in (tokenizer.pad_id, tokenizer.bos_id)]
    own = logits[sayable].log_softmax(0)
    penalised = logits[sayable].clone()
    for place, id in enumerate(sayable):
        if id in ids:
            penalty = options.repetition_penalty
            penalised[place] = penalised[place] / penalty if penalised[place] > 0 else penalised[place] * penalty
    scores = penalised.log_softmax(0)
    allowed = [id for id in sayable if not _is_forbidden([*ids, id], options, tokenizer.eos_id)]
    return [
        SlowCaption(
            ids=[*ids, id],
            score=caption.score + float(scores[sayable.index(id)]),
            log_probability=caption.log_probability + float(own[sayable.index(id)]),
        )
        for id in allowed or [tokenizer.eos_id]
    ]


def _is_forbidden(ids: Sequence[int], options: GenerationOptions, eos_id: int) -> bool:
    """Whether the rules forbid the last of `ids`."""
    size = options.no_repeat_ngram_size
    if ids[-1] == eos_id:
        return len(ids) - 1 < options.min_length
    grams = [tuple(ids[start : start + size]) for start in range(len(ids) - size + 1)] if size else []
    return bool(grams) and grams[-1] in grams[:-1]
