"""Which number format the matrix products use: bf16 where the device multiplies it faster than fp32.

bf16 has fp32's range with 8 bits of precision instead of 24. Training rounds only what goes into products
(`training/precision.py`); a model that only captions may be converted as a whole, which halves what every token reads.
"""

from typing import Literal

import torch

from systems.pixel_llm.errors import ConfigError

__all__ = ["PrecisionName", "resolve_precision"]

PrecisionName = Literal["fp32", "bf16"]


def resolve_precision(precision: str, device: torch.device) -> PrecisionName:
    """`auto` becomes bf16 where `device` multiplies bf16 faster than fp32, else fp32; other names stand.

    Raises:
        ConfigError: bf16 is asked of a GPU that cannot compute it.
    """
    if precision == "fp32":
        return "fp32"
    if precision == "bf16":
        if device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise ConfigError("precision='bf16' is not supported by this GPU. Use precision='fp32' or 'auto'.")
        return "bf16"
    if precision != "auto":
        raise ConfigError(f"precision must be 'auto', 'fp32' or 'bf16', not {precision!r}.")
    return "bf16" if _is_fast_at_bf16(device) else "fp32"


def _is_fast_at_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        # Processors without these instructions emulate bf16, several times slower than fp32. The probes have no public
        # name in torch yet, hence the lookup that survives their absence.
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(probe() for name in probes if (probe := getattr(torch.cpu, name, None)) is not None)
    return False
