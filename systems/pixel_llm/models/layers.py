"""The parts that encoder and decoder share: attention, MLP, dropout, stochastic depth.

Axis letters, throughout the package: B batch, H W pixels, N image tokens (patches), T caption tokens, D width,
V vocabulary, K attention heads, E width of one head.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "MLP",
    "CrossAttention",
    "Dropout",
    "SelfAttention",
    "StochasticDepth",
    "attend",
    "matmul_attention",
    "merge_heads",
    "split_heads",
]


def attend(query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool = False) -> Tensor:
    """Scaled dot-product attention (Vaswani et al. 2017, section 3.2.1) by the kernel that is fastest here.

    Args:
        query: [B, K, Tq, E].
        key: [B, K, Tk, E].
        value: [B, K, Tk, E].
        is_causal: query t sees keys 0 .. Tk - Tq + t only: the queries are the last Tq of Tk positions.

    Returns:
        [B, K, Tq, E].
    """
    # On a processor torch's fused kernel loses to three plain products in bf16 and where there is one query only.
    if query.device.type == "cpu" and (query.dtype == torch.bfloat16 or query.shape[-2] == 1):
        return matmul_attention(query, key, value, is_causal=is_causal)
    num_queries, num_keys = query.shape[-2], key.shape[-2]
    if not is_causal or num_queries == 1:
        return F.scaled_dot_product_attention(query, key, value)
    if num_queries == num_keys:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)
    # torch aligns its own causal mask to the first key, not the last.
    mask = ~_future_mask(num_queries, num_keys, query.device)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def matmul_attention(query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool = False) -> Tensor:
    """`attend`, written out: matmul, softmax, matmul."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    num_queries, num_keys = query.shape[-2], key.shape[-2]
    if is_causal and num_queries > 1:
        scores = scores.masked_fill(_future_mask(num_queries, num_keys, query.device), float("-inf"))
    return scores.softmax(dim=-1) @ value


def _future_mask(num_queries: int, num_keys: int, device: torch.device) -> Tensor:
    """[Tq, Tk], True where the key comes after the query."""
    everything = torch.ones(num_queries, num_keys, dtype=torch.bool, device=device)
    return everything.triu(num_keys - num_queries + 1)


class SelfAttention(nn.Module):
    """Multi-head self-attention with one product for queries, keys and values."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def project(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, T, D] -> queries, keys and values, each [B, K, T, E]."""
        query, key, value = self.qkv(hidden).chunk(3, dim=-1)
        return split_heads(query, self.num_heads), split_heads(key, self.num_heads), split_heads(value, self.num_heads)

    def forward(self, hidden: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D], every position seeing every other."""
        return self.out(merge_heads(attend(*self.project(hidden))))


class CrossAttention(nn.Module):
    """Caption tokens look at image tokens, whose keys and values are computed once for all blocks by the decoder."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, hidden: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """[R, T, D] with keys and values [B, K, N, E] -> [R, T, D]; R is B, or so many captions of each picture.

        Where a picture has several, they look at its keys together, which are not copied.
        """
        looking = self.query(hidden).view(len(key), -1, hidden.shape[-1])
        found = merge_heads(attend(split_heads(looking, self.num_heads), key, value))
        return self.out(found.view(hidden.shape))


class MLP(nn.Module):
    """Two linear maps with a GELU between (Hendrycks & Gimpel 2016)."""

    def __init__(self, width: int, hidden_width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden_width)
        self.down = nn.Linear(hidden_width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        return self.down(F.gelu(self.up(hidden)))


class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014) that costs little on a processor.

    There, one random byte decides a value, eight bytes a draw; torch's own takes one draw a value, which is an eighth
    of a small model's training step. The share dropped is `rate` rounded to a multiple of 1/256, and the rest is scaled
    by what that share really is, so that the expected value stays. Draws come from torch's global generator.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        # Never 256: a rate near 1 would drop everything, and scale what is left by a division by zero.
        self._threshold = min(round(256 * rate), 255)

    def forward(self, values: Tensor) -> Tensor:
        """Values of any shape -> the same shape; unchanged outside training."""
        if not self.training or self._threshold == 0:
            return values
        # Compiled code draws in one loop with what is done to the values anyway.
        if values.device.type != "cpu" or torch.compiler.is_compiling():
            return F.dropout(values, self.rate)
        num_words = -(-values.numel() // 8)
        words = torch.empty(num_words, dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
        kept = words.view(torch.uint8)[: values.numel()].view(values.shape) >= self._threshold
        return values * (kept.to(values.dtype) * (256 / (256 - self._threshold)))

    def extra_repr(self) -> str:
        """Shown by `print(model)`."""
        return f"rate={self.rate}"


class StochasticDepth(nn.Module):
    """Drops a residual branch for some samples of a batch in training (Huang et al. 2016, section 3).

    By the linear rule (their equation 4), block l of L is dropped with l / L of the chance of the last one. What is
    kept is divided by the chance to be kept, so that nothing need be scaled outside training; the paper scales there.
    Every branch of a block draws for itself, from torch's global generator. At a chance of 0 nothing is drawn.
    """

    def __init__(self, last_rate: float, *, layer: int, num_layers: int) -> None:
        """`last_rate` is the chance of the last block, `layer` counts from 0."""
        super().__init__()
        self.rate = last_rate * (layer + 1) / num_layers

    def forward(self, branch: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D] with some of the B samples zero; unchanged outside training."""
        if not self.training or self.rate == 0:
            return branch
        keep_rate = 1 - self.rate
        kept = torch.empty(len(branch), 1, 1, device=branch.device).bernoulli_(keep_rate)
        return branch * (kept / keep_rate).to(branch.dtype)

    def extra_repr(self) -> str:
        """Shown by `print(model)`."""
        return f"rate={self.rate:g}"


def split_heads(hidden: Tensor, num_heads: int) -> Tensor:
    """[B, T, D] -> [B, K, T, E], a view."""
    return hidden.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(heads: Tensor) -> Tensor:
    """[B, K, T, E] -> [B, T, D]."""
    return heads.transpose(1, 2).flatten(2)
