"""`environment.json`: the versions and the machine that a run was trained with, for whoever wants to do it again.

What is written may be shown to anybody: it names no host, no user and no path.
"""

import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from systems.pixel_llm import __version__

__all__ = ["describe_environment", "write_environment"]

LIBRARIES = ("torch", "torchvision", "numpy", "pillow", "tokenizers", "safetensors")
CPU_FACTS = Path("/proc/cpuinfo")


def write_environment(path: Path, device: torch.device) -> None:
    """Write the file; a resumed run writes it anew, with what it goes on with."""
    path.write_text(json.dumps(describe_environment(device), indent=1) + "\n", encoding="utf-8")


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Name -> version or fact."""
    facts: dict[str, Any] = {"pixel_llm": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            facts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # torchvision is for users' own transforms: one may do without
            continue
    facts |= {
        "system": f"{platform.system()} on {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(device),
    }
    if device.type == "cuda":
        gpu = torch.cuda.get_device_properties(device)
        facts |= {"gpu": gpu.name, "gpu_memory_gib": round(gpu.total_memory / 2**30, 1), "cuda": torch.version.cuda}
    return facts


def _processor() -> str:
    """Its name as the kernel tells it, else what Python knows."""
    try:
        lines = CPU_FACTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not a Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names and names[0] else platform.processor() or platform.machine()
