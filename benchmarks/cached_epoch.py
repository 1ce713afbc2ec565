"""A second epoch from the cache of scaled pictures, uint8 batches handed over, against decoding it all again with PIL.

The first epoch, which fills the cache, is not timed. A later one is too short to time by itself: it is gone through
many times, in another order each epoch, and one byte of every page of every batch is read, so that pages are not only
promised. Before timing, the second epoch must give every picture as the first, to the last bit.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.loading import OnDevice, a_pass, fastest, print_rates
from benchmarks.loading_sides import IMAGE_SIZE, pil_sides
from benchmarks.paired import paired_seconds, ratio_of_medians
from benchmarks.photographs import originals, photograph_folder
from benchmarks.report import usable_cores
from systems.pixel_llm.data import ImageCaptionDataset, make_loader
from systems.pixel_llm.data.cache_folder import CACHE_VARIABLE

BATCH_SIZE = 32
NUM_PHOTOGRAPHS, NUM_SMALL = 1000, 64
PASSES, PASSES_SMALL = 20, 2
TARGET = 50.0
PAGE_BYTES = 4096


def run(*, rounds: int, small: bool = False) -> dict[str, Any]:
    """Print images/s of both and the ratio."""
    count, passes = (NUM_SMALL, PASSES_SMALL) if small else (NUM_PHOTOGRAPHS, PASSES)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        sources, are_real = originals(work / "drawn")
        photographs = photograph_folder(work / "pictures", count, sources=sources, are_real=are_real)
        print(f"{photographs.told()}; batches of {BATCH_SIZE} at {IMAGE_SIZE} px", flush=True)
        dataset = cached_dataset(photographs.folder, work / "cache")
        loader = make_loader(dataset, batch_size=BATCH_SIZE, shuffle=True)
        check_same_epochs(dataset)
        on_device = OnDevice()
        pil = pil_sides(photographs, batch_size=BATCH_SIZE, num_workers=max(2, usable_cores()))
        ours, with_normalising = "pixel_llm, second epoch", "pixel_llm, second epoch, normalised"
        sides: dict[str, Callable[[], object]] = {
            ours: _passes(loader, count, passes, lambda images: images.view(-1)[::PAGE_BYTES].sum()),
            with_normalising: _passes(loader, count, passes, on_device),
        }
        sides |= {side.name: a_pass(side, count, on_device) for side in pil}
        seconds = paired_seconds(sides, rounds=rounds, warmups=1)
        for name in (ours, with_normalising):
            seconds[name] = [each / passes for each in seconds[name]]
        rates = print_rates(seconds, count)
    rival = fastest([side.name for side in pil], seconds)
    ratio = ratio_of_medians(seconds[rival], seconds[ours])
    print(f"  ours against {rival}: {ratio:.1f} x (to reach: {TARGET:.0f})")
    return {"images_per_second": rates, "seconds": seconds, "pil": rival, "ratio": ratio}


def cached_dataset(folder: Path, cache: Path) -> ImageCaptionDataset:
    """The dataset of a folder; what it decodes is kept in a file below `cache`."""
    os.environ[CACHE_VARIABLE] = str(cache)
    dataset = ImageCaptionDataset(folder, "auto", image_size=(IMAGE_SIZE, IMAGE_SIZE), cache=True)
    assert getattr(dataset.cache, "path", None) is not None, "the cache cannot be a file here"
    return dataset


def check_same_epochs(dataset: ImageCaptionDataset) -> None:
    """What is timed must be right: pictures out of the cache are those that went in."""
    loader = make_loader(dataset, batch_size=BATCH_SIZE, shuffle=False)
    first: list[Tensor] = []
    second: list[Tensor] = []
    for images in (first, second):
        images += [batch["images"].clone() for batch in loader]
    assert torch.equal(torch.cat(first), torch.cat(second)), "the second epoch gives other pictures than the first"


def _passes(loader: Any, num_pictures: int, count: int, look: Callable[[Tensor], object]) -> Callable[[], None]:
    def call() -> None:
        for _ in range(count):
            num_images = 0
            for batch in loader:
                look(batch["images"])
                num_images += len(batch["images"])
            assert num_images == num_pictures, f"{num_images} of {num_pictures} pictures"

    return call
