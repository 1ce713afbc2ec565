"""The options of `pixel-llm evaluate`. No torch is loaded by this module."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from systems.pixel_llm.cli.caption_options import DEFAULT_NUM_BEAMS
from systems.pixel_llm.data.options import ReadingOptions
from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.models.generation_options import GenerationOptions
from systems.pixel_llm.settings import Accepts, Count, check_settings

__all__ = ["EvaluateOptions"]


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Score a trained model on captioned pictures: BLEU, ROUGE-L, CIDEr-D, with intervals and lines to compare with.

    Beside the model stand two baselines, the best single caption for all pictures and the caption of the training
    picture that looks most alike, and, where pictures have several references, how people score against each other.
    """

    run: Annotated[Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder (its best checkpoint is taken, else the newest), or one checkpoint."""
    data: Annotated[
        Positional[tuple[Path, ...]], tyro.conf.arg(metavar="[DATA...]", help_behavior_hint="(default: the run's own)")
    ] = ()
    """Folder of captioned pictures, or several. Left out: the data that the run was trained on."""
    out: Path | None = None
    """Folder for captions.jsonl and scores.json. Left out: RUN/evaluation/<name of the data>."""
    overwrite: bool = False
    """Replace the evaluation that is in the folder."""
    split: Literal["auto", "all", "train", "val", "test"] = "auto"
    """Which of the pictures: those in the lists or shards of that name, else what train would hold back or keep. auto:
    val of the run's own data, all of others."""
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    generation: GenerationOptions = field(default_factory=lambda: GenerationOptions(num_beams=DEFAULT_NUM_BEAMS))
    num_pictures: Count | None = None
    """Score so many, evenly spaced. Left out: all."""
    train_data: Path | None = None
    """Folder of the training pictures, for the baselines. Left out: where the run had them."""
    document_frequencies: Path | None = None
    """File that says how rare words are, for CIDEr-D. Left out: counted over the references."""
    write_document_frequencies: Path | None = None
    """Count how rare words are in the references of these pictures, and write that file."""
    clip: Path | None = None
    """Folder of a CLIP model on this machine, for CLIPScore. Left out: CLIPScore is not computed."""
    compare: Path | None = None
    """Another run, or the folder of an earlier evaluation of the same pictures: is one of the two better?"""
    batch_size: Count = 32
    """Pictures captioned at once."""
    num_workers: Annotated[int, Accepts(at_least=0)] | None = None
    """Threads that decode pictures. Left out: chosen by measuring."""
    device: str | None = None
    """cpu, cuda, cuda:1, ... Left out: a GPU where there is one."""

    def __post_init__(self) -> None:
        check_settings(self, passed_over=["run", "data"])
        if self.generation.num_return_sequences > 1:
            raise ConfigError(
                f"num_return_sequences={self.generation.num_return_sequences} asks for several captions a picture, and "
                "one is scored. Leave it out; pixel-llm caption shows several."
            )
