"""What a run has come to, and in what two of them differ: everything but the time they took.

The newest checkpoint must hold the same bytes of weights, averages and optimizer, the same state (history, counters,
position), the same best metric under the same name; the log of measurements must read the same.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from systems.pixel_llm.checkpoint_folder import (
    AVERAGE_FILE,
    MODEL_FILE,
    OPTIMIZER_FILE,
    TRAINING_STATE_FILE,
    list_checkpoints,
)
from systems.pixel_llm.checkpoint_ranking import best_record, latest_record
from systems.pixel_llm.training.metrics_log import read_metrics

TIMES = ("elapsed_seconds", "pause_seconds", "total_pause_seconds")
"""Of the state: what two runs may differ in."""
MEASURED = ("kind", "step", "epoch", "loss", "learning_rate", "train_loss", "val_loss", "reason")
"""Of the log: what they may not."""


@dataclass(frozen=True)
class Outcome:
    """Where a run ended."""

    name: str
    """Of the newest checkpoint."""
    weights: bytes
    average: bytes
    optimizer: bytes
    optimizer_settings: Any
    num_averaged: int
    """Steps in the average."""
    history: dict[str, list[float]]
    state: dict[str, Any]
    """All else that the checkpoint knows of the run, but the times."""
    best: tuple[str, float]
    """The name of the best checkpoint, and its metric."""
    best_weights: bytes
    log: list[dict[str, Any]]

    @property
    def end_reason(self) -> str:
        """Why it ended."""
        return str(self.log[-1]["reason"])


def read_outcome(folder: Path) -> Outcome:
    """What stands in the folder of a run that is over."""
    records = list_checkpoints(folder / "checkpoints")
    latest, best = latest_record(records), best_record(records)
    assert latest is not None, f"{folder} has no checkpoint"
    assert best is not None, f"{folder} has no checkpoint with a metric"
    assert best.metric is not None
    saved = json.loads((latest.path / TRAINING_STATE_FILE).read_text(encoding="utf-8"))
    training_state = saved["training_state"]
    state = {name: value for name, value in training_state.pop("state").items() if name not in TIMES}
    return Outcome(
        name=latest.name,
        weights=(latest.path / MODEL_FILE).read_bytes(),
        average=(latest.path / AVERAGE_FILE).read_bytes(),
        optimizer=(latest.path / OPTIMIZER_FILE).read_bytes(),
        optimizer_settings=saved["optimizer"],
        num_averaged=training_state["num_averaged"],
        history=state.pop("history"),
        state=state | training_state,
        best=(best.name, best.metric),
        best_weights=(best.path / MODEL_FILE).read_bytes(),
        log=[
            {name: record[name] for name in MEASURED if name in record}
            for record in read_metrics(folder / "metrics.jsonl")
            if record["kind"] != "start"
        ],
    )


def differences(left: Outcome, right: Outcome) -> list[str]:
    """The names of what is not the same."""
    return [each.name for each in fields(Outcome) if getattr(left, each.name) != getattr(right, each.name)]
