"""The settings of training, each written once: here.

`Trainer` takes the same names keyword-only, the command line makes a flag of each (`learning_rate` ->
`--learning-rate`), and `options.toml` beside a run records them. No torch is loaded by this module.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from systems.pixel_llm.errors import ConfigError, nearest_name_hint

__all__ = ["TrainingOptions"]


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a model is trained; checked as a whole when it is made.

    Raises:
        ConfigError: a value is out of range; the message names the setting, what was found and what is allowed.
    """

    learning_rate: float = 3e-4
    """Peak learning rate of the default optimizer (AdamW). Small models learn faster with 1e-3."""
    weight_decay: float = 0.05
    """Decoupled weight decay of the default optimizer, on matrices only: no bias, gain or scale is decayed."""
    schedule: Literal["cosine", "constant"] | None = None
    """How the learning rate moves: a warm-up, then a cosine down to 0 or constant. Left out: cosine, or, where an
    optimizer is given to the Trainer, that optimizer's rate is never touched."""
    warmup_fraction: float = 0.05
    """Share of the run over which the learning rate rises from 0 to its peak."""
    label_smoothing: float = 0.0
    """Share of the target's probability that is spread evenly over all tokens that a caption can hold, in training:
    between 0 and 1, often 0.1. Validation losses come without it, so that they can be compared between runs."""
    max_grad_norm: float | None = 1.0
    """Gradients longer than this (Euclidean norm over all parameters) are scaled down to it; None leaves them."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the matrix products; weights and optimizer stay fp32. auto: bf16 where the processor or GPU is
    fast at it, else fp32."""
    seed: int = 0
    """All that is random (order, caption choice, augmentation, dropout) follows from this number."""
    max_steps: int | None = None
    """Stop after this many optimizer steps."""
    max_minutes: float | None = None
    """Stop after this many minutes: one budget for the run over all its resumes. The learning-rate schedule follows."""
    metric: Literal["auto", "val_loss", "cider_d"] = "auto"
    """What the best checkpoint is judged by: the loss on the validation data, or CIDEr-D of captions of a part of it.
    auto: CIDEr-D where captions are scored, else the loss."""
    score_every: int = 1
    """Score captions at every so many validations, where there are enough pictures to validate on; 0: never."""
    max_checkpoints: int = 3
    """How many of the best checkpoints are kept; the newest two are kept as well."""
    progress: Literal["auto", "bar", "off"] = "auto"
    """auto draws a progress bar on stderr where that is a terminal."""

    def __post_init__(self) -> None:
        self._check_number("learning_rate", above=0)
        self._check_number("weight_decay", at_least=0)
        self._check_number("warmup_fraction", at_least=0, below=1)
        self._check_number("label_smoothing", at_least=0, below=1)
        for name in ("max_grad_norm", "max_minutes"):
            if getattr(self, name) is not None:
                self._check_number(name, above=0)
        if self.max_steps is not None:
            self._check_number("max_steps", is_whole=True, at_least=1)
        self._check_number("max_checkpoints", is_whole=True, at_least=1)
        self._check_number("seed", is_whole=True, at_least=0)
        self._check_number("score_every", is_whole=True, at_least=0)
        self._check_choice("schedule", ("cosine", "constant", None))
        self._check_choice("precision", ("auto", "fp32", "bf16"))
        self._check_choice("metric", ("auto", "val_loss", "cider_d"))
        self._check_choice("progress", ("auto", "bar", "off"))

    def replaced(self, **settings: Any) -> "TrainingOptions":
        """These options with some settings changed; an unknown name is a ConfigError that names the nearest one."""
        known = [field.name for field in fields(self)]
        for name in settings:
            if name not in known:
                raise ConfigError(f"Unknown training setting {name!r}. {nearest_name_hint(name, known)}")
        return replace(self, **settings)

    def _check_number(
        self,
        name: str,
        *,
        is_whole: bool = False,
        above: float = -math.inf,
        at_least: float = -math.inf,
        below: float = math.inf,
    ) -> None:
        value = getattr(self, name)
        is_number = isinstance(value, int if is_whole else (int, float)) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or not (value > above and value >= at_least and value < below):
            wanted = [f"above {above:g}"] * (above > -math.inf) + [f"at least {at_least:g}"] * (at_least > -math.inf)
            wanted += [f"below {below:g}"] * (below < math.inf)
            kind = "a whole number" if is_whole else "a number"
            raise ConfigError(f"{name} must be {kind} {' and '.join(wanted)}, not {value!r}.")

    def _check_choice(self, name: str, allowed: tuple[str | None, ...]) -> None:
        value = getattr(self, name)
        if value not in allowed:
            raise ConfigError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}.")
