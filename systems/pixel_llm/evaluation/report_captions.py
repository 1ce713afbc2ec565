"""The captions of a run's page: what was said on the way, the best, the median and the worst, and the gallery of many.

Pictures are told by the paths that the run wrote down. One that is not there any more leaves an empty frame: what was
said of it is shown all the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from systems.pixel_llm.data.picture_path import PicturePath
from systems.pixel_llm.data.readers.packed_names import find_packed_by_path
from systems.pixel_llm.evaluation.result import PictureResult
from systems.pixel_llm.evaluation.run_record import PanelEntry
from systems.pixel_llm.evaluation.thumbnails import spaced, thumbnail
from systems.pixel_llm.evaluation.words import tokenize_caption

__all__ = [
    "CaptionCell", "PanelRow", "SaidWord", "Stage", "caption_cells", "examples_of", "panel_rows", "pictures_by_path",
]  # fmt: skip

MAX_STAGES = 8
NUM_EXAMPLES = 6


@dataclass(frozen=True, kw_only=True)
class CaptionCell:
    """A picture, what the model says, what people say."""

    name: str
    image: str | None
    """A data URI; None where the picture cannot be read any more."""
    caption: str
    references: tuple[str, ...]
    score: float
    """CIDEr-D, 0..10."""
    place: int
    """Among all pictures of the evaluation."""


def pictures_by_path(paths: Iterable[str]) -> dict[str, PicturePath]:
    """The pictures of these paths, those inside of shards too; whether they are there is another question."""
    wanted = list(dict.fromkeys(paths))
    return {path: Path(path) for path in wanted} | find_packed_by_path(wanted)


def caption_cells(
    results: Sequence[tuple[int, PictureResult]], pictures: dict[str, PicturePath], *, side: int
) -> list[CaptionCell]:
    """A cell for each of (place, picture), the picture's longer side at most `side`."""
    return [
        CaptionCell(
            name=Path(each.image).name,
            image=thumbnail(pictures[each.image], side=side),
            caption=each.caption,
            references=each.references,
            score=each.cider_d,
            place=place,
        )
        for place, each in results
    ]


def examples_of(
    results: Sequence[PictureResult], count: int = NUM_EXAMPLES
) -> tuple[tuple[str, list[tuple[int, PictureResult]]], ...]:
    """(which, pictures with their places): the best, those around the median, the worst, none of them twice.

    Of pictures that score the same, as many of the worst do at 0, those come last which the model was surest of.
    """
    ranked = sorted(enumerate(results), key=lambda each: (-each[1].cider_d, each[1].log_probability or 0.0))
    count = min(count, max(1, len(ranked) // 3))
    middle = (len(ranked) - count) // 2
    parts = (
        ("best", ranked[:count]),
        ("median", ranked[max(count, middle) : max(count, middle) + count]),
        ("worst", ranked[max(2 * count, len(ranked) - count) :][::-1]),
    )
    return tuple((name, part) for name, part in parts if part)


# --- what was said on the way -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SaidWord:
    """A word of a caption, and whether some person says it of the picture too."""

    text: str
    is_shared: bool


@dataclass(frozen=True)
class Stage:
    """A caption, and from when to when it was said."""

    steps: str
    words: tuple[SaidWord, ...]


@dataclass(frozen=True, kw_only=True)
class PanelRow:
    """One picture, and what was said of it as time went by."""

    name: str
    image: str | None
    reference: str
    num_references: int
    stages: tuple[Stage, ...]


def panel_rows(panel: Sequence[PanelEntry], pictures: dict[str, PicturePath], *, side: int) -> list[PanelRow]:
    """A row for each picture of the last validation; equal captions that follow each other are one stage.

    Of many validations some are shown, evenly spaced, always the first and the last.
    """
    if not panel:
        return []
    shown = list(panel) if len(panel) <= MAX_STAGES else [*spaced(panel[:-1], MAX_STAGES - 1), panel[-1]]
    rows = []
    for last in panel[-1].captions:
        said = [(entry.step, each.caption) for entry in shown for each in entry.captions if each.image == last.image]
        known = {word for reference in last.references for word in tokenize_caption(reference)}
        rows.append(
            PanelRow(
                name=Path(last.image).name,
                image=thumbnail(pictures[last.image], side=side),
                reference=last.references[0] if last.references else "",
                num_references=len(last.references),
                stages=tuple(
                    Stage(steps=steps, words=tuple(_said_words(caption, known))) for steps, caption in _merged(said)
                ),
            )
        )
    return rows


def _merged(said: Sequence[tuple[int, str]]) -> list[tuple[str, str]]:
    """(steps, caption): neighbours with the same caption as one."""
    spans: list[tuple[int, int, str]] = []
    for step, caption in said:
        if spans and spans[-1][2] == caption:
            spans[-1] = (spans[-1][0], step, caption)
        else:
            spans.append((step, step, caption))
    return [(f"{first:,}" if first == last else f"{first:,} to {last:,}", caption) for first, last, caption in spans]


def _said_words(caption: str, known: set[str]) -> Iterable[SaidWord]:
    for word in caption.split():
        yield SaidWord(word, any(each in known for each in tokenize_caption(word)))
