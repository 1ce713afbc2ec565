"""What a benchmark found, for people and for programs: a table in columns, and one JSON file with machine and versions.

The JSON file tells where and of what the figures are, so that a run can be repeated and compared: processor, cores,
versions of all that took part, the commit, and whether the working tree had changes.
"""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from systems.pixel_llm.data.threads import usable_cores

__all__ = ["describe_machine", "print_table", "usable_cores", "write_json"]

_PACKAGES = (
    "torch", "torchvision", "numpy", "pillow", "simplejpeg", "transformers", "webdataset", "litdata", "datasets",
    "pycocoevalcap",
)  # fmt: skip


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Rows under a head: the first column to the left, the others to the right."""
    lines = [list(map(str, row)) for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *others in lines:
        cells = [first.ljust(widths[0]), *(each.rjust(width) for each, width in zip(others, widths[1:], strict=True))]
        print("  " + "  ".join(cells).rstrip())


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory and accelerator."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": _processor(),
        "usable_cores": usable_cores(),
        "memory_gib": _memory_gib(),
        "gpu": gpu,
        "system": platform.platform(),
    }


def write_json(path: Path, results: Mapping[str, Any], *, rounds: int, small: bool) -> None:
    """Write figures, and all that must be known to read them."""
    content = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "has_local_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "machine": describe_machine(),
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name)) is not None},
        "rounds": rounds,
        "small": small,
        "results": results,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    if not hasattr(os, "sysconf"):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    root = Path(__file__).resolve().parents[1]
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
