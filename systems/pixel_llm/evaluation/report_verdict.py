"""What came of a run, at the head of its page: a status, a few sentences, the numbers, and the table of scores.

A score alone says little. So it stands beside what can be had without a model, one caption for all pictures and the
caption of the most similar training picture, and the status tells whether the model is better than these: whether the
lower end of its 95 % interval lies above.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from systems.pixel_llm.evaluation.result import EvaluationResult, ScoreRow
from systems.pixel_llm.evaluation.run_record import RunRecord
from systems.pixel_llm.training.picture_use import SMALL_GAP

__all__ = ["ScoreTable", "figures_of", "score_table", "sentences_of", "status_of"]

MAIN_SCORE = "CIDEr-D"
BASELINES = {
    "constant": ("one caption for all", "always saying the same"),
    "nearest": ("most similar", "the caption of the most similar training picture"),
}
"""Key -> head of a column, and what it is in a sentence."""


def status_of(record: RunRecord) -> tuple[str, str]:
    """(ok, warn or stop, what it means)."""
    if not record.metrics:
        return "stop", "Nothing was measured"
    if record.end_reason is None:
        return "warn", "Not finished: still running, or killed"
    if record.end_reason == "interrupted":
        return "warn", "Stopped early"
    if record.evaluation is not None and (beaten := _beaten(record.evaluation)):
        is_better = all(beaten.values())
        if is_better:
            return "ok", "Better than captions without a model"
        return "warn", "Not shown to be better than captions without a model"
    return "ok", "Finished"


def _beaten(evaluation: EvaluationResult) -> dict[str, bool]:
    """Of each baseline, whether the model's interval lies above it."""
    score = evaluation.score(MAIN_SCORE)
    if score is None:
        return {}
    low = score.value if score.interval is None else score.interval[0]
    return {
        name: low > other.value
        for name, row in evaluation.baselines.items()
        if (other := row.score(MAIN_SCORE)) is not None
    }


def sentences_of(record: RunRecord) -> list[str]:
    """What was trained on what, how long, and what came of it."""
    return [sentence for sentence in (_training(record), *_outcome(record)) if sentence]


def _training(record: RunRecord) -> str:
    if not record.metrics:
        return ""
    pictures = "the pictures" if record.data is None else f"{record.data.num_train_pictures:,} pictures"
    if record.data_name:
        pictures += f" of {record.data_name}"
    step, epoch, seconds = record.last("step") or 0, record.last("epoch") or 0, record.last("elapsed_seconds") or 0
    epochs = f"{epoch:,} epoch{'' if epoch == 1 else 's'}, " if epoch else ""
    return f"Trained on {pictures} for {_duration(seconds)}: {epochs}{step:,} step{'' if step == 1 else 's'}."


def _duration(seconds: float) -> str:
    for size, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {name}"
    return f"{seconds:.3g} seconds"


def _outcome(record: RunRecord) -> Iterable[str]:
    evaluation = record.evaluation
    score = None if evaluation is None else evaluation.score(MAIN_SCORE)
    if evaluation is not None and score is not None:
        others = [
            f"{words} gets {other.value:.3f}"
            for key, (_, words) in BASELINES.items()
            if key in evaluation.baselines and (other := evaluation.baselines[key].score(MAIN_SCORE)) is not None
        ]
        within = (
            "" if score.interval is None else f" (95 % interval {score.interval[0]:.3f} to {score.interval[1]:.3f})"
        )
        yield (
            f"{MAIN_SCORE} {score.value:.3f}{within} on {_side_of(evaluation)}"
            + (f"; {' and '.join(others)}" if others else "")
            + "."
        )
    elif record.best_validation is not None:
        step, loss = record.best_validation
        yield (
            f"The lowest validation loss was {loss:.3f} nats a token, at step {step:,.0f}: on average the model "
            f"hesitates between {math.exp(min(loss, 50)):,.1f} tokens."
        )
    elif losses := record.points("train", "loss"):
        yield f"The training loss came down to {losses[-1][1]:.3f} nats a token. It was not validated."
    if (gap := _gap(record)) is not None:
        yield f"Shown wrong pictures, its loss rises by {gap:.3f} nats a token: {_look(gap)}."


def _gap(record: RunRecord) -> float | None:
    """The rise of the loss at the validation whose checkpoint is the best; None where it was not measured."""
    gaps = dict(record.points("validation", "shuffled_loss_gap"))
    scores = record.score_points("cider_d")
    step = max(scores, key=lambda point: point[1])[0] if scores else (record.best_validation or (None,))[0]
    return gaps.get(step) if step is not None else None


def _look(gap: float) -> str:
    """What the rise of the loss with wrong pictures says."""
    return "it hardly looks at its pictures" if gap < SMALL_GAP else "it looks at its pictures"


def _side_of(evaluation: EvaluationResult) -> str:
    side = {"val": "validation ", "test": "test ", "train": "training "}.get(evaluation.split, "")
    count = len(evaluation.pictures)
    return f"{count:,} {side}picture{'' if count == 1 else 's'}"


def figures_of(record: RunRecord) -> list[tuple[str, str]]:
    """(number, what it is) for the top of the page."""
    figures = []
    evaluation = record.evaluation
    for name in ("CIDEr-D", "BLEU-4") if evaluation is not None else ():
        if evaluation is not None and (score := evaluation.score(name)) is not None:
            figures.append((f"{score.value:.3f}", name))
    if record.best_validation is not None:
        figures.append((f"{record.best_validation[1]:.3f}", "lowest validation loss"))
    elif losses := record.points("train", "loss"):
        figures.append((f"{losses[-1][1]:.3f}", "last training loss"))
    if seconds := record.last("elapsed_seconds"):
        number, unit = _duration(seconds).split()
        figures.append((number, f"{unit} of training"))
    num_parameters = record.last("num_parameters")
    if isinstance(num_parameters, int):
        number = f"{num_parameters / 1e6:.3g} M" if num_parameters >= 1e6 else f"{num_parameters:,}"
        figures.append((number, "parameters"))
    if record.data is not None:
        figures.append((f"{record.data.num_train_pictures:,}", "training pictures"))
        figures.append((f"{record.data.num_validation_pictures:,}", "validation pictures"))
    if evaluation is not None:
        count = len({each.caption for each in evaluation.pictures})
        figures.append((f"{count:,}", f"different captions for {len(evaluation.pictures):,} pictures"))
    return figures[:8]


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """The scores of the model beside those of captions for nothing."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, str], ...], str], ...]
    """(score, of each column value and interval, signature)."""
    notes: tuple[str, ...]


def score_table(record: RunRecord) -> ScoreTable | None:
    """The table; None where nothing was scored."""
    evaluation = record.evaluation
    if evaluation is None:
        return None
    model = ScoreRow(label="the model", scores=evaluation.scores)
    columns = {"the model": model}
    for key, (head, _) in BASELINES.items():
        if key in evaluation.baselines:
            columns[head] = evaluation.baselines[key]
    return ScoreTable(
        columns=tuple(columns),
        rows=tuple(
            (score.name, tuple(_value_and_interval(row, score.name) for row in columns.values()), score.signature)
            for score in evaluation.scores
        ),
        notes=tuple(_notes(evaluation)),
    )


def _value_and_interval(row: ScoreRow, name: str) -> tuple[str, str]:
    score = row.score(name)
    if score is None:
        return "", ""
    interval = "" if score.interval is None else f"{score.interval[0]:.3f}–{score.interval[1]:.3f}"
    return f"{score.value:.3f}", interval


def _notes(evaluation: EvaluationResult) -> Iterable[str]:
    constant = evaluation.baselines.get("constant")
    if constant is not None and constant.caption:
        yield f"The one caption for all is “{constant.caption}”."
    if evaluation.human is not None:
        human, model = evaluation.human.human.score(MAIN_SCORE), evaluation.human.model.score(MAIN_SCORE)
        if human is not None and model is not None:
            yield (
                f"A person's captions get {MAIN_SCORE} {human.value:.3f} against those of the others; against as many, "
                f"the model gets {model.value:.3f}."
            )
    yield from evaluation.caveats
    keys_of: dict[str, list[str]] = {}
    for key, reason in evaluation.not_computed.items():
        keys_of.setdefault(reason, []).append(key.replace("_", " "))
    for reason, keys in keys_of.items():
        yield f"Not computed: {', '.join(keys)}, because {reason}."
