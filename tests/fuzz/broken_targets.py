"""Targets that fail on purpose, each in its way: what shows that the watch sees them."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.manifest_cases import Case
from tests.fuzz.targets import Target, Wrong

__all__ = ["broken_targets"]


class _Broken:
    def __init__(self, name: str, fail: Callable[[Path], object]) -> None:
        self.name = name
        self._fail = fail

    def make(self, rng: random.Random) -> Case:
        return Case({"x.bin": b"some bytes, of which one is a Q, and more bytes" if rng.random() < 0.5 else b"good"})

    def check(self, folder: Path, case: Case) -> bool:
        if b"Q" in case.files["x.bin"]:
            self._fail(folder)
        return True


def broken_targets() -> dict[str, Target]:
    """By name, each of which starts with "broken-"."""
    ways: dict[str, Callable[[Path], object]] = {
        "raise": lambda folder: [][0],
        "wrong": _break_a_promise,
        "die": lambda folder: os.kill(os.getpid(), signal.SIGSEGV),
        "exit": lambda folder: os._exit(3),
        "hang": _hang,
        "memory": lambda folder: bytearray(b"x") * (700 << 20),
        "program": lambda folder: subprocess.run([sys.executable, "-c", ""], check=True),
        "open": lambda folder: (folder.parent / "secret.txt").read_text(),
    }
    return {f"broken-{name}": _Broken(f"broken-{name}", fail) for name, fail in ways.items()}


def _break_a_promise(folder: Path) -> None:
    raise Wrong("a promise that is broken")


def _hang(folder: Path) -> None:
    while True:
        pass
