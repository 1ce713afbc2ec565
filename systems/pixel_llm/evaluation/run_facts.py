"""What is known of an exported checkpoint from the files of its run: the facts that the model card tells.

Each file is optional: a checkpoint of a program that used the Trainer has no run folder around it, and a run need not
have been evaluated. What is not there is None, and the card says so; a file that is there and damaged is an error.
Paths are cut to names, so that a card tells nothing of the machine. No torch is loaded by this module.
"""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from systems.pixel_llm.checkpoint_folder import TRAINING_STATE_FILE
from systems.pixel_llm.errors import CheckpointError, DatasetError
from systems.pixel_llm.evaluation.card_scores import CardScores, Example, read_examples, read_scores
from systems.pixel_llm.evaluation.data_record import DataRecord, read_data_record
from systems.pixel_llm.evaluation.run_files import OPTIONS_FILE

__all__ = ["Progress", "RunFacts", "read_run_facts"]

SETTINGS = (
    "preset", "learning_rate", "learning_rates", "freeze", "weight_decay", "schedule", "warmup_fraction",
    "warmup_steps", "decay_fraction", "min_learning_rate_fraction", "label_smoothing", "gradient_accumulation_steps",
    "max_grad_norm", "ema_decay", "batch_size", "weights", "repeats", "augment", "caption_choice",
    "validation_fraction", "precision", "seed", "deterministic", "epochs", "max_steps", "max_minutes",
)  # fmt: skip
"""Those of training that a card shows: none of them is a path. The model's own are in its config."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far training had come when the checkpoint was saved."""

    epoch: int
    """Completed epochs."""
    step: int
    minutes: float
    validation_loss: float | None
    """The last one measured, in nats a token; None where there were no pictures to validate on."""


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """All of it."""

    checkpoint: str
    """The checkpoint's name."""
    progress: Progress | None
    data: DataRecord | None
    settings: dict[str, Any] | None
    """Name -> value, those of SETTINGS that `options.toml` has."""
    started_from: str | None
    """The name of the run or model whose weights training began with."""
    scores: tuple[CardScores, ...]
    """Of this checkpoint, an element for each data that it was evaluated on."""
    scores_are_of: str | None
    """Where there are none of this checkpoint, but of another: its name."""
    examples: tuple[Example, ...]


def read_run_facts(checkpoint: Path) -> RunFacts:
    """Read what lies in the folder of the checkpoint and, if that is in the `checkpoints` of a run, in the run's.

    Raises:
        CheckpointError: `training_state.json` is damaged.
        DatasetError: `options.toml`, `data.json` or a file of the evaluation is damaged.
    """
    run = checkpoint.resolve().parent.parent if checkpoint.resolve().parent.name == "checkpoints" else None
    progress = _read_progress(checkpoint)
    options = None if run is None else _read_options(run / OPTIONS_FILE)
    found = () if run is None else read_scores(run)
    scores = tuple(each for each in found if Path(each.checkpoint).name == checkpoint.name)
    step = None if progress is None else progress.step
    return RunFacts(
        checkpoint=checkpoint.name,
        progress=progress,
        data=None if run is None else read_data_record(run),
        settings=None if options is None else {name: options[name] for name in SETTINGS if name in options},
        started_from=None if options is None or "init_from" not in options else Path(options["init_from"]).name,
        scores=scores,
        scores_are_of=Path(found[0].checkpoint).name if found and not scores else None,
        examples=() if run is None else read_examples(run, next(iter(scores), None), step=step),
    )


def _read_progress(checkpoint: Path) -> Progress | None:
    """None where the folder is a plain model, or its state was saved by another loop than the Trainer."""
    path = checkpoint / TRAINING_STATE_FILE
    try:
        state = json.loads(path.read_text(encoding="utf-8"))["training_state"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not readable ({error}). Choose another checkpoint.") from error
    match state:
        case {
            "state": {
                "epoch": int(epoch),
                "step": int(step),
                "elapsed_seconds": float() | int() as seconds,
                "history": {"val_losses": list(losses)},
            }
        }:
            last = losses[-1] if losses else None
            return Progress(
                epoch=epoch,
                step=step,
                minutes=seconds / 60,
                validation_loss=float(last) if isinstance(last, int | float) else None,
            )
    return None


def _read_options(path: Path) -> dict[str, Any] | None:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{path}: not a readable TOML file ({error}). Mend it, or move it out of the run."
        ) from error
