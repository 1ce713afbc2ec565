"""Exact match: the share of captions that are their reference to the letter."""

import pytest

from systems.pixel_llm.evaluation.exact_match import exact_match


@pytest.mark.parametrize(
    ("captions", "references", "share"),
    [
        (["a"], ["a"], 1.0),
        (["a"], ["b"], 0.0),
        (["a", "b", "c", "d"], ["a", "b", "c", "x"], 0.75),
        (["a", "b"], ["b", "a"], 0.0),  # in order
        ([" a red square\n"], ["a red square"], 1.0),
        (["a  red square"], ["a red square"], 0.0),
        (["A red square"], ["a red square"], 0.0),
        (["a red square."], ["a red square"], 0.0),
        (["", "a"], ["", "b"], 0.5),
    ],
)
def test_the_share_of_equals(captions, references, share):
    assert exact_match(captions, references) == share


@pytest.mark.parametrize(("captions", "references"), [([], []), (["a"], []), (["a"], ["a", "b"]), ([], ["a"])])
def test_as_many_references_as_captions(captions, references):
    with pytest.raises(ValueError, match=f"found {len(captions)}, {len(references)}"):
        exact_match(captions, references)
