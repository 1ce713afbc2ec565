"""Diversity: whether captions are many and the model's own, or few, repeated, and learned by heart.

Scores against references reward safe captions; these figures need no reference and show what that costs. Distinct-1
and distinct-2 are different words and word pairs over all of them: J. Li et al., "A Diversity-Promoting Objective
Function for Neural Conversation Models", NAACL 2016, section 5. They fall as captions grow in number, so compare them
between sets of the same size only.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from systems.pixel_llm.evaluation.ngrams import Words

__all__ = ["Diversity", "diversity"]


@dataclass(frozen=True)
class Diversity:
    """Figures of a set of captions."""

    num_captions: int
    distinct_1: float
    """0..1, different words over all words."""
    distinct_2: float
    """0..1, different pairs of neighbouring words over all pairs."""
    vocabulary: int
    """Different words."""
    mean_length: float
    """Words a caption."""
    repetition_rate: float
    """0..1, the share of neighbouring pairs that their own caption has had before: "a dog a dog" has 1 of 3."""
    distinct_captions: float
    """0..1, different captions over all captions."""
    copied_share: float | None
    """0..1, captions that are one of the training captions, word for word; None without training captions."""


def diversity(captions: Sequence[Words], training_captions: Iterable[Words] | None = None) -> Diversity:
    """Figures of captions, each a sequence of words; training captions cut into words in the same way.

    Raises:
        ValueError: there is no caption.
    """
    if not captions:
        raise ValueError("Expected at least one caption; found none.")
    words = Counter(word for caption in captions for word in caption)
    pairs: Counter[tuple[str, str]] = Counter()
    repeated = 0
    for caption in captions:
        own = Counter(pairwise(caption))
        repeated += own.total() - len(own)
        pairs.update(own)
    sentences = [tuple(caption) for caption in captions]
    copied = None
    if training_captions is not None:
        learned = {tuple(caption) for caption in training_captions}
        copied = sum(sentence in learned for sentence in sentences) / len(sentences)
    return Diversity(
        num_captions=len(sentences),
        distinct_1=_share(len(words), words.total()),
        distinct_2=_share(len(pairs), pairs.total()),
        vocabulary=len(words),
        mean_length=words.total() / len(sentences),
        repetition_rate=_share(repeated, pairs.total()),
        distinct_captions=len(set(sentences)) / len(sentences),
        copied_share=copied,
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
