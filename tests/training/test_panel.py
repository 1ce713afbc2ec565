"""The panel: captioned beside each validation by the weights that are validated, and told to all who listen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from systems.pixel_llm.models import PixelLLM
from systems.pixel_llm.training import Trainer
from systems.pixel_llm.training.events import Event, PanelEvent, ValidationEvent
from systems.pixel_llm.training.panel import PanelCaption

MakeTrainer = Callable[..., Trainer]


class NotingPanel:
    """Says the same each time, and notes a weight of the model it was shown."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def __call__(self, model: PixelLLM) -> list[PanelCaption]:
        self.seen.append(model.decoder.norm.weight.detach().clone())
        pixels = np.zeros((2, 2, 3), np.uint8)
        return [PanelCaption(image="/a.jpg", caption="a square", references=("red",), pixels=pixels)]


def test_it_is_told_after_its_validation(tiny_trainer: MakeTrainer, shapes_loader: Any) -> None:
    events: list[Event] = []
    panel = NotingPanel()
    tiny_trainer(val_loader=shapes_loader(4, shuffle=False), panel=panel, callbacks=[events.append]).train(2)
    told = [event for event in events if isinstance(event, PanelEvent | ValidationEvent)]
    assert [type(event) for event in told] == [ValidationEvent, PanelEvent] * 2
    assert [event.step for event in told] == [3, 3, 6, 6]
    assert [each.caption for each in told[1].captions] == ["a square"]


def test_averaged_weights_say_it(tiny_trainer: MakeTrainer, shapes_loader: Any) -> None:
    panel = NotingPanel()
    trainer = tiny_trainer(val_loader=shapes_loader(4, shuffle=False), panel=panel, ema_decay=0.9)
    trainer.train(1)
    averages = trainer._averaging.average.tensors
    assert torch.equal(panel.seen[0], averages["decoder.norm.weight"])
    assert not torch.equal(panel.seen[0], trainer.model.decoder.norm.weight)


def test_without_validation_there_is_no_panel(tiny_trainer: MakeTrainer) -> None:
    panel = NotingPanel()
    tiny_trainer(panel=panel).train(1)
    assert panel.seen == []


def test_a_panel_without_pictures_tells_nothing(tiny_trainer: MakeTrainer, shapes_loader: Any, tmp_path: Path) -> None:
    events: list[Event] = []
    trainer = tiny_trainer(
        val_loader=shapes_loader(4, shuffle=False), panel=lambda model: [], callbacks=[events.append]
    )
    trainer.train(1)
    assert not any(isinstance(event, PanelEvent) for event in events)
