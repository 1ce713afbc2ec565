"""One training step at the guide's sizes: ours against transformers' VisionEncoderDecoderModel (ViT + GPT-2).

Both: 224 px, patch 16, width 512, 6 + 6 layers of 8 heads, 8 captions of about 12 words, the same precision, AdamW in
its fused form, gradients clipped to norm 1, no dropout, captions padded to the longest. The vocabulary is what each
side does by itself: ours is fitted to the captions (8,000 tokens), theirs is as documented (50,000). Our step includes
turning strings into ids; theirs is handed ids.
"""

import random
import statistics
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.paired import paired_seconds, ratio_of_medians
from systems.pixel_llm.models import PixelLLM, create_pixel_llm
from systems.pixel_llm.tokenizer import IGNORE_INDEX
from systems.pixel_llm.training import Trainer

BATCH_SIZE = 8
WIDTH, LAYERS, HEADS, IMAGE_SIZE, PATCH_SIZE = 512, 6, 8, 224, 16
OUR_VOCABULARY, THEIR_VOCABULARY = 8_000, 50_000
LEARNING_RATE = 1e-4


def run(*, rounds: int) -> None:
    """Print seconds, images/s and the ratio, in bf16 and fp32."""
    captions = made_captions(20_000)
    batch = {"images": torch.randn(BATCH_SIZE, 3, IMAGE_SIZE, IMAGE_SIZE), "captions": captions[:BATCH_SIZE]}
    for precision, target in (("bf16", 1.30), ("fp32", 1.15)):
        torch.manual_seed(0)
        model = create_pixel_llm(
            image_size=IMAGE_SIZE, patch_size=PATCH_SIZE, vision_embed_dim=WIDTH, vision_num_layers=LAYERS,
            text_num_layers=LAYERS, vocab_size=OUR_VOCABULARY, dropout=0.0,
        )  # fmt: skip
        model.fit_tokenizer(captions)
        check_fast_path(model, batch)
        ours = our_step(model, batch, precision)
        tokens = model.encode_captions(batch["captions"])
        theirs, parameters = their_step(batch["images"], tokens.targets, precision)
        seconds = paired_seconds({"pixel_llm": ours, "transformers": theirs}, rounds=rounds)
        print(
            f"{precision}: {len(tokens.supervised)} tokens in {BATCH_SIZE} captions, longest {tokens.targets.shape[1]}"
        )
        sizes = {"pixel_llm": sum(each.numel() for each in model.parameters()), "transformers": parameters}
        for name, figures in seconds.items():
            median = statistics.median(figures)
            print(
                f"  {name:<13} {median:.3f} s a step, {BATCH_SIZE / median:.2f} images/s, "
                f"{sizes[name] / 1e6:.1f}M parameters, all rounds {[round(each, 3) for each in figures]}"
            )
        ratio = ratio_of_medians(seconds["transformers"], seconds["pixel_llm"])
        print(f"  ratio         {ratio:.2f} x (to reach: {target:.2f})")


def made_captions(count: int) -> list[str]:
    """Captions of 9 to 15 made-up words, drawn from 5,000 by their rank as in natural text."""
    draw = random.Random(0)
    syllables = [first + vowel for first in "bdfgklmnprstvz" for vowel in "aeiou"]
    words = sorted({"".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(6_000)})
    draw.shuffle(words)
    weights = [1 / (rank + 10) for rank in range(len(words))]
    return [" ".join(draw.choices(words, weights, k=draw.randint(9, 15))) for _ in range(count)]


def check_fast_path(model: PixelLLM, batch: dict[str, Any]) -> None:
    """What is timed must be right: logits at the supervised positions alone give the loss of all of them."""
    tokens = model.encode_captions(batch["captions"])
    with torch.no_grad():
        chosen = model(batch["images"], tokens.input_ids, positions=tokens.supervised)
        everywhere = model(batch["images"], batch["captions"])
    fast = F.cross_entropy(chosen, tokens.targets.flatten()[tokens.supervised])
    plain = F.cross_entropy(everywhere.flatten(0, 1), tokens.targets.flatten(), ignore_index=IGNORE_INDEX)
    torch.testing.assert_close(fast, plain)


def our_step(model: PixelLLM, batch: dict[str, Any], precision: str) -> Callable[[], object]:
    """A step of the Trainer, strings in."""
    folder = tempfile.mkdtemp()
    trainer = Trainer(
        model, [batch], checkpoint_dir=folder, learning_rate=LEARNING_RATE, precision=precision, progress="off"
    )
    return lambda: trainer.train_step(batch)


def their_step(images: torch.Tensor, labels: torch.Tensor, precision: str) -> tuple[Callable[[], object], int]:
    """A plain loop around the peer's model, with the settings its own Trainer uses; and its number of parameters."""
    from transformers import GPT2Config, GPT2LMHeadModel, VisionEncoderDecoderModel, ViTConfig, ViTModel

    encoder = ViTModel(
        ViTConfig(
            hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=4 * WIDTH,
            image_size=IMAGE_SIZE, patch_size=PATCH_SIZE,
        ),
        add_pooling_layer=False,
    )  # fmt: skip
    decoder = GPT2LMHeadModel(
        GPT2Config(
            n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, vocab_size=THEIR_VOCABULARY, n_positions=128,
            add_cross_attention=True, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            bos_token_id=1, eos_token_id=2, pad_token_id=0,
        )
    )  # fmt: skip
    model = VisionEncoderDecoderModel(encoder=encoder, decoder=decoder)
    model.config.decoder_start_token_id, model.config.pad_token_id = 1, 0
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            loss = model(pixel_values=images, labels=labels).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step, sum(each.numel() for each in model.parameters())
