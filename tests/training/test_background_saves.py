"""Saves beside the training loop: the same checkpoints as others, told when they are there, and none is left behind."""

import filecmp
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from systems.pixel_llm.errors import CheckpointError, ConfigError, NotSavedError
from systems.pixel_llm.training import CheckpointManager, Trainer
from systems.pixel_llm.training.background_save import BackgroundSave
from systems.pixel_llm.training.events import CheckpointEvent, Event, StepEvent

MakeTrainer = Callable[..., Trainer]
SETTINGS = {"ema_decay": 0.9, "max_checkpoints": 9, "save_every_steps": 2, "schedule": "constant"}


class Gate:
    """Holds every background save until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_open = threading.Event()
        self.reached = threading.Event()
        original = CheckpointManager._write

        def write(manager: CheckpointManager, *args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                self.reached.set()
                assert self.is_open.wait(30)
            return original(manager, *args, **kwargs)

        monkeypatch.setattr(CheckpointManager, "_write", write)


def test_they_are_the_same_to_the_byte(tiny_trainer: MakeTrainer) -> None:
    beside, waited = (
        tiny_trainer(folder, checkpoint_async=is_async, **SETTINGS)
        for folder, is_async in (("beside", True), ("waited", False))
    )
    assert beside.train(2) == waited.train(2)
    folders = [trainer.checkpoint_manager.checkpoint_dir for trainer in (beside, waited)]
    names = [sorted(path.name for path in folder.iterdir() if path.is_dir()) for folder in folders]
    assert names[0] == names[1] == ["epoch_1", "epoch_2", "step_2", "step_4"]
    for name in names[0]:
        for file in ("model.safetensors", "average.safetensors", "optimizer.safetensors", "tokenizer.json"):
            assert filecmp.cmp(folders[0] / name / file, folders[1] / name / file, shallow=False), (name, file)


def test_training_goes_on_meanwhile_and_what_is_saved_is_what_was(
    tiny_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, steps_meanwhile = Gate(monkeypatch), []

    def callback(event: Event) -> None:
        if isinstance(event, StepEvent) and gate.reached.is_set() and not gate.is_open.is_set():
            steps_meanwhile.append(event.step)
            if event.step == 3:
                gate.is_open.set()

    trainer = tiny_trainer(checkpoint_async=True, callbacks=[callback], **SETTINGS | {"save_every_steps": 1})
    gate.is_open.set()
    trainer.train(1)
    expected = {name: each.clone() for name, each in trainer.model.state_dict().items()}

    gate.is_open.clear()
    gate.reached.clear()
    other = tiny_trainer("other", checkpoint_async=True, callbacks=[callback], **SETTINGS)
    other.train(1)
    assert steps_meanwhile == [3], "a step was taken while the save of step 2 was held"
    loaded = tiny_trainer("loaded")
    CheckpointManager(other.checkpoint_manager.checkpoint_dir).load("step_2", loaded.model)
    CheckpointManager(trainer.checkpoint_manager.checkpoint_dir).load("step_2", trainer.model)
    for name, each in trainer.model.state_dict().items():
        assert torch.equal(each, loaded.model.state_dict()[name])
        assert expected[name].shape == each.shape


def test_it_is_told_when_it_is_there_and_the_end_is_waited_for(tiny_trainer: MakeTrainer) -> None:
    told: list[str] = []

    def callback(event: Event) -> None:
        if isinstance(event, CheckpointEvent):
            assert (event.path / "MANIFEST.json").is_file()
            told.append(event.path.name)

    trainer = tiny_trainer(checkpoint_async=True, callbacks=[callback], **SETTINGS)
    trainer.train(2)
    assert told == ["step_2", "epoch_1", "step_4", "epoch_2"]
    assert [each for each in threading.enumerate() if each.name == "pixel-llm-save"] == []


def test_one_that_fails_is_told_and_made_up_for(
    tiny_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original, num_failures = CheckpointManager._write, [0]

    def write(manager: CheckpointManager, facts: Any, *args: Any, **kwargs: Any) -> Any:
        if facts.name in ("step_2", "epoch_2"):
            num_failures[0] += 1
            if num_failures[0] <= 2:
                raise NotSavedError("the disk is full") from OSError(28, "No space left on device")
        return original(manager, facts, *args, **kwargs)

    monkeypatch.setattr(CheckpointManager, "_write", write)
    trainer = tiny_trainer(checkpoint_async=True, **SETTINGS)
    with caplog.at_level(logging.WARNING):
        trainer.train(2)
    assert caplog.text.count("the disk is full Training goes on") == 2
    names = {path.name for path in trainer.checkpoint_manager.checkpoint_dir.iterdir() if path.is_dir()}
    assert names == {"epoch_1", "step_4", "epoch_2"}, "the end of the run was saved once more, and waited for"


def test_a_long_save_is_the_last_that_is_waited_for(tiny_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: dict[str, bool] = {}
    original = CheckpointManager._write
    now = [0.0]

    def write(manager: CheckpointManager, facts: Any, *args: Any, **kwargs: Any) -> Any:
        now[0] += 1.5
        waited[facts.name] = threading.current_thread() is threading.main_thread()
        return original(manager, facts, *args, **kwargs)

    monkeypatch.setattr(CheckpointManager, "_write", write)
    for is_async, expected in ((None, [True, False, False]), (False, [True, True, True])):
        waited.clear()
        trainer = tiny_trainer(f"run_{is_async}", checkpoint_async=is_async, **SETTINGS | {"save_every_steps": None})
        trainer._recorder.clock = lambda: now[0]
        trainer.train(3)
        assert [waited[f"epoch_{number}"] for number in (1, 2, 3)] == expected


def test_an_error_of_the_program_is_raised_where_it_is_asked_for(tmp_path: Any) -> None:
    save = BackgroundSave()
    assert save.outcome(wait=True) is None

    def fail() -> Any:
        raise ZeroDivisionError("a bug")

    save.start(fail)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        save.outcome(wait=True)
    save.start(lambda: tmp_path)
    assert save.outcome(wait=True) == tmp_path
    assert save.outcome(wait=False) is None


def test_a_model_that_writes_its_own_folder_is_saved_and_waited_for(tmp_path: Any) -> None:
    class OwnFolder(torch.nn.Linear):
        def save_pretrained(self, folder: Any) -> None:
            (folder / "model.safetensors").write_bytes(b"its own")

        def load_weights(self, folder: Any, device: Any = None) -> None:
            pass

    from systems.pixel_llm.folder_snapshot import FolderSnapshot

    with pytest.raises(CheckpointError, match=r"OwnFolder has no write_files\(\)"):
        CheckpointManager(tmp_path).take(FolderSnapshot(), "a", model=OwnFolder(2, 2))
    with pytest.raises(ConfigError, match="cannot name a checkpoint"):
        CheckpointManager(tmp_path).take(FolderSnapshot(), "..", model=torch.nn.Linear(2, 2))
