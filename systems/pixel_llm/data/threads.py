"""How many threads share the work on pictures: decoders work outside Python's lock, so one a core keeps all busy."""

import os

__all__ = ["default_threads", "usable_cores"]

MAX_THREADS = 16
"""Beyond it the disk, or what Python does of each picture, is what they wait for."""


def usable_cores() -> int:
    """The cores this process may run on; in a container fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_threads() -> int:
    """One a usable core, at most `MAX_THREADS`."""
    return min(usable_cores(), MAX_THREADS)
