"""How much memory training takes: on a GPU what torch has allocated there at most, else what the process holds."""

import os
from pathlib import Path

import torch

__all__ = ["memory_figures"]

STATM = Path("/proc/self/statm")


def memory_figures(device: torch.device) -> dict[str, int]:
    """`gpu_memory_bytes`, the most that was allocated on the GPU since the last call, or `process_memory_bytes`.

    The latter is the resident set of this process, without those that load pictures, where the system tells it (Linux);
    elsewhere nothing. Neither makes a GPU wait.
    """
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return {"gpu_memory_bytes": peak}
    try:
        resident_pages = int(STATM.read_text(encoding="ascii").split()[1])
    except OSError:
        return {}
    return {"process_memory_bytes": resident_pages * os.sysconf("SC_PAGE_SIZE")}
