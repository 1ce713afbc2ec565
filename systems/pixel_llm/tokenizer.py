"""Captions to token ids and back: byte-level BPE, trained on the captions of the data set.

A tokenizer starts as plain bytes, which can spell any text, and is trained by merging the pairs of tokens that occur
most often (Sennrich et al. 2016, on bytes as in Radford et al. 2019). The ids are, in this order: `<pad>`, `<bos>`,
`<eos>`, the 256 bytes, the merges. The three special tokens are ids only: no text, not even "<eos>", encodes to them.

The shift by one between what the decoder reads and what it must say happens here, once, in `encode_batch`. Layer 1.
torch, which only that needs, is loaded by it: who counts tokens does not wait for it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from systems.pixel_llm.errors import CheckpointError, ConfigError
from systems.pixel_llm.folder_reader import FolderReader

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["IGNORE_INDEX", "MIN_VOCAB_SIZE", "TOKENIZER_FILE", "CaptionTokenizer", "TokenBatch"]

IGNORE_INDEX = -100
"""The target of a position that has none (padding); the default `ignore_index` of torch's cross-entropy."""
TOKENIZER_FILE = "tokenizer.json"
SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>")
MIN_VOCAB_SIZE = len(SPECIAL_TOKENS) + 256
"""Special tokens and bytes: the least that can spell every caption."""
MAX_FILE_BYTES = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class TokenBatch:
    """A batch of captions as the decoder reads and must say them, padded at the end to one length T."""

    input_ids: Tensor
    """[B, T] int64: `<bos>` w1 .. wn, then `<pad>`."""
    targets: Tensor
    """[B, T] int64: w1 .. wn `<eos>`, then `IGNORE_INDEX`."""
    supervised: Tensor
    """[N] int64: the positions of `targets.flatten()` that have a target, in order."""
    num_truncated: int
    """How many of the captions were too long and were cut."""

    def to(self, device: torch.device | str) -> TokenBatch:
        """The same batch on `device`."""
        return TokenBatch(
            input_ids=self.input_ids.to(device, non_blocking=True),
            targets=self.targets.to(device, non_blocking=True),
            supervised=self.supervised.to(device, non_blocking=True),
            num_truncated=self.num_truncated,
        )


class CaptionTokenizer:
    """Text <-> ids. Made by `bytes()`, `train(...)` or `load(folder)`; it never changes afterwards.

    Text is brought to Unicode normal form C (NFC) first, so that an accent typed in two ways is one word; any NFC text
    survives a round trip exactly.
    """

    pad_id = 0
    bos_id = 1
    eos_id = 2

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        by_id = sorted((index, token) for token, index in tokenizer.get_vocab().items())
        # What each id spells; the special tokens spell nothing.
        self._spellings = [
            b"" if index < len(SPECIAL_TOKENS) else bytes(_BYTE_OF_CHARACTER[character] for character in token)
            for index, token in by_id
        ]

    @classmethod
    def bytes(cls) -> CaptionTokenizer:
        """The unfitted tokenizer: one token a byte."""
        return cls(_build(_byte_vocabulary(), merges=[]))

    @classmethod
    def train(cls, captions: Iterable[str], *, vocab_size: int) -> CaptionTokenizer:
        """Learn merges from `captions` until there are `vocab_size` tokens or no pair occurs twice.

        Raises:
            ConfigError: `vocab_size` has no room for the bytes and the special tokens.
        """
        if vocab_size < MIN_VOCAB_SIZE:
            raise ConfigError(
                f"vocab_size must be at least {MIN_VOCAB_SIZE} (256 bytes and 3 special tokens), not {vocab_size}."
            )
        learner = _build(_byte_vocabulary(), merges=[])
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=sorted(_BYTE_OF_CHARACTER),
            show_progress=False,
        )
        with _without_threads():
            learner.train_from_iterator((_without_surrogates(caption) for caption in captions), trainer)
        # Rebuilt from its table alone: the trainer also registers the special tokens to be found in text.
        learned = json.loads(learner.to_str())["model"]
        return cls(_build(learned["vocab"], merges=[tuple(merge) for merge in learned["merges"]]))

    @property
    def vocab_size(self) -> int:
        """Number of tokens; ids are 0 .. vocab_size - 1."""
        return len(self._spellings)

    @property
    def is_fitted(self) -> bool:
        """Whether it has learned anything beyond bytes."""
        return self.vocab_size > MIN_VOCAB_SIZE

    @property
    def target_ids(self) -> range:
        """The ids that can follow in a caption: `<eos>`, the bytes and the merges, not `<pad>` nor `<bos>`."""
        return range(self.eos_id, self.vocab_size)

    def encode(self, caption: str) -> list[int]:
        """The ids of `caption`, without special tokens."""
        ids: list[int] = self._tokenizer.encode(_without_surrogates(caption), add_special_tokens=False).ids
        return ids

    def count_tokens(self, captions: Iterable[str]) -> list[int]:
        """The number of tokens of each caption, without special tokens."""
        return [len(self.encode(caption)) for caption in captions]

    def encode_batch(self, captions: Sequence[str], *, max_seq_len: int) -> TokenBatch:
        """Encode `captions` for training: `<bos>` before what is read, `<eos>` after what must be said.

        Args:
            captions: B texts.
            max_seq_len: the most positions a caption may take, `<eos>` included; a longer one is cut at a character
                boundary and still ends in `<eos>`.
        """
        import torch

        rows: list[list[int]] = []
        num_truncated = 0
        for caption in captions:
            ids = self.encode(caption)
            if len(ids) >= max_seq_len:
                num_truncated += 1
                ids = self._cut(ids, max_seq_len - 1)
            rows.append(ids)
        length = max((len(ids) + 1 for ids in rows), default=1)
        input_ids = torch.full((len(rows), length), self.pad_id, dtype=torch.long)
        targets = torch.full((len(rows), length), IGNORE_INDEX, dtype=torch.long)
        for row, ids in enumerate(rows):
            input_ids[row, : len(ids) + 1] = torch.tensor([self.bos_id, *ids])
            targets[row, : len(ids) + 1] = torch.tensor([*ids, self.eos_id])
        supervised = (targets.flatten() != IGNORE_INDEX).nonzero().flatten()
        return TokenBatch(input_ids=input_ids, targets=targets, supervised=supervised, num_truncated=num_truncated)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids` up to the first `<eos>`; other special tokens and padding are passed over.

        Bytes that are no UTF-8 (a model may say any) become U+FFFD.
        """
        spelled = bytearray()
        for index in ids:
            if index == self.eos_id:
                break
            if 0 <= index < self.vocab_size:  # targets hold IGNORE_INDEX, a model's table may have spare rows
                spelled += self._spellings[index]
        return spelled.decode("utf-8", errors="replace")

    @property
    def definition(self) -> str:
        """The text of `tokenizer.json`; two tokenizers with the same one are the same."""
        definition: str = self._tokenizer.to_str(pretty=True)
        return definition

    def save(self, folder: Path) -> None:
        """Write `folder/tokenizer.json`, which the `tokenizers` library reads too."""
        (folder / TOKENIZER_FILE).write_text(self.definition, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> CaptionTokenizer:
        """Read `folder/tokenizer.json`.

        Raises:
            CheckpointError: the file is missing, or is no tokenizer that this class wrote.
        """
        return cls.read(FolderReader(folder, None))

    @classmethod
    def read(cls, reader: FolderReader) -> CaptionTokenizer:
        """As `load`, from a folder that is being read.

        Raises:
            CheckpointError: as `load`.
        """
        text = reader.text(TOKENIZER_FILE, max_bytes=MAX_FILE_BYTES, what="tokenizer")
        try:
            model = json.loads(text)["model"]
            vocabulary, merges = model["vocab"], [tuple(merge) for merge in model["merges"]]
            if {token: vocabulary[token] for token in _byte_vocabulary()} != _byte_vocabulary():
                raise ValueError("its first ids are not the special tokens and the bytes")
            if sorted(vocabulary.values()) != list(range(len(vocabulary))):
                raise ValueError("its ids are not 0, 1, 2 and so on")
            return cls(_build(vocabulary, merges=merges))
        except Exception as error:  # `tokenizers` raises bare Exception for a table that does not fit together
            path = reader.folder / TOKENIZER_FILE
            raise CheckpointError(f"{path}: not a readable tokenizer ({error}).") from error

    def _cut(self, ids: list[int], length: int) -> list[int]:
        """The first `length` ids, or a few fewer, so that no character is torn."""
        while length > 0:
            try:
                b"".join(self._spellings[index] for index in ids[:length]).decode("utf-8")
            except UnicodeDecodeError:
                length -= 1
            else:
                break
        return ids[:length]


def _characters_of_bytes() -> dict[str, int]:
    """Byte-level BPE's alphabet: each byte as one visible character, itself where it has a shape, else from 256 on."""
    visible = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)}
    others = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTE_OF_CHARACTER = _characters_of_bytes()


def _byte_vocabulary() -> dict[str, int]:
    return {token: index for index, token in enumerate([*SPECIAL_TOKENS, *sorted(_BYTE_OF_CHARACTER)])}


def _build(vocabulary: dict[str, int], *, merges: list[tuple[str, str]]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def _without_surrogates(text: str) -> str:
    """`text`, with U+FFFD for a lone surrogate: bad JSON may hold one, and it is no character that could be encoded."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@contextmanager
def _without_threads() -> Iterator[None]:
    """Keeps `tokenizers` from starting threads, after which it warns at every fork of a data loader's workers."""
    name = "TOKENIZERS_PARALLELISM"
    if name in os.environ:
        yield
        return
    os.environ[name] = "false"
    try:
        yield
    finally:
        del os.environ[name]
