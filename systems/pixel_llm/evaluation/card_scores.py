"""The scores and captions of a run's `evaluation/` folder, as far as a model card tells them.

`read_scores` reads every `scores.json`: that in the folder itself, which training leaves there, and those of other data
in folders below. `read_examples` takes three pictures from `captions.jsonl`: one that the model
captions well, a middling one, and one that it captions badly, by CIDEr-D, so that nobody is shown the best only. Where
a run was not evaluated, the last pictures of `panel.jsonl` stand in, unchosen. No torch is loaded by this module.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from systems.pixel_llm.errors import DatasetError
from systems.pixel_llm.evaluation.evaluation_files import CAPTIONS_FILE, FORMAT, SCORES_FILE
from systems.pixel_llm.evaluation.run_files import RunFolder

__all__ = ["CardScores", "Example", "Row", "ScoreLine", "read_examples", "read_scores"]

NUM_EXAMPLES = 3
QUANTILES = ((0.9, "a good one"), (0.5, "a middling one"), (0.1, "a bad one"))
"""Of the pictures ordered by score: where the examples are taken, and what is said of each."""
TITLES = {
    **{f"bleu_{n}": f"BLEU-{n}" for n in range(1, 5)},
    "rouge_l": "ROUGE-L",
    "cider_d": "CIDEr-D",
    "chrf": "chrF",
    "meteor": "METEOR",
    "spice": "SPICE",
    "clip_score": "CLIPScore",
}
METRIC_TYPES = {"rouge_l": "rouge", "cider_d": "cider", "clip_score": "clip_score"}
"""The metric as model hubs know it, where it is not the key without its number."""


@dataclass(frozen=True, kw_only=True)
class ScoreLine:
    """One score of the model."""

    key: str
    """As in the file: "cider_d"."""
    value: float
    interval: tuple[float, float] | None
    """95 % interval over pictures."""
    signature: str

    @property
    def title(self) -> str:
        """The name that people know."""
        return TITLES.get(self.key, self.key)

    @property
    def metric_type(self) -> str:
        """The name of the metric for a model hub: "bleu"."""
        return METRIC_TYPES.get(self.key, re.sub(r"_\d+$", "", self.key))


@dataclass(frozen=True, kw_only=True)
class Row:
    """The scores of something that the model is compared with."""

    key: str
    """`constant`, `nearest` or `human`."""
    values: Mapping[str, float]
    """Score key -> value."""
    caption: str | None
    """The caption, where all pictures get the same."""


@dataclass(frozen=True, kw_only=True)
class CardScores:
    """What one evaluation found."""

    folder: Path
    """Where its files are."""
    checkpoint: str
    data: tuple[str, ...]
    """The names of the data folders."""
    split: str | None
    """Which of their pictures: "all", "train", "val" or "test"; None where the file does not say."""
    num_pictures: int
    date: str
    generation: Mapping[str, Any]
    """The settings by which captions were made."""
    scores: tuple[ScoreLine, ...]
    rows: tuple[Row, ...]
    not_computed: Mapping[str, str]
    copied_share: float | None
    """0..1, captions that are training captions word for word."""
    distinct_captions: float | None
    """0..1, different captions over all."""
    caveats: tuple[str, ...]

    def worse_than(self, key: str) -> list[Row]:
        """The baselines whose score `key` is above the model's interval."""
        return [row for row, _, high in self._baselines(key) if row.values[key] > high]

    def not_surely_better_than(self, key: str) -> list[Row]:
        """The baselines whose score `key` is within the model's interval."""
        return [row for row, low, high in self._baselines(key) if low <= row.values[key] <= high]

    def _baselines(self, key: str) -> Iterator[tuple[Row, float, float]]:
        """Each row that has the score, people left out, and the model's interval."""
        for line in self.scores:
            if line.key == key:
                low, high = line.interval or (line.value, line.value)
                yield from ((row, low, high) for row in self.rows if row.key != "human" and key in row.values)


@dataclass(frozen=True, kw_only=True)
class Example:
    """A picture never trained on, and what the model says of it."""

    image: str
    """The name of its file."""
    caption: str
    references: tuple[str, ...]
    kind: str | None
    """Where it was chosen by its score: how good it is."""


def read_scores(run: Path) -> tuple[CardScores, ...]:
    """The scores of the run on all data that it was evaluated on, those that training left first.

    Raises:
        DatasetError: a file is damaged or of another format.
    """
    folder = RunFolder(run).evaluation
    below = sorted(folder.glob(f"*/{SCORES_FILE}"))
    return tuple(_read_scores(path) for path in (folder / SCORES_FILE, *below) if path.is_file())


def _read_scores(path: Path) -> CardScores:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r:.80}, not {FORMAT!r}")
        return _scores_of(content, path.parent)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DatasetError(
            f"{path} is not readable as scores ({error!r:.200}). Make it again with pixel-llm evaluate."
        ) from error


def _scores_of(content: dict[str, Any], folder: Path) -> CardScores:
    data = content["data"]
    rows = [_row_of(key, row) for key, row in content.get("baselines", {}).items()]
    if content.get("human") is not None:
        rows.append(_row_of("human", content["human"]))
    diversity = content.get("diversity") or {}
    return CardScores(
        folder=folder,
        checkpoint=str(content["checkpoint"]),
        data=tuple(Path(name).name for name in ([data] if isinstance(data, str) else data)),
        split=content.get("split"),
        num_pictures=int(content["num_pictures"]),
        date=str(content["date"]),
        generation=dict(content.get("generation") or {}),
        scores=tuple(
            ScoreLine(
                key=key,
                value=float(score["value"]),
                interval=None
                if score["interval"] is None
                else (float(score["interval"][0]), float(score["interval"][1])),
                signature=str(score["signature"]),
            )
            for key, score in content["scores"].items()
        ),
        rows=tuple(rows),
        not_computed={str(key): str(reason) for key, reason in (content.get("not_computed") or {}).items()},
        copied_share=diversity.get("copied_share"),
        distinct_captions=diversity.get("distinct_captions"),
        caveats=tuple(map(str, content.get("caveats") or ())),
    )


def _row_of(key: str, row: dict[str, Any]) -> Row:
    return Row(
        key=key,
        values={name: float(score["value"]) for name, score in row["scores"].items()},
        caption=row.get("caption"),
    )


def read_examples(run: Path, scores: CardScores | None, *, step: int | None) -> tuple[Example, ...]:
    """Three captions by a checkpoint, or none.

    Args:
        run: the run folder.
        scores: an evaluation of the checkpoint, if there is one.
        step: the step of the checkpoint, whose validation the captions of `panel.jsonl` must be from.

    Raises:
        DatasetError: a file is damaged.
    """
    if scores is not None and (path := scores.folder / CAPTIONS_FILE).is_file():
        records = sorted(_read_lines(path), key=lambda record: record.get("cider_d") or 0.0)
        places = [(round(quantile * (len(records) - 1)), kind) for quantile, kind in QUANTILES]
        chosen = {place: (records[place], kind) for place, kind in reversed(places)} if records else {}
        return tuple(_example(path, *chosen[place]) for place in sorted(chosen, reverse=True))
    path = RunFolder(run).panel
    if step is not None and path.is_file():
        shown = [record.get("captions") for record in _read_lines(path) if record.get("step") == step]
        return tuple(_example(path, record, None) for record in (shown[-1] or ())[:NUM_EXAMPLES]) if shown else ()
    return ()


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        if not all(isinstance(record, dict) for record in records):
            raise ValueError("a line is no object")
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is not readable ({error}). Remove it, or make it again.") from error
    return records


def _example(path: Path, record: Any, kind: str | None) -> Example:
    try:
        image, caption, references = record["image"], record["caption"], tuple(record["references"])
    except (KeyError, TypeError) as error:
        raise DatasetError(f"{path}: a record has no image, caption and references. Make it again.") from error
    return Example(image=Path(str(image)).name, caption=str(caption), references=tuple(map(str, references)), kind=kind)
