"""Files of tensors in the safetensors format: written one tensor after the other, and their headers read strictly.

The format (https://github.com/huggingface/safetensors, "Format"): 8 bytes with the length of the header, little endian;
the header, JSON with the dtype, shape and place of each tensor; then their bytes, row by row. The package's own
`save_file` gathers all of it before it writes. Here a tensor's bytes are asked for when their turn comes.

`read_header` trusts nothing: it reads a bounded number of bytes, and what it accepts describes every byte of the file
once, so that no memory is taken on the word of a header. It accepts less than the package does, never more.
Layer 1, no torch: a tensor is its bytes.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, NoReturn

from systems.pixel_llm.errors import CheckpointError
from systems.pixel_llm.folder_writer import FileSink
from systems.pixel_llm.plain_files import open_plain

__all__ = [
    "DTYPE_BYTES", "MAX_HEADER_BYTES", "MAX_TENSORS", "TensorEntry", "TensorHeader", "TensorSource", "parse_header",
    "read_header", "write_tensors",
]  # fmt: skip

DTYPE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
"""The format's name of each dtype -> bytes an element."""
MAX_HEADER_BYTES = 8 << 20
"""A header has some hundred bytes a tensor."""
MAX_TENSORS = 50_000
"""The optimizer of a model with a thousand parameters has three thousand."""
_MAX_DIMENSIONS = 16
_LENGTH_BYTES = 8
_ALIGNMENT = 8
_METADATA = "__metadata__"
_ZIP, _PICKLE, _PICKLE_END = b"PK\x03\x04", b"\x80", b"."


@dataclass(frozen=True)
class TensorSource:
    """A tensor to be written."""

    name: str
    dtype: str
    """One of `DTYPE_BYTES`."""
    shape: tuple[int, ...]
    read: Callable[[], memoryview]
    """Its bytes, row by row; called once, when they are written."""

    @property
    def num_bytes(self) -> int:
        """Of all elements."""
        return prod(self.shape) * DTYPE_BYTES[self.dtype]


def write_tensors(file: FileSink, tensors: Sequence[TensorSource], *, metadata: Mapping[str, str]) -> None:
    """Write `tensors` into `file`, in the order in which readers expect them: widest dtype first, then by name.

    Raises:
        OSError: the disk is full or failing.
    """
    ordered = sorted(tensors, key=lambda tensor: (-DTYPE_BYTES[tensor.dtype], tensor.name))
    header: dict[str, object] = {_METADATA: dict(metadata)} if metadata else {}
    end = 0
    for tensor in ordered:
        begin, end = end, end + tensor.num_bytes
        header[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % _ALIGNMENT)
    file.append(memoryview(len(encoded).to_bytes(_LENGTH_BYTES, "little") + encoded))
    for tensor in ordered:
        content = tensor.read()
        if content.nbytes != tensor.num_bytes:
            raise ValueError(f"{tensor.name}: {content.nbytes} bytes, and its shape says {tensor.num_bytes}.")
        if content.nbytes:
            file.append(content)


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor is, and what."""

    dtype: str
    """One of `DTYPE_BYTES`."""
    shape: tuple[int, ...]
    begin: int
    """Of its bytes, counted from the end of the header."""
    end: int


@dataclass(frozen=True)
class TensorHeader:
    """What a file of tensors holds."""

    data_start: int
    """Byte of the file at which the tensors begin."""
    tensors: dict[str, TensorEntry]
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of each tensor, by its name."""
        return {name: entry.shape for name, entry in self.tensors.items()}


def read_header(path: Path) -> TensorHeader:
    """The header of the file `path`, checked against its size; not a byte of the tensors is read.

    Raises:
        CheckpointError: it is no plain file, or no sound file of tensors.
        OSError: it is missing or cannot be read.
    """
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        head = _read(file.read, _LENGTH_BYTES)
        length = min(int.from_bytes(head, "little"), MAX_HEADER_BYTES)
        return parse_header(memoryview(head + _read(file.read, length)), size=size, path=path)


def parse_header(content: memoryview, *, size: int, path: Path) -> TensorHeader:
    """The header at the beginning of `content`.

    Args:
        content: of the file, from its beginning at least to the end of the header.
        size: of the whole file.
        path: of the file, for messages.

    Raises:
        CheckpointError: it is no sound file of tensors.
    """
    try:
        return _parse(content, size)
    except (ValueError, RecursionError) as error:
        what = "its header is nested too deeply" if isinstance(error, RecursionError) else error
        if content[: len(_ZIP)] == _ZIP or (content[:1] == _PICKLE and content[-1:] == _PICKLE_END):
            what = "it is a pickle, as torch.save writes them; none is opened here, since it can run code"
        raise CheckpointError(
            f"{path}: no sound file of tensors in the safetensors format ({what}). Choose another, and do not trust "
            "where this one came from."
        ) from error


def _read(read: Callable[[int], bytes | None], length: int) -> bytes:
    content = bytearray()
    while len(content) < length and (piece := read(length - len(content))):
        content += piece
    return bytes(content)


def _parse(content: memoryview, size: int) -> TensorHeader:
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    data_start = _LENGTH_BYTES + length
    if size < _LENGTH_BYTES or data_start > size:
        raise ValueError(f"a header of {length} bytes in a file of {size}")
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"a header of {length} bytes; {MAX_HEADER_BYTES} are the most")
    text = str(content[_LENGTH_BYTES:data_start], "utf-8")
    if not text.startswith("{"):  # a pickle starts otherwise
        raise ValueError("its header is not JSON")
    fields = json.loads(
        text, object_pairs_hook=_Objects(), parse_int=_whole_number, parse_float=_refuse, parse_constant=_refuse
    )
    metadata = fields.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError(f"{_METADATA} is not text by name")
    if len(fields) > MAX_TENSORS:
        raise ValueError(f"{len(fields)} tensors; {MAX_TENSORS} are the most")
    for text in (*fields, *metadata, *metadata.values()):
        text.encode()  # a lone surrogate is no text
    tensors = {name: _parse_entry(name, entry) for name, entry in fields.items()}
    _check_places(tensors, size - data_start)
    return TensorHeader(data_start, tensors, metadata)


class _Objects:
    """Makes the objects of a header, no more of them than it can have, and none with a name twice."""

    def __init__(self) -> None:
        self._num_objects = 0

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self._num_objects += 1
        if self._num_objects > MAX_TENSORS + 2:
            raise ValueError(f"more than {MAX_TENSORS} tensors")
        made = dict(pairs)
        if len(made) < len(pairs):
            raise ValueError("a name stands there twice")
        return made


def _whole_number(text: str) -> int:
    if len(text) > 18 or text.startswith("-"):
        raise ValueError(f"the number {text[:30]}")
    return int(text)


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"the number {text[:30]}")


def _parse_entry(name: str, entry: Any) -> TensorEntry:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name[:80]!r} has not just a dtype, a shape and offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise ValueError(f"{name[:80]!r} has the dtype {str(dtype)[:30]!r}; known are {', '.join(DTYPE_BYTES)}")
    if not _are_whole_numbers(shape) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"{name[:80]!r} has the shape {str(shape)[:80]}")
    if not _are_whole_numbers(offsets) or len(offsets) != 2:
        raise ValueError(f"{name[:80]!r} has the offsets {str(offsets)[:80]}")
    begin, end = offsets
    # Without its zeros, since an empty tensor of huge sides overflows in the readers of others.
    num_bytes = prod(side for side in shape if side) * DTYPE_BYTES[dtype]
    if num_bytes >= 1 << 62:
        raise ValueError(f"{name[:80]!r} has the shape {str(shape)[:80]}, which is beyond all memory")
    if end - begin != (0 if 0 in shape else num_bytes):
        raise ValueError(f"{name[:80]!r} has {end - begin} bytes for the shape {shape} of {dtype}")
    return TensorEntry(dtype, tuple(shape), begin, end)


def _are_whole_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(type(each) is int for each in values)


def _check_places(tensors: Mapping[str, TensorEntry], num_bytes: int) -> None:
    """Tensors lie one after the other, from the first byte to the last."""
    places = sorted((entry.begin, entry.end) for entry in tensors.values())
    for (_, end), (begin, _) in pairwise([(0, 0), *places, (num_bytes, num_bytes)]):
        if begin != end:
            raise ValueError(f"tensors overlap or leave a gap at byte {min(begin, end)} of {num_bytes}")
