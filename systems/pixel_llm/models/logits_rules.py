"""What may be said next, and what is made less likely: rules over the logits of one step of captioning.

`sayable_logits` takes away what no caption holds. `penalise_repetition` and `forbid` are the rules of the options, for
greedy captioning, drawing and beam search alike; `filter_logits` is for drawing alone.
"""

import torch
from torch import Tensor

from systems.pixel_llm.models.generation_options import GenerationOptions
from systems.pixel_llm.tokenizer import CaptionTokenizer

__all__ = ["filter_logits", "forbid", "penalise_repetition", "sayable_logits"]

FORBIDDEN = float("-inf")


def sayable_logits(logits: Tensor, tokenizer: CaptionTokenizer) -> Tensor:
    """Logits [R, V] in fp32 without `<pad>`, `<bos>` and the table's spare rows, which no caption holds."""
    logits = logits.float()
    logits[:, tokenizer.vocab_size :] = FORBIDDEN
    # Two slices rather than a list of indices, which a GPU would have to wait for.
    logits[:, tokenizer.pad_id] = FORBIDDEN
    logits[:, tokenizer.bos_id] = FORBIDDEN
    return logits


def penalise_repetition(logits: Tensor, said: Tensor, options: GenerationOptions) -> Tensor:
    """Logits [R, V] with those of tokens in `said` [R, L] divided by `repetition_penalty`, or multiplied if negative.

    N. Keskar et al., "CTRL", 2019, section 4.1. The very tensor given, where there is nothing to penalise.
    """
    penalty = options.repetition_penalty
    if penalty == 1.0 or not said.shape[1]:
        return logits
    found = logits.gather(1, said)
    return logits.scatter(1, said, torch.where(found > 0, found / penalty, found * penalty))


def forbid(scores: Tensor, said: Tensor, options: GenerationOptions, *, eos_id: int) -> Tensor:
    """Scores [R, V] with minus infinity where `no_repeat_ngram_size` or `min_length` forbids a token.

    Args:
        scores: [R, V] logits or log-probabilities.
        said: [R, L] ids of the caption so far, a prefix included, `<bos>` not.
        options: where the two are read.
        eos_id: the end mark.
    """
    length = said.shape[1]
    if 0 < options.no_repeat_ngram_size <= length:
        scores = scores.masked_fill(_would_repeat(said, scores.shape[1], options.no_repeat_ngram_size), FORBIDDEN)
    if length < options.min_length:
        end, scores = scores[:, eos_id], scores.clone()
        scores[:, eos_id] = FORBIDDEN
        if options.no_repeat_ngram_size > 0:
            # Where no other token is left, the caption ends all the same: there is nothing else to say.
            has_other = scores.max(dim=1).values > FORBIDDEN
            scores[:, eos_id] = end.masked_fill(has_other, FORBIDDEN)
    return scores


def _would_repeat(said: Tensor, vocabulary: int, size: int) -> Tensor:
    """[R, V], True for a token that would make the last `size` tokens equal to `size` in a row said before."""
    grams = said.unfold(1, size, 1)  # [R, places, size]
    last = said[:, said.shape[1] - size + 1 :]
    is_same = (grams[:, :, :-1] == last[:, None]).all(dim=-1)
    # Summed, since a token may stand at several places, of which some are the same and some are not.
    counts = torch.zeros(len(said), vocabulary, device=said.device)
    return counts.scatter_add_(1, grams[:, :, -1], is_same.float()) > 0


def filter_logits(logits: Tensor, *, top_k: int | None, top_p: float | None) -> Tensor:
    """Logits [R, V] with minus infinity where a token may not be drawn.

    Args:
        logits: [R, V].
        top_k: the k largest stay (and any that equal the smallest of them): Fan et al. 2018, section 5.4.
        top_p: the fewest largest stay whose probabilities add up to at least this; always the largest: Holtzman et al.
            2020, section 3.1.
    """
    if top_k is not None:
        smallest_kept = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < smallest_kept, FORBIDDEN)
    if top_p is not None:
        ordered, order = logits.sort(dim=-1, descending=True)
        probabilities = ordered.softmax(dim=-1)
        before = probabilities.cumsum(dim=-1) - probabilities
        is_dropped = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= top_p)
        logits = logits.masked_fill(is_dropped, FORBIDDEN)
    return logits
