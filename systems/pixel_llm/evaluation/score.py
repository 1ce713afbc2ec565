"""Scores of captions with their signatures and 95 % intervals, and whether one run is better than another.

`score_captions` cuts captions and references into words and keeps what each picture contributes to each score: counts
for BLEU, the value for ROUGE-L and CIDEr-D. From these, `CaptionScores.scores` makes a `Score` each, with an interval
from drawing the pictures anew, with replacement, a thousand times (B. Efron and R. Tibshirani, "An Introduction to the
Bootstrap", 1993, chapter 13, percentiles); each time costs one row of a matrix product. `compare` does the same for two
runs on the same pictures, drawing the same ones for both: P. Koehn, "Statistical Significance Tests for Machine
Translation Evaluation", EMNLP 2004, on paired bootstrap resampling; with the draws moved to where there is no
difference, as S. Riezler and J. Maxwell, "On Some Pitfalls in Automatic Evaluation and Significance Testing for MT",
2005, have it.

The intervals tell what other pictures of the same kind would change. Word rarity in CIDEr-D is held fixed over the
draws, and what another seed of training would change is not in them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from systems.pixel_llm import __version__
from systems.pixel_llm.evaluation.bleu import BleuStatistics, bleu_scores, bleu_statistics
from systems.pixel_llm.evaluation.bootstrap import draws, percentile_interval
from systems.pixel_llm.evaluation.cider import SIGMA, DocumentFrequencies, cider
from systems.pixel_llm.evaluation.ngrams import check_pairs, count_ngrams
from systems.pixel_llm.evaluation.rouge import BETA, rouge_l
from systems.pixel_llm.evaluation.words import TOKENIZER, tokenize_captions

__all__ = ["NAMES", "CaptionScores", "Difference", "Score", "compare", "how_many", "score_captions"]

NAMES = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D")
"""The scores, in the order of all arrays here."""


@dataclass(frozen=True)
class Score:
    """One number and all that must be known to compare it."""

    name: str
    value: float
    """0..1, CIDEr-D 0..10, CLIPScore 0..2.5."""
    signature: str
    """Settings, number of pictures and references, tokenisation and library version, joined by `|`."""
    interval: tuple[float, float] | None
    """The 95 % interval over pictures; None where it was not asked for."""

    def __str__(self) -> str:
        within = "" if self.interval is None else f" [{self.interval[0]:.4f}, {self.interval[1]:.4f}]"
        return f"{self.name} {self.value:.4f}{within} ({self.signature})"


@dataclass(frozen=True)
class Difference:
    """How much higher one run scores than another on the same pictures."""

    name: str
    value: float
    """Score of the first less score of the second."""
    interval: tuple[float, float]
    """The 95 % interval over pictures."""
    p_value: float
    """0..1: how often chance alone would give as large a difference, of either sign, were there none."""


@dataclass(frozen=True)
class CaptionScores:
    """What each of N pictures contributes to each score."""

    bleu: BleuStatistics
    rouge_l: NDArray[np.float64]
    """[N]"""
    cider_d: NDArray[np.float64]
    """[N]"""
    references_a_picture: tuple[int, int]
    """The fewest and the most."""
    frequencies: str
    """Where word rarity comes from: `references`, or `N-pictures` of a file."""

    @property
    def num_pictures(self) -> int:
        """How many pictures were captioned."""
        return len(self.rouge_l)

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """[6] the scores of all pictures, in the order of NAMES."""
        return _scores_of_sums(self._contributions.sum(axis=0), self.num_pictures)

    @cached_property
    def per_picture(self) -> NDArray[np.float64]:
        """[N, 6] the scores of each picture by itself, in the order of NAMES; BLEU does not average to the whole."""
        return np.column_stack([self.bleu.per_caption(), self.rouge_l, self.cider_d])

    def scores(self, *, num_draws: int = 1000, seed: int = 0) -> list[Score]:
        """A Score for each of NAMES; intervals from `num_draws` draws of the pictures, none where that is 0.

        Raises:
            ValueError: `num_draws` is negative.
        """
        intervals: list[tuple[float, float] | None] = [None] * len(NAMES)
        if num_draws:
            drawn = _drawn_scores([self], num_draws=num_draws, seed=seed)[0]
            intervals = [percentile_interval(drawn[:, index]) for index in range(len(NAMES))]
        return [
            Score(name, float(value), self.signature(name), interval)
            for name, value, interval in zip(NAMES, self.values, intervals, strict=True)
        ]

    def signature(self, name: str) -> str:
        """What must be the same for two values of the score `name` to be comparable.

        Raises:
            ValueError: there is no such score.
        """
        if name not in NAMES:
            raise ValueError(f"Expected one of {', '.join(NAMES)}; found {name!r}.")
        settings = {
            "BLEU": f"n:{name[-1]}|length:closest",
            "ROUGE": f"beta:{BETA}",
            "CIDEr": f"n:4|sigma:{SIGMA:g}|df:{self.frequencies}",
        }[name.partition("-")[0]]
        counts = f"pictures:{self.num_pictures}|refs:{how_many(self.references_a_picture)}"
        return f"{settings}|{counts}|tok:{TOKENIZER}|version:{__version__}"

    @cached_property
    def _contributions(self) -> NDArray[np.float64]:
        """[N, 12] columns of which sums make scores: matches and totals of BLEU, two lengths, ROUGE-L, CIDEr-D."""
        bleu = self.bleu
        return np.column_stack(
            [bleu.matches, bleu.totals, bleu.caption_length, bleu.reference_length, self.rouge_l, self.cider_d]
        ).astype(np.float64)


def score_captions(
    captions: Sequence[str], references: Sequence[Sequence[str]], *, frequencies: DocumentFrequencies | None = None
) -> CaptionScores:
    """Score one caption a picture against the references of the picture, one or more; plain text, cut into words here.

    `frequencies` say how rare words are for CIDEr-D, in place of `references`.

    Raises:
        ValueError: the two differ in number, there is none, or a picture has no reference.
    """
    check_pairs(captions, references)
    said = tokenize_captions(captions)
    wanted = [tokenize_captions(each) for each in references]
    counts = count_ngrams(said, wanted, with_words=frequencies is not None)
    num_references = [len(each) for each in references]
    return CaptionScores(
        bleu=bleu_statistics(counts),
        rouge_l=rouge_l(said, wanted),
        cider_d=cider(counts, frequencies=frequencies),
        references_a_picture=(min(num_references), max(num_references)),
        frequencies="references" if frequencies is None else f"{frequencies.num_pictures}-pictures",
    )


def how_many(fewest_and_most: tuple[int, int]) -> str:
    """`5`, or `4-6` where they differ: how many references a picture has, for signatures."""
    fewest, most = fewest_and_most
    return str(fewest) if fewest == most else f"{fewest}-{most}"


def compare(one: CaptionScores, other: CaptionScores, *, num_draws: int = 1000, seed: int = 0) -> list[Difference]:
    """How much higher `one` scores than `other`, for each of NAMES; both of the same pictures in the same order.

    The p value is two-sided: the share of draws whose difference is as far from the found one as that is from zero.

    Raises:
        ValueError: they differ in pictures, references or word rarity; or `num_draws` is below 1.
    """
    for name in NAMES:
        if one.signature(name) != other.signature(name):
            raise ValueError(
                f"Expected two runs scored alike; found {one.signature(name)} and {other.signature(name)}. "
                "Score both on the same pictures and references."
            )
    drawn_one, drawn_other = _drawn_scores([one, other], num_draws=num_draws, seed=seed)
    drawn, found = drawn_one - drawn_other, one.values - other.values
    as_far = (np.abs(drawn - found) >= np.abs(found)).sum(axis=0)
    return [
        Difference(
            name,
            float(found[index]),
            percentile_interval(drawn[:, index]),
            float((as_far[index] + 1) / (num_draws + 1)),
        )
        for index, name in enumerate(NAMES)
    ]


def _drawn_scores(runs: Sequence[CaptionScores], *, num_draws: int, seed: int) -> list[NDArray[np.float64]]:
    """[num_draws, 6] for each run: its scores on pictures drawn with replacement, the same draws for all runs."""
    num_pictures = runs[0].num_pictures
    scores: list[list[NDArray[np.float64]]] = [[] for _ in runs]
    for times in draws(num_pictures, num_draws=num_draws, seed=seed):
        for run, parts in zip(runs, scores, strict=True):
            parts.append(_scores_of_sums(times @ run._contributions, num_pictures))
    return [np.concatenate(parts) for parts in scores]


def _scores_of_sums(sums: NDArray[np.float64], num_pictures: int) -> NDArray[np.float64]:
    """[..., 6] scores of [..., 12] summed contributions."""
    bleu = bleu_scores(sums[..., 0:4], sums[..., 4:8], sums[..., 8], sums[..., 9])
    return np.concatenate([bleu, sums[..., 10:] / num_pictures], axis=-1)
