"""Small real models for the tests of this folder."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from systems.pixel_llm.models import PixelLLM, PixelLLMConfig

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
