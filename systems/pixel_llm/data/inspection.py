"""`inspect_samples`: everything that is known of a data set before a model sees it, in one record.

The pictures are scanned once (`inspection_pictures`), the captions read once (`inspection_captions`), copies and leaks
found from what the scan saw (`duplicates`), and files without a partner from the folder (`unpaired`). The checks at the
end (`inspection_checks`) put it into a few sentences with advice: whether training should start, and what to do first.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from systems.pixel_llm.data.duplicates import DuplicateGroup, find_duplicates
from systems.pixel_llm.data.inspection_captions import TextsReport, inspect_captions, inspect_texts
from systems.pixel_llm.data.inspection_pictures import (
    BadPicture,
    OddPicture,
    PictureSizes,
    ScannedPicture,
    oddities,
    sizes_of,
)
from systems.pixel_llm.data.picture_path import PicturePath
from systems.pixel_llm.data.same_pictures import files_on_both_sides
from systems.pixel_llm.data.samples import Sample
from systems.pixel_llm.data.scan_cache import ScanCache
from systems.pixel_llm.data.unpaired import UnpairedFiles

__all__ = ["Inspection", "inspect_samples"]


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What was found out about a data set."""

    train_samples: tuple[Sample, ...]
    validation_samples: tuple[Sample, ...]
    image_size: int
    """Side of the model's pictures, in pixels: what the sizes are judged by."""
    sizes: PictureSizes | None
    """Of the pictures that can be read; None where there is none."""
    kinds: tuple[tuple[str, int], ...]
    """Kinds of picture files with their number, most frequent first."""
    captions: TextsReport | None
    """None where there is no caption; a `CaptionsReport` where their tokens were counted."""
    bad: tuple[BadPicture, ...]
    """The pictures that training would skip, and no others."""
    odd: tuple[OddPicture, ...]
    duplicates: tuple[DuplicateGroup, ...]
    unpaired: UnpairedFiles

    @property
    def num_pictures(self) -> int:
        """Pictures with captions, readable or not."""
        return len({sample.image_path for sample in (*self.train_samples, *self.validation_samples)})

    @property
    def bad_share(self) -> float:
        """Of the pictures, those that cannot be read."""
        return len(self.bad) / self.num_pictures if self.num_pictures else 0.0

    @property
    def shared_pictures(self) -> tuple[PicturePath, ...]:
        """Picture files that are both in the training and in the validation data."""
        sides = (self.train_samples, self.validation_samples)
        train, validation = ([sample.image_path for sample in samples] for samples in sides)
        return tuple(files_on_both_sides(train, validation))

    @property
    def leaks(self) -> tuple[DuplicateGroup, ...]:
        """The groups of like pictures that are on both sides of the split."""
        return tuple(group for group in self.duplicates if group.is_leak)

    def to_dict(self) -> dict[str, Any]:
        """The record as plain values for a JSON file, without the samples themselves."""
        return {
            "samples": len(self.train_samples) + len(self.validation_samples),
            "train_samples": len(self.train_samples),
            "validation_samples": len(self.validation_samples),
            "image_size": self.image_size,
            "sizes": None if self.sizes is None else asdict(self.sizes),
            "kinds": dict(self.kinds),
            "captions": None if self.captions is None else _captions_as_dict(self.captions),
            "bad": [{"path": str(each.path), "reason": each.reason} for each in self.bad],
            "odd": [{"path": str(each.path), "what": list(each.what)} for each in self.odd],
            "duplicates": [
                {
                    "paths": [str(path) for path in group.paths],
                    "is_exact": group.is_exact,
                    "copied_paths": [str(path) for path in group.copied_paths],
                    "is_leak": group.is_leak,
                    "validation_paths": [str(path) for path in group.validation_paths],
                }
                for group in self.duplicates
            ],
            "pictures_without_captions": [str(path) for path in self.unpaired.pictures],
            "captions_without_pictures": list(self.unpaired.captions),
        }


def _captions_as_dict(report: TextsReport) -> dict[str, Any]:
    found = asdict(report)
    for each in found["suspects"]:
        each["path"] = str(each["path"])
    return found


def inspect_samples(
    train_samples: Sequence[Sample],
    validation_samples: Sequence[Sample] = (),
    *,
    image_size: int = 224,
    max_seq_len: int | None = 128,
    unpaired: UnpairedFiles | None = None,
    num_workers: int | None = None,
    cache: ScanCache | None = None,
) -> Inspection:
    """Look at every picture and every caption of the samples, of which there may be none.

    Args:
        train_samples: what a model would learn from.
        validation_samples: what it would be measured on.
        image_size: side of the model's pictures, in pixels.
        max_seq_len: most tokens of a caption that the model takes, its end mark included. None: tokens are not counted,
            which takes as long as all the rest once the pictures are known.
        unpaired: what the reader of the samples left over.
        num_workers: threads that look at pictures; left out, one a processor core.
        cache: what is known of pictures already; it learns of the others.
    """
    train_samples, validation_samples = tuple(train_samples), tuple(validation_samples)  # each sample is made once
    samples = [*train_samples, *validation_samples]
    paths = list(dict.fromkeys(sample.image_path for sample in samples))
    cache = cache or ScanCache()
    scanned = cache.scan(paths, num_workers=num_workers)
    pictures = [each for each in scanned if isinstance(each, ScannedPicture)]
    for_validation = {sample.image_path for sample in validation_samples}
    odd = [OddPicture(each.path, what) for each in pictures if (what := oddities(each))]
    captions: TextsReport | None = None
    if any(sample.captions for sample in samples):
        captions = inspect_texts(samples) if max_seq_len is None else inspect_captions(samples, max_seq_len=max_seq_len)
    return Inspection(
        train_samples=train_samples,
        validation_samples=validation_samples,
        image_size=image_size,
        sizes=sizes_of(pictures, image_size=image_size),
        kinds=tuple(Counter(each.facts.kind for each in pictures).most_common()),
        captions=captions,
        bad=tuple(each for each in scanned if isinstance(each, BadPicture)),
        odd=tuple(odd),
        duplicates=tuple(find_duplicates(pictures, validation_paths=for_validation, digest=cache.digest)),
        unpaired=unpaired or UnpairedFiles(),
    )
