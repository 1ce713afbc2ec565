"""One training step on 32 pictures with 5 captions each: every picture encoded once, against 160 pairs of their own.

The tiny preset at 112 px, no dropout, fp32 and bf16. Both sides learn the same 160 captions in one step and come to the
same gradient; the plain side has each picture five times in its batch. Pictures are noise and captions made up. Where
`../shared/data/flickr8k_part` lies beside the repository, its pictures and captions take a turn too, read by the same
loaders as in training.
"""

import statistics
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from benchmarks.paired import paired_seconds, ratio_of_medians
from benchmarks.train_step import made_captions
from systems.pixel_llm.data import ImageCaptionDataset
from systems.pixel_llm.models import PixelLLM, create_pixel_llm
from systems.pixel_llm.training import Trainer

NUM_IMAGES, CAPTIONS_PER_IMAGE, IMAGE_SIZE = 32, 5, 112
REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "flickr8k_part"

Batch = dict[str, Any]


def run(*, rounds: int) -> None:
    """Print seconds, pictures/s and the ratio, of made-up data and of real data where it is there."""
    captions = made_captions(20_000)
    images = torch.randn(NUM_IMAGES, 3, IMAGE_SIZE, IMAGE_SIZE)
    compare("made up", with_all_captions(images, captions[: NUM_IMAGES * CAPTIONS_PER_IMAGE]), captions, rounds=rounds)
    if REAL_DATA.is_dir():
        dataset = ImageCaptionDataset(
            REAL_DATA, "json", REAL_DATA / "train.json", image_size=(IMAGE_SIZE, IMAGE_SIZE), caption_choice="all"
        )
        loader = DataLoader(dataset, batch_size=NUM_IMAGES, collate_fn=dataset.get_collate_fn())
        (batch,) = islice(loader, 1)
        compare("flickr8k_part", batch, dataset.captions, rounds=rounds)


def with_all_captions(images: torch.Tensor, captions: list[str]) -> Batch:
    """A batch of pictures with as many captions each."""
    index = torch.arange(len(images)).repeat_interleave(len(captions) // len(images))
    return {"images": images, "captions": captions, "caption_image_index": index}


def as_pairs(batch: Batch) -> Batch:
    """The same captions, each with a picture of its own."""
    return {"images": batch["images"][batch["caption_image_index"]], "captions": batch["captions"]}


def compare(name: str, batch: Batch, captions: list[str], *, rounds: int) -> None:
    """Time a step of the Trainer on both forms of one batch."""
    pairs = as_pairs(batch)
    check_gradients(batch, pairs, captions)
    for precision in ("fp32", "bf16"):
        sides = {"once": our_step(batch, captions, precision), "pairs": our_step(pairs, captions, precision)}
        seconds = paired_seconds(sides, rounds=rounds)
        print(f"{name}, {precision}: {len(batch['images'])} pictures, {len(batch['captions'])} captions a step")
        for side, figures in seconds.items():
            median = statistics.median(figures)
            print(
                f"  {side:<6} {median:.3f} s a step, {len(batch['images']) / median:.1f} pictures/s, "
                f"{len(batch['captions']) / median:.1f} captions/s, all rounds {[round(each, 3) for each in figures]}"
            )
        print(f"  ratio  {ratio_of_medians(seconds['pairs'], seconds['once']):.2f} x")


def make_model(captions: list[str]) -> PixelLLM:
    """The tiny preset, the same weights each time."""
    torch.manual_seed(0)
    model = create_pixel_llm("tiny", image_size=IMAGE_SIZE, dropout=0.0)
    model.fit_tokenizer(captions)
    return model


def check_gradients(batch: Batch, pairs: Batch, captions: list[str]) -> None:
    """What is timed must be right: both ways give the same gradient, here in fp64."""
    gradients = []
    for each in (batch, pairs):
        model = make_model(captions).double()
        tokens = model.encode_captions(each["captions"])
        index = each.get("caption_image_index")
        logits = model(each["images"].double(), tokens.input_ids, positions=tokens.supervised, image_index=index)
        torch.nn.functional.cross_entropy(logits, tokens.targets.flatten()[tokens.supervised]).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for once, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(once, plain, rtol=1e-9, atol=1e-12)


def our_step(batch: Batch, captions: list[str], precision: str) -> Callable[[], object]:
    """A step of the Trainer, strings in."""
    trainer = Trainer(
        make_model(captions), [batch], checkpoint_dir=tempfile.mkdtemp(), precision=precision, progress="off"
    )
    return lambda: trainer.train_step(batch)
