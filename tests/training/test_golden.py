"""The first losses of a tiny model on the shapes: a change of the mathematics, however small it looks, shows here.

Where a change is meant, run the test, look at the new numbers, and write them down with the reason in the commit.
"""

from typing import Any

import pytest
import torch

GOLDEN_LOSSES = [
    5.983759, 5.914036, 5.828556, 5.711300, 5.581479, 5.495319, 5.379495, 5.277695, 5.177734, 5.083898,
    5.018546, 4.953514, 4.898645, 4.857581, 4.827941, 4.776994, 4.808095, 4.766148, 4.757424, 4.772955,
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
