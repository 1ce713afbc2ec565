"""Saves onto a disk in memory that is really full, at every few kilobytes of room, and a run that goes on there."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from systems.pixel_llm.errors import NotSavedError
from systems.pixel_llm.training import Trainer, checkpoint_writing
from systems.pixel_llm.training.events import StepEvent
from tests.faults.scenarios import contents, names_in, save_numbers
from tests.training.conftest import make_loader, make_model

_DISK_BYTES = 4 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("mount is not installed")
    size = f"size={_DISK_BYTES}"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", folder], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no disk in memory can be mounted: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def leave_free(disk: Path, num_bytes: int) -> None:
    """Fill the disk until so much is free."""
    filler = disk / "filler"
    filler.unlink(missing_ok=True)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - num_bytes)


def why_not_saved(folder: Path, name: str, epoch: int) -> str | None:
    try:
        save_numbers(folder, name, epoch)
    except NotSavedError as error:
        return str(error)
    return None


def test_at_any_amount_of_room_a_save_goes_well_or_changes_nothing(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the look at the free space, so that the disk is found full in the middle of it."""
    monkeypatch.setattr(checkpoint_writing, "check_free_space", lambda folder, num_bytes: None)
    folder = small_disk / "checkpoints"
    save_numbers(folder, "first", 1)
    save_numbers(folder, "second", 2)
    outcomes = []
    for epoch, kibibytes in enumerate(range(0, 64, 4), start=3):
        before = contents(folder)
        leave_free(small_disk, kibibytes << 10)
        message = why_not_saved(folder, "second", epoch)
        outcomes.append(message is None)
        assert message is None or "No space left on device" in message
        assert contents(folder) == (before if message else before | {"second": epoch})
        assert names_in(folder) == ["first", "second"]
    assert outcomes == sorted(outcomes)
    assert {*outcomes} == {False, True}


def test_a_run_goes_on_over_a_full_disk_and_saves_when_there_is_room(small_disk: Path, caplog: Any) -> None:
    def callback(event: Any) -> None:
        if isinstance(event, StepEvent) and event.step == 4:  # three steps are an epoch
            leave_free(small_disk, 0)
        if isinstance(event, StepEvent) and event.step == 7:
            (small_disk / "filler").unlink()

    trainer = Trainer(
        make_model(), make_loader(), checkpoint_dir=small_disk / "run", device="cpu", progress="off",
        callbacks=[callback],
    )  # fmt: skip
    trainer.train(4)
    assert [record.name for record in trainer.checkpoint_manager.list()] == ["epoch_1", "epoch_3", "epoch_4"]
    assert "epoch_2 could not be saved" in caplog.text
