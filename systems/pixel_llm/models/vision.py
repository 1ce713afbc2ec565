"""Pixels to image features: a stem makes a grid of image tokens, transformer blocks let them see each other.

The vision transformer of Dosovitskiy et al. 2021 without a class token; the convolutional stem follows Xiao et al. 2021
("Early convolutions help transformers see better").
"""

from torch import Tensor, nn
from torch.nn import functional as F

from systems.pixel_llm.models.block_runs import BlockRun, run_block
from systems.pixel_llm.models.config import PixelLLMConfig
from systems.pixel_llm.models.gradient_checkpointing import recomputed
from systems.pixel_llm.models.layers import MLP, Dropout, SelfAttention, StochasticDepth

__all__ = ["ConvStem", "PatchStem", "VisionBlock", "VisionEncoder", "conv_stem_widths"]


class PatchStem(nn.Module):
    """Each square of patch_size x patch_size pixels through one linear map."""

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.projection = nn.Linear(3 * patch_size**2, width)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, N, D], row by row."""
        batch, channels, height, width = images.shape
        side = self.patch_size
        grid = images.view(batch, channels, height // side, side, width // side, side)
        num_patches = (height // side) * (width // side)
        patches = grid.permute(0, 2, 4, 1, 3, 5).reshape(batch, num_patches, channels * side**2)
        return self.projection(patches)


class ConvStem(nn.Module):
    """3 x 3 convolutions of stride 2 until one position stands for one patch, the channels doubling on the way."""

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        widths = conv_stem_widths(patch_size, width)
        self.convolutions = nn.ModuleList()
        self.norms = nn.ModuleList()
        for channels_in, channels_out in zip([3, *widths], widths, strict=False):
            self.convolutions.append(nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False))
            self.norms.append(nn.GroupNorm(channels_out // 8, channels_out))
        self.projection = nn.Linear(widths[-1], width)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, N, D], row by row."""
        hidden = images
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            hidden = F.relu(norm(convolution(hidden)))
        return self.projection(hidden.flatten(2).transpose(1, 2))


def conv_stem_widths(patch_size: int, width: int) -> list[int]:
    """The channels after each convolution of `ConvStem`."""
    num_halvings = patch_size.bit_length() - 1
    # In multiples of 8, so that the normalisation's groups fit.
    return [max(16, width // 2 ** (num_halvings - place) // 8 * 8) for place in range(1, num_halvings + 1)]


class VisionBlock(nn.Module):
    """Pre-norm transformer block: self-attention, then MLP, each added to what came in."""

    def __init__(self, config: PixelLLMConfig, layer: int) -> None:
        super().__init__()
        width = config.vision_embed_dim
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, config.vision_heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = MLP(width, int(width * config.mlp_ratio))
        self.dropout = Dropout(config.dropout)
        self.stochastic_depth = StochasticDepth(
            config.stochastic_depth, layer=layer, num_layers=config.vision_num_layers
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        hidden = hidden + self._regularised(self.attention(self.attention_norm(hidden)))
        return hidden + self._regularised(self.mlp(self.mlp_norm(hidden)))

    def _regularised(self, branch: Tensor) -> Tensor:
        regularised: Tensor = self.stochastic_depth(self.dropout(branch))
        return regularised


class VisionEncoder(nn.Module):
    """Pictures to image features.

    Attributes:
        gradient_checkpointing: compute each block anew in the backward pass; see `PixelLLM.gradient_checkpointing`.
        run_block: how a block is run; see `PixelLLM.compile_blocks`.
    """

    def __init__(self, config: PixelLLMConfig) -> None:
        super().__init__()
        width = config.vision_embed_dim
        self.grid = config.grid
        rows, columns = self.grid
        stem = ConvStem if config.stem == "conv" else PatchStem
        self.stem = stem(config.patch_size, width)
        self.position_embedding = nn.Embedding(rows * columns, width)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(VisionBlock(config, layer) for layer in range(config.vision_num_layers))
        self.norm = nn.LayerNorm(width)
        self.gradient_checkpointing = False
        self.run_block: BlockRun = run_block

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] normalised pixels -> image features [B, N, D]."""
        hidden = self.dropout(self.stem(images) + self.position_embedding.weight)
        for block in self.blocks:
            is_recomputed = self.gradient_checkpointing
            hidden = recomputed(self.run_block, block, hidden) if is_recomputed else self.run_block(block, hidden)
        return self.norm(hidden)
