"""A manifest of a million entries: how long to the first batch, and how much memory, in the process and its workers.

The pictures exist: hard links to a few tiny JPEGs, in folders of a thousand. Building them takes about a minute, and so
does taking them away. Every figure is of a fresh process (`manifest_process`). A round counts from the start of the
process to the first batch of 8 at 224 px, with imports told apart; the first batch must have the captions that the
manifest gives its pictures. Then one process goes through three part epochs with two plain worker processes, whose own
memory must not grow: worker processes that count references in a million Python objects copy them page by page.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.photographs import link_or_copy
from benchmarks.report import print_table
from benchmarks.train_step import made_captions

NUM_ENTRIES, NUM_SMALL = 1_000_000, 20_000
ITEMS_AN_EPOCH, ITEMS_SMALL = 20_000, 2_000
FILES_A_FOLDER = 1_000
LINKS_A_FILE = 50_000
"""ext4 allows 65,000 names of one file."""
MAX_ROUNDS = 3
TO_FIRST_BATCH, INDEX_BYTES, GROWTH_MIB = 10.0, 200, 4.0


def run(*, rounds: int, small: bool = False) -> dict[str, Any]:
    """Print seconds, memory and what the workers hold."""
    num_entries, num_items = (NUM_SMALL, ITEMS_SMALL) if small else (NUM_ENTRIES, ITEMS_AN_EPOCH)
    with tempfile.TemporaryDirectory() as folder:
        work, start = Path(folder), time.perf_counter()
        captions = made_captions(20_000)
        caption_bytes = write_manifest(work, num_entries, captions)
        print(f"{num_entries:,} entries and as many files, made in {time.perf_counter() - start:.0f} s", flush=True)
        opened = [_process(work, "open") for _ in range(min(rounds, MAX_ROUNDS))]
        for each in opened:
            check_first_batch(each.pop("first_batch"), captions)
        workers = _process(work, "workers", num_items)
    return {
        "num_entries": num_entries,
        "caption_bytes": caption_bytes,
        "opened": opened,
        "workers": workers["epochs"],
        **_print_opened(opened, num_entries, caption_bytes),
        "worker_growth_mib": _print_workers(workers["epochs"], num_items),
    }


def write_manifest(work: Path, num_entries: int, captions: list[str]) -> int:
    """`manifest.json` and its pictures; returns the bytes of all captions."""
    draw, originals = np.random.default_rng(0), work / "originals"
    originals.mkdir()
    for number in range(num_entries // LINKS_A_FILE + 1):
        picture = Image.fromarray(draw.integers(0, 256, (24, 32, 3), np.uint8))
        picture.save(originals / f"{number}.jpg")
    entries = {}
    for number in range(num_entries):
        name = f"{number // FILES_A_FOLDER:04}/{number:07}.jpg"
        if number % FILES_A_FOLDER == 0:
            (work / name).parent.mkdir()
        link_or_copy(originals / f"{number // LINKS_A_FILE}.jpg", work / name)
        entries[name] = captions[number % len(captions)]
    (work / "manifest.json").write_text(json.dumps(entries), encoding="utf-8")
    return sum(len(caption.encode()) for caption in entries.values())


def check_first_batch(batch: dict[str, list[str]], captions: list[str]) -> None:
    """What is timed must be right: each picture came with the caption that the manifest gives it."""
    for path, caption in zip(batch["image_paths"], batch["captions"], strict=True):
        expected = captions[int(Path(path).stem) % len(captions)]
        assert caption == expected, f"{path} came with {caption!r}, expected {expected!r}"


def _process(work: Path, *arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.manifest_process", str(work), *map(str, arguments)]
    environment = os.environ | {"BENCHMARK_STARTED": repr(time.time())}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _print_opened(opened: list[dict[str, Any]], num_entries: int, caption_bytes: int) -> dict[str, float]:
    def median(name: str) -> float:
        return statistics.median(each[name] for each in opened)

    by_growth = (median("rss_growth_bytes") - caption_bytes) / num_entries
    by_index = opened[0]["index_bytes"] / num_entries
    print_table(
        ("to the first batch of 8", "median", "to reach"),
        [
            ("process start and imports", f"{median('imports_seconds'):.2f} s", ""),
            ("dataset", f"{median('dataset_seconds'):.2f} s", ""),
            ("loader and first batch", f"{median('first_batch_seconds'):.2f} s", ""),
            ("dataset to first batch", f"{median('to_first_batch_seconds'):.2f} s", f"{TO_FIRST_BATCH:.0f} s"),
            ("peak RSS", f"{median('peak_rss_bytes') / 2**20:,.0f} MiB", ""),
            ("RSS after imports", f"{median('rss_before_bytes') / 2**20:,.0f} MiB", ""),
            ("captions' own bytes an entry", f"{caption_bytes / num_entries:.0f}", ""),
            ("index, bytes an entry", f"{by_index:.0f}", f"{INDEX_BYTES}"),
            ("RSS growth by the dataset less captions", f"{by_growth:.0f}", ""),
        ],
    )
    return {
        "to_first_batch_seconds": median("to_first_batch_seconds"), "peak_rss_mib": median("peak_rss_bytes") / 2**20,
        "index_bytes_an_entry": by_index, "rss_growth_bytes_an_entry": by_growth,
    }  # fmt: skip


def _print_workers(epochs: list[dict[str, list[float]]], num_items: int) -> float:
    """Prints MiB of each worker after each epoch; returns the most that one's own memory grew after the first."""
    print_table(
        (f"workers, after {num_items:,} items each", "own (USS)", "share (PSS)", "RSS"),
        [
            (f"epoch {number}", *(" ".join(f"{each:.1f}" for each in epoch[kind]) for kind in ("uss", "pss", "rss")))
            for number, epoch in enumerate(epochs, 1)
        ],
    )
    growth = max(last - first for first, last in zip(epochs[0]["uss"], epochs[-1]["uss"], strict=True))
    print(f"  a worker's own memory grew by {growth:.1f} MiB after the first epoch (to stay under: {GROWTH_MIB:.0f})")
    return growth
