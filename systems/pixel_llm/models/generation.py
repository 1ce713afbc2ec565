"""Captions token by token: greedy or drawn, over the cache; `generate_ids_slowly` is the plain truth for tests."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from systems.pixel_llm.errors import ConfigError

if TYPE_CHECKING:
    from systems.pixel_llm.models.pixel_llm import PixelLLM

__all__ = ["filter_logits", "generate_ids", "generate_ids_slowly"]

COLDEST = 1e-6
"""Temperatures below count as this: the likeliest token is as good as certain, and logits still fit in fp32."""


def generate_ids(
    model: "PixelLLM",
    image_features: Tensor,
    *,
    max_length: int,
    do_sample: bool = False,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Ids [B, L] of the captions of `image_features` [B, N, D], L <= max_length; after `<eos>` a row holds `<eos>`.

    Raises:
        ConfigError: a setting is out of range.
    """
    _check(model, max_length, do_sample, temperature, top_k, top_p)
    tokenizer = model.tokenizer
    batch = image_features.shape[0]
    token = torch.full((batch, 1), tokenizer.bos_id, device=image_features.device)
    is_finished = torch.zeros(batch, 1, dtype=torch.bool, device=image_features.device)
    cache = model.make_cache(image_features)
    columns: list[Tensor] = []
    for _ in range(max_length):
        logits = _sayable(model, model.decode(token, image_features, cache=cache)[:, -1])
        if do_sample:
            logits = filter_logits(logits / max(temperature, COLDEST), top_k=top_k, top_p=top_p)
            token = torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)
        else:
            token = logits.argmax(dim=-1, keepdim=True)
        token = token.masked_fill(is_finished, tokenizer.eos_id)
        columns.append(token)
        is_finished = is_finished | (token == tokenizer.eos_id)
        if bool(is_finished.all()):
            break
    return torch.cat(columns, dim=1) if columns else token[:, :0]


def generate_ids_slowly(model: "PixelLLM", image_features: Tensor, *, max_length: int) -> list[list[int]]:
    """Greedy ids of each picture, `<eos>` included if said: one picture at a time, everything computed at every token.

    Slow and plain on purpose: what `generate_ids` must agree with.
    """
    captions = []
    for features in image_features:
        ids = [model.tokenizer.bos_id]
        while len(ids) <= max_length and (len(ids) == 1 or ids[-1] != model.tokenizer.eos_id):
            logits = model.decode(torch.tensor([ids], device=features.device), features[None])
            ids.append(int(_sayable(model, logits[:, -1]).argmax()))
        captions.append(ids[1:])
    return captions


def filter_logits(logits: Tensor, *, top_k: int | None, top_p: float | None) -> Tensor:
    """Logits [B, V] with minus infinity where a token may not be drawn.

    Args:
        logits: [B, V].
        top_k: the k largest stay (and any that equal the smallest of them).
        top_p: the fewest largest stay whose probabilities add up to at least this; always the largest.
    """
    if top_k is not None:
        smallest_kept = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < smallest_kept, float("-inf"))
    if top_p is not None:
        ordered, order = logits.sort(dim=-1, descending=True)
        probabilities = ordered.softmax(dim=-1)
        before = probabilities.cumsum(dim=-1) - probabilities
        is_dropped = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= top_p)
        logits = logits.masked_fill(is_dropped, float("-inf"))
    return logits


def _sayable(model: "PixelLLM", logits: Tensor) -> Tensor:
    """Logits [B, V] without `<pad>`, `<bos>` and the table's spare rows, which no caption holds; in fp32."""
    tokenizer = model.tokenizer
    logits = logits.float()
    logits[:, tokenizer.vocab_size :] = float("-inf")
    logits[:, [tokenizer.pad_id, tokenizer.bos_id]] = float("-inf")
    return logits


def _check(
    model: "PixelLLM", max_length: int, do_sample: bool, temperature: float, top_k: int | None, top_p: float | None
) -> None:
    longest = model.config.max_seq_len
    if not 1 <= max_length <= longest:
        raise ConfigError(
            f"max_length must be at least 1 and at most the model's max_seq_len={longest}, not {max_length}."
        )
    if not do_sample and (temperature, top_k, top_p) != (1.0, None, None):
        raise ConfigError("temperature, top_k and top_p change what is drawn: they need do_sample=True.")
    if not 0 < temperature < math.inf:
        raise ConfigError(
            f"temperature must be above 0 and finite, not {temperature}. For the likeliest caption: do_sample=False."
        )
    if top_k is not None and top_k < 1:
        raise ConfigError(f"top_k must be at least 1, not {top_k}.")
    if top_p is not None and not 0 < top_p <= 1:
        raise ConfigError(f"top_p must be above 0 and at most 1, not {top_p}.")
