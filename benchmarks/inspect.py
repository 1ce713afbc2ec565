"""`pixel-llm inspect` over ten thousand photographs, against only decoding them one after another with PIL.

Ours is the whole command, from the start of the interpreter to the summary, with fingerprints, checks and all; the
other side is a process that opens and decodes each file and nothing else. Each round has a scan cache of its own, so
that ours looks at every file; a second look, which finds them all there, is told beside. Checked: as many pictures were
looked at as there are.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.paired import paired_seconds, ratio_of_medians
from benchmarks.photographs import originals, photograph_folder
from benchmarks.report import print_table
from benchmarks.train_step import made_captions

NUM_PHOTOGRAPHS, NUM_SMALL = 10_000, 200
MAX_ROUNDS = 5
TARGET = 1.5

DECODE_ALL = """
import sys
from pathlib import Path
from PIL import Image
for file in sorted(Path(sys.argv[1]).glob("*.jpg")):
    with Image.open(file) as image:
        image.load()
"""


def run(*, rounds: int, small: bool = False) -> dict[str, Any]:
    """Print seconds, pictures/s and the ratio."""
    count = NUM_SMALL if small else NUM_PHOTOGRAPHS
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        sources, are_real = originals(work / "drawn")
        photographs = photograph_folder(
            work / "pictures", count, sources=sources, are_real=are_real, captions=made_captions(20_000)
        )
        told = photographs.told()
        print(told, flush=True)
        look, look_again = _looks(photographs.folder, work, count)
        sides: dict[str, Callable[[], object]] = {
            "pixel-llm inspect": look,
            "pixel-llm inspect, a second look": look_again,
            "PIL, decoding only": lambda: subprocess.run(
                [sys.executable, "-c", DECODE_ALL, str(photographs.folder)], check=True
            ),
        }
        seconds = paired_seconds(sides, rounds=min(rounds, MAX_ROUNDS), warmups=1)
    rows = []
    for name, figures in seconds.items():
        median = statistics.median(figures)
        rows.append((name, f"{median:.2f}", f"{min(figures):.2f}", f"{max(figures):.2f}", f"{count / median:,.0f}"))
    print_table(("seconds", "median", "fastest", "slowest", "pictures/s"), rows)
    ratio = ratio_of_medians(seconds["PIL, decoding only"], seconds["pixel-llm inspect"])
    print(f"  ours against PIL: {ratio:.2f} x (to reach: {TARGET})")
    return {"pictures": told, "seconds": seconds, "ratio": ratio}


def _looks(data: Path, work: Path, count: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """Calls of the command: with a cache that is new each time, and with that of the look before."""
    number = 0

    def look_again() -> None:
        findings = work / "findings.json"
        done = subprocess.run(
            [sys.executable, "-m", "systems.pixel_llm", "inspect", str(data), "--json", str(findings)],
            env=os.environ | {"PIXEL_LLM_CACHE": str(work / f"cache_{number}")}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        # Status 1: copies of a picture are a finding, and there are many here.
        assert done.returncode in (0, 1), done.stderr
        found = json.loads(findings.read_text(encoding="utf-8"))
        findings.unlink()
        looked_at = sum(found["kinds"].values())  # of pictures that were decoded
        assert looked_at == count, f"looked at {looked_at} of {count} pictures"

    def look() -> None:
        nonlocal number
        number += 1
        look_again()

    return look, look_again
