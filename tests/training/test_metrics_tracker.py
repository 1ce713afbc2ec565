"""MetricsTracker: named running averages."""

import torch

from systems.pixel_llm.training import MetricsTracker


def test_averages_are_means_of_each_name() -> None:
    tracker = MetricsTracker()
    assert tracker.averages == {}
    tracker.update(loss=2.0, accuracy=0.5)
    tracker.update(loss=4.0)
    assert tracker.averages == {"loss": 3.0, "accuracy": 0.5}
    assert tracker.metrics == {"loss": [2.0, 4.0], "accuracy": [0.5]}


def test_tensors_become_numbers_and_hold_no_graph() -> None:
    tracker = MetricsTracker()
    tracker.update(loss=torch.tensor(2.0, requires_grad=True) * 2)
    assert tracker.metrics == {"loss": [4.0]}
    assert type(tracker.metrics["loss"][0]) is float


def test_reset_forgets() -> None:
    tracker = MetricsTracker()
    tracker.update(loss=1.0)
    tracker.reset()
    assert tracker.averages == {}
    tracker.update(loss=3.0)
    assert tracker.averages == {"loss": 3.0}
