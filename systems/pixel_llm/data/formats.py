"""Which format a data folder has: every reader that could apply is tried, and the one that reads most pairs is taken.

`find_format` gives the name of that format and its file, `read_best` the whole reading. A format that is named, a file
that is named and options that only some formats know leave fewer readers to try. Of readings of as many pairs the
first in the order of the registry is taken. What the others would have read is told with the reading.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from systems.pixel_llm.data.folder import MANIFEST_FILE, FolderListing, hint_from, list_folder, shown
from systems.pixel_llm.data.places import PicturePlaces
from systems.pixel_llm.data.readers.reader import Reader, ReaderOptions, Reading, told_as
from systems.pixel_llm.data.readers.registry import READERS
from systems.pixel_llm.errors import ConfigError, DatasetError, nearest_name_hint

__all__ = ["AUTO", "find_format", "read_best"]

AUTO = "auto"
"""The `caption_format` that means: look."""

_FAILURES_TOLD = 3


@dataclass(frozen=True)
class _Candidate:
    """A reader, and the file it would read."""

    reader: Reader
    manifest: Path | None
    is_named: bool = False
    """Whether somebody asked for this very file."""

    def check_stays_inside(self, dataset_dir: Path) -> None:
        """Refuse a file that was only found, and that a link brings in from elsewhere."""
        if self.manifest is not None and not self.is_named:
            PicturePlaces(roots=[dataset_dir]).check_link(str(self.manifest))

    def read(self, dataset_dir: Path, options: ReaderOptions) -> Reading:
        """Read it, if it may be read."""
        self.check_stays_inside(dataset_dir)
        return self.reader.read(dataset_dir, self.manifest, options)


def find_format(
    dataset_dir: str | os.PathLike[str], *, manifest: str | os.PathLike[str] | None = None
) -> tuple[str, Path | None]:
    """The caption format of a folder, and the file that names its pictures, None in the formats that have no such file.

    A manifest that is given decides; else the reading of most pairs.

    Raises:
        DatasetError: the folder or the manifest does not exist, or no captions are there; the message names what
            was looked for, what was found, and what to do.
    """
    listing = list_folder(dataset_dir)
    candidates = _candidates(listing, _readers(AUTO, manifest, ReaderOptions()), manifest)
    if len(candidates) == 1:
        candidates[0].check_stays_inside(listing.folder)
        return candidates[0].reader.name, candidates[0].manifest
    reading = _best(listing, candidates, ReaderOptions())
    return reading.caption_format, reading.manifest


def read_best(
    dataset_dir: str | os.PathLike[str],
    caption_format: str,
    manifest: str | os.PathLike[str] | None = None,
    *,
    options: ReaderOptions,
) -> Reading:
    """Read a folder in a format, "auto" for the one that fits best.

    Raises:
        DatasetError: nothing is left, or something cannot be read or leaves the folder; the message names file and
            cure.
        ConfigError: the format is unknown, or does not go with the manifest or the options.
    """
    readers = _readers(caption_format, manifest, options)
    listing = list_folder(dataset_dir)  # a folder that does not exist is the first thing to say
    return _best(listing, _candidates(listing, readers, manifest), options)


def _readers(caption_format: str, manifest: str | os.PathLike[str] | None, options: ReaderOptions) -> list[Reader]:
    """The readers, at least one, that a format, a manifest and the options leave."""
    if caption_format != AUTO and caption_format not in READERS:
        raise ConfigError(
            f"caption_format must be one of {', '.join(map(repr, (AUTO, *READERS)))}, not {caption_format!r}. "
            f"{nearest_name_hint(str(caption_format), (AUTO, *READERS))}"
        )
    readers = [reader for name, reader in READERS.items() if caption_format in (AUTO, name)]
    if manifest is not None:
        readers = [reader for reader in readers if reader.has_manifest]
        if not readers:
            raise ConfigError(
                f"manifest_file={str(manifest)!r} names a file of pictures and captions, and caption_format is "
                f"{caption_format!r}, which has none. Set caption_format='json', or 'auto' to find out by looking, or "
                "leave manifest_file out."
            )
    for name, value in options.given.items():
        readers = [reader for reader in readers if name in reader.options]
        if not readers:
            knowing = [repr(reader.name) for reader in READERS.values() if name in reader.options]
            raise ConfigError(
                f"{name}={value!r} means something to the formats {', '.join(knowing)} only, which caption_format="
                f"{caption_format!r}, the manifest or another option leaves out. Leave {name} out, or those."
            )
    return readers


def _candidates(
    listing: FolderListing, readers: Sequence[Reader], manifest: str | os.PathLike[str] | None
) -> list[_Candidate]:
    """What could be read, at least one."""
    if manifest is not None:
        path = _find_manifest(listing, manifest)
        fitting = [reader for reader in readers if reader.fits(path)]
        return [_Candidate((fitting or readers)[0], path, is_named=True)]
    candidates = [_Candidate(reader, path) for reader in readers for path in reader.find(listing)]
    if candidates:
        return candidates
    if len(readers) == 1 and not readers[0].has_manifest:
        return [_Candidate(readers[0], None)]  # its own error says best what is missing
    if [reader.name for reader in readers] == ["json"]:
        _find_manifest(listing, MANIFEST_FILE)
    looked_for = "; ".join(reader.looked_for for reader in readers)
    raise DatasetError(f"No captions found in {shown(listing.folder)}: looked for {looked_for}. {hint_from(listing)}")


def _find_manifest(listing: FolderListing, manifest: str | os.PathLike[str]) -> Path:
    """The manifest's path: `manifest` as given or, where there is no such file, inside the folder."""
    looked_at = [Path(manifest), listing.folder / manifest]
    for path in looked_at:
        if os.path.isfile(path):  # noqa: PTH113  Path.is_file raises where a folder may not be entered
            return path
    raise DatasetError(
        f"The manifest {shown(looked_at[0])} does not exist or is not a file: expected a file that names pictures and "
        f"their captions. {hint_from(listing)}"
    )


def _best(listing: FolderListing, candidates: Sequence[_Candidate], options: ReaderOptions) -> Reading:
    """The reading of most pairs, the first of those that have as many."""
    folder = listing.folder
    if len(candidates) == 1:
        return candidates[0].read(folder, options)
    readings, failed = [], []
    for candidate in candidates:
        told = told_as(candidate.reader.title, folder, candidate.manifest)
        try:
            readings.append((told, candidate.read(folder, options)))
        except DatasetError as error:
            failed.append((told, error))
    if not readings:
        reasons = " ".join(f"As {told}: {error}" for told, error in failed[:_FAILURES_TOLD])
        raise DatasetError(f"{shown(folder)} can be read in none of {len(failed)} ways. {reasons}") from failed[0][1]
    best = max(range(len(readings)), key=lambda index: (readings[index][1].pairs, -index))
    others = [
        f"{told} ({each.pairs:,} {'caption' if each.pairs == 1 else 'captions'})"
        for told, each in readings[:best] + readings[best + 1 :]
    ]
    return replace(readings[best][1], others=[*others, *(f"{told} (gives no captions)" for told, _ in failed)])
