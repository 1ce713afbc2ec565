from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systems.pixel_llm.data.samples import Sample
from systems.pixel_llm.data.split import split_samples
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
