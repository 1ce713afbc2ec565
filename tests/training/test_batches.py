"""The order of batches: a function of (seed, epoch), sliceable at any position, for every kind of loader."""

import random
import signal
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Sampler,
    Subset,
    WeightedRandomSampler,
)

from systems.pixel_llm.data.shapes import ShapesDataset
from systems.pixel_llm.errors import DatasetError
from systems.pixel_llm.training.batches import EpochBatches


class Numbers(Dataset[int]):
    """Item i is i; it keeps which items were asked for."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.asked_for: list[int] = []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> int:
        self.asked_for.append(index)
        return index


class NumbersPlusEpoch(Numbers):
    """Item i is 100 times the epoch plus i."""

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        self.epoch.fill_(epoch)

    def __getitem__(self, index: int) -> int:
        return 100 * int(self.epoch) + index


class Draws(Numbers):
    """Each item is drawn from the three global generators, as a transform may do."""

    def __getitem__(self, index: int) -> Any:
        return [random.random(), float(np.random.random()), float(torch.rand(()))]


class Stream(IterableDataset[int]):
    """Numbers from 0 on, without a length."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.length))


class OwnLoader(DataLoader[Any]):
    """A subclass may do anything, so it is not taken apart."""


def epoch_of(loader: Any, epoch: int = 0, *, seed: int = 0, start: int = 0) -> list[Any]:
    batches = EpochBatches(loader, seed=seed).epoch(epoch, start=start)
    return [batch.tolist() if isinstance(batch, torch.Tensor) else batch for batch in batches]


def shuffled(length: int = 10, **settings: Any) -> DataLoader[Any]:
    return DataLoader(Numbers(length), batch_size=3, shuffle=True, **settings)


def weighted(length: int = 10) -> DataLoader[Any]:
    return DataLoader(Numbers(length), batch_size=3, sampler=WeightedRandomSampler([1.0] * length, length))


def own_class(length: int = 10) -> DataLoader[Any]:
    return OwnLoader(Numbers(length), batch_size=3, shuffle=True)


LOADERS = [shuffled, weighted, own_class]


@pytest.mark.parametrize("make_loader", LOADERS)
def test_the_order_follows_from_seed_and_epoch_alone(make_loader: Any) -> None:
    torch.manual_seed(1)
    first = epoch_of(make_loader(), 0)
    torch.manual_seed(2)
    assert epoch_of(make_loader(), 0) == first
    assert epoch_of(make_loader(), 1) != first
    assert epoch_of(make_loader(), 0, seed=1) != first


def test_an_epoch_holds_every_sample_once() -> None:
    assert sorted(chain.from_iterable(epoch_of(shuffled(10), 3))) == list(range(10))


@pytest.mark.parametrize("make_loader", LOADERS)
@pytest.mark.parametrize("start", [0, 1, 3, 4])
def test_from_a_position_on_an_epoch_is_the_slice_of_the_whole(make_loader: Any, start: int) -> None:
    assert epoch_of(make_loader(), 2, start=start) == epoch_of(make_loader(), 2)[start:]


def test_nothing_before_the_position_is_decoded() -> None:
    dataset = Numbers(10)
    batches = epoch_of(DataLoader(dataset, batch_size=3, shuffle=True), start=2)
    assert dataset.asked_for == list(chain.from_iterable(batches))
    assert len(dataset.asked_for) == 4


def test_a_generator_of_the_loader_s_own_is_used_and_left_as_it_was() -> None:
    generator = torch.Generator().manual_seed(5)
    loader = shuffled(generator=generator)
    state = generator.get_state()
    first = epoch_of(loader)
    assert torch.equal(generator.get_state(), state)
    assert epoch_of(loader) == first, "a second trainer over the same loader sees the same order"
    assert epoch_of(shuffled(generator=torch.Generator().manual_seed(6))) != first


@pytest.mark.parametrize("make_loader", [shuffled, own_class])
def test_the_global_generators_go_on_as_if_nothing_had_been_drawn(make_loader: Any) -> None:
    def draw() -> list[float]:
        return [random.random(), float(np.random.random()), float(torch.rand(()))]

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = draw()
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    batches = EpochBatches(make_loader(), seed=0).epoch(0)
    next(batches)
    next(batches)
    assert draw() == expected


def test_what_a_dataset_draws_from_the_global_generators_is_the_same_after_a_resume() -> None:
    loader = DataLoader(Draws(6), batch_size=2, shuffle=True, collate_fn=list)
    whole = epoch_of(loader)
    torch.manual_seed(99)
    assert epoch_of(loader, start=2) == whole[2:]
    assert epoch_of(loader, 1) != whole


def test_iterable_datasets_and_plain_lists_are_iterated_as_they_are() -> None:
    loader = DataLoader(Stream(7), batch_size=3)
    assert epoch_of(loader) == [[0, 1, 2], [3, 4, 5], [6]]
    assert epoch_of(loader, start=1) == [[3, 4, 5], [6]]
    assert EpochBatches(loader, seed=0).num_batches is None
    assert epoch_of(["a", "b", "c"], start=2) == ["c"]
    assert EpochBatches(["a", "b"], seed=0).num_batches == 2


def test_a_loader_without_a_batch_is_an_error() -> None:
    with pytest.raises(DatasetError, match="drop_last"):
        epoch_of(shuffled(2, drop_last=True))
    with pytest.raises(DatasetError, match="The loader gives no batch"):
        epoch_of([])
    with pytest.raises(DatasetError, match="The loader gives no batch"):
        epoch_of(DataLoader(Stream(0), batch_size=2))


def test_an_epoch_at_its_end_already_gives_nothing_and_is_no_error() -> None:
    assert epoch_of(shuffled(9), start=3) == []
    assert epoch_of(DataLoader(Stream(6), batch_size=3), start=2) == []


def test_the_epoch_reaches_datasets_inside_subset_and_concatenation() -> None:
    parts = [NumbersPlusEpoch(4), NumbersPlusEpoch(4)]
    loader = DataLoader(Subset(ConcatDataset(parts), [0, 5]), batch_size=2)
    assert epoch_of(loader, 3) == [[300, 301]]


def test_the_epoch_of_a_dataset_shared_with_training_is_left_alone() -> None:
    shared, own = NumbersPlusEpoch(4), NumbersPlusEpoch(4)
    train_loader = DataLoader(Subset(shared, [0, 1]), batch_size=2)
    val_loader = DataLoader(ConcatDataset([Subset(shared, [2]), own]), batch_size=2)
    next(EpochBatches(train_loader, seed=0).epoch(5))
    next(EpochBatches(val_loader, seed=0, beside=train_loader).epoch(1))
    assert [int(shared.epoch), int(own.epoch)] == [5, 1]


def test_samplers_are_told_the_epoch() -> None:
    class Turning(Sampler[int]):
        epoch = 0

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __iter__(self) -> Iterator[int]:
            return iter([(self.epoch + index) % 4 for index in range(4)])

        def __len__(self) -> int:
            return 4

    loader = DataLoader(Numbers(4), batch_size=4, sampler=Turning())
    assert epoch_of(loader, 1) == [[1, 2, 3, 0]]
    assert epoch_of(loader, 2) == [[2, 3, 0, 1]]


def test_settings_of_the_loader_are_kept() -> None:
    loader = DataLoader(Numbers(5), batch_size=2, drop_last=True, collate_fn=tuple)
    assert epoch_of(loader) == [(0, 1), (2, 3)]


def ignores_interrupt(worker: int) -> None:
    """Runs in a worker, after the package's own start: Ctrl-C must be the main process's business by now."""
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_give_the_same_batches(persistent: bool) -> None:
    def captions(epoch: int, start: int, batches: EpochBatches) -> list[list[str]]:
        return [batch["captions"] for batch in batches.epoch(epoch, start=start)]

    dataset = ShapesDataset(8, image_size=32)
    settings = {"batch_size": 2, "shuffle": True, "collate_fn": dataset.get_collate_fn()}
    alone = EpochBatches(DataLoader(dataset, **settings), seed=0)
    loader = DataLoader(
        dataset, **settings, num_workers=2, persistent_workers=persistent, worker_init_fn=ignores_interrupt
    )
    shared = EpochBatches(loader, seed=0)
    stopped = shared.epoch(0)  # an epoch broken off must not leak into the next
    first = next(stopped)["captions"]
    assert [first, *captions(0, 1, shared)] == captions(0, 0, alone)
    assert captions(1, 0, shared) == captions(1, 0, alone)
