"""Where a model starts: small random maps, residual branches scaled by depth, and no look at the picture yet."""

import torch
from torch import nn

from systems.pixel_llm.models.decoder import TextDecoder
from systems.pixel_llm.models.vision import VisionEncoder

__all__ = ["initialise"]


@torch.no_grad()
def initialise(encoder: VisionEncoder, decoder: TextDecoder) -> None:
    """Draw all parameters anew from torch's global generator.

    Linear maps keep the variance of what passes (Glorot & Bengio 2010); those that end a residual branch are divided by
    the square root of the number of branches, so that the sum of all keeps its size (Radford et al. 2019, section 2.3).
    The cross-attention's output starts at zero: the decoder first learns to write, and lets the picture in as it helps.
    """
    for module in (*encoder.modules(), *decoder.modules()):
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    for vision_block in encoder.blocks:
        for linear in (vision_block.attention.out, vision_block.mlp.down):
            linear.weight.div_((2 * len(encoder.blocks)) ** 0.5)
    for block in decoder.blocks:
        for linear in (block.attention.out, block.mlp.down):
            linear.weight.div_((3 * len(decoder.blocks)) ** 0.5)
        nn.init.zeros_(block.cross_attention.out.weight)
    # One matrix holds many maps of width D each: the variance is that of one of them, not of the whole stack.
    for stacked, width in _stacked_maps(encoder, decoder):
        bound = (6 / (stacked.in_features + width)) ** 0.5
        nn.init.uniform_(stacked.weight, -bound, bound)


def _stacked_maps(encoder: VisionEncoder, decoder: TextDecoder) -> list[tuple[nn.Linear, int]]:
    attentions = [block.attention for block in (*encoder.blocks, *decoder.blocks)]
    text_width = decoder.token_embedding.embedding_dim
    return [
        *((attention.qkv, attention.qkv.in_features) for attention in attentions),
        (decoder.cross_keys_values, text_width),
    ]
