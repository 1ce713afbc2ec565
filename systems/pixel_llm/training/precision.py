"""The autocast context that makes matrix products use the number format chosen in `models/precision.py`.

Weights, gradients and optimizer state stay fp32; autocast rounds the inputs of matrix products. bf16 has fp32's range;
fp16 has not, and needs the loss scaled (Micikevicius et al. 2018, section 3.2), which `optimizer_step.py` does.
"""

from contextlib import AbstractContextManager, nullcontext

import torch

from systems.pixel_llm.models.precision import PrecisionName

__all__ = ["autocast_context"]


def autocast_context(precision: PrecisionName, device: torch.device) -> AbstractContextManager[None]:
    """The context in which forward passes run."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16 if precision == "bf16" else torch.float16)
