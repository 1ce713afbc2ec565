"""Frozen parts do not move, cost no backward pass, and may be others after a resume."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.models import PixelLLM
from systems.pixel_llm.training import Trainer
from systems.pixel_llm.training.freezing import freeze, hold_still

MakeTrainer = Callable[..., Trainer]


def weights(model: nn.Module, part: str = "") -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters() if name.startswith(part)}


def num_saved_numbers(model: PixelLLM, trainer: Trainer) -> int:
    """How many numbers a forward pass of the encoder keeps for its backward pass, parameters aside."""
    own = {parameter.data_ptr() for parameter in model.parameters()}
    kept = []

    def note(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            kept.append(tensor.numel())
        return tensor

    batch = next(iter(trainer.train_loader))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        features = model.encode_images(batch["images"])
    assert features.requires_grad == bool(kept)
    return sum(kept)


@pytest.mark.parametrize("own_optimizer", [False, True])
def test_a_frozen_part_is_the_same_bits_after_training_and_the_rest_is_not(
    tiny_trainer: MakeTrainer, tiny_model: Any, own_optimizer: bool
) -> None:
    model = tiny_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.5) if own_optimizer else None
    trainer = tiny_trainer(model=model, optimizer=optimizer, freeze="encoder,decoder.position_embedding")
    before = weights(model)
    trainer.train(2)
    frozen = {name for name in before if name.startswith(("encoder.", "decoder.position_embedding"))}
    for name, value in weights(model).items():
        is_same = value.shape == before[name].shape and torch.equal(value, before[name])
        assert is_same == (name in frozen), name
    assert all(model.get_parameter(name).grad is None for name in frozen)
    if not own_optimizer:
        in_optimizer = {id(each) for group in trainer.optimizer.param_groups for each in group["params"]}
        assert in_optimizer == {id(value) for name, value in model.named_parameters() if name not in frozen}


def test_a_frozen_encoder_has_no_backward_pass(tiny_trainer: MakeTrainer, tiny_model: Any) -> None:
    free, frozen, half = (tiny_model() for _ in range(3))
    as_usual = num_saved_numbers(free, tiny_trainer(model=free))
    assert as_usual > 0
    assert num_saved_numbers(frozen, tiny_trainer(model=frozen, freeze="encoder")) == 0
    stem_frozen = tiny_trainer(model=half, freeze="encoder.stem,encoder.position_embedding")
    assert 0 < num_saved_numbers(half, stem_frozen) < as_usual


def test_what_is_frozen_as_a_whole_has_no_dropout_at_any_step(
    tiny_trainer: MakeTrainer, tiny_model: Any, shapes_loader: Any
) -> None:
    model = tiny_model(dropout=0.5)
    modes: list[tuple[bool, bool]] = []
    model.encoder.register_forward_pre_hook(
        lambda module, _: modes.append((module.dropout.training, model.decoder.training))
        if torch.is_grad_enabled() else None
    )  # fmt: skip
    tiny_trainer(model=model, freeze="encoder", val_loader=shapes_loader(4, shuffle=False), max_steps=5).train()
    assert modes == [(False, True)] * 5
    kept = tiny_model(dropout=0.5)
    whole = freeze(kept, ["encoder.blocks", "encoder.norm.bias"])
    kept.train()
    hold_still(whole)
    assert not kept.encoder.blocks[0].dropout.training
    assert kept.encoder.dropout.training
    assert kept.encoder.norm.training


def test_nothing_left_to_train_is_refused_and_freezes_nothing(tiny_trainer: MakeTrainer, tiny_model: Any) -> None:
    for patterns in ("encoder,decoder", "*", ["encoder", "decoder.*"]):
        model = tiny_model()
        with pytest.raises(ConfigError, match=r"freeze='.*' leaves nothing to train\. Name fewer parts"):
            tiny_trainer(model=model, freeze=patterns)
        assert all(parameter.requires_grad for parameter in model.parameters())


def test_an_unknown_part_is_answered_with_those_there_are(tiny_trainer: MakeTrainer) -> None:
    with pytest.raises(ConfigError, match=r"freeze: 'encodr' takes .* Did you mean 'encoder'\? The parts: encoder, "):
        tiny_trainer(freeze="decoder.norm,encodr")


def test_a_wrapped_model_is_named_as_the_one_inside(tiny_trainer: MakeTrainer, tiny_model: Any) -> None:
    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, *inputs: Any, **settings: Any) -> Any:
            return self.module(*inputs, **settings)

    model = tiny_model()
    tiny_trainer(model=Wrapper(model), freeze="encoder")
    assert not any(parameter.requires_grad for parameter in model.encoder.parameters())


@pytest.mark.parametrize(("first", "then"), [("encoder", None), (None, "encoder"), ("encoder", "decoder.norm")])
def test_a_resume_with_another_freeze_keeps_the_state_of_what_goes_on(
    tiny_trainer: MakeTrainer, tiny_model: Any, caplog: Any, first: str | None, then: str | None
) -> None:
    before = tiny_trainer(freeze=first)
    before.train(1)
    names = {id(parameter): name for name, parameter in before.model.named_parameters()}
    moments = {names[id(parameter)]: state["exp_avg"] for parameter, state in before.optimizer.state.items()}
    trainer = tiny_trainer(freeze=then)
    with caplog.at_level("INFO"):
        trainer.resume()
    assert ("were not trained before" in caplog.text) == (first == "encoder")
    for name, parameter in trainer.model.named_parameters():
        state = trainer.optimizer.state.get(parameter, {})
        goes_on = parameter.requires_grad and name in moments
        assert bool(state) == goes_on, name
        if goes_on:
            assert torch.equal(state["exp_avg"], moments[name]), name
    frozen = weights(trainer.model, then or "nothing")
    history = trainer.train(2)
    assert len(history["train_losses"]) == 2
    assert all(torch.equal(value, frozen[name]) for name, value in weights(trainer.model, then or "nothing").items())
    assert all(state["step"] > 0 for state in trainer.optimizer.state.values())


def test_a_resume_with_the_same_freeze_ends_in_the_same_bits(tiny_trainer: MakeTrainer) -> None:
    settings = {"freeze": "encoder.stem", "learning_rates": "decoder=5e-4,decoder.norm=1e-2", "max_steps": 6}
    unbroken = tiny_trainer("unbroken", **settings)
    unbroken.train()
    broken = tiny_trainer("broken", **settings, save_every_steps=2)
    broken.train()
    resumed = tiny_trainer("broken", **settings)
    resumed.train(resume_from="step_4")
    for name, value in weights(unbroken.model).items():
        assert torch.equal(value, resumed.model.get_parameter(name)), name
