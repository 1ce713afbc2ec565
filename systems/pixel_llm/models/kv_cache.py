"""What generation keeps of the caption so far, so that each new token costs one position instead of all of them."""

import torch
from torch import Tensor

__all__ = ["KVCache"]


class KVCache:
    """Keys and values of the caption so far, of every decoder block, and those of the picture.

    The self-attention part grows in place up to `max_length`; the cross-attention part is computed once a picture.
    """

    def __init__(self, cross_keys_values: list[tuple[Tensor, Tensor]], *, max_length: int) -> None:
        """`cross_keys_values`: of each block, keys and values [B, K, N, E]."""
        self.cross_keys_values = cross_keys_values
        self.length = 0
        """Positions held."""
        first_key = cross_keys_values[0][0]
        batch, num_heads, _, head_width = first_key.shape
        shape = (batch, num_heads, max_length, head_width)
        self._keys = [torch.empty(shape, dtype=key.dtype, device=key.device) for key, _ in cross_keys_values]
        self._values = [torch.empty_like(key) for key in self._keys]

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new positions' keys and values [B, K, T, E] of one block; return those of all positions so far."""
        end = self.length + key.shape[-2]
        self._keys[layer][:, :, self.length : end] = key
        self._values[layer][:, :, self.length : end] = value
        return self._keys[layer][:, :, :end], self._values[layer][:, :, :end]

    def advance(self, num_positions: int) -> None:
        """Count the positions that every block has stored."""
        self.length += num_positions
