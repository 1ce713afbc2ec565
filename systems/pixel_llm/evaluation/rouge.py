"""ROUGE-L: how much of a caption stands in a reference in the same order, gaps allowed, as COCO evaluates it.

C.-Y. Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004, section 3: precision and recall of the
longest common subsequence of words, joined to one F measure. Of several references the best precision and the best
recall count, which may come from two of them, and beta is 1.2: X. Chen et al., "Microsoft COCO Captions", 2015, section
3, and what its published numbers show.

The length of that subsequence is found with one addition, one subtraction and two logical operations a word, on whole
numbers of which each bit is a word of the caption: H. Hyyrö, "Bit-parallel LCS-length Computation Revisited", 2004.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from systems.pixel_llm.evaluation.ngrams import Words, check_pairs

__all__ = ["BETA", "longest_common_subsequence", "rouge_l"]

BETA = 1.2
"""How much more recall weighs than precision."""


def rouge_l(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> NDArray[np.float64]:
    """[N] ROUGE-L of each caption, 0..1; the score of the set is their mean. A caption without words has 0.

    Raises:
        ValueError: the two differ in number, there is none, or a picture has no reference.
    """
    check_pairs(captions, references)
    return np.array([_rouge_l(caption, each) for caption, each in zip(captions, references, strict=True)])


def _rouge_l(caption: Words, references: Sequence[Words]) -> float:
    bits = _bits_of(caption)
    common = [_common_length(bits, len(caption), reference) for reference in references]
    if not any(common):
        return 0.0
    precision = max(common) / len(caption)
    recall = max(
        length / len(reference) for length, reference in zip(common, references, strict=True) if len(reference)
    )
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def longest_common_subsequence(one: Words, other: Words) -> int:
    """The number of words in the longest sequence that both hold in order.

    >>> longest_common_subsequence("a dog on the grass".split(), "the dog runs on grass".split())
    3
    """
    return _common_length(_bits_of(one), len(one), other)


def _bits_of(words: Words) -> dict[str, int]:
    """Each word's places, as set bits."""
    bits: dict[str, int] = {}
    for place, word in enumerate(words):
        bits[word] = bits.get(word, 0) | 1 << place
    return bits


def _common_length(bits: dict[str, int], length: int, other: Words) -> int:
    everywhere = (1 << length) - 1
    row = everywhere  # a zero bit: here the common subsequence grows by one word
    for word in other:
        places = bits.get(word)
        if places is not None:
            met = row & places
            row = ((row + met) | (row - met)) & everywhere
    return length - row.bit_count()
