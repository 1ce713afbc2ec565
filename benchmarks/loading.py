"""Photographs on disk to normalised batches on the model's device: ours against what people use, every picture decoded.

Three kinds of picture, at 224 px: about 640 x 480 in batches of 32, and in batches of 8 the same enlarged to 12
megapixels, with the grain of a camera, which makes most of the file, and without. A timed figure is
a whole pass over the files, with worker processes running already and the files in the page cache; normalising and the
copy to the device are counted in for all, on one thread, since the threads of a parallel sum keep spinning for a while
and take the cores from whoever decodes the next batch. Sides take turns in every round. Of a library with several
settings the fastest counts.

Before timing: every side gives the pictures of the PIL path, in its order; and ours, which decodes a JPEG at a smaller
scale where that is enough, is compared with a full decode through the same resize.
"""

import math
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from benchmarks.loading_sides import (
    IMAGE_SIZE,
    PIL_LIBRARY,
    Side,
    all_sides,
    missing_rivals,
)
from benchmarks.paired import paired_seconds, ratio_of_medians
from benchmarks.photographs import GRAIN, Photographs, enlarge, originals, photograph_folder
from benchmarks.report import print_table, usable_cores
from systems.pixel_llm.models import create_pixel_llm
from systems.pixel_llm.preprocessing import Preprocessing

__all__ = ["OnDevice", "a_pass", "fastest", "print_rates", "run"]

BATCH_SIZE, BATCH_SIZE_LARGE = 32, 8
NUM_PHOTOGRAPHS, NUM_LARGE = 1000, 48
NUM_SMALL = 64, 16
NUM_ENLARGED = 24
BATCHES_A_WORKER = 3
"""At least; with fewer, rivals' workers would stand idle for much of a pass."""
LEAST_PSNR = 38.0
OUR_FILTER, PIL_FILTER = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR
"""What ours scales with, and torchvision where it is not told."""
MOST_DIFFERENT = 4.0
"""Gray levels, on average over a picture, between ways to scale it; two photographs are dozens apart."""
IDENTICAL_PSNR = 100.0


def run(*, rounds: int, small: bool = False) -> dict[str, Any]:
    """Print images/s of every side and the ratios, for both kinds of picture."""
    num_photographs, num_large = NUM_SMALL if small else (NUM_PHOTOGRAPHS, NUM_LARGE)
    num_workers = max(2, usable_cores())
    if not small:
        num_photographs = max(num_photographs, BATCHES_A_WORKER * num_workers * BATCH_SIZE)
        num_large = max(num_large, BATCHES_A_WORKER * num_workers * BATCH_SIZE_LARGE)
    torch.set_num_threads(1)
    if missing := missing_rivals():
        print(f"  not installed, and so left out: {', '.join(missing)}")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        sources, are_real = originals(work / "drawn")
        usual = photograph_folder(work / "usual", num_photographs, sources=sources, are_real=are_real)
        found = {"640x480": _compare(usual, work / "of_usual", BATCH_SIZE, num_workers, rounds, targets=(1.6, 1.2))}
        for name, grain in (("12_megapixels", GRAIN), ("12_megapixels_smooth", 0.0)):
            print(f"enlarged to 12 megapixels, with grain of {grain:g} gray levels")
            enlarged = enlarge(sources[: min(NUM_ENLARGED, num_large)], work / f"enlarged_{name}", grain=grain)
            large = photograph_folder(work / f"large_{name}", num_large, sources=enlarged, are_real=are_real)
            found[name] = _compare(
                large, work / f"of_{name}", BATCH_SIZE_LARGE, num_workers, rounds, targets=(4.0, 3.0)
            )
    return found


def _compare(
    photographs: Photographs, work: Path, batch_size: int, num_workers: int, rounds: int, targets: tuple[float, float]
) -> dict[str, Any]:
    """Check, time and print one kind of picture; the targets are against the PIL path and the fastest rival."""
    print(f"{photographs.told()}; batches of {batch_size} at {IMAGE_SIZE} px", flush=True)
    on_device = OnDevice()
    sides = all_sides(photographs, work, batch_size=batch_size, num_workers=num_workers)
    check_same_pictures(sides, on_device)
    psnr = print_psnr(sides[0], photographs, on_device)
    passes = {side.name: a_pass(side, len(photographs.files), on_device) for side in sides}
    seconds = paired_seconds(passes, rounds=rounds, warmups=1)
    rates = print_rates(seconds, len(photographs.files))
    ours = fastest([side.name for side in sides if side.library == "pixel_llm"], seconds)
    rivals = [side for side in sides if side.library != "pixel_llm"]
    pil = fastest([side.name for side in sides if side.library == PIL_LIBRARY], seconds)
    rival = fastest([side.name for side in rivals], seconds)
    as_shown = fastest([side.name for side in rivals if not side.is_tuned], seconds)
    ratios = {
        name: ratio_of_medians(seconds[other], seconds[ours])
        for name, other in (("pil", pil), ("fastest_rival", rival), ("fastest_rival_as_shown", as_shown))
    }
    print(f"  {ours} against {pil}: {ratios['pil']:.2f} x (to reach: {targets[0]})")
    print(f"  against the fastest rival, {rival}: {ratios['fastest_rival']:.2f} x (to reach: {targets[1]})")
    print(f"  against the fastest as its guide shows it, {as_shown}: {ratios['fastest_rival_as_shown']:.2f} x")
    return {
        "pictures": photographs.told(), "images_per_second": rates, "seconds": seconds, "psnr_db": psnr, "ours": ours,
        "pil": pil, "fastest_rival": rival, "fastest_rival_as_shown": as_shown, "ratios": ratios,
        "missing": missing_rivals(),
    }  # fmt: skip


class OnDevice:
    """Callable: a batch [B, 3, H, W] as a side gives it -> the same in float32, normalised, where the model is."""

    def __init__(self) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = create_pixel_llm("tiny", image_size=IMAGE_SIZE).to(self.device)

    def __call__(self, images: Tensor) -> Tensor:
        """The batch of any side -> what the model takes; uint8 of rivals goes the way that ours does."""
        images = images.to(self.device, non_blocking=True)
        return self._model.normalised(images) if images.dtype == torch.uint8 else images

    def gray_levels(self, images: Tensor) -> Tensor:
        """The same and back: what the model is given, as float32 of whole numbers 0..255 on the CPU."""
        mean, std = (torch.tensor(each).view(3, 1, 1) for each in (self._record.mean, self._record.std))
        return ((self(images).cpu() * std + mean) * 255).round()

    @property
    def _record(self) -> Preprocessing:
        return self._model.preprocessing

    def wait(self) -> None:
        """Until the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def a_pass(side: Side, num_pictures: int, on_device: OnDevice) -> Callable[[], None]:
    """What is timed."""

    def call() -> None:
        count = sum(len(on_device(images)) for images in side.batches())
        on_device.wait()
        assert count == num_pictures, f"{side.name} gave {count} of {num_pictures} pictures"

    return call


def print_rates(seconds: Mapping[str, list[float]], num_pictures: int) -> dict[str, float]:
    """A table of images/s, slowest and fastest round beside the median; returns the medians by name."""
    medians, rows = {}, []
    for name, figures in seconds.items():
        rates = sorted(num_pictures / each for each in figures)
        medians[name] = statistics.median(rates)
        rows.append((name, *(f"{rate:,.1f}" for rate in (medians[name], rates[0], rates[-1]))))
    print_table(("images/s", "median", "slowest", "fastest"), rows)
    return medians


def fastest(names: Sequence[str], seconds: Mapping[str, list[float]]) -> str:
    """The name with the smallest median."""
    return min(names, key=lambda name: statistics.median(seconds[name]))


def check_same_pictures(sides: Sequence[Side], on_device: OnDevice) -> None:
    """What is timed must be right: each side gives every picture as the PIL path does, by name where it keeps order.

    Compared at 28 x 28 pixels, where the filters of the sides differ little; where the order is another, the sorted
    mean brightness of all pictures is.
    """
    expected = _thumbnails(next(side for side in sides if side.library == PIL_LIBRARY), on_device)
    for side in sides:
        found = _thumbnails(side, on_device)
        assert found.shape == expected.shape, f"{side.name}: {len(found)} of {len(expected)} pictures"
        if side.keeps_order:
            differences = (found - expected).abs().mean((1, 2, 3))
        else:
            differences = found.mean((1, 2, 3)).sort().values - expected.mean((1, 2, 3)).sort().values
        worst = float(differences.abs().max())
        assert worst < MOST_DIFFERENT, f"{side.name}: a picture differs by {worst:.1f} gray levels"


def _thumbnails(side: Side, on_device: OnDevice) -> Tensor:
    """[N, 3, 28, 28] of a whole pass."""
    return torch.cat([F.avg_pool2d(on_device.gray_levels(images), 8) for images in side.batches()])


def print_psnr(ours: Side, photographs: Photographs, on_device: OnDevice) -> dict[str, dict[str, float]]:
    """Mean and minimum over the different pictures, in dB, of ours against a full decode with the same resize."""
    pictures = torch.cat([on_device.gray_levels(images).to(torch.uint8) for images in ours.batches()])
    found = {}
    for name, resample in (("the same resize", OUR_FILTER), ("the resize of torchvision PIL", PIL_FILTER)):
        figures = []
        for file, pixels in zip(photographs.files[: photographs.num_different], pictures, strict=False):
            with Image.open(file) as image:
                full = image.convert("RGB").resize((IMAGE_SIZE, IMAGE_SIZE), resample)
            figures.append(_psnr(np.asarray(full).transpose(2, 0, 1), pixels.numpy()))
        found[name] = {"mean": statistics.mean(figures), "minimum": min(figures)}
        told = f"mean {found[name]['mean']:.1f} dB, minimum {found[name]['minimum']:.1f} dB"
        print(f"  ours against a full decode with {name}: {told}")
    print(f"  (to reach with the same resize: mean {LEAST_PSNR} dB)")
    return found


def _psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    error = float(np.square(one.astype(np.float32) - other.astype(np.float32)).mean())
    return min(10 * math.log10(255**2 / error), IDENTICAL_PSNR) if error > 0 else IDENTICAL_PSNR
