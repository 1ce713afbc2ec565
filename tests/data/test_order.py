import numpy as np
import pytest

from systems.pixel_llm.data.order import checked_weights, epoch_order, mean_draws
from systems.pixel_llm.errors import ConfigError


def test_an_epoch_has_every_sample_once_in_an_order_of_its_own():
    first, second = (epoch_order(50, seed=0, epoch=epoch, shuffle=True).samples.tolist() for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert epoch_order(50, seed=0, epoch=1, shuffle=True).samples.tolist() == second
    assert epoch_order(50, seed=1, epoch=1, shuffle=True).samples.tolist() != second


def test_without_shuffling_samples_come_as_they_are():
    assert epoch_order(5, seed=0, epoch=3, shuffle=False).samples.tolist() == [0, 1, 2, 3, 4]


def test_a_whole_weight_is_how_often_a_sample_comes_each_time_another_draw():
    order = epoch_order(3, seed=0, epoch=0, shuffle=True, weights=np.array([1.0, 3.0, 0.0]))
    found = sorted(zip(order.samples.tolist(), order.draws.tolist(), strict=True))
    assert found == [(0, 0), (1, 0), (1, 1), (1, 2)]


def test_a_part_of_a_weight_is_drawn_anew_each_epoch():
    weights = np.full(400, 0.25)
    epochs = [set(epoch_order(400, seed=0, epoch=epoch, shuffle=True, weights=weights).samples) for epoch in range(40)]
    assert 90 < np.mean([len(each) for each in epochs]) < 110
    assert len(set().union(*epochs)) > 390, "each comes in some epoch"
    assert mean_draws(400, weights) == 100


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [1.0, float("nan")], [0.0, 0.0], [1.0, 1e9]])
def test_weights_out_of_range_are_refused(weights: list[float]):
    with pytest.raises(ConfigError, match=r"weight|Weights"):
        checked_weights(weights, num_samples=2)
