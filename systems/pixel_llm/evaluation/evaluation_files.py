"""An evaluation on disk: `captions.jsonl`, an object a picture, and `scores.json`, every number with its signature.

Each file is written beside its place and renamed, the scores last: where they are, the captions are too. Pictures that
could not be read are in `bad_pictures.jsonl`, which is there only if there are such. Reading checks what it finds and
says what is wrong with it. No torch is loaded by this module.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from systems.pixel_llm.errors import DatasetError, PixelLLMError
from systems.pixel_llm.evaluation.diversity import Diversity
from systems.pixel_llm.evaluation.result import EvaluationResult, HumanLine, PictureResult, ScoreRow, SkippedPicture
from systems.pixel_llm.evaluation.score import Difference, Score

__all__ = [
    "BAD_PICTURES_FILE", "CAPTIONS_FILE", "FORMAT", "SCORES_FILE", "read_captions", "read_evaluation", "score_key",
    "write_evaluation",
]  # fmt: skip

CAPTIONS_FILE = "captions.jsonl"
SCORES_FILE = "scores.json"
BAD_PICTURES_FILE = "bad_pictures.jsonl"
FORMAT = "pixel-llm scores 1"

_LINE_ENDS = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}
"""Characters that JSON leaves as they are, and that end a line for some readers of lines."""

_CURE = "Make it again with pixel-llm evaluate."


def score_key(name: str) -> str:
    """What a score is called in the file.

    >>> [score_key(name) for name in ("BLEU-4", "ROUGE-L", "CIDEr-D", "METEOR", "chrF", "CLIPScore")]
    ['bleu_4', 'rouge_l', 'cider_d', 'meteor', 'chrf', 'clip_score']
    """
    return re.sub(r"(?<=CLIP)(?=Score)", "_", name).replace("-", "_").lower()


# --- writing ----------------------------------------------------------------------------------------------------------


def write_evaluation(
    result: EvaluationResult, folder: Path, *, comparison: Mapping[str, Sequence[Difference]] | None = None
) -> None:
    """Write both files into `folder`, which is made, in the place of those that are there.

    `comparison`: what the run was compared with -> the differences, to be kept beside the scores.

    Raises:
        PixelLLMError: they cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SCORES_FILE).unlink(missing_ok=True)  # from here on no scores stand beside another run's captions
        _write(folder / CAPTIONS_FILE, map(_picture_to_json, result.pictures))
        if result.skipped:
            _write(folder / BAD_PICTURES_FILE, map(asdict, result.skipped))
        else:
            (folder / BAD_PICTURES_FILE).unlink(missing_ok=True)
        _write(folder / SCORES_FILE, [_result_to_json(result, comparison or {})], indent=1)
    except OSError as error:
        raise PixelLLMError(f"{folder} cannot be written to: {error.strerror}. Name another folder.") from error


def _write(path: Path, records: Iterable[Mapping[str, Any]], *, indent: int | None = None) -> None:
    beside = path.with_name(f".{path.name}.tmp")
    with beside.open("wb") as file:
        for record in records:
            text = json.dumps(record, ensure_ascii=False, allow_nan=False, indent=indent)
            # The name of a file may hold bytes that are no text: they become the escapes that JSON has for them.
            file.write(text.translate(_LINE_ENDS).encode(errors="backslashreplace") + b"\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _picture_to_json(picture: PictureResult) -> dict[str, Any]:
    return {each.name: getattr(picture, each.name) for each in fields(PictureResult)}


def _result_to_json(result: EvaluationResult, comparison: Mapping[str, Sequence[Difference]]) -> dict[str, Any]:
    content: dict[str, Any] = {
        "format": FORMAT,
        "run": result.run,
        "checkpoint": result.checkpoint,
        "data": result.data[0] if len(result.data) == 1 else list(result.data),
        "split": result.split,
        "num_pictures": len(result.pictures),
        "num_skipped": len(result.skipped),
        "date": result.date,
        "generation": dict(result.generation),
        "scores": _scores_to_json(result.scores),
        "not_computed": dict(result.not_computed),
        "baselines": {name: _row_to_json(row) for name, row in result.baselines.items()},
        "human": None,
        "diversity": asdict(result.diversity),
        "caveats": list(result.caveats),
    }
    if result.human is not None:
        content["human"] = {**_row_to_json(result.human.human), "model": _row_to_json(result.human.model)}
    if comparison:
        content["comparison"] = {
            name: {
                score_key(each.name): {
                    "name": each.name, "difference": each.value, "interval": each.interval, "p_value": each.p_value
                }
                for each in differences
            }
            for name, differences in comparison.items()
        }  # fmt: skip
    return content


def _row_to_json(row: ScoreRow) -> dict[str, Any]:
    caption = {} if row.caption is None else {"caption": row.caption}
    return {"label": row.label, **caption, "scores": _scores_to_json(row.scores)}


def _scores_to_json(scores: Iterable[Score]) -> dict[str, Any]:
    return {
        score_key(each.name): {
            "name": each.name, "value": each.value, "interval": each.interval, "signature": each.signature
        }
        for each in scores
    }  # fmt: skip


# --- reading ----------------------------------------------------------------------------------------------------------


def read_evaluation(folder: Path) -> EvaluationResult:
    """The evaluation in `folder`.

    Raises:
        DatasetError: a file is missing, is none of these, or is damaged; the message names it, and the line.
    """
    path = folder / SCORES_FILE
    pictures = read_captions(folder / CAPTIONS_FILE)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} cannot be read as scores: {_reason(error)}. {_CURE}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise DatasetError(f"{path} holds no scores that are known here: expected format {FORMAT!r}, found {found!r}.")
    try:
        result = _result_of_json(content, pictures, _skipped_of(folder / BAD_PICTURES_FILE))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"{path} is damaged: {_reason(error)}. {_CURE}") from error
    if content["num_pictures"] != len(pictures):
        raise DatasetError(
            f"{path} is of {content['num_pictures']} pictures, {CAPTIONS_FILE} beside it of {len(pictures)}: they do "
            f"not belong together. {_CURE}"
        )
    return result


def read_captions(path: Path) -> tuple[PictureResult, ...]:
    """The pictures of a `captions.jsonl`.

    Raises:
        DatasetError: it is missing, empty or damaged; the message names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read as captions: {_reason(error)}. {_CURE}") from error
    if not lines:
        raise DatasetError(f"{path} is empty: expected a picture a line. {_CURE}")
    pictures = []
    for number, line in enumerate(lines, start=1):
        try:
            pictures.append(_picture_of_json(json.loads(line)))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise DatasetError(f"{path}, line {number}, is no captioned picture: {_reason(error)}. {_CURE}") from error
    return tuple(pictures)


def _picture_of_json(record: Any) -> PictureResult:
    references = _checked(record["references"], list)
    if not references:
        raise ValueError("it has no reference")
    return PictureResult(
        image=_checked(record["image"], str),
        caption=_checked(record["caption"], str),
        references=tuple(_checked(each, str) for each in references),
        log_probability=_number(record["log_probability"]),
        cider_d=_number(record["cider_d"]),
    )


def _skipped_of(path: Path) -> tuple[SkippedPicture, ...]:
    if not path.is_file():
        return ()
    return tuple(
        SkippedPicture(path=each["path"], reason=each["reason"])
        for each in map(json.loads, path.read_text(encoding="utf-8").splitlines())
    )


def _result_of_json(
    content: dict[str, Any], pictures: tuple[PictureResult, ...], skipped: tuple[SkippedPicture, ...]
) -> EvaluationResult:
    human, data = content["human"], content["data"]
    return EvaluationResult(
        **{name: _checked(content[name], str) for name in ("run", "checkpoint", "split", "date")},
        data=tuple(_checked(each, str) for each in ([data] if isinstance(data, str) else data)),
        generation=_checked(content["generation"], dict),
        pictures=pictures,
        scores=_scores_of_json(content["scores"]),
        baselines={name: _row_of_json(row) for name, row in _checked(content["baselines"], dict).items()},
        human=None if human is None else HumanLine(human=_row_of_json(human), model=_row_of_json(human["model"])),
        diversity=Diversity(**content["diversity"]),
        not_computed=_checked(content["not_computed"], dict),
        caveats=tuple(_checked(each, str) for each in content["caveats"]),
        skipped=skipped,
    )


def _row_of_json(record: dict[str, Any]) -> ScoreRow:
    return ScoreRow(
        label=_checked(record["label"], str), scores=_scores_of_json(record["scores"]), caption=record.get("caption")
    )


def _scores_of_json(records: dict[str, Any]) -> tuple[Score, ...]:
    scores = []
    for record in records.values():
        interval = record["interval"]
        if interval is not None:
            low, high = interval
            interval = (_number(low), _number(high))
        scores.append(Score(record["name"], _number(record["value"]), _checked(record["signature"], str), interval))
    return tuple(scores)


def _checked(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"expected {kind.__name__}, found {value!r:.80}")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected a number, found {value!r:.80}")
    return float(value)


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it lacks {error.args[0]!r}"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
