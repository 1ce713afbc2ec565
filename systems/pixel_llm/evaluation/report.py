"""`report.html`: everything that is known of a run on one page, for whoever trained it and whoever is to trust it.

First what came of it, in a sentence, beside what captions for nothing would get; then how it went, what it says, what
it looks at, how its words compare with people's; last all settings and how to use the model. A part that a run does not
have is not left out silently: the page says why it is not there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePath
from shlex import quote
from typing import Any

import torch

from systems.pixel_llm import __version__
from systems.pixel_llm.data.picture_path import PicturePath
from systems.pixel_llm.errors import CheckpointError, DatasetError
from systems.pixel_llm.evaluation.attention_figures import AttentionFigure, attention_figure
from systems.pixel_llm.evaluation.caption_comparison import compare_captions
from systems.pixel_llm.evaluation.histogram_chart import histogram_chart
from systems.pixel_llm.evaluation.page import render_page
from systems.pixel_llm.evaluation.report_captions import caption_cells, examples_of, panel_rows, pictures_by_path
from systems.pixel_llm.evaluation.report_curves import run_curves
from systems.pixel_llm.evaluation.report_verdict import figures_of, score_table, sentences_of, status_of
from systems.pixel_llm.evaluation.run_files import RunFolder
from systems.pixel_llm.evaluation.run_record import RunRecord, read_run
from systems.pixel_llm.evaluation.thumbnails import THUMBNAIL_SIDE, spaced
from systems.pixel_llm.inference import Captioner, find_checkpoint

__all__ = ["make_report", "write_report"]

MAX_GALLERY = 300
GALLERY_SIDE = 132
"""Longer side of a picture in the gallery, in pixels: some hundred of them stay below 2 MB."""
NUM_ATTENTION = 4

Defaults = Callable[[str], Mapping[str, Any]]


def write_report(run: Path, out: Path, *, device: torch.device, defaults: Defaults) -> None:
    """Write the page of the run folder `run` to `out`; see `make_report`.

    Raises:
        PixelLLMError: `run` is no run folder.
        OSError: the file cannot be written.
    """
    page = make_report(read_run(run), device=device, defaults=defaults)
    beside = out.with_name(f".{out.name}.tmp")
    beside.write_text(page, encoding="utf-8", errors="replace")  # a name of bytes that are no text
    beside.replace(out)


def make_report(record: RunRecord, *, device: torch.device, defaults: Defaults, date: datetime | None = None) -> str:
    """The page as text.

    Args:
        record: the run.
        device: where the model runs for the attention maps.
        defaults: preset -> the settings, name -> value, of a run in which nothing else was said.
        date: when the page was made; now if left out.
    """
    evaluation = record.evaluation
    results = () if evaluation is None else evaluation.pictures
    paths = [each.image for each in results] + [each.image for entry in record.panel for each in entry.captions]
    pictures = pictures_by_path(paths)
    figures, attention_problem = _attention(record, pictures, device=device)
    comparison = None
    if results:
        comparison = compare_captions([each.caption for each in results], [each.references for each in results])
    return render_page(
        "report.html",
        script="report.js",
        record=record,
        name=record.path.resolve().name,
        date=(date or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        status=status_of(record),
        sentences=[*sentences_of(record), *_stale(record)],
        figures=figures_of(record),
        score_table=score_table(record),
        evaluation=evaluation,
        charts=run_curves(record),
        panel=panel_rows(record.panel, pictures, side=THUMBNAIL_SIDE),
        examples=[(which, caption_cells(part, pictures, side=THUMBNAIL_SIDE)) for which, part in examples_of(results)],
        attention=figures,
        attention_problem=attention_problem,
        gallery=caption_cells(spaced(list(enumerate(results)), MAX_GALLERY), pictures, side=GALLERY_SIDE),
        comparison=comparison,
        lengths=None
        if comparison is None
        else histogram_chart(
            "Length of the captions, in words",
            comparison.people_lengths,
            over=comparison.model_lengths,
            names=("people", "the model"),
        ),
        settings=_settings(record, defaults),
        usage=_usage(record),
    )


def _stale(record: RunRecord) -> list[str]:
    """A sentence where the captions and scores are not those of the checkpoint that is used now."""
    if record.evaluation is None:
        return []
    try:
        now = find_checkpoint(record.path).name
    except CheckpointError:
        return []  # told where the model would be asked
    scored = PurePath(record.evaluation.checkpoint).name
    if scored == now:
        return []
    again = f"pixel-llm evaluate {quote(str(record.path))} --out {quote(str(RunFolder(record.path).evaluation))}"
    return [f"Captions and scores are those of {scored}; the best checkpoint is now {now}. To renew them: {again}"]


def _attention(
    record: RunRecord, pictures: Mapping[str, PicturePath], *, device: torch.device
) -> tuple[list[AttentionFigure], str]:
    """Figures of a few captions, and why there are none, where there are none."""
    wanted = _wanted_for_attention(record)
    if not wanted:
        return [], "There is no caption to look at."
    try:
        captioner = Captioner.from_checkpoint(record.path, device=device)
    except CheckpointError as error:
        return [], f"There is no model that could be asked: {error}"
    figures = []
    for image, caption in wanted:
        try:
            figures.append(attention_figure(captioner, pictures[image], caption))
        except DatasetError:
            continue  # a picture that is there no more has an empty frame in the rest of the page
        if len(figures) == NUM_ATTENTION:
            break
    return figures, "" if figures else "The pictures cannot be read any more."


def _wanted_for_attention(record: RunRecord) -> list[tuple[str, str]]:
    """(picture, caption), most wanted first: from good to bad, different captions before the same again."""
    if record.evaluation is None:
        return [(each.image, each.caption) for entry in record.panel[-1:] for each in entry.captions if each.caption]
    ranked = sorted(record.evaluation.pictures, key=lambda each: -each.cider_d)
    # Each caption once: that of the picture for which it is best.
    different = list({each.caption: each for each in reversed(ranked) if each.caption}.values())[::-1]
    quarters = (
        [different[place * (len(different) - 1) // (NUM_ATTENTION - 1)] for place in range(NUM_ATTENTION)]
        if different
        else []
    )
    return list(dict.fromkeys((each.image, each.caption) for each in [*quarters, *different]))


@dataclass(frozen=True)
class _Setting:
    name: str
    value: str
    default: str
    is_changed: bool


def _settings(record: RunRecord, defaults_of: Defaults) -> list[_Setting]:
    """All settings, those that were changed first. Of a path the last part: the page may be sent to anybody."""
    defaults = defaults_of(str(record.options.get("preset")))
    settings = [
        _Setting(
            name=name,
            value=_spelled(value),
            default=_spelled(defaults.get(name)),
            is_changed=name in defaults and _spelled(value) != _spelled(defaults[name]),
        )
        for name, value in record.options.items()
    ]
    return sorted(settings, key=lambda each: not each.is_changed)


def _spelled(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_spelled, value))
    text = str(value)
    return PurePath(text).name if text.startswith("/") else text


@dataclass(frozen=True, kw_only=True)
class _Usage:
    """What to type to use the model."""

    caption: str
    evaluate: str
    report: str
    resume: str
    python: str


def _usage(record: RunRecord) -> _Usage:
    run = str(record.path)
    return _Usage(
        caption=f"pixel-llm caption {quote(run)} PICTURE...",
        evaluate=f"pixel-llm evaluate {quote(run)}",
        report=f"pixel-llm report {quote(run)}",
        resume=f"pixel-llm train DATA --out {quote(run)} --resume",
        python=(
            "from systems.pixel_llm.inference import Captioner\n\n"
            f"captioner = Captioner.from_checkpoint({run!r})\n"
            'print(captioner.caption("photo.jpg"))'
        ),
    )
