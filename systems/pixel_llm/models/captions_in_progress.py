"""Captions being written, a token at a time: what was said so far, and what the model says may come next."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from systems.pixel_llm.models.logits_rules import sayable_logits

if TYPE_CHECKING:
    from systems.pixel_llm.models.pixel_llm import PixelLLM

__all__ = ["CaptionsInProgress", "pictures_to_keep"]

SHARE_TO_DROP = 0.25
"""Where fewer pictures are done, copying what is kept of the others would cost more than it saves."""


class CaptionsInProgress:
    """R captions of B pictures: one each at first, several each after `select`, picture by picture."""

    def __init__(
        self, model: "PixelLLM", image_features: Tensor, *, prefix_ids: Sequence[int], max_length: int
    ) -> None:
        """Captions of the pictures with features [B, N, D], which all begin with `prefix_ids`."""
        self._model, self._image_features = model, image_features
        self._cache = model.make_cache(image_features, max_length=max_length)
        beginning = torch.tensor([model.tokenizer.bos_id, *prefix_ids], device=image_features.device)
        self._unread = beginning.expand(len(image_features), -1)
        self._said = torch.empty(len(image_features), max_length, dtype=torch.long, device=image_features.device)
        self._said[:, : len(prefix_ids)] = beginning[1:]
        self.length = len(prefix_ids)
        """Tokens said, the prefix included, `<bos>` not."""

    @property
    def said(self) -> Tensor:
        """[R, length] ids."""
        return self._said[:, : self.length]

    def next_logits(self) -> Tensor:
        """Logits [R, V] of the next token, in fp32, minus infinity where it is none that captions hold."""
        logits = self._model.decode(self._unread, self._image_features, positions=self._last, cache=self._cache)
        return sayable_logits(logits.flatten(0, -2), self._model.tokenizer)

    def select(self, rows: Tensor) -> None:
        """Caption r becomes what caption `rows[r]` was: `rows` [R] in the order of the pictures, as many of each."""
        self._cache.reorder(rows)
        self._said = self._said.index_select(0, rows)

    def keep_pictures(self, pictures: Tensor) -> Tensor:
        """Go on with the captions of `pictures` [P] alone, in ascending order; returns which rows they were."""
        rows = torch.arange(len(self._said), device=pictures.device).view(len(self._image_features), -1)
        kept = rows.index_select(0, pictures).flatten()
        self._cache.reorder(kept, pictures=pictures)
        self._image_features = self._image_features.index_select(0, pictures)
        self._said, self._unread = self._said.index_select(0, kept), self._unread.index_select(0, kept)
        return kept

    def append(self, tokens: Tensor) -> None:
        """Say `tokens` [R]."""
        self._said[:, self.length] = tokens
        self.length += 1
        self._unread = tokens[:, None]

    @property
    def _last(self) -> Tensor | None:
        """Where the last unread token of each caption lies; None where there is no other."""
        rows, length = self._unread.shape
        return None if length == 1 else torch.arange(1, rows + 1, device=self._unread.device) * length - 1


def pictures_to_keep(is_done: Tensor) -> Tensor | None:
    """Of `is_done` [B] those that are not, in order; None while it is better to keep all."""
    if int(is_done.sum()) < max(SHARE_TO_DROP * len(is_done), 1):
        return None
    return (~is_done).nonzero().flatten()
