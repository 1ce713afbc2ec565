"""Where a model starts: small random maps, residual branches scaled by depth, and no look at the picture yet."""

import torch
from torch import Tensor, nn

from systems.pixel_llm.models.decoder import DecoderBlock, TextDecoder
from systems.pixel_llm.models.layers import SelfAttention
from systems.pixel_llm.models.vision import VisionBlock, VisionEncoder

__all__ = ["draw_embeddings", "initialise"]


@torch.no_grad()
def initialise(encoder: VisionEncoder, decoder: TextDecoder) -> None:
    """Draw all parameters anew from torch's global generator.

    Linear maps keep the variance of what passes (Glorot & Bengio 2010); those that end a residual branch are divided by
    the square root of the number of branches, so that the sum of all keeps its size (Radford et al. 2019, section 2.3).
    The cross-attention's output starts at zero: the decoder first learns to write, and lets the picture in as it helps.
    Image tokens are told apart from the start by sines and cosines of their row and column.
    """
    modules = [*encoder.modules(), *decoder.modules()]
    for module in modules:
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            draw_embeddings(module.weight)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    encoder.position_embedding.weight.copy_(_sines_and_cosines(*encoder.grid, encoder.position_embedding.embedding_dim))
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


def draw_embeddings(rows: Tensor) -> None:
    """Draw `rows` [V, D] of an embedding table anew, in place: as output layer too it then gives logits of size 1.

    Much smaller rows, such as the 0.02 that is common, are slow to be told apart behind the first norm: on the shapes
    they cost the first third of a short run (docs/experiments.md).
    """
    nn.init.normal_(rows, std=rows.shape[1] ** -0.5)


def _sines_and_cosines(num_rows: int, num_columns: int, width: int) -> Tensor:
    """[rows * columns, D]: a quarter each of sines and cosines of x and of y (Beyer et al. 2022, "Better plain ViT
    baselines for ImageNet-1k"), in wavelengths from 6 tokens to 600, which suit a small grid. They are learned further.
    """
    num_waves = -(-width // 4)
    frequencies = 100.0 ** -(torch.arange(num_waves) / num_waves)
    row, column = torch.meshgrid(torch.arange(num_rows), torch.arange(num_columns), indexing="ij")
    x, y = column.reshape(-1, 1) * frequencies, row.reshape(-1, 1) * frequencies
    return torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=1)[:, :width]


def _draw_map(linear: nn.Linear, width: int) -> None:
    bound = (6 / (linear.in_features + width)) ** 0.5
    nn.init.uniform_(linear.weight, -bound, bound)


def _shrink(branch_ends: tuple[nn.Linear, ...], *, num_branches: int) -> None:
    for linear in branch_ends:
        linear.weight.div_(num_branches**0.5)
