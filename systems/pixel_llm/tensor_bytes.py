"""Torch tensors as what `tensor_file.py` writes: name, dtype, shape, and bytes that are there when they are asked for.

A tensor on the CPU that is contiguous is written from its own memory. Any other is copied when its turn comes, so that
one copy is in memory at a time, and no more.
Layer 1.
"""

import sys
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from systems.pixel_llm.tensor_file import TensorSource

__all__ = ["DTYPE_NAMES", "sources_of"]

DTYPE_NAMES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.int16: "I16", torch.int32: "I32",
    torch.int64: "I64", torch.uint16: "U16", torch.uint32: "U32", torch.uint64: "U64", torch.float16: "F16",
    torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64", torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip
"""Of a dtype, the format's name."""


def sources_of(tensors: Mapping[str, Tensor], *, dtype: torch.dtype | None = None) -> list[TensorSource]:
    """`tensors` by name, ready to be written; as `dtype`, if one is given.

    Raises:
        KeyError: a dtype is none of the format's.
    """
    return [
        TensorSource(name, DTYPE_NAMES[dtype or tensor.dtype], tuple(tensor.shape), partial(_bytes_of, tensor, dtype))
        for name, tensor in tensors.items()
    ]


def _bytes_of(tensor: Tensor, dtype: torch.dtype | None) -> memoryview:
    if sys.byteorder != "little":
        raise NotImplementedError("Checkpoints are written on little-endian machines only.")
    plain = tensor.detach().to("cpu", dtype or tensor.dtype).contiguous()
    if not plain.numel():
        return memoryview(b"")
    return plain.view(-1).view(torch.uint8).numpy().data
