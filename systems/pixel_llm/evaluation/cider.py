"""CIDEr and CIDEr-D: how alike a caption is to what people say of the same picture, words that suit any picture aside.

R. Vedantam et al., "CIDEr: Consensus-based Image Description Evaluation", CVPR 2015. A caption is a vector over its
n-grams, each weighted by how often it stands there times the logarithm of how few pictures it is said of (section 4,
equation 1). CIDEr is the cosine to each reference, averaged over references and n = 1..4 (equations 2 and 3). CIDEr-D
(section 8, equation 4) is harder to cheat: a weight counts up to that in the reference only, and captions of another
length are worth less, by a Gaussian with sigma 6. Both times 10, without stemming, which is what the COCO evaluation
calls CIDEr (it computes CIDEr-D).

How rare an n-gram is, is counted over the references themselves, or comes from `DocumentFrequencies` of a larger set. A
score from few pictures means little: `caveat` says so in words.
"""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from systems.pixel_llm.errors import DatasetError
from systems.pixel_llm.evaluation.ngrams import NgramCounts, OrderCounts, Words
from systems.pixel_llm.evaluation.words import TOKENIZER

__all__ = ["FEW_PICTURES", "SIGMA", "DocumentFrequencies", "caveat", "cider"]

SIGMA = 6.0
"""Words; the spread of the penalty for another length in CIDEr-D."""
FEW_PICTURES = 100
"""Below this many pictures, most n-grams are as rare as can be, and `caveat` speaks up. A rule of thumb."""

_FORMAT = "pixel-llm document frequencies 1"


def cider(
    counts: NgramCounts,
    *,
    variant: Literal["CIDEr-D", "CIDEr"] = "CIDEr-D",
    frequencies: "DocumentFrequencies | None" = None,
) -> NDArray[np.float64]:
    """[N] CIDEr-D of each caption, 0..10; the score of the set is their mean.

    `frequencies` other than those of the references need `counts` made with `with_words=True`.

    Raises:
        ValueError: the variant has another name, or `counts` lack the words that `frequencies` are asked for.
    """
    if variant not in ("CIDEr-D", "CIDEr"):
        raise ValueError(f"Expected variant='CIDEr-D' or 'CIDEr'; found {variant!r}.")
    num_pictures = counts.num_pictures if frequencies is None else frequencies.num_pictures
    likeness = np.zeros(len(counts.reference_picture))
    for order in counts.orders:
        found_in = _pictures_with(order, counts) if frequencies is None else _looked_up(order, frequencies)
        rarity = math.log(num_pictures) - np.log(np.maximum(found_in, 1))
        likeness += _likeness(order, counts, rarity=rarity, clipped=variant == "CIDEr-D")
    likeness *= 10 / len(counts.orders)
    if variant == "CIDEr-D":
        difference = counts.caption_length[counts.reference_picture] - counts.reference_length
        likeness *= np.exp(-(difference**2) / (2 * SIGMA**2))
    num_references = np.bincount(counts.reference_picture, minlength=counts.num_pictures)
    return np.asarray(np.bincount(counts.reference_picture, likeness, counts.num_pictures) / num_references)


def _pictures_with(order: OrderCounts, counts: NgramCounts) -> NDArray[np.int64]:
    """[num_ngrams] of how many pictures a reference has the n-gram."""
    keys = np.unique(counts.reference_picture[order.reference] * order.num_ngrams + order.reference_ngram)
    return np.bincount(keys % order.num_ngrams if len(keys) else keys, minlength=order.num_ngrams)


def _looked_up(order: OrderCounts, frequencies: "DocumentFrequencies") -> NDArray[np.int64]:
    if len(order.words) != order.num_ngrams:
        raise ValueError("Expected counts that know their words, to look them up; make them with with_words=True.")
    found = [frequencies.pictures_with.get(" ".join(words), 0) for words in order.words]
    return np.array(found, np.int64)


def _likeness(
    order: OrderCounts, counts: NgramCounts, *, rarity: NDArray[np.float64], clipped: bool
) -> NDArray[np.float64]:
    """[all references] the cosine between the vector of a caption and that of its reference, clipped for CIDEr-D."""
    caption_weight = order.caption_count * rarity[order.caption_ngram]
    reference_weight = order.reference_count * rarity[order.reference_ngram]
    caption_norm = np.sqrt(np.bincount(order.caption_picture, caption_weight**2, counts.num_pictures))
    num_references = len(counts.reference_picture)
    reference_norm = np.sqrt(np.bincount(order.reference, reference_weight**2, num_references))

    there = order.same_in_caption >= 0
    same = caption_weight[order.same_in_caption[there]]
    reference_weight = reference_weight[there]
    product = (np.minimum(same, reference_weight) if clipped else same) * reference_weight
    dot = np.bincount(order.reference[there], product, num_references)
    norms = caption_norm[counts.reference_picture] * reference_norm
    return np.divide(dot, norms, out=np.zeros(num_references), where=norms > 0)


def caveat(num_pictures: int) -> str | None:
    """A sentence for the reader where CIDEr over so many pictures means little, or None."""
    if num_pictures == 1:
        return "CIDEr of one picture is always 0: no word is rarer than another. Score more pictures."
    if num_pictures < FEW_PICTURES:
        return (
            f"CIDEr over {num_pictures} pictures means little, and cannot be compared with that of another set: which "
            f"words are rare is counted over these. Score {FEW_PICTURES} or more, or give document frequencies."
        )
    return None


@dataclass(frozen=True)
class DocumentFrequencies:
    """Of how many pictures each n-gram is said, n = 1..4: counted over references, kept in a file of JSON."""

    num_pictures: int
    pictures_with: dict[str, int]
    """Words joined by a space -> pictures."""

    @classmethod
    def count(cls, references: Sequence[Sequence[Words]], *, max_n: int = 4) -> "DocumentFrequencies":
        """Count over the references of each picture."""
        found: Counter[str] = Counter()
        for each in references:
            found.update({" ".join(words[i:j]) for words in each for i, j in _spans(len(words), max_n)})
        return cls(num_pictures=len(references), pictures_with=dict(found))

    def save(self, path: Path) -> None:
        """Write the file."""
        content = {
            "format": _FORMAT,
            "tokenizer": TOKENIZER,
            "num_pictures": self.num_pictures,
            "pictures_with": self.pictures_with,
        }
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "DocumentFrequencies":
        """Read the file.

        Raises:
            DatasetError: it is not such a file, or its words were cut by another tokenisation.
        """
        cure = "Count them again with DocumentFrequencies.count(...).save(...)."
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise DatasetError(f"{path} cannot be read as document frequencies: {error}. {cure}") from error
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise DatasetError(f"{path} holds no document frequencies: expected format {_FORMAT!r}. {cure}")
        if content.get("tokenizer") != TOKENIZER:
            raise DatasetError(f"{path} is of tokenizer {content.get('tokenizer')!r}: expected {TOKENIZER!r}. {cure}")
        num_pictures, pictures_with = content.get("num_pictures", 0), content.get("pictures_with")
        if not (
            _is_count(num_pictures)
            and isinstance(pictures_with, dict)
            and all(_is_count(each) and each <= num_pictures for each in pictures_with.values())
        ):
            raise DatasetError(f"{path} is damaged: expected counts of 1 to num_pictures pictures. {cure}")
        return cls(num_pictures=num_pictures, pictures_with=pictures_with)


def _spans(length: int, max_n: int) -> list[tuple[int, int]]:
    return [(start, start + n) for n in range(1, max_n + 1) for start in range(length - n + 1)]


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
