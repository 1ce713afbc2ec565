"""The scores that need more than this package: chrF, METEOR, SPICE, CLIPScore, RefCLIPScore; each where it can be had.

What cannot be computed is never 0: it has a reason in place of a value, a sentence that says what to install or to
pass. Scores have the form of those of `evaluation.score`, and intervals from the same draws of pictures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from systems.pixel_llm import __version__
from systems.pixel_llm.errors import NotComputedError
from systems.pixel_llm.evaluation.bootstrap import interval_of_sums
from systems.pixel_llm.evaluation.chrf import chrf_of_sums, chrf_statistics
from systems.pixel_llm.evaluation.clip_score import PROMPT, WEIGHT, Picture, clip_scores
from systems.pixel_llm.evaluation.java_scores import meteor_statistics, spice
from systems.pixel_llm.evaluation.meteor import SETTINGS, meteor_of_sums
from systems.pixel_llm.evaluation.ngrams import check_pairs
from systems.pixel_llm.evaluation.score import Score, how_many
from systems.pixel_llm.evaluation.words import TOKENIZER

__all__ = ["OPTIONAL_NAMES", "OptionalScores", "optional_scores"]

OPTIONAL_NAMES = ("chrf", "meteor", "spice", "clip_score", "ref_clip_score")
"""The scores, in the order in which they are given."""


@dataclass(frozen=True)
class OptionalScores:
    """What could be computed, and why the rest could not; each of OPTIONAL_NAMES is in one of the two."""

    scores: list[Score]
    """In the order of OPTIONAL_NAMES."""
    per_picture: dict[str, NDArray[np.float64]]
    """Name -> [N]; chrF and METEOR of the set are no means of these."""
    not_computed: dict[str, str]
    """Name -> a sentence or two: what is missing, and what to do."""


@dataclass(frozen=True)
class _Sums:
    """A score as a function of sums over pictures."""

    contributions: NDArray[np.float64]
    """[N, C]"""
    of_sums: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    """[..., C] -> [...]"""
    settings: str
    """What stands first in the signature."""


def optional_scores(
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    pictures: Sequence[Picture] | None = None,
    clip_folder: str | Path | None = None,
    num_draws: int = 1000,
    seed: int = 0,
) -> OptionalScores:
    """Compute each of OPTIONAL_NAMES that can be, for one caption a picture; plain text, cut into words where needed.

    Nothing is fetched from anywhere. METEOR takes some ten seconds to start, SPICE a minute.

    Args:
        captions: N of them.
        references: N lists, of one or more each.
        pictures: N of them, for CLIPScore and RefCLIPScore.
        clip_folder: a CLIP model as Hugging Face lays it out, for the same.
        num_draws: draws of pictures for the intervals; 0 for none.
        seed: of the draws.

    Raises:
        ValueError: captions, references and pictures differ in number, there is none, or a picture has no reference.
    """
    check_pairs(captions, references)
    if pictures is not None and len(pictures) != len(captions):
        raise ValueError(f"Expected a picture a caption; found {len(pictures)} pictures, {len(captions)} captions.")
    num_references = [len(each) for each in references]
    counts = f"pictures:{len(captions)}|refs:{how_many((min(num_references), max(num_references)))}"
    computed: dict[str, _Sums] = {}
    not_computed: dict[str, str] = {}
    for names, compute in {
        ("chrf",): lambda: _chrf(captions, references),
        ("meteor",): lambda: _meteor(captions, references),
        ("spice",): lambda: _spice(captions, references),
        ("clip_score", "ref_clip_score"): lambda: _clip(pictures, captions, references, clip_folder),
    }.items():
        try:
            computed |= zip(names, compute(), strict=True)
        except NotComputedError as error:
            not_computed |= dict.fromkeys(names, str(error))
    scores = []
    for name, parts in computed.items():
        value = float(parts.of_sums(parts.contributions.sum(axis=0)))
        interval = None
        if num_draws:
            interval = interval_of_sums(parts.contributions, parts.of_sums, num_draws=num_draws, seed=seed)
        scores.append(Score(name, value, f"{parts.settings}|{counts}|pixel-llm:{__version__}", interval))
    per_picture = {name: parts.of_sums(parts.contributions) for name, parts in computed.items()}
    return OptionalScores(scores=scores, per_picture=per_picture, not_computed=not_computed)


def _chrf(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[_Sums]:
    statistics = chrf_statistics(captions, references)
    return [_Sums(statistics.counts, chrf_of_sums, f"sacrebleu:chrF2|{statistics.signature}|scale:0..1")]


def _meteor(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[_Sums]:
    settings = f"program:meteor-1.5|lang:en|norm:yes|{SETTINGS}|tok:{TOKENIZER}"
    return [_Sums(meteor_statistics(captions, references), meteor_of_sums, settings)]


def _spice(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[_Sums]:
    return [_mean(spice(captions, references), f"program:spice-1.0|tok:{TOKENIZER}")]


def _clip(
    pictures: Sequence[Picture] | None,
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    folder: str | Path | None,
) -> list[_Sums]:
    if pictures is None:
        raise NotComputedError("CLIPScore looks at the pictures, and there are none: pass them as pictures=.")
    if folder is None:
        raise NotComputedError(
            "CLIPScore needs the weights of a CLIP model on this machine: pass clip_folder=, such as a copy of "
            "openai/clip-vit-base-patch32 with model.safetensors."
        )
    found = clip_scores(pictures, captions, references, folder=folder)
    settings = f"w:{WEIGHT}|prompt:{PROMPT.strip().replace(' ', '_')}|weights:{found.weights}|library:{found.library}"
    return [_mean(found.clip_score, settings), _mean(found.ref_clip_score, f"{settings}|with:references")]


def _mean(values: NDArray[np.float64], settings: str) -> _Sums:
    """A score that is the mean over pictures: sums of values over sums of ones."""
    return _Sums(np.column_stack([values, np.ones(len(values))]), lambda sums: sums[..., 0] / sums[..., 1], settings)
