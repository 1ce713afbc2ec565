"""The training that is killed: small, and with all settings on that move something from step to step.

A `Cell` says how it is trained. `train_cell` is what runs in the process: it goes on from the newest checkpoint in its
folder, where there is one, and else begins. Dropout, stochastic depth, augmentation, the choice among captions, a
schedule, averaged weights, saves between validations and early stopping are on; the last batch of an epoch is short,
and the last step has fewer batches than the others.
"""

import os
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch.utils.data import DataLoader

from systems.pixel_llm.data import ImageCaptionDataset, make_loader
from systems.pixel_llm.data.samples import Sample
from systems.pixel_llm.models import PixelLLM, create_pixel_llm
from systems.pixel_llm.training import Trainer

COLOURS = ("red", "green", "blue", "orange", "purple")
SHAPES = ("square", "circle", "bar")
NUM_TRAIN, NUM_VALIDATION = 13, 5
BATCH_SIZE = 2
MOST_EPOCHS = 9
"""In about half of the cells early stopping ends the run before."""


@dataclass(frozen=True, order=True)
class Cell:
    """One way to train."""

    precision: str
    num_workers: int
    """Threads of our loader, processes of torch's."""
    accumulation: int
    """Batches a step."""
    loader: str
    """ours: `make_loader`; torch: a plain DataLoader(shuffle=True)."""

    def __str__(self) -> str:
        return f"{self.precision}-{self.num_workers}workers-{self.accumulation}batches-{self.loader}"


CELLS = [Cell(*values) for values in product(("fp32", "bf16"), (0, 2), (1, 3), ("ours", "torch"))]


def draw_pictures(folder: Path) -> None:
    """Draw what all the trainings look at."""
    folder.mkdir()
    for index in range(NUM_TRAIN + NUM_VALIDATION):
        picture = Image.new("RGB", (40, 32), "white")
        draw, colour = ImageDraw.Draw(picture), COLOURS[index % len(COLOURS)]
        left, shape = 2 + index, SHAPES[index % len(SHAPES)]
        if shape == "circle":
            draw.ellipse((left, 8, left + 14, 22), fill=colour)
        else:
            draw.rectangle((left, 8, left + (14 if shape == "square" else 4), 22), fill=colour)
        picture.save(folder / f"{index:02}.png")


def train_cell(cell: Cell, pictures: Path, folder: Path) -> None:
    """In a process of its own: train to the end, from where the newest checkpoint in `folder` stands.

    The process leads a group, so that workers it leaves behind can be found; what it says goes to `folder/log.txt`.
    """
    os.setpgid(0, 0)
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    torch.manual_seed(os.getpid())  # another process has drawn other numbers before
    trainer = make_trainer(cell, pictures, folder)
    if trainer.checkpoint_manager.latest() is not None:
        trainer.resume()
    trainer.train(MOST_EPOCHS)


def make_trainer(cell: Cell, pictures: Path, folder: Path) -> Trainer:
    """A Trainer that has not begun."""
    train_loader, val_loader = make_loaders(cell, pictures)
    return Trainer(
        make_model(),
        train_loader,
        val_loader,
        device="cpu",
        checkpoint_dir=folder / "checkpoints",
        checkpoint_interval=2,
        log_interval=1,
        metrics_file=folder / "metrics.jsonl",
        precision=cell.precision,
        gradient_accumulation_steps=cell.accumulation,
        learning_rate=3e-2,
        schedule="wsd",
        warmup_steps=2,
        ema_decay=0.9,
        save_every_steps=3,
        early_stopping_patience=2,
        progress="off",
    )


def make_model() -> PixelLLM:
    """Always with the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return create_pixel_llm(
            image_size=32, patch_size=16, vision_embed_dim=32, vision_num_layers=2, text_num_layers=2,
            vocab_size=400, max_seq_len=64, dropout=0.1, stochastic_depth=0.2,
        )  # fmt: skip


def make_loaders(cell: Cell, pictures: Path) -> tuple[Any, Any]:
    """Of the training and of the validation pictures."""
    train = ImageCaptionDataset(
        pictures, samples=samples(pictures, range(NUM_TRAIN)), image_size=(32, 32), augment="crop,color,flip"
    )
    validation = ImageCaptionDataset(
        pictures,
        samples=samples(pictures, range(NUM_TRAIN, NUM_TRAIN + NUM_VALIDATION)),
        image_size=(32, 32),
        caption_choice="all",
    )
    if cell.loader == "ours":
        return (
            make_loader(train, batch_size=BATCH_SIZE, shuffle=True, num_workers=cell.num_workers),
            make_loader(validation, batch_size=BATCH_SIZE, shuffle=False, num_workers=cell.num_workers),
        )
    return (
        DataLoader(
            train,
            batch_size=BATCH_SIZE,
            shuffle=True,
            num_workers=cell.num_workers,
            collate_fn=train.get_collate_fn(),
            persistent_workers=cell.num_workers > 0,
            # Named, since a process of the fork server would start a fork server of its own for them.
            multiprocessing_context="fork" if cell.num_workers else None,
        ),
        DataLoader(validation, batch_size=BATCH_SIZE, collate_fn=validation.get_collate_fn()),
    )


def samples(pictures: Path, numbers: range) -> list[Sample]:
    """The pictures of these numbers, with three captions each."""
    return [
        Sample(
            image_path=pictures / f"{number:02}.png",
            captions=tuple(
                pattern.format(COLOURS[number % len(COLOURS)], SHAPES[number % len(SHAPES)])
                for pattern in ("A {} {}", "There is a {} {} on white", "{} is the {}")
            ),
        )
        for number in numbers
    ]
