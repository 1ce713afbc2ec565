"""Torch tensors to and from what `tensor_file.py` knows: name, dtype, shape and bytes.

A tensor on the CPU that is contiguous is written from its own memory. Any other is copied when its turn comes, so that
one copy is in memory at a time, and no more. Tensors that were read lie in the memory that the file was read into.
Layer 1.
"""

import sys
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from systems.pixel_llm.errors import CheckpointError
from systems.pixel_llm.tensor_file import DTYPE_BYTES, TensorHeader, TensorSource

__all__ = ["DTYPE_NAMES", "sources_of", "tensors_in"]

DTYPE_NAMES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.int16: "I16", torch.int32: "I32",
    torch.int64: "I64", torch.uint16: "U16", torch.uint32: "U32", torch.uint64: "U64", torch.float16: "F16",
    torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64", torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip
"""Of a dtype, the format's name."""
_DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}


def sources_of(tensors: Mapping[str, Tensor], *, dtype: torch.dtype | None = None) -> list[TensorSource]:
    """`tensors` by name, ready to be written; as `dtype`, if one is given.

    Raises:
        KeyError: a dtype is none of the format's.
    """
    return [
        TensorSource(name, DTYPE_NAMES[dtype or tensor.dtype], tuple(tensor.shape), partial(_bytes_of, tensor, dtype))
        for name, tensor in tensors.items()
    ]


def _check_byte_order() -> None:
    if sys.byteorder != "little":
        raise CheckpointError(
            "Files of tensors hold numbers with their low byte first, and this machine has the high byte first. Save "
            "and load on another one."
        )


def _bytes_of(tensor: Tensor, dtype: torch.dtype | None) -> memoryview:
    _check_byte_order()
    plain = tensor.detach().to("cpu", dtype or tensor.dtype).contiguous()
    if not plain.numel():
        return memoryview(b"")
    return plain.view(-1).view(torch.uint8).numpy().data


def tensors_in(content: memoryview, header: TensorHeader, *, device: torch.device | None = None) -> dict[str, Tensor]:
    """The tensors of a file, by name, on `device` (the CPU if None).

    On the CPU they are views of `content`, which they keep alive: to write into them is to write into it.

    Args:
        content: the whole file, in memory that can be written to.
        header: of that file.
    """
    _check_byte_order()
    tensors = {}
    for name, entry in header.tensors.items():
        dtype, start = _DTYPES[entry.dtype], header.data_start + entry.begin
        if entry.begin == entry.end:
            tensors[name] = torch.empty(entry.shape, dtype=dtype, device=device)
            continue
        part = content[start : header.data_start + entry.end]
        if start % DTYPE_BYTES[entry.dtype]:  # others may write files whose tensors stand crooked
            part = memoryview(bytearray(part))
        tensors[name] = torch.frombuffer(part, dtype=dtype).view(entry.shape).to(device or "cpu")
    return tensors
