"""Where a model starts: small random maps, residual branches scaled by depth, and no look at the picture yet."""

import torch
from torch import nn

from systems.pixel_llm.models.decoder import DecoderBlock, TextDecoder
from systems.pixel_llm.models.layers import SelfAttention
from systems.pixel_llm.models.vision import VisionBlock, VisionEncoder

__all__ = ["initialise"]


@torch.no_grad()
def initialise(encoder: VisionEncoder, decoder: TextDecoder) -> None:
    """Draw all parameters anew from torch's global generator.

    Linear maps keep the variance of what passes (Glorot & Bengio 2010); those that end a residual branch are divided by
    the square root of the number of branches, so that the sum of all keeps its size (Radford et al. 2019, section 2.3).
    The cross-attention's output starts at zero: the decoder first learns to write, and lets the picture in as it helps.
    """
    modules = [*encoder.modules(), *decoder.modules()]
    for module in modules:
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    # One matrix may hold many maps: the variance is then that of one of them, not of the whole stack.
    _draw_map(decoder.cross_keys_values, decoder.token_embedding.embedding_dim)
    for module in modules:
        if isinstance(module, SelfAttention):
            _draw_map(module.qkv, module.qkv.in_features)
        elif isinstance(module, VisionBlock):
            _shrink((module.attention.out, module.mlp.down), num_branches=2 * len(encoder.blocks))
        elif isinstance(module, DecoderBlock):
            _shrink((module.attention.out, module.mlp.down), num_branches=3 * len(decoder.blocks))
            nn.init.zeros_(module.cross_attention.out.weight)


def _draw_map(linear: nn.Linear, width: int) -> None:
    bound = (6 / (linear.in_features + width)) ** 0.5
    nn.init.uniform_(linear.weight, -bound, bound)


def _shrink(branch_ends: tuple[nn.Linear, ...], *, num_branches: int) -> None:
    for linear in branch_ends:
        linear.weight.div_(num_branches**0.5)
