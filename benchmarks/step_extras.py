"""What accumulation, the weight average, logging and the panel cost together, as a share of a training step.

The guide's sizes (224 px, patch 16, width 512, 6 + 6 layers, 8 captions of about 12 words a batch, AdamW, clipping at
norm 1, no dropout, the precision that "auto" gives). A step takes 4 batches. Side by side, step by step:

- with: `Trainer.train`, with 4 batches a step, an average of the weights (0.999) and figures logged after every step,
  ten times as often as by default; a callback holds the run between its steps while the other sides take theirs.
- plain loop: what any loop must do for the same step on the same batches, and nothing else: captions to ids, forward
  and backward passes, each loss weighed by its share of the tokens, clipping, AdamW.
- without: the Trainer's steps on the 4 batches one by one, without average and log; that is three changes of the
  weights more, so it tells what a batch costs, not what the extras do.

The panel, 8 captions of 40 tokens, comes once an epoch. It is put down to the batches of an epoch of 1,000 pictures,
the fewest that a model should be trained on. What counts is the time of "with" over that of the plain loop, panel
included. Checked before: one step of "with" leaves the weights that the plain loop leaves.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.paired import ratio_of_medians
from benchmarks.report import print_table
from benchmarks.train_step import (
    BATCH_SIZE,
    IMAGE_SIZE,
    LAYERS,
    LEARNING_RATE,
    OUR_VOCABULARY,
    PATCH_SIZE,
    WIDTH,
    made_captions,
)
from systems.pixel_llm.models import PixelLLM, create_pixel_llm
from systems.pixel_llm.training import Trainer
from systems.pixel_llm.training.events import StepEvent
from systems.pixel_llm.training.optim import make_optimizer
from systems.pixel_llm.training.precision import autocast_context

BATCHES_A_STEP, DECAY, WARMUPS = 4, 0.999, 2
PANEL_SIZE, PANEL_TOKENS, PICTURES_AN_EPOCH = 8, 40, 1_000
TARGET = 0.03
WEIGHT_DECAY = 0.05

Batch = dict[str, Any]


def run(*, rounds: int, small: bool = False) -> dict[str, Any]:
    """Print seconds of a step of each side, and what the extras cost."""
    image_size = 32 if small else IMAGE_SIZE
    batches = made_batches(image_size)
    check_weights(batches, small=small)
    model = make_model(small=small)
    with tempfile.TemporaryDirectory() as folder:
        seconds, precision = compare(model, batches, Path(folder), rounds=rounds, small=small)
    panel_seconds = time_panel(model, image_size, rounds=rounds)
    steps_an_epoch = PICTURES_AN_EPOCH / (BATCH_SIZE * BATCHES_A_STEP)
    step_share = ratio_of_medians(seconds["with"], seconds["plain loop"]) - 1
    panel_share = panel_seconds / steps_an_epoch / statistics.median(seconds["plain loop"])
    print(f"{precision}, a step of {BATCHES_A_STEP} x {BATCH_SIZE} pictures, {rounds} rounds")
    print_table(
        ("side", "median s", "least", "most", "batches/s"),
        [
            (name, f"{median:.3f}", f"{min(each):.3f}", f"{max(each):.3f}", f"{BATCHES_A_STEP / median:.3f}")
            for name, each in seconds.items()
            if (median := statistics.median(each))
        ],
    )
    print(f"  with over plain loop                  {step_share:+.2%}")
    print(f"  panel, {panel_seconds:.2f} s once an epoch        {panel_share:+.2%}")
    print(f"  together                              {step_share + panel_share:+.2%} (to stay under: {TARGET:.0%})")
    return {
        "precision": precision, "seconds_a_step": seconds, "panel_seconds": panel_seconds,
        "step_share": step_share, "panel_share": panel_share, "share": step_share + panel_share,
    }  # fmt: skip


def compare(
    model: PixelLLM, batches: list[Batch], folder: Path, *, rounds: int, small: bool
) -> tuple[dict[str, list[float]], str]:
    """Seconds of the steps of each side; and the precision."""
    seconds: dict[str, list[float]] = {"with": [], "plain loop": [], "without": []}
    without = Trainer(make_model(small=small), batches, checkpoint_dir=folder / "without", **settings())
    loop = PlainLoop(make_model(small=small), without.device, without.precision)

    class Turns:
        """Between two steps of the run the other sides take theirs."""

        def __init__(self) -> None:
            self.released = time.perf_counter()

        def on_step(self, event: StepEvent) -> None:
            wait_for(without.device)
            taken = {"with": time.perf_counter() - self.released}
            for name, call in (("plain loop", lambda: loop.step(batches)), ("without", lambda: one_by_one(without))):
                started = time.perf_counter()
                call()
                wait_for(without.device)
                taken[name] = time.perf_counter() - started
            if event.step > WARMUPS:
                for name, each in taken.items():
                    seconds[name].append(each)
            self.released = time.perf_counter()

    def one_by_one(trainer: Trainer) -> None:
        for batch in batches:
            trainer.train_step(batch)

    num_steps = WARMUPS + rounds
    # One epoch, at whose end alone there is a pause: a run bounded by steps would save at each tenth of them.
    trainer = with_extras(model, batches * num_steps, folder / "with", callbacks=[Turns()], log_interval=1)
    trainer.train(1)
    return seconds, trainer.precision


class PlainLoop:
    """The loop that anybody would write."""

    def __init__(self, model: PixelLLM, device: torch.device, precision: Any) -> None:
        self.model, self._device, self._precision = model.to(device).train(), device, precision
        self._optimizer = make_optimizer(self.model, learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def step(self, batches: list[Batch]) -> None:
        """One change of the weights by all batches."""
        encoded = [self.model.encode_captions(batch["captions"]) for batch in batches]
        num_tokens = sum(len(tokens.supervised) for tokens in encoded)
        self._optimizer.zero_grad(set_to_none=True)
        for batch, tokens in zip(batches, encoded, strict=True):
            part = tokens.to(self._device)
            with autocast_context(self._precision, self._device):
                logits = self.model(batch["images"].to(self._device), part.input_ids, positions=part.supervised)
            loss = F.cross_entropy(logits.float(), part.targets.flatten()[part.supervised])
            (loss * (len(part.supervised) / num_tokens)).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()


def time_panel(model: PixelLLM, image_size: int, *, rounds: int) -> float:
    """Median seconds of captioning the panel, none of whose captions ends early."""
    images = torch.randint(0, 256, (PANEL_SIZE, 3, image_size, image_size), dtype=torch.uint8)
    seconds = []
    for _ in range(1 + rounds):
        started = time.perf_counter()
        model.generate(images, max_length=PANEL_TOKENS, min_length=PANEL_TOKENS - 1)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def check_weights(batches: list[Batch], *, small: bool) -> None:
    """One step of "with" and one of the plain loop come to the same weights, in fp32."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = with_extras(
            make_model(small=small), batches, Path(folder), max_steps=1, precision="fp32", log_interval=1
        )
        trainer.train()
    loop = PlainLoop(make_model(small=small), trainer.device, "fp32")
    loop.step(batches)
    for ours, plain in zip(trainer.model.parameters(), loop.model.parameters(), strict=True):
        # A first step of Adam is the rate times the sign of the gradient, which is noise where it is next to nothing.
        assert (ours - plain).abs().mean() < 0.01 * LEARNING_RATE


def with_extras(model: PixelLLM, batches: list[Batch], folder: Path, **others: Any) -> Trainer:
    """A Trainer with all that is to be measured."""
    return Trainer(
        model, batches, checkpoint_dir=folder, gradient_accumulation_steps=BATCHES_A_STEP, ema_decay=DECAY,
        **settings() | others,
    )  # fmt: skip


def settings() -> dict[str, Any]:
    """Of both Trainers: those of the plain loop."""
    return {
        "learning_rate": LEARNING_RATE, "weight_decay": WEIGHT_DECAY, "schedule": "constant", "warmup_steps": 0,
        "progress": "off",
    }  # fmt: skip


def made_batches(image_size: int) -> list[Batch]:
    """The batches of a step: noise with made-up captions of unequal lengths."""
    captions = made_captions(BATCH_SIZE * BATCHES_A_STEP)
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "images": torch.randn(BATCH_SIZE, 3, image_size, image_size, generator=generator),
            "captions": captions[start : start + BATCH_SIZE],
        }
        for start in range(0, len(captions), BATCH_SIZE)
    ]


def make_model(*, small: bool) -> PixelLLM:
    """The guide's model, or one of its kind that is soon done; the same weights each time."""
    torch.manual_seed(0)
    image_size, width, layers = (32, 64, 1) if small else (IMAGE_SIZE, WIDTH, LAYERS)
    model = create_pixel_llm(
        image_size=image_size, patch_size=PATCH_SIZE, vision_embed_dim=width, vision_num_layers=layers,
        text_num_layers=layers, vocab_size=OUR_VOCABULARY, dropout=0.0,
    )  # fmt: skip
    model.fit_tokenizer(made_captions(20_000))
    return model


def wait_for(device: torch.device) -> None:
    """Until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
