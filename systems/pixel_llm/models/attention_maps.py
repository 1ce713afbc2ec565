"""Which patches of a picture each word of its caption looked at: the weights of the decoder's cross-attention.

Training and generation never make these weights: a fused kernel goes from queries and keys to the result. Here one pass
over a caption that is there already is watched by hooks on the cross-attention modules, which see what goes in, and the
weights are computed beside it, softmax(q k^T / sqrt(E)) of Vaswani et al. 2017, section 3.2.1. The model itself is
neither changed nor slowed.

Row t of the weights belongs to the token that position t has to say, so it tells what the model looked at as it chose
that token; a word is the mean of its tokens. Weights show where information was taken from; that it also decided the
word is not said (S. Jain and B. Wallace, "Attention is not Explanation", NAACL 2019).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from systems.pixel_llm.models.layers import CrossAttention, split_heads
from systems.pixel_llm.models.pixel_llm import PixelLLM
from systems.pixel_llm.tokenizer import CaptionTokenizer

__all__ = ["WordMap", "attention_maps", "cross_attention_weights", "word_spans"]


@dataclass(frozen=True)
class WordMap:
    """A word and where the model looked as it said it."""

    word: str
    weights: Tensor
    """[rows, columns] of the grid of patches, fp32 on the CPU; they sum to 1."""


def attention_maps(model: PixelLLM, image: Tensor, caption: str) -> list[WordMap]:
    """The words of a caption, each with the mean of its tokens' weights over all heads of the last block.

    The last block speaks of the word that comes next: "grass" lights the grass there, while the mean over all blocks
    blurs that with the looking around of earlier ones.

    Args:
        model: in whatever mode; it is left in it.
        image: [3, H, W], normalised as `model.preprocessing` tells, or uint8.
        caption: as the model said it, or any other; cut where the model's longest caption ends.

    Returns:
        The words in order; none for an empty caption.
    """
    token_ids = model.encode_captions([caption]).targets[0, :-1].tolist()  # without the end mark
    weights = cross_attention_weights(model, image[None], [caption])[0, -1]
    rows, columns = model.encoder.grid
    return [
        WordMap(word, weights[start:end].mean(dim=0).view(rows, columns))
        for word, start, end in word_spans(model.tokenizer, token_ids)
    ]


def cross_attention_weights(model: PixelLLM, images: Tensor, captions: list[str]) -> Tensor:
    """Weights [B, blocks, T, N] of B captions on the N patches of their pictures, the mean over the heads; fp32, CPU.

    Args:
        model: in whatever mode; it is left in it.
        images: [B, 3, H, W], as `PixelLLM.forward` takes them.
        captions: B texts, read as in training; rows beyond a caption's end are those of padding.
    """
    training_modules = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.inference_mode(), _watched(model) as seen:
            model(images.to(model.device), captions)
    finally:
        for module in training_modules:
            module.training = True
    return torch.stack(seen, dim=1)


@contextmanager
def _watched(model: PixelLLM) -> Iterator[list[Tensor]]:
    """A list that gets the weights [B, T, N] of each block as a pass goes through it."""
    seen: list[Tensor] = []

    def watch(module: CrossAttention, arguments: tuple[Any, ...]) -> None:
        hidden, key, _ = arguments
        query = split_heads(module.query(hidden), module.num_heads).float()
        scores = (query * query.shape[-1] ** -0.5) @ key.float().transpose(-2, -1)
        seen.append(scores.softmax(dim=-1).mean(dim=1).cpu())

    attentions = [module for module in model.decoder.modules() if isinstance(module, CrossAttention)]
    hooks = [attention.register_forward_pre_hook(watch) for attention in attentions]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def word_spans(tokenizer: CaptionTokenizer, token_ids: list[int]) -> list[tuple[str, int, int]]:
    """The words that tokens spell, each with its first token and the one after its last.

    A word begins at a token that begins with white space; a token of nothing but white space belongs to what follows.
    """
    spans: list[tuple[str, int, int]] = []
    start = 0
    for place in range(1, len(token_ids) + 1):
        is_end = place == len(token_ids) or tokenizer.decode(token_ids[place : place + 1])[:1].isspace()
        word = tokenizer.decode(token_ids[start:place]).strip()
        if is_end and word:
            spans.append((word, start, place))
            start = place
    return spans
