"""The options of each command, as dataclasses that `tyro` turns into flags, and where their defaults come from.

For `train`, later wins: the preset, the `options.toml` of a run that is resumed, the file named by `--config`, the
flags. The settings of data, model and training are written in their own packages; here are those of the run itself.
No torch is loaded by this module.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional

from systems.pixel_llm.cli.caption_options import CaptionOptions, default_generation
from systems.pixel_llm.cli.checkpoints_options import CheckpointsOptions
from systems.pixel_llm.cli.evaluate_options import EvaluateOptions
from systems.pixel_llm.cli.flags import parsed
from systems.pixel_llm.cli.report_options import ReportOptions
from systems.pixel_llm.cli.settings_file import read_settings
from systems.pixel_llm.cli.word_order import folders_first
from systems.pixel_llm.data.options import DataOptions, MixOptions, ReadingOptions
from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.evaluation.run_files import OPTIONS_FILE
from systems.pixel_llm.models.config import PRESETS, PixelLLMConfig
from systems.pixel_llm.settings import Accepts, Count, Share, check_settings
from systems.pixel_llm.training.options import TrainingOptions

__all__ = [
    "DEFAULT_EPOCHS",
    "CaptionOptions",
    "CheckpointsOptions",
    "DemoOptions",
    "EvaluateOptions",
    "ExportOptions",
    "InspectOptions",
    "ReportOptions",
    "RunOptions",
    "SplitOptions",
    "TrainCommand",
    "parse_caption",
    "parse_checkpoints",
    "parse_demo",
    "parse_evaluate",
    "parse_export",
    "parse_inspect",
    "parse_report",
    "parse_split",
    "parse_train",
]

DataFolders = Annotated[
    Positional[tuple[Path, ...]], tyro.conf.arg(metavar="DATA...", help_behavior_hint="(at least one)")
]

DEFAULT_EPOCHS = 30
# A small model bears, and needs, a higher rate.
LEARNING_RATES = {"tiny": 1e-3, "small": 5e-4, "base": 3e-4}


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What is run, where it is written, how long it goes on."""

    out: Path | None = None
    """Run folder, for checkpoints, logs and pictures. Left out: runs/<name of the data>, numbered when taken."""
    resume: bool = False
    """Continue the run in --out at its newest good checkpoint; begin where there is none yet."""
    preset: Literal["tiny", "small", "base"] = "tiny"
    """Model of about 3M, 20M or 90M parameters; the options below change single settings of it. Left out: tiny on a
    processor, small on a GPU."""
    config: Path | None = None
    """TOML file of options, such as the options.toml of another run. Flags win over it."""
    init_from: Path | None = None
    """Run or checkpoint whose weights and tokenizer to start from; the model's settings are then those it has. Or a
    file of weights alone, such as model.safetensors from elsewhere: the settings below must be those that it was made
    with, and the vocabulary is learned anew."""
    val: Path | None = None
    """Folder of captioned pictures for validation. Left out: a part of DATA is held back."""
    epochs: Count | None = None
    """Passes over the data, in total. Without this, --max-steps and --max-minutes: 30."""
    device: str | None = None
    """cpu, cuda, cuda:1, ... Left out: a GPU where there is one."""
    checkpoint_interval: Count = 1
    """Save after every so many epochs. (A run bounded by steps or minutes saves about ten times.)"""
    log_interval: Count = 50
    """Report after every so many steps."""

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class TrainCommand:
    """Learn to caption pictures from a folder of captioned pictures, or from several together.

    DATA holds pictures, and captions in one of the usual formats, which may be another in each folder. The run folder
    gets the checkpoints, the log of measurements and a contact sheet of validation pictures.
    """

    data: DataFolders
    """Folder of captioned pictures, or several."""
    run: RunOptions = field(default_factory=RunOptions)
    dataset: DataOptions = field(default_factory=DataOptions)
    model: PixelLLMConfig = field(default_factory=lambda: PixelLLMConfig(**PRESETS["tiny"]))
    training: TrainingOptions = field(default_factory=TrainingOptions)

    def __post_init__(self) -> None:
        _check_named(self.data)


@dataclass(frozen=True, kw_only=True)
class InspectOptions:
    """Look at folders of captioned pictures before training: what is in them, what is wrong with it, what to do.

    Prints a summary. The exit status is 1 where training should not start.
    """

    data: DataFolders
    """Folder of captioned pictures, or several."""
    reading: MixOptions = field(default_factory=MixOptions)
    val: Path | None = None
    """Folder of captioned pictures for validation. Left out: the part of DATA that train would hold back."""
    val_manifest: Path | None = None
    """File of the names and captions of the pictures to validate on."""
    max_seq_len: Count = 128
    """Most tokens of a caption that the model will take: longer ones are counted as cut. As for train."""
    image_size: Count = 224
    """Side in pixels of the pictures that the model will see: smaller pictures are counted. The presets of train have
    64 (tiny), 128 (small) and 224 (base)."""
    html: Path | None = None
    """Write a page with pictures and histograms: one file that can be sent around."""
    json: Path | None = None
    """Write all findings for other programs."""
    num_workers: Count | None = None
    """Pictures looked at side by side. Left out: as many as processor cores."""

    def __post_init__(self) -> None:
        _check_named(self.data)
        check_settings(self, passed_over=["data"])


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """Divide a folder of captioned pictures for training, validation and test, once and for all.

    Copies of a picture, and pictures that look the same, are kept on one side. Writes train.json, val.json and
    test.json, which train takes with --manifest and --val-manifest.
    """

    data: Annotated[Positional[Path], tyro.conf.arg(metavar="DATA")]
    """Folder of captioned pictures."""
    out: Path
    """Folder to write the files to."""
    val: Share = 0.1
    """Share of the pictures for validation."""
    test: Share = 0.1
    """Share of the pictures for a test at the very end."""
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    seed: int = 0
    """Another one makes another split."""
    num_workers: Count | None = None
    """Pictures looked at side by side. Left out: as many as processor cores."""

    def __post_init__(self) -> None:
        check_settings(self, passed_over=["data", "out"])
        if self.val + self.test >= 1:
            raise ConfigError(
                f"val={self.val} and test={self.test} must together be less than 1: the rest is for training."
            )


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Write a trained model as a plain folder to keep or give away, with a model card that tells what it is.

    The folder holds what captioning needs: no optimizer, no state of training. It is loaded again and compared before
    it is there.
    """

    run: Annotated[Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder (its best checkpoint is taken, else the newest), or one checkpoint."""
    out: Annotated[Positional[Path], tyro.conf.arg(metavar="OUT")]
    """Folder to write. Its name is that of the model."""
    checkpoint: str | None = None
    """Name of another checkpoint of RUN to take, such as step_830."""
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    """How the weights are stored. bf16 and fp16 halve the size and round; captioning computes in fp32 all the same."""
    overwrite: bool = False
    """Replace OUT, its model card (README.md) too, if it holds an exported model and nothing else."""
    license: str | None = None
    """Licence for the model card, as model hubs name it: apache-2.0, cc-by-4.0, other. Left out: the card says that
    none is given."""
    language: str | None = None
    """Language of the captions for the model card, such as en."""


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Learn to caption drawn shapes and say how well it went on shapes never seen."""

    out: Path | None = None
    """Run folder. Left out: runs/demo, numbered when taken."""
    max_minutes: Annotated[float, Accepts(above=0)] = 3.0
    """Minutes of training."""
    num_pictures: Count = 500
    """Pictures scored of each kind."""
    device: str | None = None
    """cpu, cuda, cuda:1, ... Left out: a GPU where there is one."""
    seed: Annotated[int, Accepts(at_least=0)] = 0
    """All that is random follows from this number."""

    def __post_init__(self) -> None:
        check_settings(self)


def _check_named(data: tuple[Path, ...]) -> None:
    if not data:  # before the command line is read, it is tyro.MISSING
        raise ConfigError("name at least one folder of captioned pictures, DATA.")


def parse_train(arguments: Sequence[str]) -> TrainCommand:
    """The command line of `train`; ends the process, status 2, where it is wrong, and after printing `--help`.

    Raises:
        ConfigError: a settings file holds an unknown name or a wrong value.
    """
    early = _early_options(arguments)
    layers: list[tuple[Path, dict[str, Any]]] = []
    if early.resume and early.out is not None and (early.out / OPTIONS_FILE).is_file():
        layers.append((early.out / OPTIONS_FILE, read_settings(early.out / OPTIONS_FILE)))
    if early.config is not None:
        layers.append((early.config, read_settings(early.config)))
    preset = early.preset
    for path, settings in layers:
        if early.preset is None:
            preset = settings.get("preset", preset)
        else:
            _check_preset(early.preset, settings, path)
    if preset not in PRESETS:
        # Looking for a GPU loads torch: help, and the answer to a misspelt flag, need not wait for it.
        is_told_at_once = early.is_help or _has_unknown_flag(arguments)
        preset = "small" if not is_told_at_once and _has_gpu(early.device) else "tiny"
    command = TrainCommand(
        data=tyro.MISSING,
        run=RunOptions(preset=preset),  # type: ignore[arg-type]  # checked above
        model=PixelLLMConfig(**PRESETS[preset]),
        training=TrainingOptions(learning_rate=LEARNING_RATES[preset]),
    )
    for path, settings in layers:
        command = _with_settings(command, settings, path)
    return _parsed(
        TrainCommand,
        # Beside --help nothing else is looked at: with DATA given too, tyro would leave it out of the usage line.
        ["--help"] if early.is_help else folders_first(arguments, TrainCommand),
        default=command,
        config=(OmitArgPrefixes,),  # a switch that a resumed run has on may be given again, or turned off
    )


def parse_caption(arguments: Sequence[str]) -> CaptionOptions:
    """The command line of `caption`; ends the process, status 2, where it is wrong, and after printing `--help`."""
    return _parsed(
        CaptionOptions,
        folders_first(arguments, CaptionOptions),
        default=CaptionOptions(run=tyro.MISSING, pictures=tyro.MISSING, generation=default_generation(arguments)),
        config=(OmitArgPrefixes, FlagCreatePairsOff),
    )


def parse_evaluate(arguments: Sequence[str]) -> EvaluateOptions:
    """The command line of `evaluate`; ends the process, status 2, where it is wrong, and after printing `--help`."""
    return _parsed(
        EvaluateOptions,
        folders_first(arguments, EvaluateOptions),
        default=EvaluateOptions(run=tyro.MISSING, generation=default_generation(arguments)),
        config=(OmitArgPrefixes, FlagCreatePairsOff),
    )


def parse_inspect(arguments: Sequence[str]) -> InspectOptions:
    """The command line of `inspect`; ends the process, status 2, where it is wrong, and after printing `--help`."""
    return _parsed(InspectOptions, folders_first(arguments, InspectOptions), config=(OmitArgPrefixes,))


def parse_split(arguments: Sequence[str]) -> SplitOptions:
    """The command line of `split`; ends the process, status 2, where it is wrong, and after printing `--help`."""
    return _parsed(SplitOptions, arguments, config=(OmitArgPrefixes,))


def parse_report(arguments: Sequence[str]) -> ReportOptions:
    """The command line of `report`; ends the process, status 2, where it is wrong, and after printing `--help`."""
    return _parsed(ReportOptions, arguments)


def parse_checkpoints(arguments: Sequence[str]) -> CheckpointsOptions:
    """The command line of `checkpoints`; ends the process, status 2, where it is wrong, and after printing `--help`."""
    return _parsed(CheckpointsOptions, arguments, config=(FlagCreatePairsOff,))


def parse_export(arguments: Sequence[str]) -> ExportOptions:
    """The command line of `export`; ends the process, status 2, where it is wrong, and after printing `--help`."""
    return _parsed(ExportOptions, arguments, config=(FlagCreatePairsOff,))


def parse_demo(arguments: Sequence[str]) -> DemoOptions:
    """The command line of `demo`; ends the process, status 2, where it is wrong, and after printing `--help`."""
    return _parsed(DemoOptions, arguments)


Options = TypeVar("Options")
PROGRAMS: dict[type, str] = {
    TrainCommand: "pixel-llm train",
    CaptionOptions: "pixel-llm caption",
    EvaluateOptions: "pixel-llm evaluate",
    InspectOptions: "pixel-llm inspect",
    SplitOptions: "pixel-llm split",
    ReportOptions: "pixel-llm report",
    CheckpointsOptions: "pixel-llm checkpoints",
    ExportOptions: "pixel-llm export",
    DemoOptions: "pixel-llm demo",
}


def _parsed(options: type[Options], arguments: Sequence[str], **details: Any) -> Options:
    return parsed(options, arguments, prog=PROGRAMS[options], **details)


@dataclass(frozen=True, kw_only=True)
class _EarlyOptions:
    """Those options of `train` that decide the defaults of the others."""

    preset: str | None
    config: Path | None
    out: Path | None
    resume: bool
    device: str | None
    is_help: bool


def _early_options(arguments: Sequence[str]) -> _EarlyOptions:
    """Look for the early options and pass over all else; what is wrong is told by the full parse that follows."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--preset")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--device")
    parser.add_argument("-h", "--help", action="store_true", dest="is_help")
    try:
        found, _ = parser.parse_known_args(arguments)
    except argparse.ArgumentError:
        found, _ = parser.parse_known_args([])
    return _EarlyOptions(**vars(found))


def _check_preset(preset: str, settings: dict[str, Any], path: Path) -> None:
    """A file that spells a model out leaves nothing for another preset to decide: say so rather than ignore it."""
    model_settings = sorted(settings.keys() & {each.name for each in fields(PixelLLMConfig)})
    if settings.get("preset", preset) != preset and model_settings:
        raise ConfigError(
            f"--preset {preset} clashes with {path}, which has preset = {settings['preset']!r} and settings of that "
            f"model ({', '.join(model_settings[:3])}...). Leave --preset out, or take those lines out of the file."
        )


def _has_unknown_flag(arguments: Sequence[str]) -> bool:
    known = {each.name for part in (RunOptions, DataOptions, PixelLLMConfig, TrainingOptions) for each in fields(part)}
    flags = (word.partition("=")[0][2:] for word in arguments if word.startswith("--") and word != "--")
    return any(flag.replace("-", "_") not in known for flag in flags)


def _has_gpu(device: str | None) -> bool:
    if device is not None:
        return device.startswith("cuda")
    import torch

    return torch.cuda.is_available()


def _with_settings(command: TrainCommand, settings: dict[str, Any], path: Path) -> TrainCommand:
    """`command` with the settings of a file, each put into the part that has a field of its name."""
    parts: dict[str, Any] = {}
    try:
        for part in ("run", "dataset", "model", "training"):
            options = getattr(command, part)
            names = {each.name for each in fields(options)}
            parts[part] = replace(options, **{name: value for name, value in settings.items() if name in names})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return replace(command, **parts)
