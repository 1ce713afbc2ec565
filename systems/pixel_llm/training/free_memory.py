"""How much memory this process may still take, and how much a piece of work took at its peak, as Linux tells it.

In a container the machine's own figure is not what counts: a control group may allow less, and a process that goes
beyond is killed without a word. Both versions of control groups are read. On other systems nothing is known.
"""

from collections.abc import Callable
from pathlib import Path

__all__ = ["free_memory_bytes", "peak_bytes_of"]

UNLIMITED = 2**60
"""Version 1 spells "no limit" as a number near 2^63."""
# Of each version: where its groups are, the files of limit and use, and what of the use can be taken back.
VERSION_1 = ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
VERSION_2 = ("", "memory.max", "memory.current", "inactive_file")


def free_memory_bytes(root: Path = Path("/")) -> int | None:
    """What this process may still take before something has to give; None where that cannot be told.

    Args:
        root: of the file system that `proc` and `sys` are in.
    """
    free = [room for group in _groups(root) if (room := _room_in(*group)) is not None]
    try:
        lines = (root / "proc/meminfo").read_text(encoding="utf-8").splitlines()
        free += [int(line.split()[1]) * 2**10 for line in lines if line.startswith("MemAvailable:")]
    except OSError:
        return None
    return max(0, min(free)) if free else None


def peak_bytes_of(work: Callable[[], object]) -> int | None:
    """Do `work`; the most memory it took above what the process had before, None where that cannot be told."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is that from now on
        before = _own_status("VmRSS")
    except OSError:
        work()
        return None
    work()
    return max(0, _own_status("VmHWM") - before)


def _own_status(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 2**10
    raise OSError(f"/proc/self/status does not tell {name}")


def _groups(root: Path) -> list[tuple[Path, str, str, str]]:
    """The control groups of the process and those around them, as folders with the names of the files there."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    groups = []
    for line in lines:
        number, controllers, inside = line.split(":", 2)
        if number != "0" and "memory" not in controllers.split(","):
            continue
        place, *names = VERSION_2 if number == "0" else VERSION_1
        top = root / "sys/fs/cgroup" / place
        folder = top / inside.lstrip("/")
        while True:
            groups.append((folder, names[0], names[1], names[2]))
            if folder == top or top not in folder.parents:
                break
            folder = folder.parent
    return groups


def _room_in(folder: Path, limit_name: str, use_name: str, reclaimable: str) -> int | None:
    """Bytes left in one control group; None where it has no limit, or is not to be seen from inside a container."""
    try:
        limit = (folder / limit_name).read_text(encoding="ascii").strip()
        if limit == "max" or int(limit) >= UNLIMITED:
            return None
        used = int((folder / use_name).read_text(encoding="ascii"))
        for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(" ")
            if name == reclaimable:
                used -= int(value)  # files that were read, which give way
    except (OSError, ValueError):
        return None
    return int(limit) - used
