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
    assert {len(each) for each in epochs} == {100}
    assert len(set().union(*epochs)) > 390, "each comes in some epoch"
    assert len(set(map(frozenset, epochs))) == 40
    assert mean_draws(400, weights) == 100


def counts(weights: list[float], *, epochs: int) -> np.ndarray:
    """[epochs, count]: how often each sample comes in each epoch."""
    array = checked_weights(weights, num_samples=len(weights))
    orders = [
        epoch_order(len(weights), seed=3, epoch=epoch, shuffle=True, weights=array).samples for epoch in range(epochs)
    ]
    return np.stack([np.bincount(order, minlength=len(weights)) for order in orders])


@pytest.mark.parametrize(
    "weights",
    [
        [1.0, 2.5, 0.25, 0.25, 3.0, 0.9, 0.1],
        [0.4] * 7,
        [0.1 * 3] * 10,  # not quite 0.3, as a product of two numbers may be
        [2.0, 0.0, 1.5],
    ],
)
def test_every_epoch_is_as_long_and_each_sample_comes_its_weight_rounded_up_or_down(weights):
    found = counts(weights, epochs=200)
    assert set(found.sum(axis=1)) == {mean_draws(len(weights), np.array(weights))} == {int(sum(weights) + 0.5)}
    assert (found >= np.floor(weights)).all()
    assert (found <= np.ceil(weights)).all()


def test_on_average_each_comes_as_often_as_its_weight_says():
    weights = [1.0, 2.5, 0.25, 0.25, 3.0, 0.9, 0.1]  # 8 together
    assert counts(weights, epochs=4000).mean(axis=0) == pytest.approx(weights, abs=0.03)


def test_no_epoch_is_empty():
    assert set(counts([0.01, 0.02, 0.0], epochs=50).sum(axis=1)) == {1} == {mean_draws(3, np.array([0.01, 0.02, 0.0]))}
    assert counts([0.01, 0.02, 0.0], epochs=50)[:, 2].sum() == 0


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [1.0, float("nan")], [0.0, 0.0], [1.0, 1e9]])
def test_weights_out_of_range_are_refused(weights: list[float]):
    with pytest.raises(ConfigError, match=r"weight|Weights"):
        checked_weights(weights, num_samples=2)
