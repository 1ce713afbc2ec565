"""A training step with and without gradient checkpointing: memory in processes of their own, then time side by side.

The guide's sizes: 224 px, patch 16, width 512, 6 + 6 layers, 32 captions of about 12 words, dropout 0.1. What counts is
the peak of a step of the Trainer above what is held between steps: weights, gradients and the optimizer's state. On a
processor that is resident memory as Linux tells it, with an allocator that gives back at once what is freed; on a GPU
it is what torch has allocated there. Both sides must come to the same loss and the same gradients, to the bit.

`python -m benchmarks.gradient_checkpointing memory` measures memory alone, where the machine is too busy to time.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.paired import paired_seconds, ratio_of_medians
from benchmarks.train_step import HEADS, IMAGE_SIZE, LAYERS, OUR_VOCABULARY, PATCH_SIZE, WIDTH, made_captions
from systems.pixel_llm.models import PixelLLM, create_pixel_llm
from systems.pixel_llm.training import Trainer

BATCH_SIZE, CHECKED_BATCH_SIZE = 32, 4
TO_REACH = 0.40
"""Share of the memory that is to be saved."""
PRECISIONS = ("bf16", "fp32")
MIB = 2**20

Batch = dict[str, Any]


def run(*, rounds: int) -> dict[str, Any]:
    """Print memory, seconds and the ratios, in bf16 and fp32; return the figures."""
    return {
        precision: {"memory": compare_memory(precision), "seconds": compare_seconds(precision, rounds=rounds)}
        for precision in PRECISIONS
    }


def compare_memory(precision: str) -> dict[str, Any]:
    """Peak bytes of a step above what is held between steps, each side in a process of its own."""
    plain, recomputed = (_measured(precision, is_recomputed=on) for on in (False, True))
    saved = 1 - recomputed["peak_bytes"] / plain["peak_bytes"]
    print(f"{precision}: peak above the {plain['held_bytes'] / MIB:,.0f} MiB that the process holds between steps")
    print(f"  kept        {plain['peak_bytes'] / MIB:,.0f} MiB")
    print(f"  recomputed  {recomputed['peak_bytes'] / MIB:,.0f} MiB: {saved:.0%} lower (to reach: {TO_REACH:.0%})")
    return {"kept": plain, "recomputed": recomputed, "share_saved": saved}


def compare_seconds(precision: str, *, rounds: int) -> dict[str, list[float]]:
    """Seconds of a step, side by side."""
    check_gradients(precision)
    batch = made_batch(BATCH_SIZE)
    kept, recomputed = (make_trainer(precision, is_recomputed=on) for on in (False, True))
    sides = {"kept": lambda: kept.train_step(batch), "recomputed": lambda: recomputed.train_step(batch)}
    seconds = paired_seconds(sides, rounds=rounds)
    for name, figures in seconds.items():
        print(f"  {name:<11} {statistics.median(figures):.3f} s a step, all {[round(each, 3) for each in figures]}")
    print(f"  ratio       {ratio_of_medians(seconds['recomputed'], seconds['kept']):.2f} x the time")
    return seconds


def made_batch(size: int) -> Batch:
    """Pictures of noise with made-up captions."""
    images = torch.randn(size, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))
    return {"images": images, "captions": made_captions(size)}


def make_model() -> PixelLLM:
    """The guide's model, the same weights each time."""
    torch.manual_seed(0)
    model = create_pixel_llm(
        image_size=IMAGE_SIZE, patch_size=PATCH_SIZE, vision_embed_dim=WIDTH, vision_num_layers=LAYERS,
        vision_num_heads=HEADS, text_num_layers=LAYERS, text_num_heads=HEADS, vocab_size=OUR_VOCABULARY,
    )  # fmt: skip
    model.fit_tokenizer(made_captions(20_000))
    return model


def make_trainer(precision: str, *, is_recomputed: bool) -> Trainer:
    """A Trainer over that model, whose steps are given to it."""
    return Trainer(
        make_model(), [made_batch(1)], checkpoint_dir=tempfile.mkdtemp(), precision=precision, progress="off",
        gradient_checkpointing=is_recomputed,
    )  # fmt: skip


def check_gradients(precision: str) -> None:
    """What is measured must be right: losses and gradients of two steps are equal to the bit."""
    batch, found = made_batch(CHECKED_BATCH_SIZE), []
    for on in (False, True):
        trainer = make_trainer(precision, is_recomputed=on)
        losses = [trainer.train_step(batch) for _ in range(2)]
        found.append([*losses, *(parameter.grad for parameter in trainer.model.parameters())])
    assert all(torch.equal(kept, recomputed) for kept, recomputed in zip(*found, strict=True))


def _measured(precision: str, *, is_recomputed: bool) -> dict[str, int]:
    """`held_bytes` and `peak_bytes`, from a fresh process."""
    command = [sys.executable, "-m", "benchmarks.gradient_checkpointing", precision, str(int(is_recomputed))]
    # Without this the C library keeps freed tensors for later ones, and resident memory says little.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    measured: dict[str, int] = json.loads(done.stdout)
    return measured


def _measure(precision: str, *, is_recomputed: bool) -> dict[str, int]:
    """The same, of this process."""
    trainer = make_trainer(precision, is_recomputed=is_recomputed)
    batch = made_batch(BATCH_SIZE)
    trainer.train_step(made_batch(1))  # makes gradients and the optimizer's state
    if trainer.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        trainer.train_step(batch)
        return {"held_bytes": held, "peak_bytes": torch.cuda.max_memory_allocated() - held}
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak is that from now on
    held = _status("VmRSS")
    trainer.train_step(batch)
    return {"held_bytes": held, "peak_bytes": _status("VmHWM") - held}


def _status(name: str) -> int:
    """Bytes that Linux tells of this process under `name`."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 2**10
    raise KeyError(name)


if __name__ == "__main__":
    if sys.argv[1:] == ["memory"]:
        for chosen in PRECISIONS:
            compare_memory(chosen)
    else:
        print(json.dumps(_measure(sys.argv[1], is_recomputed=sys.argv[2] == "1")))
