"""All captions of a model beside all of people: lengths, words, repetitions."""

import pytest

from systems.pixel_llm.evaluation.caption_comparison import FUNCTION_WORDS, compare_captions


def test_lengths_words_and_repetitions_are_counted():
    captions = ["A dog runs.", "a dog runs", "a dog runs", "a cat"]
    references = [["the old dog runs fast", "a dog"], ["an old wolf"], ["old"], ["a cat sits"]]
    found = compare_captions(captions, references)
    assert [(bar.start, bar.count) for bar in found.model_lengths] == [(2, 1), (3, 3)]
    assert [(bar.start, bar.count) for bar in found.people_lengths] == [(1, 1), (2, 1), (3, 2), (4, 0), (5, 1)]
    assert found.never_said == (("old", 3), ("an", 1), ("fast", 1), ("sits", 1), ("the", 1), ("wolf", 1))
    assert found.num_never_said == 6
    assert found.only_said == ()
    assert found.repeated == (("a dog runs", 2),)
    assert (found.num_distinct, found.model_vocabulary, found.people_vocabulary) == (3, 4, 10)
    assert found.model_mean_length == pytest.approx(11 / 4)
    assert found.people_mean_length == pytest.approx(14 / 5)
    dog = next(each for each in found.common_words if each.word == "dog")
    assert (dog.model, dog.people) == (pytest.approx(3 / 11), pytest.approx(2 / 14))
    assert not FUNCTION_WORDS & {each.word for each in found.common_words}


def test_words_that_only_the_model_says():
    assert compare_captions(["a hurdle", "a hurdle x"], [["a"], ["a"]]).only_said == (("hurdle", 2), ("x", 1))


def test_lists_are_bounded():
    words = [f"w{number}" for number in range(50)]
    found = compare_captions(words * 2, [[word + "x"] for word in words * 2], max_words=5, max_captions=3)
    assert [len(each) for each in (found.common_words, found.never_said, found.only_said, found.repeated)] == [
        5,
        5,
        5,
        3,
    ]
    assert found.num_never_said == 50


def test_a_model_that_says_nothing():
    found = compare_captions(["", ""], [["a dog"], ["a cat"]])
    assert found.model_mean_length == 0
    assert [(bar.start, bar.count) for bar in found.model_lengths] == [(0, 2)]
    assert found.repeated == (("", 2),)
