"""The settings of the data, each written once: here.

The command line makes a flag of each (`val_manifest` -> `--val-manifest`), and `options.toml` beside a run records
them. No torch is loaded by this module.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from systems.pixel_llm.errors import ConfigError, nearest_name_hint
from systems.pixel_llm.settings import Accepts, check_settings

__all__ = [
    "DEFAULT_AUGMENT",
    "MAX_WEIGHT",
    "WORKER_TIMEOUT_SECONDS",
    "BadSamplePolicy",
    "CaptionChoice",
    "DataOptions",
    "MixOptions",
    "ReadingOptions",
    "augmentation_steps",
]

BadSamplePolicy = Literal["skip", "raise"]
CaptionChoice = Literal["sample", "first", "all"]

AUGMENTATION_STEPS = ("crop", "color", "flip")
DEFAULT_AUGMENT = "crop,color"
"""What leaves every caption true, in every language."""
FORM_OF_AUGMENT = f"some of {', '.join(AUGMENTATION_STEPS)} with commas between them, as in {DEFAULT_AUGMENT}, or none"
MAX_WEIGHT = 1_000.0
"""How often a picture may come in an epoch; beyond, it is more likely a mistake."""
WORKER_TIMEOUT_SECONDS = 300.0
"""Longer than any picture takes, and than a network disk needs to come back."""


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """Where captions are read from.

    Raises:
        ConfigError: a value is not accepted; the message names the setting, what was found and what is allowed.
    """

    format: Literal[
        "auto", "text", "kohya", "json", "jsonl", "csv", "imagefolder", "coco", "flickr8k", "webdataset", "parquet"
    ] = "auto"
    """How captions are stored. auto: found by looking, and told in one line."""
    manifest: Path | None = None
    """File of picture names and captions. Left out: found by looking, else caption files beside the pictures."""
    captions_per_file: Literal["one", "lines"] = "one"
    """What a caption file beside a picture holds: one caption, or a caption a line."""
    image_column: str | None = None
    """Column or key of the picture's name, where it has no usual name."""
    caption_column: str | None = None
    """Column or key of the caption, where it has no usual name."""

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class MixOptions(ReadingOptions):
    """Where captions are read from, and how often pictures come where not all come once."""

    weights: (
        Annotated[
            tuple[float, ...],
            Accepts(
                above=0,
                at_most=MAX_WEIGHT,
                form="numbers with commas between them, such as 2,0.5, each",
                advice="A folder that is not wanted is left out of DATA.",
            ),
        ]
        | None
    ) = None
    """How often a picture of each DATA folder comes in an epoch, as in 2,1 or 1,0.25. Left out: once."""
    repeats: Literal["ignore", "use"] = "ignore"
    """What the N of kohya folders N_name does: nothing, or its pictures come N times as often (use)."""


@dataclass(frozen=True, kw_only=True)
class DataOptions(MixOptions):
    """Where captions are read from and how pictures are handed to the model."""

    val_manifest: Path | None = None
    """File of the names and captions of the pictures to validate on."""
    batch_size: Annotated[int | Literal["auto"], Accepts(at_least=1)] = 32
    """Pictures a training step. auto: the largest number that fits into memory, found before the first step on the
    batch that would take most of it; at most 64 on a processor, and no more than leaves 32 steps an epoch or is 8."""
    num_workers: Annotated[int, Accepts(at_least=0)] | None = None
    """Threads that decode pictures (0: none but the main one). Left out: chosen by measuring, for half a second."""
    worker_timeout_seconds: Annotated[float, Accepts(at_least=0)] = WORKER_TIMEOUT_SECONDS
    """Stop, and name the pictures, where those threads have read none for so long: a disk that no longer answers. 0
    waits for ever."""
    cache: bool = False
    """Keep decoded pictures in a file in the folder PIXEL_LLM_CACHE (~/.cache/pixel-llm), where later epochs and runs
    find them. Without this they are kept in memory, up to 1 GiB for training and as much for validation."""
    augment: Annotated[str, Accepts(form=FORM_OF_AUGMENT)] = DEFAULT_AUGMENT
    """What is done to pictures in training, anew every epoch, against learning a small set by heart: one or more of
    crop (cut a little differently), color (light, contrast and saturation moved slightly, no hue), flip (every other
    picture mirrored, with left and right swapped in its captions, and never where that may be wrong; English only);
    or none."""
    validation_fraction: Annotated[float, Accepts(above=0, below=1)] = 0.1
    """Share of the pictures held back for validation where no validation data is given."""
    caption_choice: CaptionChoice = "all"
    """Which captions of a picture that has several: one drawn anew each epoch, the first, or all. With all, the model
    looks at the picture once and learns every caption."""
    on_bad_sample: BadSamplePolicy = "skip"
    """A picture that cannot be read is left out and listed in the run folder (skip), or ends the run (raise)."""
    max_bad_share: Annotated[float, Accepts(at_least=0, at_most=1)] = 0.01
    """Stop when more than this share of the pictures cannot be read. A single one never stops a run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        augmentation_steps(self.augment)


def augmentation_steps(augment: str) -> tuple[str, ...]:
    """The steps that words with commas between them name, such as "crop,color", in the order they are done; of "none"
    there are none.

    Raises:
        ConfigError: a word is no step, or "none" stands beside others.
    """
    named = [word.strip() for word in augment.split(",")]
    if named == ["none"]:
        return ()
    for word in named:
        if word not in AUGMENTATION_STEPS:
            raise ConfigError(
                f"augment must be {FORM_OF_AUGMENT}, not {augment!r}. {nearest_name_hint(word, AUGMENTATION_STEPS)}"
            )
    return tuple(step for step in AUGMENTATION_STEPS if step in named)
