import os
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


def test_groups_of_the_two_sides_stay_together_and_single_pictures_where_they_were() -> None:
    samples = make_samples(300)
    paths = [sample.image_path for sample in samples]
    groups = [paths[start : start + 3] for start in range(0, 90, 3)]
    plain = split_samples(samples, dataset_dir=FOLDER, fraction=0.2)
    train, validation = split_samples(samples, dataset_dir=FOLDER, fraction=0.2, groups=groups)
    held_back = {sample.image_path for sample in validation}
    assert all(len(held_back.intersection(group)) in (0, 3) for group in groups)
    assert any(held_back.issuperset(group) for group in groups)
    assert [each for each in validation if each.image_path in paths[90:]] == [
        each for each in plain[1] if each.image_path in paths[90:]
    ]
    assert sorted([*train, *validation], key=lambda sample: sample.image_path) == samples
    shuffled = [group[::-1] for group in reversed(groups)]
    assert split_samples(samples, dataset_dir=FOLDER, fraction=0.2, groups=shuffled) == (train, validation)


def test_groups_that_share_a_picture_are_one() -> None:
    samples = make_samples(40)
    paths = [sample.image_path for sample in samples]
    for start in range(0, 30, 5):
        one, two, three, four, five = paths[start : start + 5]
        groups = [[four, five], [one, two], [two, three, FOLDER / "absent.jpg"], [five, one]]
        for side in split_samples(samples, dataset_dir=FOLDER, fraction=0.5, groups=groups):
            chosen = {sample.image_path for sample in side}
            assert len(chosen.intersection((one, two, three, four, five))) in (0, 5)


def test_pictures_added_later_move_single_ones_never_and_groups_only_with_their_first_name() -> None:
    old, new = make_samples(200), make_samples(400)
    groups = [[old[at].image_path, old[at + 1].image_path] for at in range(0, 60, 2)]
    grown = [[*group, new[300 + at].image_path] for at, group in enumerate(groups)]  # their first names stay
    before = split_samples(old, dataset_dir=FOLDER, fraction=0.2, groups=groups)[1]
    after = split_samples(new, dataset_dir=FOLDER, fraction=0.2, groups=grown)[1]
    assert [sample for sample in after if sample in old] == before


def test_a_group_that_would_be_most_of_the_validation_data_is_for_training() -> None:
    samples = make_samples(100)
    paths = [sample.image_path for sample in samples]
    for start in range(0, 70, 3):
        group = paths[start : start + 21]  # more than twice the ten to hold back
        train, validation = split_samples(samples, dataset_dir=FOLDER, fraction=0.1, groups=[group])
        assert {sample.image_path for sample in train}.issuperset(group)
        sides = split_groups(samples, dataset_dir=FOLDER, groups=[group], fractions={"val": 0.1, "test": 0.1})
        assert {sample.image_path for sample in sides["train"]}.issuperset(group)
        assert validation == sides["val"]


def test_where_all_belong_together_nothing_is_held_back() -> None:
    samples = make_samples(12)
    paths = [sample.image_path for sample in samples]
    assert split_samples(samples, dataset_dir=FOLDER, fraction=0.5, groups=[paths]) == (samples, [])
    # Of two groups one is held back all the same: the smaller.
    groups = [paths[:8], paths[8:]]
    assert split_samples(samples, dataset_dir=FOLDER, fraction=0.01, groups=groups)[1] == samples[8:]


@pytest.mark.parametrize("folder", [".", "data", "../data", "/data", "/data/../data", "data/"])
@pytest.mark.parametrize("name", ["a.jpg", "b/c.jpg", "b/../c.jpg", "caf\u00e9.jpg", "b\\\\c.jpg", "..a.jpg"])
def test_the_name_that_counts_is_the_path_in_the_data_however_the_folder_is_spelled(folder: str, name: str) -> None:
    def place(dataset_dir: str, path: Path) -> int:
        alone = [Sample(path, ("a",)), Sample(Path(dataset_dir) / "other.jpg", ("b",))]
        fractions = [step / 64 for step in range(1, 64)]
        held = [split_samples(alone, dataset_dir=dataset_dir, fraction=each)[1] for each in fractions]
        return sum(alone[0] in each for each in held)

    plain = Path(os.path.relpath(Path("/x") / name, "/x"))
    assert place(folder, Path(folder) / name) == place("/x", Path("/x") / plain)


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
