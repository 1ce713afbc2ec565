"""Image features and the caption so far to logits of the next token: a causal transformer with cross-attention.

Pre-norm blocks of self-attention, cross-attention and MLP (Vaswani et al. 2017, section 3.1, with the norm before each
part). The output layer is the embedding table itself (Press & Wolf 2017).
"""

from torch import Tensor, nn
from torch.nn import functional as F

from systems.pixel_llm.models.block_runs import BlockRun, run_block
from systems.pixel_llm.models.config import PixelLLMConfig
from systems.pixel_llm.models.gradient_checkpointing import recomputed
from systems.pixel_llm.models.kv_cache import KVCache
from systems.pixel_llm.models.layers import (
    MLP,
    CrossAttention,
    Dropout,
    SelfAttention,
    StochasticDepth,
    attend,
    merge_heads,
    split_heads,
)

__all__ = ["DecoderBlock", "TextDecoder"]


class DecoderBlock(nn.Module):
    """Pre-norm block: causal self-attention, cross-attention to the picture, MLP."""

    def __init__(self, config: PixelLLMConfig, layer: int) -> None:
        super().__init__()
        width, num_heads = config.text_width, config.text_heads
        self.layer = layer
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, num_heads)
        self.cross_attention_norm = nn.LayerNorm(width)
        self.cross_attention = CrossAttention(width, num_heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = MLP(width, int(width * config.mlp_ratio))
        self.dropout = Dropout(config.dropout)
        self.stochastic_depth = StochasticDepth(config.stochastic_depth, layer=layer, num_layers=config.text_num_layers)

    def forward(self, hidden: Tensor, cross_key: Tensor, cross_value: Tensor, cache: KVCache | None) -> Tensor:
        """[B, T, D], with the picture's keys and values [B, K, N, E] -> [B, T, D]."""
        hidden = hidden + self._regularised(self._attend_to_caption(self.attention_norm(hidden), cache))
        looked_up = self.cross_attention(self.cross_attention_norm(hidden), cross_key, cross_value)
        hidden = hidden + self._regularised(looked_up)
        return hidden + self._regularised(self.mlp(self.mlp_norm(hidden)))

    def _regularised(self, branch: Tensor) -> Tensor:
        regularised: Tensor = self.stochastic_depth(self.dropout(branch))
        return regularised

    def _attend_to_caption(self, hidden: Tensor, cache: KVCache | None) -> Tensor:
        query, key, value = self.attention.project(hidden)
        if cache is not None:
            key, value = cache.update(self.layer, key, value)
        return self.attention.out(merge_heads(attend(query, key, value, is_causal=True)))


class TextDecoder(nn.Module):
    """Caption tokens to logits, looking at image features.

    Attributes:
        gradient_checkpointing: compute each block anew in the backward pass; see `PixelLLM.gradient_checkpointing`.
        run_block: how a block is run; see `PixelLLM.compile_blocks`.
    """

    def __init__(self, config: PixelLLMConfig) -> None:
        super().__init__()
        width = config.text_width
        self.num_heads = config.text_heads
        self.max_seq_len = config.max_seq_len
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.position_embedding = nn.Embedding(config.max_seq_len, width)
        # The picture's keys and values for all blocks in one product.
        self.cross_keys_values = nn.Linear(config.vision_embed_dim, config.text_num_layers * 2 * width)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(DecoderBlock(config, layer) for layer in range(config.text_num_layers))
        self.norm = nn.LayerNorm(width)
        self.gradient_checkpointing = False
        self.run_block: BlockRun = run_block

    def look_at(self, image_features: Tensor, image_index: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
        """Image features [B, N, D] -> of each block the picture's keys and values, each [B, K, N, E].

        With `image_index` [C], the rows of C captions, each [C, K, N, E]: computed once a picture, then copied.
        """
        # By turns the keys and the values of a block; as slices, whose gradients are put together in one copy.
        slices = self.cross_keys_values(image_features).chunk(2 * len(self.blocks), dim=-1)
        heads = [split_heads(each, self.num_heads) for each in slices]
        if image_index is not None:
            heads = [each.index_select(0, image_index) for each in heads]
        return list(zip(heads[0::2], heads[1::2], strict=True))

    def forward(
        self,
        input_ids: Tensor,
        cross_keys_values: list[tuple[Tensor, Tensor]],
        *,
        positions: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Logits of the next token.

        Args:
            input_ids: [B, T]; with a cache, the tokens after those it holds.
            cross_keys_values: what `look_at` gave.
            positions: [N] places in the flattened [B * T] for which logits are wanted; all if left out.
            cache: read and extended.

        Returns:
            [B, T, V], or [N, V] with `positions`.
        """
        start = 0 if cache is None else cache.length
        length = input_ids.shape[1]
        # Contiguous slices, so that a compiled graph sees views and no lookup of a range.
        hidden = self.token_embedding(input_ids) + self.position_embedding.weight[start : start + length]
        hidden = self.dropout(hidden)
        # A cache is written as blocks are computed, which must not happen twice; its length changes with every token.
        is_recomputed = self.gradient_checkpointing and cache is None
        run = self.run_block if cache is None else run_block
        for block, (cross_key, cross_value) in zip(self.blocks, cross_keys_values, strict=True):
            inputs = (hidden, cross_key, cross_value, cache)
            hidden = recomputed(run, block, *inputs) if is_recomputed else run(block, *inputs)
        if cache is not None:
            cache.advance(length)
        if positions is not None:
            hidden = hidden.flatten(0, 1).index_select(0, positions)
        return F.linear(self.norm(hidden), self.token_embedding.weight)
