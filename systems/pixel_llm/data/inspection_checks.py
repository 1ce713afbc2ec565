"""Whether training should start: the findings of an inspection as checks, each with a status, a finding and advice.

"stop" is for data that training cannot use or would give up on; "warn" for what makes a model worse than it could be.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from systems.pixel_llm.data.inspection import Inspection
from systems.pixel_llm.data.inspection_captions import CaptionsReport, TextsReport

__all__ = ["ADVISED_PICTURES", "MAX_BAD_SHARE", "Check", "check_inspection"]

ADVISED_PICTURES = 1_000
"""The least for basic learning, by the training guide."""

MAX_BAD_SHARE = 0.01
"""More unreadable pictures than this share are no accident: training stops, too. A single one stops neither."""

MAX_SMALLER_SHARE = 0.1
MAX_CUT_SHARE = 0.01
MAX_SUSPECT_SHARE = 0.01
MIN_DISTINCT_SHARE = 0.5
MIN_MEDIAN_WORDS = 4


@dataclass(frozen=True)
class Check:
    """One question about the data, answered."""

    name: str
    status: Literal["ok", "warn", "stop"]
    found: str
    """What is the case."""
    advice: str = ""
    """What to do; empty where all is well."""


def check_inspection(inspection: Inspection, *, problem: str | None = None) -> tuple[Check, ...]:
    """The checks that apply; `problem` is why the data could not be read, where it could not."""
    if problem is not None:
        return (Check("data", "stop", problem),)
    if not inspection.num_pictures or inspection.captions is None:
        return (Check("data", "stop", "There is no captioned picture.", "Write captions for the pictures."),)
    return (*_picture_checks(inspection), *_caption_checks(inspection.captions), *_split_checks(inspection))


def _picture_checks(inspection: Inspection) -> Iterator[Check]:
    count = inspection.num_pictures
    yield (
        Check("number of pictures", "ok", f"{count:,} captioned pictures")
        if count >= ADVISED_PICTURES
        else Check(
            "number of pictures", "warn", f"{_counted(count, 'captioned picture')}",
            f"At least {ADVISED_PICTURES:,} are advised; with fewer, take the smallest model (--preset tiny), or start "
            "from a trained one with --init-from.",
        )
    )  # fmt: skip
    yield _readable(inspection)
    if inspection.sizes is not None:
        smaller, side = inspection.sizes.num_smaller, inspection.image_size
        found = f"{_part(smaller, count)} smaller than the model's {side} pixels a side"
        yield (
            Check("picture sizes", "ok", found)
            if smaller <= MAX_SMALLER_SHARE * count
            else Check(
                "picture sizes", "warn", found,
                "They will be enlarged, which adds work and no detail: find larger ones, or train with "
                f"--image-size {_lower_size(inspection)}.",
            )
        )  # fmt: skip
    odd = [what for each in inspection.odd for what in each.what]
    yield (
        Check("odd pictures", "ok", "none")
        if not inspection.odd
        else Check(
            "odd pictures", "warn",
            f"{_part(len(inspection.odd), count)} unusual; {_mostly(odd)}",
            "They are read, but look at them: they may not be what you believe.",
        )
    )  # fmt: skip
    unpaired = inspection.unpaired
    if unpaired.pictures or unpaired.captions:
        yield Check(
            "pairs", "warn",
            f"{_counted(len(unpaired.pictures), 'picture')} without a caption, "
            f"{_counted(len(unpaired.captions), 'caption')} without a picture",
            "They are passed over. Check the names if that is not meant.",
        )  # fmt: skip


def _readable(inspection: Inspection) -> Check:
    bad, count = len(inspection.bad), inspection.num_pictures
    if bad == 0:
        return Check("readable pictures", "ok", "all of them")
    found = f"{_part(bad, count)} unreadable"
    advice = "Replace them or take them out; training skips them."
    if bad == count:
        return Check("readable pictures", "stop", found, "There is nothing to train on: replace the files.")
    if bad > 1 and inspection.bad_share > MAX_BAD_SHARE:
        return Check(
            "readable pictures", "stop", found,
            f"Above {_share(MAX_BAD_SHARE)} it is no accident: find out what happened to them, or take them out.",
        )  # fmt: skip
    return Check("readable pictures", "warn", found, advice)


def _lower_size(inspection: Inspection) -> int:
    assert inspection.sizes is not None
    median = min(inspection.sizes.width.median, inspection.sizes.height.median)
    return max(16, min(inspection.image_size, int(median) // 16 * 16))


def _caption_checks(report: TextsReport) -> Iterator[Check]:
    suspects = len(report.suspects)
    found = f"{_part(suspects, report.num_captions, 'caption')} suspicious"
    yield (
        Check("caption quality", "ok", found)
        if report.suspect_share <= MAX_SUSPECT_SHARE
        else Check(
            "caption quality", "warn", f"{found}; {_mostly(each.why for each in report.suspects)}",
            "Read those listed, and correct them or take them out.",
        )
    )  # fmt: skip
    found = f"{report.num_distinct:,} different of {report.num_captions:,}"
    yield (
        Check("caption variety", "ok", found)
        if report.num_distinct >= MIN_DISTINCT_SHARE * report.num_captions
        else Check(
            "caption variety", "warn", found,
            "A model learns captions that come often by heart. Say what sets each picture apart.",
        )
    )  # fmt: skip
    found = f"{report.words.minimum:g} to {report.words.maximum:g} words, median {report.words.median:g}"
    yield (
        Check("caption length", "ok", found)
        if report.words.median >= MIN_MEDIAN_WORDS
        else Check(
            "caption length", "warn", found,
            "Very short captions teach names only; a sentence of five to twenty words teaches to describe.",
        )
    )  # fmt: skip
    if isinstance(report, CaptionsReport):
        yield _cut_captions(report)


def _cut_captions(report: CaptionsReport) -> Check:
    share = _share(report.cut_share) if report.cut_share else "none"
    found = f"{share} of the captions {'are' if report.cut_share else 'is'} cut at {report.max_seq_len} tokens"
    if report.cut_share <= MAX_CUT_SHARE:
        return Check("max_seq_len", "ok", f"{found}; --max-seq-len {report.advised_max_seq_len} would do")
    return Check("max_seq_len", "warn", found, f"Train with --max-seq-len {report.advised_max_seq_len}.")


def _split_checks(inspection: Inspection) -> Iterator[Check]:
    copies = sum(group.num_copies for group in inspection.duplicates)
    alike = sum(len(group.paths) for group in inspection.duplicates)
    if inspection.duplicates:
        yield Check(
            "duplicates", "warn",
            f"{_counted(alike, 'picture')} in {_counted(len(inspection.duplicates), 'group')} of near-duplicates"
            + (f"; {_counted(copies, 'exact copy', 'exact copies')}" if copies else ""),
            "A picture seen more often counts more. Take copies out, and give several captions of one picture to one "
            "entry; pictures that only look alike may stay.",
        )  # fmt: skip
    else:
        yield Check("duplicates", "ok", "none")
    if not inspection.validation_samples:
        return
    if shared := inspection.shared_pictures:
        yield Check(
            "validation", "stop", f"{_counted(len(shared), 'picture file')} in the training and the validation data",
            "Take them out of one side: a score on them would mean nothing.",
        )  # fmt: skip
    elif leaks := inspection.leaks:
        leaked = sum(len(group.validation_paths) for group in leaks)
        yield Check(
            "validation", "warn",
            f"{_part(leaked, len(inspection.validation_samples), 'validation picture')} nearly or quite the same as "
            "one in training",
            "The validation score will look better than it is. Divide the pictures with pixel-llm split, which keeps "
            "such pictures together, or give --val a folder of its own.",
        )  # fmt: skip
    else:
        yield Check(
            "validation", "ok", f"{_counted(len(inspection.validation_samples), 'picture')}, none of them leaked"
        )


def _part(count: int, total: int, what: str = "picture") -> str:
    """`3 of 200 pictures (1.5 %) are`, ready for what they are."""
    if count == 0:
        return f"none of {_counted(total, what)} is"
    return f"{count:,} of {_counted(total, what)} ({_share(count / total)}) {'is' if count == 1 else 'are'}"


def _mostly(reasons: Iterable[str]) -> str:
    """The most frequent of the reasons, of which there is one at least."""
    ((reason, count),) = Counter(reasons).most_common(1)
    return f"most often: {reason} ({count:,})"


def _counted(count: int, what: str, plural: str | None = None) -> str:
    return f"{count:,} {what if count == 1 else plural or what + 's'}"


def _share(share: float) -> str:
    return f"{share:.1%}".replace(".0%", "%").replace("%", " %")
