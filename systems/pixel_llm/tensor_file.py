"""Tensors into a file in the safetensors format, one after the other, without a copy of them all.

The format (https://github.com/huggingface/safetensors, "Format"): 8 bytes with the length of the header, little endian;
the header, JSON with the dtype, shape and place of each tensor; then their bytes, row by row. The package's own
`save_file` gathers all of it before it writes. Here a tensor's bytes are asked for when their turn comes.
Layer 1, no torch: a tensor is its bytes.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from systems.pixel_llm.folder_writer import FileWriter

__all__ = ["DTYPE_BYTES", "TensorSource", "write_tensors"]

DTYPE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
"""The format's name of each dtype -> bytes an element."""
_ALIGNMENT = 8


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


def write_tensors(file: FileWriter, tensors: Sequence[TensorSource], *, metadata: Mapping[str, str]) -> None:
    """Write `tensors` into `file`, in the order in which readers expect them: widest dtype first, then by name.

    Raises:
        OSError: the disk is full or failing.
    """
    ordered = sorted(tensors, key=lambda tensor: (-DTYPE_BYTES[tensor.dtype], tensor.name))
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for tensor in ordered:
        begin, end = end, end + tensor.num_bytes
        header[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % _ALIGNMENT)
    file.append(memoryview(len(encoded).to_bytes(8, "little") + encoded))
    for tensor in ordered:
        content = tensor.read()
        if content.nbytes != tensor.num_bytes:
            raise ValueError(f"{tensor.name}: {content.nbytes} bytes, and its shape says {tensor.num_bytes}.")
        if content.nbytes:
            file.append(content)
