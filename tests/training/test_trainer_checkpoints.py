"""Which checkpoints a run leaves behind, however it ends, and which of them stay."""

import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from systems.pixel_llm.checkpoint_folder import read_manifest
from systems.pixel_llm.errors import TrainingError
from systems.pixel_llm.inference import Captioner
from systems.pixel_llm.models import PixelLLM
from systems.pixel_llm.training import Trainer
from systems.pixel_llm.training.events import CheckpointEvent, Event, StepEvent
from tests.training.test_resume import assert_same_run

MakeTrainer = Callable[..., Trainer]


class BreaksAt:
    """A loader that fails in the middle of an epoch."""

    def __init__(self, loader: Any, batch: int) -> None:
        self.loader, self.batch, self.dataset = loader, batch, loader.dataset

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Any:
        for number, batch in enumerate(self.loader):
            if number == self.batch:
                raise OSError("the disk is gone")
            yield batch


def names(trainer: Trainer) -> list[str]:
    return [record.name for record in trainer.checkpoint_manager.list()]


def saves(trainer: Trainer) -> list[str]:
    """The names of the checkpoints that `trainer` writes, filled in as it trains."""
    written: list[str] = []
    trainer._recorder.callbacks.append(
        lambda event: written.append(event.path.name) if isinstance(event, CheckpointEvent) else None
    )
    return written


def stop_at(step: int) -> tuple[list[Trainer], Callable[[Event], None]]:
    """A list to put the trainer into, and a callback that stops it after `step` steps."""
    trainers: list[Trainer] = []

    def callback(event: Event) -> None:
        if isinstance(event, StepEvent) and event.step == step:
            trainers[0].request_stop()

    return trainers, callback


def test_a_checkpoint_is_written_at_each_interval_and_at_the_end(tiny_trainer: MakeTrainer) -> None:
    trainer = tiny_trainer(checkpoint_interval=2, max_checkpoints=5)
    trainer.train(3)
    assert names(trainer) == ["epoch_2", "epoch_3"]


@pytest.mark.parametrize(("max_steps", "name"), [(5, "step_5"), (6, "epoch_2")])
def test_a_run_that_ends_by_steps_saves_there(tiny_trainer: MakeTrainer, max_steps: int, name: str) -> None:
    trainer = tiny_trainer(max_steps=max_steps)
    trainer.train()
    assert names(trainer)[-1] == name
    assert trainer.state.step == max_steps


def test_a_run_asked_to_stop_saves_and_the_trainer_is_free_again(tiny_trainer: MakeTrainer, shapes_loader: Any) -> None:
    trainers, callback = stop_at(2)
    trainer = tiny_trainer(callbacks=[callback], val_loader=shapes_loader(2, shuffle=False))
    trainers.append(trainer)
    trainer.train(2)
    assert (trainer.stop_reason, names(trainer)) == ("interrupted", ["step_2"])
    assert trainer.validate() is not None
    trainer.train(2)
    assert (trainer.stop_reason, trainer.state.step) == ("epochs", 6)


def test_a_stop_asked_for_before_the_run_is_not_lost(tiny_trainer: MakeTrainer) -> None:
    trainer = tiny_trainer()
    trainer.request_stop()
    trainer.train(2)
    assert (trainer.stop_reason, trainer.state.step) == ("interrupted", 0)


def test_an_error_in_the_data_saves_what_was_learned_and_comes_out(
    tiny_trainer: MakeTrainer, shapes_loader: Any
) -> None:
    trainer = tiny_trainer(train_loader=BreaksAt(shapes_loader(), batch=2))
    with pytest.raises(OSError, match="the disk is gone"):
        trainer.train(2)
    assert names(trainer) == ["step_2"]
    fixed = tiny_trainer(train_loader=shapes_loader())
    fixed.train(1, resume_from="step_2")
    assert fixed.state.step == 3


def test_an_error_before_the_first_step_leaves_no_checkpoint(tiny_trainer: MakeTrainer, shapes_loader: Any) -> None:
    trainer = tiny_trainer(train_loader=BreaksAt(shapes_loader(), batch=0))
    with pytest.raises(OSError, match="the disk is gone"):
        trainer.train(1)
    assert names(trainer) == []


def test_an_error_that_leaves_no_room_to_save_is_not_hidden(
    tiny_trainer: MakeTrainer, shapes_loader: Any, caplog: Any
) -> None:
    trainer = tiny_trainer(train_loader=BreaksAt(shapes_loader(), batch=1))
    trainer.checkpoint_manager.checkpoint_dir.parent.mkdir(exist_ok=True)
    trainer.checkpoint_manager.checkpoint_dir = pathlib.Path(__file__)  # a file, no folder
    with pytest.raises(OSError, match="the disk is gone"):
        trainer.train(1)
    assert "no checkpoint could be saved" in caplog.text


def test_old_checkpoints_go_and_those_saved_by_hand_stay(tiny_trainer: MakeTrainer, shapes_loader: Any) -> None:
    val_loader = shapes_loader(4, shuffle=False)
    trainer = tiny_trainer(max_checkpoints=1, val_loader=val_loader, schedule="constant")
    trainer.train(1)
    path = trainer.save_checkpoint("mine")
    assert path == trainer.checkpoint_manager.checkpoint_dir / "mine"
    trainer.train(6)
    losses = trainer.get_history()["val_losses"]
    best = f"epoch_{losses.index(min(losses)) + 1}"
    assert set(names(trainer)) == {"mine", "epoch_5", "epoch_6", best}
    assert trainer.checkpoint_manager.best().name == best


def test_the_checkpoint_resumed_from_is_never_pruned(tiny_trainer: MakeTrainer) -> None:
    tiny_trainer().train(1)
    trainer = tiny_trainer(max_checkpoints=1)
    trainer.train(6, resume_from="epoch_1")
    assert "epoch_1" in names(trainer)


def test_a_checkpoint_by_hand_at_the_last_step_does_not_take_the_place_of_the_run_s_own(
    tiny_trainer: MakeTrainer, shapes_loader: Any
) -> None:
    def save(event: Event) -> None:
        if isinstance(event, StepEvent):
            trainer.save_checkpoint("mine")

    trainer = tiny_trainer(callbacks=[save], max_steps=2, val_loader=shapes_loader(2, shuffle=False))
    history = trainer.train()
    assert history["val_steps"] == [1, 2]
    latest = trainer.checkpoint_manager.latest()
    assert (latest.name, latest.metric) == ("step_2", history["val_losses"][-1])


@pytest.mark.parametrize("with_validation", [True, False])
def test_the_metric_of_a_checkpoint_is_the_validation_loss_or_else_the_training_loss(
    tiny_trainer: MakeTrainer, shapes_loader: Any, with_validation: bool
) -> None:
    trainer = tiny_trainer(val_loader=shapes_loader(2, shuffle=False) if with_validation else None)
    history = trainer.train(2)
    expected = history["val_losses" if with_validation else "train_losses"]
    assert [record.metric for record in trainer.checkpoint_manager.list()] == expected


def test_a_checkpoint_is_a_model_that_captions_at_once(tiny_trainer: MakeTrainer, tmp_path: Any) -> None:
    trainer = tiny_trainer()
    paths: list[Any] = []
    trainer._recorder.callbacks.append(
        lambda event: paths.append(event.path) if isinstance(event, CheckpointEvent) else None
    )
    trainer.train(1)
    loaded = PixelLLM.from_pretrained(paths[-1])
    image = trainer.train_loader.dataset[0]["image"][None]
    assert loaded.generate(image, max_length=8) == trainer.model.generate(image, max_length=8)
    assert loaded.preprocessing == trainer.train_loader.dataset.preprocessing


def test_a_loss_that_is_no_number_names_the_step_and_is_not_saved(tiny_trainer: MakeTrainer) -> None:
    def loss_fn(predictions: Tensor, targets: Tensor) -> Tensor:
        loss = F.cross_entropy(predictions, targets)
        return loss * float("nan") if trainer.state.step == 4 else loss

    trainer = tiny_trainer(loss_fn=loss_fn, log_interval=1, max_bad_steps=1)
    with pytest.raises(TrainingError, match="no number 1 times in a row, the last time at step 4"):
        trainer.train(2)
    assert names(trainer) == ["epoch_1"]


def test_weights_that_diverge_at_the_last_step_are_not_saved(tiny_trainer: MakeTrainer) -> None:
    def spoil(event: Event) -> None:
        if isinstance(event, StepEvent):
            with torch.no_grad():
                next(trainer.model.parameters()).fill_(float("inf"))

    trainer = tiny_trainer(callbacks=[spoil], max_steps=1)
    with pytest.raises(TrainingError, match="A weight became infinite or NaN by step 1"):
        trainer.train()
    assert names(trainer) == []


def test_a_run_of_nothing_but_bad_steps_saves_the_weights_it_began_with(tiny_trainer: MakeTrainer) -> None:
    def loss_fn(predictions: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(predictions, targets) + torch.sqrt(0 * predictions.sum())  # of 0 the slope is infinite

    trainer = tiny_trainer(loss_fn=loss_fn, max_steps=1)
    trainer.train()
    assert names(trainer) == ["step_1"]
    assert trainer.state.bad_steps_in_a_row == 1


# --- saves by steps ---------------------------------------------------------------------------------------------------


def test_a_checkpoint_each_so_many_steps_beside_those_of_epochs(tiny_trainer: MakeTrainer) -> None:
    """Three steps an epoch; a step that ends an epoch which is saved, or the run, is saved once, as that."""
    saved = saves(trainer := tiny_trainer(save_every_steps=2, max_checkpoints=9))
    trainer.train(2)
    assert saved == ["step_2", "epoch_1", "step_4", "epoch_2"]
    saved = saves(trainer := tiny_trainer("longer", save_every_steps=3, checkpoint_interval=4))
    trainer.train(3)
    assert saved == ["step_3", "step_6", "epoch_3"]


def test_a_step_that_is_saved_already_is_not_saved_again(tiny_trainer: MakeTrainer, shapes_loader: Any) -> None:
    saved = saves(trainer := tiny_trainer(save_every_steps=1, max_steps=5, val_loader=shapes_loader(4, shuffle=False)))
    trainer.train()
    assert saved == ["step_1", "step_2", "step_3", "step_4", "step_5"]
    assert trainer.checkpoint_manager.latest().metric is not None


def test_saves_by_steps_are_pruned_as_others_and_leave_the_best(tiny_trainer: MakeTrainer, shapes_loader: Any) -> None:
    trainer = tiny_trainer(save_every_steps=1, max_checkpoints=1, val_loader=shapes_loader(4, shuffle=False))
    trainer.train(3)
    best = min(trainer.get_history()["val_losses"])
    assert trainer.checkpoint_manager.best().metric == best
    assert len(names(trainer)) <= 3
    assert names(trainer)[-1] == "epoch_3"


@pytest.mark.parametrize("name", ["step_2", "step_3", "step_4"])
def test_a_resume_from_one_ends_in_the_same_bits(tiny_trainer: MakeTrainer, shapes_loader: Any, name: str) -> None:
    """step_3 is the end of an epoch whose validation was still to come."""
    val_loader = shapes_loader(4, shuffle=False)
    unbroken = tiny_trainer("unbroken", val_loader=val_loader)
    unbroken.train(3)
    saving = tiny_trainer(
        "saving", val_loader=val_loader, save_every_steps=1, max_checkpoints=20, checkpoint_interval=9
    )
    saving.train(3)
    assert_same_run(saving, unbroken)
    resumed = tiny_trainer("saving", val_loader=val_loader)
    resumed.train(3, resume_from=name)
    assert_same_run(resumed, unbroken)


def test_the_time_of_a_save_is_no_part_of_the_speed(tiny_trainer: MakeTrainer, monkeypatch: Any) -> None:
    """A clock that moves with saves alone: an hour each."""
    trainer = tiny_trainer(save_every_steps=1, log_interval=1, checkpoint_interval=9)
    now = [0.0]
    trainer._recorder.clock = lambda: now[0]
    trainer._recorder.restart_interval()
    speeds: list[float] = []

    def note(event: Event) -> None:
        if isinstance(event, StepEvent) and event.images_per_second is not None:
            speeds.append(event.images_per_second)
            now[0] += 1.0

    trainer._recorder.callbacks.append(note)
    plain_save = trainer.checkpoint_manager.save

    def slow_save(**arguments: Any) -> Any:
        now[0] += 3600.0
        return plain_save(**arguments)

    monkeypatch.setattr(trainer.checkpoint_manager, "save", slow_save)
    trainer.train(1)
    assert speeds[1:] == pytest.approx([4.0, 4.0]), "four pictures in the second that a step takes"
    assert trainer.state.elapsed_seconds > 3600


# --- a folder that is used already ------------------------------------------------------------------------------------


def test_a_run_that_begins_anew_moves_an_older_one_aside_at_its_first_save(
    tiny_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    older = tiny_trainer()
    older.train(2)
    folder = older.checkpoint_manager.checkpoint_dir
    before = {path.name: read_manifest(path) for path in folder.glob("epoch_*")}
    trainer = tiny_trainer()
    assert names(trainer) == ["epoch_1", "epoch_2"], "nothing moves before there is something to save"
    trainer.train(1)
    assert names(trainer) == ["epoch_1"]
    (moved,) = (folder / "previous").iterdir()
    assert {path.name: read_manifest(path) for path in moved.iterdir()} == before
    assert moved.name == before["epoch_1"]["run"] != read_manifest(folder / "epoch_1")["run"]
    assert str(moved) in caplog.text
    assert len(trainer.train(3)["train_losses"]) == 3, "it goes on"
    assert names(trainer) == ["epoch_1", "epoch_2", "epoch_3"]


@pytest.mark.parametrize("how", ["resume", "resume_from", "load_latest"])
def test_a_run_that_is_gone_on_with_stays_where_it_is(tiny_trainer: MakeTrainer, how: str) -> None:
    tiny_trainer().train(1)
    trainer = tiny_trainer()
    folder = trainer.checkpoint_manager.checkpoint_dir
    if how == "resume":
        trainer.resume()
        trainer.train(2)
    elif how == "resume_from":
        trainer.train(2, start_epoch=1, resume_from="epoch_1")
    else:  # weights alone, by hand: training begins anew
        trainer.checkpoint_manager.load_latest(trainer.model)
        trainer.train(2)
    assert names(trainer) == ["epoch_1", "epoch_2"]
    assert (folder / "previous").exists() == (how == "load_latest")
    runs = {read_manifest(folder / name)["run"] for name in names(trainer)}
    assert len(runs) == 1


def test_what_was_resumed_from_stays_through_a_restart(tiny_trainer: MakeTrainer) -> None:
    tiny_trainer(max_checkpoints=5).train(3)
    tiny_trainer(max_checkpoints=5).train(4, resume_from="epoch_1")
    trainer = tiny_trainer(max_checkpoints=1, schedule="constant")
    trainer.resume()
    trainer.train(8)
    assert {"epoch_1", "epoch_7", "epoch_8"} <= set(names(trainer))
    assert read_manifest(trainer.checkpoint_manager.checkpoint_dir / "epoch_8")["gone_back_to"] == [1]


# --- weights alone ----------------------------------------------------------------------------------------------------


def test_the_best_keep_weights_alone_and_caption_with_the_average_and_may_be_resumed_from(
    tiny_trainer: MakeTrainer, shapes_loader: Any, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = tiny_trainer(
        save_optimizer="latest", ema_decay=0.5, max_checkpoints=9, val_loader=shapes_loader(4, shuffle=False)
    )
    averages = []
    trainer._recorder.callbacks.append(
        lambda event: (
            averages.append({name: each.clone() for name, each in trainer._averaging.average.tensors.items()})
            if isinstance(event, CheckpointEvent)
            else None
        )
    )
    trainer.train(4)
    records = trainer.checkpoint_manager.list()
    assert [record.has_optimizer for record in records] == [False, False, True, True]
    assert [record.step for record in records] == [3, 6, 9, 12]
    captioner = Captioner.from_checkpoint(records[0].path, device="cpu", precision="fp32")
    for name, parameter in captioner.model.named_parameters():
        assert torch.equal(parameter, averages[0][name]), name
    resumed = tiny_trainer(save_optimizer="latest", ema_decay=0.5, max_checkpoints=9)
    resumed.train(2, resume_from="epoch_1")
    assert "epoch_1 has weights alone" in caplog.text
    assert resumed.state.step == 6
