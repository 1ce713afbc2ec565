"""The settings of training, each written once: here.

`Trainer` takes the same names keyword-only, the command line makes a flag of each (`learning_rate` ->
`--learning-rate`), and `options.toml` beside a run records them. No torch is loaded by this module.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal

from systems.pixel_llm.errors import ConfigError, nearest_name_hint
from systems.pixel_llm.settings import Accepts, Count, Share, check_settings
from systems.pixel_llm.training.part_lists import (
    FORM_OF_NAMES,
    FORM_OF_RATES,
    names_of,
    rates_of,
    spelled_names,
    spelled_rates,
)
from systems.pixel_llm.training.schedule import DEFAULT_WARMUP_FRACTION, ScheduleName

__all__ = ["TrainingOptions"]

LOGS = ("tensorboard", "wandb")
"""What `log_to` may name."""
FORM_OF_LOGS = f"{' or '.join(LOGS)}, or both with a comma between"


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a model is trained; checked as a whole when it is made.

    Raises:
        ConfigError: a value is out of range; the message names the setting, what was found and what is allowed.
    """

    learning_rate: Annotated[float, Accepts(above=0)] = 3e-4
    """Peak learning rate of the default optimizer (AdamW). Small models learn faster with 1e-3."""
    weight_decay: Annotated[float, Accepts(at_least=0)] = 0.05
    """Decoupled weight decay of the default optimizer, on matrices only: no bias, gain or scale is decayed."""
    learning_rates: Annotated[str | None, Accepts(form=FORM_OF_RATES)] = None
    """Peak learning rates of parts of the model, such as encoder=1e-4,decoder.token_embedding=5e-4. A part is the
    beginning of parameters' names, or a pattern with * of them; where several fit, the last one counts."""
    freeze: Annotated[str | None, Accepts(form=FORM_OF_NAMES)] = None
    """Parts of the model that stay as they are, such as encoder or encoder.stem*,decoder.token_embedding. A module that
    is frozen as a whole has no dropout either."""
    schedule: ScheduleName | None = None
    """How the learning rate moves after a warm-up: down on half a cosine, down on a line, not at all, or only in the
    last part of the run (wsd: warm-up, stable, decay). Left out: cosine, or, where an optimizer is given to the
    Trainer, that optimizer's rate is never touched."""
    warmup_fraction: Share | None = None
    """Share of the run over which the learning rate rises from 0 to its peak. Left out: 0.05, unless warmup_steps is
    given."""
    warmup_steps: Annotated[int, Accepts(at_least=0)] | None = None
    """The same as a number of optimizer steps."""
    decay_fraction: Annotated[float, Accepts(above=0, at_most=1)] = 0.2
    """Share of the run, at its end, over which the schedule wsd goes down."""
    min_learning_rate_fraction: Share = 0.0
    """Where the descent of the learning rate ends, as a share of its peak."""
    gradient_accumulation_steps: Count = 1
    """Batches a step: their gradients are added up, as if they were one large batch."""
    label_smoothing: Share = 0.0
    """Share of the target's probability that is spread evenly over all tokens that a caption can hold, in training:
    between 0 and 1, often 0.1. Validation losses come without it, so that they can be compared between runs."""
    max_grad_norm: Annotated[float, Accepts(above=0)] | None = 1.0
    """Gradients longer than this (Euclidean norm over all parameters) are scaled down to it; None leaves them."""
    ema_decay: Annotated[float, Accepts(above=0, below=1)] | None = None
    """Keep an exponential moving average of the weights, such as 0.999; it is what is validated, scored and used for
    captioning. Left out: none."""
    early_stopping_patience: Count | None = None
    """Stop after so many validations in a row without a better metric. Left out: go on to the end."""
    early_stopping_min_delta: Annotated[float, Accepts(at_least=0)] = 0.0
    """With early_stopping_patience: a smaller gain than this counts as none."""
    max_bad_steps: Count = 10
    """A step whose loss or gradient is no number is passed over; after so many in a row the run stops."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of the matrix products; weights and optimizer stay fp32. auto: bf16 where the processor or GPU is
    fast at it, else fp32. fp16, for GPUs without bf16, scales the loss."""
    gradient_checkpointing: bool = False
    """Compute each block of the model a second time in the backward pass instead of keeping it: far less memory, so a
    larger batch or model, for one more forward pass a step. The result is the same to the bit."""
    compile: bool = False
    """Train by compiled code (torch.compile): faster steps, after some seconds to minutes of compiling at the start and
    whenever a batch has a new shape, of which there is a handful. Pays in long runs, and on GPUs above all; needs a C++
    compiler."""
    seed: Annotated[int, Accepts(at_least=0)] = 0
    """All that is random (order, caption choice, augmentation, dropout) follows from this number."""
    deterministic: bool = False
    """Only computations that give the same bits each time, or an error where torch has none. A GPU may be slower with
    it; on a processor runs are the same anyway."""
    max_steps: Count | None = None
    """Stop after this many optimizer steps."""
    max_minutes: Annotated[float, Accepts(above=0)] | None = None
    """Stop after this many minutes: one budget for the run over all its resumes. The learning-rate schedule follows."""
    metric: Literal["auto", "val_loss", "cider_d"] = "auto"
    """What the best checkpoint is judged by: the loss on the validation data, or CIDEr-D of captions of a part of it.
    auto: CIDEr-D where captions are scored, else the loss."""
    score_every: Annotated[int, Accepts(at_least=0)] = 1
    """Score captions at every so many validations, where there are enough pictures to validate on; 0: never."""
    save_every_steps: Count | None = None
    """Save after every so many steps too, not only with validations; left out: never."""
    max_checkpoints: Count = 3
    """How many of the best checkpoints are kept; the newest two are kept as well."""
    checkpoint_async: bool | None = None
    """Save in the background: training waits for a copy in memory alone, not for the disk. Left out: where a save takes
    more than a second. The last save of a run is waited for."""
    save_optimizer: Literal["all", "latest"] = "all"
    """Checkpoints that hold the state of the optimizer, which is twice the size of the weights: all, or the latest two,
    those resumed from and those saved by name. From the others a resume begins with a fresh optimizer."""
    log_to: Annotated[str | None, Accepts(form=FORM_OF_LOGS)] = None
    """Show the run in tensorboard (event files in tensorboard/ of the run folder), wandb (Weights & Biases), or both,
    with a comma between, beside metrics.jsonl. Each needs an extra: pip install 'pixel-llm[tensorboard]'."""
    progress: Literal["auto", "bar", "off"] = "auto"
    """auto draws a progress bar on stderr where that is a terminal."""

    def __post_init__(self) -> None:
        # In Python a list and a dict are allowed too.
        object.__setattr__(self, "learning_rates", spelled_rates(self.learning_rates))
        object.__setattr__(self, "freeze", spelled_names(self.freeze))
        object.__setattr__(self, "log_to", self._spelled_logs())
        check_settings(self)
        self._check_warmup()

    @property
    def part_learning_rates(self) -> dict[str, float]:
        """`learning_rates` as pattern -> peak."""
        return rates_of(self.learning_rates)

    @property
    def frozen_parts(self) -> tuple[str, ...]:
        """`freeze` as patterns."""
        return names_of(self.freeze)

    @property
    def log_names(self) -> tuple[str, ...]:
        """`log_to` as names."""
        return tuple(self.log_to.split(",")) if self.log_to else ()

    @property
    def schedule_settings(self) -> dict[str, Any]:
        """The arguments of `learning_rate_factor` that are settings, apart from `schedule`."""
        is_default = self.warmup_fraction is None and self.warmup_steps is None
        return {
            "warmup_fraction": DEFAULT_WARMUP_FRACTION if is_default else self.warmup_fraction,
            "warmup_steps": self.warmup_steps,
            "decay_fraction": self.decay_fraction,
            "min_fraction": self.min_learning_rate_fraction,
        }

    def replaced(self, **settings: Any) -> "TrainingOptions":
        """These options with some settings changed; an unknown name is a ConfigError that names the nearest one."""
        known = [field.name for field in fields(self)]
        for name in settings:
            if name not in known:
                raise ConfigError(f"Unknown training setting {name!r}. {nearest_name_hint(name, known)}")
        return replace(self, **settings)

    def _check_warmup(self) -> None:
        if self.warmup_steps is None:
            return
        if self.warmup_fraction is not None:
            raise ConfigError(
                f"warmup_fraction={self.warmup_fraction} and warmup_steps={self.warmup_steps} both say how long the "
                "warm-up is. Give one of them (the other may be none)."
            )
        if self.max_steps is not None and self.warmup_steps >= self.max_steps:
            raise ConfigError(
                f"warmup_steps={self.warmup_steps} leaves nothing of max_steps={self.max_steps}: it must be below."
            )

    def _spelled_logs(self) -> str | None:
        """The text of `log_to`, each name once; in Python a list is allowed too."""
        given: Any = self.log_to
        if given is not None and not isinstance(given, str | Sequence):
            raise ConfigError(f"log_to must be {FORM_OF_LOGS}, or a list of them, not {given!r}.")
        names = [name.strip() for name in given.split(",")] if isinstance(given, str) and given else given or []
        for name in names:
            if name not in LOGS:
                raise ConfigError(f"log_to must be {FORM_OF_LOGS}, not {given!r}. {nearest_name_hint(str(name), LOGS)}")
        return ",".join(dict.fromkeys(names)) or None
