"""A disk that is full or fails: a save is refused in time, a run goes on and saves again; its logs do not end it."""

import errno
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from systems.pixel_llm import checkpoint_folder, free_space
from systems.pixel_llm.checkpoint_folder import scan_checkpoints
from systems.pixel_llm.errors import CheckpointError, NotSavedError
from systems.pixel_llm.free_space import check_free_space
from systems.pixel_llm.training import Trainer
from systems.pixel_llm.training.checkpoint import CheckpointManager
from systems.pixel_llm.training.events import StepEvent
from systems.pixel_llm.training.json_lines import JsonLines
from tests.training.test_resume import assert_same_run

MakeTrainer = Callable[..., Trainer]


class Usage(NamedTuple):
    total: int
    used: int
    free: int


class Disk:
    """A disk of which the test says how much is free."""

    free = 10**12


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, disk.free))
    return disk


def names(trainer: Trainer) -> list[str]:
    return [record.name for record in trainer.checkpoint_manager.list()]


# --- room before a save -----------------------------------------------------------------------------------------------


def test_a_save_that_has_no_room_is_refused_before_it_begins(tmp_path: Any, disk: Disk) -> None:
    manager, model = CheckpointManager(tmp_path / "run"), nn.Linear(1000, 1000)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 1000)).sum().backward()
    optimizer.step()  # as much again as the weights
    manager.save("first", model, optimizer)
    before = sorted(tmp_path.rglob("*"))
    disk.free = 9_600_000
    with pytest.raises(
        NotSavedError, match=r"No space left.*9\.7 MB are needed.*9\.6 MB are free.*Make room"
    ) as caught:
        manager.save("second", model, optimizer)
    assert "Earlier checkpoints are untouched" in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before
    disk.free = 9_800_000
    manager.save("second", model, optimizer)


def test_averaged_weights_need_room_too(tmp_path: Any, disk: Disk) -> None:
    manager, model = CheckpointManager(tmp_path), nn.Linear(1000, 1000)
    disk.free = 9_600_000
    manager.save("without", model)
    with pytest.raises(NotSavedError, match=r"9\.7 MB"):
        manager.save("with", model, average=dict(model.named_parameters()))


def test_the_disk_of_a_folder_that_is_not_there_yet_is_that_of_the_one_above(tmp_path: Any) -> None:
    check_free_space(tmp_path / "not" / "there", 1)
    with pytest.raises(OSError, match="are needed") as caught:
        check_free_space(tmp_path / "not" / "there", 10**18)
    assert free_space.is_out_of_space(caught.value)


def test_a_file_system_that_tells_no_size_is_not_taken_for_a_full_one(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 0))
    check_free_space(tmp_path, 10**18)


# --- a run on a full disk ---------------------------------------------------------------------------------------------


def fills(disk: Disk, steps: range) -> Callable[[Any], None]:
    """A callback by which the disk is full after these steps; three are an epoch."""

    def callback(event: Any) -> None:
        if isinstance(event, StepEvent):
            disk.free = 0 if event.step in steps else 10**12

    return callback


def test_a_run_goes_on_where_a_save_has_no_room_and_saves_the_next(
    tiny_trainer: MakeTrainer, disk: Disk, caplog: Any
) -> None:
    trainer = tiny_trainer(callbacks=[fills(disk, range(4, 7))], max_checkpoints=9)
    trainer.train(4)
    assert names(trainer) == ["epoch_1", "epoch_3", "epoch_4"]
    told = [record.getMessage() for record in caplog.records if "could not be saved" in record.getMessage()]
    assert len(told) == 1
    assert "epoch_2 could not be saved" in told[0]
    assert "Training goes on; it is tried again at the next save, or in 5 minutes." in told[0]
    assert f"The last good checkpoint is {trainer.checkpoint_manager.checkpoint_dir / 'epoch_1'}." in told[0]
    unbroken = tiny_trainer("unbroken")
    unbroken.train(4)
    assert_same_run(trainer, unbroken)


def test_saves_by_steps_are_passed_over_likewise(tiny_trainer: MakeTrainer, disk: Disk) -> None:
    trainer = tiny_trainer(callbacks=[fills(disk, range(1, 3))], save_every_steps=1, max_checkpoints=9)
    trainer.train(2)
    assert names(trainer) == ["epoch_1", "step_4", "step_5", "epoch_2"]


def test_where_the_very_first_save_has_no_room_the_run_goes_on_too(
    tiny_trainer: MakeTrainer, disk: Disk, caplog: Any
) -> None:
    trainer = tiny_trainer(callbacks=[fills(disk, range(1, 4))])
    trainer.train(2)
    assert names(trainer) == ["epoch_2"]
    assert "No checkpoint was saved yet." in caplog.text


def test_a_last_save_without_room_is_an_error_that_names_the_last_good_one(
    tiny_trainer: MakeTrainer, disk: Disk
) -> None:
    trainer = tiny_trainer(callbacks=[fills(disk, range(4, 99))])
    with pytest.raises(
        NotSavedError, match=r"epoch_2 could not be saved.*the run's last one.*good checkpoint is .*1\."
    ):
        trainer.train(2)
    assert names(trainer) == ["epoch_1"]
    disk.free = 10**12
    trainer.save_checkpoint("kept")  # the Trainer still holds what it learned
    assert names(trainer) == ["epoch_1", "kept"]


def test_a_disk_that_fails_in_the_middle_of_a_save_does_not_end_the_run(
    tiny_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    sync, is_failing = os.fsync, [False]

    def failing_sync(descriptor: int) -> None:
        if is_failing[0]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(descriptor)

    def callback(event: Any) -> None:
        if isinstance(event, StepEvent):
            is_failing[0] = 3 < event.step <= 6

    monkeypatch.setattr(os, "fsync", failing_sync)
    trainer = tiny_trainer(callbacks=[callback])
    trainer.train(3)
    assert names(trainer) == ["epoch_1", "epoch_3"]
    left = sorted(path.name for path in trainer.checkpoint_manager.checkpoint_dir.iterdir())
    assert left == ["epoch_1", "epoch_3", "metrics.jsonl"]
    assert "Input/output error" in caplog.text


def test_a_first_save_that_fails_for_another_reason_than_room_ends_the_run(
    tiny_trainer: MakeTrainer, tmp_path: Any
) -> None:
    trainer = tiny_trainer(metrics_file=tmp_path / "metrics.jsonl")
    trainer.checkpoint_manager.checkpoint_dir = pathlib.Path(__file__)  # a file, no folder
    with pytest.raises(CheckpointError, match="cannot be read"):
        trainer.train(5)
    assert trainer.state.epoch == 1


def test_a_failed_save_is_tried_again_after_minutes(tiny_trainer: MakeTrainer, disk: Disk) -> None:
    """A clock of two minutes a step, three steps an epoch: no room from step 4 to step 8."""
    trainer = tiny_trainer(checkpoint_interval=1, max_checkpoints=9, save_every_steps=4)

    def callback(event: Any) -> None:
        if isinstance(event, StepEvent):
            now[0] += 120.0
            tried.append(trainer._checkpoints.is_retry_due)
            disk.free = 0 if 4 <= event.step <= 8 else 10**12
            trainer._pauses.checkpoint_interval = 1 if event.step < 4 else 100

    now: list[float] = [0.0]
    tried: list[bool] = []
    trainer._recorder.clock = lambda: now[0]
    trainer._recorder.callbacks.append(callback)
    trainer.train(5)
    # Step 4 fails. Three steps later, which are six minutes, it is tried again, and again after step 8, at 11.
    assert tried == [step in (7, 11) for step in range(1, 16)]
    assert names(trainer) == ["epoch_1", "step_11", "step_12", "epoch_5"]


def test_what_a_full_disk_takes_no_more_of_a_log_is_left_out(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    lines = JsonLines(tmp_path / "notes.jsonl")
    append, is_full = lines._append, [False]

    def full(line: bytes) -> None:
        if is_full[0]:
            append(line[:3])  # what had room
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(line)

    monkeypatch.setattr(lines, "_append", full)
    for number in range(6):
        is_full[0] = number in (1, 2, 4)
        lines.append({"number": number})
    whole = [line for line in lines.path.read_text().splitlines() if line.endswith("}")]
    assert whole == ['{"number": 0}', '{"number": 3}', '{"number": 5}']
    assert caplog.text.count("lacks lines from here on") == 2
    monkeypatch.setattr(lines, "_append", lambda line: (_ for _ in ()).throw(PermissionError(errno.EACCES, "no")))
    with pytest.raises(PermissionError):
        lines.append({})


# --- a disk that fails to read ----------------------------------------------------------------------------------------


def test_an_older_one_that_cannot_be_read_does_not_fail_a_save_that_is_done(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    manager, model = CheckpointManager(tmp_path, max_checkpoints=1), nn.Linear(2, 2)
    for name in "ab":
        manager.save(name, model)

    def fail() -> None:
        raise OSError(errno.EIO, "the disk fails")

    monkeypatch.setattr(manager, "_prune", lambda *args: fail())
    manager.save("c", model)
    assert "No older checkpoint was removed this time" in caplog.text
    monkeypatch.undo()
    assert manager.latest().name == "c"  # type: ignore[union-attr]
    manager.save("d", model)
    assert {record.name for record in manager.list()} >= {"c", "d"}


def test_a_manifest_that_fails_to_be_read_once_still_counts_for_the_next_sequence(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    CheckpointManager(tmp_path).save("a", nn.Linear(2, 2))
    reads, plain = [], checkpoint_folder.read_manifest

    def read(path: pathlib.Path) -> Any:
        reads.append(path)
        if len(reads) == 1:
            raise CheckpointError("not readable") from OSError(errno.EIO, "the disk fails")
        return plain(path)

    monkeypatch.setattr(checkpoint_folder, "read_manifest", read)
    assert scan_checkpoints(tmp_path).last_sequence == 1
    assert len(reads) == 2


def test_one_that_the_disk_does_not_show_is_told_of(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        CheckpointManager(tmp_path).save(name, nn.Linear(2, 2))
    plain = os.stat

    def failing(path: Any, *args: Any, **kwargs: Any) -> os.stat_result:
        if str(path).startswith(str(tmp_path / "a")):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return plain(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", failing)
    monkeypatch.setattr(os, "lstat", failing)
    scan = scan_checkpoints(tmp_path)
    assert [record.name for record in scan.records] == ["b"]
    assert "Input/output error" in scan.damaged["a"]
