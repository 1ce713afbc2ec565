"""Optimizer and schedule state through the tree and the tensors and back, exactly."""

import json
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from systems.pixel_llm.errors import CheckpointError
from systems.pixel_llm.training.state_codec import decode_state, encode_state


def through_json(value):
    tree, tensors = encode_state(value)
    return decode_state(json.loads(json.dumps(tree, allow_nan=False)), tensors)


def is_same(one, other):
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        # the order of keys and their types are part of the state
        return [*map(repr, one)] == [*map(repr, other)] and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    return repr(one) == repr(other)  # tells 0.0 from -0.0, and nan is nan


numbers = st.integers() | st.floats(allow_nan=True, allow_infinity=True)
leaves = st.none() | st.booleans() | numbers | st.text(max_size=5)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.just("$tuple"), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(values)
def test_any_nested_value_comes_back_with_its_types(value):
    assert is_same(through_json(value), value)


def test_tensors_come_back_in_place_and_under_different_names_where_paths_collide():
    value = {"a/b": torch.tensor(1), "a": {"b": torch.tensor([2.0])}, 7: (torch.tensor(True), [torch.zeros(0, 3)])}
    tree, tensors = encode_state(value)
    assert len(tensors) == 4
    assert is_same(decode_state(tree, tensors), value)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True),
        lambda p: torch.optim.AdamW(p, lr=torch.tensor(1e-2), amsgrad=True),
        lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9),
        lambda p: torch.optim.RMSprop(p, lr=1e-2, centered=True),
        lambda p: torch.optim.Adagrad(p, lr=1e-2),
        lambda p: torch.optim.Adadelta(p),
        lambda p: torch.optim.NAdam(p),
        lambda p: torch.optim.Adafactor(p),
        lambda p: torch.optim.LBFGS(p),
    ],
)
def test_optimizer_states_come_back(make):
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = make(list(model.parameters()))

    def closure():
        optimizer.zero_grad()
        loss = model(torch.ones(4, 3)).square().mean()
        loss.backward()
        return loss

    for _ in range(2):
        optimizer.step(closure)
    assert is_same(through_json(optimizer.state_dict()), optimizer.state_dict())


def test_schedule_states_come_back():
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    first = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[2, 2, 5])
    second = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [first, second], milestones=[4])
    state = through_json(schedule.state_dict())
    assert is_same(state, schedule.state_dict())
    assert type(state["_schedulers"][0]["milestones"]) is Counter
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    assert through_json(plateau.state_dict())["best"] == math.inf


def test_numbers_of_numpy_become_plain_ones():
    numpy = pytest.importorskip("numpy")
    back = through_json({"lr": numpy.float64(0.1), "rate": numpy.float32(0.5), "step": numpy.int64(3)})
    assert is_same(back, {"lr": 0.1, "rate": 0.5, "step": 3})


@pytest.mark.parametrize("stranger", [object(), {1, 2}, b"bytes", 1j, torch.float32, {(1, 2): 3}, {True: 1}])
def test_what_cannot_be_saved_is_refused_with_its_place(stranger):
    with pytest.raises(CheckpointError, match=r"state/groups/1"):
        encode_state({"groups": [0, stranger]})


@pytest.mark.parametrize(
    "tree",
    [
        {"$tensor": "absent"},
        {"$float": "1e5"},
        {"$tuple": 3},
        {"$dict": [[1]]},
        {"$class": "os.system"},
        {"$a": 1, "b": 2},
    ],
)
def test_a_tree_that_was_not_written_here_is_refused(tree):
    with pytest.raises(CheckpointError, match="cannot read"):
        decode_state({"x": [tree]}, {})
