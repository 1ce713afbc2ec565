"""What an evaluation found, as records: captions a picture, scores a row, and all that must be said beside them.

`EvaluationResult` is what `evaluate.py` makes, `evaluation_files.py` keeps on disk, and the command line prints. No
torch is loaded by this module.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from systems.pixel_llm.evaluation.diversity import Diversity
from systems.pixel_llm.evaluation.score import Score

__all__ = ["EvaluationResult", "HumanLine", "PictureResult", "ScoreRow", "SkippedPicture"]


@dataclass(frozen=True, kw_only=True)
class PictureResult:
    """One picture: what the model says of it, what people say, and how well the two agree."""

    image: str
    """Absolute path of the picture."""
    caption: str
    references: tuple[str, ...]
    log_probability: float
    """Of the caption under the model, in nats: the sum over its tokens, end mark included."""
    cider_d: float
    """0..10; it depends on the other pictures too, which say what words are rare."""


@dataclass(frozen=True, kw_only=True)
class SkippedPicture:
    """A picture that could not be read."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """The scores of one way to caption the pictures."""

    label: str
    """What it is, in words."""
    scores: tuple[Score, ...]
    caption: str | None = None
    """The caption, where all pictures get the same."""

    def score(self, name: str) -> Score | None:
        """The score of that name, such as "CIDEr-D", if it is there."""
        return next((each for each in self.scores if each.name == name), None)


@dataclass(frozen=True, kw_only=True)
class HumanLine:
    """One person's captions against those of the others, and the model against just as many."""

    human: ScoreRow
    model: ScoreRow


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """All of it."""

    run: str
    """The run or model as it was named."""
    checkpoint: str
    """The folder of weights that it stands for."""
    data: tuple[str, ...]
    """The folders of the pictures."""
    split: str
    """Which of their pictures: "all", "train", "val" or "test"."""
    date: str
    """When, in UTC, as ISO 8601 has it."""
    generation: Mapping[str, object]
    """The settings by which captions were made."""
    pictures: tuple[PictureResult, ...]
    scores: tuple[Score, ...]
    """Of the model."""
    baselines: Mapping[str, ScoreRow] = field(default_factory=dict)
    """`constant` and `nearest`, as far as they could be computed."""
    human: HumanLine | None = None
    diversity: Diversity
    not_computed: Mapping[str, str] = field(default_factory=dict)
    """Of scores, baselines and the human line, by their keys in `scores.json`: why one is missing."""
    caveats: tuple[str, ...] = ()
    """Sentences for the reader: where a number means less than it seems to."""
    skipped: tuple[SkippedPicture, ...] = ()
    """Pictures that could not be read. They are not among `pictures`."""

    def score(self, name: str) -> Score | None:
        """The model's score of that name, such as "CIDEr-D", if it is there."""
        return ScoreRow(label="", scores=self.scores).score(name)
