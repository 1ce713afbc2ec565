"""Workers of a DataLoader that are killed, hang or raise: told in plain words, after what is learned is saved."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset

from systems.pixel_llm.data.dataset import ImageCaptionDataset
from systems.pixel_llm.data.shapes import ShapesDataset
from systems.pixel_llm.errors import LoaderError
from systems.pixel_llm.training import Trainer
from systems.pixel_llm.training.batches import EpochBatches
from systems.pixel_llm.training.events import Event, StepEvent
from systems.pixel_llm.training.interruption import DataWait
from systems.pixel_llm.training.worker_processes import sample_names

MakeTrainer = Callable[..., Trainer]


class Faulty(ShapesDataset):
    """Something happens in the worker that reads sample 8, the first of the third batch of four."""

    def __init__(self, fault: Callable[[], Any]) -> None:
        super().__init__(12, image_size=32)
        self.fault = fault

    def __getitem__(self, index: int) -> Any:
        if index == 8:
            self.fault()
        return super().__getitem__(index)


def kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def end_myself() -> None:
    os._exit(3)


def raise_an_error() -> None:
    raise ValueError("a broken sample")


class HangingPipe:
    """Reads from a pipe into which nobody writes."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path

    def __call__(self) -> bytes:
        return self.path.read_bytes()


@pytest.fixture
def trainer_of(tiny_trainer: MakeTrainer, shapes_loader: Any) -> Callable[..., Trainer]:
    """Call it with a fault and settings of the DataLoader."""

    def make(fault: Callable[[], Any], *, callbacks: Any = (), **settings: Any) -> Trainer:
        settings = {"num_workers": 2, "multiprocessing_context": "fork"} | settings
        loader = shapes_loader(dataset=Faulty(fault), shuffle=False, **settings)
        return tiny_trainer(train_loader=loader, callbacks=callbacks)

    return make


@pytest.fixture
def check_saved() -> Callable[..., None]:
    """Call it with a trainer and `step`: its newest checkpoint is of that step, and no worker of the test is left."""
    others = set(multiprocessing.active_children())

    def check(trainer: Trainer, *, step: int) -> None:
        latest = trainer.checkpoint_manager.latest()
        assert latest is not None
        assert latest.name == f"step_{step}"
        for process in set(multiprocessing.active_children()) - others:
            process.join(30)
            assert not process.is_alive()

    return check


@pytest.mark.parametrize("persistent", [False, True])
def test_a_killed_worker_is_named_with_advice(trainer_of: Any, check_saved: Any, persistent: bool) -> None:
    trainer = trainer_of(kill_myself, persistent_workers=persistent, prefetch_factor=1)
    told = r"Worker [01] of the 2 .* was killed by signal 9 \(SIGKILL\)\. .*memory runs out: choose fewer workers"
    with pytest.raises(LoaderError, match=told):
        trainer.train(1)
    check_saved(trainer, step=trainer.state.step)
    assert trainer.state.step <= 2


def test_one_that_ends_by_itself_is_named_with_its_status(trainer_of: Any, check_saved: Any) -> None:
    trainer = trainer_of(end_myself, prefetch_factor=1)
    with pytest.raises(LoaderError, match="ended by itself, with exit status 3"):
        trainer.train(1)


def test_an_error_in_a_worker_comes_out_as_it_is_after_saving(trainer_of: Any, check_saved: Any) -> None:
    trainer = trainer_of(raise_an_error)
    with pytest.raises(ValueError, match="a broken sample"):
        trainer.train(1)
    check_saved(trainer, step=2)


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_that_hang_are_told_with_what_is_waited_for(
    trainer_of: Any, check_saved: Any, tmp_path: Path, persistent: bool
) -> None:
    trainer = trainer_of(HangingPipe(tmp_path / "pipe"), persistent_workers=persistent, timeout=1)
    told = r"None of the 2 workers .* for 1 seconds: they hang\. The batch .* holds sample 8, sample 9, sample 10 and 1"
    with pytest.raises(LoaderError, match=told):
        trainer.train(1)
    check_saved(trainer, step=2)


def test_a_loader_without_a_timeout_gets_one(shapes_loader: Any) -> None:
    def timeout_of(loader: DataLoader[Any]) -> float:
        rebuilt = EpochBatches(loader, seed=0)._rebuilt
        assert rebuilt is not None
        return rebuilt.timeout

    assert timeout_of(shapes_loader(num_workers=2)) == 300
    assert timeout_of(shapes_loader(num_workers=2, timeout=7)) == 7
    assert timeout_of(shapes_loader()) == 0, "the main process cannot watch itself"


class SignalledWait(DataWait):
    """A real Ctrl-C comes when the wait for the third batch has begun."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__()
        self.trainer, self.is_done = trainer, False

    def __enter__(self) -> "SignalledWait":
        super().__enter__()
        if self.trainer.state.step == 2 and not self.is_done:
            self.is_done = True
            threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()
        return self


@pytest.mark.parametrize("persistent", [False, True])
def test_ctrl_c_does_not_wait_for_workers_that_hang_and_the_trainer_can_go_on(
    trainer_of: Any, check_saved: Any, tiny_trainer: MakeTrainer, tmp_path: Path, persistent: bool
) -> None:
    class HangingOnce(HangingPipe):
        def __call__(self) -> bytes:
            seen = self.path.with_name("seen")
            if seen.exists():
                return b""
            seen.touch()
            return super().__call__()

    trainer = trainer_of(HangingOnce(tmp_path / "pipe"), persistent_workers=persistent)
    trainer._fetching.wait = SignalledWait(trainer)
    with pytest.raises(KeyboardInterrupt):
        trainer.train(1)
    check_saved(trainer, step=2)
    trainer.train(1)
    whole = tiny_trainer("whole", train_loader=trainer.train_loader)
    whole.train(1)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, trainer.model.state_dict()[name]), name


def test_a_worker_that_dies_during_a_step_does_not_break_that_step(trainer_of: Any, check_saved: Any) -> None:
    """Torch raises wherever the main thread is: the step would be half taken, and saved so."""
    waits: list[int] = []
    others = set(multiprocessing.active_children())

    def kill_a_worker(event: Event) -> None:
        if isinstance(event, StepEvent) and not waits:
            worker = (set(multiprocessing.active_children()) - others).pop()
            os.kill(worker.pid or 0, signal.SIGKILL)
            os.waitid(os.P_PID, worker.pid or 0, os.WEXITED | os.WNOWAIT)  # the word of its death has come by then
            waits.append(event.step)

    trainer = trainer_of(lambda: None, callbacks=[kill_a_worker])
    with pytest.raises(LoaderError, match="was killed by signal 9"):
        trainer.train(1)
    assert waits == [1], "the callback came to its end"
    check_saved(trainer, step=1)


def test_after_a_run_torch_tells_of_deaths_as_ever(trainer_of: Any) -> None:
    trainer_of(lambda: None).train(1)
    assert getattr(signal.getsignal(signal.SIGCHLD), "__module__", "").startswith("torch.")


def test_samples_are_called_by_their_pictures_where_these_are_known(tiny_picture_folder: Any) -> None:
    folder = tiny_picture_folder(count=3)
    pictures = ImageCaptionDataset(folder, image_size=(32, 32))
    both = ConcatDataset([ShapesDataset(4, image_size=32), Subset(pictures, [2, 0])])
    assert sample_names(both, [1, 4, 5]) == ["sample 1", pictures.samples.names[2], pictures.samples.names[0]]
