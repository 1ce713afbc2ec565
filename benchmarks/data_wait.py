"""How much of training is spent waiting for pictures: the share that the Trainer itself measures and logs.

The guide's sizes (224 px, patch 16, width 512, 6 + 6 layers, batches of 8, the precision that "auto" gives) on real
photographs of about 640 x 480. The first epoch decodes them, the second takes them from the cache. Checked: every
picture of both epochs was trained on. The first interval holds the first steps of all and is counted in.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.cached_epoch import cached_dataset
from benchmarks.photographs import originals, photograph_folder
from benchmarks.report import print_table
from benchmarks.train_step import made_captions
from systems.pixel_llm.data import make_loader
from systems.pixel_llm.models import create_pixel_llm
from systems.pixel_llm.training import Trainer
from systems.pixel_llm.training.metrics_log import read_metrics

BATCH_SIZE, LOG_INTERVAL = 8, 6
STEPS_AN_EPOCH, STEPS_SMALL = 48, 6
WIDTH, LAYERS, IMAGE_SIZE, PATCH_SIZE = 512, 6, 224, 16
TARGET = 0.02


def run(*, rounds: int, small: bool = False) -> dict[str, Any]:
    """Print the share of each of two epochs. One run: it holds dozens of steps, and nothing is compared."""
    steps = STEPS_SMALL if small else STEPS_AN_EPOCH
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        sources, are_real = originals(work / "drawn")
        photographs = photograph_folder(
            work / "pictures", steps * BATCH_SIZE, sources=sources, are_real=are_real, captions=made_captions(20_000)
        )
        told = photographs.told()
        dataset = cached_dataset(photographs.folder, work / "cache")
        torch.manual_seed(0)
        model = create_pixel_llm(
            image_size=IMAGE_SIZE, patch_size=PATCH_SIZE, vision_embed_dim=WIDTH, vision_num_layers=LAYERS,
            text_num_layers=LAYERS, dropout=0.0,
        )  # fmt: skip
        trainer = Trainer(
            model, make_loader(dataset, batch_size=BATCH_SIZE, shuffle=True), checkpoint_dir=work / "run",
            log_interval=LOG_INTERVAL, precision="auto", progress="off",
        )  # fmt: skip
        print(f"{told}; {steps} steps of {BATCH_SIZE} an epoch, {trainer.precision}", flush=True)
        trainer.train(num_epochs=2)
        assert trainer.state.step == 2 * steps, f"{trainer.state.step} steps, expected {2 * steps}"
        records = [each for each in read_metrics(work / "run" / "metrics.jsonl") if each["kind"] == "train"]
    found = {
        "first_epoch": _epoch([each for each in records if each["step"] <= steps]),
        "second_epoch": _epoch([each for each in records if each["step"] > steps]),
    }
    print_table(
        ("epoch", "images/s", "waiting for data"),
        [
            (name.replace("_", " "), f"{each['images_per_second']:.2f}", f"{each['data_wait_share']:.2%}")
            for name, each in found.items()
        ],
    )
    print(f"  (to stay under: {TARGET:.0%})")
    return {"pictures": told, "precision": trainer.precision, "steps_an_epoch": steps, **found}


def _epoch(records: list[dict[str, Any]]) -> dict[str, float]:
    """Intervals have as many steps each, so the time of one is as 1 / its rate."""
    times = [1 / each["images_per_second"] for each in records]
    waits = [time * each["data_wait_share"] for time, each in zip(times, records, strict=True)]
    return {"images_per_second": len(times) / sum(times), "data_wait_share": sum(waits) / sum(times)}
