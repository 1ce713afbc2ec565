"""Which number format the matrix products use, and the autocast context that makes them use it.

Weights, gradients and optimizer state stay fp32; autocast rounds the inputs of matrix products to bf16, which has
fp32's range and so needs no loss scaling (Micikevicius et al. 2018 describe the scheme for fp16).
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from systems.pixel_llm.errors import ConfigError

__all__ = ["PrecisionName", "autocast_context", "resolve_precision"]

PrecisionName = Literal["fp32", "bf16", "fp16"]


def resolve_precision(precision: str, device: torch.device) -> PrecisionName:
    """`auto` becomes bf16 where `device` multiplies bf16 faster than fp32, else fp32; other names stand.

    Raises:
        ConfigError: bf16 is asked of a GPU that cannot compute it.
    """
    if precision == "fp32":
        return "fp32"
    if precision == "fp16":
        return "fp16"
    if precision == "bf16":
        if device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise ConfigError("precision='bf16' is not supported by this GPU. Use precision='fp32' or 'auto'.")
        return "bf16"
    if precision != "auto":
        raise ConfigError(f"precision must be 'auto', 'fp32', 'bf16' or 'fp16', not {precision!r}.")
    return "bf16" if _is_fast_at_bf16(device) else "fp32"


def autocast_context(precision: PrecisionName, device: torch.device) -> AbstractContextManager[None]:
    """The context in which forward passes run."""
    if precision != "fp32":
        return torch.autocast(device.type, dtype=torch.bfloat16 if precision == "bf16" else torch.float16)
    return nullcontext()


def _is_fast_at_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        # Processors without these instructions emulate bf16, several times slower than fp32. The probes have no public
        # name in torch yet, hence the lookup that survives their absence.
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(probe() for name in probes if (probe := getattr(torch.cpu, name, None)) is not None)
    return False
