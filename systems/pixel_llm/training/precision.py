"""The autocast context that makes matrix products use the number format chosen in `models/precision.py`.

Weights, gradients and optimizer state stay fp32; autocast rounds the inputs of matrix products to bf16, which has
fp32's range and so needs no loss scaling (Micikevicius et al. 2018 describe the scheme for fp16).
"""

from contextlib import AbstractContextManager, nullcontext

import torch

from systems.pixel_llm.models.precision import PrecisionName

__all__ = ["autocast_context"]


def autocast_context(precision: PrecisionName, device: torch.device) -> AbstractContextManager[None]:
    """The context in which forward passes run."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()
