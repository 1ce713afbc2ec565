"""Gradient checkpointing: memory for time, by computing a block a second time (Chen et al. 2016, "Training deep nets
with sublinear memory cost").

Only what goes into a block is kept until the backward pass comes to it; what it computed on the way is let go and
computed anew there. The state of the generators is kept with the input, so that the second time drops what the first
one dropped, and the gradients are the same to the bit.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from systems.pixel_llm.models.block_runs import BlockRun

__all__ = ["recomputed"]


def recomputed(run: BlockRun, block: nn.Module, *inputs: Any) -> Tensor:
    """`run(block, *inputs)`, keeping for the backward pass nothing but `inputs`; just that where there is none."""
    if not torch.is_grad_enabled():
        return run(block, *inputs)
    output: Tensor = checkpoint(run, block, *inputs, use_reentrant=False, preserve_rng_state=True)
    return output
