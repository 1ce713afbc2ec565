"""The settings of captioning, each written once: here. Names and meanings are those of `transformers` where they exist.

The command line makes a flag of each (`num_beams` -> `--num-beams`). No torch is loaded by this module.
"""

from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

from systems.pixel_llm.errors import ConfigError, nearest_name_hint
from systems.pixel_llm.settings import Accepts, Count, check_settings

__all__ = ["GenerationOptions"]

MAX_NUM_BEAMS = 1_000
"""Beyond, it is more likely a mistake: every beam is a caption computed to its end."""


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """How captions are made: the likeliest token each time, unless beams or draws are asked for.

    Raises:
        ConfigError: a value is out of range, or two do not go together.
    """

    max_length: Count | None = None
    """Most tokens of a caption, its end mark and a prefix included. Left out: as many as the model was trained with."""
    min_length: Annotated[int, Accepts(at_least=0)] = 0
    """Fewest tokens before the end mark, a prefix included."""
    num_beams: Annotated[int, Accepts(at_least=1, at_most=MAX_NUM_BEAMS, advice="3 to 5 are usual.")] = 1
    """Captions followed side by side, of which the best is taken (beam search). 1: the likeliest token each time. 3 to
    5 give clearly better captions, and take two to four times as long."""
    length_penalty: float = 1.0
    """With beams: a caption's log-probability is divided by its number of tokens to this power. 0 leaves it as it is,
    which favours short captions; above 1 favours long ones."""
    early_stopping: bool = False
    """With beams: stop as soon as num_beams captions have ended, though a better one may still be found."""
    repetition_penalty: Annotated[float, Accepts(above=0, advice="1 changes nothing.")] = 1.0
    """Above 1: tokens already said become less likely (their logits are divided by this, or multiplied if negative)."""
    no_repeat_ngram_size: Annotated[int, Accepts(at_least=0)] = 0
    """So many tokens in a row are never said twice in a caption. 0: they may be."""
    do_sample: bool = False
    """Draw each token from the model's distribution instead of taking the likeliest."""
    temperature: Annotated[float, Accepts(above=0, advice="For the likeliest caption: do_sample=False.")] = 1.0
    """With do_sample: logits are divided by it before drawing; below 1 is bolder, above 1 more varied."""
    top_k: Count | None = None
    """With do_sample: draw from so many likeliest tokens only."""
    top_p: Annotated[float, Accepts(above=0, at_most=1)] | None = None
    """With do_sample: draw from the fewest tokens whose probabilities add up to this."""
    num_return_sequences: Count = 1
    """Captions a picture: the best of the beams, or so many draws."""
    prefix: str = ""
    """How every caption begins, as in "a photo of"; the model goes on from there."""

    def __post_init__(self) -> None:
        check_settings(self)
        if self.max_length is not None and self.min_length >= self.max_length:
            raise ConfigError(
                f"min_length={self.min_length} must be below max_length={self.max_length}, which counts the end mark."
            )
        self._check_together()

    def _check_together(self) -> None:
        if not self.do_sample and (self.temperature, self.top_k, self.top_p) != (1.0, None, None):
            raise ConfigError(
                f"temperature={self.temperature}, top_k={self.top_k} and top_p={self.top_p} say how captions are "
                "drawn: they need do_sample=True."
            )
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
