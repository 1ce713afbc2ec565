"""How often each run of one to four words stands in captions and in their references, counted once for several scores.

Words become numbers, runs of n words become numbers from those of n - 1, and sorting counts them: a few passes of numpy
over all captions at once instead of a dictionary a caption. `NgramCounts` then holds, for each n, the n-grams of every
caption and of every reference, and for each n-gram of a reference where the caption of its picture has the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

__all__ = ["NgramCounts", "OrderCounts", "Words", "check_pairs", "count_ngrams"]

Words = Sequence[str]
"""A caption, cut into words."""

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class OrderCounts:
    """The n-grams of one n. C: distinct (picture, n-gram) of captions; R: distinct (reference, n-gram)."""

    caption_picture: Indices
    """[C] whose caption."""
    caption_ngram: Indices
    """[C] which n-gram, 0..num_ngrams."""
    caption_count: Indices
    """[C] how often."""
    reference: Indices
    """[R] which reference, counted over all pictures."""
    reference_ngram: Indices
    """[R] which n-gram."""
    reference_count: Indices
    """[R] how often."""
    same_in_caption: Indices
    """[R] the index, of C, of the same n-gram in the caption of the picture; -1 where it is not there."""
    words: tuple[tuple[str, ...], ...]
    """The words of each n-gram; filled only where asked for."""
    num_ngrams: int


@dataclass(frozen=True)
class NgramCounts:
    """N captions of as many pictures, their references, and the counts for n = 1, 2, ...: what scores are made of."""

    caption_length: Indices
    """[N] words in each caption."""
    reference_length: Indices
    """[all references] words in each."""
    reference_picture: Indices
    """[all references] whose reference, rising."""
    orders: tuple[OrderCounts, ...]

    @property
    def num_pictures(self) -> int:
        """How many pictures, and captions."""
        return len(self.caption_length)


def check_pairs(captions: Sequence[object], references: Sequence[Sequence[object]]) -> None:
    """See that there is a caption, and a list of one reference or more for each.

    Raises:
        ValueError: it is not so; the message tells where.
    """
    if not captions or len(captions) != len(references):
        raise ValueError(
            "Expected as many captions as lists of references, at least one; "
            f"found {len(captions)} captions, {len(references)} lists."
        )
    for picture, each in enumerate(references):
        if isinstance(each, str):
            raise ValueError(f"Picture {picture} has a string as references: expected a list, of one or more.")
        if not each:
            raise ValueError(f"Picture {picture} has no reference: expected at least one. Leave the picture out.")


def count_ngrams(
    captions: Sequence[Words], references: Sequence[Sequence[Words]], *, max_n: int = 4, with_words: bool = False
) -> NgramCounts:
    """Count the n-grams, n = 1..max_n, of a caption a picture and of all its references; `with_words` names them too.

    Raises:
        ValueError: the two differ in number, there is none, or a picture has no reference.
    """
    check_pairs(captions, references)
    num_references = [len(each) for each in references]
    texts: list[Words] = [*captions, *chain.from_iterable(references)]
    pictures = np.concatenate([np.arange(len(captions)), np.repeat(np.arange(len(captions)), num_references)])
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    all_words = list(chain.from_iterable(texts))
    vocabulary = list(dict.fromkeys(all_words))
    number_of = {word: number for number, word in enumerate(vocabulary)}
    flat = np.fromiter(map(number_of.__getitem__, all_words), np.int64, len(all_words))

    text = np.repeat(np.arange(len(texts)), lengths)  # of each word, in which text it stands
    room = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(flat))  # and how many words there are from it on
    starts = np.arange(len(flat))
    ngram = np.zeros(len(flat), np.int64)
    orders = []
    for n in range(1, max_n + 1):
        inside = room[starts] >= n
        starts, ngram = starts[inside], ngram[inside]
        keys = ngram * len(vocabulary) + flat[starts + n - 1]
        _, first, ngram = np.unique(keys, return_index=True, return_inverse=True)
        names: tuple[tuple[str, ...], ...] = ()
        if with_words:
            names = tuple(tuple(vocabulary[each] for each in flat[at : at + n]) for at in starts[first])
        orders.append(_count_order(text[starts], ngram, pictures=pictures, num_captions=len(captions), names=names))
    return NgramCounts(
        caption_length=lengths[: len(captions)],
        reference_length=lengths[len(captions) :],
        reference_picture=pictures[len(captions) :],
        orders=tuple(orders),
    )


def _count_order(
    text: Indices, ngram: Indices, *, pictures: Indices, num_captions: int, names: tuple[tuple[str, ...], ...]
) -> OrderCounts:
    """Count one n: n-gram `ngram[i]` stands in text `text[i]`; the first `num_captions` texts are captions."""
    num_ngrams = int(ngram.max()) + 1 if len(ngram) else 0
    keys, counts = np.unique(text * num_ngrams + ngram, return_counts=True)
    num_in_captions = int(np.searchsorted(keys, num_captions * num_ngrams))
    caption_keys, reference_keys = keys[:num_in_captions], keys[num_in_captions:]
    reference_text, reference_ngram = np.divmod(reference_keys, num_ngrams) if num_ngrams else (keys, keys)
    caption_picture, caption_ngram = np.divmod(caption_keys, num_ngrams) if num_ngrams else (keys, keys)
    same = np.full(len(reference_keys), -1)
    if num_in_captions:
        wanted = pictures[reference_text] * num_ngrams + reference_ngram
        found = np.minimum(np.searchsorted(caption_keys, wanted), num_in_captions - 1)
        same = np.where(caption_keys[found] == wanted, found, -1)
    return OrderCounts(
        caption_picture=caption_picture,
        caption_ngram=caption_ngram,
        caption_count=counts[:num_in_captions],
        reference=reference_text - num_captions,
        reference_ngram=reference_ngram,
        reference_count=counts[num_in_captions:],
        same_in_caption=same,
        words=names,
        num_ngrams=num_ngrams,
    )
