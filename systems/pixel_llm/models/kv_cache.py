"""What generation keeps of the caption so far, so that each new token costs one position instead of all of them."""

import torch
from torch import Tensor

__all__ = ["KVCache"]


class KVCache:
    """Keys and values of the captions so far, of every decoder block, and those of the pictures.

    The self-attention part grows in place up to `max_length`. The cross-attention part is computed once a picture, not
    a caption: captions may become several a picture (`reorder`), which then lie side by side, picture by picture.
    For use without gradients, since it is written in place.
    """

    def __init__(self, cross_keys_values: list[tuple[Tensor, Tensor]], *, max_length: int) -> None:
        """`cross_keys_values`: of each block, keys and values [B, K, N, E]."""
        self.cross_keys_values = cross_keys_values
        self.length = 0
        """Positions held."""
        first_key = cross_keys_values[0][0]
        batch, num_heads, _, head_width = first_key.shape
        # One tensor for all blocks' keys and values, so that beams are put in another order by one operation.
        shape = (2 * len(cross_keys_values), batch, num_heads, max_length, head_width)
        self._held = torch.empty(shape, dtype=first_key.dtype, device=first_key.device)
        # Another order is written beside the old one, and the two change places: fresh memory is slow to touch.
        self._spare = self._held[:, :0]

    @property
    def num_captions(self) -> int:
        """Rows that are extended together."""
        return self._held.shape[1]

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new positions' keys and values [R, K, T, E] of one block; return those of all positions so far."""
        num_positions = key.shape[-2]
        keys, values = self._held[2 * layer], self._held[2 * layer + 1]
        keys.narrow(2, self.length, num_positions).copy_(key)
        values.narrow(2, self.length, num_positions).copy_(value)
        end = self.length + num_positions
        return keys.narrow(2, 0, end), values.narrow(2, 0, end)

    def advance(self, num_positions: int) -> None:
        """Count the positions that every block has stored."""
        self.length += num_positions

    def reorder(self, rows: Tensor, *, pictures: Tensor | None = None) -> None:
        """Row r becomes what row `rows[r]` was; `rows` [R] may be more or fewer than before.

        Rows stay in the order of their pictures, as many for each. With `pictures` [P], in ascending order, those alone
        go on, and the others are forgotten.
        """
        if pictures is not None:
            self.cross_keys_values = [
                (key.index_select(0, pictures), value.index_select(0, pictures))
                for key, value in self.cross_keys_values
            ]
        shape = (self._held.shape[0], len(rows), *self._held.shape[2:])
        if self._spare.shape != shape:
            self._spare = self._held.new_empty(shape)
        positions = (..., slice(self.length), slice(None))
        torch.index_select(self._held[positions], 1, rows, out=self._spare[positions])
        self._held, self._spare = self._spare, self._held
