"""What a directory of checkpoints must hold, said a second time and plainly, to run beside the real one.

`Twins` does each thing to a real directory and to a list in memory. The list's rules are loops over dicts, written from
the documentation, and share no line with the package. `check` compares what is there, what is best and latest, and the
weights that loading them gives.
"""

import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from systems.pixel_llm.errors import CheckpointError
from systems.pixel_llm.training.checkpoint import CheckpointManager

NUM_NEWEST = 2


@dataclass
class Saved:
    """One folder of the directory."""

    name: str
    value: float
    """Of the one weight."""
    run: Any
    sequence: int
    metric: float | None
    keep: bool
    resumed_from: int | None
    gone_back_to: tuple[int, ...]
    is_copy: bool = False
    damage: str = ""
    """`content`: a byte of the weights. `size`: a byte less. `manifest`: a byte of the manifest."""

    @property
    def is_listed(self) -> bool:
        return self.damage in ("", "content")


@dataclass
class Process:
    """What a manager remembers."""

    run: Any = None
    resumed_from: int | None = None
    gone_back_to: tuple[int, ...] = ()
    last_sequence: int = 0
    protected: set[str] = field(default_factory=set)


class Twins:
    """A directory, its manager, and what they ought to be.

    Args:
        folder: an empty one.
        max_checkpoints: of each manager.
    """

    def __init__(self, folder: Path, *, max_checkpoints: int) -> None:
        self.folder, self.elsewhere, self.max_checkpoints = folder / "run", folder / "other", max_checkpoints
        self.model = nn.Linear(1, 1, bias=False)
        self.saved: dict[str, Saved] = {}
        self.num_values = self.num_runs = self.num_copies = self.num_pruned = 0
        self.new_manager()

    # --- what can happen ----------------------------------------------------------------------------------------------

    def new_manager(self) -> None:
        """The process ends, and another one begins."""
        self.manager = CheckpointManager(self.folder, max_checkpoints=self.max_checkpoints)
        self.process = Process()

    def save(self, metric: float | None, *, keep: bool = False, over: int | None = None) -> None:
        """Save under a new name, or over that of another."""
        value = self._new_value()
        replaced = None if over is None else self._pick(over)
        name = f"e{self.num_values}" if replaced is None else replaced.name
        self.manager.save(name, self.model, metric=metric, keep=keep)
        process = self.process
        if process.run is None:
            process.run = self._new_run()
        readable = [each.sequence for each in self.saved.values() if each.damage != "manifest"]
        named = [*process.gone_back_to, *([] if process.resumed_from is None else [process.resumed_from])]
        process.last_sequence = max([0, process.last_sequence, *readable, *named]) + 1
        is_number = metric is not None and math.isfinite(metric)
        self.saved[name] = Saved(
            name, value, process.run, process.last_sequence, metric if is_number else None, keep,
            process.resumed_from, process.gone_back_to,
        )  # fmt: skip
        self._prune()

    def resume(self, index: int) -> None:
        """Go on from one, as the Trainer does: a damaged one is refused."""
        chosen = self._pick(index)
        if chosen is None:
            return
        try:
            self.manager.load(chosen.name, self.model)
        except CheckpointError:
            assert chosen.damage
            return
        assert not chosen.damage
        assert self._weight() == chosen.value
        self.manager.continue_run(chosen.name)
        newest = self._newest_of(chosen)
        process = self.process
        process.run, process.resumed_from, process.gone_back_to = chosen.run, chosen.sequence, newest.gone_back_to
        if chosen.sequence < newest.sequence and chosen.sequence not in newest.gone_back_to:
            process.gone_back_to = (*newest.gone_back_to, chosen.sequence)
        process.protected.add(chosen.name)

    def restart(self) -> None:
        """Another process goes on from the newest good one."""
        self.new_manager()
        good = [each for each in self._listed() if not each.damage]
        if good:
            self.resume(sorted(self.saved).index(good[-1].name))

    def load(self, which: str) -> None:
        """Load the best or the latest; the damaged are passed over."""
        order = self._ranked() if which == "best" else self._listed()[::-1]
        good = [each for each in order if not each.damage]
        try:
            info = (self.manager.load_best if which == "best" else self.manager.load_latest)(self.model)
        except CheckpointError:
            assert not good
            return
        assert (info["name"], self._weight()) == (good[0].name, good[0].value)
        if self.process.run is None:
            newest = self._newest_of(good[0])
            self.process.run = newest.run
            self.process.resumed_from, self.process.gone_back_to = newest.resumed_from, newest.gone_back_to

    def delete(self, index: int) -> None:
        """By hand."""
        if (chosen := self._pick(index)) is not None:
            shutil.rmtree(self.folder / chosen.name)
            del self.saved[chosen.name]

    def copy(self, index: int) -> None:
        """By hand, under another name."""
        if (chosen := self._pick(index)) is not None:
            self.num_copies += 1
            name = f"copy{self.num_copies}"
            shutil.copytree(self.folder / chosen.name, self.folder / name)
            self.saved[name] = Saved(**vars(chosen) | {"name": name, "is_copy": True})

    def damage(self, index: int, how: str) -> None:
        chosen = self._pick(index)
        if chosen is None or chosen.damage:
            return
        path = self.folder / chosen.name / ("MANIFEST.json" if how == "manifest" else "model.safetensors")
        content = bytearray(path.read_bytes())
        if how == "size":
            content.pop()
        else:
            content[len(content) // 2] ^= 1
        path.write_bytes(content)
        chosen.damage = how

    def bring_another_run(self, metric: float | None) -> None:
        """A folder that another run saved elsewhere is put here."""
        value = self._new_value()
        name = f"other{self.num_values}"
        other = CheckpointManager(self.elsewhere, max_checkpoints=1)
        shutil.copytree(other.save(name, self.model, metric=metric), self.folder / name)
        shutil.rmtree(self.elsewhere)
        self.saved[name] = Saved(name, value, self._new_run(), 1, metric, False, None, ())

    # --- what must be there -------------------------------------------------------------------------------------------

    def check(self) -> None:
        there = {path.name for path in self.folder.iterdir()} if self.folder.is_dir() else set()
        assert there == set(self.saved)
        best, latest = self.manager.best(), self.manager.latest()
        assert (best and best.name) == (self._ranked()[0].name if self._ranked() else None)
        assert (latest and latest.name) == (self._latest().name if self._listed() else None)

    def _prune(self) -> None:
        process, kept = self.process, set()
        own = [each for each in self._listed() if each.run == process.run]
        originals = [each for each in own if not each.is_copy]
        by_metric = sorted(
            (each for each in originals if each.metric is not None), key=lambda each: (each.metric, each.sequence)
        )
        places = [each.name for each in by_metric]
        places += [each.name for each in reversed(originals) if each.name not in places]
        kept |= set(places[: self.max_checkpoints])
        kept |= {each.name for each in originals[-NUM_NEWEST:]}
        kept |= {each.name for each in self._ranked()[:1]}
        for each in own:
            is_resumed_from = each.sequence == process.resumed_from or each.sequence in process.gone_back_to
            if each.keep or each.is_copy or is_resumed_from or each.name in process.protected:
                kept.add(each.name)
        for each in own:
            if each.name not in kept:
                del self.saved[each.name]
                self.num_pruned += 1

    def _listed(self) -> list[Saved]:
        found = [each for each in self.saved.values() if each.is_listed]
        return sorted(found, key=lambda each: (each.sequence, each.name))

    def _ranked(self) -> list[Saved]:
        measured = [each for each in self._listed() if each.metric is not None]
        return sorted(measured, key=lambda each: (each.metric, each.sequence))

    def _latest(self) -> Saved:
        newest = max(each.sequence for each in self._listed())
        return next(each for each in self._listed() if each.sequence == newest)

    def _newest_of(self, chosen: Saved) -> Saved:
        own = [each for each in self._listed() if each.run == chosen.run]
        return next(each for each in own if each.sequence == max(each.sequence for each in own))

    # --- parts --------------------------------------------------------------------------------------------------------

    def _pick(self, index: int) -> Saved | None:
        names = sorted(self.saved)
        return self.saved[names[index % len(names)]] if names else None

    def _new_value(self) -> float:
        self.num_values += 1
        with torch.no_grad():
            self.model.weight.fill_(self.num_values)
        return float(self.num_values)

    def _new_run(self) -> int:
        self.num_runs += 1
        return self.num_runs

    def _weight(self) -> float:
        return self.model.weight.item()
