"""Only computations that give the same bits each time, for the time of a training.

On a processor a run is the same to the last bit anyway, given the same number of threads. A GPU adds up in an order of
its own unless told otherwise, and cuBLAS keeps to one only with a workspace that the environment grants before the
program starts.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from systems.pixel_llm.errors import ConfigError

__all__ = ["check_deterministic", "deterministic_algorithms"]

WORKSPACE_VARIABLE = "CUBLAS_WORKSPACE_CONFIG"
WORKSPACES = (":4096:8", ":16:8")
"""The values with which cuBLAS is deterministic, as its manual tells under "Results reproducibility"."""


def check_deterministic(device: torch.device) -> None:
    """Raises ConfigError where deterministic computing on `device` needs something of the environment."""
    if device.type == "cuda" and os.environ.get(WORKSPACE_VARIABLE) not in WORKSPACES:
        raise ConfigError(
            f"deterministic on a GPU needs the environment variable {WORKSPACE_VARIABLE}={WORKSPACES[0]} (or "
            f"{WORKSPACES[1]}), set before the program starts. Set it, or leave deterministic out."
        )


@contextmanager
def deterministic_algorithms(is_wanted: bool) -> Iterator[None]:
    """Within this, if wanted, torch takes deterministic algorithms or raises; afterwards it is as it was."""
    if not is_wanted:
        yield
        return
    was_enabled = torch.are_deterministic_algorithms_enabled()
    was_warning_only = torch.is_deterministic_algorithms_warn_only_enabled()
    was_benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False  # it would choose by the clock among algorithms that differ in their bits
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_enabled, warn_only=was_warning_only)
        torch.backends.cudnn.benchmark = was_benchmark
