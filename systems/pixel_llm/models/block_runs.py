"""How a block of the model is run: as it is written, or, where gradients are wanted, compiled.

What is compiled is one block at a time, not the model: its blocks are alike, so the code made for the first one serves
all of them, and making it takes a fraction of the time (the "regional compilation" of PyTorch's recipes). It also keeps
out what changes with every batch, such as the positions that logits are wanted at. Code is made for each shape anew and
never for sizes left open: then it is a function of the shape alone, whichever batch happened to come first, and a
resumed run computes the same bits. Whoever trains keeps the shapes few (`training/compilation.py`).

Captioning, and validation, run the blocks as they are written: their shapes change with every token.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["BlockRun", "compiled_run", "run_block"]

BlockRun = Callable[..., Tensor]
"""Called as `run(block, *inputs)`, where `block(*inputs)` is meant."""

MAX_SHAPES = 256
"""So many shapes are compiled for; torch gives up after 8 by itself, and the run would go on at half the speed."""


def run_block(block: nn.Module, *inputs: Any) -> Tensor:
    """`block(*inputs)`, as it is written."""
    output: Tensor = block(*inputs)
    return output


def compiled_run(*, backend: str | Callable[..., Any] = "inductor", deterministic: bool = False) -> BlockRun:
    """`run_block` with compiled code where gradients are wanted. What is compiled is kept for the whole process.

    Args:
        backend: what compiles, as `torch.compile` takes it.
        deterministic: choose nothing by trying which is faster, as it might choose otherwise the next time.
    """
    # torch has these limits one for all that is compiled in a process.
    limits = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, MAX_SHAPES)
    limits.accumulated_recompile_limit = max(limits.accumulated_recompile_limit, 4 * MAX_SHAPES)
    options: dict[str, Any] | None = {"deterministic": True} if deterministic and backend == "inductor" else None
    compiled = torch.compile(run_block, dynamic=False, backend=backend, options=options)

    def run(block: nn.Module, *inputs: Any) -> Tensor:
        return compiled(block, *inputs) if torch.is_grad_enabled() else run_block(block, *inputs)

    return run
