"""The saves that are walked: what is in the checkpoint folder before, and the one save that follows.

The model is one row of numbers, all of them the number of the save's epoch, and so are its averaged weights: what is
loaded later tells by itself which save it came from, and whether it is of one piece. (No optimizer: one loads so much
of torch that each fork takes ten times as long.)
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from systems.pixel_llm import whole_folder
from systems.pixel_llm.checkpoint_folder import scan_checkpoints
from systems.pixel_llm.checkpoint_lineage import Lineage
from systems.pixel_llm.training.checkpoint import CheckpointManager

__all__ = [
    "NEW_EPOCH",
    "SCENARIOS",
    "Scenario",
    "careless_scenario",
    "contents",
    "manager_of",
    "names_in",
    "save_numbers",
]

NEW_EPOCH = 9
"""Of the save that is walked."""

_WIDTH = 3_000


@dataclass(frozen=True)
class Scenario:
    """One save, and what was there before."""

    name: str
    prepare: Callable[[Path], None]
    """Fills the checkpoint folder, which is missing."""
    save: Callable[[Path], None]


def _model(epoch: int, width: int) -> nn.Module:
    model = nn.Linear(width, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(epoch)
    return model


def manager_of(folder: Path) -> CheckpointManager:
    """The one that all scenarios use: it keeps the best one and the newest two, of one run whatever the process."""
    manager = CheckpointManager(folder, max_checkpoints=1)
    manager._lineage = Lineage(run="walked")
    return manager


def save_numbers(folder: Path, name: str, epoch: int, metric: float | None = None, *, width: int = _WIDTH) -> None:
    """Save the model of `epoch`, a row of so many numbers, as `name`."""
    model = _model(epoch, width)
    manager_of(folder).save(
        name, model, None, epoch, metric, training_state={"epoch": epoch}, average=dict(model.named_parameters())
    )


def contents(folder: Path, *, width: int = _WIDTH) -> dict[str, int]:
    """Of all checkpoints, the name and the epoch, after each was loaded and compared.

    Raises:
        CheckpointError: one cannot be loaded.
        ValueError: one is damaged, or made of pieces of several saves.
    """
    scan = scan_checkpoints(folder)
    if scan.damaged:
        raise ValueError(f"damaged: {scan.damaged}")
    found = {}
    for record in scan.records:
        model = _model(-1, width)
        info = manager_of(folder).load(record.name, model)
        numbers = {*model.weight.tolist()[0], *info["average"]["weight"].tolist()[0]}
        if {*numbers, info["epoch"], info["training_state"]["epoch"]} != {record.epoch}:
            raise ValueError(f"{record.name} of epoch {record.epoch} holds {numbers}, {info}")
        found[record.name] = record.epoch
    return found


def names_in(folder: Path) -> list[str]:
    """What is in a folder, hidden or not."""
    return sorted(path.name for path in folder.iterdir())


def _prepare_nothing(folder: Path) -> None:
    del folder


def _prepare_two(folder: Path) -> None:
    save_numbers(folder, "first", 1, metric=1.0)
    save_numbers(folder, "second", 2, metric=2.0)


def _prepare_three(folder: Path) -> None:
    _prepare_two(folder)
    save_numbers(folder, "third", 3, metric=0.5)


def _prepare_after_deaths(folder: Path) -> None:
    """Writers have died: while they wrote, while they removed, and between the two renames of a replacement."""
    _prepare_three(folder)
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    for kind in ("tmp", "trash"):
        left = folder / f".{kind}-half-{whole_folder._HOST}-{int(dead.stdout)}-01234567-0"
        left.mkdir()
        (left / "model.safetensors").write_bytes(b"half")
    (folder / "third").rename(folder / ".old-third")
    second = (folder / "second").rename(folder / "moved")
    save_numbers(folder, "second", 20, metric=2.0)
    second.rename(folder / ".old-second")


SCENARIOS = (
    Scenario("the first save", _prepare_nothing, lambda folder: save_numbers(folder, "new", NEW_EPOCH, metric=1.5)),
    Scenario("a further save", _prepare_two, lambda folder: save_numbers(folder, "new", NEW_EPOCH, metric=1.5)),
    Scenario(
        "a save that prunes others", _prepare_three, lambda folder: save_numbers(folder, "new", NEW_EPOCH, metric=0.1)
    ),
    Scenario(
        "a save that replaces one", _prepare_two, lambda folder: save_numbers(folder, "second", NEW_EPOCH, metric=0.1)
    ),
    Scenario(
        "a save after others have died",
        _prepare_after_deaths,
        lambda folder: save_numbers(folder, "new", NEW_EPOCH, metric=9),
    ),
)


def careless_scenario() -> Scenario:
    """A save that removes the old one first, as many do: a walk must find that it loses it."""

    def save(folder: Path) -> None:
        shutil.rmtree(folder / "second", ignore_errors=True)
        save_numbers(folder, "second", NEW_EPOCH, metric=0.1)

    return Scenario("a careless save", _prepare_two, save)
