"""The caption that agrees best with what all others say: of a whole training set, or of one picture's own captions.

`best_constant_caption` is the caption to say of every picture without looking at it, the least that a model has to
beat: each of some training captions is scored by CIDEr-D against the references of all other training pictures, and the
best is taken. Pictures of a test are never asked. `central_captions` takes from each picture's captions the one nearest
to the rest (J. Devlin et al., "Exploring Nearest Neighbor Approaches for Image Captioning", 2015).

Both take words' rarity from the captions that they are given. No torch is loaded by this module.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from systems.pixel_llm.evaluation.cider import SIGMA, cider
from systems.pixel_llm.evaluation.ngrams import NgramCounts, OrderCounts, count_ngrams
from systems.pixel_llm.evaluation.words import tokenize_captions

__all__ = ["ConstantCaption", "best_constant_caption", "central_captions"]


@dataclass(frozen=True, kw_only=True)
class ConstantCaption:
    """A caption for every picture, and where it comes from."""

    caption: str
    cider_d: float
    """Mean over the training pictures other than its own, 0..10."""
    num_candidates: int
    """Of how many training captions it is the best."""
    num_pictures: int
    """Against the references of how many training pictures."""


def best_constant_caption(
    references: Sequence[Sequence[str]], *, max_candidates: int = 1_000, seed: int = 0
) -> ConstantCaption:
    """The caption with the highest mean CIDEr-D over all pictures but its own, the first of several as good.

    `references` are the captions of each training picture; of all of them `max_candidates` are drawn and tried.

    Raises:
        ValueError: there is no picture, or one without a caption.
    """
    words = [tokenize_captions(each) for each in references]
    texts = [caption for each in references for caption in each]
    counts = count_ngrams([each[0] if each else [] for each in words], words)
    firsts = list(dict(zip(reversed(texts), reversed(range(len(texts))), strict=True)).values())  # one of each text
    drawn = np.sort(firsts)
    if len(firsts) > max_candidates:
        drawn = np.sort(np.random.default_rng(seed).choice(drawn, max_candidates, replace=False))
    scores = _mean_cider_d(counts, drawn)
    best = int(scores.argmax())
    return ConstantCaption(
        caption=texts[drawn[best]],
        cider_d=float(scores[best]),
        num_candidates=len(drawn),
        num_pictures=len(references),
    )


def _mean_cider_d(counts: NgramCounts, candidates: NDArray[np.int64]) -> NDArray[np.float64]:
    """[candidates] for references by number: the mean CIDEr-D over the pictures that they do not belong to."""
    vectors = [_ReferenceVectors(order, counts) for order in counts.orders]
    num_references = np.bincount(counts.reference_picture, minlength=counts.num_pictures)
    share = 1 / num_references[counts.reference_picture]  # each picture counts once, however many references it has
    lengths = counts.reference_length
    scores = np.zeros(len(candidates))
    for place, candidate in enumerate(candidates):
        likeness = np.sum([each.likeness_to_all(candidate) for each in vectors], axis=0) * 10 / len(vectors)
        likeness *= np.exp(-((lengths[candidate] - lengths) ** 2) / (2 * SIGMA**2))
        likeness[counts.reference_picture == counts.reference_picture[candidate]] = 0
        scores[place] = likeness @ share / max(1, counts.num_pictures - 1)
    return scores


class _ReferenceVectors:
    """All references as vectors over the n-grams of one n, to be looked up by reference and by n-gram."""

    def __init__(self, order: OrderCounts, counts: NgramCounts) -> None:
        num_references = len(counts.reference_picture)
        pictures = counts.reference_picture[order.reference]
        found = np.unique(pictures * max(1, order.num_ngrams) + order.reference_ngram)
        found_in = np.bincount(found % max(1, order.num_ngrams), minlength=order.num_ngrams)
        rarity = math.log(counts.num_pictures) - np.log(np.maximum(found_in, 1))
        self._ngram, self._weight = order.reference_ngram, order.reference_count * rarity[order.reference_ngram]
        self._norm = np.sqrt(np.bincount(order.reference, self._weight**2, num_references))
        self._starts = np.searchsorted(order.reference, np.arange(num_references + 1))
        by_ngram = np.argsort(self._ngram, kind="stable")
        self._reference_by_ngram, self._weight_by_ngram = order.reference[by_ngram], self._weight[by_ngram]
        self._ngram_starts = np.searchsorted(self._ngram[by_ngram], np.arange(order.num_ngrams + 1))

    def likeness_to_all(self, candidate: int) -> NDArray[np.float64]:
        """[all references] the cosine to each, with weights clipped to those of the reference, as CIDEr-D has it."""
        own = slice(self._starts[candidate], self._starts[candidate + 1])
        ngrams, weights = self._ngram[own], self._weight[own]
        first, counts = self._ngram_starts[ngrams], self._ngram_starts[ngrams + 1] - self._ngram_starts[ngrams]
        ends = np.cumsum(counts)
        places = np.repeat(first - (ends - counts), counts) + np.arange(counts.sum())
        others = self._weight_by_ngram[places]
        product = np.minimum(np.repeat(weights, counts), others) * others
        dot = np.bincount(self._reference_by_ngram[places], product, len(self._norm))
        norms = self._norm[candidate] * self._norm
        return np.divide(dot, norms, out=np.zeros(len(dot)), where=norms > 0)


def central_captions(references: Sequence[Sequence[str]]) -> list[str]:
    """Of each picture's captions, at least one, that with the best CIDEr-D against its others; the first of equals."""
    chosen = [each[0] for each in references]
    several = [picture for picture, each in enumerate(references) if len(each) > 2]  # of two, each is as near as other
    if not several:
        return chosen
    words = [tokenize_captions(references[picture]) for picture in several]
    left_out = [(picture, place) for picture, each in enumerate(words) for place in range(len(each))]
    counts = count_ngrams(
        [words[picture][place] for picture, place in left_out],
        [[other for index, other in enumerate(words[picture]) if index != place] for picture, place in left_out],
    )
    scores, start = cider(counts), 0
    for picture, each in zip(several, words, strict=True):
        chosen[picture] = references[picture][int(scores[start : start + len(each)].argmax())]
        start += len(each)
    return chosen
