"""fp16: the loss is scaled, an overflow makes the scale smaller without a step, and a resume goes on with the scale."""

import torch
from torch.nn import functional as F


def test_a_run_in_fp16_learns_and_resumes_with_its_scale(tiny_trainer):
    settings = {"precision": "fp16", "schedule": "constant", "warmup_fraction": 0.0}
    whole = tiny_trainer("whole", **settings)
    expected = whole.train(3)
    assert expected["train_losses"][-1] < expected["train_losses"][0]
    tiny_trainer("broken", **settings).train(1)
    resumed = tiny_trainer("broken", **settings)
    assert resumed.train(3, resume_from="epoch_1") == expected
    assert resumed._stepping.scaler.state_dict() == whole._stepping.scaler.state_dict()


def test_an_overflow_halves_the_scale_and_is_no_bad_step(tiny_trainer):
    class Overflow(torch.autograd.Function):
        @staticmethod
        def forward(context, loss):
            return loss.clone()

        @staticmethod
        def backward(context, gradient):
            return gradient * float("inf")

    trainer = tiny_trainer(
        precision="fp16", loss_fn=lambda predictions, targets: Overflow.apply(F.cross_entropy(predictions, targets))
    )
    trainer._prepare()
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    scale = trainer._stepping.scaler.get_scale()
    trainer.train_step(next(iter(trainer.train_loader)))
    assert trainer._stepping.scaler.get_scale() == scale / 2
    assert trainer.state.bad_steps_in_a_row == 0
    assert all(torch.equal(one, other) for one, other in zip(before, trainer.model.parameters(), strict=True))


def test_only_fp16_scales(tiny_trainer):
    assert tiny_trainer(precision="bf16")._stepping.scaler is None
