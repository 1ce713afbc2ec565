"""BLEU: values counted by hand, bounds, and what must not matter."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from systems.pixel_llm.evaluation.bleu import bleu_statistics
from systems.pixel_llm.evaluation.ngrams import count_ngrams

WORDS = st.lists(st.sampled_from("abcd"), max_size=8)
PAIRS = st.lists(st.tuples(WORDS, st.lists(WORDS, min_size=1, max_size=3)), min_size=1, max_size=5)


def statistics_of(*pairs):
    """Of (caption, [references]), words divided by spaces."""
    captions = [caption.split() for caption, _ in pairs]
    return bleu_statistics(count_ngrams(captions, [[each.split() for each in references] for _, references in pairs]))


def test_counts_by_hand():
    found = statistics_of(("a dog on grass", ["a dog on the grass"]))
    assert found.matches.tolist() == [[4, 2, 1, 0]]
    assert found.totals.tolist() == [[4, 3, 2, 1]]
    penalty = math.exp(1 - 5 / 4)
    expected = [penalty, penalty * (2 / 3) ** (1 / 2), penalty * (1 / 3) ** (1 / 3), 0.0]
    assert found.corpus() == pytest.approx(expected, abs=2e-4)
    assert found.per_caption()[0] == pytest.approx(found.corpus())


def test_a_word_counts_as_often_as_one_reference_has_it():
    """The example of Papineni et al., section 2.1: 2 of 7."""
    references = ["the cat is on the mat", "there is a cat on the mat"]
    assert statistics_of(("the the the the the the the", references)).matches[0, 0] == 2
    # the largest in any one reference, and not the sum over them
    assert statistics_of(("the the the", ["the a", "b the"])).matches[0, 0] == 1


@pytest.mark.parametrize(
    ("lengths", "caption_length", "nearest"),
    [([3, 9], 5, 3), ([4, 6], 5, 4), ([6, 4], 5, 4), ([2, 7, 9], 8, 7), ([5], 0, 5)],
)
def test_the_reference_nearest_in_length_the_shorter_of_two(lengths, caption_length, nearest):
    references = [" ".join("a" * length) for length in lengths]
    assert statistics_of((" ".join("a" * caption_length), references)).reference_length.tolist() == [nearest]


def test_the_whole_set_is_the_sum_of_counts():
    found = statistics_of(("a b", ["a b"]), ("c", ["d e"]), ("", ["a"]))
    assert found.matches.sum(axis=0).tolist() == [2, 1, 0, 0]
    assert found.corpus()[0] == pytest.approx(2 / 3 * math.exp(1 - 5 / 3))


def test_long_captions_pay_no_penalty():
    assert statistics_of(("a b c d e f", ["a b c"])).corpus()[0] == pytest.approx(3 / 6)


@given(PAIRS)
def test_bounds_and_the_order_of_references(pairs):
    captions, references = zip(*pairs, strict=True)
    found = bleu_statistics(count_ngrams(captions, references))
    turned = bleu_statistics(count_ngrams(captions, [each[::-1] for each in references]))
    for scores in (found.corpus(), found.per_caption()):
        assert np.isfinite(scores).all()
        assert (scores >= 0).all()
        # the small constants of the published evaluation: 1e-15 / 1e-9 for a caption too short for any n-gram
        assert (scores <= 1).all()
    assert (turned.per_caption() == found.per_caption()).all()


@given(st.lists(st.lists(st.sampled_from("abcd"), min_size=4, max_size=9), min_size=1, max_size=5))
def test_a_caption_that_is_its_reference_has_1(captions):
    found = bleu_statistics(count_ngrams(captions, [[["z"], caption] for caption in captions]))
    assert found.corpus() == pytest.approx(np.ones(4))
    assert found.per_caption() == pytest.approx(np.ones((len(captions), 4)))
