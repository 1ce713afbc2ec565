"""The settings of captioning, each written once: here. Names and meanings are those of `transformers` where they exist.

The command line makes a flag of each (`num_beams` -> `--num-beams`). No torch is loaded by this module.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from systems.pixel_llm.errors import ConfigError, nearest_name_hint

__all__ = ["GenerationOptions"]

MAX_NUM_BEAMS = 1_000
"""Beyond, it is more likely a mistake: every beam is a caption computed to its end."""


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """How captions are made: the likeliest token each time, unless beams or draws are asked for.

    Raises:
        ConfigError: a value is out of range, or two do not go together.
    """

    max_length: int | None = None
    """Most tokens of a caption, its end mark and a prefix included. Left out: as many as the model was trained with."""
    min_length: int = 0
    """Fewest tokens before the end mark, a prefix included."""
    num_beams: int = 1
    """Captions followed side by side, of which the best is taken (beam search). 1: the likeliest token each time. 3 to
    5 give clearly better captions, and take two to four times as long."""
    length_penalty: float = 1.0
    """With beams: a caption's log-probability is divided by its number of tokens to this power. 0 leaves it as it is,
    which favours short captions; above 1 favours long ones."""
    early_stopping: bool = False
    """With beams: stop as soon as num_beams captions have ended, though a better one may still be found."""
    repetition_penalty: float = 1.0
    """Above 1: tokens already said become less likely (their logits are divided by this, or multiplied if negative)."""
    no_repeat_ngram_size: int = 0
    """So many tokens in a row are never said twice in a caption. 0: they may be."""
    do_sample: bool = False
    """Draw each token from the model's distribution instead of taking the likeliest."""
    temperature: float = 1.0
    """With do_sample: logits are divided by it before drawing; below 1 is bolder, above 1 more varied."""
    top_k: int | None = None
    """With do_sample: draw from so many likeliest tokens only."""
    top_p: float | None = None
    """With do_sample: draw from the fewest tokens whose probabilities add up to this."""
    num_return_sequences: int = 1
    """Captions a picture: the best of the beams, or so many draws."""
    prefix: str = ""
    """How every caption begins, as in "a photo of"; the model goes on from there."""

    def __post_init__(self) -> None:
        self._check_whole("max_length", at_least=1, may_be_none=True)
        self._check_whole("min_length", at_least=0)
        self._check_whole("num_beams", at_least=1)
        self._check_whole("no_repeat_ngram_size", at_least=0)
        self._check_whole("num_return_sequences", at_least=1)
        self._check_whole("top_k", at_least=1, may_be_none=True)
        if self.num_beams > MAX_NUM_BEAMS:
            raise ConfigError(f"num_beams must be at most {MAX_NUM_BEAMS}, not {self.num_beams}. 3 to 5 are usual.")
        if not math.isfinite(self.length_penalty):
            raise ConfigError(f"length_penalty must be a finite number, not {self.length_penalty}.")
        if not 0 < self.repetition_penalty < math.inf:
            raise ConfigError(
                f"repetition_penalty must be above 0 and finite, not {self.repetition_penalty}; 1 changes nothing."
            )
        if not 0 < self.temperature < math.inf:
            raise ConfigError(
                f"temperature must be above 0 and finite, not {self.temperature}. For the likeliest caption: "
                "do_sample=False."
            )
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must be above 0 and at most 1, not {self.top_p}.")
        if self.max_length is not None and self.min_length >= self.max_length:
            raise ConfigError(
                f"min_length={self.min_length} must be below max_length={self.max_length}, which counts the end mark."
            )
        self._check_together()

    def _check_together(self) -> None:
        if not self.do_sample and (self.temperature, self.top_k, self.top_p) != (1.0, None, None):
            raise ConfigError("temperature, top_k and top_p change what is drawn: they need do_sample=True.")
        if self.do_sample and self.num_beams > 1:
            raise ConfigError("do_sample=True draws captions, num_beams above 1 searches for the best: choose one.")
        if self.num_beams == 1 and (self.length_penalty != 1.0 or self.early_stopping):
            raise ConfigError("length_penalty and early_stopping choose among beams: they need num_beams above 1.")
        if not self.do_sample and self.num_return_sequences > self.num_beams:
            raise ConfigError(
                f"num_return_sequences={self.num_return_sequences} captions a picture need num_beams of at least as "
                f"many, not {self.num_beams}, or do_sample=True."
            )

    def replaced(self, **settings: Any) -> "GenerationOptions":
        """These options with some settings changed; an unknown name is a ConfigError that names the nearest one."""
        known = [field.name for field in fields(self)]
        for name in settings:
            if name not in known:
                raise ConfigError(f"Unknown generation setting {name!r}. {nearest_name_hint(name, known)}")
        return replace(self, **settings)

    def _check_whole(self, name: str, *, at_least: int, may_be_none: bool = False) -> None:
        value = getattr(self, name)
        if value is None and may_be_none:
            return
        if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
            raise ConfigError(f"{name} must be a whole number of at least {at_least}, not {value!r}.")
