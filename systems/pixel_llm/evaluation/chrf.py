"""chrF: how many runs of one to six characters a caption shares with a reference; no words are cut.

M. Popović, "chrF: character n-gram F-score for automatic MT evaluation", WMT 2015, section 2, with beta 2. It forgives
endings ("dogs" for "dog") and needs no tokenisation, so it is fair to languages that write without spaces. sacrebleu
(the extra `scores`; M. Post, "A Call for Clarity in Reporting BLEU Scores", WMT 2018) counts the runs of characters and
takes the reference that fits best; the score is one function of sums of these counts, for a caption, for the set, and
for pictures drawn anew.

Values are 0..1, like those of the other scores; sacrebleu prints the same times 100.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from systems.pixel_llm.errors import NotComputedError
from systems.pixel_llm.evaluation.ngrams import check_pairs

__all__ = ["BETA", "ChrfStatistics", "chrf_of_sums", "chrf_statistics"]

BETA = 2
"""How much more recall weighs than precision."""


@dataclass(frozen=True)
class ChrfStatistics:
    """What N captions share with their references, in characters."""

    counts: NDArray[np.float64]
    """[N, 18]: for n = 1..6 how many runs of n characters the caption has, the reference has, and both have."""
    signature: str
    """That of sacrebleu: references, letter case, orders, white space, version."""


def chrf_statistics(captions: Sequence[str], references: Sequence[Sequence[str]]) -> ChrfStatistics:
    """Count the shared runs of characters of a caption a picture and the best of its references; plain text, as it is.

    Raises:
        NotComputedError: sacrebleu is not installed.
        ValueError: the two differ in number, there is none, or a picture has no reference.
    """
    check_pairs(captions, references)
    try:
        from sacrebleu.metrics.chrf import CHRF
    except ImportError as error:
        raise NotComputedError(
            "chrF needs sacrebleu, which is not installed. Run: pip install 'pixel-llm[scores]'."
        ) from error
    metric = CHRF(beta=BETA)
    streams = list(zip_longest(*references))  # the first reference of each picture, the second, ...; None where none is
    # The counts have no public name in sacrebleu; tests compare the scores made of them with its public ones.
    counts = np.array(metric._extract_corpus_statistics(captions, streams), np.float64)
    return ChrfStatistics(counts=counts, signature=metric.get_signature().format())


def chrf_of_sums(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """[...] chrF, 0..1, of [..., 18] counts of a caption, or their sums over captions.

    Precision and recall are means over the n of which both sides have a run, as sacrebleu has it.
    """
    caption, reference, shared = (sums[..., kind::3] for kind in range(3))
    there = (caption > 0) & (reference > 0)
    orders = np.maximum(there.sum(axis=-1), 1)
    precision, recall = (
        np.divide(shared, total, out=np.zeros_like(shared), where=there).sum(axis=-1) / orders
        for total in (caption, reference)
    )
    below = BETA**2 * precision + recall
    return np.asarray(np.where(below > 0, (1 + BETA**2) * precision * recall / np.where(below > 0, below, 1), 0))
