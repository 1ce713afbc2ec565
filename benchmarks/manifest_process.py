"""The process that `manifest` measures: `python -m benchmarks.manifest_process FOLDER open | workers ITEMS`.

It prints one line of JSON. Memory is read from /proc, so this runs on Linux only: the peak that `getrusage` tells would
begin with that of the process that started this one.
"""

import ctypes
import gc
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from systems.pixel_llm.data import ImageCaptionDataset, make_loader
from systems.pixel_llm.data.pixel_cache import PixelCache

IMPORTED = time.time()
NUM_WORKERS, NUM_EPOCHS, BATCH_SIZE = 2, 3, 100
TINY = (32, 32)


def main() -> None:
    """Measure what the command line names."""
    folder, what, *rest = sys.argv[1:]
    result = open_and_load(Path(folder)) if what == "open" else use_workers(Path(folder), int(rest[0]))
    print(json.dumps(result))


def open_and_load(folder: Path) -> dict[str, Any]:
    """Seconds and bytes from nothing to the first batch."""
    before = _status("VmRSS")
    start = time.perf_counter()
    dataset = ImageCaptionDataset(folder, "json")
    dataset_seconds = time.perf_counter() - start
    _give_back_memory()
    after = _status("VmRSS")
    start = time.perf_counter()
    batch = next(iter(make_loader(dataset, batch_size=8, shuffle=True)))
    first_batch_seconds = time.perf_counter() - start
    return {
        "imports_seconds": IMPORTED - float(os.environ["BENCHMARK_STARTED"]),
        "dataset_seconds": dataset_seconds,
        "first_batch_seconds": first_batch_seconds,
        "to_first_batch_seconds": dataset_seconds + first_batch_seconds,
        "peak_rss_bytes": _status("VmHWM"),
        "rss_before_bytes": before,
        "rss_growth_bytes": after - before,
        "index_bytes": dataset.samples.nbytes_of_index,
        "first_batch": {"image_paths": batch["image_paths"], "captions": batch["captions"]},
    }


def use_workers(folder: Path, num_items: int) -> dict[str, Any]:
    """MiB of each of two worker processes after each of three epochs over other random items."""
    # Decoded pictures would be kept in memory that workers share, and hide what each of them takes for itself.
    keeps_nothing = PixelCache.in_memory(0, TINY)
    dataset = ImageCaptionDataset(folder, "json", image_size=TINY, cache=keeps_nothing)
    epochs = []
    chosen = _RandomItems(len(dataset), num_items)
    loader = DataLoader(
        dataset, batch_size=BATCH_SIZE, sampler=chosen, num_workers=NUM_WORKERS, collate_fn=dataset.get_collate_fn(),
        persistent_workers=True,
    )  # fmt: skip
    for epoch in range(NUM_EPOCHS):
        chosen.epoch = epoch
        count = sum(len(batch["images"]) for batch in loader)
        assert count == num_items, f"{count} of {num_items} items"
        workers = sorted(each.pid for each in multiprocessing.active_children() if each.pid is not None)
        assert len(workers) == NUM_WORKERS, f"{len(workers)} worker processes"
        epochs.append(_memory_of(workers))
    return {"epochs": epochs}


class _RandomItems:
    """A sampler: `count` of the items, others in each epoch."""

    def __init__(self, num_items: int, count: int) -> None:
        self.num_items, self.count, self.epoch = num_items, count, 0

    def __iter__(self) -> Any:
        generator = torch.Generator().manual_seed(self.epoch)
        return iter(torch.randint(self.num_items, (self.count,), generator=generator).tolist())

    def __len__(self) -> int:
        return self.count


def _memory_of(workers: list[int]) -> dict[str, list[float]]:
    """In MiB: what a process has to itself, with its share of what it shares, and all that it sees."""
    memory: dict[str, list[float]] = {"uss": [], "pss": [], "rss": []}
    for worker in workers:
        lines = Path(f"/proc/{worker}/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]
        kib = {line.partition(":")[0]: int(line.split()[1]) for line in lines}
        memory["uss"].append((kib["Private_Clean"] + kib["Private_Dirty"]) / 2**10)
        memory["pss"].append(kib["Pss"] / 2**10)
        memory["rss"].append(kib["Rss"] / 2**10)
    return memory


def _status(name: str) -> int:
    """Bytes that the system tells of this process under `name`."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 2**10
    raise KeyError(name)


def _give_back_memory() -> None:
    """What was freed goes back to the system, where the C library can do that, so that RSS is what is held."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


if __name__ == "__main__":
    main()
