"""The record of how pictures become pixels: checked, saved and read back as it was."""

import json

import pytest

from systems.pixel_llm.errors import CheckpointError, ConfigError
from systems.pixel_llm.preprocessing import PREPROCESSING_FILE, Preprocessing


def test_saved_and_read_back(tmp_path):
    record = Preprocessing(image_size=(48, 64), mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    record.save(tmp_path)
    assert Preprocessing.load(tmp_path) == record


def test_lists_become_tuples():
    record = Preprocessing(image_size=[48, 64], mean=[0.5] * 3, std=[0.5] * 3)
    assert record == Preprocessing(image_size=(48, 64), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert hash(record)


@pytest.mark.parametrize(
    "image_size", [(64,), (64, 64, 3), (0, 64), (-1, 64), (64.0, 64.0), ("64", "64"), "64", 64, None]
)
def test_a_size_that_is_none_is_refused(image_size):
    with pytest.raises(ConfigError, match="image_size"):
        Preprocessing(image_size=image_size)


@pytest.mark.parametrize(
    "values",
    [
        (0.5, 0.5),
        (0.5, 0.5, "0.5"),
        "abc",
        (0.5, 0.5, float("nan")),
        (0.5, 0.5, float("inf")),
        (0.5, 0.5, None),
        0.5,
        None,
    ],
)
@pytest.mark.parametrize("name", ["mean", "std"])
def test_three_finite_numbers_are_wanted(name, values):
    with pytest.raises(ConfigError, match="mean and std"):
        Preprocessing(**{name: values})


@pytest.mark.parametrize("std", [(0.5, 0.5, 0.0), (0.5, -0.5, 0.5)])
def test_a_deviation_is_above_zero(std):
    with pytest.raises(ConfigError, match="std above 0"):
        Preprocessing(std=std)


@pytest.mark.parametrize(
    "content",
    [
        "", "not json", "[]", "3", '{"unknown": 1}', '{"image_size": 64}', '{"mean": "abc"}', "[" * 100_000,
        json.dumps({"image_size": [64, 64], "std": [0, 0, 0]}),
    ],
    ids=range(9),
)  # fmt: skip
def test_a_broken_file_is_a_clear_error(tmp_path, content):
    (tmp_path / PREPROCESSING_FILE).write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=PREPROCESSING_FILE):
        Preprocessing.load(tmp_path)


def test_a_missing_file_is_a_clear_error(tmp_path):
    with pytest.raises(CheckpointError, match=PREPROCESSING_FILE):
        Preprocessing.load(tmp_path)


def test_a_file_of_absurd_size_is_not_read(tmp_path):
    with (tmp_path / PREPROCESSING_FILE).open("wb") as file:
        file.truncate(2**30)  # sparse: takes no disk
    with pytest.raises(CheckpointError, match="larger than"):
        Preprocessing.load(tmp_path)
