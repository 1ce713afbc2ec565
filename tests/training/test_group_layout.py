"""The saved state of an optimizer finds its parameters by name where groups were cut anew, and only there."""

from typing import Any

import pytest
import torch

from systems.pixel_llm.errors import CheckpointError
from systems.pixel_llm.folder_reader import open_folder
from systems.pixel_llm.training import CheckpointManager
from systems.pixel_llm.training.checkpoint_contents import prepare_optimizer, read_training_state
from systems.pixel_llm.training.optim import make_optimizer


def stepped(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Give each trained parameter a state of its own, and return one of its tensors by name."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()
    return moments(model, optimizer)


def moments(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        name: optimizer.state[parameter]["exp_avg"]
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
    }


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({}, {"encoder": 1e-4}),
        ({"encoder": 1e-4}, {}),
        ({"encoder": 1e-4, "decoder": 1e-3}, {"decoder": 1e-3, "encoder": 1e-4}),
        ({"encoder": 1e-4}, {"*.norm": 1e-4, "decoder.token_embedding": 2e-4}),
    ],
)
def test_rates_of_other_parts_leave_every_parameter_its_state(
    tmp_path: Any, tiny_model: Any, first: dict[str, float], then: dict[str, float]
) -> None:
    manager = CheckpointManager(tmp_path)
    model = tiny_model()
    optimizer = make_optimizer(model, learning_rate=0.01, weight_decay=0.1, learning_rates=first)
    saved = stepped(model, optimizer)
    manager.save("one", model=model, optimizer=optimizer)
    other = tiny_model()
    live = make_optimizer(other, learning_rate=0.02, weight_decay=0.3, learning_rates=then)
    wanted = [{key: value for key, value in group.items() if key != "params"} for group in live.param_groups]
    manager.load("one", model=other, optimizer=live)
    found = moments(other, live)
    assert found.keys() == saved.keys()
    assert all(torch.equal(value, saved[name]) for name, value in found.items())
    settings = [{key: value for key, value in group.items() if key != "params"} for group in live.param_groups]
    assert settings == wanted, "the settings are those of the live groups"
    stepped(other, live)


def test_the_same_layout_takes_the_saved_settings(tmp_path: Any, tiny_model: Any) -> None:
    manager = CheckpointManager(tmp_path)
    model = tiny_model()
    manager.save("one", model=model, optimizer=make_optimizer(model, learning_rate=0.01, weight_decay=0.1))
    live = make_optimizer(model, learning_rate=0.02, weight_decay=0.3)
    manager.load("one", model=model, optimizer=live)
    assert [(group["lr"], group["weight_decay"]) for group in live.param_groups] == [(0.01, 0.1), (0.01, 0.0)]


def test_groups_without_names_are_compared_as_before(tmp_path: Any, tiny_model: Any) -> None:
    manager = CheckpointManager(tmp_path)
    model = tiny_model()
    named = make_optimizer(model, learning_rate=0.01, weight_decay=0.1)
    plain = torch.optim.AdamW(model.parameters(), lr=0.01)
    for number, (saved, live) in enumerate(((named, plain), (plain, named))):
        manager.save(f"c{number}", model=model, optimizer=saved)
        with pytest.raises(CheckpointError, match=r"its groups have \[.*\] parameters, and this optimizer's have \["):
            manager.load(f"c{number}", model=model, optimizer=live)


def test_a_shape_that_does_not_fit_is_still_found(tmp_path: Any, tiny_model: Any) -> None:
    manager = CheckpointManager(tmp_path)
    layer = torch.nn.ModuleDict({"a": torch.nn.Linear(3, 2), "b": torch.nn.Linear(2, 2)})
    optimizer = make_optimizer(layer, learning_rate=0.01, weight_decay=0.1)
    stepped(layer, optimizer)
    manager.save("one", model=layer, optimizer=optimizer)
    path = manager.checkpoint_dir / "one"
    wider = torch.nn.ModuleDict({"a": torch.nn.Linear(4, 2), "b": torch.nn.Linear(2, 2)})
    live = make_optimizer(wider, learning_rate=0.01, weight_decay=0.1, learning_rates={"a": 0.1})
    reader = open_folder(path)
    with pytest.raises(CheckpointError, match=r"is a\.weight \[2, 3\] there and a\.weight \[2, 4\] here"):
        prepare_optimizer(live, wider, reader, read_training_state(reader)[1])
