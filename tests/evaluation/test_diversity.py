"""Diversity of captions, by hand."""

import pytest

from systems.pixel_llm.evaluation.diversity import Diversity, diversity


def test_by_hand():
    captions = [each.split() for each in ("a dog a dog", "a dog", "a dog", "")]
    training = [["a", "dog"], ["a", "dog", "a"]]
    assert diversity(captions, training) == Diversity(
        num_captions=4,
        distinct_1=2 / 8,
        distinct_2=2 / 5,  # "a dog", "dog a", of 3 + 1 + 1
        vocabulary=2,
        mean_length=8 / 4,
        repetition_rate=1 / 5,
        distinct_captions=3 / 4,
        copied_share=2 / 4,
    )


def test_without_training_captions_nothing_is_said_of_copies():
    assert diversity([["a"]]).copied_share is None
    assert diversity([["a"]], []).copied_share == 0


def test_captions_without_words():
    assert diversity([[]]) == Diversity(1, 0.0, 0.0, 0, 0.0, 0.0, 1.0, None)


def test_none():
    with pytest.raises(ValueError, match="found none"):
        diversity([])
