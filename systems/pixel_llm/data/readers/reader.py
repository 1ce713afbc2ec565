"""What every reader of captions is given and gives.

A `Reader` is one format: `find` says, from a glance at a folder, which of its files could be of that format, and `read`
reads one of them. What comes out is a `Reading`: the samples, and what was passed over and why. Readers log nothing, so
that several can be tried and the best one be told.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from systems.pixel_llm.data.folder import FolderListing, shown
from systems.pixel_llm.data.sample_table import Sample, SampleTable
from systems.pixel_llm.errors import ConfigError

__all__ = [
    "LONE_CAPTION",
    "NO_SUCH_PICTURE",
    "Reader",
    "ReaderOptions",
    "Reading",
    "Sample",
    "first_names",
    "told_as",
]

CAPTIONS_PER_FILE = ("one", "lines")

NO_SUCH_PICTURE = "no such picture"
LONE_CAPTION = "captions but no picture of that name"
"""Reasons of all formats for passing over what would have been a caption: by them `find_unpaired` knows it."""

_NAME_TOLD = 200


@dataclass(frozen=True, kw_only=True)
class ReaderOptions:
    """What a reader may be told. Left out, columns are found by their names.

    Raises:
        ConfigError: a value is none of those allowed.
    """

    captions_per_file: str = "one"
    """What a caption file holds: "one" caption, or a caption a line ("lines")."""
    image_column: str | None = None
    """Column or key of the picture's name."""
    caption_column: str | None = None
    """Column or key of the caption."""
    use_repeats: bool = False
    """Whether `Reading.repeats` will be used. It changes what is told, not what is read."""

    def __post_init__(self) -> None:
        if self.captions_per_file not in CAPTIONS_PER_FILE:
            raise ConfigError(f"captions_per_file must be 'one' or 'lines', not {self.captions_per_file!r}.")

    @property
    def given(self) -> dict[str, str]:
        """Those that differ from what is taken when nothing is said."""
        values = {"image_column": self.image_column, "caption_column": self.caption_column}
        if self.captions_per_file != "one":
            values["captions_per_file"] = self.captions_per_file
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A folder read in one format."""

    caption_format: str
    dataset_dir: Path
    manifest: Path | None
    """The file that names the pictures, where the format has one."""
    samples: SampleTable
    """Sorted by name."""
    passed_over: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Reason, as in "no such picture" -> the names concerned."""
    told: str = ""
    """The format and its file, and what else there is to say in the line that tells them."""
    split: Mapping[str, SampleTable] = field(default_factory=dict)
    """The parts "train", "dev", "test" of the samples, where lists that say so lie there."""
    others: Sequence[str] = ()
    """The other readings that were tried, in words."""
    repeats: NDArray[np.int64] | None = field(default=None, compare=False)
    """[count] how often each sample is to come for each time that another does, where the format says so."""

    @property
    def told_in_full(self) -> str:
        """`told`, and what else lies there."""
        return f"{self.told} (also there, and not used: {'; '.join(self.others)})" if self.others else self.told

    @property
    def pairs(self) -> int:
        """Captions of pictures that are there."""
        return len(self.samples.captions)

    @property
    def skipped(self) -> str:
        """What was passed over, in words; empty where nothing was."""
        reasons = [
            f"{len(names)} with {reason} ({first_names(names)})" for reason, names in self.passed_over.items() if names
        ]
        return " and ".join(reasons)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One format."""

    name: str
    """As in `caption_format`."""
    title: str
    """As in "read as: COCO captions"."""
    find: Callable[[FolderListing], list[Path | None]]
    """The files of a folder that could be of this format, at a glance; [None] where no one file names pictures."""
    read: Callable[[Path, Path | None, ReaderOptions], Reading]
    """Read a folder. Raises DatasetError where nothing is left or something cannot be read or leaves the folder."""
    looked_for: str
    """What `find` looks for, in words."""
    has_manifest: bool = True
    """Whether a file that names pictures can be given; shards are read all, or the one that is given."""
    fits: Callable[[Path], bool] = lambda path: False
    """Whether a file that somebody named as manifest looks like one of this format."""
    options: frozenset[str] = frozenset()
    """The names in `ReaderOptions` that mean something to it."""


def told_as(title: str, dataset_dir: Path, manifest: Path | None) -> str:
    """A format and its file, as in "COCO captions, annotations/captions.json"."""
    if manifest is None:
        return title
    below = os.path.relpath(manifest, dataset_dir)
    return f"{title}, {shown(manifest if below.startswith(os.pardir) else below)}"


def first_names(names: Sequence[str]) -> str:
    """The first three, for a message, long ones cut."""
    told = [name if len(name) <= _NAME_TOLD else f"{name[:_NAME_TOLD]}..." for name in names[:3]]
    return ", ".join(map(shown, told)) + (", ..." if len(names) > 3 else "")
