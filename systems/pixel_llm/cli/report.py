"""`pixel-llm report RUN`: makes the page of a run again, as `train` and `demo` make it at their end."""

import logging
from dataclasses import fields
from shlex import quote
from typing import Any

import torch

from systems.pixel_llm.cli.device import chosen_device
from systems.pixel_llm.cli.options import LEARNING_RATES, ReportOptions, RunOptions
from systems.pixel_llm.data.options import DataOptions
from systems.pixel_llm.errors import PixelLLMError
from systems.pixel_llm.evaluation.report import write_report
from systems.pixel_llm.evaluation.run_files import RunFolder
from systems.pixel_llm.models.config import PRESETS, PixelLLMConfig
from systems.pixel_llm.training.options import TrainingOptions

__all__ = ["default_settings", "report_run", "run"]

logger = logging.getLogger(__name__)


def run(options: ReportOptions) -> int:
    """Run the command; the exit status is 0 where the page is written."""
    out = options.out or RunFolder(options.run).report
    try:
        write_report(options.run, out, device=chosen_device(options.device), defaults=default_settings)
    except OSError as error:
        raise PixelLLMError(f"{out} cannot be written: {error.strerror}. Name another file with --out.") from error
    print(f"report: {out}")
    return 0


def report_run(folder: RunFolder, *, device: torch.device) -> bool:
    """Write the page of a run that has just ended; whether it is there. No run is lost to its page."""
    again = f"To make it: pixel-llm report {quote(str(folder.path))}"
    try:
        write_report(folder.path, folder.report, device=device, defaults=default_settings)
    except KeyboardInterrupt:
        logger.warning("The report was stopped; the run is whole. %s", again)
    except (PixelLLMError, OSError) as error:
        logger.warning("There is no report: %s %s", error, again)
    else:
        return True
    return False


def default_settings(preset: str) -> dict[str, Any]:
    """Name -> value of all settings of a run of this preset in which nothing else is said."""
    settings: dict[str, Any] = {}
    model = PixelLLMConfig(**PRESETS[preset]) if preset in PRESETS else PixelLLMConfig()
    training = TrainingOptions(learning_rate=LEARNING_RATES[preset]) if preset in PRESETS else TrainingOptions()
    for part in (RunOptions(), DataOptions(), model, training):
        settings |= {each.name: getattr(part, each.name) for each in fields(part)}
    # Which preset it is, is no change; where it is written and what of is no setting.
    return {name: value for name, value in settings.items() if name not in ("preset", "out", "resume", "config")}
