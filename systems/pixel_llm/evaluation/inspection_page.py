"""The findings of an inspection as one HTML file that needs nothing else: histograms, pictures, lists, checks.

The page is a template beside this module. Pictures are small JPEGs inside the file; of each finding only so many are
shown, and the others are counted.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from systems.pixel_llm.data.duplicates import DuplicateGroup
from systems.pixel_llm.data.inspection import Inspection
from systems.pixel_llm.data.inspection_captions import CaptionsReport
from systems.pixel_llm.data.inspection_checks import Check
from systems.pixel_llm.data.picture_path import PicturePath
from systems.pixel_llm.data.samples import Sample
from systems.pixel_llm.evaluation.histogram_chart import HistogramChart, histogram_chart
from systems.pixel_llm.evaluation.page import render_page
from systems.pixel_llm.evaluation.thumbnails import spaced, thumbnail

__all__ = ["write_page"]

MAX_SAMPLES, MAX_CELLS, MAX_GROUPS, MAX_GROUP_PICTURES, MAX_ROWS = 24, 18, 16, 6, 200
MAX_REPEATED = 12

_TYPED = re.compile(r"((?<![\w-])--[a-z][a-z-]*(?: (?:\d+|tiny))?|pixel-llm [a-z]+)")
"""What is to be typed, in a sentence: split by this, every second part is such."""


def write_page(
    inspection: Inspection, checks: Sequence[Check], path: Path, *, folders: Sequence[tuple[str, str]]
) -> None:
    """Write the page. `folders` are the names of the data folders, each with what there is to say of how it was read.

    Raises:
        OSError: the file cannot be written.
    """
    page = render_page(
        "inspection_page.html",
        folders=folders,
        divided=_TYPED.split,
        checks=sorted(checks, key=lambda check: ("stop", "warn", "ok").index(check.status)),
        verdict=_verdict(checks),
        inspection=inspection,
        figures=_figures(inspection),
        charts=_charts(inspection),
        problems=[section for section in _problems(inspection) if section.total],
        sections=[section for section in _other_sections(inspection) if section.total],
        groups=_groups(inspection),
        repeated=_repeated(inspection),
        num_groups=len(inspection.duplicates),
        max_rows=MAX_ROWS,
    )
    path.write_text(page, encoding="utf-8", errors="replace")  # a name of bytes that are no text


def _verdict(checks: Sequence[Check]) -> tuple[str, str]:
    """The worst status and what it means."""
    if any(check.status == "stop" for check in checks):
        return "stop", "Training should not start"
    if any(check.status == "warn" for check in checks):
        return "warn", "Training can start, with advice"
    return "ok", "Training can start"


def _figures(inspection: Inspection) -> list[tuple[str, str]]:
    """(number, what it counts) for the top of the page; nothing where nothing was read."""
    if not inspection.num_pictures:
        return []
    figures = [
        (f"{inspection.num_pictures:,}", "pictures"),
        (f"{len(inspection.train_samples):,} / {len(inspection.validation_samples):,}", "training / validation"),
    ]
    if (captions := inspection.captions) is not None:
        figures += [
            (f"{captions.num_captions:,}", f"captions, {captions.num_distinct:,} different"),
            (f"{captions.num_words:,}", f"words, {captions.num_rare_words:,} seen once"),
        ]
    if (sizes := inspection.sizes) is not None:
        figures.append((f"{sizes.width.median:g} × {sizes.height.median:g}", "median width × height, pixels"))
    figures += [
        (f"{len(inspection.bad):,}", "unreadable"),
        (f"{len(inspection.odd):,}", "odd"),
        (f"{sum(len(group.paths) for group in inspection.duplicates):,}", "near-duplicates"),
    ]
    return figures


def _repeated(inspection: Inspection) -> list[tuple[str, int]]:
    """The most common captions that are there more than once, not so many that they push the rest off the screen."""
    captions = inspection.captions
    return [] if captions is None else [each for each in captions.most_common_captions[:MAX_REPEATED] if each[1] > 1]


# --- histograms -------------------------------------------------------------------------------------------------------


def _charts(inspection: Inspection) -> list[HistogramChart]:
    charts = []
    if (sizes := inspection.sizes) is not None:
        common = ", ".join(f"{size} ({count:,})" for size, count in sizes.most_common[:3])
        charts += [
            histogram_chart(
                "Shorter side of the pictures, in pixels", sizes.shorter_side_bars,
                note=f"All are {sizes.most_common[0][0]}."
                if sizes.num_different == 1
                else f"{sizes.num_different:,} different sizes; most often {common}.",
                mark=(inspection.image_size, f"model: {inspection.image_size}"),
            ),
            histogram_chart(
                "Width divided by height", sizes.aspect_ratio_bars,
                note="A picture is stretched to the model's square: far from 1, things look squeezed.",
            ),
        ]  # fmt: skip
    if (captions := inspection.captions) is not None:
        charts.append(histogram_chart("Length of the captions, in words", captions.word_bars))
    if isinstance(captions, CaptionsReport):
        charts.append(
            histogram_chart(
                "Length of the captions, in tokens", captions.token_bars,
                note=f"{f'{captions.cut_share:.1%} are' if captions.cut_share else 'None is'} cut at "
                f"{captions.max_seq_len}; {captions.advised_max_seq_len} would do. A tokenizer trained on these "
                f"captions has {captions.tokenizer_size:,} tokens.",
                mark=(captions.max_seq_len, f"max_seq_len: {captions.max_seq_len}"),
            )
        )  # fmt: skip
    return charts


# --- pictures and lists -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """A picture with words about it."""

    name: str
    image: str | None
    """A data URI; None where the picture cannot be shown."""
    lines: tuple[str, ...]
    label: str = ""


@dataclass(frozen=True, kw_only=True)
class _Section:
    """A titled part of the page: pictures, or a list where there are none to show."""

    title: str
    note: str
    total: int
    cells: tuple[_Cell, ...] = ()
    rows: tuple[tuple[str, str], ...] = ()

    num_left_out: int = 0
    """What there is beyond the cells and rows shown."""


def _problems(inspection: Inspection) -> Iterable[_Section]:
    yield _Section(
        title="Unreadable pictures",
        note="Training skips exactly these.",
        total=len(inspection.bad),
        rows=tuple((str(each.path), each.reason) for each in inspection.bad[:MAX_ROWS]),
        num_left_out=max(0, len(inspection.bad) - MAX_ROWS),
    )
    if inspection.captions is not None:
        suspects = inspection.captions.suspects
        different = list({each.caption: each for each in suspects}.values())
        yield _Section(
            title="Captions that look wrong",
            note="Of pictures with the same caption one is shown." if len(different) < len(suspects) else "",
            total=len(suspects),
            num_left_out=max(0, len(different) - MAX_CELLS),
            cells=tuple(_cell(each.path, each.caption, label=each.why) for each in spaced(different, MAX_CELLS)),
        )


def _other_sections(inspection: Inspection) -> Iterable[_Section]:
    yield _Section(
        title="Odd pictures",
        note="Training reads them, but they may not be what you believe.",
        total=len(inspection.odd),
        cells=tuple(_cell(each.path, *each.what) for each in spaced(inspection.odd, MAX_CELLS)),
        num_left_out=max(0, len(inspection.odd) - MAX_CELLS),
    )
    samples = [*inspection.train_samples, *inspection.validation_samples]
    shown = spaced(samples, MAX_SAMPLES)
    yield _Section(
        title="A look at the data",
        note="Pictures spread evenly over the data, with their captions.",
        total=len(shown),
        cells=tuple(_cell(sample.image_path, *_some_captions(sample)) for sample in shown),
    )
    for title, note, names in (
        ("Pictures without a caption", "They are passed over.", [str(path) for path in inspection.unpaired.pictures]),
        ("Captions without a picture", "They are passed over.", inspection.unpaired.captions),
    ):
        rows = tuple((name, "") for name in names[:MAX_ROWS])
        yield _Section(title=title, note=note, total=len(names), rows=rows, num_left_out=len(names) - len(rows))


def _some_captions(sample: Sample) -> tuple[str, ...]:
    shown = sample.captions[:3]
    more = len(sample.captions) - len(shown)
    return (*shown, f"and {more} more") if more else shown


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Pictures that look the same, side by side."""

    what: str
    is_leak: bool
    cells: tuple[_Cell, ...]
    num_left_out: int


def _groups(inspection: Inspection) -> list[_Group]:
    """The first groups of duplicates: leaks, then those with copies of a file."""
    captions_of = {
        sample.image_path: sample.captions for sample in (*inspection.train_samples, *inspection.validation_samples)
    }
    ordered = sorted(inspection.duplicates, key=lambda group: (not group.is_leak, not group.copied_paths))
    return [_group(group, captions_of) for group in ordered[:MAX_GROUPS]]


def _group(group: DuplicateGroup, captions_of: dict[PicturePath, tuple[str, ...]]) -> _Group:
    for_validation = set(group.validation_paths)
    copied = set(group.copied_paths)
    paths = tuple(sorted(group.paths, key=lambda path: path not in copied))
    if group.is_leak:  # both sides must be seen
        paths = (*group.validation_paths[:3], *(path for path in paths if path not in for_validation))
    shown = paths[:MAX_GROUP_PICTURES]
    what = "copies of one file" if group.is_exact else "pictures that look the same"
    if copied and not group.is_exact:
        what += f", {len(copied)} of them copies"
    marks = {"validation": for_validation, "copy": set() if group.is_exact else copied}
    return _Group(
        what=f"{len(group.paths)} {what}" + (", in training and in validation" if group.is_leak else ""),
        is_leak=group.is_leak,
        cells=tuple(
            _cell(path, *captions_of[path][:1], label=", ".join(name for name, those in marks.items() if path in those))
            for path in shown
        ),
        num_left_out=len(group.paths) - len(shown),
    )


def _cell(path: PicturePath, *lines: str, label: str = "") -> _Cell:
    return _Cell(name=path.name, image=thumbnail(path), lines=lines, label=label)
