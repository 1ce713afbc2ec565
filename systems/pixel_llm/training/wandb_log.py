"""A run for Weights & Biases: figures, settings, and the panel's pictures with their captions.

Written by the package wandb (the extra `wandb`), which sends it to the user's account, or keeps it on the disk with
WANDB_MODE=offline; its environment variables (WANDB_PROJECT, WANDB_NAME, WANDB_ENTITY, ...) are respected. A run that
resumes goes on as the same one there: its id is kept in the run folder. What was told of later steps stays there, since
nothing can be taken back; curves are drawn over `step`.
"""

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.training.panel import PanelCaption

__all__ = ["WandbLog"]

DEFAULT_PROJECT = "pixel-llm"
FOLDER, ID_FILE = "wandb", "run_id.txt"


class WandbLog:
    """Tells one run, whose files wandb keeps in `wandb/` of `folder`; `OutsideLog` tells what the methods are for.

    Raises:
        ConfigError: wandb is not installed.
    """

    name = "W&B"

    def __init__(self, folder: Path, *, settings: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ConfigError(
                f"log_to='wandb' needs the package wandb, which cannot be imported ({error}). Run: pip install "
                "'pixel-llm[wandb]', or leave log_to out."
            ) from error
        self._wandb: Any = wandb
        self._folder, self._settings = folder, dict(settings)
        self._run: Any = None

    def begin(self, *, step: int) -> None:
        """A new run at step 0, else the one that was."""
        # Made before wandb looks for it: where there is none it falls back to a folder for temporary files.
        (self._folder / FOLDER).mkdir(parents=True, exist_ok=True)
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", DEFAULT_PROJECT),
            name=os.environ.get("WANDB_NAME", self._folder.resolve().name),
            id=self._run_id(is_new=step == 0),
            resume="allow",
            dir=str(self._folder),
            config=self._settings,
            allow_val_change=True,  # a resumed run may have other settings
            reinit="create_new",  # the user's own program may have a run of its own
            settings=self._wandb.Settings(console="off"),  # a progress bar is no text
        )
        self._run.define_metric("*", step_metric="step")

    def add_figures(self, figures: Mapping[str, float], *, step: int) -> None:
        """All at once, over `step`."""
        self._run.log({**figures, "step": step})

    def add_captions(self, captions: Sequence[PanelCaption], *, step: int) -> None:
        """The pictures, each with what was said of it below."""
        pictures = [self._wandb.Image(each.pixels, caption=each.caption) for each in captions]
        self._run.log({"panel": pictures, "step": step})

    def end(self, *, is_complete: bool) -> None:
        """Send what is left."""
        self._run.finish(exit_code=0 if is_complete else 1)

    def _run_id(self, *, is_new: bool) -> str:
        path = self._folder / FOLDER / ID_FILE
        if not is_new and path.is_file():
            return path.read_text(encoding="ascii").strip()
        run_id = secrets.token_hex(4)
        path.write_text(run_id + "\n", encoding="ascii")
        return run_id
