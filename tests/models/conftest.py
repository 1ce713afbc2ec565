"""Small real models for the tests of this folder."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from systems.pixel_llm.models import PixelLLM, PixelLLMConfig
from systems.pixel_llm.tokenizer import SPECIAL_TOKENS, CaptionTokenizer

TINY = {
    "image_size": (16, 24), "patch_size": 8, "vision_embed_dim": 32, "vision_num_layers": 2, "vision_num_heads": 4,
    "text_embed_dim": 24, "text_num_layers": 2, "text_num_heads": 3, "vocab_size": 320, "max_seq_len": 16,
}  # fmt: skip


@pytest.fixture
def tiny_model() -> Callable[..., PixelLLM]:
    """Call it as `tiny_model(is_random=True, **settings)`: two blocks on each side, in eval mode, the same each time.

    Where `is_random`, all weights are drawn: a fresh model does not look at its picture, and its biases are zero.
    """

    def make(*, is_random: bool = True, **settings: Any) -> PixelLLM:
        torch.manual_seed(7)
        model = PixelLLM(PixelLLMConfig(**(TINY | settings)))
        if is_random:
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    # The norms keep their size; the rest is large enough for sharp, varied answers.
                    parameter.add_(torch.randn_like(parameter) * (0.2 if "norm" in name else 0.15))
        return model.eval()

    return make


@pytest.fixture
def letters_model(tiny_model: Callable[..., PixelLLM]) -> Callable[..., PixelLLM]:
    """Call it as `letters_model(seed, letters="abc")`: a tiny model that says a few letters (or spaces).

    So few captions exist that all can be scored. Every seed gives other weights; `<eos>` is as likely as a letter.
    """

    def make(seed: int, letters: str = "abc", **settings: Any) -> PixelLLM:
        model = tiny_model(**settings)
        table = {token: index for index, token in enumerate([*SPECIAL_TOKENS, *letters.replace(" ", "Ġ")])}
        tokenizer = Tokenizer(models.BPE(vocab=table, merges=[]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        model.tokenizer = CaptionTokenizer(tokenizer)
        model.resize_embeddings(len(table) + 2)  # two spare rows, as a real table may have
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.decoder.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.15)
            rows = model.decoder.token_embedding.weight
            rows[model.tokenizer.eos_id] += rows[model.tokenizer.eos_id + 1 : len(table)].mean(dim=0)
        return model

    return make
