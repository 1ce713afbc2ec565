"""Captioning at the guide's sizes, 30 tokens a caption: ours against transformers' cached generation.

All: 224 px, patch 16, width 512, 6 + 6 layers of 8 heads, random weights in bf16, pixels in and ids or words out, 30
new tokens forced. The vocabulary is what each side does by itself: ours is fitted to the captions (8,000 tokens),
theirs is as documented (50,000); ours with a table of 50,000 rows takes a turn too. The rivals have their cache on:
`VisionEncoderDecoderModel` (ViT + GPT-2 with cross-attention), with eager and with fused attention, and BLIP, which
knows eager alone. The fastest counts.
"""

import os
import statistics
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch

from benchmarks.paired import paired_seconds, ratio_of_medians
from benchmarks.report import print_table
from benchmarks.train_step import made_captions
from systems.pixel_llm.models import PixelLLM, create_pixel_llm
from systems.pixel_llm.models.generation import generate_ids
from systems.pixel_llm.models.generation_options import GenerationOptions
from systems.pixel_llm.models.generation_slow import generate_slow

WIDTH, LAYERS, HEADS, IMAGE_SIZE, PATCH_SIZE = 512, 6, 8, 224, 16
OUR_VOCABULARY, THEIR_VOCABULARY = 8_000, 50_000
NUM_TOKENS = 30
OURS, OURS_LARGE = "pixel_llm", "pixel_llm, 50,000 rows"

Sides = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Case:
    """What is asked of all sides, and how many times faster ours is to be."""

    name: str
    batch_size: int
    num_beams: int
    to_reach: float


CASES = (
    Case("greedy, 1 picture", batch_size=1, num_beams=1, to_reach=2.5),
    Case("greedy, 8 pictures", batch_size=8, num_beams=1, to_reach=1.8),
    Case("beam 4, 8 pictures", batch_size=8, num_beams=4, to_reach=3.0),
)


def run(*, rounds: int) -> dict[str, Any]:
    """Print seconds, tokens/s and ratios of each case; return them with all rounds."""
    model = make_model(made_captions(20_000))
    check_fast_path(model)
    models = {OURS: model.to(torch.bfloat16), OURS_LARGE: deepcopy(model)}
    models[OURS_LARGE].resize_embeddings(THEIR_VOCABULARY)
    rivals = make_rivals()
    results = {}
    for case in CASES:
        images = torch.randn(case.batch_size, 3, IMAGE_SIZE, IMAGE_SIZE)
        sides: Sides = {name: our_captioning(model, images, case) for name, model in models.items()}
        sides |= {name: their_captioning(rival, images, case) for name, rival in rivals.items()}
        load = os.getloadavg()[0]
        seconds = paired_seconds(sides, rounds=rounds)
        results[case.name] = tell(case, seconds, load=load)
    return results


def tell(case: Case, seconds: Mapping[str, list[float]], *, load: float) -> dict[str, Any]:
    """Print one case, and give back its figures."""
    medians = {name: statistics.median(figures) for name, figures in seconds.items()}
    tokens = case.batch_size * NUM_TOKENS
    print(f"{case.name}, {NUM_TOKENS} tokens each (load {load:.1f} at the start)")
    rows = [
        (name, f"{median:.3f}", f"{tokens / median:.0f}", " ".join(f"{each:.3f}" for each in seconds[name]))
        for name, median in medians.items()
    ]
    print_table(("side", "s", "tokens/s", "all rounds"), rows)
    figures: dict[str, Any] = {"seconds": seconds, "median_seconds": medians, "load": load, "to_reach": case.to_reach}
    theirs = {name: median for name, median in medians.items() if name not in (OURS, OURS_LARGE)}
    if theirs:
        best = min(theirs, key=theirs.__getitem__)
        ratio, same = (ratio_of_medians(seconds[best], seconds[ours]) for ours in (OURS, OURS_LARGE))
        print(f"  {ratio:.2f} x the fastest rival, {best} (to reach: {case.to_reach}); {same:.2f} x with 50,000 rows")
        figures |= {"fastest_rival": best, "ratio": ratio, "ratio_same_vocabulary": same}
    return figures


def make_model(captions: list[str]) -> PixelLLM:
    """Ours, the same weights each time, and such that the picture decides: a fresh model does not look at it."""
    torch.manual_seed(0)
    model = create_pixel_llm(
        image_size=IMAGE_SIZE, patch_size=PATCH_SIZE, vision_embed_dim=WIDTH, vision_num_layers=LAYERS,
        text_num_layers=LAYERS, vocab_size=OUR_VOCABULARY,
    )  # fmt: skip
    model.fit_tokenizer(captions)
    for block in model.decoder.blocks:
        torch.nn.init.xavier_uniform_(block.cross_attention.out.weight)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def check_fast_path(model: PixelLLM) -> None:
    """What is timed must be right: in fp32, the captions of a batch over the cache are those of the plain way."""
    features = model.encode_images(torch.randn(2, 3, IMAGE_SIZE, IMAGE_SIZE))
    eos_id = model.tokenizer.eos_id
    for num_beams in (1, 4):
        options = GenerationOptions(max_length=12, num_beams=num_beams)
        fast = generate_ids(model, features, options)
        slow = [captions[0] for captions in generate_slow(model, features, options)]
        for row, total, expected in zip(fast.ids[:, 0].tolist(), fast.log_probability[:, 0], slow, strict=True):
            said = row[: row.index(eos_id) + 1] if eos_id in row else row
            assert said == expected.ids, (said, expected.ids)
            assert abs(float(total) - expected.log_probability) < 1e-3, (float(total), expected.log_probability)


def our_captioning(model: PixelLLM, images: torch.Tensor, case: Case) -> Callable[[], object]:
    """Pixels to words, 30 tokens each: no end mark before the last."""
    settings = {"max_length": NUM_TOKENS, "min_length": NUM_TOKENS - 1, "num_beams": case.num_beams}

    def caption() -> None:
        captions = model.generate_scored(images, **settings)
        assert {each.num_tokens for (each,) in captions} == {NUM_TOKENS}

    return caption


def their_captioning(model: Any, images: torch.Tensor, case: Case) -> Callable[[], object]:
    """Pixels to ids, 30 new tokens each."""
    pixels = images.to(torch.bfloat16)
    settings = {
        "min_new_tokens": NUM_TOKENS, "max_new_tokens": NUM_TOKENS, "num_beams": case.num_beams, "do_sample": False,
        "use_cache": True,
    }  # fmt: skip

    def caption() -> None:
        ids = model.generate(pixel_values=pixels, **settings)
        assert ids.shape[0] == case.batch_size, ids.shape
        assert ids.shape[1] in (NUM_TOKENS, NUM_TOKENS + 1, NUM_TOKENS + 2), (
            ids.shape
        )  # with what they begin and end by

    return caption


def make_rivals() -> dict[str, Any]:
    """Models of these sizes by transformers, with random weights; none where it is not installed."""
    if find_spec("transformers") is None:
        print("  transformers is not installed: ours alone (make benchmark installs it)")
        return {}
    from transformers.utils import logging

    logging.set_verbosity_error()
    rivals = {
        "VisionEncoderDecoder, eager": make_encoder_decoder("eager"),
        "VisionEncoderDecoder, sdpa": make_encoder_decoder("sdpa"),
        "BLIP, eager": make_blip(),
    }
    return {name: rival.to(torch.bfloat16).eval().requires_grad_(False) for name, rival in rivals.items()}


def make_encoder_decoder(attention: str) -> Any:
    """ViT and GPT-2 with cross-attention."""
    from transformers import (
        GPT2Config,
        VisionEncoderDecoderConfig,
        VisionEncoderDecoderModel,
        ViTConfig,
    )

    encoder = ViTConfig(
        hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=4 * WIDTH,
        image_size=IMAGE_SIZE, patch_size=PATCH_SIZE,
    )  # fmt: skip
    decoder = GPT2Config(
        n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, vocab_size=THEIR_VOCABULARY, n_positions=128,
        add_cross_attention=True, is_decoder=True, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 1, 0, 2
    config._attn_implementation = attention
    model = VisionEncoderDecoderModel(config)
    model.generation_config.update(decoder_start_token_id=1, pad_token_id=0, eos_token_id=2)
    return model


def make_blip() -> Any:
    """BLIP's captioner: a ViT and a BERT with cross-attention."""
    from transformers import BlipConfig, BlipForConditionalGeneration

    sizes = {
        "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": 4 * WIDTH,
        "projection_dim": WIDTH,
    }  # fmt: skip
    text = sizes | {
        "vocab_size": THEIR_VOCABULARY, "encoder_hidden_size": WIDTH, "max_position_embeddings": 128, "bos_token_id": 1,
        "eos_token_id": 2, "pad_token_id": 0, "sep_token_id": 2,
    }  # fmt: skip
    vision = sizes | {"image_size": IMAGE_SIZE, "patch_size": PATCH_SIZE}
    config = BlipConfig(text_config=text, vision_config=vision, image_text_hidden_size=WIDTH)
    return BlipForConditionalGeneration(config)
