"""How people score against each other by the same measures: the line that tells what a score can be.

Each picture's k-th reference is taken as a caption and scored against the others, for each k in turn, and the scores
are averaged over k. As that is one reference fewer than the model is scored against, and more references make higher
scores, the model is scored against the same ones too: of the two lines that come out, each picture has as many
references in one as in the other.
"""

from collections.abc import Sequence

import numpy as np

from systems.pixel_llm.evaluation.cider import DocumentFrequencies
from systems.pixel_llm.evaluation.result import HumanLine, ScoreRow
from systems.pixel_llm.evaluation.score import NAMES, CaptionScores, Score, score_captions

__all__ = ["MAX_PICTURES", "MAX_TURNS", "human_line"]

MAX_TURNS = 5
"""Of pictures with more references, as many are taken as captions; all are references."""
MAX_PICTURES = 5_000
"""Of more, so many are scored, evenly spaced."""


def human_line(
    captions: Sequence[str], references: Sequence[Sequence[str]], *, frequencies: DocumentFrequencies | None = None
) -> HumanLine:
    """Score people, and the model by its `captions`, against all references of each picture but one.

    Raises:
        ValueError: a picture has fewer than two references.
    """
    fewest = min(map(len, references))
    if fewest < 2:
        raise ValueError(f"Expected two references or more of each picture; found one with {fewest}.")
    step = -(-len(captions) // MAX_PICTURES)
    captions, references = captions[::step], references[::step]
    human, model = [], []
    for left_out in range(min(fewest, MAX_TURNS)):
        others = [[each for index, each in enumerate(of) if index != left_out] for of in references]
        human.append(score_captions([of[left_out] for of in references], others, frequencies=frequencies))
        model.append(score_captions(captions, others, frequencies=frequencies))
    most = max(map(len, references))
    told = str(fewest) if fewest == most else f"{fewest} to {most}"
    return HumanLine(
        human=ScoreRow(label=f"one of {told} references against the others, each in turn", scores=_means(human)),
        model=ScoreRow(label="the model against the same references, one fewer than it has", scores=_means(model)),
    )


def _means(turns: Sequence[CaptionScores]) -> tuple[Score, ...]:
    values = np.mean([each.values for each in turns], axis=0)
    return tuple(
        Score(name, float(value), f"leave-one-out:{len(turns)}|{turns[0].signature(name)}", None)
        for name, value in zip(NAMES, values, strict=True)
    )
