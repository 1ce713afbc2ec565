"""Samples in flat arrays: a sequence of `Sample` that costs some tens of bytes a picture beside names and captions.

A Python list of a million samples is millions of objects. Worker processes share it only until they touch it, since
counting references writes to every object looked at, and so each worker's memory grows over an epoch to a copy of its
own. Here all names are one block of bytes and all captions another, with an array of where each ends; a `Sample` is
made when it is asked for.
"""

import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray

from systems.pixel_llm.data.picture_path import PackedPicture, PicturePath

__all__ = ["Sample", "SampleTable", "TextColumn"]

_ERRORS = "surrogatepass"
"""A file's name may hold bytes that are no text, which Python keeps as lone surrogates."""


@dataclass(frozen=True)
class Sample:
    """One picture and what is said of it: at least one caption."""

    image_path: PicturePath
    captions: tuple[str, ...]


class TextColumn(Sequence[str]):
    """Many texts in one block of bytes."""

    def __init__(self, block: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        """`ends` [count] is where in `block` each text ends, the first beginning at 0."""
        self._block, self._ends = block, ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> "TextColumn":
        """A column of these texts."""
        return cls._of_bytes([text.encode("utf-8", _ERRORS) for text in texts])

    @classmethod
    def _of_bytes(cls, parts: list[bytes]) -> "TextColumn":
        lengths = np.fromiter(map(len, parts), np.int64, len(parts))
        return cls(np.frombuffer(b"".join(parts), np.uint8), np.cumsum(lengths))

    @property
    def nbytes_of_texts(self) -> int:
        """Bytes of the texts alone."""
        return int(self._block.nbytes)

    @property
    def nbytes(self) -> int:
        """Bytes of texts and index."""
        return int(self._block.nbytes + self._ends.nbytes)

    def select(self, rows: NDArray[np.int64]) -> "TextColumn":
        """A column of these texts, in this order."""
        starts, ends = np.where(rows > 0, self._ends[rows - 1], 0), self._ends[rows]
        # Rows that follow one another, as most do in a side of a split, are copied as one stretch.
        firsts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
        lasts = np.append(firsts[1:], len(rows)) - 1
        stretches = zip(starts[firsts].tolist(), ends[lasts].tolist(), strict=True) if len(rows) else ()
        return TextColumn(
            np.concatenate([self._block[:0], *(self._block[start:end] for start, end in stretches)]),
            np.cumsum(ends - starts),
        )

    @classmethod
    def joined(cls, columns: Sequence["TextColumn"]) -> "TextColumn":
        """The texts of several columns, at least one, in order."""
        return cls(
            np.concatenate([column._block for column in columns]),
            _joined_ends([column._ends for column in columns], [len(column._block) for column in columns]),
        )

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        return self._bytes_at(_row(index, len(self))).decode("utf-8", _ERRORS)

    def __iter__(self) -> Iterator[str]:
        block, start = self._block.tobytes(), 0
        for end in self._ends.tolist():
            yield block[start:end].decode("utf-8", _ERRORS)
            start = end

    def _bytes_at(self, row: int) -> bytes:
        start = self._ends[row - 1] if row else 0
        return self._block[start : self._ends[row]].tobytes()


class SampleTable(Sequence[Sample]):
    """Samples in flat arrays; equal to any sequence of equal samples."""

    def __init__(
        self,
        names: TextColumn,
        captions: TextColumn,
        caption_ends: NDArray[np.int64],
        packed: "_PackedColumns | None" = None,
    ) -> None:
        """`caption_ends` [count] is where in `captions` those of each picture end."""
        self._names, self.captions, self._caption_ends, self._packed = names, captions, caption_ends, packed

    captions: TextColumn
    """All captions of all samples, in order."""

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> "SampleTable":
        """The table of these samples, which may be one already."""
        if isinstance(samples, SampleTable):
            return samples
        samples = list(samples)
        return cls.of_columns([each.image_path for each in samples], [each.captions for each in samples])

    @classmethod
    def of_columns(cls, paths: Sequence[str | PicturePath], captions_of_each: Sequence[Sequence[str]]) -> "SampleTable":
        """The table of pictures and, for each of them, its captions."""
        counts = np.fromiter(map(len, captions_of_each), np.int64, len(captions_of_each))
        is_packed = any(isinstance(path, PackedPicture) for path in paths)
        return cls(
            TextColumn.of(os.fspath(path) for path in paths),
            TextColumn.of(chain.from_iterable(captions_of_each)),
            np.cumsum(counts),
            _PackedColumns.of(paths) if is_packed else None,
        )

    @classmethod
    def joined(cls, tables: Sequence["SampleTable"]) -> "SampleTable":
        """The samples of several tables, at least one, in order."""
        if len(tables) == 1:
            return tables[0]
        return cls(
            TextColumn.joined([table._names for table in tables]),
            TextColumn.joined([table.captions for table in tables]),
            _joined_ends([table._caption_ends for table in tables], [len(table.captions) for table in tables]),
            _PackedColumns.joined([(len(table), table._packed) for table in tables]),
        )

    @property
    def nbytes_of_index(self) -> int:
        """Bytes of all but the captions' own text."""
        packed = 0 if self._packed is None else self._packed.nbytes
        ends = self.captions.nbytes - self.captions.nbytes_of_texts
        return self._names.nbytes + ends + int(self._caption_ends.nbytes) + packed

    @property
    def num_captions_of_each(self) -> NDArray[np.int64]:
        """[count] how many captions each picture has."""
        return np.diff(self._caption_ends, prepend=0)

    @property
    def names(self) -> TextColumn:
        """What each picture is called: its path."""
        return self._names

    def select(self, rows: Iterable[int]) -> "SampleTable":
        """A table of the samples in these rows, counted from 0, in this order."""
        rows = np.fromiter(rows, np.int64)
        starts, counts = self._caption_starts[rows], self.num_captions_of_each[rows]
        ends = np.cumsum(counts)
        return SampleTable(
            self._names.select(rows),
            self.captions.select(np.repeat(starts - (ends - counts), counts) + np.arange(counts.sum())),
            ends,
            None if self._packed is None else self._packed.select(rows),
        )

    def evenly_spaced(self, count: int) -> "SampleTable":
        """At most `count` of the samples, spread over their order, the same ones each time."""
        if len(self) <= count:
            return self
        return self.select(place * len(self) // count for place in range(count))

    def path(self, index: int) -> PicturePath:
        """Where the picture of a sample lies."""
        name = self._names[index]
        packed = None if self._packed is None else self._packed.picture(index, name)
        return Path(name) if packed is None else packed

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> "SampleTable": ...
    def __getitem__(self, index: SupportsIndex | slice) -> "Sample | SampleTable":
        if isinstance(index, slice):
            return self.select(range(*index.indices(len(self))))
        row = _row(index, len(self))
        start = int(self._caption_ends[row - 1]) if row else 0
        captions = tuple(self.captions[place] for place in range(start, int(self._caption_ends[row])))
        return Sample(self.path(row), captions)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # equal to lists, which have none

    def __repr__(self) -> str:
        return f"SampleTable({len(self)} pictures, {len(self.captions)} captions)"

    @property
    def _caption_starts(self) -> NDArray[np.int64]:
        return np.concatenate([np.zeros(1, np.int64), self._caption_ends[:-1]])


@dataclass(frozen=True)
class _PackedColumns:
    """Of pictures inside larger files: which file, and where in it."""

    containers: tuple[str, ...]
    container_of_each: NDArray[np.int32]
    """[count], -1 for a picture that is a file of its own."""
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, paths: Sequence[str | PicturePath]) -> "_PackedColumns":
        places: dict[str, int] = {}
        columns = np.zeros((3, len(paths)), np.int64)
        columns[0] = -1
        for row, path in enumerate(paths):
            if isinstance(path, PackedPicture):
                columns[:, row] = places.setdefault(path.container, len(places)), path.offset, path.size
        return cls(tuple(places), columns[0].astype(np.int32), columns[1].copy(), columns[2].copy())

    @classmethod
    def joined(cls, parts: "Sequence[tuple[int, _PackedColumns | None]]") -> "_PackedColumns | None":
        """Of several tables, each with its number of pictures."""
        if all(packed is None for _, packed in parts):
            return None
        containers: list[str] = []
        columns: list[NDArray[np.int64]] = []
        for count, packed in parts:
            if packed is None:
                columns.append(np.array([[-1], [0], [0]], np.int64).repeat(count, axis=1))
                continue
            numbers = packed.container_of_each.astype(np.int64)
            numbers[numbers >= 0] += len(containers)
            containers += packed.containers
            columns.append(np.stack([numbers, packed.offsets, packed.sizes]))
        numbers, offsets, sizes = np.concatenate(columns, axis=1)
        return cls(tuple(containers), numbers.astype(np.int32), offsets, sizes)

    @property
    def nbytes(self) -> int:
        return int(self.container_of_each.nbytes + self.offsets.nbytes + self.sizes.nbytes)

    def select(self, rows: NDArray[np.int64]) -> "_PackedColumns":
        return _PackedColumns(self.containers, self.container_of_each[rows], self.offsets[rows], self.sizes[rows])

    def picture(self, row: int, name: str) -> PackedPicture | None:
        container = int(self.container_of_each[row])
        if container < 0:
            return None
        return PackedPicture(self.containers[container], int(self.offsets[row]), int(self.sizes[row]), name)


def _joined_ends(ends: Sequence[NDArray[np.int64]], lengths: Sequence[int]) -> NDArray[np.int64]:
    """Where things end, each part of them counted from its own start, counted from the start of all."""
    starts = np.cumsum([0, *lengths[:-1]])
    return np.concatenate([each + start for each, start in zip(ends, starts, strict=True)])


def _row(index: SupportsIndex, count: int) -> int:
    row = operator.index(index)
    if not -count <= row < count:
        raise IndexError(f"There are {count}; there is none at {row}.")
    return row % count
