"""The options of `pixel-llm caption`; `tyro` makes the flags. No torch is loaded by this module."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.models.generation_options import GenerationOptions
from systems.pixel_llm.settings import Accepts, Count, check_settings

__all__ = ["CaptionForm", "CaptionOptions", "default_generation"]

CaptionForm = Literal["lines", "txt", "jsonl", "csv", "manifest"]


DEFAULT_NUM_BEAMS = 3


def default_generation(arguments: Sequence[str]) -> GenerationOptions:
    """What is not said on a command line: a search with a few beams, unless captions are drawn."""
    is_drawn = any(word.replace("_", "-") == "--do-sample" for word in arguments)
    return GenerationOptions(num_beams=1 if is_drawn else DEFAULT_NUM_BEAMS)


@dataclass(frozen=True, kw_only=True)
class CaptionOptions:
    """Caption pictures: each once, and the same command again goes on where it was stopped.

    Prints a line a picture, its path, a tab, the caption; or writes what --as says to --output. Pictures that cannot be
    read are listed at the end, and the exit status is then 1. Captions are searched for with 3
    beams, which gives better ones; on a processor, --num-beams 1 is four to five times as fast.
    """

    run: Annotated[Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder (its best checkpoint is taken, else the newest), or one checkpoint."""
    pictures: Annotated[
        Positional[tuple[Path, ...]], tyro.conf.arg(metavar="PICTURE...", help_behavior_hint="(at least one)")
    ]
    """Picture files; folders, for all pictures below them; patterns in quotes, such as 'photos/**/*.jpg'; - for a list
    on stdin, a path a line."""
    form: Annotated[CaptionForm, tyro.conf.arg(name="as")] = "lines"
    """lines: path, tab, caption. txt: cat.txt beside cat.jpg, never over a file that is there. jsonl: {"image",
    "caption", "log_probability"} a line. csv: a table of the same. manifest: one JSON object that train reads, names
    relative to its folder."""
    output: Path | None = None
    """File to write to. Pictures that it has already are not captioned again. Left out: stdout (not for manifest; txt
    needs none)."""
    overwrite: bool = False
    """Start over: replace what --output, or the .txt files, hold."""
    null: Annotated[bool, tyro.conf.arg(aliases=("-0",))] = False
    """The list on stdin has a NUL after each path, as find -print0 writes it."""
    watch: bool = False
    """When all is done, wait for new pictures in the folders, until Ctrl-C (exit status 130, as always). A file that is
    still being copied is left until it rests."""
    watch_seconds: Annotated[float, Accepts(above=0, below=1e6)] = 2.0
    """Seconds between two looks at the folders."""
    progress: Literal["auto", "bar", "off"] = "auto"
    """A bar on stderr; auto: where that is a terminal and captions do not go to one, else a line a minute."""
    device: str | None = None
    """cpu, cuda, cuda:1, ... Left out: a GPU where there is one."""
    batch_size: Count = 16
    """Pictures captioned at once, and at most lost by a kill."""
    num_workers: Count | None = None
    """Pictures decoded side by side. Left out: as many as processor cores."""
    seed: int = 0
    """With --do-sample: all that is drawn follows from this number."""
    generation: GenerationOptions = field(default_factory=lambda: default_generation(()))

    def __post_init__(self) -> None:
        check_settings(self, passed_over=["run", "pictures"])
        if not self.pictures:
            raise ConfigError("name at least one picture or folder of pictures.")
        if self.form == "txt" and self.output is not None:
            raise ConfigError(
                "--as txt writes a .txt file beside each picture and takes no --output. Leave --output out, or choose "
                "--as jsonl, csv or manifest."
            )
        if self.form == "manifest" and self.output is None:
            raise ConfigError("--as manifest writes a file: name it, such as --output photos/manifest.json.")
