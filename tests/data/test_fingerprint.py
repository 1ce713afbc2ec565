"""What is remembered of a data set, and what is said of a change: the pictures by name, wherever their folder lies."""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset

from systems.pixel_llm.data import ImageCaptionDataset, Sample, ShapesDataset
from systems.pixel_llm.data import fingerprint as module
from systems.pixel_llm.data.fingerprint import DataFingerprint, data_fingerprint, shared_names, told_changes
from systems.pixel_llm.errors import CheckpointError

CAPTIONS = {
    "a.jpg": ("a cat",),
    "b.jpg": ("a dog", "a brown dog"),
    "sub/c.jpg": ("a cow",),
    "sub/d.jpg": ("a red car",),
}


def dataset(captions: dict[str, tuple[str, ...]] = CAPTIONS, folder: str = "/data/pictures") -> ImageCaptionDataset:
    """No picture is opened, so none is there."""
    samples = [Sample(Path(folder) / name, said) for name, said in captions.items()]
    return ImageCaptionDataset(folder, samples=samples)


def changes(before: Any, now: Any) -> str | None:
    """What is told after a checkpoint, whose JSON the record goes through, between."""
    record = json.loads(json.dumps(data_fingerprint(before).to_dict()))
    return told_changes(DataFingerprint.from_dict(record), data_fingerprint(now))


def test_the_same_data_is_the_same_wherever_it_lies():
    assert changes(dataset(), dataset()) is None
    assert changes(dataset(), dataset(folder="/elsewhere/pictures")) is None
    assert changes(dataset(folder="pictures"), dataset(folder=str(Path("pictures").absolute()))) is None


def test_new_pictures_and_those_that_are_gone_are_named():
    others = {name: said for name, said in CAPTIONS.items() if name != "a.jpg"}
    others |= {f"new/{number}.jpg": ("a bird",) for number in range(5)}
    assert changes(dataset(), dataset(others)) == (
        "8 pictures instead of 4; 5 are new (new/0.jpg, new/1.jpg, new/2.jpg and 2 more); 1 is gone (a.jpg)"
    )
    assert changes(dataset(), dataset(others, folder="/moved")) == changes(dataset(), dataset(others))


def test_pictures_with_other_captions_are_named():
    assert changes(dataset(), dataset(CAPTIONS | {"sub/c.jpg": ("a bull",)})) == "1 has other captions (sub/c.jpg)"
    said = CAPTIONS | {"sub/c.jpg": ("a bull",), "b.jpg": ("a dog",)}
    assert changes(dataset(), dataset(said)) == ("4 captions instead of 5; 2 have other captions (b.jpg, sub/c.jpg)")
    # The same words, parted elsewhere.
    assert changes(dataset({"b.jpg": ("a", "dog")}), dataset({"b.jpg": ("a dog",)})) is not None


def test_another_order_is_a_change_of_its_own():
    assert changes(dataset(), dataset(dict(reversed(CAPTIONS.items())))) == "the same pictures in another order"


def test_of_several_folders_the_names_stay_apart():
    beside = dataset({"a.jpg": ("a ship",)}, folder="/data/beside")
    both = ConcatDataset([dataset(), beside])
    assert changes(both, ConcatDataset([dataset(), beside])) is None
    assert changes(dataset(), both) == "5 pictures instead of 4; 1 is new (../beside/a.jpg)"
    assert changes(both, Subset(both, [0, 1, 2, 4])) == "4 pictures instead of 5; 1 is gone (sub/d.jpg)"


def test_names_that_are_no_text_are_kept():
    odd = dataset({"caf\udce9.jpg": ("a cup",), "line\nbreak.jpg": ("two lines",)})
    assert changes(odd, odd) is None
    assert changes(odd, dataset()).endswith("2 are gone ('caf\\udce9.jpg', 'line\\nbreak.jpg')")


def test_of_very_many_pictures_only_the_digest_is_kept(monkeypatch):
    monkeypatch.setattr(module, "MAX_NAMED", 3)
    assert data_fingerprint(dataset()).names is None
    assert changes(dataset(), dataset()) is None
    assert changes(dataset(), dataset(CAPTIONS | {"a.jpg": ("a lion",)})) == (
        "as many pictures and captions as before, but other ones or in another order"
    )
    assert changes(dataset(), dataset(CAPTIONS | {"e.jpg": ("a lion",)})) == "5 pictures instead of 4"


class Numbers(Dataset[Any]):
    """A dataset of somebody's own that knows of no captions."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count


class Stream(IterableDataset[Any]):
    """One that has no length either."""

    def __iter__(self) -> Any:
        return iter(())


def test_a_dataset_that_tells_nothing_is_known_by_class_and_length():
    assert changes(Numbers(3), Numbers(3)) is None
    assert changes(Numbers(3), Numbers(1)) == "1 picture instead of 3"
    assert changes(Numbers(3), Stream()) == (
        "a dataset of the class Stream instead of Numbers; an unknown number of pictures instead of 3"
    )
    assert changes(None, None) is None
    assert changes(Subset(Numbers(3), [0]), ConcatDataset([Numbers(1)])) is None


def test_a_dataset_that_tells_captions_is_compared_by_them():
    assert changes(ShapesDataset(5), ShapesDataset(5)) is None
    assert changes(ShapesDataset(5), ShapesDataset(5, seed=1)) == (
        "as many pictures and captions as before, but other ones or in another order"
    )


def test_no_generator_and_no_epoch_is_touched():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    data_fingerprint(ShapesDataset(5))
    assert torch.equal(torch.rand(1), expected)


def test_pictures_on_both_sides_are_found():
    train, validation = dataset(), dataset({"a.jpg": ("a cat",), "z.jpg": ("a zebra",)})
    assert shared_names(data_fingerprint(train), data_fingerprint(validation, beside=train)) == ["a.jpg"]
    elsewhere = dataset({"a.jpg": ("a cat",)}, folder="/data/validation")
    assert shared_names(data_fingerprint(train), data_fingerprint(elsewhere, beside=train)) == []


@pytest.mark.parametrize(
    "damage",
    [
        {"names": "!"},
        {"names": base64.b64encode(zlib.compress(b"one name")).decode()},
        {"names": base64.b64encode(zlib.compress(b"\0" * 10**8)).decode()},
        {"checksums": "AAA="},
    ],
)
def test_a_damaged_record_is_an_error_and_asks_for_no_more_memory_than_a_good_one(damage):
    record = DataFingerprint.from_dict(data_fingerprint(dataset()).to_dict() | damage)
    with pytest.raises(CheckpointError, match="record of its data is damaged"):
        told_changes(record, data_fingerprint(dataset(CAPTIONS | {"e.jpg": ("a lion",)})))


@pytest.mark.parametrize("values", [None, 3, {}, {"kind": 3}, {"kind": "x", "num_pictures": "many"}])
def test_what_is_no_record_is_an_error(values):
    with pytest.raises(CheckpointError, match="record of its data cannot be read"):
        DataFingerprint.from_dict(values)


def test_fields_of_a_later_version_are_passed_over():
    record = data_fingerprint(dataset())
    assert DataFingerprint.from_dict(record.to_dict() | {"colour": "blue"}) == record
