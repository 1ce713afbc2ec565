"""What is remembered of a data set, so that a resume can tell later what changed in it: names and captions, no pixels.

A digest over all names and captions, in their order, says whether anything changed. To say what, the names are kept
too, compressed, with a checksum of the captions of each picture, up to `MAX_NAMED` pictures: some ten bytes each.
Names are relative to the data, since a folder that was moved is the same folder. No file is opened. A dataset of the
user's own is known as far as it tells: by its captions, else by its class and length.
"""

import base64
import binascii
import hashlib
import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systems.pixel_llm.data.folder import shown
from systems.pixel_llm.data.inner_datasets import captions_of, innermost_datasets, samples_of
from systems.pixel_llm.data.sample_table import SampleTable
from systems.pixel_llm.errors import CheckpointError

__all__ = ["MAX_NAMED", "DataFingerprint", "data_fingerprint", "shared_names", "told_changes"]

MAX_NAMED = 50_000
"""Of more pictures than this only the digest is kept: each checkpoint holds this record."""

_MAX_BYTES_A_NAME = 5_000
_NUM_SHOWN = 3
_SEPARATOR = "\0"
"""The one character that no file's name has."""
_ERRORS = "surrogatepass"


@dataclass(frozen=True, kw_only=True)
class DataFingerprint:
    """A data set as it was, in numbers and digests; JSON can hold it."""

    kind: str
    """The dataset's class, or the classes of those inside it."""
    num_pictures: int | None
    """None where the dataset has no length."""
    num_captions: int | None = None
    digest: str | None = None
    """Of names and captions in their order, without folders; None where the dataset tells no captions."""
    names: str | None = None
    """The pictures' names relative to the data, packed; None where there are none or too many."""
    checksums: str | None = None
    """Of the captions of each picture, packed."""

    def to_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> "DataFingerprint":
        """From the checkpoint; what another version wrote beside is passed over.

        Raises:
            CheckpointError: it is no such record.
        """
        known: dict[str, Any] = {}
        for each in fields(cls):
            value = values.get(each.name) if isinstance(values, dict) else None
            kind = int if each.name in ("num_pictures", "num_captions") else str
            if not isinstance(value, kind) and (value is not None or each.name == "kind"):
                raise CheckpointError(f"The checkpoint's record of its data cannot be read: {str(values)[:80]!r}.")
            known[each.name] = value
        return cls(**known)

    def unpacked(self) -> dict[str, int] | None:
        """Name -> checksum of its captions, in the order of the data; None where no names are kept.

        Raises:
            CheckpointError: the record is damaged.
        """
        if self.names is None or self.checksums is None or self.num_pictures is None:
            return None
        try:
            unpacking = zlib.decompressobj()
            packed = unpacking.decompress(base64.b64decode(self.names), self.num_pictures * _MAX_BYTES_A_NAME)
            names = packed.decode("utf-8", _ERRORS).split(_SEPARATOR)
            checksums = np.frombuffer(base64.b64decode(self.checksums), "<u4").tolist()
            return dict(zip(names, checksums, strict=True))
        except (zlib.error, ValueError, binascii.Error) as error:
            raise CheckpointError(f"The checkpoint's record of its data is damaged ({error}).") from error


def data_fingerprint(dataset: Any, *, beside: Any = None) -> DataFingerprint:
    """The fingerprint of any dataset, seen through Subset and ConcatDataset.

    Args:
        dataset: the dataset.
        beside: one whose folder its names are relative to, so that the names of both can be compared; left out, its
            own.
    """
    kind = " and ".join(sorted({type(each).__name__ for each in innermost_datasets(dataset)}))
    samples = samples_of(dataset)
    if samples is None:
        return _of_unnamed(dataset, kind)
    folders = [getattr(each, "dataset_dir", None) for each in innermost_datasets(beside) + innermost_datasets(dataset)]
    base = next((folder for folder in folders if folder is not None), os.curdir)
    checksums = _caption_checksums(samples)
    names, last_parts = _relative_names(samples.names, os.fspath(base))
    joined = _SEPARATOR.join(names)
    is_named = len(names) <= MAX_NAMED and joined.count(_SEPARATOR) == len(names) - 1
    return DataFingerprint(
        kind=kind,
        num_pictures=len(samples),
        num_captions=len(samples.captions),
        digest=_digest(_SEPARATOR.join(last_parts).encode("utf-8", _ERRORS), checksums.tobytes()),
        names=_packed(zlib.compress(joined.encode("utf-8", _ERRORS))) if is_named else None,
        checksums=_packed(checksums.tobytes()) if is_named else None,
    )


def _of_unnamed(dataset: Any, kind: str) -> DataFingerprint:
    captions = captions_of(dataset)
    try:
        num_pictures = len(dataset)
    except TypeError:
        num_pictures = None
    if captions is None or not all(isinstance(caption, str) for caption in captions):
        return DataFingerprint(kind=kind, num_pictures=num_pictures)
    return DataFingerprint(
        kind=kind,
        num_pictures=num_pictures,
        num_captions=len(captions),
        digest=_digest(_SEPARATOR.join(captions).encode("utf-8", _ERRORS)),
    )


def _caption_checksums(samples: SampleTable) -> NDArray[np.uint32]:
    """[count] CRC-32 of the captions of each picture, the borders between them included."""
    counts, captions = samples.num_captions_of_each.tolist(), iter(samples.captions)
    found = np.empty(len(counts), "<u4")
    for row, count in enumerate(counts):
        text = next(captions) if count == 1 else _SEPARATOR.join([next(captions) for _ in range(count)])
        found[row] = zlib.crc32(text.encode("utf-8", _ERRORS))
    return found


def _relative_names(names: Iterable[str], base: str) -> tuple[list[str], list[str]]:
    """The names relative to a folder, and their last parts."""
    folders: dict[str, str] = {}
    relative, last_parts = [], []
    for name in names:
        folder, last = os.path.split(name)
        if folder not in folders:  # each is looked at once, however many pictures it has
            below = os.path.relpath(folder or os.curdir, base).replace(os.sep, "/")
            folders[folder] = "" if below == os.curdir else f"{below}/"
        relative.append(folders[folder] + last)
        last_parts.append(last)
    return relative, last_parts


def _digest(*parts: bytes) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _packed(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


# --- what changed -----------------------------------------------------------------------------------------------------


def told_changes(before: DataFingerprint, now: DataFingerprint) -> str | None:
    """What changed, in words such as "1,204 pictures instead of 1,200; 4 are new (a.jpg, b.jpg, c.jpg and 1 more)".

    None where nothing did, as far as both sides tell.

    Raises:
        CheckpointError: the record of what was before is damaged.
    """
    told = []
    if now.kind != before.kind:
        told.append(f"a dataset of the class {now.kind} instead of {before.kind}")
    if now.num_pictures != before.num_pictures:
        told.append(f"{_count(now.num_pictures, 'picture')} instead of {_number(before.num_pictures)}")
    if before.digest is None or now.digest is None or before.digest == now.digest:
        return "; ".join(told) or None
    if now.num_captions != before.num_captions and now.num_pictures == before.num_pictures:
        told.append(f"{_count(now.num_captions, 'caption')} instead of {_number(before.num_captions)}")
    names_before, names_now = before.unpacked(), now.unpacked()
    if names_before is not None and names_now is not None:
        told += _told_names(names_before, names_now)
    return "; ".join(told) or "as many pictures and captions as before, but other ones or in another order"


def _told_names(before: dict[str, int], now: dict[str, int]) -> list[str]:
    if not before.keys() & now.keys():  # the folders may have moved, too
        before, now = _by_last_part(before), _by_last_part(now)
    new = [name for name in now if name not in before]
    gone = [name for name in before if name not in now]
    other = [name for name in now if before.get(name, now[name]) != now[name]]
    told = [
        f"{len(names):,} {'is' if len(names) == 1 else 'are'} {what} ({some(names)})"
        for what, names in (("new", new), ("gone", gone))
        if names
    ]
    if other:
        told.append(f"{len(other):,} {'has' if len(other) == 1 else 'have'} other captions ({some(other)})")
    return told or ["the same pictures in another order"]


def _by_last_part(checksums: dict[str, int]) -> dict[str, int]:
    shortened = {name.rpartition("/")[2]: checksum for name, checksum in checksums.items()}
    return shortened if len(shortened) == len(checksums) else checksums


def shared_names(one: DataFingerprint, other: DataFingerprint) -> list[str]:
    """The pictures that are in both, where both tell their names, relative to the same folder.

    Raises:
        CheckpointError: a record is damaged.
    """
    in_one = one.unpacked() or {}
    return [name for name in other.unpacked() or () if name in in_one]


def some(names: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(names) - _NUM_SHOWN:,} more" if len(names) > _NUM_SHOWN else ""
    return ", ".join(map(shown, names[:_NUM_SHOWN])) + more


def _count(number: int | None, what: str) -> str:
    return f"{_number(number)} {'of ' if number is None else ''}{what}{'' if number == 1 else 's'}"


def _number(number: int | None) -> str:
    return "an unknown number" if number is None else f"{number:,}"
