"""Captions token by token: greedy or drawn here, by beams in `beam_search.py`; both over the cache.

`generate_ids` is the one way in. What each caption's log-probability counts is the model's own distribution, whatever
the rules and the temperature made of it: it tells how sure the model is of what was said.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.models.beam_search import search_beams
from systems.pixel_llm.models.captions_in_progress import CaptionsInProgress, pictures_to_keep
from systems.pixel_llm.models.generation_options import GenerationOptions
from systems.pixel_llm.models.logits_rules import filter_logits, forbid, penalise_repetition

if TYPE_CHECKING:
    from systems.pixel_llm.models.pixel_llm import PixelLLM

__all__ = ["GeneratedCaption", "GeneratedIds", "generate_ids"]

COLDEST = 1e-6
"""Temperatures below count as this: the likeliest token is as good as certain, and logits still fit in fp32."""


@dataclass(frozen=True)
class GeneratedCaption:
    """What the model says of a picture, and how sure it is of it."""

    text: str
    log_probability: float
    """Nats: the sum over the tokens said, the end mark included, a prefix not."""
    num_tokens: int
    """Tokens in that sum."""


@dataclass(frozen=True)
class GeneratedIds:
    """n captions of each of B pictures, the best or first drawn first."""

    ids: Tensor
    """[B, n, L], the prefix included; after `<eos>` a caption holds `<eos>`."""
    log_probability: Tensor
    """[B, n], as in `GeneratedCaption`; minus infinity where there are fewer captions than n."""
    prefix_length: int
    """Tokens of the prefix."""


def generate_ids(
    model: "PixelLLM",
    image_features: Tensor,
    options: GenerationOptions,
    *,
    generator: torch.Generator | None = None,
) -> GeneratedIds:
    """Captions of the pictures with `image_features` [B, N, D].

    Raises:
        ConfigError: a setting does not fit this model.
    """
    prefix_ids = prefix_of(model, options)
    max_length = longest_caption(model, options, prefix_ids)
    if not len(image_features):
        shape = (0, options.num_return_sequences)
        return GeneratedIds(torch.empty(*shape, 0, dtype=torch.long), torch.empty(shape), len(prefix_ids))
    captions = CaptionsInProgress(model, image_features, prefix_ids=prefix_ids, max_length=max_length)
    if options.num_beams > 1:
        ids, log_probability = search_beams(captions, options, max_length=max_length, eos_id=model.tokenizer.eos_id)
    else:
        ids, log_probability = _say_one_each(
            captions, options, max_length=max_length, eos_id=model.tokenizer.eos_id, generator=generator
        )
    shape = (len(image_features), options.num_return_sequences)
    return GeneratedIds(ids.view(*shape, -1), log_probability.view(shape), len(prefix_ids))


def prefix_of(model: "PixelLLM", options: GenerationOptions) -> list[int]:
    """The ids that every caption begins with.

    White space at its end is left out: it belongs to the word that follows.
    """
    return model.tokenizer.encode(options.prefix.rstrip())


def longest_caption(model: "PixelLLM", options: GenerationOptions, prefix_ids: Sequence[int]) -> int:
    """Most tokens of a caption, the prefix and the end mark included.

    Raises:
        ConfigError: the model cannot write as long captions, or the prefix leaves no room.
    """
    longest = model.config.max_seq_len
    max_length = longest if options.max_length is None else options.max_length
    if max_length > longest:
        raise ConfigError(
            f"max_length must be at least 1 and at most the model's max_seq_len={longest}, not {max_length}."
        )
    if options.min_length >= max_length:
        raise ConfigError(
            f"min_length={options.min_length} must be below {max_length}, the most tokens of a caption with its end."
        )
    if len(prefix_ids) >= max_length:
        raise ConfigError(
            f"prefix={options.prefix!r} has {len(prefix_ids)} tokens, and a caption at most {max_length}: nothing is "
            "left to say. Shorten it, or raise max_length."
        )
    return max_length


def _say_one_each(
    captions: CaptionsInProgress,
    options: GenerationOptions,
    *,
    max_length: int,
    eos_id: int,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """Ids [R, L] and log-probabilities [R], each caption followed alone: the likeliest token each time, or a draw."""
    logits = captions.next_logits()
    num_each = options.num_return_sequences
    if num_each > 1:
        rows = torch.arange(len(logits), device=logits.device).repeat_interleave(num_each)
        captions.select(rows)
        logits = logits.index_select(0, rows)
    places = torch.arange(len(logits), device=logits.device)  # where in the result a row belongs
    ids = torch.full((len(logits), max_length), eos_id, device=logits.device)
    log_probability = torch.zeros(len(logits), device=logits.device)
    is_finished = torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
    while True:
        allowed = forbid(penalise_repetition(logits, captions.said, options), captions.said, options, eos_id=eos_id)
        token = _next_token(allowed, options, generator).masked_fill(is_finished, eos_id)
        added = logits.log_softmax(dim=1).gather(1, token[:, None])[:, 0]  # much faster than by logsumexp
        log_probability[places] += added.masked_fill(is_finished, 0.0)
        captions.append(token)
        ids[places, : captions.length] = captions.said
        is_finished |= token == eos_id
        kept = pictures_to_keep(is_finished.view(-1, num_each).all(dim=1))
        if captions.length == max_length or (kept is not None and not len(kept)):
            return ids[:, : captions.length], log_probability
        if kept is not None:
            rows = captions.keep_pictures(kept)
            places, is_finished = places[rows], is_finished[rows]
        logits = captions.next_logits()


def _next_token(allowed: Tensor, options: GenerationOptions, generator: torch.Generator | None) -> Tensor:
    """One id [R] for each row of logits [R, V]."""
    if not options.do_sample:
        return allowed.argmax(dim=-1)
    logits = filter_logits(allowed / max(options.temperature, COLDEST), top_k=options.top_k, top_p=options.top_p)
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)[:, 0]
