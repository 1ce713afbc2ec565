"""BLEU-1 to BLEU-4 of captions with several references, as the COCO caption evaluation computes it.

`bleu_statistics` counts for each picture what BLEU needs; `bleu_scores` makes scores of sums of them, so that the same
numbers serve the whole set, one caption, and any set drawn anew from the pictures (`score.py`).

K. Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", ACL 2002, sections 2.1 to 2.3:
counts clipped by the largest in any one reference, precisions multiplied, a penalty for captions shorter than their
references. The reference length of a caption is that of the reference nearest in length, the shorter of two as near.
The published evaluation adds 1e-15 to matches and 1e-9 to what they are divided by. Where all four counts are
above zero this changes no digit that anyone prints; where not, it does (a caption without a common pair of words has a
BLEU-2 of 1e-8 and no zero), so it is done here too.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from systems.pixel_llm.evaluation.ngrams import NgramCounts

__all__ = ["BleuStatistics", "bleu_scores", "bleu_statistics"]

_TINY, _SMALL = 1e-15, 1e-9


@dataclass(frozen=True)
class BleuStatistics:
    """What BLEU is made of, for each of N pictures and n = 1..4."""

    matches: NDArray[np.int64]
    """[N, 4] n-grams of the caption that a reference has too, each counted as often as one reference has it at most."""
    totals: NDArray[np.int64]
    """[N, 4] n-grams of the caption."""
    caption_length: NDArray[np.int64]
    """[N] words of the caption."""
    reference_length: NDArray[np.int64]
    """[N] words of the reference nearest in length."""

    def corpus(self) -> NDArray[np.float64]:
        """[4] BLEU-1..4 of all captions together, 0..1: that of summed counts, and not the mean of captions."""
        sums = (each.sum(axis=0) for each in (self.matches, self.totals, self.caption_length, self.reference_length))
        return bleu_scores(*sums)

    def per_caption(self) -> NDArray[np.float64]:
        """[N, 4] BLEU-1..4 of each caption by itself."""
        return bleu_scores(self.matches, self.totals, self.caption_length, self.reference_length)


def bleu_statistics(counts: NgramCounts) -> BleuStatistics:
    """Count what BLEU is made of."""
    matches, totals = [], []
    for n, order in enumerate(counts.orders, start=1):
        most = np.zeros(len(order.caption_count), np.int64)  # of each n-gram of a caption, in any one reference
        there = order.same_in_caption >= 0
        np.maximum.at(most, order.same_in_caption[there], order.reference_count[there])
        clipped = np.minimum(order.caption_count, most)
        matches.append(np.bincount(order.caption_picture, clipped, counts.num_pictures).astype(np.int64))
        totals.append(np.maximum(counts.caption_length - n + 1, 0))
    return BleuStatistics(
        matches=np.stack(matches, axis=1),
        totals=np.stack(totals, axis=1),
        caption_length=counts.caption_length,
        reference_length=_nearest_length(counts),
    )


def _nearest_length(counts: NgramCounts) -> NDArray[np.int64]:
    lengths, pictures = counts.reference_length, counts.reference_picture
    distance = np.abs(lengths - counts.caption_length[pictures])
    in_order = np.lexsort((lengths, distance, pictures))  # by picture, then the nearest, then the shorter
    first = np.searchsorted(pictures, np.arange(counts.num_pictures))
    return lengths[in_order[first]]


def bleu_scores(
    matches: ArrayLike, totals: ArrayLike, caption_length: ArrayLike, reference_length: ArrayLike
) -> NDArray[np.float64]:
    """[..., 4] BLEU-1..4 of counts that may be summed over captions: [..., 4], [..., 4], [...] and [...]."""
    precisions = (np.asarray(matches) + _TINY) / (np.asarray(totals) + _SMALL)
    orders = np.arange(1, precisions.shape[-1] + 1)
    scores = np.exp(np.cumsum(np.log(precisions), axis=-1) / orders)
    ratio = (np.asarray(caption_length) + _TINY) / (np.asarray(reference_length) + _SMALL)
    penalty = np.exp(np.minimum(0.0, 1.0 - 1.0 / ratio))
    return np.asarray(scores * penalty[..., None])
