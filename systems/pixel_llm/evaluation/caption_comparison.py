"""What a model's captions are like beside those of people: how long, of which words, how often the same.

Scores say how well single captions agree with their references; here all captions are looked at together, which shows
what scores hide: one length for everything, a few words for everything, words that people use and the model never does.
No torch is loaded by this module.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from systems.pixel_llm.data.distributions import Bar
from systems.pixel_llm.evaluation.words import tokenize_captions

__all__ = ["FUNCTION_WORDS", "CaptionComparison", "WordShare", "compare_captions"]

FUNCTION_WORDS = frozenset(
    {"a", "an", "the", "of", "in", "on", "at", "to", "and", "or", "with", "by", "for", "from", "is", "are", "was", "be"}
)
"""English words that every caption has: left out where words are listed, for they would hide all others."""


@dataclass(frozen=True)
class WordShare:
    """A word and how much of all words it is, 0..1, in the model's captions and in people's."""

    word: str
    model: float
    people: float


@dataclass(frozen=True, kw_only=True)
class CaptionComparison:
    """The captions of a model beside the references of the same pictures."""

    model_lengths: tuple[Bar, ...]
    """How many captions have how many words; whole numbers without gaps."""
    people_lengths: tuple[Bar, ...]
    common_words: tuple[WordShare, ...]
    """The words that are most common on either side, by the greater of their shares; no function words."""
    never_said: tuple[tuple[str, int], ...]
    """The words that people use most among those that the model never says, and how often people do."""
    num_never_said: int
    only_said: tuple[tuple[str, int], ...]
    """The words that the model uses most among those that people do not use of these pictures."""
    repeated: tuple[tuple[str, int], ...]
    """Captions given to more than one picture, the most common first, and to how many."""
    num_distinct: int
    """Different captions of the model."""
    model_vocabulary: int
    """Different words of the model."""
    people_vocabulary: int
    model_mean_length: float
    """Words a caption."""
    people_mean_length: float


def compare_captions(
    captions: Sequence[str], references: Sequence[Sequence[str]], *, max_words: int = 24, max_captions: int = 6
) -> CaptionComparison:
    """Look at at least one caption and at least one reference, cut into words as for scores.

    `max_words` and `max_captions` bound the lists.
    """
    said = tokenize_captions(captions)
    wanted = tokenize_captions([reference for each in references for reference in each])
    model = Counter(word for caption in said for word in caption)
    people = Counter(word for caption in wanted for word in caption)
    shares = [
        WordShare(word, model[word] / max(model.total(), 1), people[word] / max(people.total(), 1))
        for word in (model.keys() | people.keys()) - FUNCTION_WORDS
    ]
    shares.sort(key=lambda each: (-max(each.model, each.people), each.word))
    never_said = Counter({word: count for word, count in people.items() if word not in model})
    only_said = Counter({word: count for word, count in model.items() if word not in people})
    counts = Counter(captions)
    return CaptionComparison(
        model_lengths=_lengths(said),
        people_lengths=_lengths(wanted),
        common_words=tuple(shares[:max_words]),
        never_said=_most_common(never_said, max_words),
        num_never_said=len(never_said),
        only_said=_most_common(only_said, max_words),
        repeated=tuple(each for each in _most_common(counts, max_captions) if each[1] > 1),
        num_distinct=len(counts),
        model_vocabulary=len(model),
        people_vocabulary=len(people),
        model_mean_length=model.total() / len(said),
        people_mean_length=people.total() / len(wanted),
    )


def _lengths(captions: Sequence[Sequence[str]]) -> tuple[Bar, ...]:
    counts = Counter(map(len, captions))
    return tuple(Bar(length, length + 1, counts[length]) for length in range(min(counts), max(counts) + 1))


def _most_common(counts: Counter[str], count: int) -> tuple[tuple[str, int], ...]:
    """The same ones each time: of equally common ones the first by the alphabet."""
    return tuple(sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:count])
