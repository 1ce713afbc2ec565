"""The average of the weights: what it is, that it is validated and captions, and that a resume goes on with it."""

import pytest
import torch

from systems.pixel_llm.errors import CheckpointError, ConfigError
from systems.pixel_llm.inference import Captioner
from systems.pixel_llm.training.weight_average import WeightAverage


def test_it_is_the_exponential_average(tiny_model):
    model = tiny_model()
    average = WeightAverage(model, decay=0.9)
    expected = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for number in range(1, 60):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        average.update()
        decay = min(0.9, (1 + number) / (10 + number))
        for name, parameter in model.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * parameter.detach()
    assert average.num_updates == 59
    for name, tensor in average.tensors.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-5)


def test_in_use_it_is_the_model_and_afterwards_not(tiny_model):
    model = tiny_model()
    average = WeightAverage(model, decay=0.5)
    parameters = list(model.parameters())
    before = [parameter.detach().clone() for parameter in parameters]
    for tensor in average.tensors.values():
        tensor.zero_()

    def fail_in_use():
        with average.in_use():
            assert all(bool((parameter == 0).all()) for parameter in model.parameters())
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_in_use()
    assert all(one is other for one, other in zip(model.parameters(), parameters, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), before, strict=True))


@pytest.fixture
def trained(tiny_trainer, shapes_loader):
    def make(folder="run", **settings):
        return tiny_trainer(folder, val_loader=shapes_loader(4, shuffle=False), **{"ema_decay": 0.8} | settings)

    return make


def test_it_is_what_is_validated_and_what_captions(trained, shapes_loader):
    trainer = trained()
    history = trainer.train(2)
    folder = trainer.checkpoint_manager.checkpoint_dir
    model = Captioner.from_checkpoint(folder / "epoch_2", precision="fp32").model
    saved = dict(model.named_parameters())
    assert all(torch.equal(saved[name], tensor) for name, tensor in trainer._averaging.average.tensors.items())
    assert not all(torch.equal(saved[name], each) for name, each in trainer.model.named_parameters())
    without = trained("other", model=model, ema_decay=None)
    assert without.validate() == history["val_losses"][-1]


def test_a_resumed_run_goes_on_to_the_last_bit(trained):
    settings = {"schedule": "constant", "warmup_fraction": 0.0}
    whole = trained("whole", **settings)
    expected = whole.train(3)
    trained("broken", **settings).train(1)
    resumed = trained("broken", **settings)
    assert resumed.train(3, resume_from="epoch_1") == expected
    assert resumed._averaging.average.num_updates == whole._averaging.average.num_updates == 9
    for name, tensor in whole._averaging.average.tensors.items():
        assert torch.equal(resumed._averaging.average.tensors[name], tensor)


def test_a_run_may_begin_or_end_averaging_at_a_resume(trained, caplog):
    trained().train(1)
    trained(ema_decay=None).resume("epoch_1")
    assert "give ema_decay to go on with them" in caplog.text
    trained("plain", ema_decay=None).train(1)
    begun = trained("plain")
    begun.resume("epoch_1")
    assert begun._averaging.average.num_updates == 0
    assert all(
        torch.equal(begun._averaging.average.tensors[name], each) for name, each in begun.model.named_parameters()
    )


def test_an_average_of_other_shapes_is_refused(tiny_model):
    average = WeightAverage(tiny_model(), decay=0.5)
    before = {name: tensor.clone() for name, tensor in average.tensors.items()}
    name = next(iter(before))
    with pytest.raises(CheckpointError, match=f"{name} has shape"):
        average.load({**before, name: torch.zeros(1)}, num_updates=3)
    with pytest.raises(CheckpointError, match="is missing"):
        average.load({}, num_updates=3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in average.tensors.items())


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5, float("nan")])
def test_a_decay_out_of_range_is_named(trained, decay):
    with pytest.raises(ConfigError, match=r"ema_decay must be a (finite )?number above 0 and below 1"):
        trained(ema_decay=decay)
