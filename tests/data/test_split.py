from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systems.pixel_llm.data.samples import Sample
from systems.pixel_llm.data.split import split_groups, split_samples
from systems.pixel_llm.errors import ConfigError

FOLDER = Path("/data/pictures")


def make_samples(count: int, *, folder: Path = FOLDER) -> list[Sample]:
    return [Sample(folder / f"images/{number:04}.jpg", (f"caption {number}",)) for number in range(count)]


def test_about_the_fraction_is_held_back_in_order() -> None:
    samples = make_samples(2000)
    train, validation = split_samples(samples, dataset_dir=FOLDER, fraction=0.1)
    assert 150 < len(validation) < 250
    assert sorted([*train, *validation], key=lambda sample: sample.image_path) == samples
    assert validation == [sample for sample in samples if sample in set(validation)]


def test_the_sides_are_a_promise_over_versions_and_machines() -> None:
    _, validation = split_samples(make_samples(40), dataset_dir=FOLDER, fraction=0.1, seed=0)
    assert [sample.image_path.stem for sample in validation] == ["0008", "0016", "0032"]


def test_pictures_added_later_move_no_old_one() -> None:
    old, new = make_samples(300), make_samples(600)
    old_validation = split_samples(old, dataset_dir=FOLDER, fraction=0.2)[1]
    new_validation = split_samples(new, dataset_dir=FOLDER, fraction=0.2)[1]
    assert [sample for sample in new_validation if sample in old] == old_validation


def test_a_larger_fraction_holds_back_the_same_pictures_and_more() -> None:
    samples = make_samples(300)
    small = split_samples(samples, dataset_dir=FOLDER, fraction=0.1)[1]
    large = split_samples(samples, dataset_dir=FOLDER, fraction=0.3)[1]
    assert set(small) < set(large)


def test_the_folder_may_move_and_the_seed_matters() -> None:
    def names(samples: list[Sample]) -> list[str]:
        return [sample.image_path.name for sample in samples]

    here = split_samples(make_samples(200), dataset_dir=FOLDER, fraction=0.2)[1]
    moved = split_samples(make_samples(200, folder=Path("other")), dataset_dir="other", fraction=0.2)[1]
    reseeded = split_samples(make_samples(200), dataset_dir=FOLDER, fraction=0.2, seed=1)[1]
    assert names(here) == names(moved)
    assert names(here) != names(reseeded)


def test_accents_stored_apart_are_the_same_name() -> None:
    for number in range(50):
        sides = {
            bool(split_samples([*make_samples(30), sample], dataset_dir=FOLDER, fraction=0.5)[1].count(sample))
            for name in (f"caf\u00e9{number}.jpg", f"cafe\u0301{number}.jpg")
            for sample in [Sample(FOLDER / name, ("a cup",))]
        }
        assert len(sides) == 1


@given(st.integers(2, 12), st.floats(1e-9, 1 - 1e-9), st.integers(0, 5))
def test_no_side_is_empty_and_no_picture_is_on_both(count: int, fraction: float, seed: int) -> None:
    twice = [*make_samples(count), *make_samples(count)]
    train, validation = split_samples(twice, dataset_dir=FOLDER, fraction=fraction, seed=seed)
    paths = [{sample.image_path for sample in side} for side in (train, validation)]
    assert all(paths)
    assert not paths[0] & paths[1]
    assert len(train) + len(validation) == 2 * count


def test_a_single_picture_is_for_training() -> None:
    assert split_samples(make_samples(1), dataset_dir=FOLDER, fraction=0.99) == (make_samples(1), [])
    assert split_samples([], dataset_dir=FOLDER, fraction=0.5) == ([], [])


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_fractions_outside_are_refused(fraction: float) -> None:
    with pytest.raises(ConfigError, match="fraction must be above 0 and below 1"):
        split_samples(make_samples(3), dataset_dir=FOLDER, fraction=fraction)


def split_in_three(samples, groups=(), **options):
    fractions = {"val": 0.1, "test": 0.2}
    return split_groups(samples, dataset_dir=FOLDER, groups=groups, fractions=fractions, **options)


def test_pictures_without_a_group_go_where_the_plain_split_sends_them() -> None:
    samples = make_samples(1000)
    sides = split_in_three(samples)
    assert sides["val"] == split_samples(samples, dataset_dir=FOLDER, fraction=0.1)[1]
    assert 150 < len(sides["test"]) < 250
    assert sorted((each for side in sides.values() for each in side), key=lambda each: each.image_path) == samples
    assert split_in_three(samples, seed=1) != sides


def test_a_group_is_on_one_side_and_the_others_stay_where_they_were() -> None:
    samples = make_samples(300)
    paths = [sample.image_path for sample in samples]
    groups = [paths[start : start + 3] for start in range(0, 90, 3)]
    plain, grouped = split_in_three(samples), split_in_three(samples, groups)
    side_of = {sample.image_path: side for side, chosen in grouped.items() for sample in chosen}
    assert all(len({side_of[path] for path in group}) == 1 for group in groups)
    assert {side_of[group[0]] for group in groups} == {"train", "val", "test"}
    for side, chosen in plain.items():
        assert all(side_of[sample.image_path] == side for sample in chosen if sample.image_path in paths[90:])


def test_something_is_always_left_for_training() -> None:
    for count in (1, 2, 3):
        sides = split_groups(make_samples(count), dataset_dir=FOLDER, groups=[], fractions={"val": 0.5, "test": 0.49})
        assert sides["train"]
    assert split_in_three([]) == {"train": [], "val": [], "test": []}


@pytest.mark.parametrize("fractions", [{"val": 1.0}, {"val": 0.5, "test": 0.5}, {"val": -0.1}])
def test_impossible_shares_are_refused(fractions: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="val="):
        split_groups(make_samples(3), dataset_dir=FOLDER, groups=[], fractions=fractions)
