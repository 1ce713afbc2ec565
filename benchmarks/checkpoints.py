"""Saving and loading a checkpoint, against `torch.save` and `torch.load` of the same state.

The guide's sizes: `create_pixel_llm(image_size=224, patch_size=16, vision_embed_dim=512, vocab_size=50000)` with the
state of AdamW after a step, the table of 50,000 rows kept whole. The sides take turns on one file system, each in place
of what it wrote before:

- save: ours (hashed, every file and folder synced, read back, renamed); `torch.save` of model and optimizer and fsync;
  a plain write of as many bytes and fsync, which is what the disk takes.
- load into a live model and optimizer, from files that the system holds in memory: ours, every byte verified;
  `torch.load(weights_only=True)` and `load_state_dict`, unverified.
- memory: by how much the process grows at its highest while ours saves (Linux).

Checked before: what each side loads is what was saved, to the bit.
"""

import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.paired import paired_seconds, ratio_of_medians
from benchmarks.report import print_table
from systems.pixel_llm.models import PixelLLM, create_pixel_llm
from systems.pixel_llm.training import CheckpointManager

SAVE_TARGET, LOAD_TARGET = 0.8, 1.2
EXTRA_TENSORS, EXTRA_BYTES = 1.2, 64 << 20
"""A save may take this many times the largest tensor, and this many bytes, of memory."""

State = tuple[PixelLLM, torch.optim.Optimizer]


def run(*, rounds: int, small: bool = False) -> dict[str, Any]:
    """Print seconds of each side, ratios and the memory of a save."""
    trained = made_state(seed=0, small=small)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # the system's own may be in memory
        sides = Sides(Path(folder), trained)
        print(f"{sides.num_bytes / 2**20:,.0f} MiB of weights and optimizer state, in {Path.cwd()}")
        saving = {"ours": sides.save, "torch.save, fsync": sides.torch_save, "plain write, fsync": sides.plain_write}
        saved = paired_seconds(saving, rounds=rounds, warmups=1)
        live = made_state(seed=1, small=small)
        loading: dict[str, Callable[[], object]] = {
            "ours, verified": lambda: sides.load(live), "torch.load": lambda: sides.torch_load(live),
        }  # fmt: skip
        for name, load in loading.items():
            spoil(live)
            load()
            check_equal(name, live, trained)
        loaded = paired_seconds(loading, rounds=rounds, warmups=1)
        grown = memory_of(sides.save)
    results = {"save": told("save", saved, SAVE_TARGET), "load": told("load", loaded, LOAD_TARGET)}
    largest = max(parameter.nbytes for parameter in trained[0].parameters())
    allowed = EXTRA_TENSORS * largest + EXTRA_BYTES
    if grown is not None:
        print(f"memory  a save takes {grown / 2**20:.0f} MiB at its highest; to reach {allowed / 2**20:.0f}")
    return results | {"save_memory_bytes": grown, "save_memory_target_bytes": allowed, "num_bytes": sides.num_bytes}


class Sides:
    """The ways to save one state, and to load it."""

    def __init__(self, folder: Path, state: State) -> None:
        self._folder, (self._model, self._optimizer) = folder, state
        self._manager = CheckpointManager(folder / "ours")
        tensors = [*self._model.state_dict().values()]
        for values in self._optimizer.state.values():
            tensors += values.values()
        self.num_bytes = sum(tensor.nbytes for tensor in tensors)
        self._bytes = bytes(self.num_bytes)

    def save(self) -> None:
        """Ours."""
        self._manager.save("state", self._model, self._optimizer, epoch=1, metric=0.5)

    def torch_save(self) -> None:
        """What a careful script does."""
        with (self._folder / "state.pt").open("wb") as file:
            torch.save({"model": self._model.state_dict(), "optimizer": self._optimizer.state_dict()}, file)
            file.flush()
            os.fsync(file.fileno())

    def plain_write(self) -> None:
        """What the disk takes."""
        with (self._folder / "bytes").open("wb", buffering=0) as file:
            rest = memoryview(self._bytes)
            while len(rest):
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())

    def load(self, into: State) -> None:
        """Ours, verified."""
        self._manager.load("state", *into)

    def torch_load(self, into: State) -> None:
        """Unverified."""
        state = torch.load(self._folder / "state.pt", weights_only=True)
        into[0].load_state_dict(state["model"])
        into[1].load_state_dict(state["optimizer"])


def made_state(*, seed: int, small: bool) -> State:
    """A model of the guide's sizes and its optimizer after a step."""
    torch.manual_seed(seed)
    sizes = {"vision_embed_dim": 64, "vocab_size": 1000} if small else {"vision_embed_dim": 512, "vocab_size": 50_000}
    model = create_pixel_llm(image_size=224, patch_size=16, **sizes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return model, optimizer


def spoil(state: State) -> None:
    """Other numbers everywhere, so that a load shows."""
    with torch.no_grad():
        for tensor in (*state[0].parameters(), *(each for one in state[1].state.values() for each in one.values())):
            tensor.fill_(0.5)


def check_equal(name: str, found: State, wanted: State) -> None:
    """What is timed must be right."""
    pairs: list[tuple[nn.Module | torch.optim.Optimizer, nn.Module | torch.optim.Optimizer]]
    pairs = [*zip(found, wanted, strict=True)]
    for one, other in pairs:
        if not are_equal(one.state_dict(), other.state_dict()):
            raise AssertionError(f"{name} does not load what was saved.")


def are_equal(one: Any, other: Any) -> bool:
    """Of nested dicts and lists of tensors and numbers."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(are_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(are_equal, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


def told(what: str, seconds: dict[str, list[float]], target: float) -> dict[str, Any]:
    """Print medians and ratios to the second side; give them."""
    (ours, rival), medians = list(seconds)[:2], {name: statistics.median(each) for name, each in seconds.items()}
    ratios = {name: ratio_of_medians(each, seconds[rival]) for name, each in seconds.items()}
    rows = [(name, f"{medians[name]:.3f}", f"{ratios[name]:.2f} x") for name in seconds]
    print_table((what, "seconds", f"of {rival}"), rows)
    print(f"  {ratios[ours]:.2f} x; to reach {target} x")
    return {"seconds": seconds, "ratios": ratios, "target": target}


def memory_of(call: Callable[[], object]) -> int | None:
    """Bytes by which the process grows at its highest during the call; None where the system does not tell."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the high-water mark starts anew
        before = _status("VmRSS")
    except OSError:
        return None
    call()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))
