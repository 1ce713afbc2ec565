"""The folder of a run, as the commands find it, make it, and write its options into it."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

from systems.pixel_llm.checkpoint_folder import list_checkpoints
from systems.pixel_llm.cli.options import TrainCommand
from systems.pixel_llm.cli.settings_file import write_settings
from systems.pixel_llm.errors import ConfigError, PixelLLMError
from systems.pixel_llm.evaluation.run_files import RunFolder

__all__ = ["make_run_folder", "new_run_folder", "recorded_data", "resumed_run_folder", "write_options"]

RUNS = Path("runs")


def new_run_folder(out: Path | None, *, name: str) -> RunFolder:
    """An unused folder: `out`, or runs/<name>, runs/<name>-2 and so on. It is made when something is written there.

    Raises:
        PixelLLMError: `out` is used already.
    """
    if out is None:
        stem = re.sub(r"[^\w.-]+", "_", name).strip("._") or "run"
        out, number = RUNS / stem, 1
        while not _is_unused(out):
            number += 1
            out = RUNS / f"{stem}-{number}"
    _check_no_file(out)
    if not _is_unused(out):
        raise PixelLLMError(
            f"--out {out} is used already. Add --resume to continue the run in it, or name another folder."
        )
    return RunFolder(out)


def resumed_run_folder(out: Path | None) -> tuple[RunFolder, bool]:
    """The run folder of `--resume`, and whether it holds a checkpoint to continue.

    Raises:
        ConfigError: `out` is missing.
        PixelLLMError: it is a folder of something else.
    """
    if out is None:
        raise ConfigError("--resume needs --out RUN, the folder of the run to continue.")
    _check_no_file(out)
    folder = RunFolder(out)
    if folder.checkpoints.is_dir():
        return folder, bool(list_checkpoints(folder.checkpoints))
    if not _is_unused(out) and not folder.options.is_file():
        raise PixelLLMError(f"--out {out} holds other files, and no run to resume. Name the folder of a run.")
    return folder, False


def make_run_folder(folder: RunFolder) -> None:
    """Make the folder, unless it is there.

    Raises:
        PixelLLMError: it cannot be made.
    """
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PixelLLMError(f"--out {folder.path} cannot be made: {error.strerror}. Name another folder.") from error


def recorded_data(folder: RunFolder) -> tuple[Path, ...] | None:
    """The data folders that the run was started on, as `options.toml` tells them."""
    try:
        data = tomllib.loads(folder.options.read_text(encoding="utf-8")).get("data")
    except (OSError, ValueError):
        return None  # no such file, or not one of ours: whoever reads the options themselves says so
    names = data if isinstance(data, list) else [data]
    return tuple(map(Path, names)) if names and all(isinstance(name, str) for name in names) else None


def write_options(folder: RunFolder, command: TrainCommand) -> None:
    """Write the options of a run as they were resolved, so that `--resume` and `--config` can read them."""
    parts = (command.run, command.dataset, command.model, command.training)
    folders = tuple(_resolved(folder) for folder in command.data)
    settings: dict[str, Any] = {"data": folders if len(folders) > 1 else folders[0]}
    defaults: dict[str, Any] = {}
    for part in parts:
        for each in fields(part):
            settings[each.name] = getattr(part, each.name)
            defaults[each.name] = each.default
    settings = {name: _resolved(value) if isinstance(value, Path) else value for name, value in settings.items()}
    write_settings(folder.options, settings, defaults=defaults)


def _resolved(path: Path) -> Path:
    """A relative path would mean another file to whoever reads it from another folder. One that is not there is
    relative to DATA, as a manifest may be.
    """
    return path.resolve() if path.exists() else path


def _is_unused(path: Path) -> bool:
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def _check_no_file(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise PixelLLMError(f"--out {out} is a file. Name a folder for the run.")
