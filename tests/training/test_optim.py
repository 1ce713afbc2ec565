"""The default optimizer's groups, rates of parts, and state that is cut with its parameter."""

from typing import Any

import pytest
import torch
from torch import nn

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.training.optim import (
    cut_optimizer_state,
    make_optimizer,
    parameter_groups,
    scale_learning_rate,
)


def test_matrices_decay_and_nothing_else(tiny_model: Any) -> None:
    model = tiny_model()
    decayed, others = parameter_groups(model, weight_decay=0.05)
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.05, 0.0)
    assert {parameter.dim() >= 2 for parameter in decayed["params"]} == {True}
    assert {parameter.dim() >= 2 for parameter in others["params"]} == {False}
    assert {id(each) for group in (decayed, others) for each in group["params"]} == set(map(id, model.parameters()))
    assert len(decayed["params"]) + len(others["params"]) == len(list(model.parameters()))


def test_frozen_parameters_are_left_out() -> None:
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    decayed, others = make_optimizer(model, learning_rate=0.1, weight_decay=0.0).param_groups
    assert (len(decayed["params"]), len(others["params"])) == (1, 0)


def test_each_group_keeps_its_own_peak() -> None:
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": parameters[:1], "lr": 0.1}, {"params": parameters[1:], "lr": 0.4}])
    for factor in (0.5, 0.0, 0.25):
        scale_learning_rate(optimizer, factor)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1 * factor, 0.4 * factor])


@pytest.mark.parametrize(
    "make",
    [
        lambda parameters: torch.optim.AdamW(parameters, lr=0.1, fused=True, amsgrad=True),
        lambda parameters: torch.optim.Adam(parameters, lr=0.1),
        lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
        lambda parameters: torch.optim.Adagrad(parameters, lr=0.1),
    ],
)
def test_a_cut_parameter_goes_on_like_one_that_was_never_longer(make: Any) -> None:
    """Elementwise optimizers: the rows that stay must move exactly as if the others had never been there."""
    long, short = nn.Parameter(torch.ones(6, 3)), nn.Parameter(torch.ones(4, 3))
    gradient = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    optimizers = make([long]), make([short])

    def step() -> None:
        long.grad, short.grad = gradient[: len(long)].clone(), gradient[:4].clone()
        for optimizer in optimizers:
            optimizer.step()

    step()
    step()
    long.grad = None
    long.data = long.data[:4].clone()
    cut_optimizer_state(optimizers[0], long, rows_before=6)
    shapes = {tuple(value.shape) for value in optimizers[0].state[long].values() if isinstance(value, torch.Tensor)}
    assert (6, 3) not in shapes
    step()
    assert torch.equal(long, short)


def test_a_parameter_without_state_is_left_alone() -> None:
    parameter = nn.Parameter(torch.zeros(2, 2))
    optimizer = torch.optim.Adam([parameter])
    cut_optimizer_state(optimizer, parameter, rows_before=4)
    assert len(optimizer.state) == 0


# --- rates of parts ---------------------------------------------------------------------------------------------------


def rates_by_name(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(each)]: group["lr"] for group in optimizer.param_groups for each in group["params"]}


def test_parts_have_rates_of_their_own_and_the_last_pattern_counts(tiny_model: Any) -> None:
    model = tiny_model()
    rates = {"encoder": 1e-4, "decoder.token_embedding": 5e-4, "*coder.norm": 2e-3}
    optimizer = make_optimizer(model, learning_rate=1e-3, weight_decay=0.05, learning_rates=rates)
    found = rates_by_name(model, optimizer)
    assert found.keys() == dict(model.named_parameters()).keys()
    for name, rate in found.items():
        if name.startswith(("encoder.norm", "decoder.norm")):
            assert rate == 2e-3
        elif name.startswith("encoder"):
            assert rate == 1e-4
        else:
            assert rate == (5e-4 if name.startswith("decoder.token_embedding") else 1e-3), name
    for group in optimizer.param_groups:
        assert {group["weight_decay"]} == {0.05 if each.dim() >= 2 else 0.0 for each in group["params"]}
    assert [group["part"] for group in optimizer.param_groups] == [
        "", "", "encoder", "encoder", "decoder.token_embedding", "*coder.norm"
    ]  # fmt: skip


def test_all_parts_with_rates_leave_the_rest_empty_and_training_works(tiny_model: Any) -> None:
    model = tiny_model()
    optimizer = make_optimizer(model, learning_rate=1.0, weight_decay=0.0, learning_rates={"*": 1e-4})
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter, before[name] - 1e-4, atol=1e-6), name


def test_a_part_that_is_not_there_or_frozen_is_refused(tiny_model: Any) -> None:
    model = tiny_model()
    with pytest.raises(ConfigError, match=r"learning_rates: 'vision' takes no parameter .* encoder\.stem"):
        make_optimizer(model, learning_rate=0.1, weight_decay=0.0, learning_rates={"vision": 0.1})
    model.encoder.requires_grad_(False)
    with pytest.raises(ConfigError, match=r"learning_rates: all that 'encoder\.stem' takes is frozen"):
        make_optimizer(model, learning_rate=0.1, weight_decay=0.0, learning_rates={"encoder.stem": 0.1})
