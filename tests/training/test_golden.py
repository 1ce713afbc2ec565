"""The first losses of a tiny model on the shapes: a change of the mathematics, however small it looks, shows here.

Where a change is meant, run the test, look at the new numbers, and write them down with the reason in the commit.
"""

from typing import Any

import pytest
import torch

GOLDEN_LOSSES = [
    6.450323, 6.196799, 5.858321, 5.497303, 5.160459, 5.151560, 5.024508, 4.897673, 4.658240, 4.524541,
    4.483487, 4.351012, 4.401409, 4.356849, 4.251172, 4.098616, 4.516307, 4.264015, 4.131967, 4.289797,
]  # fmt: skip


def first_losses(tiny_trainer: Any, tiny_model: Any, shapes_loader: Any, folder: str) -> list[float]:
    losses: list[float] = []

    def note(predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        loss = torch.nn.functional.cross_entropy(predictions, targets)
        losses.append(loss.item())
        return loss

    trainer = tiny_trainer(
        folder, model=tiny_model(seed=0), train_loader=shapes_loader(32, batch_size=8), loss_fn=note, max_steps=20,
        precision="fp32", learning_rate=3e-3, seed=0,
    )  # fmt: skip
    trainer.train()
    return losses


def test_the_first_twenty_losses_are_those_written_down(tiny_trainer: Any, tiny_model: Any, shapes_loader: Any) -> None:
    losses = first_losses(tiny_trainer, tiny_model, shapes_loader, "first")
    torch.manual_seed(99)  # what the program drew before does not matter
    assert first_losses(tiny_trainer, tiny_model, shapes_loader, "second") == losses, "bit-equal in one process"
    assert losses == pytest.approx(GOLDEN_LOSSES, rel=1e-4)
