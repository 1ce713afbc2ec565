"""`deterministic` holds for the time of a training, and two runs are the same bits."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.training import Trainer, TrainingOptions
from systems.pixel_llm.training.determinism import check_deterministic, deterministic_algorithms

MakeTrainer = Callable[..., Trainer]


def modes() -> tuple[bool, bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
    )


@pytest.fixture
def restored_modes() -> Any:
    before = modes()
    yield
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
    torch.backends.cudnn.benchmark = before[2]


@pytest.mark.parametrize("is_wanted", [True, False])
def test_the_mode_holds_while_training_only(tiny_trainer: MakeTrainer, is_wanted: bool) -> None:
    seen = set()
    before = modes()
    trainer = tiny_trainer(deterministic=is_wanted, callbacks=[lambda event: seen.add(modes()[0])])
    trainer.train(1)
    assert seen == {is_wanted}
    assert modes() == before


@pytest.mark.usefixtures("restored_modes")
def test_modes_of_the_program_come_back_whatever_they_were() -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = True

    def fail() -> None:
        with deterministic_algorithms(True):
            assert modes() == (True, False, False)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert modes() == (True, True, True)
    with deterministic_algorithms(False):
        assert modes() == (True, True, True)


def test_two_runs_are_the_same_bits(tiny_trainer: MakeTrainer) -> None:
    runs = []
    for folder in ("left", "right"):
        torch.rand(len(runs))  # the program's own generator stands elsewhere
        trainer = tiny_trainer(folder, deterministic=True)
        trainer.train(2)
        runs.append(trainer)
    left, right = (run.model.state_dict() for run in runs)
    assert all(torch.equal(value, right[name]) for name, value in left.items())
    assert runs[0].get_history() == runs[1].get_history()


@pytest.mark.parametrize(("value", "is_enough"), [(None, False), (":0:0", False), (":4096:8", True), (":16:8", True)])
def test_a_gpu_needs_a_workspace_and_a_processor_none(monkeypatch: Any, value: str | None, is_enough: bool) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    if value is not None:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", value)
    check_deterministic(torch.device("cpu"))
    if is_enough:
        check_deterministic(torch.device("cuda", 0))
    else:
        with pytest.raises(ConfigError, match=r"CUBLAS_WORKSPACE_CONFIG=:4096:8 .* before the program starts"):
            check_deterministic(torch.device("cuda", 0))


def test_it_is_yes_or_no() -> None:
    with pytest.raises(ConfigError, match="deterministic must be True or False, not 'yes'"):
        TrainingOptions(deterministic="yes")  # type: ignore[arg-type]
