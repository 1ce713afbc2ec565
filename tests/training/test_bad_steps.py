"""Losses and gradients that are no numbers: the step is passed over and written down, and too many end the run."""

import json

import pytest
import torch
from torch.nn import functional as F

from systems.pixel_llm.errors import TrainingError


class NanAt:
    """A loss that is no number at some calls, counted from 0."""

    def __init__(self, *calls, value=float("nan")):
        self.calls, self.value, self.count = calls, value, 0

    def __call__(self, predictions, targets):
        loss = F.cross_entropy(predictions, targets)
        self.count += 1
        return loss * self.value if self.count - 1 in self.calls else loss


def weights(trainer):
    return torch.cat([parameter.detach().flatten().clone() for parameter in trainer.model.parameters()])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_bad_step_changes_nothing_and_is_written_down(tiny_trainer, caplog, value):
    trainer = tiny_trainer(loss_fn=NanAt(1, value=value))
    batches = list(trainer.train_loader)
    trainer.train_step(batches[0])
    before = weights(trainer)
    state = {key: each.clone() for key, each in trainer.optimizer.state_dict()["state"][0].items()}
    trainer.train_step(batches[1])
    assert torch.equal(weights(trainer), before)
    for key, each in trainer.optimizer.state_dict()["state"][0].items():
        assert torch.equal(each, state[key])
    assert (trainer.state.step, trainer.state.bad_steps_in_a_row) == (2, 1)
    trainer.train_step(batches[2])
    assert not torch.equal(weights(trainer), before)
    assert trainer.state.bad_steps_in_a_row == 0
    path = trainer.checkpoint_manager.checkpoint_dir / "bad_steps.jsonl"
    [line] = path.read_text().splitlines()
    record = json.loads(line)
    assert (record["step"], record["epoch"], record["captions"]) == (1, 0, batches[1]["captions"])
    assert record["loss"] == str(value) or record["loss"] == "nan"
    assert str(path) in caplog.text


def test_a_gradient_that_is_no_number_is_as_bad(tiny_trainer):
    class Poisoned(torch.autograd.Function):
        @staticmethod
        def forward(context, loss):
            return loss.clone()

        @staticmethod
        def backward(context, gradient):
            return gradient * float("nan")

    trainer = tiny_trainer(loss_fn=lambda predictions, targets: Poisoned.apply(F.cross_entropy(predictions, targets)))
    before = None
    batch = next(iter(trainer.train_loader))
    trainer._prepare()
    before = weights(trainer)
    assert bool(trainer.train_step(batch).isfinite())
    assert torch.equal(weights(trainer), before)
    assert trainer.state.bad_steps_in_a_row == 1


def test_bad_steps_are_no_part_of_the_losses(tiny_trainer):
    clean = tiny_trainer("clean", schedule="constant", learning_rate=1e-12, warmup_fraction=0.0).train(1)
    trainer = tiny_trainer("bad", schedule="constant", learning_rate=1e-12, warmup_fraction=0.0, loss_fn=NanAt(1))
    bad = trainer.train(1)
    assert bad["train_losses"][0] == pytest.approx(clean["train_losses"][0], rel=0.2)
    assert trainer.checkpoint_manager.best().metric == bad["train_losses"][0]


def test_too_many_in_a_row_end_the_run_at_the_last_good_checkpoint(tiny_trainer):
    trainer = tiny_trainer(loss_fn=NanAt(*range(4, 100)), max_bad_steps=3)
    with pytest.raises(
        TrainingError, match=r"3 times in a row, the last time at step 6: .*last good checkpoint is .*epoch_2"
    ):
        trainer.train(5)
    assert [record.name for record in trainer.checkpoint_manager.list()] == ["epoch_1", "epoch_2"]
    trainer = tiny_trainer("none", loss_fn=NanAt(*range(100)), max_bad_steps=2)
    with pytest.raises(TrainingError, match="No checkpoint was saved yet"):
        trainer.train(1)


def test_single_ones_never_end_it(tiny_trainer):
    trainer = tiny_trainer(loss_fn=NanAt(*range(0, 15, 2)), max_bad_steps=2)
    trainer.train(5)
    assert trainer.state.step == 15


def test_an_epoch_of_bad_steps_alone_is_told_as_such(tiny_trainer):
    trainer = tiny_trainer(loss_fn=NanAt(*range(3)))
    with pytest.raises(TrainingError, match="Every loss or gradient of epoch 1 was no number"):
        trainer.train(2)
