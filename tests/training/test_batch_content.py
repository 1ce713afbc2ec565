"""What is read from the batches of loaders that others wrote."""

from typing import Any

import pytest
import torch

from systems.pixel_llm.data.collate import BadPicture
from systems.pixel_llm.errors import ConfigError, DatasetError
from systems.pixel_llm.training.batch_content import bad_pictures_of_batch, captions_of_batch, image_index_of_batch

IMAGES = torch.zeros(2, 3, 4, 4)


def batch(**changes: Any) -> dict[str, Any]:
    return {"images": IMAGES, "captions": ["a", "b", "c"]} | changes


def test_captions_of_any_sequence() -> None:
    assert captions_of_batch(batch(captions=("a", "b"))) == ["a", "b"]
    assert captions_of_batch(batch(captions=[])) == []


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ([IMAGES, ["a"]], "list"),
        ({"images": IMAGES}, r"keys \['images'\]"),
        ({"captions": ["a"]}, r"keys \['captions'\]"),
        (3, "int"),
    ],
)
def test_what_is_no_batch_is_explained(wrong: Any, found: str) -> None:
    with pytest.raises(ConfigError, match=f"A batch must be a dict with 'images' .* found {found}"):
        captions_of_batch(wrong)


@pytest.mark.parametrize(
    ("wrong", "told"), [(7, "'7', int"), (None, "'None', NoneType"), (["a"], r"\"\['a'\]\", list")]
)
def test_a_caption_that_is_no_string_is_named_with_its_picture(wrong: Any, told: str) -> None:
    captions = ["a", "b", wrong]
    with pytest.raises(DatasetError, match=f"that of picture 2 of the batch is {told}"):
        captions_of_batch(batch(captions=captions))
    index = torch.tensor([0, 1, 1])
    with pytest.raises(DatasetError, match=f"A caption must be a string: that of b.png is {told}"):
        captions_of_batch(batch(captions=captions, image_paths=["a.png", "b.png"], caption_image_index=index))


def test_a_batch_without_an_index_has_a_caption_a_picture() -> None:
    assert image_index_of_batch(batch()) is None


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_the_index_tells_the_row_of_each_caption(dtype: torch.dtype) -> None:
    index = torch.tensor([1, 0, 1], dtype=dtype)
    assert image_index_of_batch(batch(caption_image_index=index)) is index


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ([0, 1, 1], "list"),
        (torch.tensor([0, 1]), r"torch.int64 \[2\]"),
        (torch.tensor([0.0, 1.0, 1.0]), "torch.float32"),
        (torch.tensor([0, 1, 2]), "torch.int64"),
        (torch.tensor([-1, 1, 1]), "torch.int64"),
    ],
)
def test_another_index_is_explained(wrong: Any, found: str) -> None:
    with pytest.raises(ConfigError, match=rf"each of the 3 captions .* from 0 to 1, as int64 \[3\]; found {found}"):
        image_index_of_batch(batch(caption_image_index=wrong))


def test_pictures_left_out_are_those_that_the_batch_names() -> None:
    bad = BadPicture("a.png", "a.png is empty")
    assert bad_pictures_of_batch(batch(bad_pictures=[bad])) == [bad]
    assert bad_pictures_of_batch(batch()) == []
    assert bad_pictures_of_batch(None) == []
